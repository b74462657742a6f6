//! What one core owns, as a state machine: [`Shard::step`] takes what happened and says what to do.
//!
//! # A request's way through these files
//! [`front`] (header, key, seal) → [`transaction`] (plan, lock, decide, commit) → [`owner`] (lock, load, check; apply)
//! → [`transaction`] (answer) → [`front`] (reply). Between coordinator and owner there are only [`message`]s, even where
//! both are this shard; [`checkpoint`] brings to its place what transactions left in memory, [`archive`] keeps the log,
//! [`backup`] lets it be copied.
//!
//! # Invariants
//! * A coin's record, and every view of it, changes in [`owner`] alone, and only after its commit record is durable.
//! * Nothing waits but for a lock, a page, the log or the disk; each of these comes without anybody giving way.

pub mod acts;
mod archive;
pub mod backup;
pub mod checkpoint;
pub mod coin_lists;
pub mod counters;
pub mod free_map;
mod front;
pub mod interface;
pub mod keyed_hash;
pub mod lockers;
pub mod locks;
pub mod market;
pub mod message;
pub mod number_table;
pub mod numbers;
pub mod ordered;
mod owner;
pub mod pages;
pub mod partition;
pub mod rate_limit;
mod refusals;
pub mod reservations;
pub mod slots;
pub mod start;
pub mod suspensions;
mod task;
mod transaction;
pub mod views;
mod words;

use std::collections::VecDeque;

use slab::Slab;

use crate::entropy::Entropy;
use crate::mutant::{self, Mutant};
use crate::settings::Settings;
use crate::store::wal::{Change, Log, LogWrite, Ticket};
use crate::wire::header::NodeIdentity;

use acts::AwaitsCheckpoint;
use archive::Archive;
use checkpoint::Checkpoint;
use counters::Counters;
use free_map::FreeMap;
use interface::{DiskDone, DiskOp, Input, Now, Outputs, ShardFile, ShardId};
use lockers::Lockers;
use locks::{Locks, VisitSlot};
use market::Market;
use message::{Message, Visit};
use pages::Pages;
use rate_limit::RateLimit;
use refusals::Refusals;
use reservations::Reservations;
use suspensions::Suspensions;
use task::Task;

/// How long a log is at rest before it is marked.
const MARK_AFTER_US: u64 = 50_000;

/// What a step may use and add to.
pub(crate) struct Effects<'a> {
    out: &'a mut Outputs,
    entropy: &'a mut dyn Entropy,
}

/// One shard of the node.
pub struct Shard {
    id: ShardId,
    settings: Settings,
    identity: NodeIdentity,
    /// The logical clock: at least the highest sequence this shard has heard of.
    clock: u64,

    // As owner and home.
    pub(crate) pages: Pages,
    pub(crate) free_map: FreeMap,
    pub(crate) lockers: Lockers,
    pub(crate) market: Market,
    pub(crate) reservations: Reservations,
    rate_limit: RateLimit,
    refusals: Refusals,
    pub(crate) locks: Locks,
    suspensions: Suspensions,
    pub(crate) visits: Slab<Option<Box<Visit>>>,
    /// Visits that wait for no lock, to be carried on.
    granted: VecDeque<VisitSlot>,
    /// Visits whose page came, until they are carried on.
    woken: Vec<VisitSlot>,

    // As coordinator.
    tasks: Slab<Option<Box<Task>>>,
    pub(crate) coins_in_flight: usize,
    /// Coins that answers to questions name, but for the few that each may.
    pub(crate) coins_named: usize,
    committing: VecDeque<(Ticket, u32)>,
    waiting_for_log: VecDeque<u32>,
    /// Room in the log may have come for them.
    log_has_room: bool,
    #[expect(clippy::vec_box, reason = "the boxes are what is used again")]
    spare_tasks: Vec<Box<Task>>,
    #[expect(clippy::vec_box, reason = "the boxes are what is used again")]
    spare_visits: Vec<Box<Visit>>,
    /// Messages to itself.
    local: VecDeque<Message>,

    // On disk.
    log: Log,
    /// When the log is marked, if it is at rest until then.
    mark_at_us: Option<u64>,
    /// The changes of the record being made.
    written: Vec<Change>,
    checkpoint: Checkpoint,
    archive: Archive,
    /// Acts of the operator that wait for one.
    await_checkpoint: Vec<AwaitsCheckpoint>,
    /// The disk failed: nothing is written any more.
    failed: bool,
    stopping: bool,

