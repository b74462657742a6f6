//! What must be true of a node, kept in the simplest way: a map of ANs, a list of offers, who was promised which words.
//!
//! [`Model::tell`] carries a request out in the way its answer says, or finds that no right node gives that answer.
//! Requests that overlap are put in an order by [`explain`](super::history::explain).

use std::collections::{BTreeMap, BTreeSet};

use super::payload;
use crate::coin::{CoinId, Place, Secret, TradeCoin};
use crate::settings::Identifier;
use crate::shard::acts::Act;
use crate::shard::free_map::{COINS_PER_WORD, WordNumber};
use crate::shard::locks::Resource;
use crate::shard::market::public_identifier;
use crate::shard::suspensions::{Suspension, Suspensions};
use crate::wire::items::RawCoin;
use crate::wire::request::CommandKind::{self, *};
use crate::wire::status::Status;

/// Status and payload; lists in order of their bytes.
pub type Answer = (Status, Vec<u8>);

/// Coins and the sum that is to prove them.
pub type Batch = (Vec<CoinId>, Secret);
/// A coin and an AN.
pub type Row = (CoinId, Secret);

/// From when to when something happened, in microseconds of the made-up clock.
pub type Span = (u64, u64);

/// A request, as the model knows it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is its command's, fields by their order on the wire")]
pub enum Op {
    Detect(Vec<Row>),
    DetectSum(Batch),
    Pown(Vec<(CoinId, Secret, Secret)>),
    PownSum(Batch, Secret),
    Store(Batch, Secret),
    StoreMultiple(Vec<(Batch, Secret)>),
    Remove(Secret, Vec<Row>),
    Peek(Secret),
    PutForSale(Batch, Secret, [u8; 20]),
    Buy { key: Secret, value: u64, price: u32 },
    TakeBack(Secret, Option<Secret>),
    PeekTradeLocker(Secret),
    List,
    Count,
    SerialNumbers { session: u32, operation: u8, den: i8 },
    Break { session: u32, source: Row, targets: Vec<Row> },
    Join { session: u32, target: Row, sources: Vec<Row> },
    Create { session: u32, coins: Vec<CoinId> },
    Delete(Vec<Row>),
    Free(Vec<CoinId>),
    // What the operator does.
    Hold(Secret),
    Release(Secret),
    Pause,
    Resume,
}

fn raw_rows(rows: &[Row]) -> Vec<(RawCoin, Secret)> {
    rows.iter().map(|&(coin, an)| (coin.into(), an)).collect()
}

impl Op {
    /// As it goes over the wire.
    pub fn payload(&self) -> (CommandKind, Vec<u8>) {
        let raw = |coins: &[CoinId]| payload::raw(coins);
        match self {
            Self::Detect(rows) => (Detect, payload::detect(&raw_rows(rows))),
            Self::DetectSum((coins, sum)) => (DetectSum, payload::detect_sum(&raw(coins), *sum)),
            Self::Pown(rows) => {
                let rows: Vec<_> = rows.iter().map(|&(coin, an, pan)| (coin.into(), an, pan)).collect();
                (Pown, payload::pown(&rows))
            }
            Self::PownSum((coins, sum), delta) => (PownSum, payload::pown_sum(&raw(coins), *sum, *delta)),
            Self::Store((coins, sum), key) => (Store, payload::store(&raw(coins), *sum, *key)),
            Self::StoreMultiple(lockers) => {
                let coins: Vec<_> = lockers.iter().map(|((coins, _), _)| raw(coins)).collect();
                let rows: Vec<_> =
                    lockers.iter().zip(&coins).map(|(((_, sum), key), coins)| (&coins[..], *sum, *key)).collect();
                (StoreMultiple, payload::store_multiple(&rows))
            }
            Self::Remove(key, rows) => (Remove, payload::remove(*key, &raw_rows(rows))),
            Self::Peek(key) => (Peek, key.bytes().to_vec()),
            Self::PutForSale((coins, sum), an, address) => (PutForSale, payload::sale(&raw(coins), *sum, *an, address)),
            Self::Buy { key, value, price } => (Buy, payload::buy(*key, 1, *value, *price, b"memo")),
            Self::TakeBack(an, key) => (RemoveTradeLocker, payload::take_back(*an, *key)),
            Self::PeekTradeLocker(an) => (PeekTradeLocker, an.bytes().to_vec()),
            Self::List => (ListForSale, vec![1, 255]),
            Self::Count => (CountCoins, Vec::new()),
            Self::SerialNumbers { session, operation, den } => {
                (ChangeSerialNumbers, payload::serial_numbers(*session, *operation, *den))
            }
            Self::Break { session, source: (coin, an), targets } => {
                (Break, payload::exchange(*session, ((*coin).into(), *an), &raw_rows(targets)))
            }
            Self::Join { session, target: (coin, an), sources } => {
                (Join, payload::exchange(*session, ((*coin).into(), *an), &raw_rows(sources)))
            }
            Self::Create { session, coins } => (CreateCoins, payload::create(*session, &raw(coins))),
            Self::Delete(rows) => (DeleteCoins, payload::delete(&raw_rows(rows))),
            Self::Free(coins) => (FreeCoins, payload::create(0, &raw(coins))),
            Self::Hold(_) | Self::Release(_) | Self::Pause | Self::Resume => unreachable!("no client asks for that"),
        }
    }

