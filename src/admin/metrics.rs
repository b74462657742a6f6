//! `/metrics`: the numbers as Prometheus reads them (text format 0.0.4), with its conventions for names and units.
//!
//! What belongs to commands, coins or the market is the whole node's; what a shard can be short of has a `shard` label.
//! Histograms of shards are added up. A counter is there from the start, at 0, so that its first rise is seen.

use prometheus::proto::{Bucket, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use crate::coin::{DENOMINATIONS, Denomination, TradeCoin};
use crate::command::VERSION;
use crate::histogram::{BUCKETS, Histogram};
use crate::reactor::desk::ReactorNumbers;
use crate::shard::numbers::{Fill, Numbers};
use crate::wire::request::COMMANDS;
use crate::wire::status::{Status, StatusClass};

use super::process::ProcessNumbers;
use super::report::{coin_name, in_coins};
use super::watcher::View;

/// Values of a histogram that are counted in microseconds and told in seconds.
const SECONDS: f64 = 1e-6;
/// Buckets below this one are told with it: 8 microseconds, 8 records, 8 bytes.
const FIRST_BUCKET: usize = 3;

/// The text.
pub fn text(view: &View, process: &ProcessNumbers) -> String {
    let mut families = Families(Vec::new());
    families.node(view);
    families.process(process);
    if !view.numbers.is_empty() {
        families.commands(&view.numbers);
        families.holdings(&view.numbers);
        families.shards(&view.numbers);
        families.connections(&view.numbers);
        families.disk(&view.numbers);
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&families.0, &mut text).expect("families have names and samples");
    String::from_utf8(text).expect("names and numbers are text")
}

type Labels<'a> = &'a [(&'static str, &'a str)];

struct Families(Vec<MetricFamily>);

impl Families {
    fn add(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        let mut family = MetricFamily::default();
        family.set_name(format!("raida_{name}"));
        family.set_help(help.to_string());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'static str, &'a str)>, f64)>,
    ) {
        let metrics = samples.into_iter().map(|(labels, value)| gauge(&labels, value)).collect();
        self.add(name, help, MetricType::GAUGE, metrics);
    }

    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'static str, &'a str)>, f64)>,
    ) {
        let metrics = samples.into_iter().map(|(labels, value)| counter(&labels, value)).collect();
        self.add(name, help, MetricType::COUNTER, metrics);
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        scale: f64,
        of: &[ReactorNumbers],
        value: impl Fn(&ReactorNumbers) -> &Histogram,
    ) {
        let mut sum = Histogram::default();
        of.iter().for_each(|numbers| sum.merge(value(numbers)));
        self.add(name, help, MetricType::HISTOGRAM, vec![histogram(&[], &sum, scale)]);
    }

    /// A counter of each shard.
    fn counted(&mut self, name: &str, help: &str, of: &[ReactorNumbers], value: impl Fn(&ReactorNumbers) -> u64) {
        let metrics =
            of.iter().map(|numbers| counter(&[("shard", &numbers.shard.0.to_string())], value(numbers) as f64));
        self.add(name, help, MetricType::COUNTER, metrics.collect());
    }

    /// What each shard has now.
    fn present(&mut self, name: &str, help: &str, of: &[ReactorNumbers], value: impl Fn(&ReactorNumbers) -> u64) {
        let metrics = of.iter().map(|numbers| gauge(&[("shard", &numbers.shard.0.to_string())], value(numbers) as f64));
        self.add(name, help, MetricType::GAUGE, metrics.collect());
    }

    /// What each shard has now of what is bounded, and the bound.
    fn filled(&mut self, name: &str, help: &str, of: &[ReactorNumbers], value: impl Fn(&ReactorNumbers) -> Fill) {
        self.present(name, help, of, |numbers| value(numbers).used);
        self.present(&format!("{name}_max"), &format!("The bound of raida_{name}."), of, |numbers| value(numbers).max);
    }

    fn node(&mut self, view: &View) {
        let id = view.identity.raida_id.to_string();
        let info = vec![("version", VERSION), ("raida_id", id.as_str())];
        self.gauges("build_info", "Always 1; the labels say which program and which node.", [(info, 1.0)]);
        let ready = f64::from(u8::from(view.unready().is_none()));
        self.gauges("ready", "Whether the node takes requests and its disk works.", [(vec![], ready)]);
        self.gauges("shards", "Shards of the node; 0 while it starts.", [(vec![], view.reactors as f64)]);
        let answering = view.numbers.len() as f64;
        self.gauges("shards_answering", "Shards that told their numbers in time.", [(vec![], answering)]);
    }

    /// The process, by the names that every program has.
    fn process(&mut self, process: &ProcessNumbers) {
        let rows = [
            ("cpu_seconds_total", "Processor time of all threads.", process.cpu_seconds),
            ("resident_memory_bytes", "Memory in RAM.", process.resident_bytes as f64),
            ("virtual_memory_bytes", "Memory given to the process.", process.virtual_bytes as f64),
            ("open_fds", "Open descriptors.", process.open_descriptors as f64),
            ("max_fds", "Descriptors that may be open.", process.max_descriptors as f64),
            ("start_time_seconds", "When the process started, since 1970.", process.start_seconds),
        ];
        for (name, help, value) in rows {
            match name.ends_with("_total") {
                true => self.counters(name, help, [(vec![], value)]),
                false => self.gauges(name, help, [(vec![], value)]),
            }
            let family = self.0.last_mut().expect("just added");
            family.set_name(format!("process_{name}"));
        }
    }

    fn commands(&mut self, of: &[ReactorNumbers]) {
        let sum = |count: &dyn Fn(&ReactorNumbers) -> u64| of.iter().map(count).sum::<u64>() as f64;
        let mut answered = Vec::new();
        for class in StatusClass::ALL {
            let in_class = || Status::ALL.iter().filter(move |status| status.class() == class);
            for command in COMMANDS {
                let count =
                    sum(&|numbers| in_class().map(|&status| numbers.core.counters.answers(command, status)).sum());
                answered.push((vec![("command", command.name), ("class", class.name())], count));
            }
            let count = sum(&|numbers| in_class().map(|&status| numbers.core.counters.unplanned(status)).sum());
            answered.push((vec![("command", "unknown"), ("class", class.name())], count));
        }
        self.counters(
            "requests_total",
            "Requests answered, by command and kind of answer; unknown: refused by their header.",
            answered,
        );
        let codes: Vec<(Status, String)> =
            Status::ALL.iter().map(|&status| (status, status.code().to_string())).collect();
        let by_status = codes.iter().map(|(status, code)| {
            let count = sum(&|numbers| {
                let counters = &numbers.core.counters;
                let planned: u64 = COMMANDS.iter().map(|command| counters.answers(command, *status)).sum();
                planned + counters.unplanned(*status)
            });
            (vec![("status", code.as_str())], count)
        });
        self.counters("responses_total", "Requests answered, by status byte.", by_status.collect::<Vec<_>>());
        let ignored = sum(&|numbers| numbers.core.counters.ignored);
        self.counters(
            "datagrams_ignored_total",
            "Datagrams with a bad header that may be answers of other nodes: to answer them could go on for ever.",
            [(vec![], ignored)],
        );
        let unanswered = sum(&|numbers| numbers.core.counters.unanswered);
        self.counters(
            "requests_unanswered_total",
            "Requests left without an answer as the disk failed.",
            [(vec![], unanswered)],
        );
        let latencies = COMMANDS.iter().map(|command| {
            let mut latency = Histogram::default();
            of.iter().for_each(|numbers| latency.merge(numbers.core.counters.latency_us(command)));
            histogram(&[("command", command.name)], &latency, SECONDS)
        });
        let help = "From the turn that brought a request to the turn that answered it.";
        self.add("request_duration_seconds", help, MetricType::HISTOGRAM, latencies.collect());
    }

    /// Coins, lockers and the market.
    fn holdings(&mut self, of: &[ReactorNumbers]) {
        let dens: Vec<(Denomination, String)> = Denomination::all().map(|den| (den, den.get().to_string())).collect();
        let by_den = |count: fn(&Numbers) -> &[u64; DENOMINATIONS]| {
            let sum = |den: &Denomination| of.iter().map(|numbers| count(&numbers.core)[den.index()]).sum::<u64>();
            let rows = dens.iter().map(|(den, name)| (vec![("denomination", name.as_str())], sum(den) as f64));
            rows.collect::<Vec<_>>()
        };
        self.gauges("coins", "Coins in circulation.", by_den(|numbers| &numbers.circulation));
        self.gauges("free_serial_numbers", "Serial numbers without a coin.", by_den(|numbers| &numbers.free));
        self.gauges(
            "free_words",
            "Words with a free serial number: 64 numbers that follow each other, which are searched and reserved together.",
            by_den(|numbers| &numbers.free_words),
        );
        self.gauges(
            "reserved_words",
            "Words that sessions hold for the moment.",
            by_den(|numbers| &numbers.reserved_words),
        );
        self.gauges(
            "reserved_serial_numbers",
            "Free serial numbers that sessions hold for the moment.",
            by_den(|numbers| &numbers.reserved),
        );
        self.present("lockers", "Lockers, at the shard that is their home.", of, |numbers| numbers.core.lockers);
        self.present("locker_coins", "Coins in lockers.", of, |numbers| numbers.core.locker_coins);
        self.present("locker_index_capacity", "Lockers that the index has room for before it grows.", of, |numbers| {
            numbers.core.locker_index_capacity
        });
        self.present("locker_index_bytes", "Memory of the index of lockers.", of, |numbers| {
            numbers.core.locker_index_bytes
        });
        self.present(
            "market_index_capacity",
            "Trade lockers that the index has room for before it grows.",
            of,
            |numbers| numbers.core.market_index_capacity,
        );
        self.present("market_index_bytes", "Memory of the index of trade lockers.", of, |numbers| {
            numbers.core.market_index_bytes
        });
        self.filled("trade_lockers", "Trade lockers, listed or not.", of, |numbers| numbers.core.offers);
        let by_coin = |value: fn(&ReactorNumbers, usize) -> f64| {
            let sum = move |coin: TradeCoin| of.iter().map(|numbers| value(numbers, coin as usize)).sum::<f64>();
            TradeCoin::ALL.map(|coin| (vec![("coin", coin_name(coin))], sum(coin)))
        };
        self.gauges(
            "market_offers",
            "Trade lockers listed.",
            by_coin(|numbers, coin| numbers.core.offers_listed[coin] as f64),
        );
        self.gauges(
            "market_offered_coins",
            "Worth of the trade lockers listed, in whole coins.",
            by_coin(|numbers, coin| in_coins(numbers.core.offers_value[coin])),
        );
        self.counters(
            "trades_total",
            "Trade lockers bought.",
            by_coin(|numbers, coin| numbers.core.counters.trades[coin].count as f64),
        );
        self.counters(
            "traded_coins_total",
            "Worth of the trade lockers bought, in whole coins.",
            by_coin(|numbers, coin| in_coins(numbers.core.counters.trades[coin].value)),
        );
        self.counters(
            "traded_price_total",
            "What buyers paid, in the units of the coin type.",
            by_coin(|numbers, coin| numbers.core.counters.trades[coin].price as f64),
        );
        self.counted("rate_limited_total", "Breaks refused as their address asks too often.", of, |numbers| {
            numbers.core.rate_refused
        });
        self.counted(
            "rate_limit_evictions_total",
            "Addresses forgotten before their window was over.",
            of,
            |numbers| numbers.core.rate_evictions,
        );
        self.filled("rate_limit_addresses", "Addresses whose rate is counted.", of, |numbers| {
            numbers.core.rate_addresses
        });
    }

    fn shards(&mut self, of: &[ReactorNumbers]) {
        let seconds = |value: fn(&ReactorNumbers) -> u64| {
            move |numbers: &ReactorNumbers| {
                counter(&[("shard", &numbers.shard.0.to_string())], value(numbers) as f64 * SECONDS)
            }
        };
        let busy = of.iter().map(seconds(|numbers| numbers.counters.turn_us.sum)).collect();
        self.add("shard_busy_seconds_total", "Time a shard's thread had work.", MetricType::COUNTER, busy);
        let cpu = of.iter().map(seconds(|numbers| numbers.cpu_us)).collect();
        self.add("shard_cpu_seconds_total", "Processor time of a shard's thread.", MetricType::COUNTER, cpu);
        self.histogram("turn_duration_seconds", "How long a turn of a shard's loop takes.", SECONDS, of, |numbers| {
            &numbers.counters.turn_us
        });
        self.counted("shard_sleeps_total", "Times a shard's thread went to sleep.", of, |numbers| {
            numbers.counters.sleeps
        });
        self.counted("shard_requests_total", "Requests that a shard coordinated.", of, |numbers| {
            numbers.counters.requests
        });
        self.filled("requests_in_flight", "Requests a shard works on.", of, |numbers| numbers.core.requests);
        self.filled("coins_in_flight", "Coins that these requests name.", of, |numbers| numbers.core.coins_in_flight);
        self.filled("coins_named", "Coins of large lockers that answers under way name.", of, |numbers| {
            numbers.core.coins_named
        });
        self.present("locked_resources", "Coins, lockers and offers that are locked.", of, |numbers| {
            numbers.core.locked
        });
        self.present("requests_waiting_for_log", "Requests that wait for room in the log.", of, |numbers| {
            numbers.core.waiting_for_log
        });
        self.present("requests_committing", "Requests whose record is on its way to the disk.", of, |numbers| {
            numbers.core.committing
        });
        self.counted("shard_messages_received_total", "Messages from other shards.", of, |numbers| {
            numbers.counters.messages_received
        });
        self.counted("shard_messages_sent_total", "Messages to other shards.", of, |numbers| {
            numbers.counters.messages_sent
        });
        self.counted(
            "shard_messages_held_up_total",
            "Times messages found no room in another shard's ring.",
            of,
            |numbers| numbers.counters.messages_held_up,
        );
        self.counted("shard_wakeups_sent_total", "Sleeping shards woken.", of, |numbers| numbers.counters.wakeups_sent);
        self.present("shard_messages_waiting", "Messages that a shard has not taken yet.", of, |numbers| {
            numbers.queues.messages_in
        });
        self.present("shard_messages_stuck", "Messages that found no room in another shard's ring.", of, |numbers| {
            numbers.queues.messages_out
        });
    }

    fn connections(&mut self, of: &[ReactorNumbers]) {
        self.present("connections", "Connections open.", of, |numbers| numbers.counters.connections_open);
        self.counted("connections_accepted_total", "Connections accepted and kept.", of, |numbers| {
            numbers.counters.connections_accepted
        });
        self.counted(
            "connections_refused_total",
            "Connections closed at once as there were too many.",
            of,
            |numbers| numbers.counters.connections_refused,
        );
        self.counted(
            "connections_overfull_total",
            "Connections closed as their bytes went beyond a bound.",
            of,
            |numbers| numbers.counters.connections_overfull,
        );
        self.counted("accepts_failed_total", "Times that accepting failed.", of, |numbers| {
            numbers.counters.accepts_failed
        });
        let sum = |count: fn(&ReactorNumbers) -> u64| of.iter().map(count).sum::<u64>() as f64;
        let overdue = [
            (vec![("waited_for", "header")], sum(|numbers| numbers.counters.overdue.header)),
            (vec![("waited_for", "body")], sum(|numbers| numbers.counters.overdue.body)),
            (vec![("waited_for", "request")], sum(|numbers| numbers.counters.overdue.idle)),
            (vec![("waited_for", "send")], sum(|numbers| numbers.counters.overdue.send)),
        ];
        self.counters(
            "connection_deadlines_total",
            "Connections closed as a deadline passed, by what was waited for.",
            overdue,
        );
        self.counted("stream_received_bytes_total", "Bytes received on connections.", of, |numbers| {
            numbers.counters.stream_bytes_received
        });
        self.counted("stream_sent_bytes_total", "Bytes sent on connections.", of, |numbers| {
            numbers.counters.stream_bytes_sent
        });
        self.present("datagrams_in_flight", "Datagrams that are not answered yet.", of, |numbers| {
            numbers.queues.datagrams
        });
        self.present("inbound_bytes", "Bytes kept of unfinished requests.", of, |numbers| numbers.queues.inbound_bytes);
        self.present("unsent_bytes", "Bytes of answers that wait for their clients.", of, |numbers| {
            numbers.queues.unsent_bytes
        });
        self.counted("datagrams_received_total", "Datagrams taken.", of, |numbers| numbers.counters.datagrams_received);
        self.counted("datagrams_sent_total", "Datagrams handed to the kernel.", of, |numbers| {
            numbers.counters.datagrams_sent
        });
        self.counted("datagrams_dropped_total", "Datagrams dropped on arrival.", of, |numbers| {
            numbers.counters.datagrams_dropped
        });
        self.counted("datagram_sends_failed_total", "Sends of datagrams that the kernel refused.", of, |numbers| {
            numbers.counters.datagram_sends_failed
        });
    }

    fn disk(&mut self, of: &[ReactorNumbers]) {
        self.counted("cache_hits_total", "Pages found in memory.", of, |numbers| numbers.core.cache.hits);
        self.counted("cache_misses_total", "Pages read from disk.", of, |numbers| numbers.core.cache.misses);
        self.counted("cache_evictions_total", "Pages that made room.", of, |numbers| numbers.core.cache.evictions);
        self.filled("cache_pages", "Pages in memory.", of, |numbers| numbers.core.cached_pages);
        self.present("cache_dirty_pages", "Pages whose changes are only in the log.", of, |numbers| {
            numbers.core.dirty_pages
        });
        self.counted("log_records_total", "Commit records.", of, |numbers| numbers.core.log.records);
        self.counted("log_written_bytes_total", "Bytes written to the log, padding included.", of, |numbers| {
            numbers.core.log.bytes
        });
        self.filled("log_segments", "Segments of the log in use.", of, |numbers| numbers.core.log_segments);
        self.histogram("log_batch_records", "Commit records that share a write.", 1.0, of, |numbers| {
            &numbers.core.log.batch_records
        });
        self.histogram("log_batch_size_bytes", "Bytes of such a write.", 1.0, of, |numbers| {
            &numbers.core.log.batch_bytes
        });
        self.histogram(
            "log_sync_duration_seconds",
            "How long a write of the log takes to be durable.",
            SECONDS,
            of,
            |numbers| &numbers.counters.log_write_us,
        );
        self.histogram("page_read_duration_seconds", "How long a page takes to be read.", SECONDS, of, |numbers| {
            &numbers.counters.page_read_us
        });
        self.histogram(
            "place_write_duration_seconds",
            "How long other writes take to be durable: double-write area, pages, orders, control block.",
            SECONDS,
            of,
            |numbers| &numbers.counters.place_write_us,
        );
        self.present("disk_operations_running", "Operations that the disk has.", of, |numbers| {
            numbers.queues.disk_operations
        });
        self.counted("checkpoints_total", "Checkpoints finished.", of, |numbers| numbers.core.checkpoints);
        self.counted("pages_written_total", "Pages brought to their places.", of, |numbers| numbers.core.pages_written);
        self.counted("bad_pages_total", "Reads of pages that failed or brought a damaged page.", of, |numbers| {
            numbers.core.bad_pages
        });
        self.counted("disk_failures_total", "Operations of the disk that failed.", of, |numbers| {
            numbers.counters.disk_failures
        });
        self.present("disk_failed", "Whether a shard's disk failed: nothing is written any more.", of, |numbers| {
            u64::from(numbers.core.failed)
        });
    }
}

fn labelled(labels: Labels<'_>) -> Metric {
    Metric::from_label(
        labels
            .iter()
            .map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name((*name).to_string());
                pair.set_value((*value).to_string());
                pair
            })
            .collect(),
    )
}

fn gauge(labels: Labels<'_>, value: f64) -> Metric {
    let mut metric = labelled(labels);
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

fn counter(labels: Labels<'_>, value: f64) -> Metric {
    let mut metric = labelled(labels);
    let mut counter = Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

/// Bounds and sum are multiplied by `scale`.
fn histogram(labels: Labels<'_>, of: &Histogram, scale: f64) -> Metric {
    let mut below: u64 = of.buckets[..FIRST_BUCKET].iter().sum();
    let buckets = (FIRST_BUCKET..BUCKETS).filter_map(|index| {
        below += of.buckets[index];
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(below);
        bucket.set_upper_bound(Histogram::bound(index)? as f64 * scale);
        Some(bucket)
    });
    let mut histogram = prometheus::proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(of.count());
    histogram.set_sample_sum(of.sum as f64 * scale);
    let mut metric = labelled(labels);
    metric.set_histogram(histogram);
    metric
}
