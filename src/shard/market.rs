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
//! `values` are their sums. `offers_max` bounds what commands may add ([`Market::is_full`]), not what the
//! records say: truth always fits.

use std::ops::ControlFlow;

use hashbrown::HashTable;
use sha2::{Digest, Sha256};

use crate::coin::{CoinId, PayoutAddress, Place, Secret, TradeCoin};

use super::coin_lists::{CoinList, CoinLists};
use super::keyed_hash::KeyedHash;
use super::ordered::Ordered;
use crate::settings::Identifier;
use super::slots::{Links, Slots, slot_with_links};

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

/// What a trade locker of an AN is sold for: coin type and price in it; `None` where the AN is no trade locker's.
pub fn terms(an: &Secret) -> Option<(TradeCoin, u32)> {
    match (an.place(), an.bytes()) {
        (Place::TradeLocker(_), [_, _, _, _, _, _, _, _, _, p0, p1, p2, p3, coin, _, _]) => {
            TradeCoin::new(*coin).map(|coin| (coin, u32::from_be_bytes([*p0, *p1, *p2, *p3])))
        }
        _ => None,
    }
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
        terms(&self.an).expect("an offer's AN is a trade locker's")
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
    by_an: HashTable<u32>,
    /// Empty where the identifier is the AN.
    by_identifier: HashTable<u32>,
    by_listing: Ordered<Listing>,
    by_sequence: Ordered<(TradeCoin, u64)>,
    values: [u128; TradeCoin::ALL.len()],
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
            by_an: HashTable::new(),
            by_identifier: HashTable::new(),
            by_listing: Ordered::new(hash),
            by_sequence: Ordered::new(hash),
            values: [0; TradeCoin::ALL.len()],
            orders_changed: 0,
        }
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
            let named = |&number: &u32| self.offers[number].identifier == *an_or_identifier;
            let number = *self.by_identifier.find(self.hash.bytes(an_or_identifier), named)?;
            Some(number).filter(|&number| !self.offers[number].coins.is_empty())
        };
        let number = self.with_coins(&Secret::new(*an_or_identifier)).or_else(of_identifier)?;
        Some(self.offers[number].an)
    }

    /// The AN of the listed offer that was put for sale first of all that match exactly, as *buy* asks.
    pub fn first(&self, coin: TradeCoin, value: u64, price: u32) -> Option<Secret> {
        let (listing, number) = self.by_listing.first_from(Listing { coin, price, value, sequence: 0 })?;
        let matches = (listing.coin, listing.price, listing.value) == (coin, price, value);
        matches.then(|| self.offers[number].an)
    }

    /// Shows what is listed for a coin type, with its sequence and in that order, no more than `max`.
    pub fn list(&self, coin: TradeCoin, max: usize, mut show: impl FnMut(u64, ListedOffer)) {
        let mut left = max;
        self.by_sequence.visit_from((coin, 0), |(listed_for, sequence), number| {
            if left == 0 || listed_for != coin {
                return ControlFlow::Break(());
            }
            left -= 1;
            let offer = &self.offers[number];
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

    /// Bytes it takes in memory, the orderings aside.
    pub fn memory_bytes(&self) -> usize {
        let tables = self.by_an.allocation_size() + self.by_identifier.allocation_size();
        self.offers.memory_bytes() + self.coins.memory_bytes() + tables
    }

    fn find_an(&self, an: &Secret) -> Option<u32> {
        self.by_an.find(self.hash.bytes(an.bytes()), |&number| self.offers[number].an == *an).copied()
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
            self.by_listing.remove(number);
            if !same_sequence {
                self.by_sequence.remove(number);
            }
        }
        if let Some(listing) = after {
            self.values[listing.coin as usize] += u128::from(listing.value);
            self.by_listing.insert(number, listing);
            if !same_sequence {
                self.by_sequence.insert(number, by_sequence(listing));
            }
        }
    }

    /// Makes the offer of an AN, of nothing yet.
    fn open(&mut self, an: &Secret) -> u32 {
        assert!(terms(an).is_some(), "an offer's AN is a trade locker's");
        let (hash, identifier) = (self.hash, public_identifier(an, self.identifier));
        let number = self.offers.insert(Offer { an: *an, identifier, ..Offer::default() });
        let offers = &self.offers;
        self.by_an.insert_unique(hash.bytes(an.bytes()), number, |&other| hash.bytes(offers[other].an.bytes()));
        if self.identifier == Identifier::Hashed {
            let hash_of = |&other: &u32| hash.bytes(&offers[other].identifier);
            self.by_identifier.insert_unique(hash.bytes(&identifier), number, hash_of);
        }
        number
    }

    /// Ends an offer of nothing.
    fn close(&mut self, number: u32) {
        let Offer { an, identifier, .. } = self.offers.remove(number);
        let find = |table: &mut HashTable<u32>, name: &[u8; 16]| {
            let found = table.find_entry(self.hash.bytes(name), |&other| other == number);
            found.unwrap_or_else(|_| panic!("an offer is found by its names")).remove();
        };
        find(&mut self.by_an, an.bytes());
        if self.identifier == Identifier::Hashed {
            find(&mut self.by_identifier, &identifier);
        }
    }
}
