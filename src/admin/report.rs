//! `/report.json`: the node's numbers since its start, for the page and for scripts.
//!
//! Counters rise from the start of the process; who wants rates subtracts two reports. Histograms are lists of counts:
//! entry `i` has the values above 2^(i-1) and up to 2^i. Worth is told in whole coins, times in what the name says.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use crate::coin::{DENOMINATIONS, Denomination, TradeCoin};
use crate::command::VERSION;
use crate::histogram::Histogram;
use crate::reactor::counters::Overdue;
use crate::reactor::desk::{Queues, ReactorNumbers};
use crate::shard::numbers::{Fill, Numbers};
use crate::shard::pages::CacheCounters;
use crate::wire::request::{COMMANDS, Command};
use crate::wire::status::{Status, StatusClass};

use super::process::ProcessNumbers;
use super::watcher::View;

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    version: &'static str,
    raida_id: u8,
    coin_id: u16,
    state: &'static str,
    /// Why the node is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    unready: Option<String>,
    /// When the numbers were taken.
    unix_ms: u64,
    uptime_seconds: f64,
    shard_count: usize,
    process: ProcessNumbers,
    commands: Vec<CommandReport>,
    /// Requests refused by their header or for want of room, by status.
    unplanned: BTreeMap<u8, u64>,
    unanswered: u64,
    denominations: Vec<DenominationReport>,
    lockers: u64,
    locker_coins: u64,
    index_bytes: u64,
    market: Vec<MarketReport>,
    log_sync_us: Distribution,
    log_batch_records: Distribution,
    log_batch_bytes: Distribution,
    page_read_us: Distribution,
    place_write_us: Distribution,
    turn_us: Distribution,
    shards: Vec<ShardReport>,
}

/// A histogram.
#[derive(Debug, Serialize)]
struct Distribution {
    buckets: Vec<u64>,
    sum: u64,
}

#[derive(Debug, Serialize)]
struct CommandReport {
    name: &'static str,
    group: u8,
    code: u8,
    /// By kind of answer.
    answers: BTreeMap<&'static str, u64>,
    /// By status byte, those that were answered.
    statuses: BTreeMap<u8, u64>,
    latency_us: Distribution,
}

#[derive(Debug, Serialize)]
struct DenominationReport {
    denomination: i8,
    coins: u64,
    free: u64,
    /// Words of 64 serial numbers, of which any is free.
    free_words: u64,
    /// Words that sessions hold for the moment, and the free serial numbers in them.
    reserved_words: u64,
    reserved: u64,
}

#[derive(Debug, Serialize)]
struct MarketReport {
    coin: &'static str,
    offers: u64,
    offered_coins: f64,
    trades: u64,
    traded_coins: f64,
    traded_price: f64,
}

#[derive(Debug, Serialize)]
struct ShardReport {
    shard: u8,
    disk_failed: bool,
    busy_us: u64,
    cpu_us: u64,
    sleeps: u64,
    requests: u64,
    requests_in_flight: Fill,
    coins_in_flight: Fill,
    coins_named: Fill,
    requests_waiting_for_log: u64,
    requests_committing: u64,
    locked_resources: u64,
    queues: Queues,
    messages_received: u64,
    messages_sent: u64,
    messages_held_up: u64,
    connections: u64,
    connections_accepted: u64,
    connections_refused: u64,
    connections_overfull: u64,
    /// Connections closed as a deadline passed, by what was waited for.
    overdue: Overdue,
    stream_bytes_received: u64,
    stream_bytes_sent: u64,
    datagrams_received: u64,
    datagrams_sent: u64,
    datagrams_dropped: u64,
    rate_limited: u64,
    rate_evictions: u64,
    rate_addresses: Fill,
    lockers: u64,
    locker_coins: u64,
    trade_lockers: Fill,
    locker_index_capacity: u64,
    locker_index_bytes: u64,
    market_index_capacity: u64,
    market_index_bytes: u64,
    cache: CacheCounters,
    cache_pages: Fill,
    dirty_pages: u64,
    bad_pages: u64,
    log_records: u64,
    log_batches: u64,
    log_bytes: u64,
    log_segments: Fill,
    checkpoints: u64,
    pages_written: u64,
    disk_operations: u64,
    disk_failures: u64,
}

