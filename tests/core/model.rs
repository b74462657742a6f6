//! Random requests of several clients at once against a naive model, with crashes, few pages, tiny logs and a failing
//! disk: what the node answers can be explained by some order of the requests, and what it answered stays.

use crate::common::model::{Answer, Batch, Model, Op, Row, explain};
use crate::common::payload::{self, offer_an};
use crate::common::{Purse, ask, at_shard, locker_key, status, world_with_coins};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use raida::coin::{CoinId, Secret};
use raida::sim::{Client, Seeded, World, WorldOptions};
use raida::store::layout::PAGE_BYTES;
use raida::store::recovery;
use raida::store::storage::{Memory, Storage};
use raida::wire::items::RawCoin;
use raida::wire::request::CommandKind::*;
use raida::wire::status::Status;

/// A node, what must be true of it, and where the next request comes from.
struct Story {
    world: World,
    /// Every state the node may be in; almost always one.
    models: Vec<Model>,
    random: Seeded,
    session: u32,
}

impl Story {
    fn new(shards: u8, seed: u64) -> Self {
        let (world, purse) = world_with_coins(shards, seed);
        Self::of(world, &purse, seed)
    }

    fn of(world: World, purse: &Purse, seed: u64) -> Self {
        let models = vec![Model { ans: purse.all().collect(), offers: Vec::new() }];
        Self { world, models, random: Seeded(seed ^ 0x5EED), session: 0 }
    }

    fn fresh(&mut self) -> Secret {
        let mut an = self.random.bytes();
        an[15] = 0x11;
        Secret::new(an)
    }

    fn key(&mut self) -> Secret {
        locker_key(1 + self.random.below(4) as u8)
    }

    fn offer(&mut self) -> Secret {
        let number = self.random.below(4) as u32;
        offer_an(number, 1 + number % 2)
    }

    /// One to `most` coins of a few.
    fn coins(&mut self, few: &[CoinId], most: usize) -> Vec<CoinId> {
        let mut coins = few.to_vec();
        while coins.len() > most {
            coins.swap_remove(self.random.below(coins.len()));
        }
        coins.truncate(1 + self.random.below(coins.len()));
        coins
    }

    fn batch(&mut self, few: &[CoinId]) -> Batch {
        let coins = self.coins(few, 5);
        let sum = if self.random.one_in(12) { self.fresh() } else { self.models[0].sum(&coins) };
        (coins, sum)
    }

    fn an(&mut self, coin: CoinId) -> Secret {
        if self.random.one_in(12) { self.fresh() } else { self.models[0].ans[&coin] }
    }

    fn row(&mut self, coin: CoinId) -> Row {
        (coin, self.an(coin))
    }

    /// A new AN, most often a wallet's.
    fn pan(&mut self) -> Secret {
        if self.random.one_in(3) { self.key() } else { self.fresh() }
    }

    /// The serial numbers for a new session.
    fn offered(&mut self, operation: u8, den: i8) -> (u32, Vec<CoinId>) {
        self.session += 1;
        let payload = payload::serial_numbers(self.session, operation, den);
        let (status, answer) = ask(&mut self.world, &Client::default(), ChangeSerialNumbers, &payload);
        assert_eq!((status, answer.len()), (Status::Success, 1 + 4 * 64));
        let sns = answer[1..].chunks_exact(4).map(|sn| u32::from_be_bytes(sn.try_into().unwrap()));
        (self.session, sns.map(|sn| CoinId::new(answer[0] as i8, sn).unwrap()).collect())
    }

    fn break_one(&mut self, few: &[CoinId]) -> Op {
        let source = few[self.random.below(few.len())];
        let source = self.row(source);
        let (session, targets) = self.offered(1, source.0.denomination().get());
        let from = self.random.below(54);
        let targets = targets[from..from + 10].iter().map(|&coin| (coin, self.pan())).collect();
        Op::Break { session, source, targets }
    }

