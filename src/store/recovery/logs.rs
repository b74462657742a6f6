//! The logs' directories: read, made, changed, removed.

use super::OpenedShard;
use crate::store::control::{Control, OrdersImage, SLOT_BYTES, UsedPages};
use crate::store::double_write::{self, AREA_BYTES};
use crate::store::error::StoreError;
use crate::store::files::{self, SURPLUS, UNFINISHED};
use crate::store::layout::{AlignedBytes, BLOCK_BYTES};
use crate::store::orders::{Order, encode_image};
use crate::store::storage::{Storage, Zeros};
use crate::store::wal::{Geometry, LogStart, LogTail, Scanned};

/// What the logs shall be.
pub struct Target {
    /// One log each.
    pub shards: u8,
    /// The sizes of their segments.
    pub geometry: Geometry,
    /// Up to which sequence everything is in place.
    pub sequence: u64,
    /// Pages ever used.
    pub used: UsedPages,
    /// All orders.
    pub orders: Vec<Order>,
}

/// Removes what a crash left of files, logs and segments being made or removed.
pub fn remove_left_overs(storage: &dyn Storage) -> Result<(), StoreError> {
    left_overs(storage)?.iter().try_for_each(|path| match storage.length(path)? {
        Some(_) => storage.remove(path),
        None => remove_tree(storage, path),
    })
}

/// Files and directories that a crash left while they were made or removed.
pub fn left_overs(storage: &dyn Storage) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    let mut look = |directory: &str, endings: &[&str]| -> Result<(), StoreError> {
        let names = storage.list(directory)?.into_iter();
        let names = names.filter(|name| endings.iter().any(|ending| name.ends_with(ending)));
        found.extend(names.map(|name| format!("{directory}/{name}")));
        Ok(())
    };
    look(files::COINS, &[UNFINISHED])?;
    look(files::ARCHIVE, &[UNFINISHED])?;
    look(files::LOGS, &[UNFINISHED, SURPLUS])?;
    for shard in log_numbers(storage)? {
        look(&files::log(shard), &[UNFINISHED])?;
    }
    for name in [files::NODE, files::SUSPENDED] {
        let unfinished = format!("{name}{UNFINISHED}");
        found.extend(storage.length(&unfinished)?.map(|_| unfinished));
    }
    Ok(found)
}

