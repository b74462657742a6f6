//! The trade lockers that this shard is home of: what is for sale, for what, and who is paid.
//!
//! A view: a pure function of the coins' records and of the orders, changed by the one write path alone and rebuilt
//! by it. An **offer** is what is known of one AN: its coins come from their records, its **order**
//! (when it was put for sale, and the payout address) from the log. Either may come first.
//!
//! An offer is *listed*, and can be bought, while it has coins and an order. Coins without an order (imported, or
//! named by hand) can still be peeked at and taken back by whoever has the AN. An offer whose last coin leaves
//! ends, its order with it.
//!
//! Invariants: an offer exists while it has coins or an order; the two orderings hold just the listed offers;
//! `values` and `listed` are their sums and counts. `offers_max` bounds what commands may add ([`Market::is_full`]), not what the
//! records say: truth always fits.

use std::ops::ControlFlow;

use sha2::{Digest, Sha256};

use crate::coin::{CoinId, PayoutAddress, Secret, TradeCoin};

use super::coin_lists::{CoinList, CoinLists};
use super::keyed_hash::KeyedHash;
use super::number_table::NumberTable;
use super::ordered::Ordered;
use super::slots::{Links, Slots, slot_with_links};
use crate::settings::Identifier;
use crate::wire::request::locker::SaleTerms;

/// What names a trade locker where everybody can read it (PROTOCOL.md, "Locker identifier").
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 9 | SHA-256("raida trade locker" ‖ AN), its first bytes; or with [`Identifier::An`] those of the AN |
/// | 9 | 4 | price |
/// | 13 | 1 | coin type |
/// | 14 | 2 | `EE EE` |
pub fn public_identifier(an: &Secret, kind: Identifier) -> [u8; 16] {
    let mut identifier = *an.bytes();
    if kind == Identifier::Hashed {
        let hash = Sha256::new().chain_update(b"raida trade locker").chain_update(an.bytes()).finalize();
        identifier[..9].copy_from_slice(&hash[..9]);
    }
    identifier
}

/// A listed offer, as everybody may see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListedOffer {
    /// What names it: see [`public_identifier`].
    pub identifier: [u8; 16],
    /// What it is sold for.
    pub coin: TradeCoin,
    /// What its coins are worth, in units of 10^-8.
    pub value: u64,
    /// What it costs, in the coin's units.
    pub price: u32,
}

#[derive(Clone, Copy)]
struct Order {
    sequence: u64,
    address: PayoutAddress,
}

#[derive(Clone, Copy, Default)]
struct Offer {
    an: Secret,
    identifier: [u8; 16],
    coins: CoinList,
    /// In units of 10^-8. All coins there are would not fit 64 bits.
    value: u128,
    order: Option<Order>,
    links: Links,
}

slot_with_links!(Offer);

/// Where a listed offer stands in the orderings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Listing {
    coin: TradeCoin,
    price: u32,
    value: u64,
    sequence: u64,
}

impl Offer {
    fn exists(&self) -> bool {
        !self.coins.is_empty() || self.order.is_some()
    }

    fn terms(&self) -> (TradeCoin, u32) {
        let terms = SaleTerms::of(&self.an).expect("an offer's AN is a trade locker's");
        (terms.coin_type, terms.price)
    }

    /// What its coins are worth. More than 64 bits can say is said as the most they can.
    fn value(&self) -> u64 {
        u64::try_from(self.value).unwrap_or(u64::MAX)
    }

    fn listing(&self) -> Option<Listing> {
        let order = self.order.filter(|_| !self.coins.is_empty())?;
        let (coin, price) = self.terms();
        Some(Listing { coin, price, value: self.value(), sequence: order.sequence })
    }
}

/// The trade lockers that a shard is home of.
pub struct Market {
    hash: KeyedHash,
    identifier: Identifier,
    offers_max: usize,
    offers: Slots<Offer>,
    coins: CoinLists,
    by_an: NumberTable,
    /// Empty where the identifier is the AN.
    by_identifier: NumberTable,
    by_listing: Ordered<Listing>,
    by_sequence: Ordered<(TradeCoin, u64)>,
    values: [u128; TradeCoin::ALL.len()],
    listed: [u64; TradeCoin::ALL.len()],
    orders_changed: u64,
}

