//! What a command may ask of the shards before it locks coins, and what they say.

use std::net::IpAddr;

use crate::coin::{COINS_PER_PAGE, CoinId, DENOMINATIONS, Denomination, PageNumber, Secret, SerialNumber, TradeCoin};
use crate::wire::request::treasury::Wanted;

/// A question. Those about places are answered under a shared lock, so that the answer is of one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// May this caller break another coin? Asking counts.
    Rate(Caller),
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
    /// Which free serial numbers of several denominations may the treasury have? They are reserved for it. All shards
    /// are asked.
    Available {
        /// The session.
        session: u32,
        /// The denominations.
        wanted: Wanted,
    },
    /// Which coins of a denomination are in circulation? All shards are asked.
    Minted(Denomination),
}

/// Whose rate is counted: an address, for TCP and UDP apart. A datagram's sender can be forged, and must not use up what a
/// real client may do over TCP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The address.
    pub address: IpAddr,
    /// Whether the request came over UDP.
    pub datagram: bool,
}

/// A bit for each coin of a page, least significant first.
pub type PageBits = [u8; COINS_PER_PAGE as usize / 8];

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
    /// To `Locker`, `Offer` and `OfferFor`; none where there are more than may be named.
    pub coins: Vec<CoinId>,
    /// How many these are, named or not.
    pub coin_count: usize,
    /// To `SerialNumbers` and `Available`, in the order of the search.
    pub serial_numbers: Vec<SerialNumber>,
    /// Where those of each denomination end.
    pub ends: Vec<usize>,
    /// To `Offers`, in the order of their sequence.
    pub offers: Vec<ListedOffer>,
    /// To `Circulation`, by denomination.
    pub circulation: [u32; DENOMINATIONS],
    /// To `Minted`: what is in circulation, page by page.
    pub minted: Vec<(PageNumber, PageBits)>,
}

impl Findings {
    /// Names coins, if there are at most `max`, and counts them.
    pub fn name(&mut self, coins: impl ExactSizeIterator<Item = CoinId>, max: usize) {
        self.coin_count = coins.len();
        if coins.len() <= max {
            self.coins.extend(coins);
        }
    }

    /// Adds what another shard found, and takes it from there.
    pub fn join(&mut self, other: &mut Self) {
        self.allowed = other.allowed;
        self.an = other.an;
        self.coins.append(&mut other.coins);
        self.coin_count += other.coin_count;
        self.offers.append(&mut other.offers);
        self.minted.append(&mut other.minted);
        for (sum, count) in self.circulation.iter_mut().zip(other.circulation) {
            *sum += count;
        }
    }

    /// Empties it. Memory that an unusually large answer needed is given back.
    pub fn clear(&mut self) {
        const KEPT: usize = 1024;
        self.allowed = false;
        self.an = None;
        self.coins.clear();
        self.coins.shrink_to(KEPT);
        self.coin_count = 0;
        self.serial_numbers.clear();
        self.serial_numbers.shrink_to(KEPT);
        self.ends.clear();
        self.offers.clear();
        self.circulation = [0; DENOMINATIONS];
        self.minted = Vec::new();
    }
}
