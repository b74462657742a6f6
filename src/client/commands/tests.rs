//! Command lines against a node behind real sockets, and what each leaves in the wallet.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::arguments::tests::parse;
use super::super::fake_node::{FakeNode, Fault, NODE, stream_and_datagrams};
use super::super::secrets::KeySpec;
use super::super::wallet::{Entry, Pending, Wallet};
use super::super::{Error, run};
use super::Output;
use crate::coin::{Place, Secret};
use crate::sim::payload::TREASURY_KEY;
use crate::wire::items::RawCoin;
use crate::wire::request::CommandKind;
use crate::wire::status::Status;

/// An owner: a wallet in a folder, and the node that knows its coins.
struct Owner {
    node: FakeNode,
    folder: tempfile::TempDir,
    wallet: PathBuf,
}

fn coin(den: i8, sn: u32) -> RawCoin {
    RawCoin { den, sn }
}

/// The AN of a coin at the start.
fn an_of(coin: RawCoin) -> Secret {
    let mut bytes = [coin.den as u8; 16];
    bytes[12..].copy_from_slice(&(coin.sn + 1).to_be_bytes());
    Secret::new(bytes)
}

impl Owner {
    /// Twelve coins of denomination 0 and two of 1.
    fn new() -> Self {
        let coins: Vec<_> = (0..12).map(|sn| coin(0, sn)).chain([coin(1, 0), coin(1, 1)]).collect();
        let node = FakeNode::start(coins.iter().map(|&coin| (coin, an_of(coin))));
        let folder = tempfile::tempdir().unwrap();
        let wallet = folder.path().join("wallet");
        let mut file = Wallet::open(&wallet).unwrap();
        file.begin(coins.iter().map(|&coin| (coin, Pending::Secret(an_of(coin))))).unwrap();
        file.settle(coins.iter().map(|&coin| (coin, true))).unwrap();
        Self { node, folder, wallet }
    }

    fn run(&self, line: &str) -> Result<Output, Error> {
        let mut arguments = parse(line).unwrap_or_else(|error| panic!("{error}"));
        arguments.to = self.node.address.to_string();
        arguments.raida_id = NODE.raida_id;
        arguments.wallet.get_or_insert_with(|| self.wallet.clone());
        run(&arguments)
    }

    /// Runs a command that the node carries out.
    fn done(&self, line: &str) -> Output {
        let output = self.run(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(!output.is_refused(), "{line}: {}", output.text);
        output
    }

    fn fault(&self, kind: CommandKind, fault: Fault) {
        self.node.state().fault = Some((kind, fault));
    }

    fn entries(&self) -> BTreeMap<RawCoin, Entry> {
        Wallet::open(&self.wallet).unwrap().entries().collect()
    }

    fn archive(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("wallet.archive")).unwrap_or_default()
    }

    /// The wallet holds exactly the coins in circulation, with the secrets of the node and nothing pending.
    fn is_settled(&self) {
        let settled =
            self.node.state().coins.iter().map(|(coin, an)| (*coin, Entry { an: Some(*an), pending: None })).collect();
        assert_eq!(self.entries(), settled);
    }

    fn key(&self, code: &str) -> Secret {
        code.parse::<KeySpec>().unwrap().key(NODE.raida_id)
    }
}

#[test]
fn every_encryption_over_both_transports() {
    let owner = Owner::new();
    owner.done("store --key LOCK-1 --coins 0:11");
    for transport in ["", "--udp"] {
        for sealing in [
            "--encrypt 0",
            "--encrypt 1",
            "--encrypt 1 --key-coin 0:3",
            "--encrypt 2 --key-locker LOCK-1",
            "--encrypt 4 --key-coin 1:0",
            "--encrypt 5 --key-coin 0:3 --key-coin 1:1",
            "--encrypt 5",
        ] {
            let options = format!("{transport} {sealing}");
            assert_eq!(owner.done(&format!("{options} echo")).status, Some(Status::Success), "{options}");
            assert_eq!(owner.done(&format!("{options} version")).json["version"], "fake 1");
            assert_eq!(owner.done(&format!("{options} detect")).json["coins"].as_array().unwrap().len(), 14);
            owner.done(&format!("{options} store --key ABC-1234 --coins 2x0"));
            assert_eq!(
                owner.done(&format!("{options} peek --key ABC-1234")).json["coins"].as_array().unwrap().len(),
                2
            );
            owner.done(&format!("{options} remove --key ABC-1234"));
            // The coins powned are also those that the next request is sealed with.
            owner.done(&format!("{options} pown --coins all"));
            owner.is_settled();
        }
    }
}

