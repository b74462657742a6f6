//! The rows: what is measured beside what, and what is wanted of it.

mod disk;

use std::path::Path;

use raida::store::wal::record_bytes;

use super::Bench;
use super::processes::{Outcome, Sample, Server, load, load_beside, log_alone, prepare};

/// A row.
pub struct Row {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What is done.
    pub operation: &'static str,
    /// Over what.
    pub transport: &'static str,
    /// How much of it at once.
    pub in_flight: &'static str,
    /// What is wanted of the ratio.
    pub wanted: &'static str,
    /// Measures it.
    pub measure: fn(&Bench) -> Outcome<Measured>,
}

/// What came of a row.
pub struct Measured {
    /// The node's figure, with its unit.
    pub ours: String,
    /// The other's.
    pub theirs: String,
    /// The median of the rounds' ratios.
    pub ratio: f64,
    /// The node's latencies, microseconds; 0 where there are none.
    pub p50: f64,
    /// 99 of a hundred.
    pub p99: f64,
    /// Microseconds of processor for an answer, of both; 0 where it is not measured.
    pub cpu_us: [f64; 2],
    /// Whether what is wanted holds.
    pub holds: bool,
}

const fn row(
    (name, operation, transport, in_flight): (&'static str, &'static str, &'static str, &'static str),
    wanted: &'static str,
    measure: fn(&Bench) -> Outcome<Measured>,
) -> Row {
    Row { name, operation, transport, in_flight, wanted, measure }
}

/// Every row, in the order of the table.
pub const ROWS: &[Row] = &[
    row(("udp-echo", "echo", "UDP", "64"), "≥ 0.85", |bench| {
        beside_echo(bench, HALF, "--operation echo --in-flight 64", 0.85)
    }),
    row(("udp-peek", "peek", "UDP", "64"), "≥ 0.85", |bench| {
        beside_echo(bench, HALF, "--operation peek --in-flight 64", 0.85)
    }),
    row(("udp-detect", "detect of 3", "UDP", "64"), "≥ 0.85", |bench| {
        beside_echo(bench, HALF, "--operation detect --coins 3 --in-flight 64", 0.85)
    }),
    row(("sns-half", "get SNs, half full", "UDP", "64"), "≥ 0.75", |bench| {
        beside_echo(bench, HALF, "--operation sns --in-flight 64", 0.75)
    }),
    row(("sns-full", "get SNs, 99.99% full", "UDP", "64"), "≥ 0.75", |bench| {
        beside_echo(bench, FULL, "--operation sns --in-flight 64", 0.75)
    }),
    row(("sns-alike", "get SNs, half full beside full", "UDP", "64"), "0.9 to 1.1", |bench| {
        two_nodes(bench, [(HALF, &[]), (FULL, &[])], ["--operation sns --in-flight 64"; 2], 0.9..=1.1)
    }),
    row(("udp-1", "peek, p50", "UDP", "1"), "≤ 1.25", p50_beside_echo),
    row(("tcp-1", "peek", "TCP, 64 connections", "1 each"), "≥ 0.90", |bench| {
        beside_echo(bench, HALF, "--operation peek --tcp --connections 64 --pipeline 1", 0.90)
    }),
    row(("tcp-8", "peek", "TCP, 64 connections", "8 each"), "≥ 0.60", |bench| {
        beside_echo(bench, HALF, "--operation peek --tcp --connections 64 --pipeline 8", 0.60)
    }),
    row(("tcp-32", "peek", "TCP, 64 connections", "32 each"), "≥ 0.25", |bench| {
        beside_echo(bench, HALF, "--operation peek --tcp --connections 64 --pipeline 32", 0.25)
    }),
    row(("locker-floor", "put, remove 3, durable", "UDP", "256"), "≥ 0.60", |bench| {
        beside_durable(bench, "--operation locker --coins 3 --in-flight 256", 3, 0.60)
    }),
    row(("locker-none", "put, remove 3, beside durability none", "UDP", "256"), "≥ 0.60", |bench| {
        let words = ["--operation locker --coins 3 --in-flight 256"; 2];
        two_nodes(bench, [(HALF, &[]), (OTHER, &["--durability", "none"])], words, 0.60..=f64::MAX)
    }),
    row(
        ("locker-1", "put, remove 3, p50, load on the node's processor, beside one append", "UDP", "1"),
        "≤ 1.3",
        locker_beside_append,
    ),
    row(("million", "peek, 1,000,000 lockers beside 1,000", "UDP", "64"), "≥ 0.95", |bench| {
        let words = ["--operation peek --lockers 1000000 --in-flight 64", "--operation peek --in-flight 64"];
        two_nodes(bench, [(MILLION, &[]), (HALF, &[])], words, 0.95..=f64::MAX)
    }),
    row(("two-shards", "put, remove 2, CPU a command, two shards beside one", "UDP", "256"), "≤ 2", two_shards),
    row(("change", "SNs, break, SNs, join, durable", "UDP", "256"), "≥ 0.40", |bench| {
        beside_durable(bench, "--operation change --in-flight 256", 11, 0.40)
    }),
    row(("start", "start of 15,360,000 coins, beside reading", "–", "–"), "≤ 1.5, ≤ 1 s", disk::start),
    row(("memory", "memory with 1,000,000 lockers of 3, beside its bound", "–", "–"), "≤ 1", memory),
    row(("cold", "warm detect, p99, beside reads that are cold and kept", "UDP", "8"), "≤ 2", disk::cold),
    row(
        ("checkpoint", "put, remove 3, p99, with checkpoints beside without", "UDP", "20,000/s"),
        "≤ 3",
        disk::checkpoint,
    ),
];

