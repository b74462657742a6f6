//! Verify and rebuild on directories of nodes that lived: what is damaged is seen, what is called repairable is
//! repaired to the byte, and what is only half written by a crash is no damage.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use raida::coin::{CoinId, CoinRecord, Denomination, Place, Secret, TradeCoin};
use raida::sim::{Client, World};
use raida::store::error::StoreError;
use raida::store::pages::read_pages;
use raida::store::rebuild::{DAMAGED, rebuild};
use raida::store::recovery::open_as_it_is;
use raida::store::storage::{Memory, Storage, Zeros};
use raida::store::verify::{Repair, Report, Verdict, verify};
use raida::wire::status::Status;

use crate::common::{Purse, at_shard, locker_key, trade_an, world_with_coins};

/// What a directory holds: coins in circulation and what trade lockers are sold under.
#[derive(Clone, PartialEq, Debug)]
pub struct Content {
    coins: BTreeMap<CoinId, CoinRecord>,
    orders: BTreeMap<[u8; 16], ([u8; 129], u64)>,
}

impl Content {
    /// As the next start has it. The directory is left as it is.
    pub fn of(memory: &Memory) -> Result<Self, StoreError> {
        let memory = memory.clone();
        let opened = open_as_it_is(&memory)?;
        let mut coins = BTreeMap::new();
        read_pages(&memory, &opened.used, &mut |page, frame, _| {
            let records = (0..1024).map(|slot| (page.coin(slot), frame.record(slot)));
            coins.extend(records.filter(|(_, record)| !record.is_free()));
        })?;
        let an = |record: &CoinRecord| matches!(record.place(), Place::TradeLocker(_)).then(|| *record.an.bytes());
        let on_sale: BTreeSet<[u8; 16]> = coins.values().filter_map(an).collect();
        let orders = opened.orders.iter().filter(|order| on_sale.contains(order.an.bytes()));
        let orders = orders.map(|order| (*order.an.bytes(), (order.address.encode(), order.sequence))).collect();
        Ok(Self { coins, orders })
    }

    /// Whether a report counts what is here.
    pub fn is_counted_by(&self, report: &Report) -> bool {
        let count = |den: Denomination, is: fn(Place) -> bool| {
            self.coins.iter().filter(|(coin, record)| coin.denomination() == den && is(record.place())).count() as u64
        };
        report.orders == self.orders.len() as u64
            && Denomination::all().zip(&report.totals).all(|(den, totals)| {
                totals.circulation == count(den, |_| true)
                    && totals.lockers == count(den, |place| matches!(place, Place::Locker(_)))
                    && totals.on_sale == count(den, |place| matches!(place, Place::TradeLocker(_)))
                    && (totals.not_for_sale, totals.unknown) == (0, 0)
            })
    }
}

/// A node that has done something of everything, running, with nothing under way.
fn lived(shards: u8, seed: u64) -> (World, Purse) {
    let (mut world, mut purse) = world_with_coins(shards, seed);
    act(&mut world, &mut purse, 1);
    (world, purse)
}

/// Fills lockers and trade lockers, empties one, and breaks a coin into ones on pages never used.
fn act(world: &mut World, purse: &mut Purse, round: u8) {
    // Each shard has a part in its log.
    let [client, other] = [0, 1].map(at_shard);
    let [stored, removed, sold, sold_too] = [4, 3, 2, 2].map(|count| purse.take_of(0, count));
    assert_eq!(purse.store(world, &client, &stored, locker_key(round)).0, Status::AllPass);
    assert_eq!(purse.store(world, &other, &removed, locker_key(round + 100)).0, Status::AllPass);
    for (coins, price) in [(sold, 100), (sold_too, 200)] {
        let an = trade_an(round, price, TradeCoin::Bitcoin);
        assert_eq!(purse.put_for_sale(world, &client, &coins, an).0, Status::AllPass);
    }
    let broken = purse.take_of(-1, 1)[0];
    purse.break_coin(world, &client, u32::from(round), broken);
}

/// Directories in every state an operator meets: killed in the first life, stopped, killed in the second life.
pub fn directories(shards: u8, seed: u64) -> [Memory; 3] {
    let (mut world, mut purse) = lived(shards, seed);
    let killed = world.storage.clone();
    assert!(world.shut_down());
    let stopped = world.storage.clone();
    world.crash(shards);
    act(&mut world, &mut purse, 2);
    [killed, stopped, world.storage.clone()]
}

fn report(memory: &Memory) -> Report {
    let operations = memory.operations();
    let report = verify(memory, &mut |_, _| {}).expect("a data directory");
    assert_eq!(memory.operations(), operations, "verify changes nothing");
    report
}

fn repaired(memory: &Memory, damaged: &Report) -> Report {
    rebuild(memory, damaged, "now", &mut |_, _| {}).expect("a directory that is repairable").report
}

