//! What an operator's tools ask the node, over HTTP, on a thread of its own.
//!
//! ```text
//! GET /metrics      Prometheus text            metrics
//! GET /report.json  the same numbers as JSON   report
//! GET /             a page that draws them     page.html
//! GET /healthz      does every shard answer?
//! GET /readyz       does the node serve, with a disk that works?
//! POST /act         the operator's acts        request, operator; both at the Unix socket alone
//! POST /backup      all of the node as one file        backup
//! ```
//!
//! [`http`] has the connections, [`watcher`] asks the reactors for copies of their numbers, at most ten times a second
//! whoever asks how often. Nothing here is on a request's way, and nothing but a backup shows a secret: whoever reaches
//! the address sees every number, so it is one of this machine alone unless the configuration says otherwise.
//!
//! There are two doors: an address, for whoever only looks, and a Unix socket, whose mode says who may come. What changes
//! the node is taken at the socket alone, where the kernel says who asks: [`operator`] carries it out, with [`bounds`] and
//! [`verifying`]; [`client`] is the other end.

pub mod backup;
mod bounds;
pub mod client;
mod http;
mod metrics;
pub mod operator;
mod process;
mod report;
pub mod request;
mod verifying;
mod watcher;

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use crate::config::admin as config;
use crate::reactor::desk::Desk;
use crate::store::storage::Directory;

use backup::Backups;
use operator::Operator;
use watcher::Watcher;

/// Where acts are asked for.
const ACT_PATH: &str = "/act";

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

/// The admin thread. It ends when this is dropped.
pub struct Admin {
    phase: watch::Sender<Phase>,
    operator: watch::Sender<Option<Arc<Operator>>>,
    thread: Option<JoinHandle<()>>,
    address: Option<SocketAddr>,
    socket: Option<PathBuf>,
    backups: Backups,
}

impl Admin {
    /// Starts to listen, before there is a node; `None` where both doors are off.
    ///
    /// # Errors
    /// What the system says of the address or the socket; the text names the key.
    pub fn start(config: &config::Admin, identity: Identity) -> io::Result<Option<Self>> {
        let named = |key: &str, error: io::Error| io::Error::new(error.kind(), format!("admin.{key}: {error}"));
        let network = config.listen.at().map(|&address| bind(address)).transpose();
        let network = network.map_err(|error| named("listen", error))?;
        let socket = config.socket.at().map(|path| bind_unix(path)).transpose();
        let socket = socket.map_err(|error| named("socket", error))?;
        if network.is_none() && socket.is_none() {
            return Ok(None);
        }
        let address = network.as_ref().map(TcpListener::local_addr).transpose()?;
        let path = config.socket.at().cloned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (phase, phases) = watch::channel(Phase::Starting);
        let (operator, operators) = watch::channel(None);
        let backups = Backups::new(identity);
        let of_socket = backups.clone();
        let thread = thread::Builder::new().name("admin".to_string()).spawn(move || {
            let watcher = Watcher::new(phases.clone(), identity);
            let desks = http::Desks { watcher, operator: operators, backups: of_socket };
            let serving = http::serve(network, socket, desks, phases);
            tokio::task::LocalSet::new().block_on(&runtime, serving);
        })?;
        Ok(Some(Self { phase, operator, thread: Some(thread), address, socket: path, backups }))
    }

    /// The address where it listens, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The Unix socket where it listens, if it does.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The node serves the data directory.
    pub fn serving(&self, desk: Desk, directory: Arc<Directory>) {
        self.backups.serving(desk.clone(), directory);
        self.phase.send_replace(Phase::Serving(desk));
    }

    /// Acts are taken from now on, or (`None`) no longer.
    pub fn operated_by(&self, operator: Option<Operator>) {
        self.operator.send_replace(operator.map(Arc::new));
    }

    /// The node takes no more requests.
    pub fn draining(&self) {
        self.backups.over();
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
        if let Some(path) = self.socket.take()
            && let Err(error) = fs::remove_file(&path)
        {
            log::warn!("cannot remove {}: {error}", path.display());
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, socket) = (&self.address, &self.socket);
        f.debug_struct("Admin").field("address", address).field("socket", socket).finish_non_exhaustive()
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Listens on a path, for the node's user and group. A socket that nobody listens on any more makes room.
///
/// The socket gets its mode under another name, so that at its own nobody finds it without.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
        _ => {}
    }
    let mut unnamed = path.as_os_str().to_owned();
    unnamed.push(".new");
    if let Err(error) = fs::remove_file(&unnamed)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(&unnamed)?;
    fs::set_permissions(&unnamed, fs::Permissions::from_mode(0o660))?;
    fs::rename(&unnamed, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
