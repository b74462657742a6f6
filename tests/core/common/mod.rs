//! What the tests share: a made-up node with coins, and a purse that knows what must be true of them.

use std::collections::{BTreeMap, BTreeSet};

use raida::coin::{CoinId, Denomination, PayoutAddress, Secret, SerialNumber};
pub use raida::sim::payload::{self, locker_key, trade_an};
use raida::sim::{Client, Seeded, World, WorldOptions};
use raida::store::recovery;
use raida::store::storage::Memory;
use raida::wire::header::KeyName;
use raida::wire::items::{self, Bits, Coins, RawCoin, SecretCoins};
use raida::wire::request::{CommandKind, Request};
use raida::wire::seal::Key;
use raida::wire::status::Status;

/// What must be true of every coin in circulation.
pub struct Purse {
    ans: BTreeMap<CoinId, Secret>,
    random: Seeded,
    next: usize,
    taken: BTreeSet<CoinId>,
}

/// Runs a test on nodes of 1, 2 and 4 shards: the coins are then as the purse has them, and the node stops in order.
pub fn on_every_node(test: impl Fn(&mut World, &mut Purse)) {
    for shards in [1, 2, 4] {
        let (mut world, mut purse) = world_with_coins(shards, u64::from(shards) + 70);
        test(&mut world, &mut purse);
        purse.check(&mut world);
        assert!(world.shut_down(), "the node stops in order");
    }
}

/// What a command with a payload is answered.
pub fn ask(world: &mut World, client: &Client, kind: CommandKind, payload: &[u8]) -> (Status, Vec<u8>) {
    let token = world.send_payload(client, kind.command(), payload);
    world.settle();
    world.answer(client, token).expect("an answer when nothing is left to do")
}

/// The status alone.
pub fn status(world: &mut World, kind: CommandKind, payload: &[u8]) -> Status {
    ask(world, &Client::default(), kind, payload).0
}

/// A client of a shard's reactor.
pub fn at_shard(shard: u8) -> Client {
    Client { shard, ..Client::default() }
}

/// Sends everything at once, each to another shard; what happens in which order, the seed decides.
pub fn race(world: &mut World, requests: &[(CommandKind, Vec<u8>)]) -> Vec<(Status, Vec<u8>)> {
    let clients = (0..).map(at_shard);
    let sent: Vec<_> = requests
        .iter()
        .zip(clients)
        .map(|((kind, payload), client)| {
            let token = world.send_payload(&client, kind.command(), payload);
            world.advance();
            (client, token)
        })
        .collect();
    world.settle();
    sent.iter().map(|(client, token)| world.answer(client, *token).expect("an answer")).collect()
}

/// A client whose requests are sealed with the AN of a coin, type 1.
pub fn sealed_1(coin: CoinId, an: Secret) -> Client {
    Client { key_name: KeyName::Coin(coin.into()), key: Key::of_secret(an), ..Client::default() }
}

/// A client whose requests are sealed with a locker's key, type 2.
pub fn sealed_2(key: Secret) -> Client {
    let prefix = *key.bytes().first_chunk().expect("5 of 16 bytes");
    Client { key_name: KeyName::LockerPrefix(prefix), key: Key::of_secret(key), ..Client::default() }
}

/// A client whose requests are sealed with the hash of a coin's AN, type 4.
pub fn sealed_4(coin: CoinId, an: Secret) -> Client {
    Client { key_name: KeyName::Coin256(coin.into()), key: Key::of_coin(&an), ..Client::default() }
}

/// A client whose requests are sealed with the hash of two coins' ANs, type 5.
pub fn sealed_5((first, an1): (CoinId, Secret), (second, an2): (CoinId, Secret)) -> Client {
    let key_name = KeyName::TwoCoins256(first.into(), second.into());
    Client { key_name, key: Key::of_two_coins(&an1, &an2), ..Client::default() }
}

/// A node with 120 coins: 40 each of denominations -1, 0 and 1, over many pages.
pub fn world_with_coins(shards: u8, seed: u64) -> (World, Purse) {
    world_of(&WorldOptions::small(shards, seed))
}

