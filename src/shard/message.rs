//! What shards say to each other, and a shard to itself: there is no other way to a coin, a locker or an offer.
//!
//! A transaction's coordinator sends a [`Visit`] to each shard that owns something it needs. The visit's box travels
//! there and back twice: once to lock and look, once to apply. Boxes and the vectors in them are used again, so a
//! warm transaction allocates nothing.

use crate::coin::{CoinId, PageNumber, Place, Secret};
use crate::command::{Claim, Findings, Question};
use crate::store::orders::Order;
use crate::wire::header::RequestHeader;
use crate::wire::status::Status;

use super::free_map::FoundWord;
use super::interface::ShardId;
use super::locks::{Mode, Resource};
use super::suspensions::Suspension;

/// A message from one shard to another. The driver carries it and does not look inside.
#[derive(Debug)]
pub enum Message {
    /// Coordinator to owner: lock, look, answer.
    Visit(Box<Visit>),
    /// Coordinator to owner: the commit record is durable; apply and unlock.
    Apply(Box<Visit>),
    /// Coordinator to owner: nothing is written; unlock. No answer follows.
    Release(Box<Visit>),
    /// Owner to coordinator: done.
    Done(Box<Visit>),
    /// Any shard to the first: my log fills up (or my last request is answered: `stopping`); let us have a checkpoint.
    CheckpointWanted {
        /// The sender's clock.
        clock: u64,
        /// Whether the sender has answered its last request.
        stopping: bool,
    },
    /// The first shard to all: bring everything up to this sequence to its place.
    Flush {
        /// The sequence.
        sequence: u64,
    },
    /// Any shard to the first: done.
    Flushed,
    /// The first shard to all: everything up to this sequence is in its place, on every shard.
    Checkpointed {
        /// The sequence.
        sequence: u64,
        /// Whether it was the last checkpoint.
        last: bool,
    },
    /// Any shard to all: the disk failed me; nothing is written any more.
    Failed,
}

/// What the coordinator wants to know besides the coins it claims.
#[derive(Clone, Copy, Debug, Default)]
pub enum Ask {
    /// Nothing.
    #[default]
    Nothing,
    /// A command's question.
    Question(Question),
    /// The serial numbers a session may have, from the shard that owns the first page of its search, or from the others.
    Words {
        /// The session.
        session: u32,
        /// The start of the search.
        start: super::free_map::WordNumber,
        /// Which pages of this shard are searched.
        pages: super::free_map::SearchPages,
        /// How many coins are wanted.
        wanted: usize,
    },
    /// The locker key that opens a request of encryption type 2.
    LockerKey {
        /// The request's header: prefix and nonce.
        header: RequestHeader,
        /// The sealed challenge.
        challenge: [u8; 16],
    },
    /// Whether an offer may be entered: it is not there yet, and there is room.
    NewOffer(Secret),
    /// Whether so many coins are all of an offer.
    WholeOffer {
        /// The trade locker's AN.
        an: Secret,
        /// How many.
        coins: usize,
        /// Whether they are bought; else the seller takes them back.
        bought: bool,
    },
    /// Nothing: the operator wants to know where the claimed coin is.
    Place {
        /// The driver's name for the act.
        token: u64,
    },
    /// Nothing: from now on this is suspended, or no longer, as the operator wants it.
    Suspend {
        /// The driver's name for the act.
        token: u64,
        /// What.
        suspension: Suspension,
        /// Whether it begins; else it ends.
        begins: bool,
    },
}

/// A change of a locker's or trade locker's list of coins.
#[derive(Clone, Copy, Debug)]
pub struct PlaceChange {
    /// The coin.
    pub coin: CoinId,
    /// The locker or trade locker.
    pub place: Place,
    /// Whether the coin enters it; else it leaves.
    pub enters: bool,
    /// Whether this change locks the coin in its home's lists: of two at one home the first does.
    pub locks_coin: bool,
}

/// A transaction's business on one shard.
#[derive(Debug, Default)]
pub struct Visit {
    /// The coordinator's task.
    pub task: u32,
    /// Whose task it is.
    pub coordinator: ShardId,
    /// Where it goes.
    pub at: ShardId,
    /// The coins of this shard.
    pub claims: Vec<Claim>,
    /// How the coins are locked; `None`: they are only read.
    pub coin_mode: Option<Mode>,
    /// The session whose reservations the targets need.
    pub session: u32,
    /// What else is locked.
    pub locks: Vec<(Resource, Mode)>,
    /// What else is asked.
    pub ask: Ask,
    /// How many coins the answer to a question may name.
    pub coins_max: usize,
    /// Whether the locks are kept for an apply or a release; else they are given back with the answer.
    pub keep: bool,
    /// The sender's logical clock.
    pub clock: u64,
    /// The commit record's sequence, in an apply.
    pub sequence: u64,
    /// What to change in lists, in an apply.
    pub changes: Vec<PlaceChange>,
    /// The order of an offer that is put for sale, in an apply.
    pub order: Option<Order>,
    /// The answer to the question.
    pub findings: Findings,
    /// Words found and reserved; in a release, those to give back.
    pub words: Vec<FoundWord>,
    /// Set if the visit failed and holds nothing.
    pub failed: Option<Status>,
    /// The owner's notes.
    pub(super) progress: Progress,
}

/// Where an owner is with a visit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Whether it holds its locks, or stands in their queues.
    pub locks: bool,
    /// Locks it still waits for.
    pub blocked: u32,
    /// Claims done.
    pub done: usize,
    /// Claims up to here had their pages asked for ahead.
    pub asked: usize,
    /// Whether it applies; else it looks.
    pub applies: bool,
    /// Whether it has been answered, and `keep` therefore means held.
    pub answered: bool,
    /// The checkpoint phase in which it was granted.
    pub phase: u64,
}

impl Visit {
    /// Empties it for its next use.
    pub fn clear(&mut self) {
        const KEPT: usize = 1024;
        self.claims.clear();
        self.claims.shrink_to(KEPT);
        self.locks.clear();
        self.locks.shrink_to(KEPT);
        self.changes.clear();
        self.changes.shrink_to(KEPT);
        self.words.clear();
        self.findings.clear();
        self.coin_mode = None;
        self.session = 0;
        self.ask = Ask::Nothing;
        self.keep = false;
        self.sequence = 0;
        self.order = None;
        self.failed = None;
        self.progress = Progress::default();
    }

    /// Whether it still has to look at or write a coin of a page.
    pub(super) fn needs(&self, page: PageNumber) -> bool {
        let left = self.claims.iter().skip(self.progress.done);
        left.filter(|claim| claim.write || !self.progress.applies).any(|claim| claim.coin.page() == page)
    }

    /// Every lock it wants or holds.
    pub(super) fn resources(&self) -> impl Iterator<Item = (Resource, Mode)> {
        let coins = self.coin_mode.map(|mode| self.claims.iter().map(move |claim| (Resource::Coin(claim.coin), mode)));
        coins.into_iter().flatten().chain(self.locks.iter().copied())
    }
}