    fn join_ten(&mut self, few: &[CoinId]) -> Op {
        let den = few[0].denomination();
        let of_den =
            self.models[0].ans.iter().filter(|(coin, an)| coin.denomination() == den && an.bytes()[15] != 0xEE);
        let mut sources: Vec<CoinId> = of_den.map(|(&coin, _)| coin).collect();
        if sources.len() < 10 {
            return Op::Count;
        }
        while sources.len() > 10 {
            let outside: Vec<usize> = (0..sources.len()).filter(|&at| !few.contains(&sources[at])).collect();
            let at = if outside.is_empty() { 0 } else { outside[self.random.below(outside.len())] };
            sources.swap_remove(at);
        }
        let (session, targets) = self.offered(2, den.get());
        let target = (targets[self.random.below(64)], self.pan());
        let sources = sources.into_iter().map(|coin| self.row(coin)).collect();
        Op::Join { session, target, sources }
    }

    /// A request about a few coins, so that requests meet.
    fn op(&mut self, few: &[CoinId]) -> Op {
        match self.random.below(20) {
            0 | 1 => {
                let coins = self.coins(few, 8);
                Op::Detect(coins.into_iter().map(|coin| self.row(coin)).collect())
            }
            2 => Op::DetectSum(self.batch(few)),
            3 | 4 => {
                let coins = self.coins(few, 8);
                Op::Pown(coins.into_iter().map(|coin| (coin, self.an(coin), self.pan())).collect())
            }
            5 => {
                let mut delta = *self.fresh().bytes();
                delta[12..].fill(0); // what ends like a wallet's AN goes on to
                Op::PownSum(self.batch(few), Secret::new(delta))
            }
            6 | 7 => Op::Store(self.batch(few), self.key()),
            8 => {
                let (half, rest) = few.split_at(few.len() / 2);
                let lockers = [half, rest].map(|few| (self.batch(few), self.key()));
                Op::StoreMultiple(lockers.into())
            }
            9 | 10 => {
                let key = self.key();
                let mut coins = self.models[0].coins_with(&key);
                coins.truncate(6);
                if coins.is_empty() || self.random.one_in(6) {
                    coins.extend(self.coins(few, 3));
                }
                coins.sort_unstable();
                coins.dedup();
                Op::Remove(key, coins.into_iter().map(|coin| (coin, self.pan())).collect())
            }
            11 => Op::Peek(self.key()),
            12 | 13 => Op::PutForSale(self.batch(few), self.offer(), self.address()),
            14 => {
                let price = 1 + self.random.below(2) as u32;
                let an = self.offer();
                let coins = self.models[0].coins_with(&an);
                let value = coins.iter().map(|coin| coin.denomination().value()).sum();
                Op::Buy { key: self.key(), value, price }
            }
            15 => {
                let key = (!self.random.one_in(6)).then(|| self.key());
                Op::TakeBack(self.offer(), key)
            }
            16 => Op::PeekTradeLocker(self.offer()),
            17 => {
                if self.random.one_in(2) {
                    Op::List
                } else {
                    Op::Count
                }
            }
            18 => self.break_one(few),
            _ => self.join_ten(few),
        }
    }

    fn address(&mut self) -> [u8; 20] {
        let mut address = [b'a'; 20];
        address[..16].copy_from_slice(&self.random.bytes());
        address
    }

    /// A few coins, and requests about them.
    fn ops(&mut self, count: usize) -> Vec<Op> {
        let all: Vec<CoinId> = self.models[0].ans.keys().copied().collect();
        let few: Vec<CoinId> = (0..8).map(|_| all[self.random.below(all.len())]).collect();
        let mut few: Vec<CoinId> = few;
        few.sort_unstable();
        few.dedup();
        (0..count).map(|_| self.op(&few)).collect()
    }

