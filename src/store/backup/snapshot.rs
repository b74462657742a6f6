//! Fills a backup from a data directory, at rest or in use.
//!
//! # From a node in use
//! 1. Every shard keeps its log from now on and says what is in place ([`Kept`]): [`Snapshot::begin`].
//! 2. The pages are copied, one after the other: [`Snapshot::pages`].
//! 3. A sequence is chosen that is at least every shard's clock and the highest in the pages ([`Snapshot::highest`]).
//! 4. Every shard's clock is raised to it, so what it commits from then on is above it, and it says where its log is
//!    ([`Cut`]). When that is durable, the records up to the sequence are taken: [`Snapshot::records`].
//! 5. The shards let their logs go.
//!
//! What a log had recycled by the first step was in place before the first page was read; what it had not, it still has
//! in the fourth. Whoever was answered before the third step has his command in the backup.

use std::io::{self, Write};

use super::writer::BackupWriter;
use super::{End, Header, Whose};
use crate::coin::PAGES;
use crate::store::control::UsedPages;
use crate::store::error::StoreError;
use crate::store::orders::Order;
use crate::store::pages::{PAGE_GROUPS, copy_pages};
use crate::store::recovery::Opened;
use crate::store::storage::Storage;
use crate::store::suspended::Suspended;
use crate::store::wal::{Source, scan_up_to};

/// What a shard has in place at the moment from which on it keeps its log.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Every commit up to this sequence, of all shards, is in place.
    pub in_place: u64,
    /// The pages that it knows as used.
    pub used: UsedPages,
    /// The orders at home with it.
    pub orders: Vec<Order>,
}

/// Where a shard's log is at the backup's sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The log, from what is not known to be in place.
    pub source: Source,
    /// The batch with the last record up to the sequence.
    pub last_batch: u64,
}

/// A backup being filled.
pub struct Snapshot<W: Write> {
    writer: BackupWriter<W>,
    in_place: u64,
    used: UsedPages,
    orders: Vec<Order>,
}

impl<W: Write> Snapshot<W> {
    /// Begins a backup that goes to `out`, from what all shards keep.
    ///
    /// # Errors
    /// [`StoreError::Io`] where `out` fails, here and below.
    ///
    /// # Panics
    /// Without a shard.
    pub fn begin(out: W, whose: Option<Whose>, unix_ms: u64, kept: Vec<Kept>) -> Result<Self, StoreError> {
        let in_place = kept.iter().map(|kept| kept.in_place).max().expect("at least one shard");
        let writer = BackupWriter::new(out, &Header { whose, unix_ms, in_place }).map_err(out_error)?;
        let mut used = UsedPages::none();
        kept.iter().for_each(|kept| used.add(&kept.used));
        let orders = kept.into_iter().flat_map(|kept| kept.orders).collect();
        Ok(Self { writer, in_place, used, orders })
    }

    /// Copies the pages of a group, of 0..[`PAGE_GROUPS`], one after the other; returns
    /// how many bytes they are.
    ///
    /// # Errors
    /// [`StoreError::DamagedPage`], [`StoreError::LostPage`], [`StoreError::Io`].
    pub fn pages(&mut self, storage: &dyn Storage, group: u16) -> Result<u64, StoreError> {
        let writer = &mut self.writer;
        let mut copied = 0;
        copy_pages(storage, &self.used, group, &mut |page, bytes| {
            copied += bytes.len() as u64;
            writer.page(page, bytes).map_err(out_error)
        })?;
        Ok(copied)
    }

    /// The highest sequence of anything copied so far.
    pub fn highest(&self) -> u64 {
        let orders = self.orders.iter().map(|order| order.sequence);
        orders.fold(self.writer.highest(), u64::max)
    }

    /// Takes from a log the records up to `sequence` that the pages may lack. After all pages.
    ///
    /// # Errors
    /// [`StoreError::LostBatch`], [`StoreError::DamagedFile`], [`StoreError::Io`].
    pub fn records(&mut self, storage: &dyn Storage, cut: &Cut, sequence: u64) -> Result<(), StoreError> {
        self.add_orders()?;
        let wanted = self.in_place + 1..=sequence;
        let writer = &mut self.writer;
        scan_up_to(storage, &cut.source, cut.last_batch, &mut |record| match wanted.contains(&record.commit.sequence) {
            true => writer.record(record).map_err(out_error),
            false => Ok(()),
        })
    }

    /// Ends the backup, with what is suspended now; returns what is in it, and where it went.
    ///
    /// # Errors
    /// [`StoreError::DamagedFile`], [`StoreError::Io`].
    pub fn finish(mut self, storage: &dyn Storage, sequence: u64) -> Result<(End, W), StoreError> {
        self.add_orders()?;
        if let Some(suspended) = Suspended::load(storage)? {
            self.writer.suspended(&suspended).map_err(out_error)?;
        }
        self.writer.finish(sequence).map_err(out_error)
    }

    /// Orders come between pages and records.
    fn add_orders(&mut self) -> Result<(), StoreError> {
        let Self { orders, writer, .. } = self;
        orders.drain(..).try_for_each(|order| writer.order(&order)).map_err(out_error)
    }
}

/// Backs up an opened data directory, which no node uses. `progress` is told how much of it is done, and of how much.
///
/// # Errors
/// What is damaged, by name; [`StoreError::Io`].
pub fn back_up_at_rest<W: Write>(
    storage: &dyn Storage,
    opened: &Opened,
    out: W,
    unix_ms: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(End, W), StoreError> {
    let kept = Kept { in_place: opened.sequence, used: opened.used.clone(), orders: opened.orders.clone() };
    let mut snapshot = Snapshot::begin(out, None, unix_ms, vec![kept])?;
    for group in 0..PAGE_GROUPS {
        snapshot.pages(storage, group)?;
        progress(pages_done(group), u64::from(PAGES));
    }
    snapshot.finish(storage, opened.sequence)
}

/// How many pages are done when those of `group` are.
fn pages_done(group: u16) -> u64 {
    u64::from(group + 1) * u64::from(PAGES) / u64::from(PAGE_GROUPS)
}

/// The backup cannot be written.
fn out_error(error: io::Error) -> StoreError {
    StoreError::io("write", "the backup")(error)
}
