//! Whether archive and logs tell what happened: every commit that was answered, once, each in its place.
//!
//! What each shard asks to be written to its log, and what of it became durable, is noted on its way to the made-up disk.
//! After an end of the node, the commits of the contiguous durable prefix of each log must be told, others that were asked
//! for may be, nothing else. Whatever was told once must be told for ever, in the same order. And who begins with the
//! coins of the beginning and follows what is told, must come to the coins that the node has.

use std::collections::{BTreeMap, BTreeSet};

use crate::coin::{CoinId, CoinRecord, Months, Secret};
use crate::shard::interface::{DiskOp, ShardFile};
use crate::store::archive::{Journal, Missing};
use crate::store::error::StoreError;
use crate::store::storage::Memory;
use crate::store::wal::format::{BatchHeader, HEADER_BYTES};
use crate::store::wal::{Change, CommitRecord, PlaceKind};

/// A commit: its sequence, its shard, and the checksum of all it says. In the order in which commits are told.
type Name = (u64, u8, u32);

/// A batch that a shard asked to be written.
struct Asked {
    shard: u8,
    number: u64,
    commits: Vec<Name>,
    is_durable: bool,
}

/// What the journal must tell.
#[derive(Default)]
pub struct Expected {
    /// The coins at the beginning.
    coins: BTreeMap<CoinId, Secret>,
    /// What was told after the last start.
    told: Vec<Name>,
    /// Batches since then.
    asked: Vec<Asked>,
    /// Rot took something from the logs: from then on nothing is certain.
    is_broken: bool,
}

/// What a journal told.
struct Told {
    commits: Vec<Name>,
    coins: BTreeMap<CoinId, Secret>,
    missing: Vec<Missing>,
}

impl Expected {
    /// Takes the coins of the beginning.
    pub fn begin(&mut self, coins: &[(CoinId, Secret)]) {
        self.coins = coins.iter().copied().collect();
    }

    /// A shard asks for a disk operation.
    pub fn asked(&mut self, shard: u8, op: &DiskOp) {
        let Some((header, records)) = batch(op) else { return };
        let mut rest = records;
        let mut commits = Vec::new();
        while let Some((record, after)) = CommitRecord::decode(rest) {
            commits.push((record.commit.sequence, shard, record.checksum()));
            rest = after;
        }
        self.asked.push(Asked { shard, number: header.number, commits, is_durable: false });
    }

    /// The disk has done one.
    pub fn done(&mut self, shard: u8, op: &DiskOp) {
        let Some((header, _)) = batch(op) else { return };
        let is_it = |asked: &&mut Asked| (asked.shard, asked.number) == (shard, header.number);
        self.asked.iter_mut().find(is_it).expect("a batch that was asked for").is_durable = true;
    }

    /// Looks at what is told beside a node that runs.
    ///
    /// # Errors
    /// What is told and was never asked for, or not told again.
    pub fn is_told_beside(&self, storage: &Memory) -> Result<(), String> {
        if self.is_broken {
            return Ok(());
        }
        let told = self.tell(storage, true)?;
        self.follows(&told, &BTreeSet::new())
    }

