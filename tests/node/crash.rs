//! The crash lab: a real process on a real disk, killed at a random moment under load, again and again.
//!
//! Eight clients, four over TCP and four over UDP, each with coins, lockers, offers and sessions of its own, note what was
//! answered. After every `kill -9` the node starts with another number of shards, and each client's coins must be as
//! its answers said; of the one command that was under way, all or nothing. What all coins are worth never changes.
//!
//! `CRASH_ROUNDS` says how many rounds (default 3), `CRASH_SEED` what they are like; `scripts/crashlab` sets them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::net::NetClient;
use raida::coin::{CoinId, Denomination, PayoutAddress, Secret, TradeCoin};
use raida::sim::{Seeded, World};
use raida::store::recovery;
use raida::store::storage::Directory;
use raida::wire::items::{self, Bits, Coins, PownCoins, RawCoin, SecretCoins};
use raida::wire::request::Request;
use raida::wire::request::change::ChangeOperation;
use raida::wire::status::Status;

const CLIENTS: usize = 8;
const COINS_PER_CLIENT: u32 = 60;

/// What a client knows of its coins.
struct Holder {
    number: u8,
    random: Seeded,
    coins: BTreeMap<CoinId, Secret>,
    /// The changes of the command that was not answered: coin, and its new AN or `None` if it is freed.
    pending: Vec<(CoinId, Option<Secret>)>,
    answered: u64,
    written: u64,
}

impl Holder {
    fn new(number: u8, seed: u64) -> Self {
        let mut holder = Self {
            number,
            random: Seeded(seed ^ u64::from(number) << 32),
            coins: BTreeMap::new(),
            pending: Vec::new(),
            answered: 0,
            written: 0,
        };
        for index in 0..COINS_PER_CLIENT {
            // Spread over many pages, so that a cache of 8 is never enough.
            let sn = (index * CLIENTS as u32 + u32::from(number)) * 331;
            let coin = CoinId::new((index % 3) as i8 - 1, sn).unwrap();
            let an = holder.wallet_an();
            holder.coins.insert(coin, an);
        }
        holder
    }

    fn wallet_an(&mut self) -> Secret {
        let mut an = self.random.bytes();
        an[15] = 0x11;
        Secret::new(an)
    }

    fn locker_key(&mut self) -> Secret {
        let mut key = self.random.bytes();
        key[12..].fill(0xFF);
        Secret::new(key)
    }

    fn trade_an(&mut self) -> Secret {
        let mut an = self.random.bytes();
        an[9..].copy_from_slice(&[0, 0, 1, self.number, self.random.below(3) as u8, 0xEE, 0xEE]);
        Secret::new(an)
    }

    /// Up to `count` coins, no two with one AN, none in a trade locker.
    fn some_coins(&mut self, count: usize) -> Vec<(CoinId, Secret)> {
        let mut chosen: Vec<(CoinId, Secret)> = Vec::new();
        for _ in 0..4 * count {
            let (&coin, &an) = self.coins.iter().nth(self.random.below(self.coins.len())).unwrap();
            let movable = !matches!(an.place(), raida::coin::Place::TradeLocker(_));
            if movable && chosen.len() < count && chosen.iter().all(|(_, other)| *other != an) {
                chosen.push((coin, an));
            }
        }
        chosen
    }

    fn apply(&mut self, changes: &[(CoinId, Option<Secret>)]) {
        for &(coin, an) in changes {
            match an {
                Some(an) => self.coins.insert(coin, an),
                None => self.coins.remove(&coin),
            };
        }
    }

    /// Sends a command that changes coins so, and notes it when it is answered. An error: it was not.
    fn change(
        &mut self,
        client: &mut NetClient,
        request: &Request<'_>,
        changes: Vec<(CoinId, Option<Secret>)>,
    ) -> std::io::Result<bool> {
        self.pending = changes;
        let (status, _) = client.call(request)?;
        self.answered += 1;
        let changes = std::mem::take(&mut self.pending);
        let done = matches!(status, Status::AllPass | Status::Success);
        assert!(done || matches!(status, Status::PageNotReserved | Status::AllFail), "{request:?}: {status:?}");
        if done {
            self.written += 1;
            self.apply(&changes);
        }
        Ok(done)
    }

