//! What an operator's tools ask the node, over HTTP, on a thread of its own.
//!
//! ```text
//! GET /metrics      Prometheus text            metrics
//! GET /report.json  the same numbers as JSON   report
//! GET /             a page that draws them     page.html
//! GET /healthz      does every shard answer?
//! GET /readyz       does the node serve, with a disk that works?
//! ```
//!
//! [`http`] has the connections, [`watcher`] asks the reactors for copies of their numbers, at most ten times a second
//! whoever asks how often. Nothing here is on a request's way, and nothing here shows a secret: whoever reaches the
//! address sees every number, so it is one of this machine alone unless the configuration says otherwise.

mod http;
mod metrics;
mod process;
mod report;
mod watcher;

use std::fmt;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use crate::config::admin::AdminListen;
use crate::reactor::desk::Desk;

use watcher::Watcher;

/// How far the node is.
#[derive(Clone)]
pub(crate) enum Phase {
    /// It reads its data directory.
    Starting,
    /// It serves; its reactors are asked here.
    Serving(Desk),
    /// It takes no more requests.
    Draining(Desk),
    /// It is over, and so is the thread.
    Over,
}

/// Who the node is, for its metrics and its report.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Its number in the network.
    pub raida_id: u8,
    /// The network's coin id.
    pub coin_id: u16,
}

/// What the admin thread listens on.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The admin thread. It ends when this is dropped.
pub struct Admin {
    phase: watch::Sender<Phase>,
    thread: Option<JoinHandle<()>>,
    address: String,
    /// The Unix socket, to be removed at the end.
    socket: Option<PathBuf>,
}

impl Admin {
    /// Starts to listen, before there is a node; `None` where it is off.
    ///
    /// # Errors
    /// What the system says of the address.
    pub fn start(listen: &AdminListen, identity: Identity) -> io::Result<Option<Self>> {
        let (listener, address, socket) = match listen {
            AdminListen::Off => return Ok(None),
            AdminListen::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?.to_string();
                (Listener::Tcp(listener), address, None)
            }
            AdminListen::Unix(path) => {
                let listener = bind_unix(path)?;
                (Listener::Unix(listener), format!("unix:{}", path.display()), Some(path.clone()))
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (phase, phases) = watch::channel(Phase::Starting);
        let thread = thread::Builder::new().name("admin".to_string()).spawn(move || {
            let watcher = Watcher::new(phases.clone(), identity);
            runtime.block_on(http::serve(listener, watcher, phases));
        })?;
        Ok(Some(Self { phase, thread: Some(thread), address, socket }))
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The node serves.
    pub fn serving(&self, desk: Desk) {
        self.phase.send_replace(Phase::Serving(desk));
    }

    /// The node takes no more requests.
    pub fn draining(&self) {
        self.phase.send_modify(|phase| {
            if let Phase::Serving(desk) = phase {
                *phase = Phase::Draining(desk.clone());
            }
        });
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Over);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
        if let Some(Err(error)) = self.socket.take().map(fs::remove_file) {
            log::warn!("cannot remove {}: {error}", self.address);
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Listens on a path, for the node's user and group. A socket that nobody listens on any more makes room.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
