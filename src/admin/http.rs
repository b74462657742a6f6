//! The admin thread's connections: few at a time, one request each, all of it within a deadline.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::{self, IpAddr};
use std::os::unix;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::ACT_PATH;
use super::backup::{Backups, Chunks, rate_of};
use super::operator::{Operator, Refusal};
use super::process::ProcessNumbers;
use super::watcher::{View, Watcher};
use super::{Phase, metrics, report};
use crate::entropy::{Entropy, SystemEntropy};
use crate::store::suspended::Who;

/// Connections of a door at once; further ones wait in the kernel. Those that say nothing make room after [`HEAD_DEADLINE`],
/// so that they hold up a probe by no more than that.
const CONNECTIONS_MAX: usize = 64;
/// From accepting a connection to the last byte of its request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(1);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an act.
const ACT_BYTES_MAX: usize = 16 * 1024;
/// After accepting failed it rests for so long, as the cause is mostly a want of descriptors.
const REST: Duration = Duration::from_millis(100);

const PAGE: &str = include_str!("page.html");
/// Where the page names the number that its script and style are allowed by.
const NONCE: &str = "{nonce}";

/// A text, or a backup on its way.
type Answer = Response<Either<Full<Bytes>, Chunks>>;

/// Where a request came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Door {
    /// The address. Nobody knows who asks; he may look.
    Network,
    /// The Unix socket. Who reaches it is of the node's user or group; the kernel says who it is.
    Socket(Who),
}

impl Door {
    /// From accepting a connection to the last byte of its answer.
    const fn deadline(self) -> Duration {
        match self {
            Self::Network => Duration::from_secs(10),
            Self::Socket(_) => Duration::from_secs(3600),
        }
    }
}

/// Who answers.
pub(super) struct Desks {
    /// What is asked.
    pub watcher: Watcher,
    /// What is to be done, while the node serves.
    pub operator: watch::Receiver<Option<Arc<Operator>>>,
    /// Who takes backups.
    pub backups: Backups,
}

/// Answers until the node is over.
pub(super) async fn serve(
    network: Option<net::TcpListener>,
    socket: Option<unix::net::UnixListener>,
    desks: Desks,
    mut phase: watch::Receiver<Phase>,
) {
    let desks = Arc::new(desks);
    let expect = "a listener that does not block";
    if let Some(listener) = network {
        let listener = TcpListener::from_std(listener).expect(expect);
        let next = async move || listener.accept().await.map(|(stream, _)| (stream, Door::Network));
        drop(tokio::task::spawn_local(accept(Arc::clone(&desks), next)));
    }
    if let Some(listener) = socket {
        let listener = UnixListener::from_std(listener).expect(expect);
        let next = async move || listener.accept().await.and_then(|(stream, _)| at_socket(stream));
        drop(tokio::task::spawn_local(accept(desks, next)));
    }
    // The node's side is dropped only after it said so. What is still asked then goes down with the runtime.
    let _ = phase.wait_for(|phase| matches!(phase, Phase::Over)).await;
}

fn at_socket(stream: UnixStream) -> io::Result<(UnixStream, Door)> {
    let peer = stream.peer_cred()?;
    let who = Who { uid: peer.uid(), pid: peer.pid().unwrap_or(0) };
    Ok((stream, Door::Socket(who)))
}

async fn accept<S>(desks: Arc<Desks>, next: impl AsyncFn() -> io::Result<(S, Door)>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await.expect("it is never closed");
        match next().await {
            Ok((stream, door)) => {
                let answered = connection(stream, door, Arc::clone(&desks), HEAD_DEADLINE);
                drop(tokio::task::spawn_local(async move {
                    answered.await;
                    drop(permit);
                }));
            }
            Err(error) => {
                log::debug!("admin: cannot accept: {error}");
                sleep(REST).await;
            }
        }
    }
}

