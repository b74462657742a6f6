//! The naive model of a node: a map of coins and a list of offers, and what PROTOCOL.md says commands do to them.
//!
//! Requests in flight together are explained if there is an order of them in which the model gives the answers that the
//! node gave. Those without an answer may have been carried out or not.

use std::collections::{BTreeMap, BTreeSet};

use raida::coin::{CoinId, Place, Secret};
use raida::wire::items::RawCoin;
use raida::wire::request::CommandKind::{self, *};
use raida::wire::status::Status;

use super::payload;

/// Status and payload; lists in order of their bytes.
pub type Answer = (Status, Vec<u8>);

/// A row of *put for sale*, *store* and the like: coins and the sum that is to prove them.
pub type Batch = (Vec<CoinId>, Secret);
/// A coin and an AN.
pub type Row = (CoinId, Secret);

/// A request, as the model knows it.
#[derive(Clone, Debug)]
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
    Break { session: u32, source: Row, targets: Vec<Row> },
    Join { session: u32, target: Row, sources: Vec<Row> },
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
            Self::Break { session, source: (coin, an), targets } => {
                (Break, payload::exchange(*session, ((*coin).into(), *an), &raw_rows(targets)))
            }
            Self::Join { session, target: (coin, an), sources } => {
                (Join, payload::exchange(*session, ((*coin).into(), *an), &raw_rows(sources)))
            }
        }
    }

    /// The coins it names; those of an offer are not among them.
    pub fn coins(&self) -> Vec<CoinId> {
        let of_rows = |rows: &[Row]| rows.iter().map(|row| row.0).collect::<Vec<_>>();
        match self {
            Self::Detect(rows) | Self::Remove(_, rows) => of_rows(rows),
            Self::Pown(rows) => rows.iter().map(|row| row.0).collect(),
            Self::DetectSum((coins, _)) | Self::PownSum((coins, _), _) => coins.clone(),
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

/// An offer: its AN, in the order in which they came, and its payout address.
type Offer = (Secret, [u8; 20]);

/// What must be true of a node.
#[derive(Clone, PartialEq, Eq)]
pub struct Model {
    /// The AN of every coin in circulation.
    pub ans: BTreeMap<CoinId, Secret>,
    /// Offers, the first that came first.
    pub offers: Vec<Offer>,
}

fn value_of<'a>(coins: impl IntoIterator<Item = &'a CoinId>) -> u64 {
    coins.into_iter().map(|coin| coin.denomination().value()).sum()
}

fn on_market(an: &Secret) -> bool {
    matches!(an.place(), Place::TradeLocker(_))
}

fn price_of(an: &Secret) -> u32 {
    u32::from_be_bytes(an.bytes()[9..13].try_into().unwrap())
}

impl Model {
    /// The coins that have an AN.
    pub fn coins_with(&self, an: &Secret) -> Vec<CoinId> {
        self.ans.iter().filter(|(_, other)| *other == an).map(|(&coin, _)| coin).collect()
    }

    /// The XOR of ANs; those of free coins are zeros.
    pub fn sum(&self, coins: &[CoinId]) -> Secret {
        coins.iter().filter_map(|coin| self.ans.get(coin)).fold(Secret::default(), |sum, an| sum.xor(*an))
    }

    fn proved(&self, (coins, sum): &Batch, movable: bool) -> bool {
        let ans: Vec<&Secret> = coins.iter().filter_map(|coin| self.ans.get(coin)).collect();
        let different: BTreeSet<&[u8; 16]> = ans.iter().map(|an| an.bytes()).collect();
        different.len() == coins.len() && self.sum(coins) == *sum && !(movable && ans.iter().any(|an| on_market(an)))
    }

    /// Gives each item that passes its new AN; the answer has a bit an item.
    fn items(&mut self, changes: Vec<Option<(CoinId, Option<Secret>)>>) -> Answer {
        let mut bits = vec![0; changes.len().div_ceil(8)];
        let passed = changes.iter().filter(|change| change.is_some()).count();
        let all = changes.len();
        for (item, (coin, an)) in changes.into_iter().enumerate().filter_map(|(item, change)| Some((item, change?))) {
            bits[item / 8] |= 1 << (item % 8);
            if let Some(an) = an {
                self.ans.insert(coin, an);
            }
        }
        match passed {
            0 => (Status::AllFail, vec![]),
            _ if passed == all => (Status::AllPass, vec![]),
            _ => (Status::Mixed, bits),
        }
    }

    fn give(&mut self, coins: &[CoinId], an: Secret) {
        coins.iter().for_each(|&coin| _ = self.ans.insert(coin, an));
    }

    fn end_offer(&mut self, an: &Secret) {
        self.offers.retain(|(other, _)| other != an);
    }

    fn peek(&self, an: &Secret) -> Answer {
        match &self.coins_with(an)[..] {
            [] => (Status::AllFail, vec![]),
            coins => (Status::AllPass, payload::coins(&payload::raw(coins))),
        }
    }

    fn has(&self, (coin, an): &Row) -> bool {
        self.ans.get(coin) == Some(an)
    }

    /// Carries a request out; what the node must answer, its lists in the order of their bytes.
    pub fn apply(&mut self, op: &Op) -> Answer {
        let answer = |status| (status, vec![]);
        let result = |passed| answer(if passed { Status::AllPass } else { Status::AllFail });
        match op {
            Op::Detect(rows) => self.items(rows.iter().map(|row| self.has(row).then_some((row.0, None))).collect()),
            Op::DetectSum(batch) => result(self.proved(batch, false)),
            Op::Pown(rows) => {
                let passes = |(coin, an, pan): &(CoinId, Secret, Secret)| {
                    (self.has(&(*coin, *an)) && !on_market(an)).then_some((*coin, Some(*pan)))
                };
                self.items(rows.iter().map(passes).collect())
            }
            Op::PownSum(batch, delta) => {
                let passes = self.proved(batch, true);
                if passes {
                    batch.0.iter().for_each(|coin| {
                        let an = self.ans[coin].xor(*delta);
                        self.ans.insert(*coin, an);
                    });
                }
                result(passes)
            }
            Op::Store(batch, key) => {
                let passes = self.proved(batch, true);
                if passes {
                    self.give(&batch.0, *key);
                }
                result(passes)
            }
            Op::StoreMultiple(lockers) => {
                let passed: Vec<bool> = lockers.iter().map(|(batch, _)| self.proved(batch, true)).collect();
                for ((batch, key), _) in lockers.iter().zip(&passed).filter(|(_, passed)| **passed) {
                    self.give(&batch.0, *key);
                }
                let status = match passed.iter().filter(|passed| **passed).count() {
                    0 => Status::AllFail,
                    stored if stored == passed.len() => Status::AllPass,
                    _ => Status::Mixed,
                };
                (status, passed.into_iter().map(u8::from).collect())
            }
            Op::Remove(key, rows) => {
                let passes = |&(coin, pan): &Row| self.has(&(coin, *key)).then_some((coin, Some(pan)));
                self.items(rows.iter().map(passes).collect())
            }
            Op::Peek(key) => op.sorted(self.peek(key)),
            Op::PutForSale(batch, an, address) => {
                if self.offers.iter().any(|(other, _)| other == an) {
                    return answer(Status::TradeLockerExists);
                }
                let passes = self.proved(batch, true);
                if passes {
                    self.give(&batch.0, *an);
                    self.offers.push((*an, *address));
                }
                result(passes)
            }
            Op::Buy { key, value, price } => {
                let matches = |(an, _): &&Offer| price_of(an) == *price && value_of(&self.coins_with(an)) == *value;
                let Some(&(an, _)) = self.offers.iter().find(matches) else {
                    return answer(Status::TradeLockerNotFound);
                };
                self.give(&self.coins_with(&an), *key);
                self.end_offer(&an);
                result(true)
            }
            Op::TakeBack(an, key) => {
                let coins = self.coins_with(an);
                self.end_offer(an);
                match key {
                    Some(key) => self.give(&coins, *key),
                    None => coins.iter().for_each(|coin| _ = self.ans.remove(coin)),
                }
                result(!coins.is_empty())
            }
            Op::PeekTradeLocker(an) => op.sorted(self.peek(an)),
            Op::List => op.sorted((Status::AllPass, self.list().concat())),
            Op::Count => {
                let of = |den: i8| self.ans.keys().filter(|coin| coin.denomination().get() == den).count() as u32;
                let row = |den: i8| [&[den as u8][..], &of(den).to_be_bytes()].concat();
                (Status::Success, (-8..=6).flat_map(row).collect())
            }
            Op::Break { source, targets, .. } => {
                if !self.has(source) || on_market(&source.1) {
                    return answer(Status::AllFail);
                }
                if targets.iter().any(|(coin, _)| self.ans.contains_key(coin)) {
                    return answer(Status::PageNotReserved);
                }
                self.ans.remove(&source.0);
                self.ans.extend(targets.iter().copied());
                answer(Status::Success)
            }
            Op::Join { target, sources, .. } => {
                if self.ans.contains_key(&target.0) {
                    return answer(Status::PageNotReserved);
                }
                if !sources.iter().all(|row| self.has(row) && !on_market(&row.1)) {
                    return answer(Status::AllFail);
                }
                sources.iter().for_each(|(coin, _)| _ = self.ans.remove(coin));
                self.ans.insert(target.0, target.1);
                answer(Status::Success)
            }
        }
    }

    /// Whether another answer than that of [`Model::apply`] is as right, and changes as little: an offer that exists
    /// already, put up with coins that are not proved.
    fn may_say(&self, op: &Op, (status, _): &Answer) -> bool {
        match op {
            Op::PutForSale(batch, an, _) => {
                let exists = self.offers.iter().any(|(other, _)| other == an);
                exists && *status == Status::AllFail && !self.proved(batch, true)
            }
            _ => false,
        }
    }

    /// The rows of the list of offers, in the order of their coming.
    pub fn list(&self) -> Vec<Vec<u8>> {
        let row = |(an, _): &Offer| {
            let name = raida::shard::market::public_identifier(an, raida::settings::Identifier::Hashed);
            let value = value_of(&self.coins_with(an));
            [&name[..], &[1], &value.to_be_bytes(), &price_of(an).to_be_bytes()].concat()
        };
        self.offers.iter().map(row).collect()
    }
}

/// Every state in which a node can be that was in one of `models`, then got these requests at once, and gave these
/// answers (`None`: none). Empty: the answers cannot be explained.
pub fn explain(models: &[Model], history: &[(Op, Option<Answer>)]) -> Vec<Model> {
    let mut found = Vec::new();
    for model in models {
        go_on(model, history, (1 << history.len()) - 1, &mut found);
    }
    found
}

/// Tries every next request of those in `left`.
fn go_on(model: &Model, history: &[(Op, Option<Answer>)], left: u32, found: &mut Vec<Model>) {
    let of_left = (0..history.len()).filter(|index| left >> index & 1 == 1);
    // What has no answer need not have happened.
    if of_left.clone().all(|index| history[index].1.is_none()) && !found.contains(model) {
        found.push(model.clone());
    }
    for index in of_left {
        let (op, answer) = &history[index];
        let mut next = model.clone();
        let given = next.apply(op);
        if answer.as_ref().is_none_or(|answer| *answer == given || model.may_say(op, answer)) {
            go_on(&next, history, left & !(1 << index), found);
        }
    }
}