    /// Sends requests at once.
    fn send(&mut self, ops: &[Op]) -> Vec<(Client, u64)> {
        ops.iter()
            .map(|op| {
                let client = Client {
                    shard: self.random.below(4) as u8,
                    datagram: self.random.one_in(3),
                    peer: "127.0.0.1".parse().unwrap(),
                    ..Client::default()
                };
                let (kind, payload) = op.payload();
                let token = self.world.send_payload(&client, kind.command(), &payload);
                for _ in 0..self.random.below(12) {
                    self.world.advance();
                }
                (client, token)
            })
            .collect()
    }

    /// What has been answered so far.
    fn collect(&mut self, ops: Vec<Op>, sent: &[(Client, u64)]) -> Vec<(Op, Option<Answer>)> {
        let answers = sent.iter().map(|(client, token)| self.world.answer(client, *token));
        ops.into_iter().zip(answers).map(|(op, answer)| (op.clone(), answer.map(|answer| op.sorted(answer)))).collect()
    }

    fn explained(&mut self, history: &[(Op, Option<Answer>)]) {
        let models = explain(&self.models, history);
        if models.is_empty() {
            let told: Vec<String> = history.iter().map(|(op, answer)| told(&self.models[0], op, answer)).collect();
            panic!("no order of these explains the answers, from {} states:\n{}", self.models.len(), told.join("\n"));
        }
        self.models = models;
    }

    /// Runs until nothing is left to do. For a while one road may be slow: whatever does not need it overtakes.
    fn settle(&mut self) {
        if self.random.one_in(2) {
            for _ in 0..self.random.below(60) {
                self.world.advance();
            }
            let shards = self.world.settings.shards as usize;
            self.world.held = Some((self.random.below(shards) as u8, self.random.below(shards) as u8));
            self.world.settle();
            self.world.held = None;
        }
        self.world.settle();
    }

    /// Requests at once, all answered.
    fn burst(&mut self, ops: Vec<Op>) {
        let sent = self.send(&ops);
        self.settle();
        let history = self.collect(ops, &sent);
        assert!(history.iter().all(|(_, answer)| answer.is_some()), "nobody waits for ever: {history:#?}");
        self.explained(&history);
    }

    /// Requests at once, and in the midst of them a crash.
    fn burst_with_crash(&mut self, ops: Vec<Op>) {
        let sent = self.send(&ops);
        for _ in 0..self.random.below(120) {
            self.world.advance();
        }
        let history = self.collect(ops, &sent);
        let shards = 1 + self.random.below(4) as u8;
        self.world.crash(shards);
        self.explained(&history);
        self.check();
    }

    fn asked(&mut self, op: &Op) -> Answer {
        let (kind, payload) = op.payload();
        let client = at_shard(self.random.below(4) as u8);
        op.sorted(ask(&mut self.world, &client, kind, &payload))
    }

    /// Compares everything the node says with the model.
    fn check(&mut self) {
        let mut questions = vec![Op::Count, Op::List];
        questions.extend((1..=4).map(|number| Op::Peek(locker_key(number))));
        questions.extend((0..4).map(|number| Op::PeekTradeLocker(offer_an(number, 1 + number % 2))));
        for question in questions {
            let answer = self.asked(&question);
            let before = self.models.len();
            self.models.retain_mut(|model| model.apply(&question) == answer);
            assert!(!self.models.is_empty(), "{question:?} is {answer:?}, in none of {before} models");
        }
        let (_, list) = ask(&mut self.world, &Client::default(), ListForSale, &[1, 255]);
        let storage = self.world.storage.clone();
        storage.crash(self.random.number());
        let geometry = WorldOptions::small(1, 0).geometry;
        let orders = recovery::open(&storage, 1, geometry).expect("a data directory that recovers").orders;
        let fitting: Vec<Model> = std::mem::take(&mut self.models)
            .into_iter()
            .filter(|model| {
                let all = Op::Detect(model.ans.iter().map(|(&coin, &an)| (coin, an)).collect());
                let (kind, payload) = all.payload();
                ask(&mut self.world, &Client::default(), kind, &payload).0 == Status::AllPass
            })
            .filter(|model| {
                // Equal offers in the order they came; and everybody's payout address is on disk.
                let in_order = |price: u8| -> Vec<&[u8]> { list.chunks(29).filter(|row| row[28] == price).collect() };
                let modelled = model.list();
                [1, 2].iter().all(|&price| {
                    let mut listed = in_order(price);
                    let mut expected: Vec<&[u8]> =
                        modelled.iter().map(Vec::as_slice).filter(|row| row[28] == price).collect();
                    // Of different values none competes with another.
                    listed.sort_by_key(|row| row[17..25].to_vec());
                    expected.sort_by_key(|row| row[17..25].to_vec());
                    listed == expected
                }) && model.offers.iter().all(|(an, address)| {
                    let order = orders.iter().find(|order| order.an == *an);
                    order.is_some_and(|order| order.address.as_bytes() == address)
                })
            })
            .collect();
        assert!(!fitting.is_empty(), "coins, the order of offers or payout addresses are not as they must be");
        self.models = fitting;
    }

