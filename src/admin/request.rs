//! What the operator asks for over the admin socket, and what he hears: JSON, in the body of `POST /act`.
//!
//! A request names lockers by their keys: it goes over a Unix socket, is not logged, and has no `Debug`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::coin::TradeCoin;
use crate::reactor::desk::ConnectionRow;
use crate::store::suspended::{Hold, Pause};

/// Something the operator wants.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Everything committed is brought to its place now.
    Checkpoint,
    /// What is held and paused?
    Suspended,
    /// Commands on a locker or trade locker answer 154 from now on.
    Hold {
        /// Which.
        what: Named,
        /// Why.
        reason: String,
    },
    /// They do as usual again.
    Release {
        /// Which.
        what: Named,
        /// Why.
        reason: String,
    },
    /// Nothing is put for sale or bought for a coin type.
    Pause {
        /// Which.
        coin: TradeCoin,
        /// Why.
        reason: String,
    },
    /// It is traded again.
    Resume {
        /// Which.
        coin: TradeCoin,
        /// Why.
        reason: String,
    },
    /// Which connections are there?
    Connections,
    /// Closes one.
    Disconnect {
        /// Its name, as `Connections` says it.
        name: String,
    },
    /// Which bounds can be changed, and what are they?
    Bounds,
    /// Changes one, until the node ends.
    Bound {
        /// Its name in raida.toml: `table.key`.
        name: String,
        /// Its value, as it is written there.
        value: String,
    },
    /// Begins to read every page in its place.
    Verify {
        /// So many at most.
        pages_per_second: u32,
    },
    /// How far is that, and what did it find?
    Verified,
    /// The node takes no more requests, answers what is in flight, brings everything to its place and ends.
    Stop {
        /// Why; may be empty.
        reason: String,
    },
}

/// A locker or trade locker, as the operator names it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Named {
    /// A locker's key: 32 hex digits, or a transmit code.
    Locker(String),
    /// A trade locker's identifier, as lists show it: 32 hex digits.
    TradeLocker(String),
    /// A trade locker's AN: 32 hex digits.
    TradeLockerAn(String),
    /// What is held under this fingerprint.
    Fingerprint(String),
    /// The locker or trade locker that a coin is in, whose key nobody need know.
    Coin {
        /// The coin's denomination.
        den: i8,
        /// Its serial number.
        sn: u32,
    },
}

/// What the operator hears.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done: what, in a few words.
    Done(String),
    /// What is held and paused.
    Suspended {
        /// Lockers and trade lockers.
        holds: Vec<Hold>,
        /// Markets.
        pauses: Vec<Pause>,
    },
    /// The connections.
    Connections(Vec<ConnectionRow>),
    /// The bounds by name, as raida.toml writes them.
    Bounds(BTreeMap<String, String>),
    /// How far the reading of pages is.
    Verified(Verified),
}

/// How far the reading of pages is.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Verified {
    /// Whether it goes on.
    pub running: bool,
    /// Pages done.
    pub done: u64,
    /// Pages there are.
    pub pages: u64,
    /// What came of it: of the last that came to its end.
    pub report: Option<VerifyReport>,
}

/// What reading every page has found.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct VerifyReport {
    /// When it ended, milliseconds since 1970-01-01 UTC.
    pub ended_unix_ms: u64,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Pages read.
    pub pages_read: u64,
    /// Times that something was read again, as the node was writing it.
    pub read_again: u64,
    /// What is damaged.
    pub damaged: Vec<Damage>,
    /// Why it ended early.
    pub failed: Option<String>,
}

/// Something damaged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Damage {
    /// The file, within the data directory.
    pub path: String,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// What is wrong.
    pub what: String,
}
