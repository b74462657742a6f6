//! Backups of made-up nodes, at rest and under load: what comes out is a node in one of the states that the model allows
//! at the backup's sequence, whatever else happened while it was taken.

use std::io::Cursor;

use raida::coin::{CoinId, Secret};
use raida::shard::backup::{BackupAnswer, BackupQuestion, BackupRefusal};
use raida::sim::audit::{at_rest, audit};
use raida::sim::history::{NEVER, Past, explain};
use raida::sim::model::{Model, Op, Row};
use raida::sim::{Client, Seeded, World, WorldOptions};
use raida::store::backup::End;
use raida::store::backup::reader::BackupReader;
use raida::store::backup::restore::{Restored, fill};
use raida::store::backup::snapshot::{Cut, Kept, Snapshot, back_up_at_rest};
use raida::store::pages::PAGE_GROUPS;
use raida::store::recovery::open_as_it_is;
use raida::store::storage::Memory;
use raida::wire::status::Status;

use crate::common::payload::offer_an;
use crate::common::{at_shard, locker_key, world_with_coins};
use crate::offline::{Content, directories};

/// Requests under way at most: the search for an order that explains them is exponential in these.
const AT_ONCE: usize = 5;
/// Requests of a story at most, as a history has no more.
const REQUESTS_MAX: usize = 60;

fn restored(bytes: &[u8]) -> (Memory, Restored) {
    let memory = Memory::new();
    let reader = BackupReader::new(Cursor::new(bytes)).expect("a backup");
    let restored = fill(&memory, reader, &mut |_, _| {}).expect("a backup");
    (memory, restored)
}

#[test]
fn a_backup_at_rest_has_everything() {
    for memory in directories(2, 17) {
        let content = Content::of(&memory).unwrap();
        let opened = open_as_it_is(&memory).unwrap();
        let (end, bytes) = back_up_at_rest(&memory, &opened, Vec::new(), 5, &mut |_, _| {}).unwrap();
        let (memory, restored) = restored(&bytes);
        assert_eq!((restored.end, restored.header.unix_ms, end.records), (end, 5, 0));
        assert_eq!(Content::of(&memory).unwrap(), content);
        assert!(content.is_counted_by(&restored.report), "{:?}", restored.report);
        assert!(open_as_it_is(&memory).unwrap().sequence >= opened.sequence, "no sequence is given twice");
    }
}

/// A node under load while a backup of it is taken.
struct Story {
    world: World,
    /// Every state that it may have been in before the load.
    before: Vec<Model>,
    /// What clients believe.
    guess: Model,
    random: Seeded,
    history: Vec<Past>,
    flying: Vec<(Client, u64, usize)>,
}

impl Story {
    fn new(shards: u8, seed: u64, options: impl Fn(WorldOptions) -> WorldOptions) -> Self {
        let (mut world, purse) = world_with_coins(shards, seed);
        let model = Model::new(purse.all());
        // The same coins on a log of another size.
        world.shut_down();
        let mut world = World::on(world.storage.clone(), &options(WorldOptions::small(shards, seed)));
        world.start();
        let before = vec![model.clone()];
        Self { world, before, guess: model, random: Seeded(seed), history: Vec::new(), flying: Vec::new() }
    }

    fn some(&mut self, count: usize) -> Vec<CoinId> {
        let all: Vec<CoinId> = self.guess.ans.keys().copied().collect();
        let mut coins: Vec<CoinId> = (0..count).map(|_| all[self.random.below(all.len())]).collect();
        coins.sort_unstable();
        coins.dedup();
        coins
    }

    fn rows(&mut self, coins: Vec<CoinId>) -> Vec<Row> {
        let mut fresh = || {
            let mut an = self.random.bytes();
            an[15] = 0x11;
            Secret::new(an)
        };
        coins.into_iter().map(|coin| (coin, fresh())).collect()
    }

    fn op(&mut self) -> Op {
        let key = locker_key(1 + self.random.below(3) as u8);
        let number = self.random.below(3) as u32;
        let offer = offer_an(number, 1 + number);
        let coins = self.some(6);
        let batch = (coins.clone(), self.guess.sum(&coins));
        match self.random.below(6) {
            0 => {
                let inside = self.guess.coins_with(&key);
                match inside.is_empty() {
                    true => Op::Store(batch, key),
                    false => Op::Remove(key, self.rows(inside)),
                }
            }
            1 => Op::PutForSale(batch, offer, *b"an address of twenty"),
            2 => Op::TakeBack(offer, Some(key)),
            3 => {
                let rows = self.rows(coins);
                Op::Pown(rows.into_iter().map(|(coin, pan)| (coin, self.guess.ans[&coin], pan)).collect())
            }
            _ => Op::Store(batch, key),
        }
    }

    /// Something happens: a request is sent, or the node does a step.
    fn stir(&mut self) {
        if self.flying.len() < AT_ONCE && self.history.len() < REQUESTS_MAX && self.random.one_in(4) {
            let op = self.op();
            let client = Client { datagram: self.random.one_in(3), ..at_shard(self.random.below(4) as u8) };
            let (kind, payload) = op.payload();
            let token = self.world.send_payload(&client, kind.command(), &payload);
            self.flying.push((client, token, self.history.len()));
            self.history.push(Past { op, answer: None, sent: self.world.monotonic_us, answered: NEVER });
        }
        self.world.advance();
        self.collect();
    }

    fn collect(&mut self) {
        let Self { world, guess, history, flying, .. } = self;
        flying.retain(|(client, token, index)| {
            let Some(answer) = world.answer(client, *token) else { return true };
            let past = &mut history[*index];
            past.answer = Some(past.op.sorted(answer));
            past.answered = world.monotonic_us;
            if past.answer.as_ref().is_some_and(|(status, _)| *status == Status::AllPass) {
                guess.apply(&past.op);
            }
            false
        });
    }