    fn failed(&self) -> bool {
        (0..self.world.settings.shards).any(|shard| self.world.shard(shard).has_failed())
    }

    /// Requests at once while the disk may fail: each is answered, or its connection closed, and what is answered 194
    /// did not happen.
    fn burst_with_failure(&mut self, ops: Vec<Op>) -> Vec<(Op, Option<Answer>)> {
        let sent = self.send(&ops);
        self.settle();
        let history = self.collect(ops, &sent);
        for ((op, answer), (_, token)) in history.iter().zip(&sent) {
            assert!(answer.is_some() || self.world.closed(*token), "nobody waits for ever: {op:?}");
        }
        let disk_failed = |(_, answer): &&(Op, Option<Answer>)| *answer == Some((Status::Filesystem, vec![]));
        if !self.failed() {
            // One page could not be read: that is no matter of requests without a coin of it.
            for (op, _) in history.iter().filter(disk_failed) {
                let needs = op.coins().iter().any(|coin| self.world.unreadable.contains(&coin.page()));
                assert!(needs || matches!(op, Op::Buy { .. } | Op::TakeBack(..)), "{op:?} {:?}", self.world.unreadable);
            }
        }
        history.into_iter().filter(|row| !disk_failed(&row)).collect()
    }
}

/// A request, its answer, and what the model says to it.
fn told(model: &Model, op: &Op, answer: &Option<Answer>) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let named: Vec<String> = model.ans.iter().map(|(coin, an)| format!("{coin:?} {}", hex(&an.bytes()[..4]))).collect();
    let (kind, payload) = op.payload();
    let text = format!("{op:?}");
    let coins = named.into_iter().filter(|name| text.contains(name.split(' ').next().unwrap())).collect::<Vec<_>>();
    let expected = model.clone().apply(op);
    let show = |(status, answer): &Answer| format!("{status} {}", hex(answer));
    let answer = answer.as_ref().map(show);
    format!("{kind:?} {} of {coins:?}\n  answered {answer:?}\n  alone    {:?}", hex(&payload), show(&expected))
}

