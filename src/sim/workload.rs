//! What made-up clients ask: every command that changes or shows coins, about a few coins at a time, so that requests meet;
//! most of it right, some of it wrong or wicked.

use super::Seeded;
use super::model::{Answer, Batch, Model, Op, Row, value_of};
use super::payload::{locker_key, offer_an};
use crate::coin::{CoinId, Denomination, Secret};
use crate::shard::free_map::WordNumber;
use crate::wire::status::Status;

/// Locker keys that the clients share.
pub const LOCKERS: u8 = 4;
/// Offers that the clients share.
pub const OFFERS: u32 = 4;
/// Sessions whose coins are remembered.
const SESSIONS: usize = 6;

/// What a session was offered.
struct Session {
    number: u32,
    operation: u8,
    coins: Vec<CoinId>,
}

/// The clients' minds.
pub struct Workload {
    random: Seeded,
    /// The coin that clients use as their key, and leave where it is.
    key_coin: CoinId,
    last_session: u32,
    sessions: Vec<Session>,
}

impl Workload {
    /// Clients that leave one coin alone.
    pub fn new(seed: u64, key_coin: CoinId) -> Self {
        Self { random: Seeded(seed), key_coin, last_session: 0, sessions: Vec::new() }
    }

    /// A few coins, for the next requests to meet at.
    pub fn few(&mut self, guess: &Model) -> Vec<CoinId> {
        let all: Vec<CoinId> = guess.ans.keys().copied().filter(|coin| *coin != self.key_coin).collect();
        let mut few: Vec<CoinId> = (0..8).map(|_| all[self.random.below(all.len())]).collect();
        few.sort_unstable();
        few.dedup();
        few
    }