#[test]
fn what_the_node_says_of_itself() {
    let owner = Owner::new();
    let counts = owner.done("count-coins");
    assert_eq!(counts.json["counts"].as_array().unwrap().len(), 15);
    assert_eq!(counts.json["counts"][8], serde_json::json!({ "den": 0, "coins": 12 }));
    assert!(counts.text.contains("  0       12\n"), "{}", counts.text);
    assert_eq!(owner.done("echo").text, "status 250 success (5 µs at the node)");
    let echo = serde_json::json!({ "command": "echo", "status": 250, "meaning": "success", "micros": 5 });
    assert_eq!(owner.done("echo").json, echo);
}

#[test]
fn coins_in_a_locker_and_out_again() {
    let owner = Owner::new();
    owner.done("put --key ABC-1234 --coins 0:5,2x0,1x1");
    let key = owner.key("ABC-1234");
    let in_locker = [coin(0, 0), coin(0, 1), coin(0, 5), coin(1, 0)];
    assert!(in_locker.iter().all(|coin| owner.entries()[coin].an == Some(key)));
    owner.is_settled();
    assert!(owner.done("wallet list").text.contains("in a locker   0 3 coins"));

    // One by name, the others as they are found there; with a wallet that never saw them.
    let other = owner.folder.path().join("other-wallet");
    let output = owner.done(&format!("take --key ABC-1234 --coins 0:5 --wallet {}", other.display()));
    assert_eq!(output.json["coins"], serde_json::json!([{ "den": 0, "sn": 5 }]));
    owner.done(&format!("take --key ABC-1234 --wallet {}", other.display()));
    let others: Vec<_> = Wallet::open(&other).unwrap().spendable().collect();
    assert_eq!(others.len(), 4);
    assert!(others.iter().all(|(coin, an)| owner.node.state().coins[coin] == *an));
    assert!(owner.run("peek --key ABC-1234").unwrap().is_refused());
    assert_eq!(owner.run("remove --key ABC-1234").unwrap().status, Some(Status::AllFail));

    // Who put them there learns that they are gone, and keeps the key in the archive.
    let output = owner.done("wallet reconcile");
    assert_eq!(output.json["unknown"].as_array().unwrap().len(), 4);
    assert_eq!(owner.entries().len(), 14);
    owner.done("wallet reconcile --prune");
    assert_eq!(owner.entries().len(), 10);
    let archived = super::super::secrets::hex_of_bytes(key.bytes());
    assert_eq!(owner.archive().matches(&archived).count(), 4);
}

#[test]
fn a_coin_that_is_not_in_the_locker_does_not_enter_the_wallet() {
    let owner = Owner::new();
    owner.done("store --key ABC-1234 --coins 0:5");
    let output = owner.done("remove --key ABC-1234 --coins 0:5,0:6,3:9");
    assert_eq!(
        (output.status, &output.json["coins"]),
        (Some(Status::Mixed), &serde_json::json!([{ "den": 0, "sn": 5 }]))
    );
    owner.is_settled();
}

#[test]
fn several_lockers_at_once() {
    let owner = Owner::new();
    owner.node.state().coins.insert(coin(0, 9), Secret::new([0xDD; 16]));
    let output = owner.done("store-multiple --locker AAA-1=3x0 --locker BBB-2=0:9,1x1");
    assert_eq!((output.status, &output.json["stored"]), (Some(Status::Mixed), &serde_json::json!([true, false])));
    let entries = owner.entries();
    assert_eq!(entries[&coin(0, 2)].an, Some(owner.key("AAA-1")));
    assert_eq!(entries[&coin(1, 0)], Entry { an: Some(an_of(coin(1, 0))), pending: None });
}

