//! Which coins are in the regular lockers that this shard is home of.
//!
//! A view: a pure function of the records of all shards' coins, changed by the one write path alone and rebuilt by it.
//! It finds candidates; whether a coin is in a locker, its own record says.
//!
//! # Memory
//! Bytes a coin at the worst moment, a table just grown (7 of 16 places filled) and an eighth of the array vacant:
//! a locker of one coin takes 32 · 9/8 + 2 · 5 · 16/7 = 59; of two, 29.5 + 16 · 9/8 + 5 · 16/7 = 59 each; of many, 30 each.
//!
//! # What clients can do to it
//! Keys are theirs to choose. A million lockers of one prefix cost nobody time: look-ups by key never walk
//! them, and the table of prefixes has one entry for them all, the first of a ring. [`Lockers::by_prefix`] tries the
//! eldest first, up to a bound that its caller sets: whoever fills that bound before a locker exists keeps
//! its owner from encryption type 2 with it, and from nothing else.

use crate::coin::{CoinId, Secret};

use super::coin_lists::{CoinList, CoinLists};
use super::keyed_hash::KeyedHash;
use super::number_table::{NumberTable, in_groups};
use super::partition::{key_prefix, prefix_number};
use super::slots::{Links, NONE, Slots, slot_with_links};

/// A locker with coins.
#[derive(Clone, Copy, Default)]
struct Locker {
    key: Secret,
    coins: CoinList,
    /// The ring of lockers whose keys have the same first five bytes.
    links: Links,
}

const _: () = assert!(size_of::<Locker>() == 32);

slot_with_links!(Locker);

impl Locker {
    fn prefix(&self) -> [u8; 5] {
        key_prefix(&self.key)
    }
}

/// The regular lockers that a shard is home of.
pub struct Lockers {
    hash: KeyedHash,
    lockers: Slots<Locker>,
    coins: CoinLists,
    by_key: NumberTable,
    /// The first of each ring of lockers of the same prefix.
    by_prefix: NumberTable,
}

impl Lockers {
    /// No lockers yet.
    pub fn new(hash: KeyedHash) -> Self {
        Self::with_capacity(hash, 0)
    }

    /// The lockers of these coins, in a fraction of the time that entering one after the other takes.
    ///
    /// # Panics
    /// When a coin is there twice.
    pub fn of(hash: KeyedHash, coins: Vec<Vec<(CoinId, Secret)>>) -> Self {
        let count = coins.iter().map(Vec::len).sum();
        let mut made = Self::with_capacity(hash, count);
        for (coin, key) in in_groups(count, coins.into_iter().flatten(), |(_, key)| hash.bytes(key.bytes())) {
            let number = made.find(&key).unwrap_or_else(|| made.open_by_key(&key));
            made.coins.enter(&mut made.lockers[number].coins, number, coin);
        }
        let lockers = &made.lockers;
        let prefixes = lockers.numbers().map(|number| (lockers[number].prefix(), number));
        let prefixes = in_groups(lockers.len(), prefixes, |(prefix, _)| hash.number(prefix_number(*prefix)));
        prefixes.for_each(|(prefix, number)| made.open_by_prefix(prefix, number));
        made
    }

    fn with_capacity(hash: KeyedHash, lockers: usize) -> Self {
        Self {
            hash,
            lockers: Slots::new(),
            coins: CoinLists::new(hash),
            by_key: NumberTable::with_capacity(lockers),
            by_prefix: NumberTable::with_capacity(lockers),
        }
    }

    /// Notes that a coin came into the locker of a key, which starts to exist with its first coin.
    ///
    /// # Panics
    /// When the coin is in a locker already.
    pub fn enter(&mut self, key: &Secret, coin: CoinId) {
        let number = self.find(key).unwrap_or_else(|| self.open(key));
        self.coins.enter(&mut self.lockers[number].coins, number, coin);
    }

    /// Notes that a coin left the locker of a key, which ends to exist with its last coin.
    ///
    /// # Panics
    /// When the coin was not in it.
    pub fn leave(&mut self, key: &Secret, coin: CoinId) {
        let number = self.find(key).expect("a coin leaves a locker that exists");
        let list = &mut self.lockers[number].coins;
        self.coins.leave(list, number, coin);
        if list.is_empty() {
            self.close(number);
        }
    }

