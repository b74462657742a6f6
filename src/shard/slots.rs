//! Things of one kind in one growing array, named by their number, with rings of links between them.
//!
//! What a shard's views are built of: a thing that goes leaves its place to the next that comes, so the array grows
//! only when there is more than ever before, and then by an eighth. Rings are circular and doubly linked: whoever
//! keeps one keeps the number of its first thing, [`NONE`] when it is empty.

use std::ops::{Index, IndexMut};

/// The number of no thing.
pub const NONE: u32 = u32::MAX;

/// A thing's neighbours in the ring it is in; in a vacant place, `next` is the next vacant one.
#[derive(Clone, Copy, Debug)]
pub struct Links {
    next: u32,
    previous: u32,
}

impl Links {
    /// The number of the thing after this one in its ring.
    pub const fn next(&self) -> u32 {
        self.next
    }
}

impl Default for Links {
    fn default() -> Self {
        Self { next: NONE, previous: NONE }
    }
}

/// A thing that [`Slots`] keeps. Its default stands in vacant places.
pub trait Slot: Copy + Default {
    /// Its links. A thing that is in no ring has them all the same, for when its place is vacant.
    fn links(&self) -> &Links;
    /// Its links, to change.
    fn links_mut(&mut self) -> &mut Links;
}

/// Things by number.
pub struct Slots<T> {
    items: Vec<T>,
    vacant: u32,
    used: usize,
}

impl<T: Slot> Slots<T> {
    /// No things yet.
    pub const fn new() -> Self {
        Self { items: Vec::new(), vacant: NONE, used: 0 }
    }

    /// How many things there are.
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Every number a thing may have, vacant ones included.
    pub fn numbers(&self) -> std::ops::Range<u32> {
        0..self.items.len() as u32
    }

    /// Bytes it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.items.capacity() * size_of::<T>()
    }

    /// Keeps a thing; returns its number.
    pub fn insert(&mut self, item: T) -> u32 {
        self.used += 1;
        if self.vacant != NONE {
            let number = self.vacant;
            self.vacant = self[number].links().next;
            self[number] = item;
            return number;
        }
        let number = u32::try_from(self.items.len()).expect("fewer things than numbers");
        assert!(number != NONE);
        if self.items.len() == self.items.capacity() {
            self.items.reserve_exact((self.items.len() / 8).max(16));
        }
        self.items.push(item);
        number
    }

    /// Gives a thing back and overwrites it. It must be in no ring.
    pub fn remove(&mut self, number: u32) -> T {
        let item = std::mem::take(&mut self[number]);
        self[number].links_mut().next = self.vacant;
        self.vacant = number;
        self.used -= 1;
        item
    }

    /// Puts a thing at the end of a ring.
    pub fn append(&mut self, first: &mut u32, number: u32) {
        let (next, previous) = match *first {
            NONE => (number, number),
            first => (first, self[first].links().previous),
        };
        *self[number].links_mut() = Links { next, previous };
        self[previous].links_mut().next = number;
        self[next].links_mut().previous = number;
        if *first == NONE {
            *first = number;
        }
    }

    /// Takes a thing out of the ring it is in.
    pub fn unlink(&mut self, first: &mut u32, number: u32) {
        let Links { next, previous } = std::mem::take(self[number].links_mut());
        assert!(next != NONE && *first != NONE);
        if next == number {
            assert!(*first == number);
            *first = NONE;
            return;
        }
        self[previous].links_mut().next = next;
        self[next].links_mut().previous = previous;
        if *first == number {
            *first = next;
        }
    }

    /// The numbers of a ring, from its first.
    pub fn ring(&self, first: u32) -> impl Iterator<Item = u32> {
        let next = move |&number: &u32| Some(self[number].links().next).filter(|&next| next != first);
        std::iter::successors(Some(first).filter(|&first| first != NONE), next)
    }
}

impl<T: Slot> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Index<u32> for Slots<T> {
    type Output = T;
    fn index(&self, number: u32) -> &T {
        &self.items[number as usize]
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.items[number as usize]
    }
}

/// Implements [`Slot`] for a type that keeps its links in a field of that name.
macro_rules! slot_with_links {
    ($type:ty) => {
        impl $crate::shard::slots::Slot for $type {
            fn links(&self) -> &$crate::shard::slots::Links {
                &self.links
            }
            fn links_mut(&mut self) -> &mut $crate::shard::slots::Links {
                &mut self.links
            }
        }
    };
}
pub(super) use slot_with_links;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Default)]
    struct Thing {
        name: u32,
        links: Links,
    }

    slot_with_links!(Thing);

    #[test]
    fn a_vacant_place_is_taken_before_the_array_grows() {
        let mut things = Slots::new();
        let numbers: Vec<_> = (1..=100).map(|name| things.insert(Thing { name, ..Thing::default() })).collect();
        let bytes = things.memory_bytes();
        assert_eq!(things.remove(numbers[40]).name, 41);
        assert_eq!(things.remove(numbers[60]).name, 61);
        assert_eq!(things[numbers[60]].name, 0, "it is overwritten");
        assert_eq!(things.len(), 98);
        let again = [7, 8].map(|name| things.insert(Thing { name, ..Thing::default() }));
        assert_eq!(again, [numbers[60], numbers[40]]);
        assert_eq!(things.memory_bytes(), bytes);
        assert_eq!(things.numbers(), 0..100);
    }

    #[test]
    fn no_more_than_an_eighth_of_a_large_array_is_reserved() {
        let mut things = Slots::new();
        for name in 0..10_000 {
            things.insert(Thing { name, ..Thing::default() });
        }
        assert!(things.memory_bytes() <= 10_000 * size_of::<Thing>() * 9 / 8);
    }

    proptest! {
        #[test]
        fn rings_are_lists(steps in prop::collection::vec((0usize..3, 0usize..20), 0..200)) {
            let mut things = Slots::<Thing>::new();
            let mut rings = [(NONE, Vec::new()), (NONE, Vec::new()), (NONE, Vec::new())];
            for (name, (ring, at)) in steps.into_iter().enumerate() {
                let (first, model) = &mut rings[ring];
                if at < model.len() {
                    let (number, name) = model.remove(at);
                    things.unlink(first, number);
                    prop_assert_eq!(things.remove(number).name, name);
                } else {
                    let name = name as u32;
                    let number = things.insert(Thing { name, ..Thing::default() });
                    things.append(first, number);
                    model.push((number, name));
                }
                for (first, model) in &rings {
                    let ring: Vec<_> = things.ring(*first).map(|number| (number, things[number].name)).collect();
                    prop_assert_eq!(&ring, model);
                }
                prop_assert_eq!(things.len(), rings.iter().map(|(_, model)| model.len()).sum::<usize>());
            }
        }
    }
}
