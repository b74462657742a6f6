//! The owner's side of a transaction: lock, load, check, answer; later apply and unlock.
//!
//! A visit waits here for locks and for pages, never for anything else, and while it waits others go on.

use std::hint::black_box;

use crate::coin::{CoinRecord, PageNumber, Place, Secret};
use crate::command::question::ListedOffer;
use crate::command::{Must, Question};
use crate::mutant::{self, Mutant};
use crate::wire::header::KeyName;
use crate::wire::seal;
use crate::wire::status::Status;

use super::free_map::WordNumber;
use super::interface::Now;
use super::locks::VisitSlot;
use super::market;
use super::message::{Ask, Message, Progress, Visit};
use super::pages::Wanted;
use super::views::derive;
use super::{Effects, Shard};

/// Pages of one visit that are asked for ahead of their turn.
const PAGES_AHEAD: usize = 8;
/// Records of one visit that are touched before the first is looked at.
const RECORDS_AHEAD: usize = 16;
/// Lockers of one 5-byte prefix that are tried as the key of a request.
const LOCKERS_TRIED: usize = 256;

impl Shard {
    /// A visit arrived: it stands in every queue it must, and goes on at once if it waits in none.
    ///
    /// Who only looks, and finds nothing locked, needs no lock to look at once.
    pub(super) fn visited(&mut self, mut visit: Box<Visit>) {
        self.clock = self.clock.max(visit.clock);
        let slot = self.visits.insert(None) as VisitSlot;
        let locks = visit.keep || !visit.resources().all(|(resource, mode)| self.locks.is_open(resource, mode));
        visit.progress = Progress { locks, ..Progress::default() };
        let blocked = locks && !self.lock(&mut visit, slot);
        self.visits[slot as usize] = Some(visit);
        if blocked && self.failed {
            self.give_up(slot); // whoever holds the lock may hold it for ever
        } else if !blocked {
            self.granted.push_back(slot);
        }
    }

    /// Takes a visit's locks, or a place in their queues. Says whether it has them all.
    fn lock(&mut self, visit: &mut Visit, slot: VisitSlot) -> bool {
        let waits = visit.resources().filter(|&(resource, mode)| !self.locks.acquire(resource, mode, slot)).count();
        visit.progress.locks = true;
        visit.progress.blocked = waits as u32;
        waits == 0
    }

    /// An apply arrived: its locks are held already.
    pub(super) fn apply(&mut self, mut visit: Box<Visit>) {
        self.clock = self.clock.max(visit.sequence);
        visit.progress = Progress { applies: true, done: 0, asked: 0, ..visit.progress };
        let slot = self.visits.insert(Some(visit));
        self.granted.push_back(slot as VisitSlot);
    }

    /// A release arrived: nothing is written, and words that were found but not taken are free again.
    pub(super) fn release(&mut self, visit: Box<Visit>) {
        for found in &visit.words {
            self.reservations.release(found.word, visit.session);
        }
        self.unlock(&visit);
        self.recycle(visit);
    }

    /// Carries every visit that waits for nothing as far as it comes.
    pub(super) fn advance_granted(&mut self, now: Now, effects: &mut Effects<'_>) {
        while let Some(slot) = self.granted.pop_front() {
            self.advance(slot, now, effects);
        }
    }