/// Every file, by name.
fn files(memory: &Memory) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![String::new()];
    while let Some(directory) = left.pop() {
        for name in memory.list(&directory).expect("names") {
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            match memory.length(&path).expect("a length") {
                Some(_) => found.push(path),
                None => left.push(path),
            }
        }
    }
    found.sort_unstable();
    found
}

/// Flips one bit, most often one near others that are set.
fn flip(memory: &Memory, seed: u64) -> Option<(String, u64)> {
    let mut random = raida::sim::Seeded(seed);
    let files = files(memory);
    let path = files[random.below(files.len())].clone();
    let length = memory.length(&path).expect("a length").expect("a file");
    if length == 0 {
        return None;
    }
    let mut at = random.number() % length;
    if !random.one_in(8) {
        at = memory.data_from(&path, at).expect("data").unwrap_or(at);
    }
    let mut byte = [0];
    memory.read_at(&path, at, &mut byte).expect("a byte");
    byte[0] ^= 1 << random.below(8);
    memory.write_durably(&path, at, &byte).expect("a byte");
    Some((path, at))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// One bit flips, anywhere in any file. What verify calls clean is whole; what it calls repairable, rebuild makes
    /// what it was; what it calls damaged, no start would have.
    #[test]
    fn a_flipped_bit_is_seen(shards in 1..4u8, seed in any::<u64>()) {
        for before in directories(shards, seed % 4) {
            let content = Content::of(&before).expect("a whole directory");
            for flips in 0..12 {
                let memory = before.clone();
                let Some(flipped) = flip(&memory, seed.wrapping_add(flips)) else { continue };
                let Ok(report) = verify(&memory, &mut |_, _| {}) else {
                    prop_assert!(Content::of(&memory).is_err(), "{:?}", flipped);
                    continue;
                };
                let found = Content::of(&memory);
                match report.verdict() {
                    Verdict::Clean => prop_assert_eq!(found.expect("a whole directory"), content.clone(), "{:?}", flipped),
                    Verdict::Repairable => {
                        let after = repaired(&memory, &report);
                        prop_assert_eq!(after.verdict(), Verdict::Clean, "{:?}: {:?}", flipped, after.findings);
                        prop_assert_eq!(Content::of(&memory).expect("repaired"), content.clone(), "{:?}", flipped);
                    }
                    Verdict::Damaged => {
                        prop_assert!(!found.is_ok_and(|found| found == content), "{:?}: {:?}", flipped, report.findings);
                    }
                }
                if report.verdict() != Verdict::Damaged {
                    prop_assert!(content.is_counted_by(&report), "{:?}: {:?}", flipped, report);
                }
            }
        }
    }

    /// A machine that stops in the midst of everything leaves nothing that is damaged.
    #[test]
    fn a_crash_is_no_damage(shards in 1..4u8, seed in any::<u64>(), steps in 0..400usize) {
        let (mut world, mut purse) = lived(shards, seed % 4);
        for _ in 0..6 {
            let coins = purse.coins(3);
            let sum = coins.iter().fold(Secret::default(), |sum, coin| sum.xor(purse.an(*coin)));
            let payload = crate::common::payload::store(&crate::common::payload::raw(&coins), sum, locker_key(9));
            world.send_payload(&Client::default(), raida::wire::request::CommandKind::Store.command(), &payload);
        }
        (0..steps).for_each(|_| { world.advance(); });
        let memory = world.storage.clone();
        memory.crash(seed);
        let report = report(&memory);
        prop_assert!(report.verdict() != Verdict::Damaged, "{:?}", report.findings);
        prop_assert!(Content::of(&memory).expect("recovers").is_counted_by(&report), "{:?}", report);
    }
}

#[test]
fn what_was_merely_killed_is_clean() {
    for shards in [1, 2, 3] {
        let [killed, stopped, again] = directories(shards, 7);
        for (memory, to_replay) in [(killed, true), (stopped, false), (again, true)] {
            let report = report(&memory);
            assert_eq!(report.verdict(), Verdict::Clean, "{:?}", report.findings);
            assert_eq!(report.to_replay > 0, to_replay);
            assert!(Content::of(&memory).expect("whole").is_counted_by(&report), "{report:?}");
            let coins: u64 = report.totals.iter().map(|totals| totals.circulation + totals.free()).sum();
            assert_eq!(coins, 15_360_000);
        }
    }
}

/// What each kind of damage comes to.
fn damage(memory: &Memory, does: impl Fn(&Memory)) -> (Report, Memory) {
    let memory = memory.clone();
    does(&memory);
    (report(&memory), memory)
}