    /// What the operator wants suspended (`true`) or ended, where that is what it is.
    pub fn suspends(&self, suspensions: &Suspensions) -> Option<(Suspension, bool)> {
        let hold = |an| suspensions.name(&resource(an)).map(Suspension::Hold);
        match self {
            Self::Hold(an) => Some((hold(an)?, true)),
            Self::Release(an) => Some((hold(an)?, false)),
            Self::Pause => Some((Suspension::Pause(TradeCoin::Bitcoin), true)),
            Self::Resume => Some((Suspension::Pause(TradeCoin::Bitcoin), false)),
            _ => None,
        }
    }

    /// The act that does it.
    pub fn act(&self, suspensions: &Suspensions) -> Option<Act> {
        Some(match self {
            Self::Hold(an) => Act::Hold(resource(an)),
            Self::Release(an) => Act::Release(suspensions.name(&resource(an))?),
            Self::Pause => Act::Pause(TradeCoin::Bitcoin),
            Self::Resume => Act::Resume(TradeCoin::Bitcoin),
            _ => return None,
        })
    }

    /// The coins it names; those of an offer are not among them.
    pub fn coins(&self) -> Vec<CoinId> {
        let of_rows = |rows: &[Row]| rows.iter().map(|row| row.0).collect::<Vec<_>>();
        match self {
            Self::Detect(rows) | Self::Remove(_, rows) | Self::Delete(rows) => of_rows(rows),
            Self::Pown(rows) => rows.iter().map(|row| row.0).collect(),
            Self::DetectSum((coins, _)) | Self::PownSum((coins, _), _) => coins.clone(),
            Self::Create { coins, .. } | Self::Free(coins) => coins.clone(),
            Self::Store((coins, _), _) | Self::PutForSale((coins, _), ..) => coins.clone(),
            Self::StoreMultiple(lockers) => lockers.iter().flat_map(|((coins, _), _)| coins.clone()).collect(),
            Self::Break { source: one, targets: ten, .. } | Self::Join { target: one, sources: ten, .. } => {
                [&of_rows(ten)[..], &[one.0]].concat()
            }
            _ => Vec::new(),
        }
    }

    /// The answer with its list in the order of its bytes: the order of coins in a locker is nobody's business.
    pub fn sorted(&self, (status, mut answer): Answer) -> Answer {
        let item = match self {
            Self::Peek(_) | Self::PeekTradeLocker(_) => 5,
            Self::List => 29,
            _ => return (status, answer),
        };
        let mut items: Vec<&[u8]> = answer.chunks(item).collect();
        items.sort_unstable();
        answer = items.concat();
        (status, answer)
    }
}

/// What is locked of a locker or trade locker.
fn resource(an: &Secret) -> Resource {
    match an.place() {
        Place::TradeLocker(an) => Resource::Offer(public_identifier(&an, Identifier::Hashed)),
        _ => Resource::Locker(*an),
    }
}

/// An offer: its AN and its payout address.
type Offer = (Secret, [u8; 20]);

/// A word of coins that a session may make.
#[derive(Clone, PartialEq, Eq)]
struct Promise {
    word: WordNumber,
    session: u32,
    /// Between these moments the promise ends.
    until: Span,
}

