//! Opens a data directory: repairs, replays, and sets the logs up for any number of shards.
//!
//! The steps, in an order that lets a crash at any point start over:
//! 0. Everything that is there is made durable: a killed process leaves what can be read and may yet be lost.
//! 1. The control blocks of all logs say up to which sequence everything is in place: S, the highest of them.
//! 2. Pages torn in their place come back from the double-write areas.
//! 3. All logs are scanned; records up to S are skipped, of the rest the highest sequence of each coin wins. Records
//!    are absolute, so replaying them twice is harmless. They go to their pages through log 0's double-write area.
//! 4. Orders are merged from images and logs, the highest sequence of each AN wins, and go as one image to each log.
//! 5. Where there is an archive, what the logs hold goes there. Then the double-write areas are emptied: a page that rots later must not be taken back to an old copy.
//!    The new S is the highest sequence of logs and archive.
//! 6. Missing logs are made, with the new S, under names that are no log's while they are incomplete.
//! 7. The control blocks get a new epoch and the new S, log 0's first, and the number of logs. Both slots are written, so
//!    that the loss of one loses nothing.
//! 8. Surplus logs are removed.
//!
//! With the first control block that says S, a new log's or log 0's, the recovery is done: what other logs still hold
//! is at or below S. Log 0's block names as many logs as there are, or fewer until steps 6 to 8 are through; so a log
//! that somebody removed is missed.

pub(in crate::store) mod logs;
pub(in crate::store) mod replay;

#[cfg(test)]
mod tests;

use super::archive;
use super::control::{Control, UsedPages};
use super::error::StoreError;
use super::files;
use super::orders::Order;
use super::storage::Storage;
use super::wal::{Geometry, LogStart, Scanned, wrong_segments};
use crate::coin::Denomination;
use crate::mutant::{self, Mutant};

/// The line in `node` that makes a directory a data directory of this format.
pub const NODE_LINE: &str = "raida data directory, format 1\n";

/// A data directory that is ready for its shards.
#[derive(Debug)]
pub struct Opened {
    /// For each shard where its log goes on.
    pub shards: Vec<OpenedShard>,
    /// All orders, for every shard to take those at home with it. Orders that no coin belongs to are among them.
    pub orders: Vec<Order>,
    /// The highest sequence that was ever given: the clocks start above it.
    pub sequence: u64,
    /// Every page ever used.
    pub used: UsedPages,
    /// Commit records replayed.
    pub recovered: u64,
    /// Torn pages that were repaired.
    pub repaired: u64,
}

/// Where a shard goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenedShard {
    /// For [`Log::new`](super::wal::Log::new).
    pub log: LogStart,
    /// The control block on disk.
    pub control: Control,
}

/// Opens the data directory for so many shards.
///
/// # Errors
/// What is damaged, by name; nothing is guessed. After an error the directory can be opened again.
///
/// # Panics
/// When `shards` is 0 or the geometry out of its bounds: configuration checks them first.
pub fn open(storage: &dyn Storage, shards: u8, geometry: Geometry) -> Result<Opened, StoreError> {
    assert!(shards > 0);
    geometry.check();
    let controls = begin(storage)?;
    open_checked(storage, shards, geometry, controls)
}

/// Makes sure of the directory, clears it up, and reads the control blocks.
fn begin(storage: &dyn Storage) -> Result<Vec<Control>, StoreError> {
    check_files(storage)?;
    if !mutant::is(Mutant::RecoveredFromCache) {
        make_durable(storage)?;
    }
    logs::remove_left_overs(storage)?;
    logs::read_controls(storage)
}

/// Makes everything that is there durable. A process that was killed leaves writes that can be read and yet may be lost
/// with the power: what recovery acts upon must not be among them.
fn make_durable(storage: &dyn Storage) -> Result<(), StoreError> {
    let logs = storage.list(files::LOGS)?.into_iter().map(|name| format!("{}/{name}", files::LOGS));
    for directory in std::iter::once(files::COINS.to_string()).chain(logs) {
        for name in storage.list(&directory)? {
            storage.sync(&format!("{directory}/{name}"))?;
        }
        storage.sync_directory(&directory)?;
    }
    storage.sync_directory(files::LOGS)?;
    // Its files were durable before they had their names.
    if archive::is_there(storage)? {
        storage.sync_directory(files::ARCHIVE)?;
    }
    storage.sync_directory("")
}