fn lines(report: &Report) -> Vec<String> {
    report.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_lost_page_is_named_with_its_coins() {
    let [_, stopped, _] = directories(2, 3);
    let page = 0;
    let (lost, _) = damage(&stopped, |memory| memory.write_durably("coins/08.pages", page, &[0; 20_480]).unwrap());
    assert_eq!(lost.verdict(), Verdict::Damaged);
    assert_eq!(
        lines(&lost),
        ["damaged     coins/08.pages page 0 of denomination 0 (coins 0:0 to 0:1023): held coins and reads as zeros"]
    );
    assert_eq!(lost.totals[8].unknown, 1024);
    let (flipped, _) = damage(&stopped, |memory| memory.flip("coins/08.pages", 99));
    assert_eq!(
        lines(&flipped),
        [
            "damaged     coins/08.pages page 0 of denomination 0 (coins 0:0 to 0:1023): damaged, and no whole copy is left"
        ]
    );
    let (gone, _) = damage(&stopped, |memory| memory.remove("coins/08.pages").unwrap());
    assert!(lines(&gone)[0].starts_with("repairable  coins/08.pages is missing"), "{:?}", lines(&gone));
    assert_eq!(gone.verdict(), Verdict::Damaged);
}

/// The image of orders of log 0 that does not count.
fn other_image(memory: &Memory) -> String {
    let counts = (0..2).find(|slot| {
        let (damaged, _) = damage(memory, |memory| memory.remove(&format!("log/0/orders-{slot}")).unwrap());
        lines(&damaged).iter().any(|line| line.ends_with("the other image counts"))
    });
    format!("log/0/orders-{}", counts.expect("one of them does not count"))
}

#[test]
fn everything_repairable_is_repaired_at_once_and_kept() {
    for memory in directories(2, 11) {
        let content = Content::of(&memory).unwrap();
        let (damaged, memory) = damage(&memory, |memory| {
            memory.flip("log/0/control", 30);
            memory.flip("log/1/control", 4096 + 30);
            memory.remove("node").unwrap();
            memory.remove("log/0/double").unwrap();
            memory.flip("coins/00.pages", 12_345);
            memory.remove("coins/14.pages").unwrap();
            memory.create("coins/13.pages", 7, Zeros::Hole).unwrap();
            memory.create_directory("log/2.new").unwrap();
            memory.create("log/0/segment-7.new", 5, Zeros::Hole).unwrap();
            memory.remove(&other_image(memory)).unwrap();
        });
        assert_eq!(damaged.verdict(), Verdict::Repairable, "{:?}", lines(&damaged));
        let findings = damaged.findings.len();
        assert!((10..=11).contains(&findings), "{:?}", lines(&damaged));
        assert!(damaged.findings.iter().any(|finding| finding.repair == Some(Repair::Zeros)));
        let kept = rebuild(&memory, &damaged, "now", &mut |_, _| {}).unwrap();
        assert_eq!(kept.report.verdict(), Verdict::Clean, "{:?}", lines(&kept.report));
        assert_eq!(Content::of(&memory).unwrap(), content);
        let names = memory.list(DAMAGED).unwrap();
        assert_eq!(names.len(), kept.kept.len());
        assert!(names.contains(&"now-coins-00.pages-0".to_string()), "{names:?}");
        let mut bytes = [0; 2];
        memory.read_at("damaged/now-coins-00.pages-0", 12_345, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 0]);
    }
}

#[test]
fn a_rebuild_may_be_interrupted_anywhere() {
    let [_, _, killed] = directories(2, 19);
    let content = Content::of(&killed).unwrap();
    let (damaged, memory) = damage(&killed, |memory| {
        memory.flip("log/0/control", 30);
        memory.remove("node").unwrap();
        memory.create("coins/13.pages", 7, Zeros::Hole).unwrap();
        memory.flip("coins/00.pages", 5);
    });
    let before = memory.operations();
    let whole = memory.clone();
    assert_eq!(repaired(&whole, &damaged).verdict(), Verdict::Clean);
    let operations = whole.operations() - before;
    assert!(operations > 40, "{operations}");
    for crash_after in 1..=operations {
        let memory = memory.clone();
        memory.crash_after(crash_after);
        rebuild(&memory, &damaged, "now", &mut |_, _| {}).unwrap_err();
        memory.crash(crash_after);
        let left = report(&memory);
        assert_ne!(left.verdict(), Verdict::Damaged, "crash after {crash_after}: {:?}", lines(&left));
        if left.verdict() == Verdict::Repairable {
            assert_eq!(repaired(&memory, &left).verdict(), Verdict::Clean, "crash after {crash_after}");
        }
        assert_eq!(Content::of(&memory).unwrap(), content, "crash after {crash_after}");
    }
}