/// What must be true of a node.
#[derive(Clone, Default)]
pub struct Model {
    /// The AN of every coin in circulation.
    pub ans: BTreeMap<CoinId, Secret>,
    /// Offers, the first that came first.
    pub offers: Vec<Offer>,
    /// Keys and ANs of what is held.
    pub held: BTreeSet<[u8; 16]>,
    /// Whether the market is paused.
    pub paused: bool,
    promises: Vec<Promise>,
}

impl PartialEq for Model {
    /// Not in constant time as [`Secret`]s are compared: nothing here is secret, and it is done millions of times.
    fn eq(&self, other: &Self) -> bool {
        let same = |((coin, an), (other, others)): ((&CoinId, &Secret), (&CoinId, &Secret))| {
            coin == other && an.bytes() == others.bytes()
        };
        self.ans.len() == other.ans.len()
            && self.ans.iter().zip(&other.ans).all(same)
            && self.offers == other.offers
            && (&self.held, self.paused) == (&other.held, other.paused)
            && self.promises == other.promises
    }
}

impl Eq for Model {}

/// What coins are worth, in units of 10^-8.
pub fn value_of<'a>(coins: impl IntoIterator<Item = &'a CoinId>) -> u64 {
    coins.into_iter().map(|coin| coin.denomination().value()).sum()
}

fn on_market(an: &Secret) -> bool {
    matches!(an.place(), Place::TradeLocker(_))
}

/// What an offer costs.
pub fn price_of(an: &Secret) -> u32 {
    u32::from_be_bytes(an.bytes()[9..13].try_into().expect("4 bytes"))
}

fn named_twice<'a>(coins: impl IntoIterator<Item = &'a CoinId>) -> bool {
    let mut seen = BTreeSet::new();
    !coins.into_iter().all(|coin| seen.insert(*coin))
}

impl Model {
    /// How long a session keeps what it was offered, microseconds.
    pub const PROMISE_US: u64 = 16_000_000;

    /// A node with these coins, in wallets.
    pub fn new(coins: impl IntoIterator<Item = Row>) -> Self {
        Self { ans: coins.into_iter().collect(), ..Self::default() }
    }

    /// What is suspended, as the node's shards know it.
    pub fn suspensions(&self) -> Suspensions {
        let mut suspensions = Suspensions::default();
        for an in &self.held {
            let held = suspensions.name(&resource(&Secret::new(*an))).expect("a locker or a trade locker");
            suspensions.suspend(Suspension::Hold(held));
        }
        if self.paused {
            suspensions.suspend(Suspension::Pause(TradeCoin::Bitcoin));
        }
        suspensions
    }

    /// The node starts again: promises are forgotten.
    pub fn restart(&mut self) {
        self.promises.clear();
    }

    /// The coins that have an AN.
    pub fn coins_with(&self, an: &Secret) -> Vec<CoinId> {
        self.ans.iter().filter(|(_, other)| other.bytes() == an.bytes()).map(|(&coin, _)| coin).collect()
    }

    /// The XOR of ANs; those of free coins are zeros.
    pub fn sum(&self, coins: &[CoinId]) -> Secret {
        coins.iter().filter_map(|coin| self.ans.get(coin)).fold(Secret::default(), |sum, an| sum.xor(*an))
    }

    /// What all coins in circulation are worth.
    pub fn value(&self) -> u64 {
        value_of(self.ans.keys())
    }

    /// Carries a request out in the way its answer says; `false`: it cannot have been answered so now. Without an
    /// answer it is carried out as far as it can be.
    pub fn tell(&mut self, op: &Op, said: Option<&Answer>, when: Span) -> bool {
        if let Op::SerialNumbers { session, operation, den } = op {
            return said.is_none_or(|answer| self.promise(*session, *operation, *den, answer, when));
        }
        if let Op::Create { session, coins } = op {
            let (status, ans) = said.expect("without an answer nobody knows the ANs");
            if *status == Status::Success {
                return self.create(*session, coins, ans, when);
            }
        }
        if let Some((status, _)) = said
            && self.is_another_reason(op, *status)
        {
            return true;
        }
        let doubt = said.is_none_or(|(status, _)| *status != Status::PageNotReserved);
        let answer = self.carry_out(op, when, doubt);
        said.is_none_or(|said| *said == answer)
    }

    /// Carries a request out on its own; what must be answered.
    pub fn apply(&mut self, op: &Op) -> Answer {
        self.carry_out(op, (0, 0), true)
    }

