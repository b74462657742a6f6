//! Lists of coins: what is in a locker, regular or for sale.
//!
//! A list is two numbers in its owner's hands; its coins stand here, in the order they entered. Entering, leaving
//! (any coin, of a list of any length) and the step to the next coin cost the same however many there are.
//!
//! Memory: a list of one coin takes nothing here, as the coin stands in the list itself: most
//! lockers are such. From two coins on, each takes 16 bytes and up to 11.4 of table.

use crate::coin::CoinId;

use super::keyed_hash::KeyedHash;
use super::number_table::NumberTable;
use super::slots::{Links, NONE, Slots, slot_with_links};

/// A list of coins. Its owner keeps it and shows it with every call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoinList {
    /// Of one coin: the coin's number. Of more: the number of the first member. Of none: [`NONE`].
    first: u32,
    count: u32,
}

impl CoinList {
    /// A list of no coins.
    pub const EMPTY: Self = Self { first: NONE, count: 0 };

    /// How many coins it has.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Default for CoinList {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// A coin of a list of two or more.
#[derive(Clone, Copy)]
struct Member {
    coin: u32,
    owner: u32,
    links: Links,
}

const _: () = assert!(size_of::<Member>() == 16);

impl Default for Member {
    fn default() -> Self {
        Self { coin: NONE, owner: NONE, links: Links::default() }
    }
}

slot_with_links!(Member);

/// The coins of all lists.
pub struct CoinLists {
    hash: KeyedHash,
    members: Slots<Member>,
    /// Members by coin.
    by_coin: NumberTable,
    coins: usize,
}

impl CoinLists {
    /// No coins yet.
    pub fn new(hash: KeyedHash) -> Self {
        Self { hash, members: Slots::new(), by_coin: NumberTable::new(), coins: 0 }
    }

    /// How many coins all lists have.
    pub const fn len(&self) -> usize {
        self.coins
    }

    /// Whether no list has a coin.
    pub const fn is_empty(&self) -> bool {
        self.coins == 0
    }

    /// Bytes they take in memory.
    pub fn memory_bytes(&self) -> usize {
        self.members.memory_bytes() + self.by_coin.memory_bytes()
    }

    /// Puts a coin at the end of the list of `owner`.
    ///
    /// # Panics
    /// When it is in a list already.
    pub fn enter(&mut self, list: &mut CoinList, owner: u32, coin: CoinId) {
        match list.count {
            0 => {
                self.assert_is_no_member(coin.number());
                list.first = coin.number();
            }
            1 => {
                let only = std::mem::replace(&mut list.first, NONE);
                self.add_member(list, owner, only);
                self.add_member(list, owner, coin.number());
            }
            _ => self.add_member(list, owner, coin.number()),
        }
        list.count += 1;
        self.coins += 1;
    }

    /// Takes a coin out of the list of `owner`.
    ///
    /// # Panics
    /// When it is not in that list.
    pub fn leave(&mut self, list: &mut CoinList, owner: u32, coin: CoinId) {
        match list.count {
            0 => panic!("a coin leaves an empty list"),
            1 => {
                assert!(list.first == coin.number(), "a coin leaves a list it is not in");
                list.first = NONE;
            }
            count => {
                self.remove_member(list, owner, coin.number());
                if count == 2 {
                    let only = self.members[list.first].coin;
                    self.remove_member(list, owner, only);
                    list.first = only;
                }
            }
        }
        list.count -= 1;
        self.coins -= 1;
    }

    /// The coins of a list, in the order they entered.
    pub fn coins(&self, list: CoinList) -> impl ExactSizeIterator<Item = CoinId> {
        let mut next = list.first;
        (0..list.count as usize).map(move |_| {
            let coin = if list.count == 1 {
                next
            } else {
                let member = &self.members[next];
                next = member.links.next();
                member.coin
            };
            CoinId::from_number(coin).expect("a list holds coins")
        })
    }

    fn assert_is_no_member(&self, coin: u32) {
        let found = self.by_coin.find(self.hash.number(coin.into()), |number| self.members[number].coin == coin);
        assert!(found.is_none(), "a coin enters a second list");
    }

