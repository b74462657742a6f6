//! What the tests share: a made-up node with coins, and a purse that knows what must be true of them.

use std::collections::BTreeMap;

use raida::coin::{CoinId, Denomination, PayoutAddress, Secret, SerialNumber, TradeCoin};
use raida::sim::{Client, Seeded, World, WorldOptions};
use raida::store::recovery;
use raida::store::storage::Memory;
use raida::wire::items::{self, Bits, Coins, RawCoin, SecretCoins};
use raida::wire::request::Request;
use raida::wire::status::Status;

/// A locker's key.
pub fn locker_key(number: u8) -> Secret {
    let mut key = [number.wrapping_mul(37); 16];
    key[0] = number;
    key[12..].fill(0xFF);
    Secret::new(key)
}

/// A trade locker's AN.
pub fn trade_an(number: u8, price: u32, coin_type: TradeCoin) -> Secret {
    let mut an = [number; 16];
    an[9..13].copy_from_slice(&price.to_be_bytes());
    an[13..].copy_from_slice(&[coin_type as u8, 0xEE, 0xEE]);
    Secret::new(an)
}

/// What must be true of every coin in circulation.
pub struct Purse {
    ans: BTreeMap<CoinId, Secret>,
    random: Seeded,
    next: usize,
}

/// A node with 120 coins: 40 each of denominations -1, 0 and 1, over many pages.
pub fn world_with_coins(shards: u8, seed: u64) -> (World, Purse) {
    let options = WorldOptions::small(shards, seed);
    let mut purse = Purse { ans: BTreeMap::new(), random: Seeded(seed), next: 0 };
    for number in 0..120u32 {
        let den = Denomination::new((number % 3) as i8 - 1).unwrap();
        let sn = SerialNumber::new(number * 701 % 20_000).unwrap();
        let an = purse.fresh();
        purse.set(CoinId::of(den, sn), an);
    }
    let storage = Memory::new();
    recovery::initialise(&storage, options.geometry).unwrap();
    let coins: Vec<_> = purse.ans.iter().map(|(&coin, &an)| (coin, an)).collect();
    World::mint(&storage, &coins, 10);
    let mut world = World::on(storage, &options);
    world.start();
    (world, purse)
}

#[allow(dead_code, reason = "each test binary uses its part")]
impl Purse {
    /// An AN nobody has.
    pub fn fresh(&mut self) -> Secret {
        let mut an = self.random.bytes();
        an[15] = 0x11; // neither a locker's nor a trade locker's
        Secret::new(an)
    }

    /// The next coins in wallets, in order, of any denomination.
    pub fn coins(&mut self, count: usize) -> Vec<CoinId> {
        let mut coins: Vec<CoinId> = self.ans.keys().copied().skip(self.next).step_by(7).take(count).collect();
        assert_eq!(coins.len(), count);
        self.next += 1;
        coins.sort_unstable();
        coins
    }

    /// Coins wherever they are, no two with one AN, drawn at random.
    pub fn coins_of_all(&mut self, count: usize) -> Vec<CoinId> {
        let all: Vec<(CoinId, Secret)> = self.ans.iter().map(|(&coin, &an)| (coin, an)).collect();
        let mut coins: Vec<(CoinId, Secret)> = Vec::new();
        while coins.len() < count {
            let next = all[self.random.below(all.len())];
            if !coins.iter().any(|(_, an)| *an == next.1) {
                coins.push(next);
            }
        }
        let mut coins: Vec<CoinId> = coins.into_iter().map(|(coin, _)| coin).collect();
        coins.sort_unstable();
        coins
    }

    /// A coin of a denomination.
    pub fn coin_of(&self, den: Denomination) -> CoinId {
        *self.ans.keys().find(|coin| coin.denomination() == den).expect("a coin of it")
    }

    /// What a coin's AN must be.
    pub fn an(&self, coin: CoinId) -> Secret {
        self.ans[&coin]
    }

    /// Notes a coin's AN.
    pub fn set(&mut self, coin: CoinId, an: Secret) {
        self.ans.insert(coin, an);
    }

    /// Notes that a coin is free.
    pub fn lose(&mut self, coin: CoinId) {
        self.ans.remove(&coin);
    }

    /// What all coins are worth.
    pub fn value(&self) -> u64 {
        self.ans.keys().map(|coin| coin.denomination().value()).sum()
    }

    /// The XOR of the ANs.
    pub fn sum(&self, coins: &[CoinId]) -> Secret {
        coins.iter().fold(Secret::default(), |sum, &coin| sum.xor(self.an(coin)))
    }

    /// Puts coins into a locker, and notes it if it was done.
    pub fn store(&mut self, world: &mut World, client: &Client, coins: &[CoinId], key: Secret) -> (Status, Vec<u8>) {
        let bytes = items::bytes_of(coins.iter().map(|&coin| RawCoin::from(coin)));
        let request = Request::Store { coins: Coins::new(&bytes).unwrap(), sum: self.sum(coins), key };
        let answer = world.call(client, &request);
        if answer.0 == Status::AllPass {
            coins.iter().for_each(|&coin| self.set(coin, key));
        }
        answer
    }

    /// Puts coins for sale, and notes it if it was done.
    pub fn put_for_sale(
        &mut self,
        world: &mut World,
        client: &Client,
        coins: &[CoinId],
        an: Secret,
    ) -> (Status, Vec<u8>) {
        let bytes = items::bytes_of(coins.iter().map(|&coin| RawCoin::from(coin)));
        let address = PayoutAddress::new(b"an address of twenty").unwrap();
        let request = Request::PutForSale { coins: Coins::new(&bytes).unwrap(), sum: self.sum(coins), an, address };
        let answer = world.call(client, &request);
        if answer.0 == Status::AllPass {
            coins.iter().for_each(|&coin| self.set(coin, an));
        }
        answer
    }

    /// Asks the node about every coin, and about the number of coins in circulation.
    pub fn check(&self, world: &mut World) {
        let client = Client::default();
        let rows: Vec<_> = self.ans.iter().map(|(&coin, &an)| (RawCoin::from(coin), an)).collect();
        let bytes = items::bytes_of(rows.iter().copied());
        let (status, payload) = world.call(&client, &Request::Detect { coins: SecretCoins::new(&bytes).unwrap() });
        if status == Status::Mixed {
            let bits = Bits::new(&payload, rows.len()).unwrap();
            let wrong: Vec<_> = (0..rows.len()).filter(|&row| !bits.get(row)).map(|row| rows[row].0).collect();
            panic!("not as they must be: {wrong:?}");
        }
        assert_eq!(status, Status::AllPass);
        let (_, counts) = world.call(&client, &Request::CountCoins);
        let counted: u32 = counts.chunks_exact(5).map(|row| u32::from_be_bytes(row[1..].try_into().unwrap())).sum();
        assert_eq!(counted as usize, self.ans.len(), "coins in circulation");
    }
}
