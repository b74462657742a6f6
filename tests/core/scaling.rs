//! `docs/scaling.md` says how many messages each command takes, and how many bytes of log: this counts them.

use std::collections::BTreeMap;

use raida::sim::round::{Step, coins, steps};
use raida::sim::{Client, World, WorldOptions};
use raida::store::recovery;
use raida::store::storage::Memory;
use raida::store::wal::record_bytes;
use raida::wire::request::CommandKind;

use crate::common::at_shard;

/// Coins of a locker, a trade locker and a detect, each on a page of its own.
const COINS: u32 = 3;

/// A node of so many shards that the round's coins were minted for.
fn node(shards: u8) -> World {
    let options = WorldOptions::small(shards, 5);
    let storage = Memory::new();
    recovery::initialise(&storage, options.geometry).unwrap();
    World::mint(&storage, &coins(COINS), 10);
    let mut world = World::on(storage, &options);
    world.start();
    world
}

fn ask(world: &mut World, client: &Client, frame: &[u8]) -> Vec<u8> {
    let token = world.send_frame(client, frame);
    world.settle();
    world.answer_bytes(token).expect("an answer when nothing is left to do")
}

/// Messages between shards by command, on average over the shards that a request may come to.
fn messages(shards: u8) -> BTreeMap<&'static str, f64> {
    let mut world = node(shards);
    // The rate limit has no place in this: break comes from this machine.
    let client = |shard| Client { peer: [127, 0, 0, 1].into(), ..at_shard(shard) };
    let round = steps(COINS, &mut |frame| ask(&mut world, &client(0), frame));
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for shard in 0..shards {
        for Step { kind, frame, status } in &round {
            let before = world.messages_sent;
            let answer = ask(&mut world, &client(shard), frame);
            assert_eq!(answer[2], status.code(), "{}", kind.command().name);
            let (sum, requests) = counts.entry(kind.command().name).or_default();
            *sum += world.messages_sent - before;
            *requests += 1;
        }
    }
    counts.into_iter().map(|(name, (sum, requests))| (name, sum as f64 / requests as f64)).collect()
}

/// Bytes of a command's commit record.
fn log_bytes(kind: CommandKind) -> usize {
    match kind {
        CommandKind::Store | CommandKind::Remove | CommandKind::Buy | CommandKind::RemoveTradeLocker => {
            record_bytes(COINS as usize, 0)
        }
        CommandKind::PutForSale => record_bytes(COINS as usize, 1),
        CommandKind::Break | CommandKind::Join => record_bytes(11, 0),
        _ => 0,
    }
}

#[test]
fn the_page_on_scaling_has_the_messages_that_are_counted() {
    let page = include_str!("../../docs/scaling.md");
    let [one, two, eight] = [1, 2, 8].map(messages);
    let kinds: BTreeMap<&str, CommandKind> =
        steps_of_one_shard().iter().map(|step| (step.kind.command().name, step.kind)).collect();
    let lines: Vec<String> = kinds
        .iter()
        .map(|(name, &kind)| {
            format!("| {name} | {:.1} | {:.1} | {:.1} | {} |", one[name], two[name], eight[name], log_bytes(kind))
        })
        .collect();
    let missing: Vec<&String> = lines.iter().filter(|line| !page.contains(line.as_str())).collect();
    assert!(missing.is_empty(), "docs/scaling.md should have\n{}", lines.join("\n"));
}

fn steps_of_one_shard() -> Vec<Step> {
    let mut world = node(1);
    steps(COINS, &mut |frame| ask(&mut world, &Client::default(), frame))
}