impl Report {
    /// The report of a node and its process.
    pub fn new(view: &View, process: ProcessNumbers) -> Self {
        let of = &view.numbers;
        let sum = |count: fn(&ReactorNumbers) -> u64| of.iter().map(count).sum::<u64>();
        let distribution = |histogram: fn(&ReactorNumbers) -> &Histogram| Distribution::of(of.iter().map(histogram));
        // When the numbers were taken, not when they are told: they may be told twice, and rates are made of both.
        let taken = of.iter().map(|numbers| numbers.now.unix_ms).max();
        let unix_ms = taken.unwrap_or_else(|| UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64));
        Self {
            version: VERSION,
            raida_id: view.identity.raida_id,
            coin_id: view.identity.coin_id,
            state: view.state.name(),
            unready: view.unready(),
            unix_ms,
            uptime_seconds: process.uptime(unix_ms).as_secs_f64(),
            shard_count: view.reactors,
            process,
            commands: COMMANDS.iter().map(|command| CommandReport::new(command, of)).collect(),
            unplanned: by_status(|status| of.iter().map(|numbers| numbers.core.counters.unplanned(status)).sum()),
            unanswered: sum(|numbers| numbers.core.counters.unanswered),
            denominations: Denomination::all().map(|den| DenominationReport::new(den, of)).collect(),
            lockers: sum(|numbers| numbers.core.lockers),
            locker_coins: sum(|numbers| numbers.core.locker_coins),
            index_bytes: sum(|numbers| numbers.core.locker_index_bytes + numbers.core.market_index_bytes),
            market: TradeCoin::ALL.iter().map(|&coin| MarketReport::new(coin, of)).collect(),
            log_sync_us: distribution(|numbers| &numbers.counters.log_write_us),
            log_batch_records: distribution(|numbers| &numbers.core.log.batch_records),
            log_batch_bytes: distribution(|numbers| &numbers.core.log.batch_bytes),
            page_read_us: distribution(|numbers| &numbers.counters.page_read_us),
            place_write_us: distribution(|numbers| &numbers.counters.place_write_us),
            turn_us: distribution(|numbers| &numbers.counters.turn_us),
            shards: of.iter().map(ShardReport::new).collect(),
        }
    }
}

impl Distribution {
    fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut all = Histogram::default();
        histograms.for_each(|histogram| all.merge(histogram));
        Self { buckets: all.buckets.to_vec(), sum: all.sum }
    }
}

impl CommandReport {
    fn new(command: &'static Command, of: &[ReactorNumbers]) -> Self {
        let statuses =
            by_status(|status| of.iter().map(|numbers| numbers.core.counters.answers(command, status)).sum());
        let mut answers: BTreeMap<_, _> = StatusClass::ALL.iter().map(|class| (class.name(), 0)).collect();
        for (&code, count) in &statuses {
            let status = Status::from_code(code).expect("it came from a status");
            *answers.entry(status.class().name()).or_default() += count;
        }
        let latency_us = Distribution::of(of.iter().map(|numbers| numbers.core.counters.latency_us(command)));
        Self { name: command.name, group: command.group, code: command.code, answers, statuses, latency_us }
    }
}

impl DenominationReport {
    fn new(den: Denomination, of: &[ReactorNumbers]) -> Self {
        let sum = |count: fn(&Numbers) -> &[u64; DENOMINATIONS]| {
            of.iter().map(|numbers| count(&numbers.core)[den.index()]).sum()
        };
        Self {
            denomination: den.get(),
            coins: sum(|numbers| &numbers.circulation),
            free: sum(|numbers| &numbers.free),
            free_words: sum(|numbers| &numbers.free_words),
            reserved_words: sum(|numbers| &numbers.reserved_words),
            reserved: sum(|numbers| &numbers.reserved),
        }
    }
}

