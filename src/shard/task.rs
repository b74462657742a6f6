//! A request in flight, at the shard that coordinates it: the one whose reactor received it.

use crate::coin::Secret;
use crate::command::{Draft, Findings};
use crate::wire::header::RequestHeader;
use crate::wire::seal::{Key, Opened};
use crate::wire::status::Status;

use super::free_map::FoundWord;
use super::interface::{Origin, ShardId};
use super::message::{PlaceChange, Visit};

/// Where a request is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Its key is looked up: this many of its key coins are known.
    Key(usize),
    /// Its question is asked.
    Question,
    /// It waits for room in the log; it holds no lock.
    LogRoom,
    /// Its coins are locked, shard by shard.
    Coins,
    /// The lockers and offers its coins leave and enter are locked, shard by shard.
    Places,
    /// Its commit record is on its way to the disk.
    Committing,
    /// Its changes are applied.
    Applying,
}

/// One shard a transaction goes to.
#[derive(Debug)]
pub(super) struct Stop {
    pub shard: ShardId,
    /// `None` while the visit is under way.
    pub visit: Option<Box<Visit>>,
}

/// A request in flight. Its memory is used again.
pub(super) struct Task {
    pub origin: Origin,
    pub started_us: u64,
    pub header: RequestHeader,
    pub key: Key,
    /// The first of two key coins' ANs, until the second is known.
    pub first_an: Secret,
    /// What the body proved.
    pub opened: Opened,
    /// The sealed body, until the key is known.
    pub body: Vec<u8>,
    /// The payload in the clear.
    pub payload: Vec<u8>,
    pub stage: Stage,
    pub draft: Draft,
    pub findings: Findings,
    /// The shards it goes to, in the order of locking.
    pub stops: Vec<Stop>,
    /// How many of them it has reached.
    pub reached: usize,
    /// Visits under way.
    pub awaited: usize,
    /// The words that all shards found for its session, in the order of the search.
    pub words: Vec<FoundWord>,
    /// How the lists of lockers and offers change, by home.
    pub changes: Vec<(ShardId, PlaceChange)>,
    /// The commit record's size for which the log has room.
    pub log_bytes: usize,
    /// Coins it counts against the bound.
    pub coins: usize,
    /// Coins that the answer to its question may name, counted against the bound of these.
    pub coins_named: usize,
    /// What is answered if all goes well.
    pub status: Status,
    /// Whether it is committed but could not be applied everywhere.
    pub unknown: bool,
}

impl Task {
    /// A task for a request whose header is `header`.
    pub fn new(origin: Origin, started_us: u64, header: RequestHeader) -> Self {
        Self {
            origin,
            started_us,
            header,
            key: Key::None,
            first_an: Secret::default(),
            opened: Opened::default(),
            body: Vec::new(),
            payload: Vec::new(),
            stage: Stage::Key(0),
            draft: Draft::default(),
            findings: Findings::default(),
            stops: Vec::new(),
            reached: 0,
            awaited: 0,
            words: Vec::new(),
            changes: Vec::new(),
            log_bytes: 0,
            coins: 0,
            coins_named: 0,
            status: Status::NoError,
            unknown: false,
        }
    }

    /// Begins the next request of a task that was emptied.
    pub fn begin(&mut self, origin: Origin, started_us: u64, header: RequestHeader) {
        self.origin = origin;
        self.started_us = started_us;
        self.header = header;
        self.stage = Stage::Key(0);
        self.status = Status::NoError;
        self.unknown = false;
    }

    /// Empties it at its end. Secrets are not left lying about, and memory that an unusually large request needed is
    /// given back.
    pub fn clear(&mut self) {
        const KEPT: usize = 2048;
        self.key = Key::None;
        self.opened = Opened::default();
        for bytes in [&mut self.body, &mut self.payload] {
            bytes.fill(0);
            bytes.clear();
            bytes.shrink_to(KEPT);
        }
        self.restart();
    }

    /// Forgets what was planned, to plan anew.
    pub fn restart(&mut self) {
        const KEPT: usize = 1024;
        self.draft.clear();
        self.findings.clear();
        self.stops.clear();
        self.reached = 0;
        self.awaited = 0;
        self.changes.clear();
        self.changes.shrink_to(KEPT);
        assert!(self.log_bytes + self.coins + self.coins_named == 0, "what was reserved is given back first");
    }
}
