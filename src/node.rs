//! A whole node: from a data directory and a configuration to reactors that serve, and back to a clean directory.
//!
//! Start: lock the directory, recover it, read every page once (a thread a shard), derive the views, bind, run. Stop: accept
//! nothing more, answer what is in flight, checkpoint, close. Several nodes may run in one process.

mod answers;
pub mod backup;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::config::Config;
use crate::entropy::{Entropy, SystemEntropy};
use crate::reactor::Limits;
use crate::reactor::archiver::{Archiver, retain};
use crate::reactor::counters::Counters;
use crate::reactor::desk::Desk;
use crate::reactor::disk::ShardFiles;
use crate::reactor::ring::{Ring, RingError};
use crate::reactor::sockets::bind_all;
use crate::reactor::start::{Member, ReactorError, Reactors};
use crate::settings::Settings;
use crate::shard::Shard;
use crate::shard::interface::ShardId;
use crate::shard::start::{Builders, Reading};
use crate::shard::suspensions::Suspensions;
use crate::store::archive::{self, Retention};
use crate::store::error::StoreError;
use crate::store::pages::read_all_pages;
use crate::store::recovery::{self, Opened};
use crate::store::storage::Directory;
use crate::store::suspended::Suspended;
use crate::store::wal::Geometry;
use crate::wire::header::NodeIdentity;

use answers::AnswerKeeper;

/// How long a stopping node waits for what is in flight to be answered and sent.
const DRAIN: Duration = Duration::from_secs(10);
/// How long it waits for the last checkpoint.
const FINISH: Duration = Duration::from_secs(120);

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The data directory.
    pub data: PathBuf,
    /// Where to listen, TCP and UDP; port 0: one that is free for both.
    pub listen: SocketAddr,
    /// What each shard is built with; how many there are.
    pub settings: Settings,
    /// The sizes of each shard's log.
    pub geometry: Geometry,
    /// How much of the archive is kept, if there is one: see [`Settings::archive`].
    pub retention: Retention,
    /// The bounds of each reactor.
    pub limits: Limits,
    /// The processors of the reactors, in order; none: the kernel chooses.
    pub cpus: Vec<usize>,
}

impl NodeOptions {
    /// The options that a configuration means.
    pub fn new(data: &Path, config: &Config) -> Self {
        let default = Limits::default();
        let limits = &config.limits;
        Self {
            data: data.to_path_buf(),
            listen: config.listen(),
            settings: config.settings(),
            geometry: Geometry {
                segment_bytes: config.store.log_segment_bytes,
                segments: config.store.log_segments,
                ..Geometry::default()
            },
            retention: config.archive.retention(),
            limits: Limits {
                connections_max: limits.connections as u32,
                requests_per_connection_max: limits.connection_requests as u16,
                datagrams_in_flight_max: default.datagrams_in_flight_max.max(limits.requests_in_flight as u32),
                unsent_bytes_to_pause: limits.outbound_bytes_connection,
                unsent_bytes_per_connection_max: limits.outbound_bytes_total,
                unsent_bytes_max: limits.outbound_bytes_total,
                header_deadline: Duration::from_secs(limits.header_seconds),
                body_deadline: Duration::from_secs(limits.body_seconds),
                idle_deadline: Duration::from_secs(limits.idle_seconds),
                send_deadline: Duration::from_secs(limits.send_seconds),
                ..default
            },
            cpus: config.server.cpus.iter().map(|&cpu| usize::from(cpu)).collect(),
        }
    }
}

