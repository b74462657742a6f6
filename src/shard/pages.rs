//! The page cache: a configured number of pages, loaded on demand, one loader a page.
//!
//! A page is absent, loading, or present; a present one is clean or dirty. Only clean pages make room (CLOCK); dirty
//! ones are written back by [`checkpoint`](super::checkpoint) first, through the double-write area.
//! Coin records change here only after their commit record is durable, so whatever is in a page may be written back.

use std::collections::VecDeque;

use serde::Serialize;

use crate::coin::PageNumber;
use crate::mutant::{self, Mutant};
use crate::store::layout::{PageFrame, PageState};

use super::interface::DiskOp;
use super::locks::VisitSlot;
use super::partition::PageSlots;

/// A page's place in the cache.
type FrameSlot = u32;
const ABSENT: FrameSlot = FrameSlot::MAX;

struct Cached {
    page: PageNumber,
    /// `None` while the disk has it.
    frame: Option<PageFrame>,
    /// The highest sequence of a change in it.
    sequence: u64,
    /// Changes since it was last in place on disk.
    unwritten: u32,
    /// Looked at since the clock's hand last passed.
    referenced: bool,
    /// Visits that wait for it.
    waiting: Vec<VisitSlot>,
}

/// What came of asking for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// It is present.
    Present,
    /// It is being loaded; the visit is woken when it is there.
    Loading,
    /// Every frame is loading or dirty; the visit is woken when there is room.
    NoRoom,
}

/// What the cache has done, for the operator.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct CacheCounters {
    /// Pages found present.
    pub hits: u64,
    /// Pages loaded.
    pub misses: u64,
    /// Clean pages that made room.
    pub evictions: u64,
}

/// The pages one shard has in memory.
pub struct Pages {
    slots: PageSlots,
    /// Where each of the shard's pages is in `cached`.
    place: Vec<FrameSlot>,
    cached: Vec<Cached>,
    frames_max: usize,
    /// Frames of loads that failed, to be used again.
    spare: Vec<PageFrame>,
    hand: usize,
    starved: VecDeque<VisitSlot>,
    dirty: usize,
    /// Numbers.
    pub counters: CacheCounters,
}

impl Pages {
    /// A cache of `frames_max` pages. Its memory is taken as pages come and kept.
    pub fn new(slots: PageSlots, frames_max: usize) -> Self {
        Self {
            place: vec![ABSENT; slots.len()],
            slots,
            cached: Vec::with_capacity(frames_max),
            frames_max,
            spare: Vec::new(),
            hand: 0,
            starved: VecDeque::new(),
            dirty: 0,
            counters: CacheCounters::default(),
        }
    }

    /// Takes a copy of a page read at start, as long as there is room.
    pub fn warm(&mut self, page: PageNumber, frame: &PageFrame, sequence: u64) {
        if self.cached.len() == self.frames_max {
            return;
        }
        self.place[self.slots.slot(page)] = self.cached.len() as FrameSlot;
        self.cached.push(Cached {
            page,
            frame: Some(frame.clone()),
            sequence,
            unwritten: 0,
            referenced: false,
            waiting: Vec::new(),
        });
    }

    /// A present page, to read.
    pub fn get(&mut self, page: PageNumber) -> Option<&PageFrame> {
        let cached = self.cached.get_mut(self.place[self.slots.slot(page)] as usize)?;
        cached.referenced = true;
        cached.frame.as_ref()
    }

    /// A present page, to look at from outside: the clock does not hear of it.
    pub fn peek(&self, page: PageNumber) -> Option<&PageFrame> {
        self.cached.get(self.place[self.slots.slot(page)] as usize)?.frame.as_ref()
    }

    /// The pages that are present, in the cache's order.
    pub fn present(&self) -> impl Iterator<Item = PageNumber> {
        self.cached.iter().filter(|cached| cached.frame.is_some()).map(|cached| cached.page)
    }

    /// How many pages it has or is loading.
    pub fn len(&self) -> usize {
        self.cached.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.cached.is_empty()
    }

    /// A present page, to change; it is dirty from now on.
    pub fn get_mut(&mut self, page: PageNumber, sequence: u64) -> Option<&mut PageFrame> {
        let cached = self.cached.get_mut(self.place[self.slots.slot(page)] as usize)?;
        let frame = cached.frame.as_mut()?;
        cached.referenced = true;
        cached.sequence = cached.sequence.max(sequence);
        self.dirty += usize::from(cached.unwritten == 0);
        cached.unwritten += 1;
        Some(frame)
    }

    /// Asks for a page on behalf of a visit, and for its load if it is absent.
    pub fn want(&mut self, page: PageNumber, visit: VisitSlot, disk: &mut Vec<DiskOp>) -> Wanted {
        let at = self.place[self.slots.slot(page)];
        if let Some(cached) = self.cached.get_mut(at as usize) {
            if cached.frame.is_some() {
                self.counters.hits += 1;
                return Wanted::Present;
            }
            if !cached.waiting.contains(&visit) {
                cached.waiting.push(visit);
            }
            return Wanted::Loading;
        }
        let Some((at, frame)) = self.room() else {
            if !self.starved.contains(&visit) {
                self.starved.push_back(visit);
            }
            return Wanted::NoRoom;
        };
        self.counters.misses += 1;
        let cached = &mut self.cached[at];
        cached.page = page;
        cached.sequence = 0;
        cached.referenced = true;
        cached.waiting.push(visit);
        self.place[self.slots.slot(page)] = at as FrameSlot;
        disk.push(DiskOp::ReadPage { page, frame });
        Wanted::Loading
    }

