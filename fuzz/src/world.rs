//! What the targets with a whole node share: a few coins, and what a data directory says of all coins and orders.

use std::collections::{BTreeMap, BTreeSet};

use raida::coin::{
    CoinId, CoinRecord, Denomination, PageNumber, PayoutAddress, SERIAL_NUMBERS, Secret, SerialNumber, TradeCoin,
};
use raida::sim::{Client, World, WorldOptions};
use raida::store::control::UsedPages;
use raida::store::error::StoreError;
use raida::store::files;
use raida::store::layout::{PAGE_BYTES, PageFrame};
use raida::store::orders::Order;
use raida::store::pages::read_page;
use raida::store::recovery;
use raida::store::storage::{Memory, Storage};
use raida::wire::items::{Coins, RawCoin, bytes_of};
use raida::wire::request::Request;
use raida::wire::request::locker::SaleTerms;
use raida::wire::status::Status;

/// A locker's key, one of 256.
pub fn locker_key(number: u8) -> Secret {
    let mut key = [number; 16];
    key[5] = 0x55;
    key[12..].fill(0xFF);
    Secret::new(key)
}

/// A trade locker's AN, one of 256.
pub fn trade_an(number: u8) -> Secret {
    let coin_type = TradeCoin::ALL[usize::from(number) % 3];
    SaleTerms { coin_type, price: u32::from(number % 4) }.an([number; 9])
}

/// A wallet's AN, one of 65,536.
pub fn wallet_an(number: u16) -> Secret {
    let mut an = [0x11; 16];
    an[..2].copy_from_slice(&number.to_be_bytes());
    Secret::new(an)
}

/// The last coins of denomination 1, twelve of -1 and of 0: on eight pages, enough for a join.
fn coins() -> Vec<(CoinId, Secret)> {
    let mut coins = Vec::new();
    for (den, count) in [(-1, 12), (0, 12), (1, 6)] {
        let den = Denomination::new(den).expect("a denomination");
        for number in 0..count {
            let sn = if den.get() == 1 { SERIAL_NUMBERS - 1 - number } else { number % 3 * 1024 + number };
            let coin = CoinId::of(den, SerialNumber::new(sn).expect("a serial number"));
            coins.push((coin, wallet_an(coins.len() as u16)));
        }
    }
    coins
}

/// The sizes of a node: few pages in memory, small logs.
pub fn options(shards: u8, seed: u64) -> WorldOptions {
    WorldOptions::small(shards, seed)
}

/// A running node with coins in wallets, in a locker and for sale.
pub fn node(shards: u8, seed: u64) -> World {
    let options = options(shards, seed);
    let storage = Memory::new();
    recovery::initialise(&storage, options.geometry).expect("a new storage in memory");
    let coins = coins();
    World::mint(&storage, &coins, 10);
    let mut world = World::on(storage, &options);
    world.start();
    let bytes = |rows: &[(CoinId, Secret)]| bytes_of(rows.iter().map(|row| RawCoin::from(row.0)));
    let sum = |rows: &[(CoinId, Secret)]| rows.iter().fold(Secret::default(), |sum, row| sum.xor(row.1));
    let (stored, for_sale) = (&coins[..2], &coins[14..16]);
    let (stored_bytes, for_sale_bytes) = (bytes(stored), bytes(for_sale));
    let store =
        Request::Store { coins: Coins::new(&stored_bytes).expect("two coins"), sum: sum(stored), key: locker_key(0) };
    let sale = Request::PutForSale {
        coins: Coins::new(&for_sale_bytes).expect("two coins"),
        sum: sum(for_sale),
        an: trade_an(1),
        address: PayoutAddress::new(b"an address of twenty").expect("long enough"),
    };
    for request in [store, sale] {
        assert_eq!(world.call(&Client::default(), &request).0, Status::AllPass);
    }
    world
}

/// All that a data directory says.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Contents {
    /// AN and MFS of every coin in circulation, by the coin's number.
    pub coins: BTreeMap<CoinId, [u8; CoinRecord::BYTES]>,
    /// Payout address and sequence of every order of a trade locker that is there, by AN.
    pub orders: BTreeMap<[u8; 16], (Vec<u8>, u64)>,
}

impl Contents {
    /// Opens a data directory for so many shards, which repairs and replays it, and reads all of it.
    ///
    /// # Errors
    /// What is damaged.
    pub fn open(storage: &Memory, shards: u8) -> Result<Self, StoreError> {
        let mut contents = Self::open_with_dead_orders(storage, shards)?;
        contents.drop_dead_orders();
        Ok(contents)
    }

    /// The same, with the orders that no coin belongs to.
    ///
    /// # Errors
    /// What is damaged.
    pub fn open_with_dead_orders(storage: &Memory, shards: u8) -> Result<Self, StoreError> {
        let opened = recovery::open(storage, shards, options(shards, 0).geometry)?;
        let mut contents = Self::default();
        let mut frame = PageFrame::zeroed();
        for page in pages_with_data(storage, &opened.used)? {
            read_page(storage, page, &opened.used, &mut frame)?;
            for (slot, record) in frame.records().chunks_exact(CoinRecord::BYTES).enumerate() {
                if record[CoinRecord::BYTES - 1] != 0 {
                    contents.coins.insert(page.coin(slot), record.try_into().expect("17 bytes"));
                }
            }
        }
        contents.orders = opened.orders.iter().map(row_of_order).collect();
        Ok(contents)
    }

    /// Orders that no coin belongs to are none.
    pub fn drop_dead_orders(&mut self) {
        let coins = &self.coins;
        self.orders.retain(|an, _| coins.values().any(|record| record[..16] == *an));
    }

    /// The AN of a coin in circulation.
    pub fn an(&self, coin: CoinId) -> Option<Secret> {
        self.coins.get(&coin).map(|record| Secret::new(*record.first_chunk().expect("16 of 17 bytes")))
    }

    /// The coins with their ANs.
    pub fn rows(&self) -> impl Iterator<Item = (CoinId, Secret)> + '_ {
        self.coins.keys().map(|&coin| (coin, self.an(coin).expect("a coin in circulation")))
    }

    /// What the coins are worth together.
    pub fn value(&self) -> u64 {
        self.coins.keys().map(|coin| coin.denomination().value()).sum()
    }
}

/// The pages that are no hole, and those that must be none. Reading every page as a node does at start takes longer than
/// all the rest of a target's run.
fn pages_with_data(storage: &Memory, used: &UsedPages) -> Result<BTreeSet<PageNumber>, StoreError> {
    let mut pages: BTreeSet<PageNumber> = PageNumber::all().filter(|page| used.contains(*page)).collect();
    for den in Denomination::all() {
        let (path, mut from) = (files::coins(den), 0);
        while let Some(at) = storage.data_from(&path, from)? {
            let number = at / PAGE_BYTES as u64;
            pages.extend(PageNumber::of(den, number as u16));
            from = (number + 1) * PAGE_BYTES as u64;
        }
    }
    Ok(pages)
}

/// An order as [`Contents`] keeps it.
pub fn row_of_order(order: &Order) -> ([u8; 16], (Vec<u8>, u64)) {
    (*order.an.bytes(), (order.address.as_bytes().to_vec(), order.sequence))
}
