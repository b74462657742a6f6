//! Who may look at what, and who must wait: strict two-phase locking without deadlock.
//!
//! A visit asks for all its locks of a shard in one step, so every queue here has the visits in the same order; and a
//! transaction visits shards in one global order (coins before places, each by ascending shard). So whoever waits, waits
//! for somebody further on the same road, and never in a circle: nothing is refused, nothing is tried again, nobody starves.
//!
//! A lock is held from before the commit record to after the change is applied here. That makes every command
//! linearizable: who sees a change, sees all of it, and only once it is durable.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::coin::{CoinId, Secret, TradeCoin};

use super::slots::{Links, NONE, Slots, slot_with_links};

/// Something that is locked on the shard that owns it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Resource {
    /// A coin's record.
    Coin(CoinId),
    /// How many coins of this shard are in circulation.
    Circulation,
    /// A coin in the lists of this home. A transaction that moves it on may reach this home before the one that brought it.
    Listed(CoinId),
    /// The list of a locker's coins.
    Locker(Secret),
    /// A trade locker, by its public identifier.
    Offer([u8; 16]),
    /// This shard's part of the market for a coin type.
    Market(TradeCoin),
}

/// How it is locked. Two holders go together if both are `Shared` or both `Intent`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// To look at.
    Shared,
    /// To change together with others whose changes commute: coins in and out of one locker.
    Intent,
    /// To change alone.
    Exclusive,
}

/// A visit on this shard, by its slot.
pub type VisitSlot = u32;

struct Lock {
    mode: Mode,
    holders: u32,
    /// The ring of those that wait for it, the eldest first.
    queue: u32,
}

impl Lock {
    /// Whether another may hold it too.
    fn goes_with(&self, mode: Mode) -> bool {
        self.mode == mode && mode != Mode::Exclusive && self.queue == NONE
    }
}

/// A visit in a queue.
#[derive(Clone, Copy)]
struct Waiting {
    visit: VisitSlot,
    mode: Mode,
    links: Links,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { visit: NONE, mode: Mode::Shared, links: Links::default() }
    }
}

slot_with_links!(Waiting);

/// The locks of one shard. Only what is locked takes memory, and that is used again.
#[derive(Default)]
pub struct Locks {
    locks: HashMap<Resource, Lock>,
    waiting: Slots<Waiting>,
}

impl Locks {
    /// A table that need not grow below `resources` locks.
    pub fn with_capacity(resources: usize) -> Self {
        Self { locks: HashMap::with_capacity(resources), waiting: Slots::new() }
    }

    /// Whether nobody's lock is in the way of this one.
    pub fn is_open(&self, resource: Resource, mode: Mode) -> bool {
        self.locks.is_empty() || self.locks.get(&resource).is_none_or(|lock| lock.goes_with(mode))
    }

    /// Asks for a lock. `true`: held from now on; `false`: the visit stands in the queue until [`Locks::release`] grants it.
    pub fn acquire(&mut self, resource: Resource, mode: Mode, visit: VisitSlot) -> bool {
        match self.locks.entry(resource) {
            Entry::Vacant(entry) => {
                entry.insert(Lock { mode, holders: 1, queue: NONE });
                true
            }
            Entry::Occupied(mut entry) => {
                let lock = entry.get_mut();
                let together = lock.goes_with(mode);
                if together {
                    lock.holders += 1;
                } else {
                    let number = self.waiting.insert(Waiting { visit, mode, ..Waiting::default() });
                    self.waiting.append(&mut lock.queue, number);
                }
                together
            }
        }
    }

    /// Gives a lock back; `granted` hears of every visit that now holds it.
    ///
    /// # Panics
    /// When it is not held: then a transaction went wrong.
    pub fn release(&mut self, resource: Resource, mut granted: impl FnMut(VisitSlot)) {
        let Entry::Occupied(mut entry) = self.locks.entry(resource) else {
            panic!("{resource:?} released but not held")
        };
        let lock = entry.get_mut();
        lock.holders -= 1;
        if lock.holders > 0 {
            return;
        }
        if lock.queue == NONE {
            entry.remove();
            return;
        }
        lock.mode = self.waiting[lock.queue].mode;
        while lock.queue != NONE && self.waiting[lock.queue].mode == lock.mode {
            let first = lock.queue;
            self.waiting.unlink(&mut lock.queue, first);
            granted(self.waiting.remove(first).visit);
            lock.holders += 1;
            if lock.mode == Mode::Exclusive {
                return;
            }
        }
    }

    /// Takes a visit that will not wait any longer out of the queue, if it stands there. `true`: it did, and holds nothing here.
    pub fn withdraw(&mut self, resource: Resource, visit: VisitSlot) -> bool {
        let Some(lock) = self.locks.get_mut(&resource) else { return false };
        let Some(place) = self.waiting.ring(lock.queue).find(|&place| self.waiting[place].visit == visit) else {
            return false;
        };
        self.waiting.unlink(&mut lock.queue, place);
        self.waiting.remove(place);
        true
    }

    /// Locks held.
    pub fn len(&self) -> usize {
        self.locks.len()
    }

    /// Whether nothing is locked.
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COIN: Resource = Resource::Circulation;

    fn released(locks: &mut Locks) -> Vec<VisitSlot> {
        let mut granted = Vec::new();
        locks.release(COIN, |visit| granted.push(visit));
        granted
    }

    #[test]
    fn exclusive_holders_come_one_after_the_other() {
        let mut locks = Locks::default();
        assert!(locks.acquire(COIN, Mode::Exclusive, 1));
        assert!(!locks.acquire(COIN, Mode::Exclusive, 2));
        assert!(!locks.acquire(COIN, Mode::Exclusive, 3));
        assert_eq!(released(&mut locks), [2]);
        assert_eq!(released(&mut locks), [3]);
        assert!(released(&mut locks).is_empty());
        assert!(locks.is_empty());
    }

    #[test]
    fn equals_go_together_but_nobody_overtakes() {
        let mut locks = Locks::default();
        assert!(locks.acquire(COIN, Mode::Shared, 1));
        assert!(locks.acquire(COIN, Mode::Shared, 2));
        assert!(!locks.acquire(COIN, Mode::Intent, 3));
        assert!(!locks.acquire(COIN, Mode::Shared, 4), "a reader behind a waiting writer waits");
        assert!(!locks.acquire(COIN, Mode::Shared, 5));
        assert!(released(&mut locks).is_empty());
        assert_eq!(released(&mut locks), [3]);
        assert_eq!(released(&mut locks), [4, 5]);
    }

    #[test]
    fn who_withdraws_is_not_granted() {
        let mut locks = Locks::default();
        assert!(locks.acquire(COIN, Mode::Exclusive, 1));
        assert!(!locks.acquire(COIN, Mode::Shared, 2));
        assert!(!locks.acquire(COIN, Mode::Shared, 3));
        assert!(locks.withdraw(COIN, 2));
        assert!(!locks.withdraw(COIN, 1), "a holder does not stand in the queue");
        assert_eq!(released(&mut locks), [3]);
    }

    #[test]
    #[should_panic(expected = "not held")]
    fn giving_back_what_is_not_held_is_our_mistake() {
        Locks::default().release(COIN, |_| {});
    }
}
