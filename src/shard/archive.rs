//! Full segments of the log go to the archive before a control block lets them be overwritten.
//!
//! A segment goes there as soon as it is full and durable, one at a time, whatever checkpoints do meanwhile. Where that
//! fails, as on a full disk, nothing is lost: it is tried again and again, the log fills up, and writes that find no room
//! are refused until the archive takes segments again. So they are while its disk hangs: who waits for it holds a task,
//! and when all tasks wait nobody can read either.

use crate::store::wal::FullSegment;

use super::interface::{DiskError, DiskOp, Now};
use super::{Effects, Shard};

/// How long after a failure it is tried again.
const AGAIN_AFTER_US: u64 = 5_000_000;
/// How long a segment may be under way before the disk of the archive is taken to hang.
const HANGS_AFTER_US: u64 = 10_000_000;

/// What a shard knows of its archive.
#[derive(Default)]
pub(super) struct Archive {
    is_under_way: bool,
    /// When the segment under way is taken to hang; `None` afterwards, too.
    hangs_at_us: Option<u64>,
    is_failing: bool,
    /// When it is tried again after a failure.
    again_at_us: Option<u64>,
}

impl Archive {
    /// Whether the last segment could not be archived, or the one under way hangs.
    pub fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// When there is something to do about it.
    pub fn wake_at_us(&self) -> Option<u64> {
        self.again_at_us.into_iter().chain(self.hangs_at_us).min()
    }

    /// Nothing is tried again.
    pub fn give_up(&mut self) {
        self.again_at_us = None;
        self.hangs_at_us = None;
    }
}

impl Shard {
    /// Whether the archive takes nothing: writes are refused when only it could make room.
    pub fn archive_is_failing(&self) -> bool {
        self.archive.is_failing()
    }

    /// Notes that a segment has been under way for too long; called first in every turn.
    pub(super) fn mind_archive(&mut self, now: Now) {
        if self.archive.hangs_at_us.is_some_and(|at_us| now.monotonic_us >= at_us) {
            self.archive.hangs_at_us = None;
            self.archive.is_failing = true;
            let seconds = HANGS_AFTER_US / 1_000_000;
            log::error!(
                shard = self.id.0;
                "a log segment has not come to the archive in {seconds} s: once the log is full, writes are refused"
            );
            // Some of them will be refused.
            self.wake_waiting_for_log();
        }
    }

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
            archive.hangs_at_us = (!archive.is_failing).then_some(now.monotonic_us + HANGS_AFTER_US);
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
        self.archive.hangs_at_us = None;
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
