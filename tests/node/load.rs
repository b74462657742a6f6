//! Load on a real node: every operation, over UDP and TCP, twice; the answers are the expected ones, nothing is lost,
//! and afterwards every coin is as it was made.

use std::path::Path;
use std::time::Duration;

use raida::coin::{CoinId, Months};
use raida::config::Config;
use raida::load::prepare::{Wish, prepare};
use raida::load::run::{OperationName, Options, Travel, run};
use raida::node::{Node, NodeOptions};
use raida::settings::Settlement;
use raida::store::layout::PageFrame;
use raida::store::pages::read_pages;
use raida::store::recovery::open_as_it_is;
use raida::store::storage::Directory;
use raida::store::verify::verify;
use raida::wire::header::NodeIdentity;

const LOCKERS: u32 = 100;

/// All coins in circulation with their ANs, as they are in the data directory.
fn coins(data: &Path) -> Vec<(CoinId, [u8; 16])> {
    let directory = Directory::open(data).unwrap();
    let opened = open_as_it_is(&directory).unwrap();
    let mut coins = Vec::new();
    read_pages(&directory, &opened.used, &mut |page, frame: &PageFrame, _| {
        let records = (0..1024).map(|slot| (page.coin(slot), frame.record(slot)));
        coins.extend(records.filter(|(_, record)| !record.is_free()).map(|(coin, record)| (coin, *record.an.bytes())));
    })
    .unwrap();
    coins
}

fn options(node: &Node, operation: OperationName, travel: Travel) -> Options {
    Options {
        to: node.address(),
        node: NodeIdentity { raida_id: 0, coin_id: 6 },
        operation,
        travel,
        rate: None,
        measured: Duration::from_millis(200),
        warm_up: Duration::ZERO,
        seed: 1,
        lockers: LOCKERS,
        coins: 3,
        pages: 4,
        spread: false,
        sessions: 2,
        // Far longer than any machine needs.
        patience: Duration::from_secs(30),
        processor: None,
    }
}

fn start(data: &Path, shards: u8) -> Node {
    let mut config = Config::default();
    config.server.threads = shards;
    config.market.settlement = [Settlement::Trusted; 3];
    let options = NodeOptions { listen: "127.0.0.1:0".parse().unwrap(), ..NodeOptions::new(data, &config) };
    Node::start(options).unwrap()
}

fn prepared(data: &Path) {
    let wish = Wish { seed: 1, used: 0.5, lockers: LOCKERS, coins_per_locker: 3, pages: 4, mfs: Months::new(40) };
    prepare(data, &wish, &mut |_, _| {}).unwrap();
}

#[test]
fn every_operation_gets_its_answers_and_leaves_every_coin_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    prepared(&data);
    let before = coins(&data);
    // The second time on two shards, and a node that has lived already.
    for (shards, travel) in [(1, Travel::Udp(8)), (2, Travel::Tcp(2, 4))] {
        let node = start(&data, shards);
        for (name, operation) in OperationName::ALL {
            let report = run(&options(&node, operation, travel)).unwrap().json();
            let success = if ["echo", "sns", "change"].contains(&name) { "250" } else { "241" };
            let statuses: Vec<&String> = report["statuses"].as_object().unwrap().keys().collect();
            assert_eq!(statuses, [success], "{report}");
            assert_eq!((&report["lost"], &report["operation"]), (&0.into(), &name.into()), "{report}");
        }
        node.stop().unwrap();
        let directory = Directory::open(&data).unwrap();
        let verified = verify(&directory, &mut |_, _| {}).unwrap();
        assert!(verified.findings.is_empty(), "{:?}", verified.findings);
        drop(directory);
        assert!(coins(&data) == before, "every coin has its AN again");
    }
}

#[test]
fn a_load_at_a_rate_and_one_on_a_closed_market() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    prepared(&data);
    let before = coins(&data);
    let mut config = Config::default();
    config.server.threads = 1;
    let listen = "127.0.0.1:0".parse().unwrap();
    let node = Node::start(NodeOptions { listen, ..NodeOptions::new(&data, &config) }).unwrap();
    let market = run(&options(&node, OperationName::Market, Travel::Udp(2))).unwrap().json();
    let statuses: Vec<&String> = market["statuses"].as_object().unwrap().keys().collect();
    assert_eq!(statuses, ["241", "50"], "what is not sold is taken back: {market}");
    // Slower than any machine: no more answers than the rate has in the time, and the first.
    let rated = Options { rate: Some(50.0), ..options(&node, OperationName::Locker, Travel::Udp(4)) };
    let rated = run(&rated).unwrap().json();
    let (answers, seconds) = (rated["answers"].as_f64().unwrap(), rated["seconds"].as_f64().unwrap());
    assert!((1.0..=seconds * 50.0 + 5.0).contains(&answers), "{rated}");
    node.stop().unwrap();
    assert!(coins(&data) == before);
}