/// So many cases, always the same; with PROPTEST_CASES set, as many as it says and others each time.
fn cases(cases: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, max_shrink_iters: 60, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases, rng_seed: RngSeed::Fixed(2), ..config },
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn requests_at_once_are_as_if_one_after_the_other(seed: u64, shards in 1u8..5, bursts in 1usize..40) {
        let mut story = Story::new(shards, seed);
        for _ in 0..bursts {
            let count = 1 + story.random.below(5);
            let ops = story.ops(count);
            if story.random.one_in(5) {
                story.burst_with_crash(ops);
            } else {
                story.burst(ops);
                if story.random.one_in(5) {
                    story.check();
                }
            }
        }
        story.check();
        let ops = story.ops(4);
        let sent = story.send(&ops);
        assert!(story.world.shut_down(), "the node stops in order");
        let history = story.collect(ops, &sent);
        assert!(history.iter().all(|(_, answer)| answer.is_some()), "and answers what was in flight: {history:#?}");
        story.explained(&history);
        let storage = story.world.storage.clone();
        let opened = recovery::open(&storage, 3, WorldOptions::small(1, 0).geometry).expect("a data directory");
        assert_eq!(opened.recovered, 0, "all is in its place");
        story.world.crash(1);
        story.check();
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn a_disk_that_fails_to_write_loses_nothing_that_was_answered(seed: u64, shards in 1u8..5) {
        let mut story = Story::new(shards, seed);
        for _ in 0..4 {
            let ops = story.ops(3);
            story.burst(ops);
            story.world.write_fails_after = Some(story.random.below(25) as u64);
            for _ in 0..40 {
                if story.failed() {
                    break;
                }
                let ops = story.ops(3);
                let mut history = story.burst_with_failure(ops);
                if story.failed() {
                    // From now on nothing is written, but what is asked is answered.
                    for _ in 0..2 {
                        let ops = story.ops(2);
                        let later = story.burst_with_failure(ops);
                        let wrote = |model: &Model, op: &Op| model.clone().apply(op).0.is_success()
                            && { let mut after = model.clone(); after.apply(op); after != *model };
                        for (op, answer) in &later {
                            let success = answer.as_ref().is_some_and(|(status, _)| status.is_success());
                            prop_assert!(!(success && wrote(&story.models[0], op)), "{op:?}");
                        }
                        history.extend(later.into_iter().filter(|(_, answer)| answer.is_some()));
                    }
                    prop_assert!((0..story.world.settings.shards).all(|shard| story.world.shard(shard).has_failed()));
                }
                if !story.failed() {
                    story.explained(&history);
                    continue;
                }
                let shards = 1 + story.random.below(4) as u8;
                story.world.crash(shards);
                story.explained(&history);
                story.check();
            }
            story.world.write_fails_after = None;
        }
    }

    #[test]
    fn a_page_that_cannot_be_read_fails_who_needs_it_and_no_other(seed: u64, shards in 1u8..5) {
        let mut story = Story::new(shards, seed);
        for _ in 0..12 {
            story.world.read_fails_after = Some(story.random.below(30) as u64);
            let ops = story.ops(3);
            let history = story.burst_with_failure(ops);
            story.world.read_fails_after = None;
            story.world.unreadable.clear();
            if story.failed() {
                let shards = story.world.settings.shards;
                story.world.crash(shards);
            }
            story.explained(&history);
            story.check();
        }
    }
}

/// What is asked at once, of a story and all its coins.
type Round = fn(&mut Story, &[CoinId]) -> Vec<Op>;

/// 400 coins on 100 pages, with a cache of 8.
fn scattered(shards: u8) -> Story {
    let options = WorldOptions::small(shards, 11);
    let mut random = Seeded(11);
    let coins: Vec<(CoinId, Secret)> = (0..400)
        .map(|number| {
            let mut an = random.bytes();
            an[15] = 0x11;
            (CoinId::new((number % 2) as i8, number / 8 * 1024 + number % 8).unwrap(), Secret::new(an))
        })
        .collect();
    let storage = Memory::new();
    recovery::initialise(&storage, options.geometry).unwrap();
    World::mint(&storage, &coins, 10);
    let mut world = World::on(storage, &options);
    world.start();
    Story { world, models: vec![Model { ans: coins.into_iter().collect(), offers: vec![] }], random, session: 0 }
}

