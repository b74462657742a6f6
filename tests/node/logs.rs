//! What a node logs, as journald or a collector reads it.

use std::fs;

use serde_json::Value;

use crate::program::{Node, ends_with, field, minted, text};

/// What a purchase says of its payment is kept nowhere else: a line for each, with no secret.
#[test]
fn a_purchase_is_a_line_with_its_payment() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, wallet) = minted(folder.path());
    let (node, ready) = Node::serve(&data, &["--log-format", "json", "--trust-market"]);
    let ask = |words: &[&str]| {
        ends_with(0, &[&["client", "--to", field(&ready, "listen"), "--wallet", text(&wallet)], words].concat());
    };
    let address = "bc1qxy2kgdygjrsqtzq2n0yrf2493p83kkfjhx0wlh";
    ask(&["put-for-sale", "--coins", "0:5,0:6", "--for", "btc", "--price", "250", "--address", address]);
    let txid = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
    let receipt = "00112233445566778899aabbccddeeff";
    let offer = ["--for", "btc", "--value", "200000000", "--price", "250", "--memo", "for the blue house"];
    ask(&[&["buy", "--key", "DEF-5678", "--txid", txid, "--receipt", receipt][..], &offer].concat());
    let said = node.stop().said;
    let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    let bought: Vec<Value> = lines.filter(|line| line["txid"].is_string()).collect();
    assert_eq!(bought.len(), 1, "{said}");
    assert_eq!((&bought[0]["txid"], &bought[0]["receipt"]), (&txid.into(), &receipt.into()));
    assert_eq!((&bought[0]["level"], &bought[0]["peer"]), (&"info".into(), &"127.0.0.1".into()));
    assert!(said.contains("bought: 2 coins for 250 Bitcoin"), "{said}");
    assert!(!said.contains("DEF-5678") && !said.contains("blue house"), "{said}");
}

/// A write that is refused is one line that says what an operator asks for, and no secret.
#[test]
fn a_refused_write_is_one_line_without_a_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, wallet) = minted(folder.path());
    let stale = folder.path().join("stale.jsonl");
    fs::copy(&wallet, &stale).expect("a copy");
    let (node, ready) = Node::serve(&data, &["--log-format", "json"]);
    let ask = |status, wallet, words: &[&str]| {
        let to = ["client", "--to", field(&ready, "listen"), "--encrypt", "0", "--wallet", text(wallet)];
        ends_with(status, &[&to[..], words].concat());
    };
    ask(0, &wallet, &["store", "--key", "ABC-1234", "--coins", "0:0"]);
    ask(1, &stale, &["store", "--key", "XYZ-9999", "--coins", "0:0"]);
    ask(1, &stale, &["remove", "--key", "NOT-0000", "--coins", "0:5"]);
    // A read is no write.
    ask(1, &stale, &["peek", "--key", "NOT-0000"]);

    let said = node.stop().said;
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let refused: Vec<_> = lines.iter().filter(|line| line["command"].is_string()).collect();
    assert_eq!(refused.iter().map(|line| &line["command"]).collect::<Vec<_>>(), ["store", "remove"], "{said}");
    for line in refused {
        assert_eq!((&line["level"], &line["shard"], &line["untold"]), (&"info".into(), &0.into(), &0.into()));
        assert_eq!((&line["peer"], &line["transport"]), (&"127.0.0.1".into(), &"tcp".into()));
        assert!(line["connection"].is_string() && line["status"].is_u64() && line["time"].is_string(), "{line}");
    }
    let secrets = fs::read_to_string(&stale).expect("a wallet");
    let secrets = secrets.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    let secrets: Vec<String> = secrets.filter_map(|coin| Some(coin["an"].as_str()?.to_string())).collect();
    assert_eq!(secrets.len(), 10);
    let keys = ["ABC-1234", "XYZ-9999", "NOT-0000"].map(str::to_string);
    assert!(secrets.iter().chain(&keys).all(|secret| !said.contains(secret.as_str())), "{said}");
}
