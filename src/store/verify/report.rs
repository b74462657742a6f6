//! What verify says: findings, totals, a verdict. No secret is in it.

use std::fmt;

use crate::coin::{DENOMINATIONS, Denomination, SERIAL_NUMBERS};
use crate::store::control::Control;
use crate::store::orders::Order;

/// What a data directory is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Whole: a node starts, and has everything.
    Clean,
    /// Something is damaged, and everything that counts is there all the same: [`rebuild`](crate::store::rebuild) puts
    /// it right.
    Repairable,
    /// Something is lost.
    Damaged,
}

/// How damage is repaired. After all of them recovery runs, as at a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repair {
    /// By recovery itself: the next start does it too.
    Recovery,
    /// The file `node` is written anew.
    NodeFile,
    /// The file gets its size: what is missing becomes zeros, what is too much is cut off.
    Size(u64),
    /// The pages become zeros: all that they ever held is in the logs.
    Zeros,
    /// The image that a shard's control block names is written anew, from images and logs.
    Orders {
        /// The shard.
        shard: u8,
    },
    /// A shard's control block is written anew, from its segments and other logs.
    Control {
        /// The shard.
        shard: u8,
    },
    /// The pages are noted as used.
    Noted,
}

/// Something that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file, within the data directory.
    pub path: String,
    /// Where in it the bytes concerned begin.
    pub offset: u64,
    /// How many they are.
    pub length: u64,
    /// What is wrong, for a person: after the file's name.
    pub what: String,
    /// How it is repaired; `None`: it cannot be.
    pub repair: Option<Repair>,
}

impl Finding {
    /// Something wrong with a whole file, which has `length` bytes, `None` where it is not there.
    pub fn of_file(path: &str, length: Option<u64>, what: impl Into<String>, repair: Option<Repair>) -> Self {
        Self { path: path.to_string(), offset: 0, length: length.unwrap_or(0), what: what.into(), repair }
    }

    /// A file without its size, of which nothing is needed but what others say.
    pub fn of_wrong_size(path: &str, length: Option<u64>, size: u64) -> Self {
        let what = match length {
            None => "is missing".to_string(),
            Some(length) => format!("has {length} bytes, not {size}"),
        };
        Self::of_file(path, length, what, Some(Repair::Size(size)))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.repair.is_some() { "repairable" } else { "damaged" };
        write!(f, "{kind:10}  {} {}", self.path, self.what)
    }
}

/// The coins of a denomination, in number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Totals {
    /// In circulation.
    pub circulation: u64,
    /// Of those in lockers.
    pub lockers: u64,
    /// Of those in trade lockers, for sale.
    pub on_sale: u64,
    /// Of those in trade lockers that have no payout address, so that nobody can buy them.
    pub not_for_sale: u64,
    /// On pages that are lost: nobody knows.
    pub unknown: u64,
}

impl Totals {
    /// Coins that are not in circulation.
    pub fn free(&self) -> u64 {
        u64::from(SERIAL_NUMBERS) - self.circulation - self.unknown
    }
}

/// What a data directory holds, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is wrong, the logs first, then the coins in their order.
    pub findings: Vec<Finding>,
    /// The coins as the next start would have them, by denomination.
    pub totals: [Totals; DENOMINATIONS],
    /// Commands in the logs that are not in their place yet.
    pub to_replay: u64,
    /// Payout addresses of trade lockers that have coins.
    pub orders: u64,
    /// Payout addresses of trade lockers that are no more: the next checkpoint drops them.
    pub dead_orders: u64,
    /// All of them.
    pub(in crate::store) all_orders: Vec<Order>,
    /// Control blocks that were lost, made again.
    pub(in crate::store) derived: Vec<Control>,
}

impl Report {
    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        let verdict = |finding: &Finding| match finding.repair {
            Some(_) => Verdict::Repairable,
            None => Verdict::Damaged,
        };
        self.findings.iter().map(verdict).max().unwrap_or(Verdict::Clean)
    }

    /// What all coins in circulation are worth, in units of 10^-8.
    pub fn value(&self) -> u128 {
        let values = Denomination::all().zip(&self.totals);
        values.map(|(den, totals)| u128::from(den.value()) * u128::from(totals.circulation)).sum()
    }
}
