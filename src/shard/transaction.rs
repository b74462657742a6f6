//! The coordinator's side of a transaction: plan, lock, decide, commit, apply, answer.
//!
//! ```text
//! plan ─ ask ─ lock coins ─ decide ─ lock places ─ commit record ─ (durable) ─ apply ─ answer
//! ```
//!
//! * Locks are taken in one global order: coins by ascending shard, then places by ascending shard. The places a coin
//!   leaves are known only when it is locked; that is why they come second.
//! * The commit record is the commit. Before it, giving up leaves no trace; after it is durable, everything is applied
//!   before anybody can see any of it, as every lock is held until its owner has applied.
//! * The sequence is a logical clock above every clock of the owners, so that of two records of a coin the later has
//!   the higher sequence, whichever logs they are in.

use crate::coin::{CoinId, PayoutAddress, Place, Secret, TradeCoin};
use crate::command::{self, Change, Context, Must, Next, Question, Verdict};
use crate::mutant::{self, Mutant};
use crate::settings::Identifier;
use crate::store::orders::Order;
use crate::store::wal;
use crate::wire::request::locker::SaleTerms;
use crate::wire::request::{CommandKind, Request};
use crate::wire::status::Status;

use super::interface::{Now, ShardId};
use super::locks::{Mode, Resource};
use super::market;
use super::message::{Ask, Message, PlaceChange, Visit};
use super::partition::{self, page_owner};
use super::task::{Stage, Stop, Task};
use super::views::derive;
use super::words::take_words;
use super::{Effects, Shard};

/// So many coins each answer may name without being counted.
const COINS_NAMED_FREELY: usize = 32;

/// Whether a task is still under way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Waits,
    Ended,
}

impl Shard {
    /// Plans a task whose payload is open.
    pub(super) fn plan(&mut self, slot: u32, task: &mut Task, now: Now, effects: &mut Effects<'_>) -> Flow {
        let next =
            self.with_request(task, now, effects, |request, _, context, draft| command::plan(request, context, draft));
        self.go_on(slot, task, next.and_then(|next| next), now, effects)
    }

    /// Decodes the payload again: a request borrows it, and a task outlives many steps.
    fn with_request<T>(
        &mut self,
        task: &mut Task,
        now: Now,
        effects: &mut Effects<'_>,
        work: impl FnOnce(&Request<'_>, &command::Findings, &mut Context<'_>, &mut command::Draft) -> T,
    ) -> Result<T, Status> {
        let mut context = Context {
            settings: &self.settings,
            peer: task.origin.peer,
            datagram: task.origin.datagram,
            modern: task.header.encryption().is_modern(),
            unix_seconds: now.unix_ms / 1000,
            entropy: effects.entropy,
        };
        let request = Request::decode(task.header.command, &task.payload)?;
        Ok(work(&request, &task.findings, &mut context, &mut task.draft))
    }

    fn go_on(
        &mut self,
        slot: u32,
        task: &mut Task,
        next: Result<Next, Status>,
        now: Now,
        effects: &mut Effects<'_>,
    ) -> Flow {
        match next {
            Err(status) => self.refuse(task, status, now, effects),
            Ok(Next::Answer(status)) => self.reply(task, status, now, effects),
            Ok(Next::Ask(question)) => self.ask(slot, task, question, effects),
            Ok(Next::Lock) => self.lock_coins(slot, task, now, effects),
        }
    }

    /// A visit came back.
    pub(super) fn done(&mut self, visit: Box<Visit>, now: Now, effects: &mut Effects<'_>) {
        self.clock = self.clock.max(visit.clock);
        if let Ask::Suspend { token, .. } | Ask::Place { token } = visit.ask {
            return self.acted(token, visit, effects);
        }
        let slot = visit.task;
        self.with_task(slot, |shard, task| shard.visit_done(slot, task, visit, now, effects));
    }

