//! Asks a node over its admin socket, for the command line and the tests.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request as HttpRequest, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::ACT_PATH;
use super::request::{Answer, Request};

/// How long an answer is waited for: the node gives one before.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no answer, or not the one that was wished for.
#[derive(Debug)]
pub enum AskError {
    /// Nobody listens there.
    NotThere(PathBuf, io::Error),
    /// What came is no answer, or none came in time.
    NoAnswer(String),
    /// The node says no, in a line.
    Refused(String),
    /// The node says yes, and then it could not.
    Failed(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere(socket, error) => write!(f, "{}: {error}", socket.display()),
            Self::NoAnswer(why) => write!(f, "no answer: {why}"),
            Self::Refused(line) | Self::Failed(line) => f.write_str(line),
        }
    }
}

impl std::error::Error for AskError {}

/// Asks the node that listens on a socket.
///
/// # Errors
/// Why there is no answer, or what the node says instead.
pub fn ask(socket: &Path, request: &Request) -> Result<Answer, AskError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_answer)?;
    let (status, body) =
        runtime.block_on(async { timeout(PATIENCE, exchange(socket, request)).await }).map_err(no_answer)??;
    let line = || String::from_utf8_lossy(&body).trim_end().to_string();
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map_err(no_answer),
        status if status.is_client_error() => Err(AskError::Refused(line())),
        _ => Err(AskError::Failed(line())),
    }
}

async fn exchange(socket: &Path, request: &Request) -> Result<(StatusCode, Bytes), AskError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| AskError::NotThere(socket.to_path_buf(), error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
    // It ends with the answer, or with the error that the answer's waiter hears of too.
    tokio::spawn(async move { _ = connection.await });
    let body = serde_json::to_vec(request).expect("texts and numbers are JSON");
    let request = HttpRequest::builder()
        .method(Method::POST)
        .uri(ACT_PATH)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .expect("a request of constants");
    let answer = sender.send_request(request).await.map_err(no_answer)?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(no_answer)?.to_bytes();
    Ok((status, body))
}

fn no_answer(error: impl fmt::Display) -> AskError {
    AskError::NoAnswer(error.to_string())
}
