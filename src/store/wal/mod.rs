//! The log: what is in it, the pure writer, and the scanner that reads it back.
//!
//! A shard's log is a ring of segments, files of one size that were written with zeros beforehand and are
//! overwritten in place. A commit record is *the* commit of a command: when the batch that holds it is durable,
//! and every batch before it, the command has happened.
//!
//! * [`mod@format`]: batches and commit records, byte by byte
//! * [`writer`]: [`Log`], the state machine that fills batches and keeps the ring
//! * [`scanner`]: [`scan`], what recovery reads
//!
//! Invariants: a batch never spans segments. Batch numbers of a log are consecutive and never used twice under one
//! epoch; each batch names the CRC of the one before. Batch n + 4 is not written before batch n is durable
//! ([`WINDOW`]), so a batch found far behind a gap means that the disk lost something.

pub mod format;
pub mod scanner;
pub mod writer;

#[cfg(test)]
mod tests;

pub use format::{Change, Commit, CommitRecord, Geometry, LogTail, PlaceKind, WINDOW, record_bytes};
pub use scanner::{Scanned, Source, scan};
pub use writer::{Counters, Log, LogStart, LogWrite, Ticket};