#[test]
fn the_market() {
    let owner = Owner::new();
    let address = "an-address-of-a-seller";
    let sold = owner.done(&format!("sell --coins 2x0,1:1 --for xmr --price 250 --address {address}"));
    let identifier = sold.json["identifier"].as_str().unwrap().to_owned();
    owner.is_settled();
    assert!(matches!(owner.entries()[&coin(1, 1)].an.unwrap().place(), Place::TradeLocker(_)));

    let offers = owner.done("offers --for xmr").json["offers"].clone();
    assert_eq!(offers.as_array().unwrap().len(), 1);
    let value = 12 * 10u64.pow(8);
    let offer = serde_json::json!({ "identifier": identifier, "coin_type": 2, "value": value, "price": 250 });
    assert_eq!(offers[0], offer);
    assert_eq!(owner.done("list-for-sale --for btc").json["offers"], serde_json::json!([]));
    assert_eq!(owner.done(&format!("peek-trade-locker {identifier}")).json["coins"].as_array().unwrap().len(), 3);

    // By its identifier, as the wallet has the AN; back into a locker.
    owner.done(&format!("unsell {identifier} --key BACK-1"));
    assert_eq!(owner.entries()[&coin(1, 1)].an, Some(owner.key("BACK-1")));
    owner.is_settled();
    owner.done("take --key BACK-1");

    // Once more, and bought by somebody.
    owner.done(&format!("sell --coins 1x0 --for btc --price 9 --address {address}"));
    let buy = format!("--for btc --price 9 --txid {} --memo thanks --key MINE-7", "00".repeat(32));
    assert_eq!(owner.run(&format!("buy {buy} --value 1")).unwrap().status, Some(Status::TradeLockerNotFound));
    owner.done(&format!("buy {buy} --value 100000000"));
    let buyer = owner.folder.path().join("buyer");
    assert_eq!(owner.done(&format!("take --key MINE-7 --wallet {}", buyer.display())).json["coins"][0]["sn"], 0);

    // Freed: the coins leave the wallet.
    let sold = owner.done(&format!("sell --coins 1x1 --for cc --price 1 --address {address}"));
    owner.done(&format!("unsell {} --free", sold.json["identifier"].as_str().unwrap()));
    assert!(!owner.entries().contains_key(&coin(1, 0)));
}

#[test]
fn ten_for_one_and_one_for_ten() {
    let owner = Owner::new();
    let output = owner.done("break --coins 1x1");
    assert_eq!(output.json["made"].as_array().unwrap().len(), 10);
    owner.is_settled();
    assert_eq!(owner.entries().len(), 12 + 10 + 1);
    let output = owner.done("join --coins 10x0");
    assert_eq!(output.json["made"], serde_json::json!([{ "den": 1, "sn": 500 }]));
    owner.is_settled();
    assert_eq!(owner.done("change --operation join --den 0 --session 77").json["session"], 77);

    for line in ["break --coins 2x1", "join --coins 9x0", "join --coins 9x0,1x1"] {
        assert!(matches!(owner.run(line), Err(Error::Usage(_))), "{line}");
    }
    owner.fault(CommandKind::ChangeSerialNumbers, Fault::Refused(Status::SerialNumberOrDenomination));
    assert_eq!(owner.run("break --coins 1x1").unwrap().status, Some(Status::SerialNumberOrDenomination));
    owner.fault(CommandKind::Break, Fault::Refused(Status::RequestRate));
    assert!(owner.run("break --coins 1x1").unwrap().is_refused());
    owner.is_settled();
}

