//! Bringing to its place on disk what transactions left in the log and in memory, so that the log can be used again.
//!
//! Records of one coin may stand in the logs of several shards, so no shard may forget a record on its own. The first
//! shard leads: it names a sequence S; every shard waits until each transaction that was granted before it heard of S
//! is through (later ones get sequences above S, as their owners' clocks are at S by then), writes its dirty pages to
//! the double-write area, then to their places, notes in its control block which of them it used for the first time,
//! writes its orders, and says so. When all have, every change up to S is in its place, and known to be. Each shard writes S
//! into its control block; only then is a log segment up to S overwritten. Recovery ignores what is not above the highest
//! S it finds: so an old record cannot overwrite what a recycled newer one did.
//!
//! A segment that shall be archived is overwritten only after that, too.
//!
//! The same batches make room in a cache full of dirty pages, with no checkpoint under way.

use crate::coin::PageNumber;
use crate::mutant::{self, Mutant};
use crate::store::control::{Control, OrdersImage, UsedPages};
use crate::store::double_write::{DoubleBatch, PAGES_PER_BATCH};
use crate::store::layout::AlignedBytes;
use crate::store::orders::{self, Order};
use crate::store::wal::{LogTail, Source};

use super::interface::{DiskOp, ShardFile, ShardId};
use super::message::Message;
use super::{Effects, Shard};

/// The shard that leads checkpoints.
pub(super) const LEADER: ShardId = ShardId(0);

/// What this shard does about a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Idle,
    /// Transactions granted before it are under way.
    Settling,
    /// Pages that were dirty then are written to their places.
    Pages,
    /// The pages used for the first time are noted in the control block: once another shard's says S, nobody looks for them
    /// in the logs. Before the orders, so that one of the two blocks still names the image before.
    Noting,
    /// The orders are written.
    Orders,
}

/// The leader's notes.
#[derive(Debug, Default)]
struct Lead {
    /// Shards that have not yet said that they are done with the checkpoint under way.
    awaited: usize,
    sequence: u64,
    /// Another is wanted.
    wanted: bool,
    /// Shards that have answered their last request.
    stopping: usize,
    last: bool,
}

/// What a shard's checkpoints have done since its start.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct CheckpointCounters {
    /// Checkpoints whose control block is on disk.
    pub finished: u64,
    /// Pages brought to their places, those that only make room too.
    pub pages_written: u64,
}

/// A shard's checkpoints.
pub(super) struct Checkpoint {
    pub(super) counters: CheckpointCounters,
    stage: Stage,
    /// Transactions granted and not yet through, by the parity of the phase they were granted in.
    granted: [usize; 2],
    phase: u64,
    /// Pages the checkpoint still has to write.
    pages: Vec<PageNumber>,
    /// Empty; the memory of the pages that make room.
    dirty: Vec<PageNumber>,
    /// The batch under way: its pages, with how many changes each copy has.
    batch: Vec<(PageNumber, u32)>,
    /// Its pages again, while the double-write area has no use for them.
    double_pages: Vec<PageNumber>,
    /// The batch's memory, while none is under way.
    memory: Option<DoubleBatch>,
    control: Control,
    /// Whether pages were used that the control block on disk does not note.
    has_new_pages: bool,
    /// The orders of the image that counts.
    orders_written: u64,
    /// The image being written, and the orders in it.
    orders_writing: Option<(OrdersImage, u64)>,
    /// The control block being written, and the tail it names.
    control_writing: Option<LogTail>,
    /// What is to be written into the control block when the one under way is done: a sequence, and whether it is the last.
    control_wanted: Option<(u64, bool)>,
    asked: bool,
    lead: Lead,
    last: bool,
    last_done: bool,
}

impl Checkpoint {
    /// Nothing under way, after recovery.
    pub fn new(control: Control, cache_pages: usize, orders_written: u64) -> Self {
        Self {
            counters: CheckpointCounters::default(),
            stage: Stage::Idle,
            granted: [0; 2],
            phase: 0,
            pages: Vec::new(),
            dirty: Vec::new(),
            batch: Vec::with_capacity(PAGES_PER_BATCH),
            double_pages: Vec::new(),
            memory: Some(DoubleBatch::with_capacity(cache_pages.div_ceil(2).min(PAGES_PER_BATCH))),
            control,
            has_new_pages: false,
            orders_written,
            orders_writing: None,
            control_writing: None,
            control_wanted: None,
            asked: false,
            lead: Lead::default(),
            last: false,
            last_done: false,
        }
    }

