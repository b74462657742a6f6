//! Making a shard from what is on disk: every page once, every view by the one function that also changes it later.
//!
//! Whoever reads a page gives it to [`Builders::page`] with a [`Reading`] of its own: the page's shard takes the page and
//! its free coins, the reading keeps the coins in lockers and trade lockers for their homes, as one lock for a
//! denomination's lockers would be slow. The views need no order: a coin is in one place, and an order counts if there are
//! coins for it. So all of that can happen at once; the simulator does it one page after the other ([`build_all`]).

use std::sync::Mutex;

use crate::coin::{CoinId, PageNumber, Place, Secret};
use crate::entropy::Entropy;
use crate::settings::Settings;
use crate::store::control::UsedPages;
use crate::store::layout::PageFrame;
use crate::store::recovery::Opened;
use crate::store::wal::{Geometry, Log};
use crate::wire::header::NodeIdentity;

use super::Shard;
use super::archive::Archive;
use super::checkpoint::Checkpoint;
use super::counters::Counters;
use super::free_map::FreeMap;
use super::interface::ShardId;
use super::keyed_hash::KeyedHash;
use super::lockers::Lockers;
use super::locks::Locks;
use super::market::Market;
use super::pages::Pages;
use super::partition::{PageSlots, page_owner};
use super::rate_limit::RateLimit;
use super::reservations::Reservations;
use super::suspensions::Suspensions;
use super::transaction::home;
use super::views::PageViews;

/// What pages of all shards say of the lists that one is home of.
#[derive(Default)]
struct Listed {
    in_lockers: Vec<(CoinId, Secret)>,
    for_sale: Vec<(CoinId, Secret)>,
}

impl Listed {
    /// Takes a coin that is in a locker or trade locker.
    fn add(&mut self, coin: CoinId, place: Place) {
        match place {
            Place::Locker(key) => self.in_lockers.push((coin, key)),
            Place::TradeLocker(an) => self.for_sale.push((coin, an)),
            Place::Free | Place::Wallet => unreachable!("no list has free coins or a wallet's"),
        }
    }
}

/// What one reader of pages keeps for itself.
#[derive(Default)]
pub struct Reading {
    views: PageViews,
    /// By home.
    listed: Vec<Listed>,
}

/// The shards of a node while their pages are read, by one reader or by several at once.
pub struct Builders(Vec<Mutex<ShardBuilder>>);

impl Builders {
    /// Shards of free coins.
    pub fn new(settings: &Settings) -> Self {
        let of_shard = |shard| Mutex::new(ShardBuilder::new(ShardId(shard), settings.clone()));
        Self((0..settings.shards).map(of_shard).collect())
    }

    /// Takes a page that was ever used, whole as it is on disk, with its sequence.
    pub fn page(&self, reading: &mut Reading, page: PageNumber, frame: &PageFrame, sequence: u64) {
        let shards = self.0.len() as u8;
        let Reading { views, listed } = reading;
        views.derive(page, frame);
        let builder = &self.0[page_owner(page, shards).index()];
        builder.lock().expect("nobody panics with it").page(page, frame, sequence, views);
        listed.resize_with(usize::from(shards), Listed::default);
        for &(coin, place) in &views.listed {
            listed[home(&place, shards).index()].add(coin, place);
        }
    }

    /// The shards to be built when all readers are through.
    pub fn read(self, mut readings: Vec<Reading>) -> impl Iterator<Item = ShardBuilder> {
        self.0.into_iter().enumerate().map(move |(shard, builder)| {
            let mut builder = builder.into_inner().expect("nobody panics with it");
            let of_shard = readings.iter_mut().filter_map(|reading| reading.listed.get_mut(shard));
            builder.listed = of_shard.map(std::mem::take).collect();
            builder
        })
    }
}

/// Makes the shards of a node, one after the other, from a source of used pages with their sequences.
///
/// # Errors
/// The source's.
pub fn build_all<E>(
    settings: &Settings,
    opened: &Opened,
    geometry: Geometry,
    entropy: &mut dyn Entropy,
    read: impl FnOnce(&mut dyn FnMut(PageNumber, &PageFrame, u64)) -> Result<(), E>,
) -> Result<Vec<Shard>, E> {
    let (builders, mut reading) = (Builders::new(settings), Reading::default());
    read(&mut |page, frame, sequence| builders.page(&mut reading, page, frame, sequence))?;
    Ok(builders.read(vec![reading]).map(|builder| builder.build(opened, geometry, entropy)).collect())
}

/// A shard whose pages are being read.
pub struct ShardBuilder {
    id: ShardId,
    settings: Settings,
    pages: Pages,
    free_map: FreeMap,
    /// The pages it was given.
    used: UsedPages,
    /// The coins of the lists it is home of, of each reader.
    listed: Vec<Listed>,
}

impl ShardBuilder {
    fn new(id: ShardId, settings: Settings) -> Self {
        Self {
            id,
            pages: Pages::new(PageSlots::new(id, settings.shards), settings.cache_pages),
            free_map: FreeMap::new(id, settings.shards),
            used: UsedPages::none(),
            listed: Vec::new(),
            settings,
        }
    }

    fn page(&mut self, page: PageNumber, frame: &PageFrame, sequence: u64, views: &PageViews) {
        self.free_map.set_page(page, &views.free);
        self.used.insert(page);
        self.pages.warm(page, frame, sequence);
    }

    /// The shard. The log has the sizes with which the directory was opened.
    pub fn build(self, opened: &Opened, geometry: Geometry, entropy: &mut dyn Entropy) -> Shard {
        let settings = self.settings;
        let mut own = opened.shards[self.id.index()].clone();
        own.control.used.add(&self.used);
        let (in_lockers, for_sale): (Vec<_>, Vec<_>) =
            self.listed.into_iter().map(|listed| (listed.in_lockers, listed.for_sale)).unzip();
        let lockers = Lockers::of(KeyedHash::new(entropy), in_lockers);
        let mut market = Market::new(KeyedHash::new(entropy), settings.identifier, settings.offers_max);
        for_sale.iter().flatten().for_each(|(coin, an)| market.enter(an, *coin));
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
            refusals: Default::default(),
            locks: Locks::with_capacity(4 * settings.requests_max),
            suspensions: Suspensions::default(),
            visits: Default::default(),
            granted: Default::default(),
            woken: Vec::new(),
            tasks: slab::Slab::with_capacity(settings.requests_max),
            coins_in_flight: 0,
            coins_named: 0,
            committing: Default::default(),
            waiting_for_log: Default::default(),
            log_has_room: false,
            spare_tasks: Vec::new(),
            spare_visits: Vec::new(),
            local: Default::default(),
            log: if settings.archive {
                Log::new(own.log, geometry).with_archive()
            } else {
                Log::new(own.log, geometry)
            },
            mark_at_us: None,
            written: Vec::new(),
            // The image on disk may have orders that no coin came to: the first checkpoint writes it anew.
            checkpoint: Checkpoint::new(own.control, settings.cache_pages, u64::MAX),
            archive: Archive::default(),
            await_checkpoint: Vec::new(),
            market,
            failed: false,
            stopping: false,
            bad_pages: 0,
            counters: Counters::default(),
            settings,
        }
    }
}