#[test]
fn sums_and_new_secrets() {
    let owner = Owner::new();
    owner.done("detect-sum --coins all");
    owner.done("pown-sum --coins 3x0");
    owner.is_settled();
    owner.node.state().coins.insert(coin(0, 4), Secret::new([0xDD; 16]));
    let output = owner.done("pown --coins all");
    assert_eq!(output.status, Some(Status::Mixed));
    assert_eq!(output.json["changed"].as_array().unwrap().len(), 13);
    assert_eq!(owner.entries()[&coin(0, 4)], Entry { an: Some(an_of(coin(0, 4))), pending: None });
    let output = owner.run("detect").unwrap();
    assert!(output.text.starts_with("13 of 14 coins authentic\nnot authentic: 0:4\n"), "{}", output.text);
    assert!(owner.run("detect-sum --coins all").unwrap().is_refused());
}

#[test]
fn the_treasury() {
    let owner = Owner::new();
    let key_file = owner.folder.path().join("key");
    std::fs::write(&key_file, TREASURY_KEY.map(|byte| format!("{byte:02x}")).concat() + "\n").unwrap();
    let key = format!("--treasury-key {}", key_file.display());

    let output = owner.done(&format!("available-serial-numbers {key} --den 0 --session 9"));
    assert_eq!(output.json["ranges"], serde_json::json!([[700, 719]]));
    let created = owner.done(&format!("create-coins {key} --session 9 --coins 0:700,0:701,0:705"));
    assert!(created.text.starts_with("3 coins in the wallet"), "{}", created.text);
    owner.is_settled();
    let output = owner.done(&format!("all-serial-numbers {key} --den 0"));
    assert_eq!(
        (&output.json["coins"], &output.json["ranges"][2]),
        (&serde_json::json!(15), &serde_json::json!([705, 705]))
    );

    // One of them was taken over by somebody else: only the other leaves the wallet.
    owner.node.state().coins.insert(coin(0, 701), Secret::new([0xDD; 16]));
    let output = owner.done(&format!("delete-coins {key} --coins 0:700,0:701"));
    assert_eq!((output.status, &output.json["deleted"]), (Some(Status::Mixed), &serde_json::json!(1)));
    assert!(owner.entries().contains_key(&coin(0, 701)) && !owner.entries().contains_key(&coin(0, 700)));
    owner.done(&format!("free-coins {key} --coins 0:701,0:702"));
    assert!(!owner.node.state().coins.contains_key(&coin(0, 701)));

    std::fs::write(&key_file, "00112233445566778899aabbccddeeff").unwrap();
    assert_eq!(owner.run(&format!("all-serial-numbers {key} --den 0")).unwrap().status, Some(Status::AdminAuth));
    std::fs::write(&key_file, "00112233445566778899aabbccddeef").unwrap();
    let refused = owner.run(&format!("all-serial-numbers {key} --den 0")).unwrap_err();
    assert!(matches!(&refused, Error::Usage(line) if !line.contains("0011")), "{refused}");
}

/// The key leaves for another machine sealed with type 4 or 5, or not at all. 0.0.0.0 is no loopback address, and yet
/// Linux connects it to this machine: what is sent there would be seen.
#[test]
fn the_treasury_key_is_shown_to_no_listener() {
    let owner = Owner::new();
    let key_file = owner.folder.path().join("key");
    std::fs::write(&key_file, TREASURY_KEY.map(|byte| format!("{byte:02x}")).concat()).unwrap();
    owner.done("store --key LOCK-1 --coins 0:11");
    let (stream, datagrams) = stream_and_datagrams();
    stream.set_nonblocking(true).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    let to = |port: u16, words: &str| {
        let line = format!("{words} --treasury-key {} --to 0.0.0.0:{port}", key_file.display());
        let mut arguments = parse(&line).unwrap_or_else(|error| panic!("{error}"));
        (arguments.raida_id, arguments.wallet) = (NODE.raida_id, Some(owner.wallet.clone()));
        run(&arguments)
    };
    let commands = [
        "available-serial-numbers --den 0",
        "create-coins --session 9 --coins 0:700",
        "delete-coins --coins 0:1",
        "free-coins --coins 0:700",
        "all-serial-numbers --den 0",
    ];
    let before = owner.entries();
    for command in commands {
        for seal in ["", "--encrypt 1", "--encrypt 2 --key-locker LOCK-1"] {
            for transport in ["", "--udp"] {
                let refused = to(stream.local_addr().unwrap().port(), &format!("{command} {seal} {transport}"));
                let refused = refused.expect_err("a refusal");
                assert!(matches!(&refused, Error::Usage(line) if line.starts_with("nothing was sent")), "{refused}");
            }
        }
    }
    assert_eq!(owner.entries(), before);
    let nobody = std::io::ErrorKind::WouldBlock;
    assert_eq!(stream.accept().map(drop).map_err(|error| error.kind()), Err(nobody));
    assert_eq!(datagrams.recv(&mut [0; 64]).map_err(|error| error.kind()), Err(nobody));

    for seal in ["--encrypt 4", "--encrypt 5"] {
        let reply = to(owner.node.address.port(), &format!("{} {seal}", commands[4])).unwrap();
        assert!(!reply.is_refused(), "{seal}: {}", reply.text);
    }
}

