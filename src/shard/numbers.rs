//! A shard's numbers at one moment, for whoever looks after the node. Made when somebody asks, never on a request's way.

use serde::Serialize;

use crate::coin::{DENOMINATIONS, Denomination, TradeCoin};
use crate::store::wal;

use super::Shard;
use super::counters::Counters;
use super::interface::Now;
use super::pages::CacheCounters;

/// What a shard counted since its start, and how full it is now.
#[derive(Clone, Default)]
pub struct Numbers {
    /// What it answered.
    pub counters: Counters,
    /// Whether its disk failed: nothing is written any more.
    pub failed: bool,
    /// Requests in flight.
    pub requests: Fill,
    /// Coins that the requests in flight name.
    pub coins_in_flight: Fill,
    /// Coins that answers to questions name, but for the few that each may.
    pub coins_named: Fill,
    /// Requests that wait for room in the log.
    pub waiting_for_log: u64,
    /// Requests whose commit record is on its way to the disk.
    pub committing: u64,
    /// Things that are locked: coins, lockers, offers.
    pub locked: u64,
    /// Pages in memory.
    pub cached_pages: Fill,
    /// Of these, pages whose changes are only in the log.
    pub dirty_pages: u64,
    /// What the cache did.
    pub cache: CacheCounters,
    /// Coins in circulation, by denomination.
    pub circulation: [u64; DENOMINATIONS],
    /// Free serial numbers, by denomination.
    pub free: [u64; DENOMINATIONS],
    /// Words with free serial numbers, by denomination.
    pub free_words: [u64; DENOMINATIONS],
    /// Words that sessions hold for the moment, by denomination.
    pub reserved_words: [u64; DENOMINATIONS],
    /// Free serial numbers in these, by denomination.
    pub reserved: [u64; DENOMINATIONS],
    /// Lockers this shard is home of.
    pub lockers: u64,
    /// Coins in them.
    pub locker_coins: u64,
    /// Lockers that their index has room for before it grows.
    pub locker_index_capacity: u64,
    /// Bytes that it takes.
    pub locker_index_bytes: u64,
    /// Trade lockers this shard is home of, listed or not.
    pub offers: Fill,
    /// Offers listed, by coin type.
    pub offers_listed: [u64; TradeCoin::ALL.len()],
    /// What they are worth, in units of 10^-8, by coin type.
    pub offers_value: [u128; TradeCoin::ALL.len()],
    /// Trade lockers that the market's index has room for before it grows.
    pub market_index_capacity: u64,
    /// Bytes that it takes.
    pub market_index_bytes: u64,
    /// What the log wrote.
    pub log: wal::Counters,
    /// Segments of the log in use.
    pub log_segments: Fill,
    /// Checkpoints this shard has finished.
    pub checkpoints: u64,
    /// Pages that were brought to their places.
    pub pages_written: u64,
    /// Breaks refused, as their address asked for too many.
    pub rate_refused: u64,
    /// Addresses that made room for others though their window was not over.
    pub rate_evictions: u64,
    /// Addresses whose rate is counted.
    pub rate_addresses: Fill,
    /// Reads of pages that failed or brought a damaged page.
    pub bad_pages: u64,
}

/// How much there is of what is bounded.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Fill {
    /// So much.
    pub used: u64,
    /// So much there may be.
    pub max: u64,
}

impl Fill {
    fn new(used: usize, max: usize) -> Self {
        Self { used: used as u64, max: max as u64 }
    }
}

fn by_denomination(count: impl Fn(Denomination) -> u32) -> [u64; DENOMINATIONS] {
    std::array::from_fn(|index| u64::from(count(Denomination::from_index(index))))
}

impl Shard {
    /// Its numbers at this moment.
    pub fn numbers(&self, now: Now) -> Numbers {
        let settings = &self.settings;
        let reserved = |den| self.reservations.held(den, now.monotonic_us);
        Numbers {
            counters: self.counters.clone(),
            failed: self.failed,
            requests: Fill::new(self.tasks.len(), settings.requests_max),
            coins_in_flight: Fill::new(self.coins_in_flight, settings.coins_max),
            coins_named: Fill::new(self.coins_named, settings.coins_max),
            waiting_for_log: self.waiting_for_log.len() as u64,
            committing: self.committing.len() as u64,
            locked: self.locks.len() as u64,
            cached_pages: Fill::new(self.pages.len(), settings.cache_pages),
            dirty_pages: self.pages.dirty() as u64,
            cache: self.pages.counters,
            circulation: by_denomination(|den| self.free_map.in_circulation(den)),
            free: by_denomination(|den| self.free_map.free(den)),
            free_words: by_denomination(|den| self.free_map.words_with_free(den)),
            reserved_words: by_denomination(|den| reserved(den).count() as u32),
            reserved: by_denomination(|den| reserved(den).map(|word| self.free_map.word(word).count_ones()).sum()),
            lockers: self.lockers.lockers() as u64,
            locker_coins: self.lockers.coins_total() as u64,
            locker_index_capacity: self.lockers.capacity() as u64,
            locker_index_bytes: self.lockers.memory_bytes() as u64,
            offers: Fill::new(self.market.len(), settings.offers_max),
            offers_listed: TradeCoin::ALL.map(|coin| self.market.listed(coin)),
            offers_value: TradeCoin::ALL.map(|coin| self.market.value(coin)),
            market_index_capacity: self.market.capacity() as u64,
            market_index_bytes: self.market.memory_bytes() as u64,
            log: self.log.counters(),
            log_segments: {
                let (used, max) = self.log.segments();
                Fill::new(used, max)
            },
            checkpoints: self.checkpoint.counters.finished,
            pages_written: self.checkpoint.counters.pages_written,
            rate_refused: self.rate_limit.violations(),
            rate_evictions: self.rate_limit.evictions(),
            rate_addresses: Fill::new(self.rate_limit.len(), settings.rate_addresses_max),
            bad_pages: self.bad_pages,
        }
    }
}