#[test]
fn requests_of_hundreds_of_coins_over_many_more_pages_than_the_cache_has() {
    for shards in [1, 2, 4] {
        let mut story = scattered(shards);
        let all: Vec<CoinId> = story.models[0].ans.keys().copied().collect();
        let rounds: [Round; 5] = [
            // Two want the same coins; three share them out; somebody looks.
            |story, all| {
                let batch = |coins: &[CoinId]| (coins.to_vec(), story.models[0].sum(coins));
                let stores = [batch(&all[..350]), batch(&all[50..])].map(|batch| Op::Store(batch, locker_key(1)));
                let mut ops: Vec<Op> = stores.into();
                ops.push(Op::Detect(all.iter().map(|&coin| (coin, story.models[0].ans[&coin])).collect()));
                ops
            },
            |story, all| {
                let rows = |story: &mut Story| all.iter().map(|&coin| (coin, story.fresh())).collect();
                vec![Op::Remove(locker_key(1), rows(story)), Op::Remove(locker_key(1), rows(story)), Op::Count]
            },
            |story, all| {
                let batch = |coins: &[CoinId]| (coins.to_vec(), story.models[0].sum(coins));
                let lockers = [(&all[..130], 2), (&all[130..260], 3), (&all[260..], 4)];
                let several = lockers.map(|(coins, key)| (batch(coins), locker_key(key))).into();
                let sale = Op::PutForSale(batch(&all[100..]), offer_an(1, 2), *b"the seller's address");
                vec![Op::StoreMultiple(several), sale, Op::Peek(locker_key(3)), Op::List]
            },
            |story, all| {
                let value = story.models[0].coins_with(&offer_an(1, 2)).iter().map(|c| c.denomination().value()).sum();
                let pown = |story: &mut Story| {
                    Op::Pown(all.iter().map(|&coin| (coin, story.models[0].ans[&coin], story.fresh())).collect())
                };
                let buy = Op::Buy { key: locker_key(1), value, price: 2 };
                vec![buy, Op::TakeBack(offer_an(1, 2), Some(locker_key(4))), pown(story), pown(story)]
            },
            |story, all| {
                let pans: Vec<Secret> = all.iter().map(|_| story.fresh()).collect();
                let rows = all.iter().zip(pans).map(|(&coin, pan)| (coin, story.models[0].ans[&coin], pan));
                vec![Op::Pown(rows.collect())]
            },
        ];
        for round in 0..20 {
            let ops = rounds[round % 5](&mut story, &all);
            if round % 3 == 2 {
                story.burst_with_crash(ops);
            } else {
                story.burst(ops);
            }
            story.check();
        }
    }
}

#[test]
fn coins_are_passed_on_while_they_arrive() {
    for shards in [1, 2, 4] {
        let mut story = Story::new(shards, 21);
        let coins: Vec<CoinId> = story.models[0].ans.keys().copied().step_by(60).collect();
        let sum = story.models[0].sum(&coins);
        story.burst(vec![Op::Store((coins.clone(), sum), locker_key(1))]);
        for round in 0..150 {
            // Each takes them from where the one before puts them, and all are on their way at once.
            let ops = (0..5u8).map(|step| {
                let rows = coins.iter().map(|&coin| (coin, locker_key((step + 1) % 5))).collect();
                Op::Remove(locker_key(step), rows)
            });
            let mut ops: Vec<Op> = ops.collect();
            let turns = story.random.below(5);
            ops.rotate_left(turns);
            story.burst(ops);
            if round % 30 == 29 {
                let inside = (0..5).map(|key| story.asked(&Op::Peek(locker_key(key))).1.len()).sum::<usize>();
                assert_eq!(inside, coins.len() * 5);
            }
        }
    }
}

#[test]
fn offers_and_their_addresses_outlive_crashes_and_checkpoints() {
    let mut story = Story::new(2, 77);
    for round in 0..150 {
        let all: Vec<CoinId> = story.models[0].ans.keys().copied().collect();
        let few: Vec<CoinId> = (0..5).map(|step| all[(round * 7 + step * 11) % all.len()]).collect();
        let sale = Op::PutForSale(story.batch(&few), story.offer(), story.address());
        let back = Op::TakeBack(story.offer(), Some(story.key()));
        // A remove now and then, so that coins come out of lockers where they share an AN.
        let key = story.key();
        let inside = story.models[0].coins_with(&key);
        let rows: Vec<Row> = inside.into_iter().take(20).map(|coin| (coin, story.fresh())).collect();
        let mut ops = vec![sale, back];
        if !rows.is_empty() {
            ops.push(Op::Remove(key, rows));
        }
        if round % 4 == 3 {
            story.burst_with_crash(ops);
        } else {
            story.burst(ops);
        }
    }
    story.check();
}

