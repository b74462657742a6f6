//! What a command wants of the coins it names, and what became of it.
//!
//! A [`Draft`] travels with its request: the plan fills in [`Claim`]s, the coins' owners fill in what they found under
//! lock, the verdict marks what is written. Its memory is used again by the next request.

use crate::coin::{CoinId, CoinRecord, Months, Place, Secret};
use crate::mutant::{self, Mutant};
use crate::wire::items::RawCoin;
use crate::wire::status::Status;

/// What must hold for a coin, checked by its owner under lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Must {
    /// In circulation with this AN, wherever it is.
    Authentic(Secret),
    /// In circulation with this AN, and not in a trade locker: its holder may move it.
    Owned(Secret),
    /// In circulation. The proof is a sum.
    Circulate,
    /// In circulation and not in a trade locker. The proof is a sum.
    Movable,
    /// Not in a trade locker; free or not.
    OffMarket,
    /// Free, and reserved by the draft's session.
    Target,
}

/// What shall become of a coin when the command succeeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing.
    Keep,
    /// It gets this AN and the current month.
    Own(Secret),
    /// Its AN is XORed with this delta; it gets the current month.
    Xor(Secret),
    /// It is free; its AN is overwritten with this.
    Free(Secret),
}

/// One coin of a command.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Which coin.
    pub coin: CoinId,
    /// Its place in the request, for answers that have a bit per item.
    pub position: u32,
    /// Its group, for requests that store several lockers.
    pub group: u16,
    /// Whether `must` held. Filled in by the owner.
    pub holds: bool,
    /// Whether `new` is written. Filled in by the verdict.
    pub write: bool,
    /// What must hold.
    pub must: Must,
    /// What shall become of it.
    pub change: Change,
    /// Its record. Filled in by the owner.
    pub record: CoinRecord,
    /// Its new record, where `write` is set.
    pub new: CoinRecord,
}

impl Claim {
    /// One that asks what its owner finds: whether it is in circulation, and its record.
    pub fn to_look(coin: CoinId) -> Self {
        Self::new(coin, Must::Circulate, Change::Keep)
    }

    fn new(coin: CoinId, must: Must, change: Change) -> Self {
        let (record, new) = (CoinRecord::default(), CoinRecord::default());
        Self { coin, position: 0, group: 0, holds: false, write: false, must, change, record, new }
    }

    /// Takes the coin's record, and whether the draft's session holds it, and checks what must hold.
    pub fn check(&mut self, record: CoinRecord, reserved: bool) {
        self.record = record;
        self.holds = match (self.must, record.place()) {
            (Must::Target, place) => place == Place::Free && reserved,
            (Must::OffMarket, place) => !matches!(place, Place::TradeLocker(_)),
            (_, Place::Free) => false,
            (Must::Authentic(an), _) => record.an == an,
            (Must::Owned(_) | Must::Movable, Place::TradeLocker(_)) => false,
            (Must::Owned(an), _) => record.an == an,
            (Must::Circulate | Must::Movable, _) => true,
        }
    }

    /// Marks the coin to be written in this month. [`Change::Keep`] writes nothing.
    fn commit(&mut self, month: Months) {
        let own = |an| CoinRecord { an, mfs: month };
        self.new = match self.change {
            Change::Keep => return,
            Change::Free(_) if mutant::is(Mutant::SourceKept) => return,
            Change::Own(an) => own(an),
            Change::Xor(delta) => own(self.record.an.xor(delta)),
            Change::Free(an) => CoinRecord { an, mfs: Months::FREE },
        };
        self.write = true;
    }
}

/// Coins that stand or fall together by one sum.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// What the request says the XOR of their ANs is.
    pub sum: Secret,
    /// Whether every coin holds and the sum is right, and no two coins share an AN.
    pub passed: bool,
}

/// What to do when a batch names a coin twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Twice {
    /// The command fails with 40.
    Refuse,
    /// The second mention fails: an item, and with it its group if it has one.
    FailSecond,
}

/// A command's claims and answer under construction.
#[derive(Debug, Default)]
pub struct Draft {
    /// The coins, in order of their number once [`Draft::distinct`] was called.
    pub claims: Vec<Claim>,
    /// The groups of coins that stand or fall by a sum.
    pub groups: Vec<Group>,
    /// Items of the request, valid or not.
    pub items: u32,
    /// The session that must hold the targets; 0 where there are none.
    pub session: u32,
    /// Whether the request has shown the treasury's key.
    pub of_treasury: bool,
    /// The answer's payload.
    pub answer: Vec<u8>,
    /// ANs being compared, with their group.
    compared: Vec<(u16, [u8; 16])>,
}