    fn stir_for(&mut self, most: usize) {
        (0..self.random.below(most)).for_each(|_| self.stir());
    }

    fn ask(&mut self, shard: u8, question: BackupQuestion) -> Result<BackupAnswer, BackupRefusal> {
        self.stir_for(4);
        self.world.back_up(shard, question)
    }

    fn keep(&mut self) -> Vec<Kept> {
        let shards = 0..self.world.settings.shards;
        let kept = shards.map(|shard| match self.ask(shard, BackupQuestion::Keep) {
            Ok(BackupAnswer::Kept(kept)) => *kept,
            other => panic!("{other:?}"),
        });
        kept.collect()
    }

    fn progress(&mut self, shard: u8) -> Result<(u64, u64), BackupRefusal> {
        match self.ask(shard, BackupQuestion::Progress)? {
            BackupAnswer::Progress { clock, durable_batch } => Ok((clock, durable_batch)),
            other => panic!("{other:?}"),
        }
    }

    fn cut(&mut self, shard: u8, sequence: u64) -> Result<Cut, BackupRefusal> {
        match self.ask(shard, BackupQuestion::Cut { sequence })? {
            BackupAnswer::Cut(cut) => {
                while self.progress(shard)?.1 < cut.last_batch {
                    self.stir();
                }
                Ok(cut)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Takes a backup; returns it and the history of which it must have the end.
    fn back_up(&mut self, steps_a_group: usize) -> Result<(End, Vec<u8>, Vec<Past>), BackupRefusal> {
        let shards = self.world.settings.shards;
        let kept = self.keep();
        let mut snapshot = Snapshot::begin(Vec::new(), None, 1, kept).unwrap();
        for group in 0..PAGE_GROUPS {
            // Most groups have no page: there is nothing to see between them.
            if self.random.one_in(20) {
                self.stir_for(steps_a_group);
            }
            snapshot.pages(&self.world.storage, group).unwrap();
        }
        self.collect();
        let answered = self.world.monotonic_us;
        let mut sequence = snapshot.highest();
        for shard in 0..shards {
            sequence = sequence.max(self.progress(shard)?.0);
        }
        let cuts: Vec<Cut> = (0..shards).map(|shard| self.cut(shard, sequence)).collect::<Result<_, _>>()?;
        self.collect();
        let maybe = |past: &Past| match past.answered <= answered {
            true => past.clone(),
            false => Past { op: past.op.clone(), answer: None, sent: past.sent, answered: NEVER },
        };
        let history: Vec<Past> = self.history.iter().map(maybe).collect();
        for cut in &cuts {
            self.stir_for(8);
            snapshot.records(&self.world.storage, cut, sequence).unwrap();
        }
        for shard in 0..shards {
            self.ask(shard, BackupQuestion::LetGo)?;
        }
        let (end, bytes) = snapshot.finish(&self.world.storage, sequence).unwrap();
        Ok((end, bytes, history))
    }

    /// The load comes to its end, and the node is as its answers say.
    fn ends_well(&mut self) {
        self.world.settle();
        self.collect();
        assert!(self.flying.is_empty(), "nobody waits for ever");
        is_one_of(&self.world, explain(&self.before, &self.history).expect("an order"));
        assert!(self.world.shut_down(), "the node stops in order");
    }
}

/// Whether a node at rest is in one of these states.
fn is_one_of(world: &World, models: Vec<Model>) {
    let wrong: Vec<String> = models.iter().filter_map(|model| audit(world, model).err()).collect();
    assert!(wrong.len() < models.len(), "{wrong:?}");
    assert_eq!(at_rest(world), Ok(()));
}

#[test]
fn a_backup_under_load_is_the_node_at_one_moment() {
    let mut records = 0;
    for seed in 0..12 {
        let shards = [1, 2, 4][seed as usize % 3];
        let mut story = Story::new(shards, seed, |options| match seed % 2 {
            0 => options,
            _ => options.with_tiny_log(64),
        });
        story.stir_for(40);
        let (end, bytes, history) = story.back_up(20).expect("the log has room");
        records += end.records;
        story.ends_well();

        let (memory, found) = restored(&bytes);
        assert_eq!(found.end, end);
        let mut models = explain(&story.before, &history).expect("an order");
        models.iter_mut().for_each(Model::restart);
        let mut world = World::on(memory, &WorldOptions::small(1 + (seed % 4) as u8, seed));
        world.start();
        is_one_of(&world, models);
        assert!(world.shut_down(), "the restored node stops in order");
    }
    assert!(records > 20, "commands were written meanwhile: {records}");
}

#[test]
fn no_command_waits_for_a_backup() {
    let mut given_up = 0;
    for seed in 0..6 {
        // A log that is full after some dozen commands.
        let mut story = Story::new(2, seed, |options| options.with_tiny_log(4));
        match story.back_up(400) {
            Ok(_) => {}
            Err(refusal) => {
                assert_eq!(refusal, BackupRefusal::LogFull);
                given_up += 1;
            }
        }
        for shard in 0..2 {
            story.world.back_up(shard, BackupQuestion::LetGo).expect("always");
        }
        story.ends_well();
    }
    assert!(given_up > 0, "a log was full");
}

#[test]
fn a_node_whose_disk_failed_gives_no_backup() {
    let mut story = Story::new(2, 3, |options| options);
    story.world.disk_full = true;
    (0..400).for_each(|_| story.stir());
    assert!((0..2).all(|shard| story.world.shard(shard).has_failed()));
    assert_eq!(story.world.back_up(0, BackupQuestion::Keep).err(), Some(BackupRefusal::DiskFailed));
}
