//! A warm node takes no memory from the heap: no command allocates, in a shard alone and in a whole node over both
//! transports, one request at a time, many at once, and when they wait for each other or for the disk.
//!
//! All of it is one test: the allocator counts for the whole process.

use std::alloc::System;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use raida::config::Config;
use raida::node::{Node, NodeOptions};
use raida::settings::Settlement;
use raida::sim::World;
use raida::sim::lone::Lone;
use raida::sim::round::{Step, coins, steps};
use raida::store::recovery;
use raida::store::storage::Directory;
use raida::store::wal::Geometry;
use raida::wire::request::CommandKind;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Rounds until everything is warm, and rounds that are counted: 18 requests each.
const WARM: usize = 300;
const COUNTED: usize = 100;
/// Coins of a locker, and where the cache is to be cold.
const COINS: u32 = 3;
const COLD_COINS: u32 = 12;
/// Where an answer has its status.
const STATUS_AT: usize = 2;

#[test]
fn a_warm_request_takes_no_memory() {
    let counted = [
        ("shard alone", shard_alone()),
        ("shard with a cold cache", shard_with_a_cold_cache()),
        ("shard, requests that wait for each other", shard_with_contention()),
        ("node", node()),
    ];
    let mut failures = String::new();
    for (place, allocations) in counted {
        for (command, count) in allocations.iter().filter(|(_, count)| **count > 0) {
            failures += &format!("{place}: {count} allocations in {COUNTED} rounds of {command}\n");
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// Allocations by what made them.
type Allocations = BTreeMap<&'static str, usize>;

/// What the heap was asked for while `work` ran. Memory made larger counts too.
fn allocations(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.allocations + change.reallocations
}

/// Asks every request of the rounds by itself.
fn count_rounds(round: &[Step], mut ask: impl FnMut(&Step)) -> Allocations {
    let mut counts: Allocations = round.iter().map(|step| (step.kind.command().name, 0)).collect();
    for _ in 0..WARM {
        round.iter().for_each(&mut ask);
    }
    for _ in 0..COUNTED {
        for step in round {
            let count = allocations(|| ask(step));
            *counts.get_mut(step.kind.command().name).expect("counted above") += count;
        }
    }
    counts
}

fn ask_shard(shard: &mut Lone, step: &Step) {
    assert_eq!(shard.ask(&[&step.frame])[STATUS_AT], step.status.code(), "{}", step.kind.command().name);
}

fn shard_alone() -> Allocations {
    let mut shard = Lone::new(&coins(COINS), 1000);
    let round = steps(COINS, &mut |frame| shard.ask(&[frame]).to_vec());
    count_rounds(&round, |step| ask_shard(&mut shard, step))
}

/// The round's coins lie on more pages than the cache has.
fn shard_with_a_cold_cache() -> Allocations {
    let mut shard = Lone::new(&coins(COLD_COINS), 8);
    let round = steps(COLD_COINS, &mut |frame| shard.ask(&[frame]).to_vec());
    count_rounds(&round, |step| ask_shard(&mut shard, step))
}

/// Every request of a kind several times in one turn: some wait for a lock, and of writers the later ones are refused.
fn shard_with_contention() -> Allocations {
    let mut shard = Lone::new(&coins(COINS), 1000);
    let round = steps(COINS, &mut |frame| shard.ask(&[frame]).to_vec());
    count_rounds(&round, |step| {
        let mut answers = shard.ask(&[step.frame.as_slice(); 8]);
        let mut good = 0;
        while let Some((header, rest)) = answers.split_first_chunk() {
            good += usize::from(header[STATUS_AT] == step.status.code());
            answers = &rest[body_bytes(header)..];
        }
        assert!(good > 0, "{}", step.kind.command().name);
    })
}

/// A whole node: what its threads allocate, and the kernel's bytes on their way.
fn node() -> Allocations {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let storage = Directory::open(data.path()).expect("a lock");
    recovery::initialise(&storage, Geometry::default()).expect("an empty data directory");
    World::mint(&storage, &coins(COINS), 1);
    drop(storage);
    let mut config = Config::default();
    config.server.threads = 1;
    let mut options = NodeOptions::new(data.path(), &config);
    options.listen = "127.0.0.1:0".parse().expect("an address");
    options.settings.settlement.fill(Settlement::Trusted);
    let node = Node::start(options).expect("a node that starts");

    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(node.address()).expect("an address");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let mut answer = vec![0; 1 << 16];
    let mut datagram = |frame: &[u8]| {
        socket.send(frame).expect("a datagram sent");
        let bytes = socket.recv(&mut answer).expect("an answer");
        answer[..bytes].to_vec()
    };
    let round = steps(COINS, &mut datagram);

    let mut answer = [0; 1 << 12];
    let mut counts = count_rounds(&round, |step| {
        socket.send(&step.frame).expect("a datagram sent");
        socket.recv(&mut answer).expect("an answer");
        assert_eq!(answer[STATUS_AT], step.status.code());
    });
    counts.insert("64 datagrams at once", many_datagrams(&socket, &round));
    let mut stream = TcpStream::connect(node.address()).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let over_tcp = count_rounds(&round, |step| {
        stream.write_all(&step.frame).expect("a request sent");
        assert_eq!(read_answer(&mut stream), step.status.code());
    });
    counts.insert("all commands over TCP", over_tcp.values().sum());
    counts.insert("64 requests at once over TCP", many_over_tcp(&mut stream, &round));
    drop(stream);
    node.stop().expect("a node that stops");
    counts
}

fn of_kind(round: &[Step], kind: CommandKind) -> &Step {
    round.iter().find(|step| step.kind == kind).expect("a command of the round")
}

/// How many requests come in one piece is the kernel's choice, so the largest piece may come late and make a buffer
/// grow once more: what counts is that this ends.
fn least_allocations(mut ask: impl FnMut()) -> usize {
    const TRIES: usize = 10;
    (0..WARM).for_each(|_| ask());
    let mut counts = (0..TRIES).map(|_| allocations(|| (0..COUNTED).for_each(|_| ask())));
    counts.find(|count| *count == 0).unwrap_or(1)
}

fn many_datagrams(socket: &UdpSocket, round: &[Step]) -> usize {
    let detect = of_kind(round, CommandKind::Detect);
    let mut answer = [0; 1 << 12];
    let ask = || {
        (0..64).for_each(|_| assert!(socket.send(&detect.frame).is_ok()));
        for _ in 0..64 {
            socket.recv(&mut answer).expect("an answer");
            assert_eq!(answer[STATUS_AT], detect.status.code());
        }
    };
    least_allocations(ask)
}

/// In pieces that are no whole frames, so that the node has to keep some.
fn many_over_tcp(stream: &mut TcpStream, round: &[Step]) -> usize {
    let detect = of_kind(round, CommandKind::Detect);
    let frames = detect.frame.repeat(64);
    let ask = || {
        for piece in frames.chunks(1000) {
            stream.write_all(piece).expect("a piece sent");
        }
        (0..64).for_each(|_| assert_eq!(read_answer(stream), detect.status.code()));
    };
    least_allocations(ask)
}

/// Reads an answer; its status.
fn read_answer(stream: &mut TcpStream) -> u8 {
    let (mut header, mut body) = ([0; 32], [0; 1 << 12]);
    stream.read_exact(&mut header).expect("an answer");
    stream.read_exact(&mut body[..body_bytes(&header)]).expect("an answer");
    header[STATUS_AT]
}

fn body_bytes(header: &[u8; 32]) -> usize {
    u32::from_be_bytes([0, header[9], header[10], header[11]]) as usize
}
