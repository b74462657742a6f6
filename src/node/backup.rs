//! Takes a backup of a node that runs: asks its shards, copies what the disk has. On a thread of its own, which may wait.
//!
//! The order of the steps is [`snapshot`](crate::store::backup::snapshot)'s; here is who is asked when, how fast pages are
//! read, and that every log is let go whatever happens.

use std::fmt;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::shard::backup::{BackupAnswer, BackupQuestion, BackupRefusal};
use crate::shard::interface::ShardId;
use crate::store::backup::snapshot::{Cut, Kept, Snapshot};
use crate::store::backup::{End, Whose};
use crate::store::error::StoreError;
use crate::store::pages::PAGE_GROUPS;
use crate::store::storage::Storage;

/// How long it waits before it asks again whether a log is durable.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// What a backup is taken with.
#[derive(Clone, Copy, Debug)]
pub struct BackupPlan {
    /// Whose it is.
    pub whose: Whose,
    /// The time, milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    /// How many shards the node has.
    pub shards: u8,
    /// Bytes of pages read in a second at most, so that serving does not suffer.
    pub bytes_per_second: u64,
}

/// Why there is no backup.
#[derive(Debug)]
pub enum BackupError {
    /// A page or the log is damaged, or the backup cannot be written.
    Store(StoreError),
    /// A shard's reason.
    Refused(BackupRefusal),
    /// The node stopped meanwhile.
    NodeStopped,
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Refused(BackupRefusal::LogFull) => f.write_str(
                "the log was full before the backup was done: take it faster, at a quieter time, or raise \
                 store.log_segments",
            ),
            Self::Refused(BackupRefusal::DiskFailed) => f.write_str("the node's disk failed: it writes no more"),
            Self::NodeStopped => f.write_str("the node stopped meanwhile"),
        }
    }
}

impl std::error::Error for BackupError {}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Brings a question to a shard and its answer back; `None`: the shard is no more.
pub type Ask<'a> = dyn FnMut(ShardId, BackupQuestion) -> Option<Result<BackupAnswer, BackupRefusal>> + 'a;

/// Takes a backup of a running node, whose data directory `storage` is, and writes it to `out`. One at a time.
///
/// # Errors
/// Why there is none; what was written is then no backup.
pub fn take_backup<W: Write>(
    ask: &mut Ask<'_>,
    storage: &dyn Storage,
    plan: &BackupPlan,
    out: W,
) -> Result<End, BackupError> {
    let mut taker = Taker { ask, storage, plan };
    let taken = taker.take(out).map_err(|error| taker.cause(error));
    for shard in 0..plan.shards {
        // A shard that is no more keeps nothing.
        let _ = (taker.ask)(ShardId(shard), BackupQuestion::LetGo);
    }
    taken
}

struct Taker<'a, 'b> {
    ask: &'a mut Ask<'b>,
    storage: &'a dyn Storage,
    plan: &'a BackupPlan,
}

impl Taker<'_, '_> {
    fn take<W: Write>(&mut self, out: W) -> Result<End, BackupError> {
        let BackupPlan { whose, unix_ms, shards, bytes_per_second } = *self.plan;
        let kept = (0..shards).map(|shard| self.keep(shard)).collect::<Result<_, _>>()?;
        let mut snapshot = Snapshot::begin(out, Some(whose), unix_ms, kept)?;
        let mut pace = Pace { began: Instant::now(), bytes: 0, bytes_per_second };
        for group in 0..PAGE_GROUPS {
            pace.keep_to(snapshot.pages(self.storage, group)?);
            // A log that was let go meanwhile ends it at once.
            self.progress((group % u16::from(shards)) as u8)?;
        }
        let mut sequence = snapshot.highest();
        for shard in 0..shards {
            sequence = sequence.max(self.progress(shard)?.0);
        }
        let cuts = (0..shards).map(|shard| self.cut(shard, sequence)).collect::<Result<Vec<_>, _>>()?;
        for (shard, cut) in (0..shards).zip(&cuts) {
            while self.progress(shard)?.1 < cut.last_batch {
                thread::sleep(BETWEEN_LOOKS);
            }
            snapshot.records(self.storage, cut, sequence)?;
        }
        // What was read of a log that was let go meanwhile may have been overwritten before.
        (0..shards).try_for_each(|shard| self.progress(shard).map(drop))?;
        Ok(snapshot.finish(self.storage, sequence)?.0)
    }

    /// What lies behind an error: a log that was let go cannot be read to its end.
    fn cause(&mut self, error: BackupError) -> BackupError {
        let refused = (0..self.plan.shards).find_map(|shard| self.progress(shard).err());
        match (&error, refused) {
            (BackupError::Store(StoreError::LostBatch { .. }), Some(refused)) => refused,
            _ => error,
        }
    }

    fn asked(&mut self, shard: u8, question: BackupQuestion) -> Result<BackupAnswer, BackupError> {
        (self.ask)(ShardId(shard), question).ok_or(BackupError::NodeStopped)?.map_err(BackupError::Refused)
    }

    fn keep(&mut self, shard: u8) -> Result<Kept, BackupError> {
        match self.asked(shard, BackupQuestion::Keep)? {
            BackupAnswer::Kept(kept) => Ok(*kept),
            answer => unreachable!("{answer:?} answers another question"),
        }
    }

    /// A shard's clock, and the last durable batch of its log.
    fn progress(&mut self, shard: u8) -> Result<(u64, u64), BackupError> {
        match self.asked(shard, BackupQuestion::Progress)? {
            BackupAnswer::Progress { clock, durable_batch } => Ok((clock, durable_batch)),
            answer => unreachable!("{answer:?} answers another question"),
        }
    }

    fn cut(&mut self, shard: u8, sequence: u64) -> Result<Cut, BackupError> {
        match self.asked(shard, BackupQuestion::Cut { sequence })? {
            BackupAnswer::Cut(cut) => Ok(cut),
            answer => unreachable!("{answer:?} answers another question"),
        }
    }
}

/// How fast pages are read.
struct Pace {
    began: Instant,
    bytes: u64,
    bytes_per_second: u64,
}

impl Pace {
    /// Notes bytes read, and waits until that was slow enough.
    fn keep_to(&mut self, bytes: u64) {
        self.bytes += bytes;
        let due = Duration::from_millis(self.bytes.saturating_mul(1000) / self.bytes_per_second.max(1));
        thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}
