//! Making a shard from what is on disk: every page once, every view by the one function that also changes it later.
//!
//! Each shard's pages are read by a thread of its own; what they say of lists whose home is another shard is handed over
//! in between. The views need no order: a coin is in one place, and an order counts if there are coins for it.

use crate::coin::{COINS_PER_PAGE, CoinRecord, PageNumber, Place};
use crate::entropy::Entropy;
use crate::settings::Settings;
use crate::store::control::UsedPages;
use crate::store::layout::PageFrame;
use crate::store::recovery::Opened;
use crate::store::wal::{Geometry, Log};
use crate::wire::header::NodeIdentity;

use super::checkpoint::Checkpoint;
use super::free_map::FreeMap;
use super::interface::ShardId;
use super::keyed_hash::KeyedHash;
use super::lockers::Lockers;
use super::locks::Locks;
use super::market::Market;
use super::message::PlaceChange;
use super::pages::Pages;
use super::partition::PageSlots;
use super::rate_limit::RateLimit;
use super::reservations::Reservations;
use super::transaction::home;
use super::views::derive;
use super::{Counters, Shard};

/// A shard whose pages are being read.
pub struct ShardBuilder {
    id: ShardId,
    settings: Settings,
    pages: Pages,
    free_map: FreeMap,
    /// The pages it was given.
    used: UsedPages,
    /// What the pages say of lists, by home.
    changes: Vec<Vec<PlaceChange>>,
}

impl ShardBuilder {
    /// A shard of free coins.
    pub fn new(id: ShardId, settings: Settings) -> Self {
        Self {
            id,
            pages: Pages::new(PageSlots::new(id, settings.shards), settings.cache_pages),
            free_map: FreeMap::new(id, settings.shards),
            used: UsedPages::none(),
            changes: (0..settings.shards).map(|_| Vec::new()).collect(),
            settings,
        }
    }

    /// Takes one of its pages that was ever used, whole as it is on disk, with its sequence.
    pub fn page(&mut self, page: PageNumber, frame: &PageFrame, sequence: u64) {
        let free = CoinRecord::default();
        for slot in 0..COINS_PER_PAGE as usize {
            let record = frame.record(slot);
            if record.is_free() {
                continue;
            }
            let coin = page.coin(slot);
            let change = derive(&free, &record);
            if let Some(free) = change.free {
                self.free_map.set_free(coin, free);
            }
            if let Some(place) = change.enters {
                let home = home(&place, self.settings.shards);
                self.changes[home.index()].push(PlaceChange { coin, place, enters: true, locks_coin: false });
            }
        }
        self.used.insert(page);
        self.pages.warm(page, frame, sequence);
    }

    /// What its pages say of the lists of another shard (or its own).
    pub fn changes_for(&mut self, home: ShardId) -> Vec<PlaceChange> {
        std::mem::take(&mut self.changes[home.index()])
    }

    /// The shard, with what all shards' pages say of its lists, and the orders of all. The log has the sizes with which
    /// the directory was opened.
    pub fn build(
        self,
        changes: impl IntoIterator<Item = Vec<PlaceChange>>,
        opened: &Opened,
        geometry: Geometry,
        entropy: &mut dyn Entropy,
    ) -> Shard {
        let settings = self.settings;
        let mut own = opened.shards[self.id.index()].clone();
        own.control.used.add(&self.used);
        let mut lockers = Lockers::new(KeyedHash::new(entropy));
        let mut market = Market::new(KeyedHash::new(entropy), settings.identifier, settings.offers_max);
        for change in changes.into_iter().flatten() {
            match change.place {
                Place::Locker(key) => lockers.enter(&key, change.coin),
                Place::TradeLocker(an) => market.enter(&an, change.coin),
                Place::Free | Place::Wallet => unreachable!("no list has free coins or a wallet's"),
            }
        }
        for order in
            opened.orders.iter().filter(|order| home(&Place::TradeLocker(order.an), settings.shards) == self.id)
        {
            market.set_order(&order.an, order.sequence, order.address);
        }
        market.drop_orders_without_coins();
        let window_us = settings.break_window_s * 1_000_000;
        let rate_limit =
            RateLimit::new(KeyedHash::new(entropy), settings.break_limit, window_us, settings.rate_addresses_max);
        Shard {
            id: self.id,
            identity: NodeIdentity { raida_id: settings.raida_id, coin_id: settings.coin_id },
            clock: opened.sequence,
            pages: self.pages,
            free_map: self.free_map,
            lockers,
            reservations: Reservations::new(self.id, settings.shards, settings.reservation_ms * 1000),
            rate_limit,
            violation_logged_us: 0,
            treasury_refusals: 0,
            treasury_refusal_logged_us: 0,
            locks: Locks::with_capacity(4 * settings.requests_max),
            visits: Default::default(),
            granted: Default::default(),
            woken: Vec::new(),
            tasks: slab::Slab::with_capacity(settings.requests_max),
            coins_in_flight: 0,
            committing: Default::default(),
            waiting_for_log: Default::default(),
            log_has_room: false,
            spare_tasks: Vec::new(),
            spare_visits: Vec::new(),
            local: Default::default(),
            log: Log::new(own.log, geometry),
            mark_at_us: None,
            written: Vec::new(),
            // The image on disk may have orders that no coin came to: the first checkpoint writes it anew.
            checkpoint: Checkpoint::new(own.control, settings.cache_pages, u64::MAX),
            market,
            failed: false,
            stopping: false,
            counters: Counters::default(),
            settings,
        }
    }
}