    /// A place and a frame for one more page.
    fn room(&mut self) -> Option<(usize, PageFrame)> {
        if self.cached.len() < self.frames_max {
            let page = PageNumber::new(0).expect("a page");
            let frame = self.spare.pop().unwrap_or_else(PageFrame::zeroed);
            self.cached.push(Cached {
                page,
                frame: None,
                sequence: 0,
                unwritten: 0,
                referenced: true,
                waiting: Vec::new(),
            });
            return Some((self.cached.len() - 1, frame));
        }
        // Two rounds: the first takes the mark off every page, the second finds one without.
        for _ in 0..2 * self.cached.len() {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.cached.len();
            let cached = &mut self.cached[at];
            if cached.frame.is_none() || cached.unwritten > 0 || !cached.waiting.is_empty() {
                continue;
            }
            if std::mem::take(&mut cached.referenced) {
                continue;
            }
            self.counters.evictions += 1;
            let frame = cached.frame.take().expect("a present page");
            self.place[self.slots.slot(cached.page)] = ABSENT;
            return Some((at, frame));
        }
        None
    }

    /// Takes a page that the disk brought and adds the visits that waited for it to `woken`.
    /// A page that is not readable or damaged, or was used and reads as zeros, is not taken: `false`, and the visits
    /// hear of it when they ask again.
    pub fn loaded(
        &mut self,
        page: PageNumber,
        frame: PageFrame,
        readable: bool,
        used: bool,
        woken: &mut Vec<VisitSlot>,
    ) -> bool {
        let at = self.place[self.slots.slot(page)] as usize;
        let cached = &mut self.cached[at];
        assert!(cached.page == page && cached.frame.is_none(), "a page is loaded once");
        woken.append(&mut cached.waiting);
        let whole = match frame.state(page) {
            PageState::Used(sequence) => {
                cached.sequence = sequence;
                readable
            }
            PageState::NeverUsed => readable && !used,
            PageState::Damaged => mutant::is(Mutant::DamageServed),
        };
        if whole {
            cached.frame = Some(frame);
        } else {
            self.forget(at, frame);
        }
        self.wake_starved(woken);
        whole
    }

    /// Takes a page that could not be loaded out of the cache.
    fn forget(&mut self, at: usize, frame: PageFrame) {
        self.spare.push(frame);
        let gone = self.cached.swap_remove(at);
        self.place[self.slots.slot(gone.page)] = ABSENT;
        if let Some(moved) = self.cached.get(at) {
            self.place[self.slots.slot(moved.page)] = at as FrameSlot;
        }
        self.hand = if self.cached.is_empty() { 0 } else { self.hand % self.cached.len() };
    }

    /// Adds the visits that found no room to `woken`: there may be some now.
    pub fn wake_starved(&mut self, woken: &mut Vec<VisitSlot>) {
        woken.extend(self.starved.drain(..));
    }

    /// Seals a dirty page for the disk and says how many changes that copy holds; `None` if it is clean or gone.
    pub fn seal(&mut self, page: PageNumber) -> Option<(&PageFrame, u32)> {
        let cached = self.cached.get_mut(self.place[self.slots.slot(page)] as usize)?;
        let frame = cached.frame.as_mut()?;
        if cached.unwritten == 0 {
            return None;
        }
        frame.seal(page, cached.sequence);
        Some((frame, cached.unwritten))
    }

    /// The first `changes` changes of a page are in place on disk. Wakes whoever waits for room.
    pub fn written(&mut self, page: PageNumber, changes: u32, woken: &mut Vec<VisitSlot>) {
        let cached = &mut self.cached[self.place[self.slots.slot(page)] as usize];
        assert!(cached.page == page && cached.unwritten >= changes, "a dirty page stays until it is written");
        cached.unwritten -= changes;
        if cached.unwritten == 0 {
            self.dirty -= 1;
            self.wake_starved(woken);
        }
    }

    /// Dirty pages, in the cache's order.
    pub fn dirty_pages(&self) -> impl Iterator<Item = PageNumber> {
        self.cached.iter().filter(|cached| cached.unwritten > 0).map(|cached| cached.page)
    }

    /// How many pages are dirty.
    pub fn dirty(&self) -> usize {
        self.dirty
    }

    /// Whether every page is dirty: then there is no room before one is written back.
    pub fn is_all_dirty(&self) -> bool {
        self.dirty == self.frames_max
    }

    /// Whether dirty pages should be written back to make room: somebody waits, or three quarters of the cache are dirty.
    pub fn is_pressed(&self) -> bool {
        self.dirty > 0 && (!self.starved.is_empty() || 4 * self.dirty >= 3 * self.frames_max)
    }
}