    /// One random command.
    fn act(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        match self.random.below(8) {
            0 | 1 => self.store(client),
            2 => self.remove(client),
            3 => self.trade(client),
            4 => self.pown(client),
            5 => self.break_coin(client),
            6 => self.join(client),
            _ => {
                let rows: Vec<_> = self.coins.iter().map(|(&coin, &an)| (RawCoin::from(coin), an)).collect();
                let bytes = items::bytes_of(rows);
                let (status, _) = client.call(&Request::Detect { coins: SecretCoins::new(&bytes).unwrap() })?;
                assert_eq!(status, Status::AllPass, "a coin is not what its last answer said");
                self.answered += 1;
                Ok(())
            }
        }
    }

    fn store(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let coins = self.some_coins(3);
        if coins.is_empty() {
            return Ok(());
        }
        let (list, sum, key) = (list(&coins), sum(&coins), self.locker_key());
        let request = Request::Store { coins: Coins::new(&list).unwrap(), sum, key };
        self.change(client, &request, coins.iter().map(|&(coin, _)| (coin, Some(key))).collect()).map(drop)
    }

    fn remove(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let is_locker = |an: &Secret| matches!(an.place(), raida::coin::Place::Locker(_));
        let Some(key) = self.coins.values().copied().find(|an| is_locker(an)) else { return Ok(()) };
        let coins: Vec<_> = self.coins.iter().filter(|(_, an)| **an == key).map(|(&coin, _)| coin).collect();
        let rows: Vec<_> = coins.into_iter().map(|coin| (coin, self.wallet_an())).collect();
        let bytes = items::bytes_of(rows.iter().map(|&(coin, an)| (RawCoin::from(coin), an)));
        let request = Request::Remove { key, coins: SecretCoins::new(&bytes).unwrap() };
        self.change(client, &request, rows.into_iter().map(|(coin, an)| (coin, Some(an))).collect()).map(drop)
    }

    /// Puts coins for sale, then buys them or takes them back.
    fn trade(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let on_sale = self.coins.values().copied().find(|an| matches!(an.place(), raida::coin::Place::TradeLocker(_)));
        let Some(an) = on_sale else {
            let coins = self.some_coins(2);
            if coins.is_empty() {
                return Ok(());
            }
            let (list, sum, an) = (list(&coins), sum(&coins), self.trade_an());
            let address = PayoutAddress::new(b"an address of twenty").unwrap();
            let request = Request::PutForSale { coins: Coins::new(&list).unwrap(), sum, an, address };
            let changes = coins.iter().map(|&(coin, _)| (coin, Some(an))).collect();
            return self.change(client, &request, changes).map(drop);
        };
        let key = self.locker_key();
        let coins: Vec<_> = self.coins.iter().filter(|(_, of)| **of == an).map(|(&coin, _)| coin).collect();
        let value = coins.iter().map(|coin| coin.denomination().value()).sum();
        let request = match self.random.one_in(2) {
            true => Request::RemoveTradeLocker { an, key: Some(key) },
            false => Request::Buy {
                key,
                coin_type: TradeCoin::new(an.bytes()[13]).unwrap(),
                value,
                price: u32::from_be_bytes(an.bytes()[9..13].try_into().unwrap()),
                txid: [0; 32],
                receipt: [0; 16],
                memo: b"lab",
            },
        };
        self.change(client, &request, coins.into_iter().map(|coin| (coin, Some(key))).collect()).map(drop)
    }

    fn pown(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let rows: Vec<_> = self.some_coins(5).into_iter().map(|(coin, an)| (coin, an, self.wallet_an())).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let bytes = items::bytes_of(rows.iter().map(|&(coin, an, new)| (RawCoin::from(coin), an, new)));
        let request = Request::Pown { coins: PownCoins::new(&bytes).unwrap() };
        self.change(client, &request, rows.into_iter().map(|(coin, _, an)| (coin, Some(an))).collect()).map(drop)
    }

    fn offered(&mut self, client: &mut NetClient, operation: ChangeOperation, den: i8) -> std::io::Result<Vec<CoinId>> {
        let session = u32::from(self.number) + 1;
        let (status, payload) = client.call(&Request::ChangeSerialNumbers { session, operation, den })?;
        assert_eq!(status, Status::Success);
        self.answered += 1;
        let sns = payload[1..].chunks_exact(4).map(|sn| u32::from_be_bytes(sn.try_into().unwrap()));
        Ok(sns.map(|sn| CoinId::new(payload[0] as i8, sn).unwrap()).collect())
    }

