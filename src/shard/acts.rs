//! What the operator does to a shard that runs. Every shard is told every act, and says when it is done.
//!
//! A hold or a pause is a visit like a command's, alone with its lock: it waits until the commands that have the lock are
//! through, and those that come later find it in force. It has no second lock, so nobody ever waits for it in a circle. Its
//! end is such a visit too where it still waits, so that it comes behind it; else it ends at once.

use crate::coin::{CoinId, TradeCoin};
use crate::command::Claim;
use crate::settings::Settings;

use super::interface::ActDone;
use super::locks::{Mode, Resource};
use super::message::{Ask, Message, Visit};
use super::partition;
use super::suspensions::{Held, Suspension};
use super::{Effects, Shard};

/// Something the operator wants done.
#[derive(Clone, Debug)]
pub enum Act {
    /// The commands on a locker ([`Resource::Locker`]) or trade locker ([`Resource::Offer`]) answer 154. Its home does it;
    /// the other shards have nothing to do with it.
    Hold(Resource),
    /// They do as usual again.
    Release(Held),
    /// Nothing is put for sale for this coin type, and nothing is bought.
    Pause(TradeCoin),
    /// It is traded again.
    Resume(TradeCoin),
    /// Its owner says where a coin is; the other shards have nothing to say.
    Locate(CoinId),
    /// Everything committed so far is brought to its place on disk.
    Checkpoint,
    /// The bounds of these settings count from now on: requests and coins in flight, offers, the cache, the rate limit
    /// (whose counts begin anew where the limit is another). The rest stays as it was at the start.
    Bounds(Box<Settings>),
}

/// An act that waits for a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct AwaitsCheckpoint {
    token: u64,
    /// Up to which sequence everything must be in its place.
    sequence: u64,
}

impl Shard {
    pub(super) fn act(&mut self, token: u64, act: Act, effects: &mut Effects<'_>) {
        match act {
            Act::Hold(resource) => {
                let held = self.suspensions.name(&resource).expect("a locker or a trade locker");
                if self.is_home_of(&resource) {
                    return self.suspend(token, Suspension::Hold(held), resource, true);
                }
            }
            Act::Pause(coin) => return self.suspend(token, Suspension::Pause(coin), Resource::Market(coin), true),
            Act::Release(held) => return self.end_suspension(token, Suspension::Hold(held), effects),
            Act::Resume(coin) => return self.end_suspension(token, Suspension::Pause(coin), effects),
            Act::Locate(coin) if partition::page_owner(coin.page(), self.settings.shards) == self.id => {
                return self.locate(token, coin);
            }
            Act::Locate(_) => {}
            Act::Checkpoint => return self.act_checkpoint(token, effects),
            Act::Bounds(settings) => self.adopt_bounds(&settings),
        }
        effects.out.acts.push(ActDone::plain(token, true));
    }

    fn is_home_of(&self, resource: &Resource) -> bool {
        let shards = self.settings.shards;
        match resource {
            Resource::Locker(key) => partition::locker_home(key, shards) == self.id,
            Resource::Offer(identifier) => partition::market_home(identifier, shards) == self.id,
            _ => false,
        }
    }

    /// Sends the visit that begins a suspension, or ends it.
    fn suspend(&mut self, token: u64, suspension: Suspension, resource: Resource, begins: bool) {
        let mut visit = self.own_visit(Ask::Suspend { token, suspension, begins });
        visit.locks.push((resource, Mode::Exclusive));
        self.visited(visit);
    }

    /// Sends the visit that looks at a coin: as a command's it comes behind who changes it, and waits for its page.
    fn locate(&mut self, token: u64, coin: CoinId) {
        let mut visit = self.own_visit(Ask::Place { token });
        visit.claims.push(Claim::to_look(coin));
        visit.coin_mode = Some(Mode::Shared);
        self.visited(visit);
    }

    /// A visit of this shard to itself, which no task waits for.
    fn own_visit(&mut self, ask: Ask) -> Box<Visit> {
        let mut visit = self.spare_visits.pop().unwrap_or_default();
        visit.coordinator = self.id;
        visit.at = self.id;
        visit.clock = self.clock;
        visit.ask = ask;
        visit
    }

    /// Ends a suspension that is in force at once: who is refused a moment longer asks again, no lock is needed. Behind one
    /// that still waits it stands in the same queue.
    fn end_suspension(&mut self, token: u64, suspension: Suspension, effects: &mut Effects<'_>) {
        let is_meant =
            |visit: &Visit| matches!(visit.ask, Ask::Suspend { suspension: other, .. } if other == suspension);
        let mut waiting = self.visits.iter().filter_map(|(_, visit)| visit.as_ref()).filter(|visit| is_meant(visit));
        if let Some(&(resource, _)) = waiting.next().and_then(|visit| visit.locks.first()) {
            return self.suspend(token, suspension, resource, false);
        }
        self.suspensions.end(suspension);
        effects.out.acts.push(ActDone::plain(token, true));
    }

    /// The visit of an act came back.
    pub(super) fn acted(&mut self, token: u64, visit: Box<Visit>, effects: &mut Effects<'_>) {
        let done = visit.failed.is_none();
        let place = visit.claims.first().filter(|_| done).map(|claim| claim.record.place());
        effects.out.acts.push(ActDone { token, done, place });
        self.recycle(visit);
    }

    fn act_checkpoint(&mut self, token: u64, effects: &mut Effects<'_>) {
        if self.failed || self.checkpoint.is_last_done() {
            effects.out.acts.push(ActDone::plain(token, !self.failed));
            return;
        }
        self.await_checkpoint.push(AwaitsCheckpoint { token, sequence: self.clock });
        // The one under way may have begun before; of a node that stops the last one will do.
        if !self.stopping {
            let wanted = Message::CheckpointWanted { clock: self.clock, stopping: false };
            self.send(super::checkpoint::LEADER, wanted, effects);
        }
    }

    /// Everything up to a sequence is in its place, on every shard.
    pub(super) fn in_place(&mut self, sequence: u64, effects: &mut Effects<'_>) {
        let is_in_place = |waiting: &mut AwaitsCheckpoint| waiting.sequence <= sequence;
        let done = self.await_checkpoint.extract_if(.., is_in_place);
        effects.out.acts.extend(done.map(|waiting| ActDone::plain(waiting.token, true)));
    }

    /// The disk failed: no checkpoint comes any more.
    pub(super) fn give_up_acts(&mut self, effects: &mut Effects<'_>) {
        let waiting = self.await_checkpoint.drain(..);
        effects.out.acts.extend(waiting.map(|waiting| ActDone::plain(waiting.token, false)));
    }

    fn adopt_bounds(&mut self, bounds: &Settings) {
        let settings = &mut self.settings;
        settings.requests_max = bounds.requests_max;
        settings.coins_max = bounds.coins_max;
        settings.offers_max = bounds.offers_max;
        settings.cache_pages = bounds.cache_pages;
        settings.break_limit = bounds.break_limit;
        settings.break_window_s = bounds.break_window_s;
        settings.break_exempt_loopback = bounds.break_exempt_loopback;
        self.market.resize(bounds.offers_max);
        self.pages.resize(bounds.cache_pages);
        self.rate_limit.change(bounds.break_limit, bounds.break_window_s * 1_000_000);
    }
}
