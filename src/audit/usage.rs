//! Sums of a journal: how much each command was used, how it was answered, what was traded at which prices, when most
//! happened.

use std::collections::{BTreeMap, HashMap};

use crate::calendar::{DAY_MS, HOUR_MS, date, day_name, hour_name};
use crate::coin::{CoinId, TradeCoin};
use crate::store::archive::Window;
use crate::store::archive::answers::Answered;
use crate::store::wal::{Change, CommitRecord, PlaceKind};
use crate::wire::request::CommandKind;

use super::trail::Offer;

/// How long a period of trade is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Period {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month.
    Month,
    /// All the time that was asked for.
    All,
}

impl Period {
    /// The name of the period of a time, in UTC: names of one kind are in the order of time.
    pub fn name(self, unix_ms: u64) -> String {
        match self {
            Self::Hour => hour_name(unix_ms / HOUR_MS),
            Self::Day => day_name(unix_ms / DAY_MS),
            Self::Month => {
                let (year, month, _) = date(unix_ms / 1000);
                format!("{year:04}-{month:02}")
            }
            Self::All => "all".to_owned(),
        }
    }
}

/// How much of something there was.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Amount {
    /// Commands carried out.
    pub commits: u64,
    /// Coins they changed.
    pub coins: u64,
}

impl Amount {
    fn add(&mut self, coins: u64) {
        self.commits += 1;
        self.coins += coins;
    }
}

/// What was traded for a coin type in a period.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Trade {
    /// Trade lockers put up for sale.
    pub offered: u64,
    /// Trade lockers sold.
    pub sold: u64,
    /// Of them those that were put up before the journal begins: what they cost is not known.
    pub of_unknown_price: u64,
    /// Coins sold.
    pub coins: u64,
    /// What the coins sold are worth, in units of 10^-8.
    pub value: u128,
    /// The same of those whose price is known.
    pub value_of_known_price: u128,
    /// What was paid for these, in the coin type's units.
    pub turnover: u64,
    /// The lowest price of a trade locker sold, and the highest.
    pub prices: Option<(u32, u32)>,
}

/// Sums of a journal.
pub struct Usage {
    window: Window,
    period: Period,
    /// Everything.
    pub all: Amount,
    /// Times of the first and the last commit.
    pub times: Option<(u64, u64)>,
    /// By group and code of the command.
    pub commands: BTreeMap<(u8, u8), Amount>,
    /// Answers, by command and status byte: refusals too.
    pub answers: BTreeMap<(String, u8), u64>,
    /// Coins moved, by from where and to where.
    pub moves: BTreeMap<(u8, u8), u64>,
    /// By hour since 1970.
    pub hours: BTreeMap<u64, Amount>,
    /// By period, and coin type; `None`: the coin type of what was sold is not known.
    pub trade: BTreeMap<(String, Option<u8>), Trade>,
    /// The coins on sale, as far as it is known.
    on_sale: HashMap<CoinId, (TradeCoin, u32)>,
}

impl Usage {
    /// Of nothing yet.
    pub fn new(window: Window, period: Period) -> Self {
        Self {
            window,
            period,
            all: Amount::default(),
            times: None,
            commands: BTreeMap::new(),
            answers: BTreeMap::new(),
            moves: BTreeMap::new(),
            hours: BTreeMap::new(),
            trade: BTreeMap::new(),
            on_sale: HashMap::new(),
        }
    }

    /// The time that is asked for.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The commits that must be read: what was put up for sale before may be sold now.
    pub fn reads(&self) -> Window {
        Window { since_ms: 0, ..self.window }
    }

    /// Takes a commit. Commits must come in the journal's order.
    pub fn read(&mut self, record: &CommitRecord<'_>) {
        let commit = record.commit;
        if self.window.contains(commit.unix_ms) {
            let coins = record.changes().len() as u64;
            self.all.add(coins);
            let (first, last) = self.times.unwrap_or((commit.unix_ms, commit.unix_ms));
            self.times = Some((first.min(commit.unix_ms), last.max(commit.unix_ms)));
            self.commands.entry((commit.group, commit.code)).or_default().add(coins);
            self.hours.entry(commit.unix_ms / HOUR_MS).or_default().add(coins);
            for change in record.changes() {
                *self.moves.entry((change.from as u8, PlaceKind::from(change.to.place()) as u8)).or_default() += 1;
            }
            self.read_trade(record);
        }
        record.changes().for_each(|change| self.follow(&change));
    }

    /// Takes how often a command was answered with a status in an hour.
    pub fn read_answers(&mut self, answered: &Answered, count: u64) {
        let answers = self.answers.entry((answered.command.clone(), answered.status)).or_default();
        *answers = answers.saturating_add(count);
    }

    fn read_trade(&mut self, record: &CommitRecord<'_>) {
        let commit = record.commit;
        let buy = CommandKind::Buy.command();
        let bought = (commit.group, commit.code) == (buy.group, buy.code);
        let mut changes = record.changes();
        let period = self.period.name(commit.unix_ms);
        if let Some(offer) = changes.find_map(|change| Offer::of(&change.to.place())) {
            self.trade.entry((period, Some(offer.coin_type as u8))).or_default().offered += 1;
        } else if bought {
            let known = record.changes().find_map(|change| self.on_sale.get(&change.coin).copied());
            let trade = self.trade.entry((period, known.map(|(coin_type, _)| coin_type as u8))).or_default();
            trade.sold += 1;
            trade.coins += record.changes().len() as u64;
            let value: u128 = record.changes().map(|change| u128::from(change.coin.denomination().value())).sum();
            trade.value += value;
            match known {
                None => trade.of_unknown_price += 1,
                Some((_, price)) => {
                    trade.value_of_known_price += value;
                    trade.turnover += u64::from(price);
                    let (lowest, highest) = trade.prices.unwrap_or((price, price));
                    trade.prices = Some((lowest.min(price), highest.max(price)));
                }
            }
        }
    }

    /// Keeps what is on sale.
    fn follow(&mut self, change: &Change) {
        match Offer::of(&change.to.place()) {
            Some(offer) => self.on_sale.insert(change.coin, (offer.coin_type, offer.price)),
            None => self.on_sale.remove(&change.coin),
        };
    }

    /// The hours in which most happened, the busiest first.
    pub fn busiest(&self, count: usize) -> Vec<(u64, Amount)> {
        let mut hours: Vec<(u64, Amount)> = self.hours.iter().map(|(hour, amount)| (*hour, *amount)).collect();
        hours.sort_by_key(|(hour, amount)| (std::cmp::Reverse(amount.commits), *hour));
        hours.truncate(count);
        hours
    }
}
