//! The archive: what logs held, kept in compressed form when their segments are overwritten.
//!
//! A log is a complete journal of what was committed, but for what a checkpoint lets it overwrite. Where the data
//! directory has a directory `archive`, every segment goes there first: while a node runs before the control block that
//! gives the segment free, at a start before recovery begins a new epoch. So archive and logs together tell every commit
//! since the archive began, until [`retain`] removes the oldest.
//!
//! * [`mod@format`]: a file of the archive, byte by byte
//! * [`keep`](mod@keep): [`keep()`], what puts a segment there, and [`retain`]
//! * [`journal`]: [`Journal`], which tells archive and logs as one
//! * [`answers`]: beside them, how often commands were answered with which status
//!
//! # Identity
//! Sequences of a log rise for ever: those of a new epoch, and of a log that is made anew after it was a surplus one, are
//! above all that were before. So (shard, sequence) names a commit for all time, which (shard, epoch, batch) does not: a
//! log made anew begins with epoch and batch 1 again. A file is named by its sequences and its shard, and a commit that is
//! both in a file and in the log, or in two files, is told once.
//!
//! A restored directory goes back to a backup's sequence, and the archive that is copied beside it has gone on from there:
//! recovery starts the clocks above everything the archive has, so that what is done now and what the restore undid keep
//! their own sequences. Both are told.

pub mod answers;
pub mod format;
pub mod journal;
pub mod keep;

#[cfg(test)]
mod tests;

pub use format::FileName;
pub use journal::{Journal, Missing, Window};
pub use keep::{Retention, highest, keep, retain};

use super::error::StoreError;
use super::files;
use super::storage::Storage;

/// Whether the data directory has an archive.
///
/// # Errors
/// What the storage fails with.
pub fn is_there(storage: &dyn Storage) -> Result<bool, StoreError> {
    Ok(storage.list("")?.iter().any(|name| name == files::ARCHIVE))
}

/// Makes the archive of a data directory, empty, unless it has one.
///
/// # Errors
/// What the storage fails with.
pub fn make(storage: &dyn Storage) -> Result<(), StoreError> {
    storage.create_directory(files::ARCHIVE)?;
    storage.sync_directory("")
}
