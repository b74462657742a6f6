//! What the logs' directories hold: control blocks, double-write areas, orders, records; and what is wrong there.

use std::collections::HashSet;

use super::derive::{control_from_segments, orders_from_before};
use super::report::{Finding, Repair, Report};
use super::walk::Walked;
use crate::coin::{CoinId, PageNumber};
use crate::store::control::{Control, SLOT_BYTES, UsedPages};
use crate::store::double_write::{AREA_BYTES, batch_pages, decode};
use crate::store::error::StoreError;
use crate::store::files;
use crate::store::layout::{BLOCK_BYTES, PageFrame, PageState};
use crate::store::orders::Order;
use crate::store::recovery::logs::{left_overs, log_numbers, read_slots};
use crate::store::recovery::replay::{Copies, Replay, read_area, read_slot, source};
use crate::store::storage::Storage;
use crate::store::wal::format::BATCH_BYTES_BOUND;
use crate::store::wal::{Scanned, wrong_segments};

/// What the logs' directories hold.
pub struct Survey {
    /// The control block that counts of each log that has one.
    pub controls: Vec<Control>,
    /// Pages ever used, as far as control blocks know.
    pub used: UsedPages,
    /// Whether every log has its control block and all say the same sequence.
    noted: bool,
    /// The control blocks that were lost, from what else is there.
    derived: Vec<Control>,
    copies: Copies,
    replay: Replay,
    /// The coins of `replay`, in order.
    changed: Vec<CoinId>,
    /// Whether a log's next image, which may have counted, is not whole.
    orders_in_doubt: Vec<Finding>,
}

/// Where a page's content comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Its place.
    Place,
    /// It was never used: from the logs alone, if at all.
    Nowhere,
    /// A double-write area: in its place it is damaged.
    Copy,
    /// It was never used before the logs begin: in its place it is damaged, and that does not matter.
    Logs,
    /// Nowhere: in its place it is damaged.
    Damaged,
    /// Nowhere: in its place there are zeros where coins were.
    Lost,
}

impl Survey {
    /// Looks at the logs' directories.
    ///
    /// # Errors
    /// What the storage fails with where it lists names.
    pub fn new(storage: &dyn Storage, findings: &mut Vec<Finding>) -> Result<Self, StoreError> {
        let what = "was left by a process that was stopped";
        for path in left_overs(storage)? {
            findings.push(Finding::of_file(&path, storage.length(&path)?, what, Some(Repair::Recovery)));
        }
        let mut slots = look_at_controls(storage, findings)?;
        let derived = derive_controls(storage, &mut slots, findings)?;
        let controls: Vec<Control> = slots.iter().filter_map(|slots| Control::newest(slots.clone())).collect();
        let in_place = controls.iter().map(|control| control.sequence).max().unwrap_or(0);
        let mut used = UsedPages::none();
        controls.iter().for_each(|control| used.add(&control.used));
        let mut survey = Self {
            noted: controls.len() == slots.len() && controls.iter().all(|control| control.sequence == in_place),
            derived,
            used,
            copies: Copies::default(),
            replay: Replay::new(in_place),
            changed: Vec::new(),
            orders_in_doubt: Vec::new(),
            controls,
        };
        log_numbers(storage)?.into_iter().try_for_each(|log| survey.look_at_area(storage, log, findings))?;
        let mut next_batches = Vec::new();
        for control in survey.controls.clone() {
            next_batches.push(survey.read_log(storage, &control, findings)?);
        }
        for control in survey.controls.clone() {
            survey.look_at_images(storage, &control, (&slots, &next_batches), findings)?;
        }
        survey.changed = survey.replay.coins();
        Ok(survey)
    }

    fn look_at_area(&mut self, storage: &dyn Storage, log: u8, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
        let path = files::double_write(log);
        let length = storage.length(&path)?;
        let area = match read_area(storage, log) {
            Ok(area) => area,
            Err(error) => {
                let what = format!("cannot be read: {error}");
                findings.push(Finding::of_file(&path, length, what, Some(Repair::Size(AREA_BYTES as u64))));
                return Ok(());
            }
        };
        self.copies.take(&area);
        let empty = area[..BLOCK_BYTES].iter().all(|&byte| byte == 0);
        let torn = !empty && batch_pages(&area) != Some(decode(&area).len());
        let mut found = |what| findings.push(Finding::of_file(&path, length, what, Some(Repair::Recovery)));
        if length != Some(AREA_BYTES as u64) {
            found("is missing or of another size");
        } else if torn {
            found("holds a batch that is torn or damaged");
        }
        Ok(())
    }