impl Market {
    /// No offers yet; commands may add up to `offers_max`.
    pub fn new(hash: KeyedHash, identifier: Identifier, offers_max: usize) -> Self {
        Self {
            hash,
            identifier,
            offers_max,
            offers: Slots::new(),
            coins: CoinLists::new(hash),
            by_an: NumberTable::new(),
            by_identifier: NumberTable::new(),
            by_listing: Ordered::new(hash),
            by_sequence: Ordered::new(hash),
            values: [0; TradeCoin::ALL.len()],
            listed: [0; TradeCoin::ALL.len()],
            orders_changed: 0,
        }
    }

    /// Commands may add up to so many offers from now on.
    pub fn resize(&mut self, offers_max: usize) {
        self.offers_max = offers_max;
    }

    /// Notes that a coin came into the trade locker of an AN.
    ///
    /// # Panics
    /// When the coin is in a trade locker already, or the AN is none's.
    pub fn enter(&mut self, an: &Secret, coin: CoinId) {
        self.change(an, |offer, number, coins| {
            coins.enter(&mut offer.coins, number, coin);
            offer.value += u128::from(coin.denomination().value());
        });
    }

    /// Notes that a coin left the trade locker of an AN. With the last coin the order goes.
    ///
    /// # Panics
    /// When the coin was not in it.
    pub fn leave(&mut self, an: &Secret, coin: CoinId) {
        assert!(self.contains(an), "a coin leaves a trade locker that exists");
        let order_ended = self.change(an, |offer, number, coins| {
            coins.leave(&mut offer.coins, number, coin);
            offer.value -= u128::from(coin.denomination().value());
            offer.coins.is_empty() && offer.order.take().is_some()
        });
        self.orders_changed += u64::from(order_ended);
    }

    /// Notes under which sequence the trade locker of an AN was put for sale, and who is paid. Its coins may come
    /// before or after. Of several orders the one of the highest sequence counts, in whatever order they come.
    ///
    /// # Panics
    /// When the AN is no trade locker's.
    pub fn set_order(&mut self, an: &Secret, sequence: u64, address: PayoutAddress) {
        let changed = self.change(an, |offer, _, _| {
            let newer = offer.order.is_none_or(|order| order.sequence < sequence);
            if newer {
                offer.order = Some(Order { sequence, address });
            }
            newer
        });
        self.orders_changed += u64::from(changed);
    }

    /// Ends the orders that no coin came to: after a rebuild, those of trade lockers that are gone.
    pub fn drop_orders_without_coins(&mut self) {
        for number in self.offers.numbers() {
            if self.offers[number].order.is_some() && self.offers[number].coins.is_empty() {
                self.offers[number].order = None;
                self.orders_changed += 1;
                self.close(number);
            }
        }
    }

    /// Whether there are coins in the trade locker of an AN.
    pub fn contains(&self, an: &Secret) -> bool {
        self.with_coins(an).is_some()
    }

    /// The coins in the trade locker of an AN, in the order they came; `None` where there is no such.
    pub fn coins(&self, an: &Secret) -> Option<impl ExactSizeIterator<Item = CoinId>> {
        self.with_coins(an).map(|number| self.coins.coins(self.offers[number].coins))
    }

    /// The payout address of the trade locker of an AN, if it has an order.
    pub fn address(&self, an: &Secret) -> Option<PayoutAddress> {
        self.find_an(an).and_then(|number| self.offers[number].order).map(|order| order.address)
    }

    /// The AN of the trade locker that an AN or a public identifier names, as *peek trade locker* may.
    pub fn find(&self, an_or_identifier: &[u8; 16]) -> Option<Secret> {
        let of_identifier = || {
            let named = |number| self.offers[number].identifier == *an_or_identifier;
            let number = self.by_identifier.find(self.hash.bytes(an_or_identifier), named);
            number.filter(|&number| !self.offers[number].coins.is_empty())
        };
        let number = self.with_coins(&Secret::new(*an_or_identifier)).or_else(of_identifier)?;
        Some(self.offers[number].an)
    }

