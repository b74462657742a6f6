//! Full segments of the log go to the archive before a control block lets them be overwritten.
//!
//! A segment goes there as soon as it is full and durable, one at a time, whatever checkpoints do meanwhile. Where that
//! fails, as on a full disk, nothing is lost: it is tried again and again, the log fills up, and writes that find no room
//! are refused until the archive takes segments again.

use crate::store::wal::FullSegment;

use super::interface::{DiskError, DiskOp, Now};
use super::{Effects, Shard};

/// How long after a failure it is tried again.
const AGAIN_AFTER_US: u64 = 5_000_000;

/// What a shard knows of its archive.
#[derive(Default)]
pub(super) struct Archive {
    is_under_way: bool,
    is_failing: bool,
    /// When it is tried again after a failure.
    again_at_us: Option<u64>,
}

impl Archive {
    /// Whether the last segment could not be archived.
    pub fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// When it is tried again after a failure.
    pub fn again_at_us(&self) -> Option<u64> {
        self.again_at_us
    }

    /// Nothing is tried again.
    pub fn give_up(&mut self) {
        self.again_at_us = None;
    }
}

impl Shard {
    /// Gives the next full segment to the archive; called at the end of every turn.
    pub(super) fn work_on_archive(&mut self, now: Now, effects: &mut Effects<'_>) {
        let archive = &mut self.archive;
        let waits = archive.again_at_us.is_some_and(|at_us| now.monotonic_us < at_us);
        if self.failed || archive.is_under_way || waits {
            return;
        }
        archive.again_at_us = None;
        // What is left at the end of a stop, the next start archives.
        if self.checkpoint.is_last_done() {
            return;
        }
        if let Some(full) = self.log.next_to_archive() {
            archive.is_under_way = true;
            effects.out.disk.push(DiskOp::Archive(full));
        }
    }

    /// A segment is in the archive, or could not be put there.
    pub(super) fn segment_archived(
        &mut self,
        full: &FullSegment,
        result: Result<(), DiskError>,
        now: Now,
        effects: &mut Effects<'_>,
    ) {
        self.archive.is_under_way = false;
        self.archive.is_failing = result.is_err();
        match result {
            Ok(()) => {
                self.log.archived(full);
                self.work_on_archive(now, effects);
                self.work_on_checkpoint(effects);
            }
            Err(error) => {
                let (shard, cause) = (self.id.0, std::io::Error::from_raw_os_error(error.errno));
                log::error!(
                    "shard {shard}: a log segment cannot be archived: {cause}: tried again in {} s; \
                     once the log is full, writes are refused",
                    AGAIN_AFTER_US / 1_000_000
                );
                self.archive.again_at_us = (!self.failed).then_some(now.monotonic_us + AGAIN_AFTER_US);
                // Some of them will be refused.
                self.wake_waiting_for_log();
            }
        }
    }
}