    /// Whether a request that cannot be carried out may be answered so: several things are wrong with it, and which is said
    /// depends on which of them a shard saw first.
    fn is_another_reason(&self, op: &Op, status: Status) -> bool {
        match op {
            Op::PutForSale(batch, an, _) if self.has_offer(an) || self.holds(an) || self.paused => {
                let moved = match self.proof(batch, true) {
                    Err(unproved) => return status == unproved,
                    Ok(false) => return status == Status::AllFail,
                    Ok(true) => batch.0.iter().any(|coin| self.holds(&self.ans[coin])),
                };
                match status {
                    Status::LockerUsed => moved,
                    Status::TradeCoin => self.paused && !self.holds(an),
                    _ => false,
                }
            }
            Op::Buy { key, value, price } if self.paused && self.holds(key) => {
                status == Status::LockerUsed && self.offers.iter().any(|(an, _)| self.matches(an, *value, *price))
            }
            _ => false,
        }
    }

    fn holds(&self, an: &Secret) -> bool {
        self.held.contains(an.bytes())
    }

    fn matches(&self, an: &Secret, value: u64, price: u32) -> bool {
        price_of(an) == price && value_of(&self.coins_with(an)) == value
    }

    /// The status that ends a request as what it names is suspended.
    fn stops_at_once(&self, op: &Op) -> Option<Status> {
        match op {
            Op::Peek(an) | Op::PeekTradeLocker(an) | Op::TakeBack(an, _) | Op::PutForSale(_, an, _) => {
                self.holds(an).then_some(Status::LockerUsed)
            }
            Op::Buy { .. } => self.paused.then_some(Status::TradeCoin),
            _ => None,
        }
    }

    /// The status that ends a request which would lead to `after`, as what it moves is suspended.
    fn stops(&self, op: &Op, after: &Self) -> Option<Status> {
        let moved = |(coin, an): (&CoinId, &Secret), other: &Self| {
            other.ans.get(coin).is_none_or(|other| other.bytes() != an.bytes()) && self.holds(an)
        };
        let leaves = self.ans.iter().any(|row| moved(row, after));
        if leaves || after.ans.iter().any(|row| moved(row, self)) {
            return Some(Status::LockerUsed);
        }
        let is_sale = matches!(op, Op::PutForSale(..)) && self.offers.len() < after.offers.len();
        (is_sale && self.paused).then_some(Status::TradeCoin)
    }

    fn carry_out(&mut self, op: &Op, when: Span, doubt: bool) -> Answer {
        match op {
            Op::Hold(an) => _ = self.held.insert(*an.bytes()),
            Op::Release(an) => _ = self.held.remove(an.bytes()),
            Op::Pause | Op::Resume => self.paused = matches!(op, Op::Pause),
            _ if self.held.is_empty() && !self.paused => return self.carry_out_freely(op, when, doubt),
            _ => {
                let mut after = self.clone();
                let answer = after.carry_out_freely(op, when, doubt);
                if let Some(status) = self.stops_at_once(op).or_else(|| self.stops(op, &after)) {
                    return (status, vec![]);
                }
                *self = after;
                return answer;
            }
        }
        (Status::Success, vec![])
    }

    fn has_offer(&self, an: &Secret) -> bool {
        self.offers.iter().any(|(other, _)| other == an)
    }

    /// Whether a sum proves its coins.
    ///
    /// # Errors
    /// A coin is named twice.
    fn proof(&self, (coins, sum): &Batch, movable: bool) -> Result<bool, Status> {
        if named_twice(coins) {
            return Err(Status::SerialNumberOrDenomination);
        }
        let ans: Vec<&Secret> = coins.iter().filter_map(|coin| self.ans.get(coin)).collect();
        let different: BTreeSet<&[u8; 16]> = ans.iter().map(|an| an.bytes()).collect();
        let stays = movable && ans.iter().any(|an| on_market(an));
        Ok(different.len() == coins.len() && self.sum(coins) == *sum && !stays)
    }

    /// Coins come into circulation with the ANs of the answer.
    fn create(&mut self, session: u32, coins: &[CoinId], ans: &[u8], when: Span) -> bool {
        let ans = ans.chunks_exact(16).map(|an| Secret::new(an.try_into().expect("16 bytes")));
        let rows: Vec<Row> = coins.iter().copied().zip(ans).collect();
        let wallets = rows.len() == coins.len() && rows.iter().all(|(_, an)| an.place() == Place::Wallet);
        let may = wallets && !named_twice(coins) && self.may_make(session, &rows, when, true);
        if may {
            self.make(session, &rows, when);
        }
        may
    }

