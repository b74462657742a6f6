//! What is lost of a log's directory, made again from what else is there; only where that is proven to be the same.

use crate::store::control::{Control, OrdersImage, UsedPages};
use crate::store::orders::Order;
use crate::store::recovery::logs::log_numbers;
use crate::store::recovery::replay::{Replay, read_slot, source};
use crate::store::storage::Storage;
use crate::store::wal::format::BatchHeader;
use crate::store::wal::listing::{Stretch, list};
use crate::store::wal::{LogTail, scan, wrong_segments};

/// The orders of a log whose image is lost, from where its older control block begins: the image that it names, and
/// every commit since. `None`: not all of that is there any more.
///
/// All logs are read from where their older blocks begin, none of which may be beyond the log's own; all up to where the
/// newer ones came to, so nothing in between is overwritten.
pub fn orders_from_before(
    storage: &dyn Storage,
    shard: u8,
    slots: &[[Option<Control>; 2]],
    next_batches: &[Option<u64>],
) -> Option<Vec<Order>> {
    let older: Vec<&Control> =
        slots.iter().filter_map(|slots| slots.iter().flatten().min_by_key(|control| control.generation)).collect();
    let own = older.iter().find(|control| control.writer == shard)?;
    let complete = slots.iter().flatten().all(Option::is_some)
        && older.iter().all(|control| control.sequence <= own.sequence && control.segments > 0);
    let mut orders = Replay::new(u64::MAX);
    let all = complete
        && orders.read_images(storage, own).is_ok()
        && older.iter().zip(next_batches).all(|(control, next_batch)| {
            let scanned = orders.read_log(storage, control).ok();
            next_batch.is_some() && scanned.map(|scanned| scanned.next_batch) == *next_batch
        });
    all.then(|| orders.orders())
}

/// The control block of a log that has none, from its segments and the blocks of other logs. `None`: it is not certain.
///
/// * Up to which sequence everything is in place, of all logs, another block says.
/// * A log's newest epoch with a batch is the last in which anything may be missing from its place: a later one began
///   with a recovery. Its batches must follow each other without a gap, from the start of a segment to the last there
///   is; then every record that the lost block wanted to be read is among them.
/// * The newer image of the orders counts; both must be whole, as either may have been it.
/// * How many logs there are, log 0's block alone says for certain: for it another block and the directories must agree.
///
/// Which pages the shard used first since the last start is not known: `used` is empty.
pub fn control_from_segments(storage: &dyn Storage, shard: u8, known: &[Control]) -> Option<Control> {
    let other = known.iter().max_by_key(|control| control.sequence).filter(|control| control.segments > 0)?;
    if shard == 0 && log_numbers(storage).ok()?.len() != usize::from(other.logs) {
        return None;
    }
    let mut control = Control {
        writer: shard,
        generation: 0,
        epoch: 1,
        tail: LogTail { segment: 0, batch: 1, previous_crc: 0 },
        orders: newer_image(storage, shard)?,
        used: UsedPages::none(),
        ..other.clone()
    };
    if !wrong_segments(storage, &source(&control)).ok()?.is_empty() {
        return None;
    }
    let batches = batches(storage, &control)?;
    let Some(epoch) = batches.iter().map(|(_, _, header)| header.epoch).max() else { return Some(control) };
    let of_epoch = || batches.iter().filter(|(_, _, header)| header.epoch == epoch);
    let starts = of_epoch().filter(|(_, at, _)| *at == 0);
    let (segment, _, first) = starts.min_by_key(|(_, _, header)| header.number)?;
    control.epoch = epoch;
    control.tail = LogTail { segment: *segment, batch: first.number, previous_crc: first.previous_crc };
    let last = of_epoch().map(|(_, _, header)| header.number).max()?;
    let scanned = scan(storage, &source(&control), &mut |_| Ok(())).ok()?;
    (scanned.next_batch == last + 1 && scanned.lost.is_none()).then_some(control)
}

/// The shard's whole batches, with segment and place. `None`: there are none, but something else is.
fn batches(storage: &dyn Storage, control: &Control) -> Option<Vec<(u16, u64, BatchHeader)>> {
    let mut batches = Vec::new();
    let mut is_empty = true;
    for slot in 0..control.segments {
        let listed = list(storage, control.writer, slot, &mut |at, stretch| match stretch {
            Stretch::Batch(header, _) if header.writer == control.writer => batches.push((slot, at, header)),
            Stretch::Zeros(_) => {}
            Stretch::Batch(..) | Stretch::Other(_) => is_empty = false,
        });
        listed.ok()?;
    }
    (is_empty || !batches.is_empty()).then_some(batches)
}

/// The newer of a shard's images of orders, if both are whole or only the first was ever written.
fn newer_image(storage: &dyn Storage, shard: u8) -> Option<OrdersImage> {
    let [first, second] = [0, 1].map(|slot| {
        let whole = read_slot(storage, shard, slot).ok().flatten();
        whole.map(|(generation, _)| OrdersImage { slot, generation })
    });
    match (first, second) {
        (Some(first), Some(second)) => Some(if first.generation > second.generation { first } else { second }),
        (Some(first), None) if first == OrdersImage::FIRST => Some(first),
        _ => None,
    }
}