/// Every command that changes coins, with what it is called.
const CHANGES: [(CommandKind, &str); 7] = [
    (CommandKind::Store, "store --key ABC-1234 --coins 3x0"),
    (CommandKind::StoreMultiple, "store-multiple --locker AAA-1=3x0 --locker BBB-2=1x1"),
    (CommandKind::Pown, "pown --coins all"),
    (CommandKind::PownSum, "pown-sum --coins all"),
    (CommandKind::PutForSale, "put-for-sale --coins 3x0 --for btc --price 5 --address an-address-of-a-seller"),
    (CommandKind::Break, "break --coins 1x1"),
    (CommandKind::Join, "join --coins 10x0"),
];

#[test]
fn an_unanswered_request_keeps_both_secrets_until_it_is_settled() {
    for transport in ["", "--udp"] {
        for (kind, line) in CHANGES {
            for (fault, carried_out) in [(Fault::AnswerLost, true), (Fault::RequestLost, false)] {
                let owner = Owner::new();
                let before = owner.node.state().coins.clone();
                owner.fault(kind, fault);
                let error = owner.run(&format!("{transport} --timeout 0.3 {line}")).unwrap_err();
                assert!(matches!(error, Error::Timeout(_)), "{line}: {error}");
                let after = owner.node.state().coins.clone();
                assert_eq!(before != after, carried_out);

                // Whatever the node holds, the wallet has it. And the coins in question are not touched.
                let entries = owner.entries();
                for (coin, an) in before.iter().chain(&after) {
                    let entry = entries[coin];
                    assert!(entry.an == Some(*an) || entry.pending == Some(Pending::Secret(*an)));
                }
                let waiting = entries.values().filter(|entry| entry.pending.is_some()).count();
                assert!(waiting > 0);
                let output = owner.done("wallet reconcile");
                let settled = output.json[if carried_out { "done" } else { "not_done" }].as_array().unwrap().len();
                assert_eq!(settled, waiting, "{line}");
                owner.is_settled();
            }
        }
    }
}

#[test]
fn coins_that_wait_are_refused_and_the_others_go_on() {
    let owner = Owner::new();
    owner.fault(CommandKind::Store, Fault::AnswerLost);
    owner.run("--timeout 0.3 store --key ABC-1234 --coins 0:0").unwrap_err();
    let error = owner.run("pown --coins 0:0").unwrap_err();
    assert!(error.to_string().contains("wallet reconcile") && matches!(error, Error::Usage(_)), "{error}");
    assert_eq!(owner.done("pown --coins all").json["changed"].as_array().unwrap().len(), 13);
    assert_eq!(owner.done("wallet list").json["coins"][0]["place"], "waiting");
    // Its key from the wallet that was waiting; the node has it in the locker by now.
    let error = owner.run("remove --key ABC-1234").unwrap_err();
    assert!(matches!(error, Error::Usage(_)), "{error}");
    owner.done("wallet reconcile");
    owner.done("remove --key ABC-1234");
    owner.is_settled();
}