#[test]
fn an_offer_is_sold_whole_or_not_at_all() {
    let (world, mut purse) = world_with_coins(4, 3);
    let mut story = Story::of(world, &purse, 3);
    let mut bought_whole = 0;
    for number in 0..12u32 {
        let (an, price) = (offer_an(number, 1 + number), 1 + number);
        let home = raida::shard::partition::market_home_of(raida::coin::TradeCoin::Bitcoin, price, 4).0;
        let coins = purse.take(3);
        // The shard that a buyer of the first two locks first.
        let owner = coins[..2].iter().map(|coin| raida::shard::partition::page_owner(coin.page(), 4).0).min().unwrap();
        let buyer = (0..4).find(|shard| *shard != owner).unwrap();
        let sale = |story: &Story, coins: &[CoinId]| {
            Op::PutForSale((coins.to_vec(), story.models[0].sum(coins)), an, [b'x'; 20])
        };
        let op = sale(&story, &coins[..2]);
        story.burst(vec![op]);
        // The buyer has heard of the offer; then, before he asks for the coins, it is taken back and put up with one more.
        let buy = Op::Buy { key: locker_key(1), value: 200_000_000, price };
        if home != owner {
            story.world.held = Some((buyer, owner));
        }
        let (kind, payload) = buy.payload();
        let token = story.world.send_payload(&at_shard(buyer), kind.command(), &payload);
        story.world.settle();
        let seller = (0..4).find(|shard| ![buyer, owner].contains(shard)).unwrap();
        if story.world.held.is_some() {
            let fresh: Vec<Row> = coins[..2].iter().map(|&coin| (coin, story.fresh())).collect();
            let steps = [
                Op::TakeBack(an, Some(locker_key(2))),
                Op::Remove(locker_key(2), fresh),
                Op::List, // a place for the second sale, which needs the sum of then
            ];
            for step in steps {
                let step = if matches!(step, Op::List) { sale(&story, &coins) } else { step };
                let (kind, payload) = step.payload();
                let answer = ask(&mut story.world, &at_shard(seller), kind, &payload);
                assert_eq!(answer, story.models[0].apply(&step), "{step:?}");
            }
        }
        story.world.held = None;
        story.world.settle();
        let answer = story.world.answer(&at_shard(buyer), token).expect("an answer");
        assert_eq!(answer, story.models[0].apply(&buy));
        bought_whole += usize::from(answer.0 == Status::AllPass);
        // The next number starts from an empty locker.
        let inside = story.models[0].coins_with(&locker_key(1));
        let rows: Vec<Row> = inside.into_iter().map(|coin| (coin, story.fresh())).collect();
        if !rows.is_empty() {
            story.burst(vec![Op::Remove(locker_key(1), rows)]);
        }
    }
    assert!((1..12).contains(&bought_whole), "both stories were told");
}

#[test]
fn a_log_at_rest_is_marked_once_and_then_rot_in_any_answered_record_is_named() {
    let (mut world, mut purse) = world_with_coins(3, 11);
    for number in 1..4 {
        let coins = purse.take(3);
        assert_eq!(purse.store(&mut world, &at_shard(1), &coins, locker_key(number)).0, Status::AllPass);
    }
    let (operations, time) = (world.storage.operations(), world.monotonic_us);
    world.settle();
    assert_eq!((world.storage.operations(), world.monotonic_us), (operations, time), "one mark, then silence");
    world.storage.crash(0);
    // Each record has a block and its mark the next.
    let open_with_rot = |block: u64| {
        let storage = world.storage.clone();
        storage.flip("log/1/segment-0", block * 4096 + 40);
        recovery::open(&storage, 3, WorldOptions::small(3, 0).geometry)
    };
    for block in 0..5 {
        let error = open_with_rot(block).unwrap_err().to_string();
        assert!(error.starts_with(&format!("log/1/segment-0 is damaged at offset {}, batch", block * 4096)), "{error}");
    }
    assert_eq!(open_with_rot(5).unwrap().recovered, 3, "rot in the last mark loses nothing");
}