impl MarketReport {
    fn new(coin: TradeCoin, of: &[ReactorNumbers]) -> Self {
        let at = coin as usize;
        let trades = || of.iter().map(|numbers| numbers.core.counters.trades[at]);
        Self {
            coin: coin_name(coin),
            offers: of.iter().map(|numbers| numbers.core.offers_listed[at]).sum(),
            offered_coins: in_coins(of.iter().map(|numbers| numbers.core.offers_value[at]).sum()),
            trades: trades().map(|trades| trades.count).sum(),
            traded_coins: in_coins(trades().map(|trades| trades.value).sum()),
            traded_price: trades().map(|trades| trades.price).sum::<u128>() as f64,
        }
    }
}

impl ShardReport {
    fn new(numbers: &ReactorNumbers) -> Self {
        let ReactorNumbers { shard, cpu_us, counters, queues, core, .. } = numbers;
        Self {
            shard: shard.0,
            disk_failed: core.failed,
            busy_us: counters.turn_us.sum,
            cpu_us: *cpu_us,
            sleeps: counters.sleeps,
            requests: counters.requests,
            requests_in_flight: core.requests,
            coins_in_flight: core.coins_in_flight,
            coins_named: core.coins_named,
            requests_waiting_for_log: core.waiting_for_log,
            requests_committing: core.committing,
            locked_resources: core.locked,
            queues: *queues,
            messages_received: counters.messages_received,
            messages_sent: counters.messages_sent,
            messages_held_up: counters.messages_held_up,
            connections: counters.connections_open,
            connections_accepted: counters.connections_accepted,
            connections_refused: counters.connections_refused,
            connections_overfull: counters.connections_overfull,
            overdue: counters.overdue,
            stream_bytes_received: counters.stream_bytes_received,
            stream_bytes_sent: counters.stream_bytes_sent,
            datagrams_received: counters.datagrams_received,
            datagrams_sent: counters.datagrams_sent,
            datagrams_dropped: counters.datagrams_dropped,
            rate_limited: core.rate_refused,
            rate_evictions: core.rate_evictions,
            rate_addresses: core.rate_addresses,
            lockers: core.lockers,
            locker_coins: core.locker_coins,
            trade_lockers: core.offers,
            locker_index_capacity: core.locker_index_capacity,
            locker_index_bytes: core.locker_index_bytes,
            market_index_capacity: core.market_index_capacity,
            market_index_bytes: core.market_index_bytes,
            cache: core.cache,
            cache_pages: core.cached_pages,
            dirty_pages: core.dirty_pages,
            bad_pages: core.bad_pages,
            log_records: core.log.records,
            log_batches: core.log.batches,
            log_bytes: core.log.bytes,
            log_segments: core.log_segments,
            checkpoints: core.checkpoints,
            pages_written: core.pages_written,
            disk_operations: counters.disk_operations,
            disk_failures: counters.disk_failures,
        }
    }
}

/// What was answered, by status byte.
fn by_status(count: impl Fn(Status) -> u64) -> BTreeMap<u8, u64> {
    Status::ALL.iter().map(|&status| (status.code(), count(status))).filter(|&(_, count)| count > 0).collect()
}

/// A coin type's name in lower case.
pub(super) const fn coin_name(coin: TradeCoin) -> &'static str {
    match coin {
        TradeCoin::CloudCoin => "cloudcoin",
        TradeCoin::Bitcoin => "bitcoin",
        TradeCoin::Monero => "monero",
    }
}

/// Units of 10^-8 as whole coins.
pub(super) fn in_coins(value: u128) -> f64 {
    value as f64 / 1e8
}