    /// A transaction was granted its locks; returns the phase to settle it in.
    pub fn granted(&mut self) -> u64 {
        self.granted[self.phase as usize % 2] += 1;
        self.phase
    }

    /// A transaction granted in `phase` is through.
    pub fn settled(&mut self, phase: u64) {
        self.granted[phase as usize % 2] -= 1;
    }

    /// Whether a page of this shard was ever written: it does not read as zeros.
    pub fn has_used(&self, page: PageNumber) -> bool {
        self.control.used.contains(page)
    }

    /// Up to which sequence everything is in place, on every shard, and the pages that are known as used.
    pub fn in_place(&self) -> (u64, &UsedPages) {
        (self.control.sequence, &self.control.used)
    }

    /// This shard's log as a control block would name it, if its tail is `tail`; a tail that is being written counts.
    pub fn log_source(&self, tail: LogTail) -> Source {
        let tail = self.control_writing.unwrap_or(tail);
        let Control { writer, epoch, segments, segment_bytes, .. } = self.control;
        Source { writer, epoch, tail, segments, segment_bytes }
    }

    /// Whether the last checkpoint, of a shutdown, is done.
    pub fn is_last_done(&self) -> bool {
        self.last_done
    }
}

impl Shard {
    // ---- the leader

    /// Asks the leader for a checkpoint, once.
    pub(super) fn want_checkpoint(&mut self, effects: &mut Effects<'_>) {
        if !std::mem::replace(&mut self.checkpoint.asked, true) {
            self.send(LEADER, Message::CheckpointWanted { clock: self.clock, stopping: false }, effects);
        }
    }

    /// Every request is answered: the leader hears of it once.
    pub(super) fn work_on_stop(&mut self, effects: &mut Effects<'_>) {
        if self.tasks.is_empty() && !std::mem::replace(&mut self.checkpoint.last, true) {
            self.send(LEADER, Message::CheckpointWanted { clock: self.clock, stopping: true }, effects);
        }
    }

    pub(super) fn checkpoint_wanted(&mut self, clock: u64, stopping: bool, effects: &mut Effects<'_>) {
        self.clock = self.clock.max(clock);
        self.checkpoint.lead.wanted = true;
        self.checkpoint.lead.stopping += usize::from(stopping);
        self.lead_checkpoint(effects);
    }

    fn lead_checkpoint(&mut self, effects: &mut Effects<'_>) {
        let shards = self.settings.shards as usize;
        let lead = &mut self.checkpoint.lead;
        if lead.awaited == 0 && std::mem::take(&mut lead.wanted) {
            lead.awaited = shards;
            lead.sequence = self.clock;
            lead.last = lead.stopping == shards;
            let sequence = lead.sequence;
            self.broadcast(|| Message::Flush { sequence }, effects);
        }
    }

    pub(super) fn flushed(&mut self, effects: &mut Effects<'_>) {
        let lead = &mut self.checkpoint.lead;
        lead.awaited -= 1;
        if lead.awaited == 0 {
            let (sequence, last) = (lead.sequence, lead.last);
            self.broadcast(|| Message::Checkpointed { sequence, last }, effects);
            self.lead_checkpoint(effects);
        }
    }

    // ---- every shard

    pub(super) fn flush(&mut self, sequence: u64, effects: &mut Effects<'_>) {
        assert!(self.checkpoint.stage == Stage::Idle, "one checkpoint at a time");
        self.clock = self.clock.max(sequence);
        self.checkpoint.phase += 1;
        self.checkpoint.stage = Stage::Settling;
        self.work_on_checkpoint(effects);
    }

    pub(super) fn checkpointed(&mut self, sequence: u64, last: bool, effects: &mut Effects<'_>) {
        self.checkpoint.asked = false;
        self.checkpoint.control_wanted = Some((sequence, last));
        self.write_control(effects);
    }

