//! What a command may ask of the shards before it locks coins, and what they say.

use std::net::IpAddr;

use crate::coin::{CoinId, DENOMINATIONS, Denomination, Secret, SerialNumber, TradeCoin};

/// A question. Those about places are answered under a shared lock, so that the answer is of one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// May this address break another coin? Asking counts.
    Rate(IpAddr),
    /// Which coins are in this locker?
    Locker(Secret),
    /// Which trade locker has this AN or identifier, and which coins are in it?
    Offer([u8; 16]),
    /// Which trade locker of exactly these terms was first for sale, and which coins are in it?
    OfferFor {
        /// What it is sold for.
        coin_type: TradeCoin,
        /// What is in it, in units of 10^-8.
        value: u64,
        /// What it costs.
        price: u32,
    },
    /// Which trade lockers are for sale? All shards are asked.
    Offers {
        /// For this coin type.
        coin_type: TradeCoin,
        /// This many at most.
        max: u8,
    },
    /// How many coins of each denomination are in circulation? All shards are asked.
    Circulation,
    /// Which free serial numbers may this session have? They are reserved for it. All shards may be asked.
    SerialNumbers {
        /// The session.
        session: u32,
        /// The denomination.
        den: Denomination,
    },
}

/// A trade locker in a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListedOffer {
    /// Its place in the queue: who came first, has the lower one.
    pub sequence: u64,
    /// What names it for everybody.
    pub identifier: [u8; 16],
    /// What is in it, in units of 10^-8.
    pub value: u64,
    /// What it costs.
    pub price: u32,
}

/// The answer to a [`Question`], merged over the shards that were asked.
#[derive(Debug, Default)]
pub struct Findings {
    /// To `Rate`.
    pub allowed: bool,
    /// To `Offer` and `OfferFor`: the trade locker's AN, if there is one.
    pub an: Option<Secret>,
    /// To `Locker`, `Offer` and `OfferFor`.
    pub coins: Vec<CoinId>,
    /// To `SerialNumbers`, in the order of the search.
    pub serial_numbers: Vec<SerialNumber>,
    /// To `Offers`, in the order of their sequence.
    pub offers: Vec<ListedOffer>,
    /// To `Circulation`, by denomination.
    pub circulation: [u32; DENOMINATIONS],
}

impl Findings {
    /// Adds what another shard found, and takes it from there.
    pub fn join(&mut self, other: &mut Self) {
        self.allowed = other.allowed;
        self.an = other.an;
        self.coins.append(&mut other.coins);
        self.offers.append(&mut other.offers);
        for (sum, count) in self.circulation.iter_mut().zip(other.circulation) {
            *sum += count;
        }
    }

    /// Empties it. Memory that an unusually large answer needed is given back.
    pub fn clear(&mut self) {
        const KEPT: usize = 4096;
        self.allowed = false;
        self.an = None;
        self.coins.clear();
        self.coins.shrink_to(KEPT);
        self.serial_numbers.clear();
        self.offers.clear();
        self.circulation = [0; DENOMINATIONS];
    }
}