#[test]
fn a_page_that_rots_is_not_served_and_all_others_are() {
    // Bytes that are no longer what they were, and a page that is gone: it must not pass for one of free coins.
    for damage in [&[0xA5; 3][..], &[0; PAGE_BYTES]] {
        a_damaged_page_is_not_served(damage);
    }
}

fn a_damaged_page_is_not_served(damage: &[u8]) {
    let (mut world, mut purse) = world_with_coins(2, 4);
    let coins = purse.take(20);
    let rotten = coins[0];
    let others: Vec<CoinId> = coins.iter().copied().filter(|coin| coin.page() != rotten.page()).collect();
    let detect = |purse: &Purse, coins: &[CoinId]| payload::detect(&purse.rows(coins));
    // The cache has other pages by then.
    assert_eq!(status(&mut world, Detect, &detect(&purse, &others)), Status::AllPass);
    let page = rotten.page();
    let path = raida::store::files::coins(page.denomination());
    let at = raida::store::files::page_offset(page);
    world.storage.write_durably(&path, at, damage).unwrap();
    let client = Client::default();
    let pan = purse.fresh();
    let row = (rotten.into(), purse.an(rotten), pan);
    assert_eq!(ask(&mut world, &client, Detect, &detect(&purse, &coins)), (Status::Filesystem, vec![]));
    assert_eq!(status(&mut world, Pown, &payload::pown(&[row])), Status::Filesystem);
    let sealed = crate::common::sealed_1(rotten, purse.an(rotten));
    assert_eq!(ask(&mut world, &sealed, Echo, b"").0, Status::Filesystem);
    assert_eq!(status(&mut world, Detect, &detect(&purse, &others)), Status::AllPass);
    assert_eq!(purse.store(&mut world, &client, &others, locker_key(1)).0, Status::AllPass);
    assert!((0..2).all(|shard| !world.shard(shard).has_failed()));
    assert!(world.shut_down());
}

#[test]
fn equal_nodes_offer_a_session_the_same_whatever_their_shards() {
    let mut nodes: Vec<(World, Purse)> = [1, 2, 4].map(|shards| world_with_coins(shards, 9)).into();
    let mut seen = std::collections::BTreeSet::new();
    for session in 1..60u32 {
        let (operation, den) = [(1, 0), (2, -1), (1, 1), (2, 0), (1, 6), (2, -8)][session as usize % 6];
        let offers: Vec<Vec<RawCoin>> =
            nodes.iter_mut().map(|(world, purse)| purse.offered(world, session, operation, den)).collect();
        assert!(offers.iter().all(|offer| *offer == offers[0] && offer.len() == 64));
        assert!(offers[0].iter().all(|coin| seen.insert(*coin)), "nobody else's as long as he holds them");
        if session % 6 == 0 {
            // A break on each changes the free maps alike.
            let source = nodes[0].1.take(1)[0];
            for (world, purse) in &mut nodes {
                let client = Client { peer: "127.0.0.1".parse().unwrap(), ..Client::default() };
                let rows = purse.fresh_rows(&offers[0][..10]);
                let payload = payload::exchange(session, (source.into(), purse.an(source)), &rows);
                assert_eq!(ask(world, &client, Break, &payload).0, Status::Success);
            }
            offers[0].iter().for_each(|coin| _ = seen.remove(coin));
        }
    }
}