    /// Does what can be done now; called at the end of every turn.
    pub(super) fn work_on_checkpoint(&mut self, effects: &mut Effects<'_>) {
        if self.failed {
            return;
        }
        if self.checkpoint.stage == Stage::Settling {
            let before = (self.checkpoint.phase as usize + 1) % 2;
            if self.checkpoint.granted[before] == 0 {
                let pages = &mut self.checkpoint.pages;
                pages.extend(self.pages.dirty_pages());
                // In the order of their places on disk, taken from the end.
                pages.sort_unstable_by(|a, b| b.cmp(a));
                self.checkpoint.stage = Stage::Pages;
            }
        }
        self.write_pages(effects);
        self.release_archived(effects);
        // The control block of the last checkpoint first: recovery knows the image it names and the one after, no third.
        let checkpoint = &mut self.checkpoint;
        let named = checkpoint.control_writing.is_none() && checkpoint.control_wanted.is_none();
        if checkpoint.stage == Stage::Pages && checkpoint.pages.is_empty() && checkpoint.batch.is_empty() && named {
            self.note_pages(effects);
        }
    }

    /// Starts a batch if there is something to write and none is under way.
    fn write_pages(&mut self, effects: &mut Effects<'_>) {
        let wanted = !self.checkpoint.pages.is_empty() || self.pages.is_pressed();
        if !wanted {
            return;
        }
        let Some(mut memory) = self.checkpoint.memory.take() else { return };
        while !memory.is_full() {
            let Some(page) = self.checkpoint.pages.pop() else { break };
            self.add_to_batch(page, &mut memory);
        }
        if memory.is_empty() && self.pages.is_pressed() {
            let mut dirty = std::mem::take(&mut self.checkpoint.dirty);
            dirty.extend(self.pages.dirty_pages().take(PAGES_PER_BATCH));
            for page in dirty.drain(..) {
                if !memory.is_full() {
                    self.add_to_batch(page, &mut memory);
                }
            }
            self.checkpoint.dirty = dirty;
        }
        if memory.is_empty() {
            self.checkpoint.memory = Some(memory);
            return;
        }
        let (bytes, length, pages) = memory.finish();
        if mutant::is(Mutant::DoubleWriteSkipped) {
            return effects.out.disk.push(DiskOp::WritePages { pages, bytes });
        }
        self.checkpoint.double_pages = pages;
        effects.out.disk.push(DiskOp::Write { file: ShardFile::DoubleWrite, offset: 0, bytes, length });
    }

    fn add_to_batch(&mut self, page: PageNumber, memory: &mut DoubleBatch) {
        if let Some((frame, changes)) = self.pages.seal(page) {
            memory.add(page, frame);
            self.checkpoint.batch.push((page, changes));
        }
    }

    /// Notes the pages that were used for the first time, before anybody may rely on their being in place.
    fn note_pages(&mut self, effects: &mut Effects<'_>) {
        if !std::mem::take(&mut self.checkpoint.has_new_pages) || mutant::is(Mutant::PagesNotNoted) {
            return self.write_orders(effects);
        }
        self.checkpoint.stage = Stage::Noting;
        self.put_control(self.checkpoint.control.sequence, self.log.tail(), effects);
    }

    /// Writes the orders, if they have changed since they were last written. At the end in any case: should the image
    /// that counts then rot, the one before and the log are enough to make it again.
    fn write_orders(&mut self, effects: &mut Effects<'_>) {
        self.checkpoint.stage = Stage::Orders;
        let changed = self.market.orders_changed();
        if changed == self.checkpoint.orders_written && !self.checkpoint.last {
            return self.say_flushed(effects);
        }
        let image = self.checkpoint.control.orders.next();
        let mut all = Vec::with_capacity(self.market.len());
        self.market.orders(|an, sequence, address| all.push(Order { an: *an, address: *address, sequence }));
        let bytes = orders::encode_image(image.generation, all.iter());
        let length = bytes.len();
        self.checkpoint.orders_writing = Some((image, changed));
        effects.out.disk.push(DiskOp::Write { file: ShardFile::Orders(image.slot), offset: 0, bytes, length });
    }