/// The logs there are, in order.
pub fn log_numbers(storage: &dyn Storage) -> Result<Vec<u8>, StoreError> {
    let mut numbers: Vec<u8> = storage.list(files::LOGS)?.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes a directory of files.
pub fn remove_tree(storage: &dyn Storage, path: &str) -> Result<(), StoreError> {
    for name in storage.list(path)? {
        storage.remove(&format!("{path}/{name}"))?;
    }
    storage.remove_directory(path)
}

/// The control blocks of all logs: log 0's, log 1's … There is at least one. As many are there as log 0's says, or more
/// where a crash left some that were being made, or surplus ones.
pub fn read_controls(storage: &dyn Storage) -> Result<Vec<Control>, StoreError> {
    let last = log_numbers(storage)?.last().copied().unwrap_or(0);
    let controls: Vec<Control> = (0..=last).map(|shard| read_control(storage, shard)).collect::<Result<_, _>>()?;
    if controls.len() < usize::from(controls[0].logs) {
        return Err(StoreError::DamagedFile {
            path: files::log(controls.len() as u8),
            why: "the directory is missing",
        });
    }
    Ok(controls)
}

fn read_control(storage: &dyn Storage, shard: u8) -> Result<Control, StoreError> {
    let path = files::control(shard);
    if storage.length(&path)? != Some(2 * SLOT_BYTES as u64) {
        return Err(StoreError::DamagedControl { path });
    }
    let slots = read_slots(storage, shard)?;
    if slots.iter().flatten().count() == 1 {
        log::warn!("{path}: one of its two blocks is torn or damaged, going on with the other");
    }
    Control::newest(slots).ok_or(StoreError::DamagedControl { path })
}

/// Both slots of a shard's control block, `None` where one is not whole, not there, or another shard's.
pub fn read_slots(storage: &dyn Storage, shard: u8) -> Result<[Option<Control>; 2], StoreError> {
    let mut bytes = AlignedBytes::zeroed(2 * SLOT_BYTES);
    storage.read_what_is_there(&files::control(shard), 0, &mut bytes)?;
    let slot = |at: usize| Control::decode(&bytes[at..at + SLOT_BYTES]).filter(|control| control.writer == shard);
    Ok([slot(0), slot(SLOT_BYTES)])
}

/// Makes the logs what they shall be. `controls` and `scanned` are those of the logs there are; nothing in them is
/// needed any more, as all of it is in place or in `target`.
pub fn set_up(
    storage: &dyn Storage,
    controls: Vec<Control>,
    scanned: &[Scanned],
    target: &Target,
) -> Result<Vec<OpenedShard>, StoreError> {
    let logs = controls.len() as u8;
    for shard in 0..logs {
        empty_double_write_area(storage, shard)?;
    }
    let mut opened = Vec::with_capacity(usize::from(target.shards));
    // The missing ones first: log 0's control block must never name more than there are.
    let made: Vec<OpenedShard> =
        (logs..target.shards).map(|shard| make(storage, shard, target)).collect::<Result<_, _>>()?;
    for (control, scanned) in controls.into_iter().zip(scanned).take(usize::from(target.shards)) {
        opened.push(renew(storage, control, scanned, target)?);
    }
    opened.extend(made);
    // The last first: what is there is always 0, 1, 2 … without a gap.
    for shard in (target.shards..logs).rev() {
        let surplus = format!("{}{SURPLUS}", files::log(shard));
        storage.rename(&files::log(shard), &surplus)?;
        storage.sync_directory(files::LOGS)?;
        remove_tree(storage, &surplus)?;
    }
    storage.sync_directory(files::LOGS)?;
    Ok(opened)
}

/// Makes a log's double-write area, empty, unless it is there in its size.
pub fn make_double_write_area(storage: &dyn Storage, shard: u8) -> Result<(), StoreError> {
    let path = files::double_write(shard);
    if storage.length(&path)? == Some(AREA_BYTES as u64) {
        return Ok(());
    }
    storage.create(&path, AREA_BYTES as u64, Zeros::Written)?;
    storage.sync(&path)?;
    storage.sync_directory(&files::log(shard))
}

fn empty_double_write_area(storage: &dyn Storage, shard: u8) -> Result<(), StoreError> {
    make_double_write_area(storage, shard)?;
    let path = &files::double_write(shard);
    let mut header = AlignedBytes::zeroed(BLOCK_BYTES);
    storage.read_at(path, 0, &mut header)?;
    if header.iter().any(|&byte| byte != 0) {
        header.fill(0);
        storage.write_durably(path, 0, &header)?;
    }
    debug_assert!(double_write::decode(&header).is_empty());
    Ok(())
}

/// Starts a log anew that is there.
fn renew(
    storage: &dyn Storage,
    mut control: Control,
    scanned: &Scanned,
    target: &Target,
) -> Result<OpenedShard, StoreError> {
    let shard = control.writer;
    let path = files::control(shard);
    control.orders = control.orders.next();
    write_orders(storage, &files::log(shard), control.orders, &target.orders)?;
    control.epoch += 1;
    control.sequence = target.sequence;
    control.logs = target.shards;
    control.used = target.used.clone();
    control.tail = LogTail { segment: 0, batch: scanned.next_batch, previous_crc: scanned.previous_crc };
    let geometry = target.geometry;
    if (control.segments, control.segment_bytes) != (geometry.segments, geometry.segment_bytes) {
        control.segments = 0;
        control.generation += 1;
        write_control(storage, &path, &control)?;
        change_segments(storage, shard, geometry)?;
        (control.segments, control.segment_bytes) = (geometry.segments, geometry.segment_bytes);
    }
    write_control_twice(storage, &files::log(shard), &mut control)?;
    Ok(opened(control))
}

/// Makes a log that is not there, under another name until it is complete.
fn make(storage: &dyn Storage, shard: u8, target: &Target) -> Result<OpenedShard, StoreError> {
    let directory = format!("{}{UNFINISHED}", files::log(shard));
    storage.create_directory(&directory)?;
    for slot in 0..target.geometry.segments {
        let path = format!("{directory}/segment-{slot}");
        storage.create(&path, target.geometry.segment_bytes, Zeros::Written)?;
        storage.sync(&path)?;
    }
    for (name, bytes) in [("control", 2 * SLOT_BYTES), ("double", AREA_BYTES), ("orders-0", 0), ("orders-1", 0)] {
        let path = format!("{directory}/{name}");
        storage.create(&path, bytes as u64, Zeros::Written)?;
        storage.sync(&path)?;
    }
    let mut control = Control {
        writer: shard,
        generation: 0,
        epoch: 1,
        sequence: target.sequence,
        tail: LogTail { segment: 0, batch: 1, previous_crc: 0 },
        segments: target.geometry.segments,
        segment_bytes: target.geometry.segment_bytes,
        logs: target.shards,
        orders: OrdersImage::FIRST,
        used: target.used.clone(),
    };
    write_orders(storage, &directory, control.orders, &target.orders)?;
    write_control_twice(storage, &directory, &mut control)?;
    storage.sync_directory(&directory)?;
    storage.rename(&directory, &files::log(shard))?;
    storage.sync_directory(files::LOGS)?;
    Ok(opened(control))
}

fn opened(control: Control) -> OpenedShard {
    OpenedShard { log: LogStart { writer: control.writer, epoch: control.epoch, tail: control.tail }, control }
}

/// Makes it durable in both slots of a log's control block, and says so in `control`.
pub fn write_control_twice(storage: &dyn Storage, directory: &str, control: &mut Control) -> Result<(), StoreError> {
    for _ in 0..2 {
        control.generation += 1;
        write_control(storage, &format!("{directory}/control"), control)?;
    }
    Ok(())
}

fn write_control(storage: &dyn Storage, path: &str, control: &Control) -> Result<(), StoreError> {
    storage.write_durably(path, control.offset(), &control.to_block())
}

/// Writes the image of all orders.
fn write_orders(
    storage: &dyn Storage,
    directory: &str,
    image: OrdersImage,
    orders: &[Order],
) -> Result<(), StoreError> {
    let path = format!("{directory}/orders-{}", image.slot);
    if storage.length(&path)?.is_none() {
        storage.create(&path, 0, Zeros::Written)?;
        storage.sync(&path)?;
        storage.sync_directory(directory)?;
    }
    storage.write_durably(&path, 0, &encode_image(image.generation, orders.iter()))
}

/// Gives a log that holds nothing the segments it shall have.
fn change_segments(storage: &dyn Storage, shard: u8, geometry: Geometry) -> Result<(), StoreError> {
    let directory = files::log(shard);
    for slot in 0..geometry.segments {
        let path = files::segment(shard, slot);
        if storage.length(&path)? != Some(geometry.segment_bytes) {
            let unfinished = format!("{path}{UNFINISHED}");
            storage.create(&unfinished, geometry.segment_bytes, Zeros::Written)?;
            storage.sync(&unfinished)?;
            storage.rename(&unfinished, &path)?;
        }
    }
    for name in storage.list(&directory)? {
        let slot = name.strip_prefix("segment-").and_then(|slot| slot.parse::<u16>().ok());
        if slot.is_some_and(|slot| slot >= geometry.segments) {
            storage.remove(&format!("{directory}/{name}"))?;
        }
    }
    storage.sync_directory(&directory)
}