    /// Works on a task outside its place; ends it if it is through.
    pub(super) fn with_task(&mut self, slot: u32, work: impl FnOnce(&mut Self, &mut Task) -> Flow) {
        let mut task = self.tasks[slot as usize].take().expect("a visit's task waits for it");
        match work(self, &mut task) {
            Flow::Waits => self.tasks[slot as usize] = Some(task),
            Flow::Ended => self.end(slot, task),
        }
    }

    fn visit_done(
        &mut self,
        slot: u32,
        task: &mut Task,
        visit: Box<Visit>,
        now: Now,
        effects: &mut Effects<'_>,
    ) -> Flow {
        task.awaited -= 1;
        if task.stage == Stage::Applying {
            task.unknown |= visit.failed.is_some();
            self.recycle(visit);
            return match task.awaited {
                0 if task.unknown => self.leave(task, effects),
                0 if mutant::is(Mutant::ApplyBeforeCommit)
                    && self.committing.iter().any(|(_, other)| *other == slot) =>
                {
                    Flow::Waits
                }
                0 => self.committed(task, now, effects),
                _ => Flow::Waits,
            };
        }
        if let Some(status) = visit.failed {
            self.recycle(visit);
            return self.refuse(task, status, now, effects);
        }
        if let Stage::Key(known) = task.stage {
            return self.key_found(slot, task, known, visit, now, effects);
        }
        let stop = task.stops.iter_mut().find(|stop| stop.visit.is_none() && stop.shard == visit.at);
        stop.expect("a stop waits for its visit").visit = Some(visit);
        if task.awaited > 0 {
            return Flow::Waits;
        }
        if task.reached < task.stops.len() {
            return self.go_to_next_stop(task, effects);
        }
        match task.stage {
            Stage::Question => self.question_answered(slot, task, now, effects),
            Stage::Coins => self.decide(slot, task, now, effects),
            Stage::Places => self.places_locked(slot, task, now, effects),
            stage => unreachable!("no visit comes back while {stage:?}"),
        }
    }