    fn break_coin(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let Some((source, an)) = self.some_coins(1).pop() else { return Ok(()) };
        let Some(_) = source.denomination().smaller() else { return Ok(()) };
        let offered = self.offered(client, ChangeOperation::Break, source.denomination().get())?;
        let targets: Vec<_> = offered.into_iter().take(10).map(|coin| (coin, self.wallet_an())).collect();
        let bytes = items::bytes_of(targets.iter().map(|&(coin, an)| (RawCoin::from(coin), an)));
        let session = u32::from(self.number) + 1;
        let targets_view = SecretCoins::new(&bytes).unwrap();
        let request = Request::Break { session, source: (source.into(), an), targets: targets_view };
        let created = targets.into_iter().map(|(coin, an)| (coin, Some(an)));
        self.change(client, &request, created.chain([(source, None)]).collect()).map(drop)
    }

    fn join(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let wallet = |an: &Secret| matches!(an.place(), raida::coin::Place::Wallet);
        let smaller = Denomination::all().find_map(|den| {
            let of: Vec<_> = self.coins.iter().filter(|(coin, an)| coin.denomination() == den && wallet(an)).collect();
            (of.len() > 20).then(|| of.into_iter().take(10).map(|(&coin, &an)| (coin, an)).collect::<Vec<_>>())
        });
        let Some(sources) = smaller else { return Ok(()) };
        let den = sources[0].0.denomination();
        let offered = self.offered(client, ChangeOperation::Join, den.get())?;
        let (target, an) = (offered[0], self.wallet_an());
        let bytes = items::bytes_of(sources.iter().map(|&(coin, an)| (RawCoin::from(coin), an)));
        let session = u32::from(self.number) + 1;
        let request =
            Request::Join { session, target: (target.into(), an), sources: SecretCoins::new(&bytes).unwrap() };
        let freed = sources.into_iter().map(|(coin, _)| (coin, None));
        self.change(client, &request, freed.chain([(target, Some(an))]).collect()).map(drop)
    }

    /// Works until the node is gone.
    fn work(&mut self, to: SocketAddr, stop: &AtomicBool) {
        let client = if self.number.is_multiple_of(2) { NetClient::tcp(to) } else { NetClient::udp(to) };
        let Ok(mut client) = client else { return };
        client.patience(Duration::from_secs(2));
        while !stop.load(Ordering::Relaxed) && self.act(&mut client).is_ok() {}
    }

    /// Compares what it knows with what the node says. Returns (coins lost, commands half done).
    fn check(&mut self, client: &mut NetClient) -> (usize, usize) {
        let pending = std::mem::take(&mut self.pending);
        let new: Vec<_> = pending.iter().filter_map(|&(coin, an)| an.map(|an| (coin, an))).collect();
        let old: Vec<_> = pending.iter().filter_map(|&(coin, _)| self.coins.get(&coin).map(|&an| (coin, an))).collect();
        let (are_new, are_old) = (authentic(client, &new), authentic(client, &old));
        let done = are_new.iter().all(|&is| is) && are_old.iter().zip(&old).all(|(&is, row)| !is || new.contains(row));
        let undone =
            are_old.iter().all(|&is| is) && are_new.iter().zip(&new).all(|(&is, row)| !is || old.contains(row));
        if done && !pending.is_empty() {
            self.apply(&pending);
        }
        let all: Vec<_> = self.coins.iter().map(|(&coin, &an)| (coin, an)).collect();
        let lost = authentic(client, &all).iter().filter(|&&is| !is).count();
        (if done || undone { lost } else { 0 }, usize::from(!done && !undone))
    }
}

/// Which of the coins have the AN.
fn authentic(client: &mut NetClient, rows: &[(CoinId, Secret)]) -> Vec<bool> {
    if rows.is_empty() {
        return Vec::new();
    }
    let bytes = items::bytes_of(rows.iter().map(|&(coin, an)| (RawCoin::from(coin), an)));
    let (status, payload) = client.call(&Request::Detect { coins: SecretCoins::new(&bytes).unwrap() }).unwrap();
    match status {
        Status::AllPass => vec![true; rows.len()],
        Status::AllFail => vec![false; rows.len()],
        Status::Mixed => {
            let bits = Bits::new(&payload, rows.len()).unwrap();
            (0..rows.len()).map(|row| bits.get(row)).collect()
        }
        status => panic!("detect answered {status:?}"),
    }
}