    /// Gives each item that passes its new AN; the answer has a bit an item. The second mention of a coin fails.
    fn items(&mut self, rows: impl IntoIterator<Item = (CoinId, bool, Option<Secret>)>) -> Answer {
        let (mut bits, mut all, mut passed, mut seen) = (Vec::new(), 0, 0, BTreeSet::new());
        let mut changes = Vec::new();
        for (coin, passes, an) in rows {
            if all % 8 == 0 {
                bits.push(0);
            }
            if seen.insert(coin) && passes {
                bits[all / 8] |= 1 << (all % 8);
                passed += 1;
                changes.extend(an.map(|an| (coin, an)));
            }
            all += 1;
        }
        self.ans.extend(changes);
        match passed {
            0 => (Status::AllFail, vec![]),
            _ if passed == all => (Status::AllPass, vec![]),
            _ => (Status::Mixed, bits),
        }
    }

    fn give(&mut self, coins: &[CoinId], an: Secret) {
        coins.iter().for_each(|&coin| _ = self.ans.insert(coin, an));
    }

    fn peek(&self, an: &Secret) -> Answer {
        match &self.coins_with(an)[..] {
            [] => (Status::AllFail, vec![]),
            coins => (Status::AllPass, payload::coins(&payload::raw(coins))),
        }
    }

    fn has(&self, (coin, an): &Row) -> bool {
        self.ans.get(coin).is_some_and(|other| other.bytes() == an.bytes())
    }

    fn owns(&self, row: &Row) -> bool {
        self.has(row) && !on_market(&row.1)
    }

    /// A batch that a sum proves goes to an AN.
    fn store(&mut self, batch: &Batch, an: impl Fn(Secret) -> Secret) -> Answer {
        match self.proof(batch, true) {
            Err(status) => (status, vec![]),
            Ok(false) => (Status::AllFail, vec![]),
            Ok(true) => {
                for coin in &batch.0 {
                    let old = self.ans.get_mut(coin).expect("a proved coin");
                    *old = an(*old);
                }
                (Status::AllPass, vec![])
            }
        }
    }