    /// Adds a shard to the tour.
    pub(super) fn stop<'t>(&mut self, task: &'t mut Task, slot: u32, shard: ShardId) -> &'t mut Visit {
        let mut visit = self.spare_visits.pop().unwrap_or_default();
        visit.task = slot;
        visit.coordinator = self.id;
        task.stops.push(Stop { shard, visit: Some(visit) });
        task.stops.last_mut().and_then(|stop| stop.visit.as_mut()).expect("the visit just added")
    }

    pub(super) fn go_to_next_stop(&mut self, task: &mut Task, effects: &mut Effects<'_>) -> Flow {
        let stop = &mut task.stops[task.reached];
        let mut visit = stop.visit.take().expect("a visit that was not sent");
        visit.clock = self.clock;
        visit.at = stop.shard;
        task.reached += 1;
        task.awaited += 1;
        self.send(stop.shard, Message::Visit(visit), effects);
        Flow::Waits
    }

    // ---- questions

    fn ask(&mut self, slot: u32, task: &mut Task, question: Question, effects: &mut Effects<'_>) -> Flow {
        let shards = self.settings.shards;
        task.stage = Stage::Question;
        let (home, locks): (Option<ShardId>, [Option<Resource>; 2]) = match question {
            Question::Rate(caller) => (Some(partition::rate_home(caller.address, shards)), [None, None]),
            Question::Locker(key) => (Some(partition::locker_home(&key, shards)), [Some(Resource::Locker(key)), None]),
            Question::Offer(name) => {
                let hashed = market::public_identifier(&Secret::new(name), Identifier::Hashed);
                let names = [Some(Resource::Offer(name)), Some(Resource::Offer(hashed))];
                (Some(partition::market_home(&name, shards)), names)
            }
            Question::OfferFor { coin_type, price, .. } => {
                let home = partition::market_home_of(coin_type, price, shards);
                (Some(home), [Some(Resource::Market(coin_type)), None])
            }
            Question::Offers { coin_type, .. } => (None, [Some(Resource::Market(coin_type)), None]),
            Question::Circulation => (None, [Some(Resource::Circulation), None]),
            Question::Minted(_) => (None, [Some(Resource::Circulation), None]),
            Question::SerialNumbers { session, den } => {
                return self.ask_for_words(slot, task, session, den, effects);
            }
            Question::Available { session, wanted } => {
                return self.ask_for_words_of_all(slot, task, session, wanted, effects);
            }
        };
        let asked = match home {
            Some(home) => home.0..home.0 + 1,
            None => 0..shards,
        };
        let coins_max = COINS_NAMED_FREELY.max(task.coins_named);
        for shard in asked.clone() {
            let visit = self.stop(task, slot, ShardId(shard));
            visit.ask = Ask::Question(question);
            visit.coins_max = coins_max;
            visit.locks.extend(locks.into_iter().flatten().map(|resource| (resource, Mode::Shared)));
            visit.keep = shard + 1 < asked.end; // the last one gives its locks back with the answer
        }
        self.go_to_next_stop(task, effects)
    }

    fn question_answered(&mut self, slot: u32, task: &mut Task, now: Now, effects: &mut Effects<'_>) -> Flow {
        match task.stops[0].visit.as_deref().map(|visit| visit.ask) {
            Some(Ask::Words { wanted, .. }) => {
                if self.ask_for_more_words(slot, task, effects) {
                    return Flow::Waits;
                }
                take_words(task, wanted);
                self.leave_stops(task, effects);
            }
            Some(Ask::Question(question)) => {
                let Task { stops, findings, .. } = &mut *task;
                let mut visits = stops.iter_mut().filter_map(|stop| stop.visit.as_mut());
                if let Some(first) = visits.next() {
                    std::mem::swap(findings, &mut first.findings);
                }
                visits.for_each(|visit| findings.join(&mut visit.findings));
                findings.offers.sort_unstable_by_key(|offer| offer.sequence);
                self.leave_stops(task, effects);
                if task.findings.coin_count > task.findings.coins.len() {
                    return self.ask_for_all_coins(slot, task, question, now, effects);
                }
            }
            other => unreachable!("{other:?} is no question"),
        }
        let next = self.with_request(task, now, effects, command::found);
        self.go_on(slot, task, next.and_then(|next| next), now, effects)
    }

    /// There are more coins than may be named uncounted: counts them and asks again, if there is room for them, and for an
    /// answer that names them.
    fn ask_for_all_coins(
        &mut self,
        slot: u32,
        task: &mut Task,
        question: Question,
        now: Now,
        effects: &mut Effects<'_>,
    ) -> Flow {
        let (count, max) = (task.findings.coin_count, self.settings.coins_max);
        task.findings.clear();
        self.coins_named -= std::mem::take(&mut task.coins_named);
        if count > max || !self.fits(task, command::named_bytes(task.header.command.kind, count)) {
            return self.refuse(task, Status::TooManyCoins, now, effects);
        }
        if self.coins_named + count > max {
            return self.refuse(task, Status::Memory, now, effects);
        }
        self.coins_named += count;
        task.coins_named = count;
        self.ask(slot, task, question, effects)
    }

    // ---- coins

    pub(super) fn lock_coins(&mut self, slot: u32, task: &mut Task, now: Now, effects: &mut Effects<'_>) -> Flow {
        let writes = task.draft.writes();
        if self.failed && writes {
            return self.refuse(task, Status::Filesystem, now, effects);
        }
        if self.coins_in_flight + task.draft.claims.len() > self.settings.coins_max {
            return self.refuse(task, Status::Memory, now, effects);
        }
        if writes {
            let orders = usize::from(order_of(task).is_some());
            let bytes = wal::record_bytes(task.draft.claims.len(), orders);
            if bytes > self.log.record_bytes_max() {
                return self.refuse(task, Status::TooManyCoins, now, effects);
            }
            // First come, first served: a small record does not overtake a large one that waits for room.
            let others_wait = task.stage != Stage::LogRoom && !self.waiting_for_log.is_empty();
            if others_wait || !self.log.reserve(bytes) {
                if self.archive.is_failing() && self.log.waits_for_archive() {
                    return self.refuse(task, Status::Filesystem, now, effects);
                }
                task.stage = Stage::LogRoom;
                self.waiting_for_log.push_back(slot);
                if self.log.gains_by_checkpoint() {
                    self.want_checkpoint(effects);
                }
                return Flow::Waits;
            }
            task.log_bytes = bytes;
        }
        task.coins = task.draft.claims.len();
        self.coins_in_flight += task.coins;
        task.stage = Stage::Coins;
        if task.draft.claims.is_empty() {
            return self.decide(slot, task, now, effects);
        }
        self.stop_at_owners(slot, task, writes);
        self.go_to_next_stop(task, effects)
    }

    /// A stop at each owner of the draft's coins, in ascending order.
    fn stop_at_owners(&mut self, slot: u32, task: &mut Task, writes: bool) {
        let shards = self.settings.shards;
        let owner = |claim: &command::Claim| page_owner(claim.coin.page(), shards);
        let mut claims = std::mem::take(&mut task.draft.claims);
        if shards > 1 {
            claims.sort_unstable_by_key(|claim| (owner(claim), claim.coin));
        }
        let circulation = claims
            .iter()
            .any(|claim| claim.must == Must::Target || matches!(claim.change, Change::Free(_)))
            .then_some((Resource::Circulation, Mode::Intent));
        let session = task.draft.session;
        let mode = if writes && !mutant::is(Mutant::WritersShare) { Mode::Exclusive } else { Mode::Shared };
        let prepare = |visit: &mut Visit| {
            visit.coin_mode = Some(mode);
            visit.session = session;
            visit.keep = !mutant::is(Mutant::LockReleasedEarly);
            visit.locks.extend(circulation);
        };
        if owner(&claims[0]) == owner(&claims[claims.len() - 1]) {
            let visit = self.stop(task, slot, owner(&claims[0]));
            prepare(visit);
            std::mem::swap(&mut visit.claims, &mut claims);
        } else {
            for of_one in claims.chunk_by(|a, b| owner(a) == owner(b)) {
                let visit = self.stop(task, slot, owner(&of_one[0]));
                prepare(visit);
                visit.claims.extend_from_slice(of_one);
            }
        }
        task.draft.claims = claims;
        if !writes && let Some(last) = task.stops.last_mut().and_then(|stop| stop.visit.as_mut()) {
            last.keep = false; // who only reads is through when the last shard has been read
        }
    }

    fn decide(&mut self, slot: u32, task: &mut Task, now: Now, effects: &mut Effects<'_>) -> Flow {
        swap_claims(task);
        let verdict = self
            .with_request(task, now, effects, |request, _, context, draft| command::decide(request, context, draft));
        self.collect_place_changes(task);
        let writes = task.draft.claims.iter().any(|claim| claim.write);
        swap_claims(task);
        match verdict {
            Err(status) => self.refuse(task, status, now, effects),
            Ok(Verdict::Refuse(status)) => self.reply(task, status, now, effects),
            Ok(Verdict::Again) => self.start_again(slot, task, now, effects),
            Ok(Verdict::Commit(status)) if !writes => self.reply(task, status, now, effects),
            Ok(Verdict::Commit(_)) if !self.answer_fits(task) => self.refuse(task, Status::TooManyCoins, now, effects),
            Ok(Verdict::Commit(status)) => {
                task.status = status;
                self.lock_places(slot, task, now, effects)
            }
        }
    }

    // ---- places

    /// What the verdict changes in the lists of lockers and trade lockers.
    fn collect_place_changes(&self, task: &mut Task) {
        for claim in task.draft.claims.iter().filter(|claim| claim.write) {
            let change = derive(&claim.record, &claim.new);
            let mut locked_at = None;
            for (place, enters) in [(change.leaves, false), (change.enters, true)] {
                let Some(place) = place else { continue };
                let home = home(&place, self.settings.shards);
                let locks_coin = locked_at.replace(home) != Some(home);
                task.changes.push((home, PlaceChange { coin: claim.coin, place, enters, locks_coin }));
            }
        }
    }

    fn lock_places(&mut self, slot: u32, task: &mut Task, now: Now, effects: &mut Effects<'_>) -> Flow {
        task.stage = Stage::Places;
        if task.changes.is_empty() {
            return self.commit(slot, task, now, effects);
        }
        task.changes.sort_unstable_by_key(|(home, change)| (*home, *place_an(&change.place).bytes(), change.coin));
        let changes = std::mem::take(&mut task.changes);
        let bought = task.header.command.kind == CommandKind::Buy;
        for of_one in changes.chunk_by(|(a, _), (b, _)| a == b) {
            let visit = self.stop(task, slot, of_one[0].0);
            visit.keep = true;
            for of_place in of_one.chunk_by(|(_, a), (_, b)| place_an(&a.place) == place_an(&b.place)) {
                lock_place(visit, &of_place[0].1, of_place.len(), bought);
            }
            let locking = of_one.iter().filter(|(_, change)| change.locks_coin);
            visit.locks.extend(locking.map(|(_, change)| (Resource::Listed(change.coin), Mode::Exclusive)));
            visit.changes.extend(of_one.iter().map(|(_, change)| *change));
        }
        task.changes = changes;
        self.go_to_next_stop(task, effects)
    }

    fn places_locked(&mut self, slot: u32, task: &mut Task, now: Now, effects: &mut Effects<'_>) -> Flow {
        for visit in task.stops.iter().filter_map(|stop| stop.visit.as_ref()) {
            if matches!(visit.ask, Ask::NewOffer(_)) {
                if visit.findings.an.is_some() {
                    return self.refuse(task, Status::TradeLockerExists, now, effects);
                }
                if !visit.findings.allowed {
                    return self.refuse(task, Status::Memory, now, effects);
                }
            }
        }
        let in_part = |visit: &Visit| matches!(visit.ask, Ask::WholeOffer { .. }) && !visit.findings.allowed;
        if task.stops.iter().filter_map(|stop| stop.visit.as_deref()).any(in_part) {
            // Taken back and put up again meanwhile, with other coins; or held since it was found.
            return self.start_again(slot, task, now, effects);
        }
        self.commit(slot, task, now, effects)
    }

    // ---- commit and apply

    fn commit(&mut self, slot: u32, task: &mut Task, now: Now, effects: &mut Effects<'_>) -> Flow {
        if self.failed {
            return self.refuse(task, Status::Filesystem, now, effects);
        }
        self.clock += 1;
        let order = order_of(task).map(|(an, address)| Order { an, address, sequence: self.clock });
        let parts = task.stops.len() - usize::from(mutant::is(Mutant::RecordWithoutAPart) && task.stops.len() > 1);
        let claims = task.stops[..parts].iter().filter_map(|stop| stop.visit.as_ref()).flat_map(|visit| &visit.claims);
        let written = claims.filter(|claim| claim.write);
        self.written.clear();
        self.written.extend(written.map(|claim| wal::Change {
            coin: claim.coin,
            from: claim.record.place().into(),
            to: claim.new,
        }));
        // Room was set aside for all that was claimed; what did not hold is not written.
        self.log.cancel(std::mem::take(&mut task.log_bytes));
        assert!(self.log.reserve(wal::record_bytes(self.written.len(), usize::from(order.is_some()))));
        let command = task.header.command;
        let commit =
            wal::Commit { sequence: self.clock, unix_ms: now.unix_ms, group: command.group, code: command.code };
        let ticket = self.log.append(&commit, self.written.iter().copied(), order.as_ref());
        for visit in task.stops.iter_mut().filter_map(|stop| stop.visit.as_mut()) {
            visit.sequence = self.clock;
            if matches!(visit.ask, Ask::NewOffer(_)) {
                visit.order = order;
            }
        }
        if self.settings.durable && !mutant::is(Mutant::AnswerBeforeSync) {
            self.committing.push_back((ticket, slot));
            if mutant::is(Mutant::ApplyBeforeCommit) {
                return self.apply_everywhere(task, effects);
            }
            task.stage = Stage::Committing;
            Flow::Waits
        } else {
            self.apply_everywhere(task, effects)
        }
    }

    /// Whatever became durable is applied.
    pub(super) fn apply_durable(&mut self, now: Now, effects: &mut Effects<'_>) {
        while let Some(&(ticket, slot)) = self.committing.front() {
            if ticket > self.log.durable() {
                break;
            }
            self.committing.pop_front();
            self.with_task(slot, |shard, task| match task.stage {
                Stage::Applying if task.awaited == 0 => shard.committed(task, now, effects),
                Stage::Applying => Flow::Waits, // a mutant's
                _ => shard.apply_everywhere(task, effects),
            });
        }
    }

    fn apply_everywhere(&mut self, task: &mut Task, effects: &mut Effects<'_>) -> Flow {
        task.stage = Stage::Applying;
        for stop in &mut task.stops {
            let visit = stop.visit.take().expect("a visit that came back");
            task.awaited += 1;
            self.send(stop.shard, Message::Apply(visit), effects);
        }
        Flow::Waits
    }

    /// Everything is applied: the client hears of it.
    fn committed(&mut self, task: &mut Task, now: Now, effects: &mut Effects<'_>) -> Flow {
        if task.header.command.kind == CommandKind::Buy
            && let Some(terms) = task.findings.an.as_ref().and_then(SaleTerms::of)
        {
            let value = task.findings.coins.iter().map(|coin| u128::from(coin.denomination().value())).sum();
            self.counters.bought(terms.coin_type, value, terms.price);
            self.log_purchase(task, terms);
        }
        self.reply(task, task.status, now, effects)
    }

    /// Logs what a purchase says of its payment: nothing else keeps it, and a dispute is about nothing else. Both numbers are
    /// public, the one on the other chain, the other of the buyer's choice.
    fn log_purchase(&self, task: &Task, terms: SaleTerms) {
        if let Ok(Request::Buy { txid, receipt, .. }) = Request::decode(task.header.command, &task.payload) {
            let (coins, SaleTerms { coin_type, price }) = (task.findings.coins.len(), terms);
            let half = |at: usize| u128::from_be_bytes(*txid[at..].first_chunk().expect("16 of 32 bytes"));
            log::info!(
                shard = self.id.0,
                peer:% = task.origin.peer,
                txid:% = format_args!("{:032x}{:032x}", half(0), half(16)),
                receipt:% = format_args!("{:032x}", u128::from_be_bytes(receipt));
                "bought: {coins} coins for {price} {coin_type:?}"
            );
        }
    }

    // ---- giving up

    /// What a question found has changed meanwhile: it is asked again.
    fn start_again(&mut self, slot: u32, task: &mut Task, now: Now, effects: &mut Effects<'_>) -> Flow {
        self.give_back(task, effects);
        task.restart();
        self.plan(slot, task, now, effects)
    }

    /// Ends a task without an answer: what became of it, only the next start can tell.
    fn leave(&mut self, task: &mut Task, effects: &mut Effects<'_>) -> Flow {
        self.leave_unanswered(task, effects);
        self.give_back(task, effects);
        Flow::Ended
    }

    /// Answers with a status and no payload; nothing was written.
    pub(super) fn refuse(&mut self, task: &mut Task, status: Status, now: Now, effects: &mut Effects<'_>) -> Flow {
        task.draft.answer.clear();
        self.reply(task, status, now, effects)
    }

    /// Gives back every lock, and what was reserved of log and memory.
    pub(super) fn give_back(&mut self, task: &mut Task, effects: &mut Effects<'_>) {
        self.leave_stops(task, effects);
        if task.log_bytes > 0 {
            self.log.cancel(std::mem::take(&mut task.log_bytes));
            self.wake_waiting_for_log();
        }
        self.coins_in_flight -= std::mem::take(&mut task.coins);
        self.coins_named -= std::mem::take(&mut task.coins_named);
    }

    /// Releases what is kept at the stops; visits with nothing to release are used again here.
    fn leave_stops(&mut self, task: &mut Task, effects: &mut Effects<'_>) {
        for stop in task.stops.drain(..) {
            let Some(visit) = stop.visit else { continue };
            // A visit that was never sent holds nothing, whatever it was to keep.
            let holds = visit.progress.answered && (visit.keep || !visit.words.is_empty());
            if holds {
                self.send(stop.shard, Message::Release(visit), effects);
            } else {
                self.recycle(visit);
            }
        }
        task.reached = 0;
    }
}