/// The same of any world.
pub fn world_of(options: &WorldOptions) -> (World, Purse) {
    let mut purse = Purse { ans: BTreeMap::new(), random: Seeded(options.seed), next: 0, taken: BTreeSet::new() };
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
    let mut world = World::on(storage, options);
    world.start();
    (world, purse)
}

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

    /// Coins in wallets that were not taken before, of one denomination.
    pub fn take_of(&mut self, den: i8, count: usize) -> Vec<CoinId> {
        let of = self.ans.iter().filter(|(coin, an)| coin.denomination().get() == den && an.bytes()[15] == 0x11);
        let mut coins: Vec<CoinId> = of.map(|(&coin, _)| coin).filter(|coin| !self.taken.contains(coin)).collect();
        assert!(coins.len() >= count, "the purse has no more coins of {den}");
        // Far from each other, so that they are on many pages and shards.
        let step = coins.len() / count;
        coins = coins.into_iter().step_by(step).take(count).collect();
        self.taken.extend(&coins);
        coins
    }

    /// Coins of denomination 0 in wallets that were not taken before.
    pub fn take(&mut self, count: usize) -> Vec<CoinId> {
        self.take_of(0, count)
    }

    /// One of them.
    pub fn take_one(&mut self) -> CoinId {
        self.take(1)[0]
    }

    /// Coins with the ANs they have.
    pub fn rows(&self, coins: &[CoinId]) -> Vec<(RawCoin, Secret)> {
        coins.iter().map(|&coin| (coin.into(), self.an(coin))).collect()
    }

    /// Coins with fresh ANs.
    pub fn fresh_rows(&mut self, coins: &[RawCoin]) -> Vec<(RawCoin, Secret)> {
        coins.iter().map(|&coin| (coin, self.fresh())).collect()
    }

    /// Notes the ANs of rows.
    pub fn set_rows(&mut self, rows: &[(RawCoin, Secret)]) {
        rows.iter().for_each(|(coin, an)| self.set(coin.id().expect("a coin"), *an));
    }

    /// Every coin in circulation.
    pub fn all(&self) -> impl Iterator<Item = (CoinId, Secret)> {
        self.ans.iter().map(|(&coin, &an)| (coin, an))
    }

    /// The coins a session may make.
    pub fn offered(&self, world: &mut World, session: u32, operation: u8, den: i8) -> Vec<RawCoin> {
        let payload = payload::serial_numbers(session, operation, den);
        let (status, answer) = ask(world, &Client::default(), CommandKind::ChangeSerialNumbers, &payload);
        assert_eq!(status, Status::Success);
        let sns = answer[1..].chunks_exact(4).map(|sn| u32::from_be_bytes(sn.try_into().unwrap()));
        sns.map(|sn| RawCoin { den: answer[0] as i8, sn }).collect()
    }

    /// Breaks a coin, honestly.
    pub fn break_coin(&mut self, world: &mut World, client: &Client, session: u32, source: CoinId) -> Vec<CoinId> {
        let den = source.denomination().get();
        let targets = self.offered(world, session, 1, den);
        let rows = self.fresh_rows(&targets[..10]);
        let payload = payload::exchange(session, (source.into(), self.an(source)), &rows);
        assert_eq!(ask(world, client, CommandKind::Break, &payload).0, Status::Success);
        self.lose(source);
        self.set_rows(&rows);
        rows.iter().map(|(coin, _)| coin.id().unwrap()).collect()
    }

    /// Joins ten coins, honestly.
    pub fn join_coins(&mut self, world: &mut World, client: &Client, session: u32, sources: &[CoinId]) -> CoinId {
        let den = sources[0].denomination().get();
        let target = self.offered(world, session, 2, den)[0];
        let proposed = self.fresh();
        let payload = payload::exchange(session, (target, proposed), &self.rows(sources));
        assert_eq!(ask(world, client, CommandKind::Join, &payload).0, Status::Success);
        sources.iter().for_each(|&coin| self.lose(coin));
        let target = target.id().unwrap();
        self.set(target, proposed);
        target
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
