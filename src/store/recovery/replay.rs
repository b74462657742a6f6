//! What the logs say, brought to the pages.

use std::collections::HashMap;

use crate::coin::{CoinId, CoinRecord, PageNumber, Secret};
use crate::mutant::{self, Mutant};
use crate::store::control::{Control, OrdersImage, UsedPages};
use crate::store::double_write;
use crate::store::error::StoreError;
use crate::store::files;
use crate::store::layout::{AlignedBytes, BLOCK_BYTES, PAGE_BYTES, PageFrame, PageState, page_state};
use crate::store::orders::{Order, decode_image};
use crate::store::pages::{PageWriter, change_pages, read_page};
use crate::store::storage::Storage;
use crate::store::wal::{CommitRecord, Scanned, Source, scan};

/// The whole copies of pages in double-write areas: each is what was last written to its place, or was to be.
#[derive(Default)]
pub struct Copies(HashMap<PageNumber, (u64, AlignedBytes)>);

impl Copies {
    /// Takes those of an area's bytes. Of two copies of a page the one of the higher sequence counts.
    pub fn take(&mut self, area: &[u8]) {
        for (page, at) in double_write::decode(area) {
            let PageState::Used(sequence) = page_state(&area[at..at + PAGE_BYTES], page) else { continue };
            if self.0.get(&page).is_none_or(|(other, _)| *other < sequence) {
                let mut copy = AlignedBytes::zeroed(PAGE_BYTES);
                copy.copy_from_slice(&area[at..at + PAGE_BYTES]);
                self.0.insert(page, (sequence, copy));
            }
        }
    }

    /// The bytes of a page's copy.
    pub fn get(&self, page: PageNumber) -> Option<&[u8]> {
        self.0.get(&page).map(|(_, copy)| &**copy)
    }
}

/// The bytes of a log's double-write area, as far as its batch goes; zeros where the file is shorter or not there.
pub fn read_area(storage: &dyn Storage, log: u8) -> Result<AlignedBytes, StoreError> {
    let path = files::double_write(log);
    let mut header = AlignedBytes::zeroed(BLOCK_BYTES);
    storage.read_what_is_there(&path, 0, &mut header)?;
    let mut area = AlignedBytes::zeroed(double_write::page_at(double_write::batch_pages(&header).unwrap_or(0)));
    storage.read_what_is_there(&path, 0, &mut area)?;
    Ok(area)
}