/// Swaps the claims between the draft and the visits: for the verdict they are all in the draft, else each with its owner's
/// visit, which needs them to unlock.
fn swap_claims(task: &mut Task) {
    let Task { stops, draft, .. } = task;
    let mut visits = stops.iter_mut().filter_map(|stop| stop.visit.as_mut()).filter(|visit| visit.coin_mode.is_some());
    let (Some(first), second) = (visits.next(), visits.next()) else { return };
    let Some(second) = second else {
        std::mem::swap(&mut first.claims, &mut draft.claims);
        return;
    };
    let mut at = 0;
    for visit in [first, second].into_iter().chain(visits) {
        let of_visit = &mut draft.claims[at..at + visit.claims.len()];
        at += visit.claims.len();
        of_visit.swap_with_slice(&mut visit.claims);
    }
}

/// The AN and payout address of the offer that a request puts for sale.
fn order_of(task: &Task) -> Option<(Secret, PayoutAddress)> {
    match Request::decode(task.header.command, &task.payload) {
        Ok(Request::PutForSale { an, address, .. }) => Some((an, address)),
        _ => None,
    }
}

/// The AN that names a locker or trade locker.
fn place_an(place: &Place) -> &Secret {
    match place {
        Place::Locker(an) | Place::TradeLocker(an) => an,
        Place::Free | Place::Wallet => unreachable!("no list has free coins or a wallet's"),
    }
}

