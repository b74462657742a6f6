//! Starting a node's reactors, one thread each, and ending them together.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::shard::interface::ShardId;
use crate::wire::header::NodeIdentity;

use super::accept::Balance;
use super::archiver::Tray;
use super::counters::Counters;
use super::desk::{Desk, NoAnswer};
use super::disk::ShardFiles;
use super::mesh::mesh;
use super::ring::RingError;
use super::sockets::Sockets;
use super::stage::{Stage, StageBoard};
use super::turn::{Reactor, Report, Setup};
use super::{Core, Limits};

/// How often waiting looks whether a thread died.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A shard and what its reactor needs beside it.
pub struct Member<C> {
    /// The shard.
    pub core: C,
    /// Its sockets.
    pub sockets: Sockets,
    /// Its files, if it has a disk.
    pub files: Option<ShardFiles>,
    /// Its way to the archiver, if there is an archive.
    pub archive: Option<Tray>,
}

/// Why reactors did not start, or did not end as they should.
#[derive(Debug)]
pub enum ReactorError {
    /// A thread could not be made, or not be put on its processor.
    Thread(io::Error),
    /// No ring.
    Ring(RingError),
    /// A reactor panicked.
    Panicked(ShardId),
    /// The shards did not finish within the time given.
    Unfinished,
    /// A reactor gave no sign within the time given: it hangs.
    Silent,
    /// The disk failed while a shard ran: what its last commands did is known after the next recovery.
    DiskFailed(ShardId),
}

impl fmt::Display for ReactorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thread(error) => write!(f, "a reactor cannot be started: {error}"),
            Self::Ring(error) => error.fmt(f),
            Self::Panicked(shard) => write!(f, "the reactor of shard {} panicked", shard.0),
            Self::Unfinished => f.write_str("the shards did not finish in time; the next start recovers"),
            Self::Silent => f.write_str("a reactor hangs"),
            Self::DiskFailed(shard) => {
                write!(
                    f,
                    "the disk failed under shard {}, which wrote nothing after that; the next start recovers",
                    shard.0
                )
            }
        }
    }
}

impl std::error::Error for ReactorError {}

/// The reactors of a node that runs.
pub struct Reactors {
    board: Arc<StageBoard>,
    threads: Vec<JoinHandle<()>>,
    reports: Receiver<Report>,
    desk: Desk,
}

