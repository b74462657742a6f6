//! What is told over HTTP, before there is a node and of made-up reactors; with real nodes: tests/node/admin.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;

use super::metrics::text;
use super::process::ProcessNumbers;
use super::report::Report;
use super::watcher::{State, View};
use super::*;
use crate::config::admin::Door;
use crate::reactor::counters::Counters;
use crate::reactor::desk::{Queues, ReactorNumbers};
use crate::shard::interface::{Now, ShardId};
use crate::shard::numbers::Numbers;

const IDENTITY: Identity = Identity { raida_id: 7, coin_id: 6 };

fn reactor(shard: u8) -> ReactorNumbers {
    let mut counters = Counters { requests: 10, ..Counters::default() };
    [3, 900, 1 << 40].into_iter().for_each(|micros| counters.log_write_us.add(micros));
    ReactorNumbers {
        shard: ShardId(shard),
        now: Now { monotonic_us: 0, unix_ms: 1234 },
        cpu_us: 5,
        counters,
        queues: Queues::default(),
        core: Numbers { lockers: 4, offers_value: [0, 250_000_000, 0], ..Numbers::default() },
    }
}

fn view(reactors: usize, numbers: Vec<ReactorNumbers>) -> View {
    View { identity: IDENTITY, state: State::Serving, reactors, numbers: numbers.into() }
}

/// The samples of an exposition by name and labels; each must belong to a family that was declared before it.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let (mut helped, mut types, mut samples) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(helped.insert(help.split(' ').next().unwrap()), "{line}: a second time");
        } else if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(types.insert(name, kind).is_none(), "{line}: a second time");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let of_histogram = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
            let histogram = of_histogram.into_iter().any(|family| types.get(family) == Some(&"histogram"));
            assert!(histogram || types.contains_key(name), "{line} has no type");
            let value = value.parse().unwrap_or_else(|_| panic!("{line} has no number"));
            assert!(samples.insert(sample.to_string(), value).is_none(), "{line}: a second time");
        }
    }
    assert_eq!(helped, types.into_keys().collect());
    samples
}

#[test]
fn metrics_are_an_exposition_and_add_up() {
    let told = samples(&text(&view(2, vec![reactor(0), reactor(1)]), &ProcessNumbers::read()));
    assert_eq!(told["raida_build_info{version=\"0.1.0\",raida_id=\"7\"}"], 1.0);
    assert_eq!((told["raida_ready"], told["raida_shards_answering"]), (1.0, 2.0));
    assert_eq!((told["raida_lockers{shard=\"0\"}"], told["raida_lockers{shard=\"1\"}"]), (4.0, 4.0));
    assert_eq!(told["raida_market_offered_coins{coin=\"bitcoin\"}"], 5.0);
    assert_eq!(told["raida_requests_total{command=\"echo\",class=\"success\"}"], 0.0);
    let bucket = |bound: &str| told[&format!("raida_log_sync_duration_seconds_bucket{{le=\"{bound}\"}}")];
    assert_eq!((bucket("0.000008"), bucket("0.001024"), bucket("+Inf")), (2.0, 4.0, 6.0));
    assert_eq!(told["raida_log_sync_duration_seconds_count"], 6.0);
    assert!(told["process_resident_memory_bytes"] > 0.0);
}

/// The metrics that a file of queries names.
fn named(queries: &str) -> BTreeSet<&str> {
    let words = queries.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("raida_") || word.starts_with("process_")).collect()
}