/// Where a locker's or trade locker's list is.
pub fn home(place: &Place, shards: u8) -> ShardId {
    match place {
        Place::Locker(key) => partition::locker_home(key, shards),
        place => partition::market_home(place_an(place).bytes(), shards),
    }
}

/// Adds the locks that a change of a list by so many coins needs. Coins in and out of one locker commute; an offer comes and goes whole.
fn lock_place(visit: &mut Visit, change: &PlaceChange, coins: usize, bought: bool) {
    match change.place {
        Place::TradeLocker(an) => {
            let coin_type = TradeCoin::new(an.bytes()[13]).expect("the place of a trade locker");
            visit.locks.push((Resource::Offer(market::public_identifier(&an, Identifier::Hashed)), Mode::Exclusive));
            let market = (Resource::Market(coin_type), Mode::Intent);
            if !visit.locks.contains(&market) {
                visit.locks.push(market);
            }
            visit.ask = if change.enters { Ask::NewOffer(an) } else { Ask::WholeOffer { an, coins, bought } };
        }
        place => visit.locks.push((Resource::Locker(*place_an(&place)), Mode::Intent)),
    }
}

/// A coin's claim to be only read, for a key.
pub(super) fn read_only(coin: CoinId) -> command::Claim {
    command::Claim {
        coin,
        position: 0,
        group: 0,
        holds: false,
        write: false,
        must: Must::Circulate,
        change: Change::Keep,
        record: Default::default(),
        new: Default::default(),
    }
}