    /// Takes a log's records; returns the number of the first batch that is not there, `None` where that may have been
    /// lost.
    fn read_log(
        &mut self,
        storage: &dyn Storage,
        control: &Control,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<u64>, StoreError> {
        let wrong = wrong_segments(storage, &source(control))?;
        let wrong = wrong.into_iter().map(|(slot, length)| (files::segment(control.writer, slot), length));
        findings.extend(wrong.map(|(path, length)| Finding::of_wrong_size(&path, length, control.segment_bytes)));
        let log = files::log(control.writer);
        let mut found = |what: String| findings.push(Finding::of_file(&log, None, what, None));
        match self.replay.read_log(storage, control) {
            Err(error) => {
                found(format!("cannot be read to its end: {error}"));
                Ok(None)
            }
            Ok(scanned) if scanned.is_cut_off => {
                let batch = scanned.next_batch;
                found(format!("ends where a segment ends too early: batch {batch} and later may be lost"));
                Ok(None)
            }
            Ok(Scanned { next_batch, lost: Some(lost), .. }) => {
                let what = format!("lost batch {next_batch} at offset {}, but all it said is in place", lost.offset);
                findings.push(Finding {
                    path: files::segment(control.writer, lost.segment),
                    offset: lost.offset,
                    length: BATCH_BYTES_BOUND,
                    what,
                    repair: Some(Repair::Recovery),
                });
                Ok(None)
            }
            Ok(scanned) => Ok(Some(scanned.next_batch)),
        }
    }

    /// Takes a log's orders.
    fn look_at_images(
        &mut self,
        storage: &dyn Storage,
        control: &Control,
        (slots, next_batches): (&[[Option<Control>; 2]], &[Option<u64>]),
        findings: &mut Vec<Finding>,
    ) -> Result<(), StoreError> {
        let shard = control.writer;
        let [named, next] = [control.orders, control.orders.next()];
        let whole = |slot| read_slot(storage, shard, slot).ok().flatten().map(|(generation, _)| generation);
        let found = |slot: u8, what: &str, repair| -> Result<Finding, StoreError> {
            let path = files::orders(shard, slot);
            Ok(Finding::of_file(&path, storage.length(&path)?, what, repair))
        };
        let is_next_whole = whole(next.slot) == Some(next.generation);
        if whole(named.slot) == Some(named.generation) {
            let empty = storage.length(&files::orders(shard, next.slot))? == Some(0);
            let first = named.generation == 1;
            if whole(next.slot).is_none() && !(empty && first) {
                let repair = Some(Repair::Recovery);
                let finding = found(next.slot, "is torn or damaged; the other image counts", repair)?;
                if self.settled() { findings.push(finding) } else { self.orders_in_doubt.push(finding) }
            }
        } else if whole(named.slot).is_none() || !is_next_whole {
            let what = "is damaged: payout addresses of trade lockers";
            let derived = is_next_whole || self.take_orders_from_before(storage, shard, slots, next_batches);
            findings.push(match derived {
                true => found(
                    named.slot,
                    &format!("{what}; the other image and the logs have all"),
                    Some(Repair::Orders { shard }),
                )?,
                false => found(named.slot, &format!("{what} may be lost"), None)?,
            });
        }
        // Nothing where neither is whole: that was said.
        let _ = self.replay.read_images(storage, control);
        Ok(())
    }

    fn take_orders_from_before(
        &mut self,
        storage: &dyn Storage,
        shard: u8,
        slots: &[[Option<Control>; 2]],
        next_batches: &[Option<u64>],
    ) -> bool {
        let orders = orders_from_before(storage, shard, slots, next_batches);
        orders.iter().flatten().for_each(|order| self.replay.take_order(*order));
        orders.is_some()
    }

    /// Brings a page that `frame` has as it is in its place to what the next start would make of it. Says where it is
    /// from and its sequence then; `frame` means nothing where it is lost.
    pub fn bring(&self, page: PageNumber, state: PageState, frame: &mut PageFrame) -> (Origin, u64) {
        let copy = self.copies.get(page);
        let origin = match (state, copy) {
            (PageState::Used(_), _) => Origin::Place,
            (PageState::NeverUsed, _) if !self.used.contains(page) => Origin::Nowhere,
            (_, Some(_)) => Origin::Copy,
            (PageState::NeverUsed, None) => Origin::Lost,
            (PageState::Damaged, None) if self.settled() && !self.used.contains(page) => Origin::Logs,
            (PageState::Damaged, None) => Origin::Damaged,
        };
        let state = match (origin, copy) {
            (Origin::Copy, Some(copy)) => {
                frame.bytes_mut().copy_from_slice(copy);
                frame.state(page)
            }
            (Origin::Logs, _) => {
                frame.bytes_mut().fill(0);
                PageState::NeverUsed
            }
            _ => state,
        };
        let before = match state {
            PageState::Used(sequence) => sequence,
            _ => 0,
        };
        (origin, self.replay.bring(self.changed_on(page), frame, before))
    }

    /// The coins of a page that the logs have newer records of than its place may have, in order.
    pub fn changed_on(&self, page: PageNumber) -> &[CoinId] {
        let first = self.changed.partition_point(|coin| coin.page() < page);
        let end = self.changed.partition_point(|coin| coin.page() <= page);
        &self.changed[first..end]
    }

    /// Whether every page that a commit up to the control blocks' sequence changed is in `used`.
    fn settled(&self) -> bool {
        self.noted && self.derived.is_empty()
    }

    /// Whether neither control blocks nor logs ever heard of a page.
    pub fn knows_nothing_of(&self, page: PageNumber) -> bool {
        !self.used.contains(page) && self.changed_on(page).is_empty()
    }

    /// The sequence of the newest record of a coin that the logs have and its page in its place may not have.
    pub fn logged_change(&self, coin: CoinId) -> Option<u64> {
        self.replay.record(coin).map(|(sequence, _)| sequence)
    }

    /// Whether a page in its place, whole with coins in it up to this sequence, can be unknown to the control blocks.
    pub fn may_be_unnoted(&self, page: PageNumber, sequence: u64) -> bool {
        sequence > self.replay.in_place() || !self.knows_nothing_of(page)
    }

    /// The highest sequence that anything may have.
    pub fn logged(&self) -> u64 {
        self.replay.logged()
    }

    /// All orders, in the order of their sequence.
    pub fn orders(&self) -> Vec<Order> {
        self.replay.orders()
    }

    /// What all of it comes to.
    pub fn report(self, walked: Walked, mut findings: Vec<Finding>) -> Report {
        let all_orders = self.orders();
        let newest = all_orders.last().map_or(0, |order| order.sequence);
        if newest > self.logged() {
            let what =
                format!("knows nothing above sequence {}, but an order has {newest}: commands are lost", self.logged());
            findings.push(Finding::of_file(files::LOGS, None, what, None));
        }
        // Without an image that may have counted, trade lockers without payout address may have had one.
        let lost = walked.totals.iter().any(|totals| totals.not_for_sale > 0);
        findings.extend(self.orders_in_doubt.into_iter().map(|finding| match lost {
            true => Finding { what: "is damaged: payout addresses may be lost".to_string(), repair: None, ..finding },
            false => finding,
        }));
        let live: HashSet<_> =
            all_orders.iter().map(|order| order.an).filter(|an| walked.on_sale.contains(an)).collect();
        Report {
            findings,
            totals: walked.totals,
            to_replay: self.replay.records(),
            orders: live.len() as u64,
            dead_orders: (all_orders.len() - live.len()) as u64,
            all_orders,
            derived: self.derived,
        }
    }
}

/// Both slots of every log's control block, and what is wrong with them.
fn look_at_controls(
    storage: &dyn Storage,
    findings: &mut Vec<Finding>,
) -> Result<Vec<[Option<Control>; 2]>, StoreError> {
    let last = log_numbers(storage)?.last().copied().unwrap_or(0);
    let mut all = Vec::new();
    for shard in 0..=last {
        let path = files::control(shard);
        let length = storage.length(&path)?;
        let slots = read_slots(storage, shard).unwrap_or_default();
        match slots.iter().flatten().count() {
            0 => {}
            _ if length != Some(2 * SLOT_BYTES as u64) => {
                findings.push(Finding::of_wrong_size(&path, length, 2 * SLOT_BYTES as u64));
            }
            1 => {
                let what = "has one block that is torn or damaged; the other counts";
                findings.push(Finding::of_file(&path, length, what, Some(Repair::Recovery)));
            }
            _ => {}
        }
        all.push(slots);
    }
    let logs = Control::newest(all[0].clone()).map_or(0, |control| usize::from(control.logs));
    for shard in all.len()..logs {
        let what = "is missing: commands may be lost";
        findings.push(Finding::of_file(&files::log(shard as u8), None, what, None));
        all.push([None, None]);
    }
    Ok(all)
}

/// Puts control blocks from what else is there into the slots of logs that have none; returns them.
fn derive_controls(
    storage: &dyn Storage,
    slots: &mut [[Option<Control>; 2]],
    findings: &mut Vec<Finding>,
) -> Result<Vec<Control>, StoreError> {
    let known: Vec<Control> = slots.iter().filter_map(|slots| Control::newest(slots.clone())).collect();
    let mut derived = Vec::new();
    for (shard, slots) in (0..).zip(slots) {
        let path = files::control(shard);
        let length = storage.length(&path)?;
        let is_missed = storage.list(&files::log(shard))?.is_empty();
        if slots.iter().any(Option::is_some) || is_missed {
            continue;
        }
        let what = if length.is_some() { "is damaged, both of its blocks" } else { "is missing" };
        let control = control_from_segments(storage, shard, &known);
        findings.push(match &control {
            Some(_) => {
                let what = format!("{what}; the segments and the other logs tell what it said");
                Finding::of_file(&path, length, what, Some(Repair::Control { shard }))
            }
            None => {
                let what = format!("{what}: what of the log counts cannot be told");
                Finding::of_file(&path, length, what, None)
            }
        });
        slots[0] = control.clone();
        derived.extend(control);
    }
    Ok(derived)
}