    /// The AN of the listed offer that was put for sale first of all that match exactly and are not held, as *buy* asks.
    pub fn first(&self, coin: TradeCoin, value: u64, price: u32, is_held: impl Fn(&Secret) -> bool) -> Option<Secret> {
        let mut found = None;
        self.by_listing.visit_from(Listing { coin, price, value, sequence: 0 }, |listing, number| {
            if (listing.coin, listing.price, listing.value) != (coin, price, value) {
                return ControlFlow::Break(());
            }
            found = Some(self.offers[number].an).filter(|an| !is_held(an));
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    /// Shows what is listed for a coin type and not held, with its sequence and in that order, no more than `max`.
    pub fn list(
        &self,
        coin: TradeCoin,
        max: usize,
        is_held: impl Fn(&Secret) -> bool,
        mut show: impl FnMut(u64, ListedOffer),
    ) {
        let mut left = max;
        self.by_sequence.visit_from((coin, 0), |(listed_for, sequence), number| {
            if left == 0 || listed_for != coin {
                return ControlFlow::Break(());
            }
            let offer = &self.offers[number];
            if is_held(&offer.an) {
                return ControlFlow::Continue(());
            }
            left -= 1;
            let (coin, price) = offer.terms();
            show(sequence, ListedOffer { identifier: offer.identifier, coin, value: offer.value(), price });
            ControlFlow::Continue(())
        });
    }

    /// Shows every order, for the checkpoint's image of them. In no particular order.
    pub fn orders(&self, mut show: impl FnMut(&Secret, u64, &PayoutAddress)) {
        for offer in self.offers.numbers().map(|number| &self.offers[number]) {
            if let Some(order) = &offer.order {
                show(&offer.an, order.sequence, &order.address);
            }
        }
    }

    /// How often an order came, changed or ended: while it stays the same, so do [`Market::orders`].
    pub const fn orders_changed(&self) -> u64 {
        self.orders_changed
    }

    /// How many offers there are, listed or not.
    pub const fn len(&self) -> usize {
        self.offers.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.offers.is_empty()
    }

    /// Whether no command may add an offer.
    pub const fn is_full(&self) -> bool {
        self.len() >= self.offers_max
    }

    /// What all offers listed for a coin type are worth, in units of 10^-8.
    pub const fn value(&self, coin: TradeCoin) -> u128 {
        self.values[coin as usize]
    }

    /// How many offers are listed for a coin type.
    pub const fn listed(&self, coin: TradeCoin) -> u64 {
        self.listed[coin as usize]
    }

    /// How many trade lockers the index has room for before it grows.
    pub fn capacity(&self) -> usize {
        self.by_an.capacity()
    }

    /// Bytes it takes in memory, the orderings aside.
    pub fn memory_bytes(&self) -> usize {
        let tables = self.by_an.memory_bytes() + self.by_identifier.memory_bytes();
        self.offers.memory_bytes() + self.coins.memory_bytes() + tables
    }

    fn find_an(&self, an: &Secret) -> Option<u32> {
        self.by_an.find(self.hash.bytes(an.bytes()), |number| self.offers[number].an == *an)
    }

    fn with_coins(&self, an: &Secret) -> Option<u32> {
        self.find_an(an).filter(|&number| !self.offers[number].coins.is_empty())
    }

    /// Changes the offer of an AN, made first if there is none, ended if nothing is left of it, and keeps the
    /// orderings and sums true.
    fn change<R>(&mut self, an: &Secret, change: impl FnOnce(&mut Offer, u32, &mut CoinLists) -> R) -> R {
        let number = self.find_an(an).unwrap_or_else(|| self.open(an));
        let before = self.offers[number].listing();
        let result = change(&mut self.offers[number], number, &mut self.coins);
        self.relist(number, before, self.offers[number].listing());
        if !self.offers[number].exists() {
            self.close(number);
        }
        result
    }

    fn relist(&mut self, number: u32, before: Option<Listing>, after: Option<Listing>) {
        if before == after {
            return;
        }
        let by_sequence = |listing: Listing| (listing.coin, listing.sequence);
        let same_sequence = before.map(by_sequence) == after.map(by_sequence);
        if let Some(listing) = before {
            self.values[listing.coin as usize] -= u128::from(listing.value);
            self.listed[listing.coin as usize] -= 1;
            self.by_listing.remove(number);
            if !same_sequence {
                self.by_sequence.remove(number);
            }
        }
        if let Some(listing) = after {
            self.values[listing.coin as usize] += u128::from(listing.value);
            self.listed[listing.coin as usize] += 1;
            self.by_listing.insert(number, listing);
            if !same_sequence {
                self.by_sequence.insert(number, by_sequence(listing));
            }
        }
    }

    /// Makes the offer of an AN, of nothing yet.
    fn open(&mut self, an: &Secret) -> u32 {
        assert!(SaleTerms::of(an).is_some(), "an offer's AN is a trade locker's");
        let (hash, identifier) = (self.hash, public_identifier(an, self.identifier));
        let number = self.offers.insert(Offer { an: *an, identifier, ..Offer::default() });
        let offers = &self.offers;
        self.by_an.insert(hash.bytes(an.bytes()), number, |other| hash.bytes(offers[other].an.bytes()));
        if self.identifier == Identifier::Hashed {
            self.by_identifier.insert(hash.bytes(&identifier), number, |other| hash.bytes(&offers[other].identifier));
        }
        number
    }

    /// Ends an offer of nothing.
    fn close(&mut self, number: u32) {
        let Offer { an, identifier, .. } = self.offers.remove(number);
        let is_it = |other| other == number;
        self.by_an.remove(self.hash.bytes(an.bytes()), is_it).expect("an offer is found by its AN");
        if self.identifier == Identifier::Hashed {
            self.by_identifier
                .remove(self.hash.bytes(&identifier), is_it)
                .expect("an offer is found by its identifier");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::keyed_hash::tests::Seeded;
    use super::*;

    fn market(identifier: Identifier) -> Market {
        Market::new(KeyedHash::new(&mut Seeded(1)), identifier, 3)
    }

    fn an(number: u8, coin: TradeCoin, price: u32) -> Secret {
        let mut bytes = [number; 16];
        bytes[9..13].copy_from_slice(&price.to_be_bytes());
        bytes[13..].copy_from_slice(&[coin as u8, 0xEE, 0xEE]);
        Secret::new(bytes)
    }

    fn address(number: u8) -> PayoutAddress {
        PayoutAddress::new(&[number; 20]).unwrap()
    }

    /// A coin worth 1.
    fn one(number: u32) -> CoinId {
        CoinId::new(-8, number).unwrap()
    }

    /// The sequences of the listed offers.
    fn listed(market: &Market, coin: TradeCoin, max: usize) -> Vec<u64> {
        let mut sequences = Vec::new();
        market.list(coin, max, |_| false, |sequence, _| sequences.push(sequence));
        sequences
    }

    #[test]
    fn golden_bytes_of_an_identifier() {
        let an = an(7, TradeCoin::Monero, 0x0102_0304);
        let hashed = b"\x28\x09\x0C\xB6\x9C\x57\xB0\x40\x48\x01\x02\x03\x04\x02\xEE\xEE";
        assert_eq!(&public_identifier(&an, Identifier::Hashed), hashed);
        assert_eq!(&public_identifier(&an, Identifier::An), an.bytes());
    }

    #[test]
    fn an_offer_is_found_by_an_and_by_identifier() {
        for identifier in [Identifier::Hashed, Identifier::An] {
            let mut market = market(identifier);
            let an = an(1, TradeCoin::Bitcoin, 500);
            let public = public_identifier(&an, identifier);
            assert_eq!(market.find(&public), None);
            market.enter(&an, one(1));
            assert_eq!(market.find(&public), Some(an));
            assert_eq!(market.find(an.bytes()), Some(an));
            market.leave(&an, one(1));
            assert_eq!(market.find(&public), None);
            assert_eq!(market.find(an.bytes()), None);
            assert!(market.is_empty());
        }
    }

    #[test]
    fn equal_offers_are_sold_first_come_first_served() {
        let mut market = market(Identifier::Hashed);
        let offers = [3, 1, 2].map(|number| (an(number, TradeCoin::CloudCoin, 9), u64::from(number)));
        for (place, (an, sequence)) in offers.iter().enumerate() {
            market.enter(an, one(place as u32));
            market.set_order(an, *sequence, address(1));
        }
        assert_eq!(listed(&market, TradeCoin::CloudCoin, 9), [1, 2, 3]);
        assert_eq!(listed(&market, TradeCoin::CloudCoin, 2), [1, 2]);
        assert!(listed(&market, TradeCoin::CloudCoin, 0).is_empty());
        assert_eq!(market.first(TradeCoin::CloudCoin, 1, 9, |_| false), Some(offers[1].0));
        assert_eq!(market.first(TradeCoin::Bitcoin, 1, 9, |_| false), None);
        assert_eq!(market.first(TradeCoin::CloudCoin, 2, 9, |_| false), None);
        assert_eq!(market.first(TradeCoin::CloudCoin, 0, 9, |_| false), None);
        assert_eq!(market.first(TradeCoin::CloudCoin, 1, 8, |_| false), None);
        assert_eq!(market.address(&offers[0].0), Some(address(1)));
        assert!(market.is_full());
        market.leave(&offers[1].0, one(1));
        assert_eq!(market.first(TradeCoin::CloudCoin, 1, 9, |_| false), Some(offers[2].0));
        assert!(!market.is_full());
    }

    #[test]
    fn coins_without_an_order_are_neither_listed_nor_sold() {
        let mut market = market(Identifier::Hashed);
        let an = an(1, TradeCoin::Bitcoin, 500);
        market.enter(&an, one(1));
        assert!(listed(&market, TradeCoin::Bitcoin, 9).is_empty());
        assert_eq!(market.first(TradeCoin::Bitcoin, 1, 500, |_| false), None);
        assert_eq!(market.value(TradeCoin::Bitcoin), 0);
        assert!(market.contains(&an));
    }

    #[test]
    fn an_order_without_coins_is_nothing_and_dropped_after_a_rebuild() {
        let mut market = market(Identifier::Hashed);
        let (gone, here) = (an(1, TradeCoin::Bitcoin, 5), an(2, TradeCoin::Bitcoin, 5));
        market.set_order(&gone, 1, address(1));
        market.set_order(&here, 2, address(2));
        assert!(!market.contains(&here));
        assert_eq!(market.find(&public_identifier(&here, Identifier::Hashed)), None);
        assert_eq!(market.find(here.bytes()), None);
        assert!(market.coins(&here).is_none());
        market.enter(&here, one(1));
        let changed = market.orders_changed();
        market.drop_orders_without_coins();
        assert_eq!(market.orders_changed(), changed + 1);
        assert_eq!(market.len(), 1);
        assert_eq!(listed(&market, TradeCoin::Bitcoin, 9), [2]);
    }

    #[test]
    fn the_latest_order_of_an_an_counts_whichever_comes_first() {
        let mut market = market(Identifier::Hashed);
        let an = an(1, TradeCoin::Bitcoin, 5);
        market.enter(&an, one(1));
        for sequence in [4, 9, 7] {
            market.set_order(&an, sequence, address(sequence as u8));
        }
        assert_eq!(market.orders_changed(), 2);
        assert_eq!(market.address(&an), Some(address(9)));
        assert_eq!(listed(&market, TradeCoin::Bitcoin, 9), [9]);
    }

    #[test]
    fn more_value_than_64_bits_say_does_not_break_it() {
        let mut market = market(Identifier::Hashed);
        let an = an(1, TradeCoin::Bitcoin, 5);
        market.set_order(&an, 1, address(1));
        let coins = || (0..200_000).map(|number| CoinId::new(6, number).unwrap());
        coins().for_each(|coin| market.enter(&an, coin));
        assert_eq!(market.first(TradeCoin::Bitcoin, u64::MAX, 5, |_| false), Some(an));
        coins().for_each(|coin| market.leave(&an, coin));
        assert_eq!(market.value(TradeCoin::Bitcoin), 0);
    }

    #[test]
    #[should_panic(expected = "an offer's AN is a trade locker's")]
    fn another_an_is_no_offer() {
        market(Identifier::Hashed).enter(&Secret::new([0xEE; 16]), one(1));
    }

    #[test]
    #[should_panic(expected = "a coin leaves a trade locker that exists")]
    fn no_coin_leaves_an_offer_of_no_coins() {
        let mut market = market(Identifier::Hashed);
        let an = an(1, TradeCoin::Bitcoin, 5);
        market.set_order(&an, 1, address(1));
        market.leave(&an, one(1));
    }

    /// What the model knows of an AN.
    #[derive(Default)]
    struct Known {
        coins: Vec<CoinId>,
        order: Option<u64>,
    }

    impl Known {
        fn value(&self) -> u64 {
            self.coins.iter().map(|coin| coin.denomination().value()).sum()
        }
    }

    /// Checks every answer of the market against the model.
    fn check(market: &Market, model: &BTreeMap<(u8, u32), Known>) -> Result<(), TestCaseError> {
        let coin_of = |number: u8| TradeCoin::ALL[usize::from(number) % 2];
        let name = |&(number, price): &(u8, u32)| an(number, coin_of(number), price);
        for (key, known) in model {
            let an = name(key);
            let coins = Some(known.coins.clone()).filter(|coins| !coins.is_empty());
            prop_assert_eq!(market.contains(&an), coins.is_some());
            prop_assert_eq!(market.find(&public_identifier(&an, Identifier::Hashed)), coins.as_ref().map(|_| an));
            prop_assert_eq!(market.coins(&an).map(Iterator::collect::<Vec<_>>), coins);
        }
        for coin in TradeCoin::ALL {
            let offers = model.iter().filter(|(key, known)| coin_of(key.0) == coin && !known.coins.is_empty());
            let mut offers: Vec<_> = offers.filter_map(|(key, known)| Some((known.order?, key, known))).collect();
            offers.sort_by_key(|&(sequence, ..)| sequence);
            let mut shown = Vec::new();
            market.list(coin, 4, |_| false, |sequence, offer| shown.push((sequence, offer)));
            let expected = offers.iter().take(4).map(|&(sequence, key, known)| {
                let identifier = public_identifier(&name(key), Identifier::Hashed);
                (sequence, ListedOffer { identifier, coin, value: known.value(), price: key.1 })
            });
            prop_assert_eq!(shown, expected.collect::<Vec<_>>());
            for (price, value) in (0..3).flat_map(|price| (0..5).map(move |value| (price, value))) {
                let first = offers.iter().find(|(_, key, known)| key.1 == price && known.value() == value);
                prop_assert_eq!(market.first(coin, value, price, |_| false), first.map(|(_, key, _)| name(key)));
            }
            let value = offers.iter().map(|(_, _, known)| u128::from(known.value())).sum::<u128>();
            prop_assert_eq!(market.value(coin), value);
            prop_assert_eq!(market.listed(coin), offers.len() as u64);
        }
        let mut orders = Vec::new();
        market.orders(|an, sequence, address| orders.push((*an.bytes(), sequence, *address)));
        orders.sort_by_key(|&(an, sequence, _)| (sequence, an));
        let expected = model.iter().filter_map(|(key, known)| Some((*name(key).bytes(), known.order?)));
        let mut expected: Vec<_> = expected.map(|(an, at)| (an, at, address(at as u8))).collect();
        expected.sort_by_key(|&(an, sequence, _)| (sequence, an));
        prop_assert_eq!(orders, expected);
        let exist = model.values().filter(|known| !known.coins.is_empty() || known.order.is_some());
        prop_assert_eq!(market.len(), exist.count());
        Ok(())
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_offers(
            steps in prop::collection::vec((0u8..12, 0u8..4, 0u32..3, 0u32..10, 0u64..200), 0..120),
        ) {
            let mut market = market(Identifier::Hashed);
            let mut model: BTreeMap<(u8, u32), Known> = BTreeMap::new();
            let mut changes = 0;
            for (what, number, price, coin, sequence) in steps {
                let an = |number: u8, price| an(number, TradeCoin::ALL[usize::from(number) % 2], price);
                let coin = one(coin);
                // No two ANs have an order of the same sequence.
                let sequence = sequence * 12 + u64::from(number) * 3 + u64::from(price);
                match what {
                    0 => {
                        market.drop_orders_without_coins();
                        let empty = model.values_mut().filter(|known| known.coins.is_empty());
                        changes += empty.filter_map(|known| known.order.take()).count() as u64;
                    }
                    1..4 => {
                        market.set_order(&an(number, price), sequence, address(sequence as u8));
                        let known = model.entry((number, price)).or_default();
                        changes += u64::from(known.order.is_none_or(|order| order < sequence));
                        known.order = known.order.max(Some(sequence));
                    }
                    _ => match model.iter_mut().find(|(_, known)| known.coins.contains(&coin)) {
                        Some((&(number, price), known)) => {
                            market.leave(&an(number, price), coin);
                            known.coins.retain(|&other| other != coin);
                            if known.coins.is_empty() {
                                changes += u64::from(known.order.take().is_some());
                            }
                        }
                        None => {
                            market.enter(&an(number, price), coin);
                            model.entry((number, price)).or_default().coins.push(coin);
                        }
                    },
                }
                check(&market, &model)?;
                prop_assert_eq!(market.orders_changed(), changes);
            }
        }
    }
}
