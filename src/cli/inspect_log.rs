//! `raida inspect log`: the logs, batch by batch.

use raida::calendar::iso;
use raida::coin::{CoinId, Place};
use raida::store::control::Control;
use raida::store::files;
use raida::store::storage::Storage;
use raida::store::verify::Survey;
use raida::store::wal::format::BatchHeader;
use raida::store::wal::listing::{Stretch, list};
use raida::store::wal::{Change, CommitRecord, PlaceKind};
use raida::wire::request::Command;

use super::exit::Failure;
use super::inspect::{Secrets, show};
use super::offline::store_failure;

/// Prints the logs, or one shard's.
pub fn show_log(storage: &dyn Storage, survey: &Survey, shard: Option<u8>, secrets: Secrets) -> Result<(), Failure> {
    for control in survey.controls.iter().filter(|control| shard.is_none_or(|shard| control.writer == shard)) {
        show(&control_lines(control))?;
        for slot in 0..control.segments {
            let path = files::segment(control.writer, slot);
            let length = storage.length(&path).map_err(store_failure)?;
            show(&match length {
                Some(length) if length == control.segment_bytes => format!("  {path}: {length} bytes"),
                Some(length) => format!("  {path}: {length} bytes, not {}", control.segment_bytes),
                None => format!("  {path}: missing"),
            })?;
            let mut said = Ok(());
            let shown = list(storage, control.writer, slot, &mut |at, stretch| {
                if said.is_ok() {
                    said = show(&stretch_lines(control, at, &stretch, secrets));
                }
            });
            said?;
            shown.map_err(store_failure)?;
        }
    }
    Ok(())
}

fn control_lines(control: &Control) -> String {
    format!(
        "{}: epoch {}, everything up to sequence {} is in place, the rest begins with batch {} in segment {}; \
         payout addresses in orders-{}, generation {}; {} pages used",
        files::log(control.writer),
        control.epoch,
        control.sequence,
        control.tail.batch,
        control.tail.segment,
        control.orders.slot,
        control.orders.generation,
        control.used.count()
    )
}

fn stretch_lines(control: &Control, at: u64, stretch: &Stretch<'_>, secrets: Secrets) -> String {
    match stretch {
        Stretch::Zeros(bytes) => format!("    {at:>10}  {bytes} bytes of zeros: never written"),
        Stretch::Other(bytes) => {
            format!("    {at:>10}  {bytes} bytes torn or damaged, or the rest of an older batch")
        }
        Stretch::Batch(header, records) => {
            let mut lines = vec![batch_line(control, at, header)];
            lines.extend(records.iter().map(|record| record_lines(record, secrets)));
            lines.join("\n")
        }
    }
}

fn batch_line(control: &Control, at: u64, header: &BatchHeader) -> String {
    let BatchHeader { epoch, number, records, used, .. } = *header;
    let counts = epoch == control.epoch && number >= control.tail.batch;
    let age = if counts { "" } else { ", in place: overwritten when its turn comes" };
    let records = if records == 0 { "a mark".to_owned() } else { format!("commands: {records}") };
    format!("    {at:>10}  batch {number}, epoch {epoch}, {records}, {used} bytes{age}")
}

fn record_lines(record: &CommitRecord<'_>, secrets: Secrets) -> String {
    let commit = record.commit;
    let name = Command::find(commit.group, commit.code).map_or("unknown", |command| command.name);
    let mut lines = vec![format!(
        "                sequence {}  {}  {name}, coins: {}",
        commit.sequence,
        iso(commit.unix_ms),
        record.changes().len()
    )];
    let changes: Vec<Change> = record.changes().collect();
    if secrets.are_shown() {
        lines.extend(changes.iter().map(|change| {
            let (from, to) = kinds(change);
            let (coin, mfs) = (change.coin, change.to.mfs.get());
            format!("                  {coin:?} {from} -> {to} MFS {mfs} AN {}", secrets.show(&change.to.an))
        }));
    } else {
        let alike = changes.chunk_by(|a, b| kinds(a) == kinds(b));
        lines.extend(alike.map(|changes| {
            let (from, to) = kinds(&changes[0]);
            let coins: Vec<CoinId> = changes.iter().map(|change| change.coin).collect();
            format!("                  {from} -> {to}: {}", ranges(&coins))
        }));
    }
    lines.extend(record.orders().map(|order| {
        let address = order.address.as_bytes().escape_ascii();
        format!("                  for sale in trade locker {}, paid to {address}", secrets.show(&order.an))
    }));
    lines.join("\n")
}

fn kinds(change: &Change) -> (&'static str, &'static str) {
    let name = |kind| match kind {
        PlaceKind::Free => "free",
        PlaceKind::Wallet => "wallet",
        PlaceKind::Locker => "locker",
        PlaceKind::TradeLocker => "trade locker",
    };
    let place: Place = change.to.place();
    (name(change.from), name(place.into()))
}

/// Coins with neighbours together: `0:3..5 0:9`.
fn ranges(coins: &[CoinId]) -> String {
    let next = |a: &CoinId, b: &CoinId| a.number() + 1 == b.number() && a.denomination() == b.denomination();
    let range = |coins: &[CoinId]| match coins {
        [coin] => format!("{coin:?}"),
        _ => format!("{:?}..{}", coins[0], coins[coins.len() - 1].serial_number()),
    };
    coins.chunk_by(next).map(range).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_shown_together() {
        let coins = [(0, 3), (0, 4), (0, 5), (0, 9), (-8, 1_023_999), (-7, 0)];
        let coins = coins.map(|(den, sn)| CoinId::new(den, sn).expect("a coin"));
        assert_eq!(ranges(&coins), "0:3..5 0:9 -8:1023999 -7:0");
        assert_eq!(ranges(&[]), "");
    }
}