    /// The coins of the locker of a key, in the order they came; `None` where there is no such locker.
    pub fn coins(&self, key: &Secret) -> Option<impl ExactSizeIterator<Item = CoinId>> {
        self.find(key).map(|number| self.coins.coins(self.lockers[number].coins))
    }

    /// Whether there is a locker of a key.
    pub fn contains(&self, key: &Secret) -> bool {
        self.find(key).is_some()
    }

    /// Shows the keys that start with these five bytes, the eldest lockers first, no more than `max`.
    pub fn by_prefix(&self, prefix: [u8; 5], max: usize, mut key: impl FnMut(&Secret)) {
        let hash = self.hash.number(prefix_number(prefix));
        let first = self.by_prefix.find(hash, |number| self.lockers[number].prefix() == prefix);
        let ring = self.lockers.ring(first.unwrap_or(NONE));
        ring.take(max).for_each(|number| key(&self.lockers[number].key));
    }

    /// How many lockers there are.
    pub const fn lockers(&self) -> usize {
        self.lockers.len()
    }

    /// How many coins are in them.
    pub const fn coins_total(&self) -> usize {
        self.coins.len()
    }

    /// How many lockers the index has room for before it grows.
    pub fn capacity(&self) -> usize {
        self.by_key.capacity()
    }

    /// Bytes they take in memory.
    pub fn memory_bytes(&self) -> usize {
        let tables = self.by_key.memory_bytes() + self.by_prefix.memory_bytes();
        self.lockers.memory_bytes() + self.coins.memory_bytes() + tables
    }

    fn find(&self, key: &Secret) -> Option<u32> {
        self.by_key.find(self.hash.bytes(key.bytes()), |number| self.lockers[number].key == *key)
    }

    /// Makes the empty locker of a key that has none.
    fn open(&mut self, key: &Secret) -> u32 {
        let number = self.open_by_key(key);
        self.open_by_prefix(key_prefix(key), number);
        number
    }

    /// Makes an empty locker, found by its key and not yet by its prefix, in a ring of its own.
    fn open_by_key(&mut self, key: &Secret) -> u32 {
        let hash = self.hash;
        let number = self.lockers.insert(Locker { key: *key, ..Locker::default() });
        self.lockers.append(&mut { NONE }, number);
        let lockers = &self.lockers;
        self.by_key.insert(hash.bytes(key.bytes()), number, |other| hash.bytes(lockers[other].key.bytes()));
        number
    }

    /// Has a locker found by its prefix too.
    fn open_by_prefix(&mut self, prefix: [u8; 5], number: u32) {
        let (hash, lockers) = (self.hash, &mut self.lockers);
        let prefix_hash = |prefix| hash.number(prefix_number(prefix));
        match self.by_prefix.find_mut(prefix_hash(prefix), |other| lockers[other].prefix() == prefix) {
            Some(first) => lockers.append(first, number),
            None => self.by_prefix.insert(prefix_hash(prefix), number, |other| prefix_hash(lockers[other].prefix())),
        }
    }

