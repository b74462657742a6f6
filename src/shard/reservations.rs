//! Which session was offered which words of free coins, and until when.
//!
//! *Get available change SNs* reserves what it offers; *break* and *join* create coins only out of
//! words that their session holds, then give them back. In memory alone: a restart forgets
//! reservations as time does.
//!
//! Bounded by construction: 16 bytes for each word of 64 coins that the shard has, 3.8 MB for a whole node.
//! A session is the number its client chose; 0 is none.

use crate::coin::{CoinId, DENOMINATIONS, Denomination};
use crate::mutant::{self, Mutant};

use super::free_map::{WORDS_PER_PAGE, WordNumber, WordSlot};
use super::interface::ShardId;
use super::partition::PageSlots;

/// Who holds a word.
#[derive(Clone, Copy, Default)]
struct Holder {
    /// When it ends to hold it, microseconds of [`Now::monotonic_us`](super::interface::Now::monotonic_us).
    until_us: u64,
    /// 0: nobody.
    session: u32,
}

const _: () = assert!(size_of::<Holder>() == 16);

/// The reservations of a shard's words.
pub struct Reservations {
    slots: PageSlots,
    holders: Box<[Holder]>,
    /// By denomination, when nobody will hold a word of it any more if nobody asks again.
    over_us: [u64; DENOMINATIONS],
    duration_us: u64,
}

impl Reservations {
    /// Those of `shard` of `shards`, each good for `duration_us` from when it was made or renewed.
    pub fn new(shard: ShardId, shards: u8, duration_us: u64) -> Self {
        let slots = PageSlots::new(shard, shards);
        let holders = vec![Holder::default(); slots.len() * WORDS_PER_PAGE as usize].into_boxed_slice();
        Self { slots, holders, over_us: [0; DENOMINATIONS], duration_us }
    }

    /// For a search of a session in a denomination: a function that reserves a word, or renews its reservation, and says
    /// whether the session now holds it. It does not where another still does.
    ///
    /// # Panics
    /// When the session is 0; the function does when the shard has no such word.
    pub fn for_search(
        &mut self,
        session: u32,
        den: Denomination,
        now_us: u64,
    ) -> impl FnMut(WordSlot) -> bool + use<'_> {
        assert!(session != 0);
        let until_us = now_us.saturating_add(self.duration_us);
        self.over_us[den.index()] = until_us;
        move |word| {
            let holder = &mut self.holders[word.index()];
            let available = holder.session == session || holder.until_us <= now_us || mutant::is(Mutant::PromisedTwice);
            if available {
                *holder = Holder { until_us, session };
            }
            available
        }
    }

    /// Whether a session holds the word of a coin. Session 0 holds nothing.
    ///
    /// # Panics
    /// When the coin is another shard's.
    pub fn holds(&self, coin: CoinId, session: u32, now_us: u64) -> bool {
        let holder = self.holders[WordNumber::of(coin).slot(self.slots).index()];
        session != 0 && holder.session == session && now_us < holder.until_us
    }

    /// Gives a word back, if the session holds it.
    ///
    /// # Panics
    /// When the word is another shard's.
    pub fn release(&mut self, word: WordNumber, session: u32) {
        let holder = &mut self.holders[word.slot(self.slots).index()];
        if holder.session == session {
            *holder = Holder::default();
        }
    }

    /// The words of a denomination that are held now. Looks at each, if any may be: for metrics, not for requests.
    pub fn held(&self, den: Denomination, now_us: u64) -> impl Iterator<Item = WordSlot> {
        let any = now_us < self.over_us[den.index()];
        let words = WordSlot::of_pages(if any { self.slots.of(den) } else { 0..0 });
        words.filter(move |word| {
            let holder = &self.holders[word.index()];
            holder.session != 0 && now_us < holder.until_us
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn word(number: u32) -> WordNumber {
        WordNumber::new(number).unwrap()
    }

    fn reserve(reservations: &mut Reservations, word: WordNumber, session: u32, now_us: u64) -> bool {
        let slot = word.slot(reservations.slots);
        reservations.for_search(session, word.page().denomination(), now_us)(slot)
    }

    #[test]
    fn a_reservation_is_its_sessions_until_it_expires() {
        let mut reservations = Reservations::new(ShardId(0), 1, 100);
        assert!(reserve(&mut reservations, word(5), 7, 1000));
        assert!(reservations.holds(word(5).coin(63), 7, 1099));
        assert!(!reservations.holds(word(5).coin(63), 8, 1099));
        assert!(!reservations.holds(word(6).coin(0), 7, 1099));
        assert!(!reserve(&mut reservations, word(5), 8, 1099));
        assert!(reserve(&mut reservations, word(5), 7, 1099), "its session renews it");
        assert!(reservations.holds(word(5).coin(0), 7, 1198));
        assert!(!reservations.holds(word(5).coin(0), 7, 1199));
        assert!(reserve(&mut reservations, word(5), 8, 1199), "expired, it is anyone's");
        assert!(!reservations.holds(word(5).coin(0), 7, 1199));
    }

    #[test]
    fn only_its_session_gives_a_word_back() {
        let mut reservations = Reservations::new(ShardId(1), 3, 100);
        let word = word(16);
        assert!(reserve(&mut reservations, word, 7, 0));
        reservations.release(word, 8);
        assert!(reservations.holds(word.coin(0), 7, 1));
        reservations.release(word, 7);
        assert!(!reservations.holds(word.coin(0), 7, 1));
        assert_eq!(reservations.held(word.page().denomination(), 1).count(), 0);
        assert!(reserve(&mut reservations, word, 8, 1));
    }

    #[test]
    fn session_0_holds_nothing() {
        let reservations = Reservations::new(ShardId(0), 1, 100);
        assert!(!reservations.holds(word(0).coin(0), 0, 0));
    }

    #[test]
    #[should_panic(expected = "session != 0")]
    fn session_0_cannot_reserve() {
        let reserved = reserve(&mut Reservations::new(ShardId(0), 1, 100), word(0), 0, 0);
        assert!(!reserved);
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_words(
            steps in prop::collection::vec((0u32..3, 0u32..6, 1u32..4, 0u64..30), 1..200),
        ) {
            let (shards, duration) = (3, 50);
            let mut reservations = Reservations::new(ShardId(2), shards, duration);
            let mut model: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
            let mut now = 0;
            for (what, which, session, later) in steps {
                now += later;
                // Two words of each of three pages of the shard.
                let number = (which / 2 * 3 + 2) * 16 + which % 2 * 15;
                let holder = model.get(&number).copied().filter(|&(_, until)| now < until);
                let others = holder.is_some_and(|(holder, _)| holder != session);
                let own = holder.is_some_and(|(holder, _)| holder == session);
                prop_assert_eq!(reservations.holds(word(number).coin(which), session, now), own);
                match what {
                    0 => reservations.release(word(number), session),
                    _ => prop_assert_eq!(reserve(&mut reservations, word(number), session, now), !others),
                }
                match what {
                    0 if own => drop(model.remove(&number)),
                    1.. if !others => drop(model.insert(number, (session, now + duration))),
                    _ => {}
                }
                let held = model.iter().filter(|&(_, &(_, until))| now < until);
                let held: Vec<_> = held.map(|(&number, _)| word(number).slot(reservations.slots)).collect();
                let den = Denomination::SMALLEST;
                prop_assert_eq!(reservations.held(den, now).collect::<Vec<_>>(), held);
                prop_assert_eq!(reservations.held(Denomination::LARGEST, now).count(), 0);
            }
        }
    }
}