    /// Reads of pages that failed or brought a damaged page.
    bad_pages: u64,
    /// What it answered, for whoever looks after the node.
    pub counters: Counters,
}

impl Shard {
    /// Takes one input; adds what follows from it to `out`.
    pub fn step(&mut self, now: Now, entropy: &mut dyn Entropy, input: Input<'_>, out: &mut Outputs) {
        let effects = &mut Effects { out, entropy };
        match input {
            Input::Request { origin, frame } => self.request(origin, frame, now, effects),
            Input::Message { message, .. } => self.hear(message, now, effects),
            Input::Disk(done) => self.disk_done(done, now, effects),
            Input::Turn => self.turn(now, effects),
            Input::Shutdown => self.stopping = true,
            Input::Act { token, act } => self.act(token, act, effects),
        }
        self.run(now, effects);
    }

    /// Carries on whatever waits for nothing.
    fn run(&mut self, now: Now, effects: &mut Effects<'_>) {
        loop {
            self.advance_granted(now, effects);
            match self.local.pop_front() {
                Some(message) => self.hear(message, now, effects),
                None if self.granted.is_empty() => return,
                None => {}
            }
        }
    }

    fn hear(&mut self, message: Message, now: Now, effects: &mut Effects<'_>) {
        match message {
            Message::Visit(visit) => self.visited(visit),
            Message::Apply(visit) => self.apply(visit),
            Message::Release(visit) => self.release(visit),
            Message::Done(visit) => self.done(visit, now, effects),
            Message::CheckpointWanted { clock, stopping } => self.checkpoint_wanted(clock, stopping, effects),
            Message::Flush { sequence } => self.flush(sequence, effects),
            Message::Flushed => self.flushed(effects),
            Message::Checkpointed { sequence, last } => self.checkpointed(sequence, last, effects),
            Message::Failed => self.fail(effects),
        }
    }

    fn disk_done(&mut self, done: DiskDone, now: Now, effects: &mut Effects<'_>) {
        let DiskDone { op, result } = done;
        match op {
            DiskOp::ReadPage { page, frame } => {
                if let Err(error) = &result {
                    log::error!(shard = self.id.0; "page {} is not readable: error {}", page.get(), error.errno);
                }
                let used = self.checkpoint.has_used(page);
                let whole = self.pages.loaded(page, frame, result.is_ok(), used, &mut self.woken);
                if !whole && result.is_ok() {
                    let (den, number) = (page.denomination(), page.in_denomination());
                    log::error!(shard = self.id.0; "page {number} of denomination {den} is damaged and not served");
                }
                self.bad_pages += u64::from(!whole);
                self.woken((!whole).then_some(page));
            }
            DiskOp::Archive(full) => self.segment_archived(&full, result, now, effects),
            op if let Err(error) = result
                && !mutant::is(Mutant::FailedWriteTaken) =>
            {
                let (file, cause) = (op.path(self.id), std::io::Error::from_raw_os_error(error.errno));
                log::error!(shard = self.id.0; "cannot write {file}: {cause}: nothing is written any more");
                self.fail(effects);
            }
            DiskOp::Write { file: ShardFile::Log(segment), offset, bytes, .. } => {
                self.log.written(segment, offset, bytes);
                self.apply_durable(now, effects);
                self.wake_waiting_for_log();
            }
            op => self.checkpoint_write_done(op, effects),
        }
    }

    /// The end of a turn: batches are closed.
    fn turn(&mut self, now: Now, effects: &mut Effects<'_>) {
        self.mind_archive(now);
        self.retry_waiting_for_log(now, effects);
        self.run(now, effects);
        self.write_log(now, effects);
        self.work_on_archive(now, effects);
        self.mind_kept_log();
        if self.log.needs_checkpoint() {
            self.want_checkpoint(effects);
        }
        self.work_on_checkpoint(effects);
        if self.pages.is_over() {
            self.pages.shrink();
        }
        if self.stopping {
            self.work_on_stop(effects);
        }
    }

    fn write_log(&mut self, now: Now, effects: &mut Effects<'_>) {
        if self.failed {
            return;
        }
        while let Some(write) = self.log.next_write() {
            self.write_batch(write, effects);
        }
        self.mark_log(now, effects);
    }

