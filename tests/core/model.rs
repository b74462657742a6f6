//! Stories that random requests seldom tell (the simulator's part): hundreds of coins, coins passed on while they arrive, offers
//! that change under their buyer, pages that rot. Whatever happens at once, the node's answers can be explained by
//! some order of the requests.

use std::net::Ipv4Addr;

use crate::common::payload::{self, offer_an};
use crate::common::{Purse, ask, at_shard, locker_key, status, world_with_coins};
use raida::coin::{CoinId, Secret};
use raida::sim::audit::{at_rest, audit};
use raida::sim::history::{NEVER, Past, explain};
use raida::sim::model::{Answer, Batch, Model, Op, Row};
use raida::sim::{Client, Held, Seeded, World, WorldOptions};
use raida::store::layout::PAGE_BYTES;
use raida::store::recovery;
use raida::store::storage::{Memory, Storage};
use raida::wire::items::RawCoin;
use raida::wire::request::CommandKind::*;
use raida::wire::status::Status;

/// A node, what must be true of it, and where the next request comes from.
pub struct Story {
    pub world: World,
    /// Every state the node may be in; almost always one.
    pub models: Vec<Model>,
    random: Seeded,
}

impl Story {
    fn new(shards: u8, seed: u64) -> Self {
        let (world, purse) = world_with_coins(shards, seed);
        Self::of(world, &purse, seed)
    }

    pub fn of(world: World, purse: &Purse, seed: u64) -> Self {
        Self { world, models: vec![Model::new(purse.all())], random: Seeded(seed ^ 0x5EED) }
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

    fn address(&mut self) -> [u8; 20] {
        let mut address = [b'a'; 20];
        address[..16].copy_from_slice(&self.random.bytes());
        address
    }

    fn batch(&mut self, coins: &[CoinId]) -> Batch {
        (coins.to_vec(), self.models[0].sum(coins))
    }

    /// Sends requests at once.
    fn send(&mut self, ops: Vec<Op>) -> Vec<(Client, u64, Past)> {
        ops.into_iter()
            .map(|op| {
                let (datagram, peer) = (self.random.one_in(3), Ipv4Addr::LOCALHOST.into());
                let client = Client { datagram, peer, ..at_shard(self.random.below(4) as u8) };
                let (kind, payload) = op.payload();
                let sent = self.world.monotonic_us;
                let token = self.world.send_payload(&client, kind.command(), &payload);
                for _ in 0..self.random.below(12) {
                    self.world.advance();
                }
                (client, token, Past { op, answer: None, sent, answered: NEVER })
            })
            .collect()
    }

    /// What has been answered so far.
    fn collect(&mut self, sent: Vec<(Client, u64, Past)>) -> Vec<Past> {
        sent.into_iter()
            .map(|(client, token, mut past)| {
                past.answer = self.world.answer(&client, token).map(|answer| past.op.sorted(answer));
                if past.answer.is_some() {
                    past.answered = self.world.monotonic_us;
                }
                past
            })
            .collect()
    }

    fn explained(&mut self, history: &[Past]) {
        self.models = explain(&self.models, history).unwrap_or_else(|wrong| {
            panic!("no order explains answer {wrong} of {history:#?}");
        });
    }

    /// Runs until nothing is left to do. For a while one road may be slow: whatever does not need it overtakes.
    fn settle(&mut self) {
        if self.random.one_in(2) {
            for _ in 0..self.random.below(60) {
                self.world.advance();
            }
            let shards = self.world.settings.shards as usize;
            let mut shard = || self.random.below(shards) as u8;
            self.world.held = vec![Held::Road(shard(), shard())];
            self.world.settle();
            self.world.held.clear();
        }
        self.world.settle();
    }

    /// Requests at once, all answered.
    pub fn burst(&mut self, ops: Vec<Op>) -> Vec<Past> {
        let sent = self.send(ops);
        self.settle();
        let history = self.collect(sent);
        assert!(history.iter().all(|past| past.answer.is_some()), "nobody waits for ever: {history:#?}");
        self.explained(&history);
        history
    }

    /// Requests at once, and in the midst of them a crash.
    fn burst_with_crash(&mut self, ops: Vec<Op>) {
        let sent = self.send(ops);
        for _ in 0..self.random.below(120) {
            self.world.advance();
        }
        let history = self.collect(sent);
        let shards = 1 + self.random.below(4) as u8;
        self.world.crash(shards);
        self.explained(&history);
        self.models.iter_mut().for_each(Model::restart);
        self.check();
    }

    fn asked(&mut self, op: &Op) -> Answer {
        let (kind, payload) = op.payload();
        let client = at_shard(self.random.below(4) as u8);
        op.sorted(ask(&mut self.world, &client, kind, &payload))
    }

    /// Compares the node with the model.
    pub fn check(&mut self) {
        let world = &self.world;
        let mut wrong = None;
        self.models.retain(|model| audit(world, model).map_err(|error| wrong = Some(error)).is_ok());
        assert!(!self.models.is_empty(), "{wrong:?}");
        assert_eq!(at_rest(&self.world), Ok(()));
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
    Story { world, models: vec![Model::new(coins)], random }
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
            story.world.held = vec![Held::Road(buyer, owner)];
        }
        let (kind, payload) = buy.payload();
        let token = story.world.send_payload(&at_shard(buyer), kind.command(), &payload);
        story.world.settle();
        let seller = (0..4).find(|shard| ![buyer, owner].contains(shard)).unwrap();
        if !story.world.held.is_empty() {
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
        story.world.held.clear();
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