    fn add_member(&mut self, list: &mut CoinList, owner: u32, coin: u32) {
        self.assert_is_no_member(coin);
        let (hash, members) = (self.hash, &mut self.members);
        let number = members.insert(Member { coin, owner, links: Links::default() });
        self.by_coin.insert(hash.number(coin.into()), number, |other| hash.number(members[other].coin.into()));
        members.append(&mut list.first, number);
    }

    fn remove_member(&mut self, list: &mut CoinList, owner: u32, coin: u32) {
        let members = &mut self.members;
        let found = self.by_coin.remove(self.hash.number(coin.into()), |number| members[number].coin == coin);
        let number = found.expect("a coin leaves a list it is not in");
        assert!(members[number].owner == owner, "a coin leaves a list it is not in");
        members.unlink(&mut list.first, number);
        members.remove(number);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::keyed_hash::tests::Seeded;
    use super::*;

    fn lists() -> CoinLists {
        CoinLists::new(KeyedHash::new(&mut Seeded(1)))
    }

    fn coin(number: u32) -> CoinId {
        CoinId::from_number(number).unwrap()
    }

    /// A list of coins 0..count, of owner 0.
    fn list_of(lists: &mut CoinLists, count: u32) -> CoinList {
        let mut list = CoinList::EMPTY;
        (0..count).for_each(|number| lists.enter(&mut list, 0, coin(number)));
        list
    }

    #[test]
    #[should_panic(expected = "a coin enters a second list")]
    fn a_coin_is_in_one_list() {
        let mut lists = lists();
        list_of(&mut lists, 2);
        lists.enter(&mut CoinList::default(), 1, coin(1));
    }

    #[test]
    #[should_panic(expected = "a coin leaves a list it is not in")]
    fn a_coin_leaves_its_own_list() {
        let mut lists = lists();
        list_of(&mut lists, 2);
        let mut other = CoinList::EMPTY;
        (2..5).for_each(|number| lists.enter(&mut other, 1, coin(number)));
        lists.leave(&mut other, 1, coin(0));
    }

    #[test]
    #[should_panic(expected = "a coin leaves a list it is not in")]
    fn only_the_only_coin_leaves_a_list_of_one() {
        let mut lists = lists();
        let mut list = list_of(&mut lists, 1);
        lists.leave(&mut list, 0, coin(1));
    }

    #[test]
    #[should_panic(expected = "a coin leaves an empty list")]
    fn no_coin_leaves_an_empty_list() {
        lists().leave(&mut CoinList::default(), 0, coin(1));
    }

    #[test]
    fn a_long_list_empties_in_any_order() {
        let count = 13_000;
        for step in [1, 7_919, count - 1] {
            let mut lists = lists();
            let mut list = list_of(&mut lists, count);
            let bytes = lists.memory_bytes();
            for at in 0..count {
                assert_eq!(list.len(), (count - at) as usize);
                lists.leave(&mut list, 0, coin(at * step % count));
            }
            assert!(list.is_empty() && lists.is_empty());
            list_of(&mut lists, count);
            assert_eq!(lists.memory_bytes(), bytes, "what was left is used again");
        }
    }

    proptest! {
        #[test]
        fn they_are_lists(steps in prop::collection::vec((0usize..4, 0u32..12), 0..300)) {
            let mut lists = lists();
            let mut heads = [CoinList::EMPTY; 4];
            let mut model: [Vec<CoinId>; 4] = Default::default();
            for (owner, number) in steps {
                let coin = coin(number);
                match model.iter().position(|list| list.contains(&coin)) {
                    Some(owner) => {
                        lists.leave(&mut heads[owner], owner as u32, coin);
                        model[owner].retain(|&other| other != coin);
                    }
                    None => {
                        lists.enter(&mut heads[owner], owner as u32, coin);
                        model[owner].push(coin);
                    }
                }
                for (head, coins) in heads.iter().zip(&model) {
                    prop_assert_eq!(head.len(), coins.len());
                    prop_assert_eq!(head.is_empty(), coins.is_empty());
                    prop_assert_eq!(&lists.coins(*head).collect::<Vec<_>>(), coins);
                }
                prop_assert_eq!(lists.len(), model.iter().map(Vec::len).sum::<usize>());
            }
        }
    }
}