#[test]
fn what_the_dashboard_and_the_alerts_name_is_told() {
    let text = text(&view(1, vec![reactor(0)]), &ProcessNumbers::read());
    let samples = samples(&text);
    let told: BTreeSet<&str> = samples.keys().map(|sample| sample.split('{').next().unwrap()).collect();
    for (file, queries) in [
        ("grafana.json", include_str!("../../deploy/grafana.json")),
        ("alerts.yml", include_str!("../../deploy/alerts.yml")),
    ] {
        let named = named(queries);
        assert!(named.len() > 10, "{file} names {named:?}");
        let unknown: Vec<_> = named.difference(&told).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(include_str!("../../deploy/grafana.json")).expect("JSON");
    assert!(dashboard["panels"].as_array().unwrap().iter().all(|panel| panel["gridPos"]["w"].is_number()));
}

#[test]
fn a_node_that_starts_has_metrics_too() {
    let starting = View { state: State::Starting, ..view(0, Vec::new()) };
    let told = samples(&text(&starting, &ProcessNumbers::read()));
    assert_eq!((told["raida_ready"], told["raida_shards"]), (0.0, 0.0));
}

#[test]
fn ready_is_a_node_whose_shards_answer_and_write() {
    let well = view(2, vec![reactor(0), reactor(1)]);
    assert_eq!((well.unready(), well.unhealthy()), (None, None));
    let silent = view(2, vec![reactor(0)]);
    assert!(silent.unready().is_some() && silent.unhealthy().is_some());
    let mut failed = reactor(1);
    failed.core.failed = true;
    let failed = view(2, vec![reactor(0), failed]);
    assert!(failed.unready().unwrap().contains("[1]"));
    assert_eq!(failed.unhealthy(), None, "it still serves reads; starting anew would not mend its disk");
}

#[test]
fn the_report_is_json_with_every_command() {
    let report = Report::new(&view(1, vec![reactor(0)]), ProcessNumbers::read());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["raida_id"], &json["state"]), (&7.into(), &"serving".into()));
    assert_eq!(json["commands"].as_array().unwrap().len(), crate::wire::request::COMMANDS.len());
    assert_eq!(json["market"][1]["offered_coins"], 2.5);
    assert_eq!((&json["shards"][0]["requests"], &json["unix_ms"]), (&10.into(), &1234.into()));
}

fn on_loopback() -> Admin {
    let config = config::Admin { listen: Door::At(([127, 0, 0, 1], 0).into()), ..config::Admin::default() };
    Admin::start(&config, IDENTITY).unwrap().expect("it is on")
}

fn ask(admin: &Admin, request: &str) -> String {
    let mut stream = TcpStream::connect(admin.address().unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(admin: &Admin, path: &str) -> String {
    ask(admin, &format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", admin.address().unwrap()))
}

#[test]
fn before_the_node_serves_it_is_healthy_and_not_ready() {
    let admin = on_loopback();
    assert!(get(&admin, "/healthz").starts_with("HTTP/1.1 200 "));
    let unready = get(&admin, "/readyz");
    assert!(unready.starts_with("HTTP/1.1 503 ") && unready.ends_with("\r\n\r\nstarting\n"), "{unready}");
    assert!(get(&admin, "/metrics").contains("\nraida_ready 0\n"));
    assert!(get(&admin, "/elsewhere").starts_with("HTTP/1.1 404 "));
    assert!(
        ask(&admin, "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            .starts_with("HTTP/1.1 405 ")
    );
    assert!(ask(&admin, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n").starts_with("HTTP/1.1 421 "));
    assert!(ask(&admin, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

#[test]
fn the_page_is_whole_and_only_its_own_script_may_run() {
    let admin = on_loopback();
    let page = get(&admin, "/");
    let (_, policy) = page.split_once("script-src 'nonce-").unwrap();
    let nonce = policy.split('\'').next().unwrap();
    assert_eq!(nonce.len(), 32);
    assert!(
        page.contains(&format!("<script nonce=\"{nonce}\">")) && page.contains(&format!("<style nonce=\"{nonce}\">"))
    );
    assert!(!page.contains("{nonce}") && !page.contains("https://"));
    assert!(!get(&admin, "/").contains(nonce), "each answer has its own");
}

#[test]
fn without_a_door_there_is_no_thread() {
    assert!(Admin::start(&config::Admin::default(), IDENTITY).unwrap().is_none());
}

#[test]
fn a_unix_socket_is_made_for_the_group_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let config = config::Admin { socket: Door::At(path.clone()), ..config::Admin::default() };
    let admin = Admin::start(&config, IDENTITY).unwrap().unwrap();
    assert_eq!((admin.address(), admin.socket()), (None, Some(path.as_path())));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: raida\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(Admin::start(&config, IDENTITY).unwrap_err().to_string().starts_with("admin.socket: "));
    drop(admin);
    assert!(!path.exists());
    // What a killed node left behind makes room; somebody's file does not.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists() && Admin::start(&config, IDENTITY).is_ok());
    fs::write(&path, "a file").unwrap();
    assert_eq!(Admin::start(&config, IDENTITY).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"a file");
}

#[test]
fn both_doors_lead_to_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let config = config::Admin {
        listen: Door::At(([127, 0, 0, 1], 0).into()),
        socket: Door::At(path.clone()),
        ..config::Admin::default()
    };
    let admin = Admin::start(&config, IDENTITY).unwrap().unwrap();
    assert!(get(&admin, "/healthz").starts_with("HTTP/1.1 200 "));
    assert!(UnixStream::connect(&path).is_ok());
}