    fn advance(&mut self, slot: VisitSlot, now: Now, effects: &mut Effects<'_>) {
        // A wake-up may come late, when the visit is gone, or early, when it still waits for a lock.
        let Some(mut visit) = self.visits.get_mut(slot as usize).and_then(Option::take) else { return };
        if visit.progress.blocked > 0 {
            self.visits[slot as usize] = Some(visit);
            return;
        }
        let through = if visit.failed.is_some() {
            true
        } else if visit.progress.applies {
            self.apply_claims(&mut visit, slot, effects)
        } else {
            self.check_claims(&mut visit, slot, now, effects)
        };
        // Once nothing is written any more, dirty pages never make room again.
        let stuck = !through && self.failed && self.pages.is_all_dirty();
        if stuck {
            visit.failed = Some(Status::Filesystem);
        }
        if !through && visit.failed.is_none() {
            if !visit.progress.locks {
                let has_all = self.lock(&mut visit, slot);
                assert!(has_all, "what was open when the visit came is open until it looks");
            }
            self.visits[slot as usize] = Some(visit);
            return;
        }
        self.visits.remove(slot as usize);
        if visit.progress.applies && visit.failed.is_some() {
            // Committed, and yet it cannot be applied: its locks stay, so that nobody sees half of it; only a restart can.
            self.fail(effects);
        } else if visit.progress.applies {
            self.apply_places(&visit);
            self.unlock(&visit);
            if self.failed {
                self.wake_starved(); // the page just written to may have been the last clean one
            }
        } else {
            self.answer(&mut visit, now);
        }
        visit.clock = self.clock;
        let coordinator = visit.coordinator;
        self.send(coordinator, Message::Done(visit), effects);
    }

    /// Whether a page is here for a visit; if not, it and the pages the visit needs next are on their way.
    ///
    /// Each is asked for ahead once: where it had to make room again, its own turn brings it back. Else a visit that needs
    /// more pages than there is room for would read them round and round while the first is slow.
    fn page_is_here(&mut self, visit: &mut Visit, slot: VisitSlot, effects: &mut Effects<'_>) -> bool {
        let page = visit.claims[visit.progress.done].coin.page();
        if self.pages.want(page, slot, &mut effects.out.disk) == Wanted::Present {
            return true;
        }
        let mut last = page;
        let mut ahead = 0;
        for (index, claim) in visit.claims.iter().enumerate().skip(visit.progress.done) {
            if claim.coin.page() == last {
                continue;
            }
            last = claim.coin.page();
            ahead += 1;
            if ahead > PAGES_AHEAD {
                break;
            }
            if index >= visit.progress.asked {
                visit.progress.asked = index + 1;
                if self.pages.want(last, slot, &mut effects.out.disk) == Wanted::NoRoom {
                    break;
                }
            }
        }
        false
    }

    /// Looks at the records of the next coins for nothing but that the memory brings them all at once: one after the other
    /// each would keep the next waiting.
    fn touch_records(&self, visit: &Visit) {
        let next = visit.claims.iter().skip(visit.progress.done).take(RECORDS_AHEAD);
        let frames = next.filter_map(|claim| Some((self.pages.peek(claim.coin.page())?, claim.coin.slot())));
        black_box(frames.fold(0, |touched, (frame, slot)| touched ^ frame.records()[slot * CoinRecord::BYTES]));
    }

    /// Looks at the coins. `false`: a page is missing.
    fn check_claims(&mut self, visit: &mut Visit, slot: VisitSlot, now: Now, effects: &mut Effects<'_>) -> bool {
        if visit.claims.len() > 1 {
            self.touch_records(visit);
        }
        while visit.progress.done < visit.claims.len() {
            if !self.page_is_here(visit, slot, effects) {
                return false;
            }
            let claim = &mut visit.claims[visit.progress.done];
            let record = self.pages.get(claim.coin.page()).expect("a present page").record(claim.coin.slot());
            let reserved =
                claim.must == Must::Target && self.reservations.holds(claim.coin, visit.session, now.monotonic_us);
            let reserved = reserved || mutant::is(Mutant::ReservationNotChecked);
            claim.check(record, reserved);
            visit.progress.done += 1;
        }
        true
    }

    /// Writes the coins: the one place where a record, and what follows from it on this shard, changes.
    /// `false`: a page is missing.
    fn apply_claims(&mut self, visit: &mut Visit, slot: VisitSlot, effects: &mut Effects<'_>) -> bool {
        while visit.progress.done < visit.claims.len() {
            if visit.claims[visit.progress.done].write {
                if !self.page_is_here(visit, slot, effects) {
                    return false;
                }
                let claim = &visit.claims[visit.progress.done];
                let frame = self.pages.get_mut(claim.coin.page(), visit.sequence).expect("a present page");
                assert!(frame.record(claim.coin.slot()) == claim.record, "a locked coin changed");
                frame.set_record(claim.coin.slot(), claim.new);
                if let Some(free) = derive(&claim.record, &claim.new).free
                    && !mutant::is(Mutant::FreeMapNotUpdated)
                {
                    self.free_map.set_free(claim.coin, free);
                    if claim.must == Must::Target {
                        self.reservations.release(WordNumber::of(claim.coin), visit.session);
                    }
                }
            }
            visit.progress.done += 1;
        }
        true
    }