#[test]
fn a_forged_refusal_loses_no_secret() {
    let owner = Owner::new();
    owner.fault(CommandKind::Pown, Fault::ForgedRefusal);
    assert!(owner.run("--encrypt 1 --key-coin 1:0 pown --coins 0:0").unwrap().is_refused());
    let held = owner.node.state().coins[&coin(0, 0)];
    assert!(owner.archive().contains(&super::super::secrets::hex_of_bytes(held.bytes())));
}

#[test]
fn a_forged_success_is_not_believed() {
    for transport in ["", "--udp"] {
        let owner = Owner::new();
        owner.fault(CommandKind::Pown, Fault::ForgedSuccess);
        let error =
            owner.run(&format!("{transport} --timeout 0.3 --encrypt 1 --key-coin 1:0 pown --coins 0:0")).unwrap_err();
        assert!(matches!(error, Error::Reply(_)), "{error}");
        owner.done("wallet reconcile");
        owner.is_settled();
    }
}

#[test]
fn an_error_of_the_node_leaves_it_open_and_a_refusal_does_not() {
    let owner = Owner::new();
    owner.fault(CommandKind::Store, Fault::Refused(Status::Internal));
    assert!(owner.run("store --key ABC-1234 --coins 0:0").unwrap().is_refused());
    assert!(owner.entries()[&coin(0, 0)].pending.is_some());
    owner.done("wallet reconcile");
    owner.is_settled();
    owner.fault(CommandKind::Store, Fault::Refused(Status::TooManyCoins));
    assert!(owner.run("store --key ABC-1234 --coins 0:0").unwrap().is_refused());
    owner.is_settled();
}

#[test]
fn answers_to_others_are_passed_over() {
    let owner = Owner::new();
    owner.fault(CommandKind::Detect, Fault::StrangersFirst);
    assert_eq!(owner.done("--udp detect").status, Some(Status::AllPass));
}

#[test]
fn where_nobody_listens_nothing_is_written() {
    let owner = Owner::new();
    let before = std::fs::read_to_string(&owner.wallet).unwrap();
    let mut arguments = parse("store --key ABC-1234 --coins 3x0").unwrap();
    arguments.wallet = Some(owner.wallet.clone());
    // Taken and given back: nobody listens there.
    arguments.to = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = run(&arguments).unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
    assert_eq!(std::fs::read_to_string(&owner.wallet).unwrap(), before);
}

#[test]
fn what_cannot_be_asked_is_not_asked() {
    let owner = Owner::new();
    for line in [
        "--encrypt 2 echo",
        "--encrypt 4 --key-coin 5:5 echo",
        "--encrypt 5 --key-coin 0:0 echo",
        "store --key ABC-1234 --coins 13x0",
        "store --key ABC-1234 --coins 6:1",
        "put-for-sale --coins 1x0 --for btc --price 5 --address short",
    ] {
        assert!(matches!(owner.run(line), Err(Error::Usage(_))), "{line}");
    }
    assert_eq!(owner.node.state().requests, 0);
    let mut arguments = parse("detect").unwrap();
    assert!(matches!(run(&arguments), Err(Error::Usage(_))));
    arguments.to = "nowhere".into();
    assert!(matches!(run(&arguments), Err(Error::Usage(_))));
    std::fs::write(&owner.wallet, "no wallet").unwrap();
    assert!(matches!(owner.run("detect"), Err(Error::Machine(..))));
}

#[test]
fn a_wrong_header_is_answered_and_the_next_request_gets_a_new_connection() {
    let owner = Owner::new();
    let mut arguments = parse("--encrypt 4 --key-coin 0:0 --raida-id 8 echo").unwrap();
    arguments.to = owner.node.address.to_string();
    arguments.wallet = Some(owner.wallet.clone());
    // The node answers with its own number: it is not the one that was asked for.
    assert!(matches!(run(&arguments), Err(Error::Reply(_))));
    arguments.raida_id = NODE.raida_id;
    arguments.coin_id = 5;
    assert_eq!(run(&arguments).unwrap().status, Some(Status::CoinId));
}