/// Puts the copies in the double-write areas of so many logs in place where the page there is not whole; returns how
/// many.
pub fn repair_torn_pages(storage: &dyn Storage, logs: usize, used: &UsedPages) -> Result<u64, StoreError> {
    let mut copies = Copies::default();
    for log in 0..logs {
        copies.take(&read_area(storage, log as u8)?);
    }
    let mut repaired = 0;
    let mut frame = PageFrame::zeroed();
    for (page, (_, copy)) in &copies.0 {
        match read_page(storage, *page, used, &mut frame) {
            Err(StoreError::DamagedPage { .. } | StoreError::LostPage { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => continue,
        }
        log::info!("page {} of denomination {} repaired", page.in_denomination(), page.denomination());
        storage.write_durably(&files::coins(page.denomination()), files::page_offset(*page), copy)?;
        repaired += 1;
    }
    Ok(repaired)
}

/// The log that a control block speaks of.
pub fn source(control: &Control) -> Source {
    Source {
        writer: control.writer,
        epoch: control.epoch,
        tail: control.tail,
        segments: control.segments,
        segment_bytes: control.segment_bytes,
    }
}

/// What is to be replayed.
pub struct Replay {
    in_place: u64,
    logged: u64,
    highest: u64,
    records: u64,
    /// The newest record of each coin, with its sequence.
    coins: HashMap<CoinId, (u64, CoinRecord)>,
    orders: HashMap<Secret, Order>,
}

impl Replay {
    /// Nothing yet; records up to the sequence `in_place` will be skipped.
    pub fn new(in_place: u64) -> Self {
        Self {
            in_place,
            logged: in_place,
            highest: in_place,
            records: 0,
            coins: HashMap::new(),
            orders: HashMap::new(),
        }
    }

    /// The highest sequence seen.
    pub fn sequence(&self) -> u64 {
        self.highest
    }

    /// The highest sequence of all commits that are in place or in the logs: no page and no order is above it.
    pub fn logged(&self) -> u64 {
        self.logged
    }

    /// Up to which sequence everything is in place.
    pub fn in_place(&self) -> u64 {
        self.in_place
    }

    /// Records that were not in place.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// All orders, in the order of their sequence.
    pub fn orders(&self) -> Vec<Order> {
        let mut orders: Vec<Order> = self.orders.values().copied().collect();
        orders.sort_unstable_by_key(|order| (order.sequence, *order.an.bytes()));
        orders
    }

    /// Takes the orders of the image that a control block names, and of the next one if it is whole.
    ///
    /// A shard writes the next image, then says that everything is in its place, then writes its control block. Once
    /// another shard's control block has that checkpoint's sequence, the log is not looked at for these orders: they are
    /// in the next image, though the control block does not name it yet. Orders that have ended since are dropped later,
    /// as no coin belongs to them.
    pub fn read_images(&mut self, storage: &dyn Storage, control: &Control) -> Result<(), StoreError> {
        let next = read_image(storage, control.writer, control.orders.next())?;
        let named = read_image(storage, control.writer, control.orders)?;
        if next.is_none() && named.is_none() {
            return Err(StoreError::DamagedOrders { path: files::orders(control.writer, control.orders.slot) });
        }
        named.into_iter().chain(next).flatten().for_each(|order| self.take_order(order));
        Ok(())
    }

    /// Takes the records of a control block's log; where its segments were being made it has none.
    ///
    /// A log is read from the start of a segment, so it has records that are in place already. Batches lost among those
    /// cost nothing: the records of one log are in the order of their sequences.
    pub fn read_log(&mut self, storage: &dyn Storage, control: &Control) -> Result<Scanned, StoreError> {
        let scanned = scan(storage, &source(control), &mut |record| self.take(record))?;
        if let Some(lost) = scanned.lost.filter(|lost| lost.highest_sequence > self.in_place) {
            let path = files::segment(control.writer, lost.segment);
            return Err(StoreError::LostBatch { path, offset: lost.offset, batch: scanned.next_batch });
        }
        Ok(scanned)
    }

    /// Takes a record, the log's or a backup's.
    pub fn take(&mut self, record: &CommitRecord<'_>) -> Result<(), StoreError> {
        let sequence = record.commit.sequence;
        self.logged = self.logged.max(sequence);
        self.highest = self.highest.max(sequence);
        // Orders in place too: should the newest control block have rotted, the image of the one before lacks them.
        let orders = record.orders().filter(|_| !mutant::is(Mutant::OrderNotReplayed));
        orders.for_each(|order| self.take_order(order));
        if sequence <= self.in_place {
            return Ok(());
        }
        self.records += 1;
        for change in record.changes() {
            let newest = self.coins.entry(change.coin).or_insert((0, change.to));
            if newest.0 == sequence && newest.1 != change.to {
                return Err(StoreError::Contradiction { coin: change.coin, sequence });
            }
            if newest.0 < sequence || mutant::is(Mutant::ReplayNotOrdered) {
                *newest = (sequence, change.to);
            }
        }
        Ok(())
    }

    /// Takes an order, unless it has a newer one of the same AN.
    pub fn take_order(&mut self, order: Order) {
        self.highest = self.highest.max(order.sequence);
        let newest = self.orders.entry(order.an).or_insert(order);
        if newest.sequence < order.sequence {
            *newest = order;
        }
    }

    /// The coins that the logs have newer records of than the pages in their place may have, in order.
    pub fn coins(&self) -> Vec<CoinId> {
        let mut coins: Vec<CoinId> = self.coins.keys().copied().collect();
        coins.sort_unstable();
        coins
    }

    /// The newest record of a coin in the logs, with its sequence.
    pub fn record(&self, coin: CoinId) -> Option<(u64, CoinRecord)> {
        self.coins.get(&coin).copied()
    }

    /// Brings coins of [`Replay::coins`] to their page in memory, whose sequence was `before`; returns the new one.
    pub fn bring(&self, coins: &[CoinId], frame: &mut PageFrame, before: u64) -> u64 {
        coins.iter().fold(before, |newest, coin| {
            let (sequence, record) = self.coins[coin];
            frame.set_record(coin.slot(), record);
            newest.max(sequence)
        })
    }

    /// Brings the coins to their pages, through log 0's double-write area; notes the pages as used.
    pub fn write_pages(&self, storage: &dyn Storage, used: &mut UsedPages) -> Result<(), StoreError> {
        let coins = self.coins();
        let of_pages: Vec<&[CoinId]> = coins.chunk_by(|a, b| a.page() == b.page()).collect();
        let pages: Vec<PageNumber> = of_pages.iter().map(|coins| coins[0].page()).collect();
        let mut of_pages = of_pages.into_iter();
        let mut writer = PageWriter::new(storage, 0);
        change_pages(storage, &pages, used, &mut writer, &mut |_, frame, before| {
            self.bring(of_pages.next().expect("the coins of each page"), frame, before)
        })?;
        writer.finish()?;
        pages.into_iter().for_each(|page| used.insert(page));
        Ok(())
    }
}

/// The orders of an image, `None` where it is not whole or not of its generation.
fn read_image(storage: &dyn Storage, writer: u8, image: OrdersImage) -> Result<Option<Vec<Order>>, StoreError> {
    let whole = read_slot(storage, writer, image.slot)?;
    Ok(whole.filter(|(generation, _)| *generation == image.generation).map(|(_, orders)| orders))
}

/// Generation and orders of the image in a slot, `None` where none is whole.
pub fn read_slot(storage: &dyn Storage, writer: u8, slot: u8) -> Result<Option<(u64, Vec<Order>)>, StoreError> {
    let path = files::orders(writer, slot);
    let length = storage.length(&path)?.unwrap_or(0) as usize;
    let mut bytes = AlignedBytes::zeroed(length);
    storage.read_what_is_there(&path, 0, &mut bytes[..length])?;
    Ok(decode_image(&bytes[..length]))
}