impl Reactors {
    /// Starts a reactor for each member, shard 0 first; returns when all serve. Reactor `n` runs on processor
    /// `cpus[n % cpus.len()]`, or anywhere when there are none.
    ///
    /// # Errors
    /// Why one of them could not start; none runs then.
    pub fn start<C: Core + Send + 'static>(
        members: Vec<Member<C>>,
        node: NodeIdentity,
        limits: &Limits,
        cpus: &[usize],
    ) -> Result<Self, ReactorError> {
        let shards = u8::try_from(members.len()).expect("shards are few");
        let board = Arc::new(StageBoard::new(members.len()).map_err(ReactorError::Thread)?);
        let (sender, reports) = mpsc::channel();
        let balance = Arc::new(Balance::new(members.len()));
        let posts = mesh(shards, limits.messages_between_shards);
        let (desk, questions) = Desk::new(Arc::clone(&board), members.len());
        let mut reactors = Self { board, threads: Vec::new(), reports, desk };
        for (index, ((member, post), questions)) in members.into_iter().zip(posts).zip(questions).enumerate() {
            let Member { core, sockets, files, archive } = member;
            let shard = ShardId(index as u8);
            let (board, reports) = (Arc::clone(&reactors.board), sender.clone());
            let limits = limits.clone();
            let balance = Arc::clone(&balance);
            let setup =
                Setup { shard, core, sockets, files, archive, post, balance, node, limits, board, reports, questions };
            let cpu = (!cpus.is_empty()).then(|| cpus[index % cpus.len()]);
            match spawn(setup, cpu) {
                Ok(thread) => reactors.threads.push(thread),
                Err(error) => {
                    reactors.give_up();
                    return Err(ReactorError::Thread(error));
                }
            }
        }
        let started = reactors.await_all(None, |report| match report {
            Report::NoRing(_, error) => Err(ReactorError::Ring(error)),
            report => Ok(matches!(report, Report::Serves(_))),
        });
        match started {
            Ok(()) => Ok(reactors),
            Err(error) => {
                reactors.give_up();
                Err(error)
            }
        }
    }

    /// Ends the reactors: nothing new is accepted; what is in flight is answered, for at most `drain`; the shards finish,
    /// for at most `finish`; everything is closed. Returns what each reactor counted. `drained` is called when no more is
    /// answered, and the reactors can still be asked.
    ///
    /// # Errors
    /// When a reactor panicked, the disk failed, or the shards did not finish in time.
    pub fn stop(
        self,
        drain: Duration,
        finish: Duration,
        drained: impl FnOnce(),
    ) -> Result<Vec<Counters>, ReactorError> {
        self.board.set(Stage::Drain);
        match self.await_all(Some(drain), |report| Ok(matches!(report, Report::Drained(_)))) {
            Ok(()) | Err(ReactorError::Unfinished) => drained(),
            Err(error) => return Err(self.abandon(error)),
        }
        self.board.set(Stage::Finish);
        if let Err(error) = self.await_all(Some(finish), |report| Ok(matches!(report, Report::Finished(_)))) {
            return Err(self.abandon(error));
        }
        self.leave()
    }

    /// Where other threads ask the reactors.
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Waits, for at most `patience`, until every reactor has given a sign: the life of a thread says nothing of whether
    /// it still turns. Returns a shard whose disk failed while it ran, if there is one.
    ///
    /// # Errors
    /// When a reactor panicked, or gave no sign in time.
    pub fn call_roll(&self, patience: Duration) -> Result<Option<ShardId>, ReactorError> {
        let answers = self.desk.numbers(patience);
        let of = |no: NoAnswer| answers.iter().position(|answer| answer.as_ref().is_err_and(|why| *why == no));
        if let Some(gone) = of(NoAnswer::Gone) {
            return Err(ReactorError::Panicked(ShardId(gone as u8)));
        }
        if of(NoAnswer::Late).is_some() {
            return Err(ReactorError::Silent);
        }
        Ok(answers.into_iter().flatten().find(|numbers| numbers.core.failed).map(|numbers| numbers.shard))
    }

    fn abandon(self, error: ReactorError) -> ReactorError {
        self.leave().err().unwrap_or(error)
    }

    fn leave(mut self) -> Result<Vec<Counters>, ReactorError> {
        self.board.set(Stage::Leave);
        let mut counters = vec![Counters::default(); self.threads.len()];
        let mut failed = None;
        let left = self.await_all(None, |report| match report {
            Report::Left { shard, counters: counted, disk_failed } => {
                counters[shard.index()] = *counted;
                failed = failed.or(disk_failed.then_some(shard));
                Ok(true)
            }
            _ => Ok(false),
        });
        self.board.set(Stage::Over);
        let panicked = self.join();
        left?;
        match (panicked, failed) {
            (Some(shard), _) => Err(ReactorError::Panicked(shard)),
            (None, Some(shard)) => Err(ReactorError::DiskFailed(shard)),
            (None, None) => Ok(counters),
        }
    }

    fn give_up(&mut self) {
        self.board.set(Stage::Over);
        self.join();
    }

    fn join(&mut self) -> Option<ShardId> {
        let mut panicked = None;
        for (thread, shard) in self.threads.drain(..).zip(0..) {
            thread.thread().unpark();
            if thread.join().is_err() {
                panicked = Some(ShardId(shard));
            }
        }
        panicked
    }

    /// Waits until every reactor has sent a report that `counts`.
    fn await_all(
        &self,
        time: Option<Duration>,
        mut counts: impl FnMut(Report) -> Result<bool, ReactorError>,
    ) -> Result<(), ReactorError> {
        let end = time.map(|time| Instant::now() + time);
        let mut missing = self.threads.len();
        while missing > 0 {
            match self.reports.recv_timeout(LOOK_EVERY) {
                Ok(report) => missing -= usize::from(counts(report)?),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some((_, shard)) = self.threads.iter().zip(0..).find(|(thread, _)| thread.is_finished()) {
                        // Its last words may have come just now.
                        self.reports.try_iter().try_for_each(|report| counts(report).map(drop))?;
                        return Err(ReactorError::Panicked(ShardId(shard)));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(ReactorError::Panicked(ShardId(0))),
            }
            if missing > 0 && end.is_some_and(|end| Instant::now() > end) {
                return Err(ReactorError::Unfinished);
            }
        }
        Ok(())
    }
}

impl Drop for Reactors {
    /// Ends reactors that were not stopped, whatever is in flight.
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.give_up();
        }
    }
}

fn spawn<C: Core + Send + 'static>(setup: Setup<C>, cpu: Option<usize>) -> io::Result<JoinHandle<()>> {
    let processors = match cpu {
        None => None,
        Some(cpu) => {
            let mut set = CpuSet::new();
            set.set(cpu)?;
            Some(set)
        }
    };
    let (sender, pinned) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(format!("reactor-{}", setup.shard.0)).spawn(move || {
        let result = processors.map_or(Ok(()), |set| sched_setaffinity(Pid::from_raw(0), &set));
        let go = result.is_ok();
        if sender.send(result).is_ok() && go {
            Reactor::run(setup);
        }
    })?;
    match pinned.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(io::Error::other(format!("processor {} cannot be used: {error}", cpu.unwrap_or(0)))),
        Err(_) => Err(io::Error::other("its thread ended")),
    }
}
