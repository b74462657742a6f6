//! What a shard does for a backup of the running node ([`snapshot`](crate::store::backup::snapshot) has the whole): it
//! keeps its log, says how far it is, and draws the line. Whoever takes the backup asks all shards, one question after
//! the other, between two inputs; no shard talks to another about it.
//!
//! A log that is kept fills up. When its last segment is begun, it is let go and the backup has failed: no command waits
//! for a backup.

use crate::store::backup::snapshot::{Cut, Kept};
use crate::store::orders::Order;

use super::Shard;

/// What a backup asks of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackupQuestion {
    /// To keep its log from now on, and to say what is in place.
    Keep,
    /// How far it is.
    Progress,
    /// To commit nothing up to this sequence any more, and to say where its log is.
    Cut {
        /// The backup's sequence.
        sequence: u64,
    },
    /// To let its log go. There need be no backup.
    LetGo,
}

/// What a shard answers.
#[derive(Debug)]
pub enum BackupAnswer {
    /// Its log is kept.
    Kept(Box<Kept>),
    /// How far it is.
    Progress {
        /// Its clock: no sequence that it gave or heard of is higher.
        clock: u64,
        /// The last batch of its log that is durable, and all before it.
        durable_batch: u64,
    },
    /// The line is drawn; its last batch may still be on its way to the disk.
    Cut(Cut),
    /// Its log is used again.
    LetGo,
}

/// Why a shard does no more for a backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackupRefusal {
    /// Its log was full, and was let go.
    LogFull,
    /// Its disk failed.
    DiskFailed,
}

impl Shard {
    /// Answers a backup's question.
    ///
    /// # Errors
    /// Why the backup cannot go on.
    pub fn back_up(&mut self, question: BackupQuestion) -> Result<BackupAnswer, BackupRefusal> {
        match question {
            BackupQuestion::LetGo => self.log.keep_above(None),
            _ if self.failed => return Err(BackupRefusal::DiskFailed),
            BackupQuestion::Keep => return Ok(BackupAnswer::Kept(Box::new(self.keep_log()))),
            _ if !self.log.is_kept() => return Err(BackupRefusal::LogFull),
            BackupQuestion::Progress => {
                return Ok(BackupAnswer::Progress { clock: self.clock, durable_batch: self.log.durable().batch() });
            }
            BackupQuestion::Cut { sequence } => {
                self.clock = self.clock.max(sequence);
                let source = self.checkpoint.log_source(self.log.tail());
                return Ok(BackupAnswer::Cut(Cut { source, last_batch: self.log.last().batch() }));
            }
        }
        Ok(BackupAnswer::LetGo)
    }

    fn keep_log(&mut self) -> Kept {
        let (in_place, used) = self.checkpoint.in_place();
        self.log.keep_above(Some(in_place));
        let mut orders = Vec::with_capacity(self.market.len());
        self.market.orders(|an, sequence, address| orders.push(Order { an: *an, address: *address, sequence }));
        Kept { in_place, used: used.clone(), orders }
    }

    /// Lets a log go that is about to be full: the backup learns of it with its next question.
    pub(super) fn mind_kept_log(&mut self) {
        if self.log.is_full_of_kept() {
            log::warn!(shard = self.id.0; "the log is full before the backup is done: the backup is given up");
            self.log.keep_above(None);
        }
    }
}