fn open_checked(
    storage: &dyn Storage,
    shards: u8,
    geometry: Geometry,
    controls: Vec<Control>,
) -> Result<Opened, StoreError> {
    let mut used = UsedPages::none();
    controls.iter().for_each(|control| used.add(&control.used));
    let in_place = controls.iter().map(|control| control.sequence).max().expect("at least one log");
    let repaired = replay::repair_torn_pages(storage, controls.len(), &used)?;
    logs::make_double_write_area(storage, 0)?;
    let mut replay = replay::Replay::new(in_place);
    let mut scanned = Vec::with_capacity(controls.len());
    for control in &controls {
        replay.read_images(storage, control)?;
        scanned.push(read_log(storage, &mut replay, control)?);
    }
    replay.write_pages(storage, &mut used)?;
    if archive::is_there(storage)? {
        for (control, scanned) in controls.iter().zip(&scanned) {
            archive::keep(storage, &replay::source(control), scanned.next_batch - 1)?;
        }
    }
    let orders = replay.orders();
    // An archive from before a restore has sequences that the backup has not: they are not given again.
    let sequence = replay.sequence().max(archive::highest(storage)?);
    let target = logs::Target { shards, geometry, sequence, used, orders };
    let shards = logs::set_up(storage, controls, &scanned, &target)?;
    Ok(Opened {
        shards,
        orders: target.orders,
        sequence: target.sequence,
        used: target.used,
        recovered: replay.records(),
        repaired,
    })
}

/// Takes the records of a log whose files have their sizes.
fn read_log(storage: &dyn Storage, replay: &mut replay::Replay, control: &Control) -> Result<Scanned, StoreError> {
    if let Some((slot, _)) = wrong_segments(storage, &replay::source(control))?.first() {
        let path = files::segment(control.writer, *slot);
        return Err(StoreError::DamagedFile { path, why: "it is missing or of another size" });
    }
    let scanned = replay.read_log(storage, control)?;
    if let Some(lost) = scanned.lost {
        let (path, batch) = (files::segment(control.writer, lost.segment), scanned.next_batch);
        let offset = lost.offset;
        log::warn!("{path} is damaged at offset {offset}: batch {batch} is lost, but all it said is in place");
    }
    Ok(scanned)
}

/// Opens the data directory for as many shards, and logs of the size, as it was last set up for: for work offline.
///
/// # Errors
/// As [`open`].
pub fn open_as_it_is(storage: &dyn Storage) -> Result<Opened, StoreError> {
    let controls = begin(storage)?;
    let Control { segments, segment_bytes, .. } = controls[0];
    let geometry = match segments {
        0 => Geometry::default(),
        _ => Geometry { segments, segment_bytes, ..Geometry::default() },
    };
    open_checked(storage, controls.len() as u8, geometry, controls)
}

/// Notes in all control blocks that pages were written in place, up to `sequence`: for work offline.
pub fn note_pages(
    storage: &dyn Storage,
    opened: &mut Opened,
    used: &UsedPages,
    sequence: u64,
) -> Result<(), StoreError> {
    opened.used.add(used);
    opened.sequence = sequence;
    for shard in &mut opened.shards {
        shard.control.used = opened.used.clone();
        shard.control.sequence = sequence;
        logs::write_control_twice(storage, &files::log(shard.control.writer), &mut shard.control)?;
    }
    Ok(())
}

/// Makes an empty data directory with one log in an empty storage. The `node` file comes last: without it the
/// directory is none.
pub fn initialise(storage: &dyn Storage, geometry: Geometry) -> Result<(), StoreError> {
    geometry.check();
    storage.create_directory(files::COINS)?;
    for den in Denomination::all() {
        let path = files::coins(den);
        storage.create(&path, files::COINS_BYTES, super::storage::Zeros::Hole)?;
        storage.sync(&path)?;
    }
    storage.sync_directory(files::COINS)?;
    finish_directory(storage, geometry, UsedPages::none(), Vec::new(), 0)
}

/// Adds log and `node` to a directory whose coin files are complete and durable, with everything up to `sequence` in
/// place; no order is above it.
pub fn finish_directory(
    storage: &dyn Storage,
    geometry: Geometry,
    used: UsedPages,
    orders: Vec<Order>,
    sequence: u64,
) -> Result<(), StoreError> {
    assert!(orders.iter().all(|order| order.sequence <= sequence), "an order is not above the whole");
    storage.create_directory(files::LOGS)?;
    logs::set_up(storage, Vec::new(), &[], &logs::Target { shards: 1, geometry, sequence, used, orders })?;
    storage.replace(files::NODE, NODE_LINE.as_bytes())
}

/// Refuses a directory that is none, or of another format, or without all its coin files.
fn check_files(storage: &dyn Storage) -> Result<(), StoreError> {
    let not = |why: &str| StoreError::NotADataDirectory { why: why.to_string() };
    let Some(length) = storage.length(files::NODE)? else { return Err(not("it has no file `node`")) };
    let mut line = vec![0; length.min(4096) as usize];
    storage.read_at(files::NODE, 0, &mut line)?;
    if line != NODE_LINE.as_bytes() {
        return Err(not("its file `node` names another format"));
    }
    for den in Denomination::all() {
        let path = files::coins(den);
        if storage.length(&path)? != Some(files::COINS_BYTES) {
            return Err(StoreError::DamagedFile { path, why: "it is missing or of another size" });
        }
    }
    Ok(())
}