    /// Changes the lists of lockers and trade lockers this shard is home of.
    fn apply_places(&mut self, visit: &Visit) {
        // A coin leaves one list before it enters the next, which may be this shard's too.
        let (leaves, enters) =
            (visit.changes.iter().filter(|change| !change.enters), visit.changes.iter().filter(|change| change.enters));
        for change in leaves.chain(enters) {
            match (change.place, change.enters) {
                (Place::Locker(key), true) => self.lockers.enter(&key, change.coin),
                (Place::Locker(_), false) if mutant::is(Mutant::LockerIndexNotUpdated) => {}
                (Place::Locker(key), false) => self.lockers.leave(&key, change.coin),
                (Place::TradeLocker(an), true) => self.market.enter(&an, change.coin),
                (Place::TradeLocker(an), false) => self.market.leave(&an, change.coin),
                (Place::Free | Place::Wallet, _) => unreachable!("no list has free coins or a wallet's"),
            }
        }
        if let Some(order) = &visit.order {
            self.market.set_order(&order.an, order.sequence, order.address);
        }
    }

    /// Answers what is asked besides the coins, and keeps or gives back the locks.
    fn answer(&mut self, visit: &mut Visit, now: Now) {
        if visit.failed.is_none() {
            let looked_at = !visit.keep || !mutant::is(Mutant::HeldCoinsMove);
            visit.failed = self.suspensions.stops(visit).filter(|_| looked_at);
        }
        if visit.failed.is_none() {
            self.answer_question(visit, now);
        }
        visit.progress.answered = true;
        if visit.keep && visit.failed.is_none() {
            visit.progress.phase = self.checkpoint.granted();
        } else {
            visit.keep = false;
            if visit.progress.locks {
                self.unlock_resources(visit);
            }
        }
    }

    fn answer_question(&mut self, visit: &mut Visit, now: Now) {
        let findings = &mut visit.findings;
        let question = match visit.ask {
            Ask::Nothing | Ask::Place { .. } => return,
            Ask::Words { session, start, pages, wanted } => {
                return self.find_words(session, start, pages, wanted, &mut visit.words, now);
            }
            Ask::LockerKey { header, challenge } => {
                let KeyName::LockerPrefix(prefix) = header.key else {
                    unreachable!("asked for encryption type 2 alone")
                };
                self.lockers.by_prefix(prefix, LOCKERS_TRIED, |key| {
                    findings.allowed = true; // there is such a locker, though its key may not fit
                    if findings.an.is_none() && seal::locker_key_fits(&header, key, &challenge) {
                        findings.an = Some(*key);
                    }
                });
                return;
            }
            Ask::NewOffer(an) => {
                findings.an = self.market.contains(&an).then_some(an);
                findings.allowed = !self.market.is_full();
                return;
            }
            Ask::WholeOffer { an, coins, bought } => {
                let is_whole = self.market.coins(&an).is_some_and(|in_it| in_it.len() == coins);
                findings.allowed = is_whole && !(bought && self.suspensions.holds_offer(&an));
                return;
            }
            Ask::Suspend { suspension, begins: true, .. } => return self.suspensions.suspend(suspension),
            Ask::Suspend { suspension, begins: false, .. } => return self.suspensions.end(suspension),
            Ask::Question(question) => question,
        };
        match question {
            Question::Rate(caller) => {
                findings.allowed = self.rate_limit.allow(caller, now.monotonic_us);
            }
            Question::Locker(key) => {
                self.lockers.coins(&key).into_iter().for_each(|coins| findings.name(coins, visit.coins_max));
            }
            Question::Offer(name) => {
                findings.an = self.market.find(&name);
                self.find_offer_coins(visit);
            }
            Question::OfferFor { coin_type, value, price } => {
                let suspensions = &self.suspensions;
                findings.an = self.market.first(coin_type, value, price, |an| suspensions.holds_offer(an));
                let all_held = || self.market.first(coin_type, value, price, |_| false).is_some();
                if findings.an.is_none() && !suspensions.is_empty() && all_held() {
                    visit.failed = Some(Status::LockerUsed);
                }
                self.find_offer_coins(visit);
            }
            Question::Offers { coin_type, max } => {
                let suspensions = &self.suspensions;
                let is_held = |an: &Secret| suspensions.holds_offer(an);
                self.market.list(coin_type, max as usize, is_held, |sequence, offer| {
                    let market::ListedOffer { identifier, value, price, .. } = offer;
                    findings.offers.push(ListedOffer { sequence, identifier, value, price });
                });
            }
            Question::Circulation => {
                for den in crate::coin::Denomination::all() {
                    findings.circulation[den.index()] = self.free_map.in_circulation(den);
                }
            }
            Question::Minted(den) => {
                self.free_map.in_circulation_of(den, |page, bits| findings.minted.push((page, bits)))
            }
            Question::SerialNumbers { .. } | Question::Available { .. } => unreachable!("asked as words"),
        }
    }