    /// Marks a log that has been at rest for a while, once. The last checkpoint of a stop does without.
    fn mark_log(&mut self, now: Now, effects: &mut Effects<'_>) {
        if self.stopping || !self.log.wants_mark() {
            self.mark_at_us = None;
            return;
        }
        let mark_at_us = *self.mark_at_us.get_or_insert(now.monotonic_us + MARK_AFTER_US);
        if now.monotonic_us >= mark_at_us {
            self.mark_at_us = None;
            let mark = self.log.mark();
            self.write_batch(mark, effects);
        }
    }

    fn write_batch(&mut self, write: LogWrite, effects: &mut Effects<'_>) {
        let LogWrite { segment, offset, bytes, length } = write;
        effects.out.disk.push(DiskOp::Write { file: ShardFile::Log(segment), offset, bytes, length });
    }

    /// Room in the log may have come: the tasks that wait for it ask again, in their order, at the end of the turn.
    fn wake_waiting_for_log(&mut self) {
        self.log_has_room = true;
    }

    fn retry_waiting_for_log(&mut self, now: Now, effects: &mut Effects<'_>) {
        if !std::mem::take(&mut self.log_has_room) && !self.failed {
            return;
        }
        for _ in 0..self.waiting_for_log.len() {
            let Some(slot) = self.waiting_for_log.pop_front() else { return };
            let waiting = self.waiting_for_log.len();
            self.with_task(slot, |shard, task| shard.lock_coins(slot, task, now, effects));
            if self.waiting_for_log.len() > waiting {
                // No room yet: it keeps its place.
                self.waiting_for_log.rotate_right(1);
                return;
            }
        }
    }

    /// Sends a message, to itself too.
    fn send(&mut self, to: ShardId, message: Message, effects: &mut Effects<'_>) {
        if to == self.id {
            self.local.push_back(message);
        } else {
            effects.out.messages.push((to, message));
        }
    }

    /// Sends every shard, itself too, a message.
    fn broadcast(&mut self, message: impl Fn() -> Message, effects: &mut Effects<'_>) {
        for shard in 0..self.settings.shards {
            self.send(ShardId(shard), message(), effects);
        }
    }

    /// The disk failed a write, here or elsewhere: nobody knows what of it is on disk. Nothing is written any more;
    /// commands whose record was on its way stay unanswered, as only the next start can tell what became of them.
    fn fail(&mut self, effects: &mut Effects<'_>) {
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        self.mark_at_us = None;
        self.archive.give_up();
        self.broadcast(|| Message::Failed, effects);
        for (_, slot) in std::mem::take(&mut self.committing) {
            let task = self.tasks.remove(slot as usize).expect("a task that waits for its record");
            self.leave_unanswered(&task, effects);
        }
        self.give_up_waiting();
        self.wake_starved();
        self.give_up_acts(effects);
    }

    /// Keeps a visit's memory for the next.
    fn recycle(&mut self, mut visit: Box<Visit>) {
        visit.clear();
        if self.spare_visits.len() < self.settings.requests_max {
            self.spare_visits.push(visit);
        }
    }

    /// Whether another request finds room. Where not, TCP connections are not read; a datagram gets a status.
    pub fn has_room(&self) -> bool {
        self.tasks.len() < self.settings.requests_max
    }

    /// Until when the driver may sleep, on [`Now::monotonic_us`]'s clock; `None`: until something happens.
    pub fn wake_at_us(&self) -> Option<u64> {
        // Whatever else a shard waits for comes as an input.
        self.mark_at_us.into_iter().chain(self.archive.wake_at_us()).min()
    }

    /// Whether everything is on disk and nothing is left to do, after [`Input::Shutdown`].
    pub fn stopped(&self) -> bool {
        self.checkpoint.is_last_done() || (self.stopping && self.failed)
    }

    /// Begins with what is suspended, before it serves.
    pub fn begin_suspended(&mut self, suspensions: Suspensions) {
        self.suspensions = suspensions;
    }

    /// Whether no request is in flight.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// A turn of its driver took so many microseconds, the time of its sleep aside.
    pub fn turn_took(&mut self, micros: u64) {
        self.counters.turn_took(micros);
    }

    /// Whether the disk failed and nothing is written any more.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Coins of this shard in circulation.
    pub fn coins(&self) -> u64 {
        crate::coin::Denomination::all().map(|den| u64::from(self.free_map.in_circulation(den))).sum()
    }

    /// Lockers this shard is home of.
    pub fn lockers(&self) -> u64 {
        self.lockers.lockers() as u64
    }

    /// Numbers of the page cache.
    pub fn cache(&self) -> pages::CacheCounters {
        self.pages.counters
    }
}