    /// Remembers what a session was offered.
    pub fn hear(&mut self, op: &Op, (status, answer): &Answer) {
        let Op::SerialNumbers { session, operation, .. } = op else { return };
        let Some((den, sns)) = answer.split_first().filter(|_| *status == Status::Success) else { return };
        let sn = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("4 bytes"));
        let coins: Vec<CoinId> = sns.chunks_exact(4).filter_map(|bytes| CoinId::new(*den as i8, sn(bytes))).collect();
        if coins.len() < 10 {
            return;
        }
        self.sessions.push(Session { number: *session, operation: *operation, coins });
        if self.sessions.len() > SESSIONS {
            self.sessions.remove(0);
        }
    }

    /// A request of a rush: it writes one of a few coins, and most often waits for nobody.
    pub fn rush(&mut self, guess: &Model, few: &[CoinId]) -> Op {
        let coin = few[self.random.below(few.len())];
        Op::Pown(vec![(coin, self.an(guess, coin), self.pan())])
    }

    /// What the operator does now.
    pub fn act(&mut self, guess: &Model) -> Op {
        match (self.random.below(4), guess.held.first()) {
            (0, _) if guess.paused => Op::Resume,
            (0, _) => Op::Pause,
            (1.., Some(an)) => Op::Release(Secret::new(*an)),
            (1, None) => Op::Hold(self.offer()),
            (_, None) => Op::Hold(self.key()),
        }
    }

    /// A request about a few coins, by somebody who believes `guess`.
    pub fn op(&mut self, guess: &Model, few: &[CoinId]) -> Op {
        match self.random.below(24) {
            0 | 1 => {
                let coins = self.coins(few, 8);
                Op::Detect(coins.into_iter().map(|coin| self.row(guess, coin)).collect())
            }
            2 => Op::DetectSum(self.batch(guess, few)),
            3 | 4 => {
                let coins = self.coins(few, 8);
                Op::Pown(coins.into_iter().map(|coin| (coin, self.an(guess, coin), self.pan())).collect())
            }
            5 => {
                let mut delta = *self.fresh().bytes();
                delta[12..].fill(0); // what ends like a wallet's AN goes on to
                Op::PownSum(self.batch(guess, few), Secret::new(delta))
            }
            6 | 7 => Op::Store(self.batch(guess, few), self.key()),
            8 => {
                let (half, rest) = few.split_at(few.len() / 2);
                let halves = if half.is_empty() { [rest, rest] } else { [half, rest] };
                Op::StoreMultiple(halves.map(|few| (self.batch(guess, few), self.key())).into())
            }
            9 | 10 => {
                let key = self.key();
                let mut coins = guess.coins_with(&key);
                coins.truncate(6);
                if coins.is_empty() || self.random.one_in(6) {
                    coins.extend(self.coins(few, 3));
                }
                Op::Remove(key, coins.into_iter().map(|coin| (coin, self.pan())).collect())
            }
            11 => Op::Peek(self.key()),
            12 | 13 => Op::PutForSale(self.batch(guess, few), self.offer(), self.address()),
            14 => {
                let value = value_of(&guess.coins_with(&self.offer()));
                Op::Buy { key: self.key(), value, price: 1 + self.random.below(2) as u32 }
            }
            15 => {
                let key = (!self.random.one_in(6)).then(|| self.key());
                Op::TakeBack(self.offer(), key)
            }
            16 => Op::PeekTradeLocker(self.offer()),
            17 if self.random.one_in(2) => Op::List,
            17 => Op::Count,
            18..20 => self.serial_numbers(few),
            20..22 => self.break_one(guess, few),
            _ => self.join_ten(guess, few),
        }
    }

    fn fresh(&mut self) -> Secret {
        let mut an = self.random.bytes();
        an[15] = 0x11; // neither a locker's nor a trade locker's
        Secret::new(an)
    }

    fn key(&mut self) -> Secret {
        locker_key(1 + self.random.below(LOCKERS as usize) as u8)
    }

    fn offer(&mut self) -> Secret {
        let number = self.random.below(OFFERS as usize) as u32;
        offer_an(number, 1 + number % 2)
    }

    fn address(&mut self) -> [u8; 20] {
        let mut address = [b'a'; 20];
        address[..16].copy_from_slice(&self.random.bytes());
        address
    }

    /// A new AN, most often a wallet's.
    fn pan(&mut self) -> Secret {
        if self.random.one_in(3) { self.key() } else { self.fresh() }
    }

    /// One to `most` of a few coins, now and then one of them twice.
    fn coins(&mut self, few: &[CoinId], most: usize) -> Vec<CoinId> {
        let mut coins = few.to_vec();
        while coins.len() > most {
            coins.swap_remove(self.random.below(coins.len()));
        }
        coins.truncate(1 + self.random.below(coins.len()));
        if self.random.one_in(16) {
            coins.push(coins[0]);
        }
        coins
    }

    /// Coins with their sum. Two mentions of a coin cancel out: who sums so, hopes that nobody looks.
    fn batch(&mut self, guess: &Model, few: &[CoinId]) -> Batch {
        let coins = self.coins(few, 5);
        let sum = if self.random.one_in(12) { self.fresh() } else { guess.sum(&coins) };
        (coins, sum)
    }

    fn an(&mut self, guess: &Model, coin: CoinId) -> Secret {
        guess.ans.get(&coin).copied().filter(|_| !self.random.one_in(12)).unwrap_or_else(|| self.fresh())
    }

    fn row(&mut self, guess: &Model, coin: CoinId) -> Row {
        (coin, self.an(guess, coin))
    }

    fn serial_numbers(&mut self, few: &[CoinId]) -> Op {
        // A session that asks again is offered what it has.
        let before = self.last_session;
        if before == 0 || !self.random.one_in(8) {
            self.last_session += 1;
        }
        let den = few[self.random.below(few.len())].denomination();
        let operation = 1 + self.random.below(2) as u8;
        let possible = |operation| if operation == 1 { den.smaller() } else { den.larger() };
        let operation = if possible(operation).is_some() { operation } else { 3 - operation };
        if before > 0 && self.random.one_in(4) {
            // A session whose search starts at the same word as another's.
            let of = possible(operation).expect("a denomination");
            let meets = |number: &u32| WordNumber::search_start(*number, of) == WordNumber::search_start(before, of);
            self.last_session = (before + 1..).find(meets).expect("there are words enough");
        }
        Op::SerialNumbers { session: self.last_session, operation, den: den.get() }
    }

    /// The coins of a session for an operation, and under which number they are asked for: most often its own.
    fn session(&mut self, operation: u8) -> Option<(u32, Vec<CoinId>)> {
        let fitting: Vec<usize> =
            (0..self.sessions.len()).filter(|&at| self.sessions[at].operation == operation).collect();
        let at = *fitting.get(self.random.below(fitting.len().max(1)))?;
        let session = &self.sessions[at];
        let number = if self.random.one_in(10) { session.number + 1 } else { session.number };
        Some((number, session.coins.clone()))
    }

    fn break_one(&mut self, guess: &Model, few: &[CoinId]) -> Op {
        let Some((session, coins)) = self.session(1) else { return self.serial_numbers(few) };
        let den = coins[0].denomination().larger();
        let sources: Vec<CoinId> =
            guess.ans.keys().copied().filter(|c| Some(c.denomination()) == den && *c != self.key_coin).collect();
        let among = few.iter().copied().find(|coin| Some(coin.denomination()) == den);
        let Some(source) = among.or_else(|| sources.get(self.random.below(sources.len().max(1))).copied()) else {
            return self.serial_numbers(few);
        };
        let from = self.random.below(coins.len() - 9);
        let mut targets: Vec<CoinId> = coins[from..from + 10].to_vec();
        if self.random.one_in(16) {
            targets[9] = targets[0];
        }
        if self.random.one_in(16) {
            targets[5] = self.stranger(targets[0].denomination());
        }
        let targets = targets.into_iter().map(|coin| (coin, self.pan())).collect();
        Op::Break { session, source: self.row(guess, source), targets }
    }

    /// A coin that no session was offered, most likely.
    fn stranger(&mut self, den: Denomination) -> CoinId {
        CoinId::new(den.get(), 900_000 + self.random.below(1000) as u32).expect("a coin")
    }

    fn join_ten(&mut self, guess: &Model, few: &[CoinId]) -> Op {
        let Some((session, coins)) = self.session(2) else { return self.serial_numbers(few) };
        let den = coins[0].denomination().smaller();
        let of_den = guess.ans.keys().filter(|c| Some(c.denomination()) == den && **c != self.key_coin);
        let mut sources: Vec<CoinId> = of_den.copied().collect();
        if sources.len() < 10 {
            return self.serial_numbers(few);
        }
        while sources.len() > 10 {
            let outside: Vec<usize> = (0..sources.len()).filter(|&at| !few.contains(&sources[at])).collect();
            let at = if outside.is_empty() { 0 } else { outside[self.random.below(outside.len())] };
            sources.swap_remove(at);
        }
        if self.random.one_in(16) {
            sources[9] = sources[0];
        }
        let mut target = coins[self.random.below(coins.len())];
        if self.random.one_in(16) {
            target = self.stranger(target.denomination());
        }
        let sources = sources.into_iter().map(|coin| self.row(guess, coin)).collect();
        Op::Join { session, target: (target, self.pan()), sources }
    }
}
