//! A hash table of the numbers of things that stand elsewhere.
//!
//! It is one table in 256 parts. A table that grows moves all it has at once, and looks at each thing to do so: with
//! millions of lockers that would be a second in which the shard serves nobody. Parts grow one by one, at
//! different moments, and each takes milliseconds.
//!
//! Memory: 5 bytes a place, 7 to 14 of 16 places filled: 5.7 to 11.4 bytes a number.

use std::iter::Flatten;
use std::vec;

use hashbrown::HashTable;

const PARTS: usize = 256;
/// Groups of parts: few, so that the processor keeps the ends of as many lists at hand.
const GROUPS: usize = 32;

/// Numbers by hash. Its callers compare the things themselves.
pub struct NumberTable {
    parts: Box<[HashTable<u32>]>,
}

impl NumberTable {
    /// No numbers yet.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// No numbers yet, and room for so many, evenly spread.
    pub fn with_capacity(numbers: usize) -> Self {
        Self { parts: (0..PARTS).map(|_| HashTable::with_capacity(share(numbers, PARTS))).collect() }
    }

    /// The number of this hash that `is_it` says yes to.
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.parts[part(hash)].find(hash, |&number| is_it(number)).copied()
    }

    /// The place of the number of this hash that `is_it` says yes to. Only a number of the same hash may replace it.
    pub fn find_mut(&mut self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<&mut u32> {
        self.parts[part(hash)].find_mut(hash, |&number| is_it(number))
    }

    /// Adds a number of this hash; `hash_of` tells those of the others.
    pub fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        self.parts[part(hash)].insert_unique(hash, number, |&other| hash_of(other));
    }

    /// Takes the number out that is of this hash and that `is_it` says yes to.
    pub fn remove(&mut self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let found = self.parts[part(hash)].find_entry(hash, |&number| is_it(number)).ok()?;
        Some(found.remove().0)
    }

    /// How many numbers it has room for before a part of it grows, if they are evenly spread.
    pub fn capacity(&self) -> usize {
        self.parts.iter().map(HashTable::capacity).sum()
    }

    /// Bytes it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let tables: usize = self.parts.iter().map(HashTable::allocation_size).sum();
        tables + size_of_val(&*self.parts)
    }
}

/// So many things, grouped by the parts of their hashes. Who enters many group by group finds what he touches in the
/// processor's cache.
pub fn in_groups<T>(
    count: usize,
    things: impl Iterator<Item = T>,
    hash_of: impl Fn(&T) -> u64,
) -> Flatten<vec::IntoIter<Vec<T>>> {
    let mut groups: Vec<Vec<T>> = (0..GROUPS).map(|_| Vec::with_capacity(share(count, GROUPS))).collect();
    things.for_each(|thing| groups[part(hash_of(&thing)) % GROUPS].push(thing));
    groups.into_iter().flatten()
}

/// Room for one of many equal shares: the fullest has somewhat more than the others.
const fn share(things: usize, shares: usize) -> usize {
    things / shares + things / shares / 8
}

impl Default for NumberTable {
    fn default() -> Self {
        Self::new()
    }
}

/// The part of a hash, by bits that the parts' own tables do not look at: those use the lowest and the highest seven.
const fn part(hash: u64) -> usize {
    (hash >> 48) as usize % PARTS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::entropy::mix;

    #[test]
    fn parts_fill_evenly() {
        let mut table = NumberTable::new();
        (0..25_600).for_each(|number| table.insert(mix(number.into()), number, |number| mix(number.into())));
        assert!(table.parts.iter().all(|part| (50..150).contains(&part.len())));
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((0u32..60, any::<bool>()), 0..400)) {
            // A poor hash: numbers share it.
            let hash_of = |number: u32| mix(u64::from(number / 3));
            let mut table = NumberTable::new();
            let mut model = BTreeSet::new();
            for (number, add) in steps {
                let known = Some(number).filter(|number| model.contains(number));
                let hash = hash_of(number);
                prop_assert_eq!(table.find(hash, |other| other == number), known);
                prop_assert_eq!(table.find_mut(hash, |other| other == number).copied(), known);
                if !add {
                    prop_assert_eq!(table.remove(hash, |other| other == number), known);
                    model.remove(&number);
                } else if model.insert(number) {
                    table.insert(hash, number, hash_of);
                }
            }
            for number in 0..60 {
                let known = table.find(hash_of(number), |other| other == number).is_some();
                prop_assert_eq!(known, model.contains(&number));
            }
        }
    }
}