    fn say_flushed(&mut self, effects: &mut Effects<'_>) {
        self.checkpoint.stage = Stage::Idle;
        self.send(LEADER, Message::Flushed, effects);
    }

    /// Writes what is wanted into the control block, if none is being written.
    fn write_control(&mut self, effects: &mut Effects<'_>) {
        if self.checkpoint.control_writing.is_some() {
            return;
        }
        let Some((sequence, _)) = self.checkpoint.control_wanted else { return };
        let tail = self.log.recyclable(sequence).unwrap_or(self.log.tail());
        self.put_control(sequence + 8 * u64::from(mutant::is(Mutant::SequenceTooHigh)), tail, effects);
    }

    /// Frees segments that were archived only after the checkpoint that brought them to their place.
    fn release_archived(&mut self, effects: &mut Effects<'_>) {
        let Checkpoint { control, control_writing, control_wanted, last, .. } = &self.checkpoint;
        let may_write = self.settings.archive && !last && control_writing.is_none() && control_wanted.is_none();
        let sequence = control.sequence;
        if may_write && let Some(tail) = self.log.recyclable(sequence) {
            self.put_control(sequence, tail, effects);
        }
    }

    fn put_control(&mut self, sequence: u64, tail: LogTail, effects: &mut Effects<'_>) {
        let checkpoint = &mut self.checkpoint;
        let control = &mut checkpoint.control;
        control.generation += 1;
        control.sequence = control.sequence.max(sequence);
        control.tail = tail;
        checkpoint.control_writing = Some(tail);
        let bytes = control.to_block();
        let (offset, length) = (control.offset(), bytes.len());
        effects.out.disk.push(DiskOp::Write { file: ShardFile::Control, offset, bytes, length });
    }

    /// A write of a checkpoint is durable.
    pub(super) fn checkpoint_write_done(&mut self, op: DiskOp, effects: &mut Effects<'_>) {
        match op {
            DiskOp::Write { file: ShardFile::DoubleWrite, bytes, .. } => {
                let pages = std::mem::take(&mut self.checkpoint.double_pages);
                effects.out.disk.push(DiskOp::WritePages { pages, bytes });
            }
            DiskOp::WritePages { pages, bytes } => self.pages_written(pages, bytes),
            DiskOp::Write { file: ShardFile::Orders(_), .. } => {
                let (image, written) = self.checkpoint.orders_writing.take().expect("an image was being written");
                self.checkpoint.control.orders = image;
                self.checkpoint.orders_written = written;
                self.say_flushed(effects);
            }
            DiskOp::Write { file: ShardFile::Control, .. } => self.control_written(effects),
            op => unreachable!("{op:?} is no write of a checkpoint"),
        }
        self.work_on_checkpoint(effects);
    }

    fn pages_written(&mut self, pages: Vec<PageNumber>, bytes: AlignedBytes) {
        let batch = std::mem::take(&mut self.checkpoint.batch);
        self.checkpoint.counters.pages_written += batch.len() as u64;
        for &(page, changes) in &batch {
            self.pages.written(page, changes, &mut self.woken);
            self.checkpoint.has_new_pages |= !self.checkpoint.control.used.contains(page);
            self.checkpoint.control.used.insert(page);
        }
        self.checkpoint.batch = batch;
        self.checkpoint.batch.clear();
        self.checkpoint.memory = Some(DoubleBatch::reuse(bytes, pages));
        self.woken(None);
    }

    fn control_written(&mut self, effects: &mut Effects<'_>) {
        let tail = self.checkpoint.control_writing.take().expect("a control block was being written");
        self.log.release(&tail);
        self.wake_waiting_for_log();
        let control = &self.checkpoint.control;
        match self.checkpoint.control_wanted {
            Some((sequence, last)) if control.sequence >= sequence => {
                self.checkpoint.control_wanted = None;
                self.checkpoint.counters.finished += 1;
                self.checkpoint.last_done |= last;
                let sequence = control.sequence;
                self.in_place(sequence, effects);
            }
            _ if self.checkpoint.stage == Stage::Noting => self.write_orders(effects),
            _ => self.write_control(effects),
        }
    }
}