    /// Unmakes an empty locker.
    fn close(&mut self, number: u32) {
        let lockers = &mut self.lockers;
        let (key_hash, prefix) = (self.hash.bytes(lockers[number].key.bytes()), lockers[number].prefix());
        self.by_key.remove(key_hash, |other| other == number).expect("a locker is found by its key");
        let prefix_hash = self.hash.number(prefix_number(prefix));
        let first = self.by_prefix.find_mut(prefix_hash, |other| lockers[other].prefix() == prefix);
        let first = first.expect("a locker is found by its prefix");
        lockers.unlink(first, number);
        if *first == NONE {
            self.by_prefix.remove(prefix_hash, |other| other == NONE);
        }
        lockers.remove(number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::keyed_hash::tests::Seeded;
    use super::*;

    fn lockers() -> Lockers {
        Lockers::new(KeyedHash::new(&mut Seeded(1)))
    }

    fn coin(number: u32) -> CoinId {
        CoinId::from_number(number).unwrap()
    }

    /// A key of a prefix and a number.
    fn key(prefix: u8, number: u32) -> Secret {
        let mut bytes = [prefix; 16];
        bytes[8..12].copy_from_slice(&number.to_be_bytes());
        bytes[12..].fill(0xFF);
        Secret::new(bytes)
    }

    fn of_prefix(lockers: &Lockers, prefix: u8, max: usize) -> Vec<[u8; 16]> {
        let mut keys = Vec::new();
        lockers.by_prefix([prefix; 5], max, |key| keys.push(*key.bytes()));
        keys
    }

    /// Bytes a coin when there are `lockers` of `each` coins.
    fn bytes_a_coin(count: u32, each: u32) -> usize {
        let mut lockers = lockers();
        for number in 0..count * each {
            let mut bytes = [0xFF; 16];
            bytes[..4].copy_from_slice(&(number / each).to_be_bytes());
            lockers.enter(&Secret::new(bytes), coin(number));
        }
        assert_eq!((lockers.lockers(), lockers.coins_total()), (count as usize, (count * each) as usize));
        lockers.memory_bytes().div_ceil(lockers.coins_total())
    }

    #[test]
    fn a_coin_takes_at_most_64_bytes_also_where_a_table_has_just_grown() {
        // Tables of 512 places have 448 filled, 114,688 in 256 parts, before they grow.
        for count in [114_688, 118_000, 122_000, 126_000] {
            assert!(bytes_a_coin(count, 1) <= 64, "{}", bytes_a_coin(count, 1));
            assert!(bytes_a_coin(count, 2) <= 64, "{}", bytes_a_coin(count, 2));
        }
        assert!(bytes_a_coin(16, 7_169) <= 32, "{}", bytes_a_coin(16, 7_169));
    }

    #[test]
    fn many_lockers_of_one_prefix_come_and_go_as_others_do() {
        let mut lockers = lockers();
        let count = 50_000;
        for number in 0..count {
            lockers.enter(&key(9, number), coin(number));
        }
        let eldest: Vec<_> = (0..256).map(|number| *key(9, number).bytes()).collect();
        assert_eq!(of_prefix(&lockers, 9, 256), eldest);
        for number in 0..count {
            assert_eq!(lockers.coins(&key(9, number)).map(|coins| coins.len()), Some(1));
            lockers.leave(&key(9, number), coin(number));
        }
        assert_eq!(of_prefix(&lockers, 9, 256), Vec::<[u8; 16]>::new());
        assert_eq!((lockers.lockers(), lockers.coins_total()), (0, 0));
    }

    #[test]
    #[should_panic(expected = "a coin leaves a locker that exists")]
    fn no_coin_leaves_a_locker_that_is_not() {
        lockers().leave(&key(1, 1), coin(1));
    }

    #[test]
    #[should_panic(expected = "a coin leaves a list it is not in")]
    fn no_coin_leaves_a_locker_it_is_not_in() {
        let mut lockers = lockers();
        lockers.enter(&key(1, 1), coin(1));
        lockers.enter(&key(1, 2), coin(2));
        lockers.leave(&key(1, 1), coin(2));
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_lists(steps in prop::collection::vec((0u8..3, 0u32..3, 0u32..16), 0..300)) {
            let mut lockers = lockers();
            // In order of their coming: key and coins.
            let mut model: Vec<(Secret, Vec<CoinId>)> = Vec::new();
            let mut place: BTreeMap<CoinId, Secret> = BTreeMap::new();
            for (prefix, number, coin_number) in steps {
                let coin = coin(coin_number);
                if let Some(key) = place.remove(&coin) {
                    lockers.leave(&key, coin);
                    model.iter_mut().for_each(|(_, coins)| coins.retain(|&other| other != coin));
                    model.retain(|(_, coins)| !coins.is_empty());
                } else {
                    let key = key(prefix, number);
                    lockers.enter(&key, coin);
                    place.insert(coin, key);
                    match model.iter_mut().find(|(other, _)| *other == key) {
                        Some((_, coins)) => coins.push(coin),
                        None => model.push((key, vec![coin])),
                    }
                }
                for key in (0..9).map(|number| key(number as u8 / 3, number % 3)) {
                    let expected = model.iter().find(|(other, _)| *other == key).map(|(_, coins)| coins.clone());
                    prop_assert_eq!(lockers.contains(&key), expected.is_some());
                    prop_assert_eq!(lockers.coins(&key).map(Iterator::collect::<Vec<_>>), expected);
                }
                for prefix in 0..3 {
                    let keys = model.iter().map(|(key, _)| *key.bytes()).filter(|key| key[0] == prefix);
                    prop_assert_eq!(of_prefix(&lockers, prefix, 2), keys.take(2).collect::<Vec<_>>());
                }
                prop_assert_eq!(lockers.lockers(), model.len());
                prop_assert_eq!(lockers.coins_total(), place.len());
            }
        }
    }
}
