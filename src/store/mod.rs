//! What is on disk, and nothing else: formats, and the blocking work on them at start and offline.
//!
//! # The data directory
//! ```text
//! node                   which format this directory has
//! lock                   held by the one process that uses it
//! coins/<00..14>.pages   a denomination each: page n of it at byte n * 20,480; a hole was never used
//! log/<shard>/control    what of the log is in place, and where the rest begins
//! log/<shard>/segment-<slot>, double, orders-0, orders-1
//! archive/                what the logs held, where it is to be kept
//! suspended              lockers that are held, markets that are paused; there is none before the first
//! admin.journal          what the operator did
//! ```
//!
//! Pure parts, used by the shards: [`layout`], [`wal`]'s writer, [`control`], [`double_write`], [`orders`].
//! Blocking parts, at start and offline, over [`storage`]: [`wal`]'s scanner, [`pages`], [`recovery`].
//!
//! # Layout
//! * [`layout`]: aligned memory and the page of 1024 coins
//! * [`wal`]: the log of commit records
//! * [`archive`]: what the logs held, kept and told again
//! * [`control`]: the control block
//! * [`double_write`]: the area that pages pass through on their way to their place
//! * [`orders`]: payout addresses of trade lockers
//! * [`pages`]: pages in their place
//! * [`suspended`], [`journal`]: what the operator holds and pauses, and all that he ever did
//! * [`recovery`]: opens a data directory
//! * [`verify`], [`rebuild`]: say what is damaged, and repair what can be
//! * [`inspect`]: shows what is in it, for a person
//! * [`create`]: makes a data directory
//! * [`reference_data`]: imports and exports the reference's data directory
//! * [`backup`]: all of it as one file, from a directory at rest or in use, and back
//! * [`mint`]: puts new coins into circulation, offline
//! * [`storage`]: the disk as a trait, and the real one
//! * [`files`]: the names of all of them
//! * [`error`]: what can be wrong

pub mod archive;
pub mod backup;
pub mod control;
pub mod create;
pub mod double_write;
pub mod error;
pub mod files;
pub mod inspect;
pub mod journal;
pub mod layout;
pub mod mint;
pub mod orders;
pub mod pages;
pub mod rebuild;
pub mod recovery;
pub mod reference_data;
pub mod storage;
pub mod suspended;
pub mod verify;
pub mod wal;