/// Why a node did not start.
#[derive(Debug)]
pub enum StartError {
    /// The kernel lacks something or does not let us.
    Kernel(RingError),
    /// The data directory is in use, damaged or none.
    Store(StoreError),
    /// The address cannot be listened on.
    Address {
        /// Which.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The machine failed: a file, a thread, a processor that is not there.
    Machine(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Address { listen, source } => write!(f, "cannot listen on {listen}: {source}"),
            Self::Machine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ReactorError> for StartError {
    fn from(error: ReactorError) -> Self {
        match error {
            ReactorError::Ring(error) => Self::Kernel(error),
            ReactorError::Thread(error) => Self::Machine(error),
            error => Self::Machine(io::Error::other(error)),
        }
    }
}

/// What a node found when it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inventory {
    /// Coins in circulation.
    pub coins: u64,
    /// Lockers with coins in them.
    pub lockers: u64,
    /// Commit records that were replayed.
    pub recovered: u64,
    /// Torn pages that were repaired.
    pub repaired: u64,
}

/// A node that runs. Dropping it ends it as if it had been killed: what was answered is durable all the same.
pub struct Node {
    reactors: Reactors,
    answers: Option<AnswerKeeper>,
    // Dropped after the reactors, who give it work.
    archiver: Option<Archiver>,
    address: SocketAddr,
    shards: u8,
    inventory: Inventory,
    suspended: Suspended,
    // Dropped last: it holds the lock.
    directory: Arc<Directory>,
}

impl Node {
    /// Starts a node; it serves when this returns.
    ///
    /// # Errors
    /// Why it does not. The directory can then be opened again.
    ///
    /// # Panics
    /// When an option is outside its bounds: configuration checks them first.
    pub fn start(options: NodeOptions) -> Result<Self, StartError> {
        probe_kernel().map_err(StartError::Kernel)?;
        let shards = options.settings.shards;
        let directory = Arc::new(Directory::open(&options.data)?);
        let has_archive = options.settings.archive;
        if has_archive {
            archive::make(&*directory)?;
            // Before recovery, which adds to it: so lower bounds make room on a disk that is full.
            retain(&*directory, &options.retention);
        } else if archive::is_there(&*directory)? {
            log::warn!("the archive is off: what it has is kept, and while the node runs nothing is added");
        }
        let opened = recovery::open(&*directory, shards, options.geometry)?;
        let suspended = suspended(&directory)?;
        let mut built = load(&directory, &opened, &options)?;
        built.iter_mut().for_each(|shard| shard.begin_suspended(Suspensions::of(&suspended)));
        let inventory = Inventory {
            coins: built.iter().map(Shard::coins).sum(),
            lockers: built.iter().map(Shard::lockers).sum(),
            recovered: opened.recovered,
            repaired: opened.repaired,
        };
        let (address, sockets) = bind_all(options.listen, usize::from(shards), options.limits.datagram_socket_bytes)
            .map_err(|source| StartError::Address { listen: options.listen, source })?;
        let archiver = has_archive.then(|| Archiver::start(Arc::clone(&directory), options.retention)).transpose();
        let archiver = archiver.map_err(StartError::Machine)?;
        let mut members = Vec::with_capacity(built.len());
        for ((core, sockets), shard) in built.into_iter().zip(sockets).zip(0..) {
            let files = ShardFiles::open(directory.root(), ShardId(shard)).map_err(StartError::Machine)?;
            let archive = archiver.as_ref().map(Archiver::tray);
            members.push(Member { core, sockets, files: Some(files), archive });
        }
        let node = NodeIdentity { raida_id: options.settings.raida_id, coin_id: options.settings.coin_id };
        let reactors = Reactors::start(members, node, &options.limits, &options.cpus)?;
        let keeper = has_archive.then(|| AnswerKeeper::start(reactors.desk(), Arc::clone(&directory))).transpose();
        let answers = keeper.map_err(StartError::Machine)?;
        Ok(Self { reactors, answers, archiver, address, shards, inventory, suspended, directory })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where other threads ask its reactors.
    pub fn desk(&self) -> Desk {
        self.reactors.desk()
    }

    /// How many shards it has.
    pub fn shards(&self) -> u8 {
        self.shards
    }

    /// What it found when it started.
    pub fn inventory(&self) -> Inventory {
        self.inventory
    }

    /// Waits, for at most `patience`, until every reactor has given a sign that it turns. Returns a shard whose disk
    /// failed while it ran, if there is one.
    ///
    /// # Errors
    /// When a reactor panicked or hangs.
    pub fn call_roll(&self, patience: Duration) -> Result<Option<ShardId>, ReactorError> {
        self.reactors.call_roll(patience)
    }

    /// What was suspended when it started.
    pub fn suspended(&self) -> &Suspended {
        &self.suspended
    }

    /// Its data directory. It stays locked as long as anybody has this.
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// Stops accepting, answers what is in flight, brings everything to its place on disk and closes. Returns what each
    /// reactor counted.
    ///
    /// # Errors
    /// When the disk failed, a reactor panicked, or the last checkpoint took too long. What was answered is durable
    /// nevertheless.
    pub fn stop(self) -> Result<Vec<Counters>, ReactorError> {
        let Self { reactors, answers, archiver, .. } = self;
        let stopped = reactors.stop(DRAIN, FINISH, || answers.into_iter().for_each(AnswerKeeper::finish));
        drop(archiver);
        stopped
    }
}

/// Sees whether the kernel has what a ring needs. On a thread of its own: a ring that closes interrupts, some time later,
/// what the thread that made it waits for.
fn probe_kernel() -> Result<(), RingError> {
    let probe = || Ring::new().map(drop);
    thread::scope(|scope| scope.spawn(probe).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What is suspended: nothing, with a salt of its own, where nothing ever was.
fn suspended(directory: &Directory) -> Result<Suspended, StoreError> {
    let fresh = || {
        let mut suspended = Suspended::default();
        SystemEntropy::new().fill(&mut suspended.salt);
        suspended
    };
    Ok(Suspended::load(directory)?.unwrap_or_else(fresh))
}

/// Threads that read pages, at least: while some wait for the disk others work.
const READERS: usize = 4;

/// Makes the shards from their pages: read once by several threads, then each shard's views by a thread of its own.
fn load(directory: &Directory, opened: &Opened, options: &NodeOptions) -> Result<Vec<Shard>, StoreError> {
    let builders = Builders::new(&options.settings);
    let threads = READERS.max(usize::from(options.settings.shards));
    let readings = read_all_pages(directory, &opened.used, threads, |reading: &mut Reading, page, frame, sequence| {
        builders.page(reading, page, frame, sequence);
    })?;
    let builds = builders
        .read(readings)
        .map(|builder| move || builder.build(opened, options.geometry, &mut SystemEntropy::new()));
    Ok(in_threads(builds).collect())
}

/// Runs each in a thread of its own; their results in order.
fn in_threads<T: Send, F: FnOnce() -> T + Send>(work: impl Iterator<Item = F>) -> impl Iterator<Item = T> {
    thread::scope(|scope| {
        let threads: Vec<_> = work.map(|work| scope.spawn(work)).collect();
        let results: Vec<T> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        results.into_iter()
    })
}

/// Prepares the process of a server: secrets in its memory go to no core dump and to no debugger of the same user,
/// it may have as many descriptors as the system allows it, and a file that grows beyond a limit of the process
/// (`ulimit -f`) is a write that fails, not the end by SIGXFSZ. Threads started from now on do as the calling one.
///
/// # Errors
/// What the system refuses.
pub fn prepare_process() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    SigSet::from_iter([Signal::SIGXFSZ]).thread_block()?;
    Ok(())
}

/// SIGTERM and SIGINT, kept for [`Termination::wait`] instead of ending the process.
pub struct Termination(SigSet);

impl Termination {
    /// Blocks the signals in the calling thread and in those that it starts from now on: call it before a node starts.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn catch() -> io::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        signals.thread_block()?;
        Ok(Self(signals))
    }

    /// Waits for one of them, for ever or for at most `time`; none came when the time is over.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn wait(&self, time: Option<Duration>) -> io::Result<Option<Signal>> {
        let signals = SignalFd::with_flags(&self.0, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let end = time.map(|time| Instant::now() + time);
        loop {
            if let Some(signal) = signals.read_signal()? {
                return Ok(Some(Signal::try_from(signal.ssi_signo as i32)?));
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            let rest = left.map_or(PollTimeout::NONE, |left| left.try_into().unwrap_or(PollTimeout::MAX));
            match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], rest) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