impl Draft {
    /// Empties it. Memory that an unusually large request needed is given back.
    pub fn clear(&mut self) {
        const KEPT: usize = 4096;
        self.claims.clear();
        self.claims.shrink_to(KEPT);
        self.groups.clear();
        self.items = 0;
        self.session = 0;
        self.of_treasury = false;
        self.answer.clear();
        self.answer.shrink_to(KEPT * 16);
        self.compared.clear();
        self.compared.shrink_to(KEPT);
    }

    /// Adds a coin. A coin that is none fails the whole command: 40.
    pub fn claim(&mut self, coin: RawCoin, must: Must, change: Change) -> Result<(), Status> {
        self.claim_item(coin, must, change).then_some(()).ok_or(Status::SerialNumberOrDenomination)
    }

    /// Adds a coin as the next item. A coin that is none leaves an item without a claim: its bit stays 0. Says whether it is one.
    pub fn claim_item(&mut self, coin: RawCoin, must: Must, change: Change) -> bool {
        let position = self.items;
        self.items += 1;
        let Some(coin) = coin.id() else { return false };
        self.claim_coin(coin, position, must, change);
        true
    }

    /// Adds a coin that is known to be one.
    pub fn claim_coin(&mut self, coin: CoinId, position: u32, must: Must, change: Change) {
        let group = self.groups.len().saturating_sub(1) as u16;
        self.claims.push(Claim { position, group, ..Claim::new(coin, must, change) });
    }

    /// Opens a group: the coins claimed from now on belong to it.
    pub fn group(&mut self, sum: Secret) {
        self.groups.push(Group { sum, passed: true });
    }

    /// Sorts the claims by coin and sees to it that each coin is named once.
    pub fn distinct(&mut self, twice: Twice) -> Result<(), Status> {
        self.claims.sort_unstable_by_key(|claim| (claim.coin, claim.position));
        if twice == Twice::Refuse {
            let named_twice =
                !mutant::is(Mutant::CoinNamedTwice) && self.claims.windows(2).any(|pair| pair[0].coin == pair[1].coin);
            return if named_twice { Err(Status::SerialNumberOrDenomination) } else { Ok(()) };
        }
        let groups = &mut self.groups;
        self.claims.dedup_by(|second, first| {
            let same = second.coin == first.coin;
            if let (true, Some(group)) = (same, groups.get_mut(second.group as usize)) {
                group.passed = false;
            }
            same
        });
        // A group that failed already needs no coin.
        self.claims.retain(|claim| groups.get(claim.group as usize).is_none_or(|group| group.passed));
        Ok(())
    }

    /// Judges every group: each of its coins holds, no two share an AN, and their XOR is the sum.
    ///
    /// Coins that share an AN cancel in the sum: who lists two of them proves nothing.
    pub fn judge_sums(&mut self) {
        let (groups, compared) = (&mut self.groups, &mut self.compared);
        compared.clear();
        for claim in &self.claims {
            let group = &mut groups[claim.group as usize];
            group.passed &= claim.holds;
            group.sum = group.sum.xor(claim.record.an);
            compared.push((claim.group, *claim.record.an.bytes()));
        }
        compared.sort_unstable();
        for pair in compared.windows(2).filter(|pair| pair[0] == pair[1]) {
            groups[pair[0].0 as usize].passed = false;
        }
        compared.fill((0, [0; 16]));
        for group in groups {
            group.passed &= group.sum == Secret::default();
        }
    }

    /// Marks every coin to be written.
    pub fn commit_all(&mut self, month: Months) {
        self.claims.iter_mut().for_each(|claim| claim.commit(month));
    }

    /// Marks every coin that is in circulation to be written.
    pub fn commit_circulating(&mut self, month: Months) {
        let circulating = self.claims.iter_mut().filter(|claim| !claim.record.is_free());
        circulating.for_each(|claim| claim.commit(month));
    }

    /// Marks the coins of the groups that passed.
    pub fn commit_groups(&mut self, month: Months) {
        let groups = &self.groups;
        self.claims
            .iter_mut()
            .filter(|claim| groups[claim.group as usize].passed)
            .for_each(|claim| claim.commit(month));
    }

    /// Marks the coins that hold, each on its own.
    pub fn commit_items(&mut self, month: Months) {
        self.claims.iter_mut().filter(|claim| claim.holds).for_each(|claim| claim.commit(month));
    }

    /// Whether every claim holds.
    pub fn all_hold(&self) -> bool {
        self.claims.iter().all(|claim| claim.holds)
    }

    /// Whether any claim would change its coin.
    pub fn writes(&self) -> bool {
        self.claims.iter().any(|claim| claim.change != Change::Keep)
    }
}