fn list(coins: &[(CoinId, Secret)]) -> Vec<u8> {
    items::bytes_of(coins.iter().map(|&(coin, _)| RawCoin::from(coin)))
}

fn sum(coins: &[(CoinId, Secret)]) -> Secret {
    coins.iter().fold(Secret::default(), |sum, (_, an)| sum.xor(*an))
}

/// What all coins in circulation are worth.
fn value(client: &mut NetClient) -> u64 {
    let (_, counts) = client.call(&Request::CountCoins).unwrap();
    counts
        .chunks_exact(5)
        .map(|row| {
            let count = u32::from_be_bytes(row[1..].try_into().unwrap());
            Denomination::new(row[0] as i8).unwrap().value() * u64::from(count)
        })
        .sum()
}

/// A node in a process of its own.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(data: &Path, shards: usize) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_raida"))
            .args(["serve", "--listen", "127.0.0.1:0", "--raida-id", "0", "--trust-market", "--shards"])
            .arg(shards.to_string())
            .arg("--data")
            .arg(data)
            .arg("--config")
            .arg(data.with_file_name("raida.toml"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.next().expect("a line when it serves").unwrap();
        let listen = ready.split_whitespace().find_map(|word| word.strip_prefix("listen=")).expect("ready … listen=");
        Self { child, address: listen.parse().unwrap() }
    }

    fn kill(mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the node ended by itself");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn no_kill_loses_what_was_answered() {
    let rounds = setting("CRASH_ROUNDS", 3);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = setting("CRASH_SEED", now.as_nanos() as u64);
    println!("seed {seed}, {rounds} rounds");
    let mut random = Seeded(seed);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    // Small: eviction, checkpoints and recycled segments all the time.
    let config = "[store]\ncache_pages = 8\nlog_segment_bytes = 1048576\nlog_segments = 3\n";
    std::fs::write(data.with_file_name("raida.toml"), config).unwrap();

    let mut holders: Vec<Holder> = (0..CLIENTS as u8).map(|number| Holder::new(number, seed)).collect();
    std::fs::create_dir(&data).unwrap();
    {
        let storage = Directory::open(&data).unwrap();
        recovery::initialise(&storage, Default::default()).unwrap();
        let coins: Vec<_> =
            holders.iter().flat_map(|holder| holder.coins.iter().map(|(&coin, &an)| (coin, an))).collect();
        World::mint(&storage, &coins, 10);
    }
    let worth: u64 =
        holders.iter().flat_map(|holder| holder.coins.keys()).map(|coin| coin.denomination().value()).sum();

    let (mut lost, mut half_done) = (0, 0);
    for round in 0..rounds {
        let node = Process::start(&data, 1 + random.below(4));
        let stop = AtomicBool::new(false);
        let end = Instant::now() + Duration::from_millis(200 + random.below(1300) as u64);
        let to = node.address;
        thread::scope(|scope| {
            for holder in &mut holders {
                scope.spawn(|| holder.work(to, &stop));
            }
            thread::sleep(end.saturating_duration_since(Instant::now()));
            node.kill();
            stop.store(true, Ordering::Relaxed);
        });

        let node = Process::start(&data, 1 + random.below(4));
        let mut client = NetClient::tcp(node.address).unwrap();
        for holder in &mut holders {
            let (coins, commands) = holder.check(&mut client);
            lost += coins;
            half_done += commands;
        }
        assert_eq!(value(&mut client), worth, "round {round}: what all coins are worth");
        node.kill(); // an unused node dies like any other
    }
    let answered: u64 = holders.iter().map(|holder| holder.answered).sum();
    let written: u64 = holders.iter().map(|holder| holder.written).sum();
    println!(
        "{rounds} rounds, {answered} commands answered, {written} of them written, {lost} coins lost, {half_done} commands half done"
    );
    assert!(written > rounds * 10, "the clients did work");
    assert_eq!((lost, half_done), (0, 0));
}