/// A data directory: its name and how it is made.
pub type Data = (&'static str, &'static str);
/// Half of all coins in circulation.
pub const HALF: Data = ("half", "--used 0.5 --lockers 1000");
/// The same once more, for two nodes at once.
pub const OTHER: Data = ("other", "--used 0.5 --lockers 1000");
const FULL: Data = ("full", "--used 0.9999 --lockers 1000");
const MILLION: Data = ("million", "--used 0.5 --lockers 1000000");

/// The node on a data directory.
pub fn node(bench: &Bench, (name, words): Data, more: &[&str]) -> Outcome<Server> {
    Server::node(&prepare(&bench.place, name, words)?, more)
}

fn rates(ours: &Sample, theirs: &Sample) -> f64 {
    ours.rate / theirs.rate
}

fn p50s(ours: &Sample, theirs: &Sample) -> f64 {
    ours.p50 / theirs.p50
}

/// 99 of a hundred.
pub fn p99s(ours: &Sample, theirs: &Sample) -> f64 {
    ours.p99 / theirs.p99
}

fn of_loads((ours, theirs, ratio): (Sample, Sample, f64), [our, their]: [String; 2], holds: bool) -> Measured {
    let cpu_us = [ours.cpu_us, theirs.cpu_us];
    Measured { ours: our, theirs: their, ratio, p50: ours.p50, p99: ours.p99, cpu_us, holds }
}

fn by_rate((ours, theirs, ratio): (Sample, Sample, f64), holds: bool) -> Measured {
    let rate = |sample: &Sample| format!("{:.0}/s", sample.rate);
    of_loads((ours, theirs, ratio), [rate(&ours), rate(&theirs)], holds)
}

fn by_p50((ours, theirs, ratio): (Sample, Sample, f64), holds: bool) -> Measured {
    let time = |sample: &Sample| format!("{:.0} µs", sample.p50);
    of_loads((ours, theirs, ratio), [time(&ours), time(&theirs)], holds)
}

/// By the time below which 99 of a hundred latencies are.
pub fn by_p99((ours, theirs, ratio): (Sample, Sample, f64), holds: bool) -> Measured {
    let time = |sample: &Sample| format!("{:.0} µs", sample.p99);
    of_loads((ours, theirs, ratio), [time(&ours), time(&theirs)], holds)
}

/// An echo of the same sizes as a load's requests and answers.
fn echo_like(bench: &Bench, node: &Server, words: &str) -> Outcome<Server> {
    let sizes = load(node, words, 0.2)?;
    let (request, answer) = (sizes.request_bytes.round().to_string(), sizes.answer_bytes.round().to_string());
    Server::floor(&bench.floor, &["echo", "--answer-bytes", &answer, "--request-bytes", &request])
}

/// A load on the node and on an echo.
fn on_both(
    bench: &Bench,
    data: Data,
    words: &str,
    ratio: fn(&Sample, &Sample) -> f64,
) -> Outcome<(Sample, Sample, f64)> {
    let node = node(bench, data, &[])?;
    let floor = echo_like(bench, &node, words)?;
    bench.in_turns(|| load(&node, words, bench.seconds), || load(&floor, words, bench.seconds), ratio)
}

fn beside_echo(bench: &Bench, data: Data, words: &str, least: f64) -> Outcome<Measured> {
    let sides = on_both(bench, data, words, rates)?;
    Ok(by_rate(sides, sides.2 >= least))
}

