//! The search for free serial numbers: which words a session is offered, from one shard or from all.
//!
//! A word is 64 serial numbers, the unit of reservation. The search starts where the session's hash says and takes the
//! words in one order, whatever the number of shards: so nodes with equal free maps offer a session the same serial
//! numbers without talking, and different sessions different ones. The shard of the first page is asked alone, as most
//! often it has enough; else all the others are asked at once, and what is found too much is given back.

use crate::coin::Denomination;
use crate::wire::request::change::SERIAL_NUMBERS_MAX;
use crate::wire::request::treasury::{AVAILABLE_MAX, Wanted};

use super::free_map::{FoundWord, SearchPages, WordNumber};
use super::interface::{Now, ShardId};
use super::message::{Ask, Visit};
use super::partition::page_owner;
use super::task::{Stop, Task};
use super::transaction::Flow;
use super::{Effects, Shard};

impl Shard {
    /// Asks the shard of the first page.
    pub(super) fn ask_for_words(
        &mut self,
        slot: u32,
        task: &mut Task,
        session: u32,
        den: Denomination,
        effects: &mut Effects<'_>,
    ) -> Flow {
        let start = WordNumber::search_start(session, den);
        let pages = if self.settings.shards == 1 { SearchPages::All } else { SearchPages::FirstPage };
        let visit = self.stop(task, slot, page_owner(start.page(), self.settings.shards));
        visit.ask = Ask::Words { session, start, pages, wanted: SERIAL_NUMBERS_MAX };
        visit.session = session;
        self.go_to_next_stop(task, effects)
    }

    /// Asks the other shards where the first one had too little. `false`: it had enough, or they have answered.
    pub(super) fn ask_for_more_words(&mut self, slot: u32, task: &mut Task, effects: &mut Effects<'_>) -> bool {
        let Some(Ask::Words { session, start, pages, .. }) = task.stops[0].visit.as_deref().map(|visit| visit.ask)
        else {
            unreachable!("only a search asks for more");
        };
        let words = visits(&task.stops).flat_map(|visit| &visit.words);
        let found: usize = words.map(|word| word.free.count_ones() as usize).sum();
        let asked_all = pages == SearchPages::All || task.stops.len() > 1;
        if asked_all || found >= SERIAL_NUMBERS_MAX {
            return false;
        }
        for shard in 0..self.settings.shards {
            let visit = self.stop(task, slot, ShardId(shard));
            let wanted = SERIAL_NUMBERS_MAX - found;
            visit.ask = Ask::Words { session, start, pages: SearchPages::OtherPages, wanted };
            visit.session = session;
        }
        self.go_to_all_stops(task, effects);
        true
    }

    /// Asks every shard for words of each denomination, all at once.
    pub(super) fn ask_for_words_of_all(
        &mut self,
        slot: u32,
        task: &mut Task,
        session: u32,
        wanted: Wanted,
        effects: &mut Effects<'_>,
    ) -> Flow {
        for den in wanted.denominations() {
            for shard in 0..self.settings.shards {
                let start = WordNumber::search_start(session, den);
                let visit = self.stop(task, slot, ShardId(shard));
                visit.ask = Ask::Words { session, start, pages: SearchPages::All, wanted: AVAILABLE_MAX };
                visit.session = session;
            }
        }
        self.go_to_all_stops(task, effects)
    }

    /// Goes to the stops that are left all at once: a search locks nothing, so it needs no order.
    fn go_to_all_stops(&mut self, task: &mut Task, effects: &mut Effects<'_>) -> Flow {
        while task.reached < task.stops.len() {
            self.go_to_next_stop(task, effects);
        }
        Flow::Waits
    }

    /// Finds and reserves words for a session.
    pub(super) fn find_words(
        &mut self,
        session: u32,
        start: WordNumber,
        pages: SearchPages,
        wanted: usize,
        words: &mut Vec<FoundWord>,
        now: Now,
    ) {
        let take = self.reservations.for_search(session, start.page().denomination(), now.monotonic_us);
        self.free_map.search(start, pages, wanted, take, words);
    }
}

/// The visits that came back from all stops.
fn visits(stops: &[Stop]) -> impl Iterator<Item = &Visit> {
    stops.iter().filter_map(|stop| stop.visit.as_deref())
}

/// Takes the first words of each denomination in the order of the search until there are `wanted` coins of it; the others
/// stay with their visits, to be given back.
pub(super) fn take_words(task: &mut Task, wanted: usize) {
    let Task { stops, words, findings, .. } = task;
    let offered = &mut findings.serial_numbers;
    // Several denominations are asked for one after the other.
    for of_one in stops.chunk_by_mut(|a, b| denomination(a) == denomination(b)) {
        words.clear();
        visits(of_one).for_each(|visit| words.extend_from_slice(&visit.words));
        words.sort_unstable_by_key(|word| word.rank);
        let until = offered.len() + wanted;
        let mut taken = 0;
        while taken < words.len() && offered.len() < until {
            offered.extend(words[taken].serial_numbers());
            taken += 1;
        }
        offered.truncate(until);
        findings.ends.push(offered.len());
        let first_left = words.get(taken).map_or(u16::MAX, |word| word.rank);
        for visit in of_one.iter_mut().filter_map(|stop| stop.visit.as_deref_mut()) {
            visit.words.retain(|word| word.rank >= first_left);
        }
    }
}

/// The denomination that a stop's visit searched.
fn denomination(stop: &Stop) -> Denomination {
    match stop.visit.as_deref().map(|visit| visit.ask) {
        Some(Ask::Words { start, .. }) => start.page().denomination(),
        other => unreachable!("{other:?} is no search that came back"),
    }
}
