//! The log: what is in it, the pure writer, and the scanner that reads it back.
//!
//! A shard's log is a ring of segments, files of one size that were written with zeros beforehand and are
//! overwritten in place. A commit record is *the* commit of a command: when the batch that holds it is durable,
//! and every batch before it, the command has happened.
//!
//! * [`mod@format`]: batches and commit records, byte by byte
//! * [`writer`]: [`Log`], the state machine that fills batches and keeps the ring
//! * [`batches`]: follows the chain of batches
//! * [`scanner`]: [`scan`], what recovery reads; [`scan_up_to`], what a backup reads while the log goes on
//! * [`listing`]: all that is in a segment
//!
//! Invariants: a batch never spans segments. Batch numbers of a log are consecutive and never used twice under one
//! epoch; each batch names the CRC of the one before. Batch n + 4 is not written before batch n is durable
//! ([`WINDOW`]).
//!
//! # A torn tail and rot
//! A crash leaves anything of the batches that were under way, and nobody was answered for them: there the log ends. A
//! batch that was durable and is not whole any more has lost answered commands, and that must never look like the end.
//! So each batch says which one was the last of the durable prefix when it was written: where a batch is missing and a
//! later one says that it was durable, the disk lost it ([`Lost`]). When nothing more is appended for a while, the log
//! writes a *mark*, a batch without records, which says so of the last records too.
//!
//! What cannot be told apart: rot in the newest batches from a crash within some 50 ms after they were written, before
//! the mark was, and rot in both the last batch and its mark. There the log ends a few batches early. Rot in the mark
//! alone loses nothing.

pub mod batches;
pub mod format;
pub mod listing;
pub mod scanner;
pub mod writer;

#[cfg(test)]
mod tests;

pub use batches::{Batches, Source};
pub use format::{Change, Commit, CommitRecord, Geometry, LogTail, PlaceKind, WINDOW, record_bytes};
pub use scanner::{Lost, Scanned, scan, scan_up_to, wrong_segments};
pub use writer::{Counters, FullSegment, Log, LogStart, LogWrite, Ticket};