fn p50_beside_echo(bench: &Bench) -> Outcome<Measured> {
    let sides = on_both(bench, HALF, "--operation peek --in-flight 1", p50s)?;
    Ok(by_p50(sides, sides.2 <= 1.25))
}

/// The floor that appends, for each request, a record of so many coins. It is asked as for the locker cycle whatever the
/// node is asked, as it looks at nothing: each of its answers waits for the disk, also where only half of the node's do.
fn beside_durable(bench: &Bench, words: &str, coins: usize, least: f64) -> Outcome<Measured> {
    let node = node(bench, HALF, &[])?;
    let sizes = load(&node, words, 0.2)?;
    let (answer, record) = (sizes.answer_bytes.round().to_string(), record_bytes(coins, 0).to_string());
    let log = bench.place.join("floor-log");
    let file = log.to_str().ok_or("a path that is text")?;
    let floor =
        Server::floor(&bench.floor, &["durable", "--answer-bytes", &answer, "--record-bytes", &record, "--log", file])?;
    let writes = "--operation locker --in-flight 256";
    let ours = || load(&node, words, bench.seconds);
    let sides = bench.in_turns(ours, || load(&floor, writes, bench.seconds), rates)?;
    Ok(by_rate(sides, sides.2 >= least))
}

fn two_nodes(
    bench: &Bench,
    [(ours, our_words), (theirs, their_words)]: [(Data, &[&str]); 2],
    [our_load, their_load]: [&str; 2],
    wanted: std::ops::RangeInclusive<f64>,
) -> Outcome<Measured> {
    let (ours, theirs) = (node(bench, ours, our_words)?, node(bench, theirs, their_words)?);
    let sides =
        bench.in_turns(|| load(&ours, our_load, bench.seconds), || load(&theirs, their_load, bench.seconds), rates)?;
    Ok(by_rate(sides, wanted.contains(&sides.2)))
}

fn locker_beside_append(bench: &Bench) -> Outcome<Measured> {
    let node = node(bench, HALF, &[])?;
    let file = bench.place.join("floor-log");
    let sides = bench.in_turns(
        || load_beside(&node, "--operation locker --coins 3 --in-flight 1", bench.seconds),
        || log_alone(&bench.floor, &file, record_bytes(3, 0), bench.seconds),
        p50s,
    )?;
    Ok(by_p50(sides, sides.2 <= 1.3))
}

/// What a command costs in processor time, the looking around before a sleep included, where two shards share it.
fn two_shards(bench: &Bench) -> Outcome<Measured> {
    let words = "--operation locker --coins 2 --spread --in-flight 256";
    let two = ["--shards", "2", "--cpus", "0,1", "--durability", "none"];
    let (two, one) = (node(bench, HALF, &two)?, node(bench, OTHER, &["--durability", "none"])?);
    let sides = bench.in_turns(
        || load(&two, words, bench.seconds),
        || load(&one, words, bench.seconds),
        |ours, theirs| ours.cpu_us / theirs.cpu_us,
    )?;
    let time = |sample: &Sample| format!("{:.2} µs", sample.cpu_us);
    Ok(of_loads(sides, [time(&sides.0), time(&sides.1)], sides.2 <= 2.0))
}

/// What a node may have in memory: its cache, 64 bytes for each coin in lockers, and 48 MiB.
fn memory(bench: &Bench) -> Outcome<Measured> {
    const CACHE_PAGES: u32 = 2000;
    let config = config(&bench.place, "memory.toml", &format!("[store]\ncache_pages = {CACHE_PAGES}\n"))?;
    let node = node(bench, MILLION, &["--config", &config])?;
    load(&node, "--operation detect --pages 1000 --in-flight 64", bench.seconds)?;
    load(&node, "--operation locker --coins 3 --in-flight 256", bench.seconds)?;
    let has = node.resident_bytes()?;
    let allowed = f64::from(CACHE_PAGES) * 20_480.0 + 64.0 * 3_000_000.0 + f64::from(48 << 20);
    let mib = |bytes: f64| format!("{:.0} MiB", bytes / f64::from(1 << 20));
    let ratio = has / allowed;
    Ok(Measured {
        ours: mib(has),
        theirs: mib(allowed),
        ratio,
        p50: 0.0,
        p99: 0.0,
        cpu_us: [0.0; 2],
        holds: ratio <= 1.0,
    })
}

/// A configuration file; its path.
pub fn config(place: &Path, name: &str, text: &str) -> Outcome<String> {
    let path = place.join(name);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    path.into_os_string().into_string().map_err(|path| format!("{} is no text", path.display()))
}