#[test]
fn a_page_torn_in_its_place_comes_back_from_its_copy() {
    let [_, stopped, _] = directories(1, 23);
    let content = Content::of(&stopped).unwrap();
    // The last batch of the last checkpoint is still in the area.
    let mut area = vec![0; 4096 + 20_480];
    stopped.read_at("log/0/double", 0, &mut area).unwrap();
    let number = u64::from(u16::from_be_bytes([area[16], area[17]]));
    let (path, offset) = (format!("coins/{:02}.pages", number / 1000), number % 1000 * 20_480);
    for torn in [vec![0xA5; 512], vec![0; 20_480]] {
        let (damaged, memory) = damage(&stopped, |memory| memory.write_durably(&path, offset, &torn).unwrap());
        assert_eq!(damaged.verdict(), Verdict::Repairable, "{:?}", lines(&damaged));
        assert!(lines(&damaged)[0].ends_with("a double-write area has it whole"), "{:?}", lines(&damaged));
        assert_eq!(repaired(&memory, &damaged).verdict(), Verdict::Clean);
        assert_eq!(Content::of(&memory).unwrap(), content);
    }
}

#[test]
fn a_lost_image_of_payout_addresses_comes_back_from_the_other_and_the_logs() {
    let [_, stopped, _] = directories(1, 5);
    let content = Content::of(&stopped).unwrap();
    let mut derived = 0;
    for path in ["log/0/orders-0", "log/0/orders-1"] {
        let (damaged, memory) = damage(&stopped, |memory| memory.flip(path, 10));
        assert_eq!(damaged.verdict(), Verdict::Repairable, "{:?}", lines(&damaged));
        derived += usize::from(lines(&damaged)[0].ends_with("the other image and the logs have all"));
        assert_eq!(repaired(&memory, &damaged).verdict(), Verdict::Clean);
        assert_eq!(Content::of(&memory).unwrap(), content);
    }
    assert_eq!(derived, 1, "one of them counts");
}

#[test]
fn a_lost_control_block_is_made_again_from_segments_and_other_logs() {
    for memory in directories(2, 29) {
        let content = Content::of(&memory).unwrap();
        for shard in 0..2 {
            let (damaged, memory) = damage(&memory, |memory| memory.remove(&format!("log/{shard}/control")).unwrap());
            assert_eq!(damaged.verdict(), Verdict::Repairable, "{:?}", lines(&damaged));
            assert!(content.is_counted_by(&damaged));
            assert_eq!(repaired(&memory, &damaged).verdict(), Verdict::Clean);
            assert_eq!(Content::of(&memory).unwrap(), content);
        }
        let (damaged, _) = damage(&memory, |memory| {
            (0..2).for_each(|shard| memory.remove(&format!("log/{shard}/control")).unwrap());
        });
        assert_eq!(damaged.verdict(), Verdict::Damaged, "{:?}", lines(&damaged));
    }
    // With a batch lost in between it is no longer certain.
    let [killed, ..] = directories(2, 29);
    let (damaged, _) = damage(&killed, |memory| {
        memory.remove("log/0/control").unwrap();
        memory.flip("log/0/segment-0", 60);
    });
    assert_eq!(damaged.verdict(), Verdict::Damaged, "{:?}", lines(&damaged));
}

#[test]
fn a_segment_is_made_anew_where_nothing_can_have_been_in_it() {
    let [_, stopped, _] = directories(1, 5);
    let content = Content::of(&stopped).unwrap();
    // The log began a new segment at the last start, and came no further.
    let (damaged, memory) = damage(&stopped, |memory| memory.remove("log/0/segment-2").unwrap());
    assert_eq!(lines(&damaged), ["repairable  log/0/segment-2 is missing"]);
    assert_eq!(repaired(&memory, &damaged).verdict(), Verdict::Clean);
    assert_eq!(Content::of(&memory).unwrap(), content);
    let (damaged, _) = damage(&stopped, |memory| memory.remove("log/0/segment-0").unwrap());
    assert_eq!(damaged.verdict(), Verdict::Damaged, "{:?}", lines(&damaged));
}

#[test]
fn a_log_that_is_missing_is_damage() {
    let [_, stopped, _] = directories(2, 5);
    let (damaged, _) = damage(&stopped, |memory| {
        for name in memory.list("log/1").unwrap() {
            memory.remove(&format!("log/1/{name}")).unwrap();
        }
        memory.remove_directory("log/1").unwrap();
    });
    assert_eq!(lines(&damaged), ["damaged     log/1 is missing: commands may be lost"]);
}

#[test]
fn what_is_no_data_directory_is_refused() {
    let [killed, ..] = directories(1, 2);
    let says = |does: &dyn Fn(&Memory)| {
        let memory = killed.clone();
        does(&memory);
        verify(&memory, &mut |_, _| {}).unwrap_err().to_string()
    };
    assert!(says(&|memory| memory.write_durably("node", 29, b"2").unwrap()).contains("names another format"));
    let other = Memory::new();
    assert!(verify(&other, &mut |_, _| {}).unwrap_err().to_string().contains("it has no file `node`"));
}