    fn find_offer_coins(&self, visit: &mut Visit) {
        let an = visit.findings.an;
        let coins = an.as_ref().and_then(|an| self.market.coins(an));
        coins.into_iter().for_each(|coins| visit.findings.name(coins, visit.coins_max));
    }

    /// Gives a kept visit's locks back.
    fn unlock(&mut self, visit: &Visit) {
        if visit.keep {
            self.checkpoint.settled(visit.progress.phase);
            self.unlock_resources(visit);
        }
    }

    fn unlock_resources(&mut self, visit: &Visit) {
        let (visits, granted) = (&mut self.visits, &mut self.granted);
        for (resource, _) in visit.resources() {
            self.locks.release(resource, |slot| {
                let waiting = visits[slot as usize].as_mut().expect("a visit that waits");
                waiting.progress.blocked -= 1;
                if waiting.progress.blocked == 0 {
                    granted.push_back(slot);
                }
            });
        }
    }

    /// Pages came, or room for them: the visits that waited go on; those that need a page which is `unreadable` fail.
    pub(super) fn woken(&mut self, unreadable: Option<PageNumber>) {
        for slot in self.woken.drain(..) {
            // The slot may be another visit's by now, and some only waited for room.
            if let (Some(page), Some(Some(visit))) = (unreadable, self.visits.get_mut(slot as usize))
                && visit.progress.blocked == 0
                && visit.needs(page)
            {
                visit.failed = Some(Status::Filesystem);
            }
            self.granted.push_back(slot);
        }
    }

    /// The visits that wait for room in the cache look again.
    pub(super) fn wake_starved(&mut self) {
        self.pages.wake_starved(&mut self.woken);
        self.woken(None);
    }

    /// A visit that waits for a lock waits no longer: it gives back what it holds and fails.
    fn give_up(&mut self, slot: VisitSlot) {
        let mut visit = self.visits[slot as usize].take().expect("a visit that waits");
        // Where it stands in a queue it holds nothing; the rest is given back with the answer.
        let held = visit.resources().filter(|&(resource, _)| !self.locks.withdraw(resource, slot)).collect();
        visit.locks = held;
        visit.coin_mode = None;
        visit.progress.blocked = 0;
        visit.failed = Some(Status::Filesystem);
        self.visits[slot as usize] = Some(visit);
        self.granted.push_back(slot);
    }

    /// The node writes no more: nobody waits for a lock that may never be given back.
    pub(super) fn give_up_waiting(&mut self) {
        let waiting: Vec<VisitSlot> = self
            .visits
            .iter()
            .filter(|(_, visit)| visit.as_ref().is_some_and(|visit| visit.progress.blocked > 0))
            .map(|(slot, _)| slot as VisitSlot)
            .collect();
        for slot in waiting {
            if self.visits[slot as usize].as_ref().is_some_and(|visit| visit.progress.blocked > 0) {
                self.give_up(slot);
            }
        }
    }
}