    /// Looks at what is told while the node is down. Where `is_whole` is not true, rot may have taken some of it.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn is_told(&mut self, storage: &Memory, is_whole: bool) -> Result<(), String> {
        if self.is_broken {
            return Ok(());
        }
        let answered = self.durable_prefixes();
        let told = self.tell(storage, false).and_then(|told| self.follows(&told, &answered).map(|()| told));
        match told {
            Ok(told) => self.told = told.commits,
            Err(_) if !is_whole => self.is_broken = true,
            Err(wrong) => return Err(wrong),
        }
        self.asked.clear();
        Ok(())
    }

    /// Looks at what is told once the node has started again: the same, and it leads to its coins.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn leads_to(
        &mut self,
        storage: &Memory,
        coins: &BTreeMap<CoinId, Secret>,
        is_whole: bool,
    ) -> Result<(), String> {
        if self.is_broken {
            return Ok(());
        }
        let told = self.tell(storage, false)?;
        if is_whole && told.commits != self.told {
            return Err(format!(
                "{} commits are told before a start, {} after it",
                self.told.len(),
                told.commits.len()
            ));
        }
        let wrong = told.coins.iter().chain(coins).find(|(coin, _)| told.coins.get(coin) != coins.get(coin));
        match wrong {
            Some((coin, _)) if is_whole => Err(format!("the journal does not lead to where {coin:?} is")),
            Some(_) => {
                self.is_broken = true;
                Ok(())
            }
            None => {
                self.told = told.commits;
                Ok(())
            }
        }
    }

    /// Whether the journal tells what it told before, then `answered`, and nothing that nobody asked for.
    fn follows(&self, told: &Told, answered: &BTreeSet<Name>) -> Result<(), String> {
        if let Some(missing) = told.missing.first() {
            return Err(format!("the journal lacks {missing:?}"));
        }
        let Some(new) = told.commits.strip_prefix(&self.told[..]) else {
            return Err("the journal does not tell again what it told before".to_owned());
        };
        let new: BTreeSet<Name> = new.iter().copied().collect();
        if let Some((sequence, shard, _)) = answered.difference(&new).next() {
            return Err(format!("the journal lacks commit {sequence} of shard {shard}"));
        }
        let asked: BTreeSet<Name> = self.asked.iter().flat_map(|asked| &asked.commits).copied().collect();
        match new.difference(&asked).next() {
            Some((sequence, shard, _)) => {
                Err(format!("the journal has a commit {sequence} of shard {shard} from nowhere"))
            }
            None => Ok(()),
        }
    }

    /// The commits that may have been answered: those of each log up to the first batch that is not durable.
    fn durable_prefixes(&self) -> BTreeSet<Name> {
        let mut ended = BTreeSet::new();
        let mut answered = BTreeSet::new();
        for asked in &self.asked {
            if !asked.is_durable {
                ended.insert(asked.shard);
            } else if !ended.contains(&asked.shard) {
                answered.extend(&asked.commits);
            }
        }
        answered
    }

    /// Reads the journal, and follows the coins.
    fn tell(&self, storage: &Memory, beside_a_node: bool) -> Result<Told, String> {
        let mut told = Told { commits: Vec::new(), coins: self.coins.clone(), missing: Vec::new() };
        let Told { commits, coins, missing } = &mut told;
        let mut wrong = None;
        let journal = Journal::new(storage, beside_a_node, None).map_err(|error| error.to_string())?;
        let read = journal.read::<StoreError>(
            &mut |shard, record| {
                let name = (record.commit.sequence, shard, record.checksum());
                if commits.last().is_some_and(|last| *last >= name) {
                    wrong.get_or_insert(format!("{name:?} is told after {:?}", commits.last()));
                }
                commits.push(name);
                for change in record.changes() {
                    if kind(coins.get(&change.coin)) != change.from {
                        wrong.get_or_insert(format!("{name:?} finds {:?} where it was not told to be", change.coin));
                    }
                    follow(coins, &change);
                }
                Ok(())
            },
            &mut |what| {
                missing.push(what);
                Ok(())
            },
        );
        read.map_err(|error| error.to_string())?;
        wrong.map_or(Ok(told), Err)
    }
}

fn kind(an: Option<&Secret>) -> PlaceKind {
    an.map_or(PlaceKind::Free, |an| CoinRecord { an: *an, mfs: Months::new(1) }.place().into())
}

fn follow(coins: &mut BTreeMap<CoinId, Secret>, change: &Change) {
    if change.to.is_free() {
        coins.remove(&change.coin);
    } else {
        coins.insert(change.coin, change.to.an);
    }
}

/// The batch that an operation writes to a log, and its records.
fn batch(op: &DiskOp) -> Option<(BatchHeader, &[u8])> {
    match op {
        DiskOp::Write { file: ShardFile::Log(_), bytes, .. } => {
            let header = BatchHeader::decode(bytes).expect("a batch");
            Some((header, &bytes[HEADER_BYTES..header.used as usize]))
        }
        _ => None,
    }
}