async fn connection<S>(stream: S, door: Door, desks: Arc<Desks>, head_deadline: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(|request| {
        let desks = Arc::clone(&desks);
        async move { Ok::<_, Infallible>(answer(request, door, &desks).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    let serving = builder
        .keep_alive(false)
        .half_close(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(head_deadline)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(door.deadline(), serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("admin: a connection failed: {error}"),
        Err(_late) => log::debug!("admin: a connection took too long"),
    }
}

async fn answer(request: Request<Incoming>, door: Door, desks: &Desks) -> Answer {
    let watcher = &desks.watcher;
    // No browser reaches the socket.
    if door == Door::Network && !names_this_machine(request.headers()) {
        return plain(StatusCode::MISDIRECTED_REQUEST, "ask by address, or as localhost\n");
    }
    if (request.method(), request.uri().path()) == (&Method::POST, ACT_PATH) {
        return act(request, door, desks).await;
    }
    if let Door::Socket(who) = door
        && (request.method(), request.uri().path()) == (&Method::POST, "/backup")
    {
        return backup(who, desks, request.uri().query());
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "GET alone; POST at the Unix socket\n");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match request.uri().path() {
        "/" => page(),
        "/metrics" => {
            let text = metrics::text(&watcher.view().await, &ProcessNumbers::read());
            typed("text/plain; version=0.0.4; charset=utf-8", whole(text))
        }
        "/report.json" => {
            let report = report::Report::new(&watcher.view().await, ProcessNumbers::read());
            let json = serde_json::to_vec(&report).expect("numbers and names are JSON");
            typed("application/json", whole(json))
        }
        "/healthz" => probe(&watcher.view().await, View::unhealthy),
        "/readyz" => probe(&watcher.view().await, View::unready),
        _ => plain(StatusCode::NOT_FOUND, "there are /, /metrics, /report.json, /healthz and /readyz\n"),
    }
}

/// Has an act carried out.
async fn act(request: Request<Incoming>, door: Door, desks: &Desks) -> Answer {
    let Door::Socket(who) = door else {
        return plain(StatusCode::FORBIDDEN, "acts are taken at the Unix socket alone\n");
    };
    let Some(operator) = desks.operator.borrow().clone() else { return not_serving() };
    let body = match Limited::new(request.into_body(), ACT_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return plain(StatusCode::BAD_REQUEST, &format!("{error}\n")),
    };
    let request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        // Where in it, not what: there may be a key in it.
        Err(error) => return plain(StatusCode::BAD_REQUEST, &format!("no act: wrong at column {}\n", error.column())),
    };
    match operator.carry_out(who, request).await {
        Ok(answer) => {
            typed("application/json", whole(serde_json::to_vec(&answer).expect("texts and numbers are JSON")))
        }
        Err(refusal) => refused(refusal),
    }
}

fn not_serving() -> Answer {
    plain(StatusCode::SERVICE_UNAVAILABLE, "the node does not serve yet, or no longer\n")
}

fn refused(refusal: Refusal) -> Answer {
    let (status, line) = match refusal {
        Refusal::Wrong(line) => (StatusCode::BAD_REQUEST, line),
        Refusal::Conflict(line) => (StatusCode::CONFLICT, line),
        Refusal::Failed(line) => (StatusCode::INTERNAL_SERVER_ERROR, line),
    };
    plain(status, &(line + "\n"))
}

/// Whether a request was meant for an address of this machine. A page of somebody else, whose name was made to lead
/// here, is not to read in the operator's browser what the operator may read.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match (host.strip_prefix('['), host.rsplit_once(':')) {
        (Some(address), _) => address.split(']').next().unwrap_or_default(),
        (None, Some((name, _port))) => name,
        (None, None) => host,
    };
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn probe(view: &View, fault: impl FnOnce(&View) -> Option<String>) -> Answer {
    match fault(view) {
        None => plain(StatusCode::OK, &format!("{}\n", view.state.name())),
        Some(fault) => plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{fault}\n")),
    }
}

/// The page, whose own script and style may run and nobody else's.
fn page() -> Answer {
    let mut random = [0; 16];
    SystemEntropy::new().fill(&mut random);
    let mut nonce = String::with_capacity(2 * random.len());
    random.iter().for_each(|byte| write!(nonce, "{byte:02x}").expect("a text grows"));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut answer = typed("text/html; charset=utf-8", whole(PAGE.replace(NONCE, &nonce)));
    let policy = HeaderValue::try_from(policy).expect("printable");
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    answer
}

/// Begins a backup, once the journal tells who has it.
fn backup(who: Who, desks: &Desks, query: Option<&str>) -> Answer {
    let Some(rate) = rate_of(query) else { return plain(StatusCode::BAD_REQUEST, "a rate is a number of MiB\n") };
    let Some(operator) = desks.operator.borrow().clone() else { return not_serving() };
    if let Err(refusal) = operator.note_backup(who) {
        return refused(refusal);
    }
    let journal = Arc::clone(&operator);
    match desks.backups.begin(rate, move |why| journal.note_no_backup(who, why)) {
        Ok(chunks) => typed("application/octet-stream", Either::Right(chunks)),
        Err(why) => {
            operator.note_no_backup(who, &why);
            plain(StatusCode::CONFLICT, &format!("{why}\n"))
        }
    }
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = typed("text/plain; charset=utf-8", whole(text.to_string()));
    *answer.status_mut() = status;
    answer
}

/// A body that is there.
fn whole(body: impl Into<Bytes>) -> Either<Full<Bytes>, Chunks> {
    Either::Left(Full::new(body.into()))
}

fn typed(content: &'static str, body: Either<Full<Bytes>, Chunks>) -> Answer {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::admin::Identity;

    #[test]
    fn only_addresses_and_localhost_are_this_machine() {
        let asked = |host: &'static str| {
            names_this_machine(&HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]))
        };
        for host in ["127.0.0.1:50100", "127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:50100", "[::1]", "", ":80"] {
            assert!(asked(host), "{host}");
        }
        for host in
            ["example.org", "example.org:50100", "localhost.example.org:1", "[example]", "127.0.0.1.example.org"]
        {
            assert!(!asked(host), "{host}");
        }
        assert!(names_this_machine(&HeaderMap::new()));
    }

    fn nobody() -> Desks {
        let identity = Identity { raida_id: 7, coin_id: 6 };
        let (_, phases) = watch::channel(Phase::Starting);
        let (_, operator) = watch::channel(None);
        Desks { watcher: Watcher::new(phases, identity), operator, backups: Backups::new(identity) }
    }

    /// The time for a whole answer is an hour at the socket: only the head's own deadline ends this.
    #[test]
    fn who_says_nothing_makes_room() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for said in ["", "GET /healthz HTTP/1.1\r\nHost: local"] {
            let (mut client, server) = unix::net::UnixStream::pair().unwrap();
            client.write_all(said.as_bytes()).unwrap();
            server.set_nonblocking(true).unwrap();
            let door = Door::Socket(Who { uid: 1, pid: 1 });
            runtime.block_on(async {
                let server = UnixStream::from_std(server).unwrap();
                connection(server, door, Arc::new(nobody()), Duration::from_millis(1)).await;
            });
            client.read_to_end(&mut Vec::new()).unwrap();
        }
    }
}