    fn carry_out_freely(&mut self, op: &Op, when: Span, doubt: bool) -> Answer {
        let answer = |status| (status, vec![]);
        let result = |passed| answer(if passed { Status::AllPass } else { Status::AllFail });
        match op {
            Op::Detect(rows) => {
                let rows: Vec<_> = rows.iter().map(|row| (row.0, self.has(row), None)).collect();
                self.items(rows)
            }
            Op::DetectSum(batch) => self.proof(batch, false).map_or_else(answer, result),
            Op::Pown(rows) => {
                let rows: Vec<_> =
                    rows.iter().map(|&(coin, an, pan)| (coin, self.owns(&(coin, an)), Some(pan))).collect();
                self.items(rows)
            }
            Op::PownSum(batch, delta) => self.store(batch, |an| an.xor(*delta)),
            Op::Store(batch, key) => self.store(batch, |_| *key),
            Op::StoreMultiple(lockers) => self.store_multiple(lockers),
            Op::Remove(key, rows) => {
                let rows: Vec<_> = rows.iter().map(|&(coin, pan)| (coin, self.has(&(coin, *key)), Some(pan))).collect();
                self.items(rows)
            }
            Op::Peek(an) | Op::PeekTradeLocker(an) => op.sorted(self.peek(an)),
            Op::PutForSale(_, an, _) if self.has_offer(an) => answer(Status::TradeLockerExists),
            Op::PutForSale(batch, an, address) => {
                let stored = self.store(batch, |_| *an);
                if stored.0 == Status::AllPass {
                    self.offers.push((*an, *address));
                }
                stored
            }
            Op::Buy { key, value, price } => {
                let mut matching = self.offers.iter().filter(|(an, _)| self.matches(an, *value, *price)).peekable();
                let some = matching.peek().is_some();
                let Some(&(an, _)) = matching.find(|(an, _)| !self.holds(an)) else {
                    return answer(if some { Status::LockerUsed } else { Status::TradeLockerNotFound });
                };
                self.give(&self.coins_with(&an), *key);
                self.offers.retain(|(other, _)| *other != an);
                result(true)
            }
            Op::TakeBack(an, key) => {
                let coins = self.coins_with(an);
                self.offers.retain(|(other, _)| other != an);
                match key {
                    Some(key) => self.give(&coins, *key),
                    None => coins.iter().for_each(|coin| _ = self.ans.remove(coin)),
                }
                result(!coins.is_empty())
            }
            Op::List => op.sorted((Status::AllPass, self.list().concat())),
            Op::Count => {
                let of = |den: i8| self.ans.keys().filter(|coin| coin.denomination().get() == den).count() as u32;
                let row = |den: i8| [&[den as u8][..], &of(den).to_be_bytes()].concat();
                (Status::Success, (-8..=6).flat_map(row).collect())
            }
            Op::SerialNumbers { .. } => unreachable!("what is offered, the node chooses"),
            Op::Hold(_) | Op::Release(_) | Op::Pause | Op::Resume => unreachable!("carried out already"),
            Op::Break { session, source, targets } => {
                if named_twice(targets.iter().map(|row| &row.0)) {
                    return answer(Status::SerialNumberOrDenomination);
                }
                if !self.owns(source) {
                    return answer(Status::AllFail);
                }
                if !self.may_make(*session, targets, when, doubt) {
                    return answer(Status::PageNotReserved);
                }
                self.ans.remove(&source.0);
                self.make(*session, targets, when);
                answer(Status::Success)
            }
            Op::Join { session, target, sources } => {
                if named_twice(sources.iter().map(|row| &row.0)) {
                    return answer(Status::SerialNumberOrDenomination);
                }
                if !self.may_make(*session, &[*target], when, doubt) {
                    return answer(Status::PageNotReserved);
                }
                if !sources.iter().all(|row| self.owns(row)) {
                    return answer(Status::AllFail);
                }
                sources.iter().for_each(|(coin, _)| _ = self.ans.remove(coin));
                self.make(*session, &[*target], when);
                answer(Status::Success)
            }
            Op::Create { coins, .. } if named_twice(coins) => answer(Status::SerialNumberOrDenomination),
            Op::Create { session, coins } => {
                let rows: Vec<Row> = coins.iter().map(|&coin| (coin, Secret::default())).collect();
                // A right answer that it was done has been told already: the node chooses the ANs.
                answer(if self.may_make(*session, &rows, when, doubt) {
                    Status::Success
                } else {
                    Status::PageNotReserved
                })
            }
            Op::Delete(rows) => {
                let passes: Vec<_> = rows.iter().map(|row| (row.0, self.owns(row), None)).collect();
                let deleted: Vec<CoinId> =
                    passes.iter().filter(|(_, owned, _)| *owned).map(|(coin, ..)| *coin).collect();
                let answer = self.items(passes);
                deleted.iter().for_each(|coin| _ = self.ans.remove(coin));
                answer
            }
            Op::Free(coins) if named_twice(coins) => answer(Status::SerialNumberOrDenomination),
            Op::Free(coins) if coins.iter().filter_map(|coin| self.ans.get(coin)).any(on_market) => {
                answer(Status::LockerUsed)
            }
            Op::Free(coins) => {
                coins.iter().for_each(|coin| _ = self.ans.remove(coin));
                answer(Status::Success)
            }
        }
    }

    fn store_multiple(&mut self, lockers: &[(Batch, Secret)]) -> Answer {
        let mut seen = BTreeSet::new();
        let mut passed = Vec::new();
        for (batch, _) in lockers {
            let named_twice = batch.0.iter().filter(|coin| !seen.insert(**coin)).count() > 0;
            passed.push(!named_twice && self.proof(batch, true) == Ok(true));
        }
        for ((batch, key), _) in lockers.iter().zip(&passed).filter(|(_, passed)| **passed) {
            self.give(&batch.0, *key);
        }
        let status = match passed.iter().filter(|passed| **passed).count() {
            0 => return (Status::AllFail, passed.into_iter().map(u8::from).collect()),
            stored if stored == passed.len() => Status::AllPass,
            _ => Status::Mixed,
        };
        (status, passed.into_iter().map(u8::from).collect())
    }

    // ---- what sessions may make

    /// Checks what a session is offered, and notes it.
    fn promise(&mut self, session: u32, operation: u8, den: i8, (status, offered): &Answer, when: Span) -> bool {
        let den = if operation == 1 { den - 1 } else { den + 1 };
        let coins: Option<Vec<CoinId>> = match offered.split_first() {
            Some((first, sns)) if *first == den as u8 && *status == Status::Success => {
                sns.chunks(4).map(|sn| CoinId::new(den, u32::from_be_bytes(sn.try_into().ok()?))).collect()
            }
            _ => None,
        };
        // There are always enough: made-up nodes have few coins.
        let Some(coins) = coins.filter(|coins| coins.len() == COINS_PER_WORD as usize) else { return false };
        let anothers =
            |promise: &Promise, word| promise.word == word && promise.session != session && promise.until.0 > when.1;
        for &coin in &coins {
            let word = WordNumber::of(coin);
            if self.ans.contains_key(&coin) || self.promises.iter().any(|promise| anothers(promise, word)) {
                return false;
            }
        }
        for coin in &coins {
            let (word, until) = (WordNumber::of(*coin), (when.0 + Self::PROMISE_US, when.1 + Self::PROMISE_US));
            self.promises.retain(|promise| promise.word != word);
            self.promises.push(Promise { word, session, until });
        }
        !named_twice(&coins)
    }

    /// Whether a session may make these coins. Where only the exact moment decides, `doubt` does.
    fn may_make(&self, session: u32, rows: &[Row], when: Span, doubt: bool) -> bool {
        rows.iter().all(|(coin, _)| {
            let word = WordNumber::of(*coin);
            let mut promises = self.promises.iter().filter(|p| p.word == word && p.session == session);
            let held =
                promises.next().is_some_and(|promise| promise.until.0 > when.1 || (promise.until.1 > when.0 && doubt));
            held && !self.ans.contains_key(coin)
        })
    }

    /// A session makes coins and gives their words back. What it asked for meanwhile may still count on them: whether
    /// a word is held is looked at with the coins, and those are others.
    fn make(&mut self, session: u32, rows: &[Row], when: Span) {
        self.ans.extend(rows.iter().copied());
        for (coin, _) in rows {
            let word = WordNumber::of(*coin);
            for promise in self.promises.iter_mut().filter(|p| p.word == word && p.session == session) {
                promise.until = (0, promise.until.1.min(when.1));
            }
        }
    }

    /// The rows of the list of offers, in the order of their coming.
    pub fn list(&self) -> Vec<Vec<u8>> {
        let row = |(an, _): &Offer| {
            let name = public_identifier(an, Identifier::Hashed);
            let value = value_of(&self.coins_with(an));
            [&name[..], &[1], &value.to_be_bytes(), &price_of(an).to_be_bytes()].concat()
        };
        self.offers.iter().filter(|(an, _)| !self.holds(an)).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Seeded;
    use super::super::workload::Workload;
    use super::*;

    /// Whatever clients ask, only who takes his offer back without a locker changes what all coins are worth.
    #[test]
    fn value_is_conserved() {
        let mut random = Seeded(1);
        let coins = (0..96).map(|number| {
            let mut an = random.bytes();
            an[15] = 0x11;
            (CoinId::new((number % 3) as i8 - 1, number as u32).unwrap(), Secret::new(an))
        });
        let mut model = Model::new(coins);
        let mut workload = Workload::new(2, CoinId::new(-1, 0).unwrap());
        let (mut freed, mut made) = (0, 0);
        let start = model.value();
        for _ in 0..5000 {
            let few = workload.few(&model);
            let op = workload.op(&model, &few);
            let before = model.value();
            if let Op::SerialNumbers { session, operation, den } = op {
                let den = if operation == 1 { den - 1 } else { den + 1 };
                let word = WordNumber::search_start(session, CoinId::new(den, 0).unwrap().denomination());
                let sns = (0..COINS_PER_WORD).map(|bit| word.coin(bit).serial_number().get().to_be_bytes());
                let answer = (Status::Success, [vec![den as u8], sns.flatten().collect()].concat());
                if model.tell(&op, Some(&answer), (0, 0)) {
                    workload.hear(&op, &answer);
                }
                continue;
            }
            let (status, _) = model.apply(&op);
            made += usize::from(status == Status::Success && !matches!(op, Op::Count));
            match op {
                Op::TakeBack(_, None) => freed += before - model.value(),
                _ => assert_eq!(model.value(), before, "{op:?}"),
            }
        }
        assert!(made > 50 && freed > 0, "coins were broken, joined and freed: {made} {freed}");
        assert_eq!(model.value() + freed, start);
    }
}
