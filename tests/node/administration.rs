//! `raida admin` on a node that serves, as an operator uses it: a dispute from report to end, markets, bounds,
//! connections, the look at every page, the end.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use raida::store::files;
use raida::store::storage::Directory;
use raida::store::suspended::{Cause, HOLDS_MAX, Held, Hold, Suspended, Who};
use serde_json::Value;

use crate::program::{Node, command, ends_with, field, minted, raida, text};

const KEY: &str = "ABC-1234";

/// A node with ten coins, an admin socket and a wallet.
struct Place {
    _folder: tempfile::TempDir,
    data: PathBuf,
    wallet: PathBuf,
    socket: PathBuf,
    configuration: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, wallet) = minted(folder.path());
        let (socket, configuration) = (folder.path().join("admin.sock"), folder.path().join("raida.toml"));
        fs::write(&configuration, format!("[admin]\nsocket = \"{}\"\n", socket.display())).expect("a file");
        Self { data, wallet, socket, configuration, _folder: folder }
    }

    fn serve(&self) -> (Node, String) {
        let words = ["serve", "--data", text(&self.data), "--config", text(&self.configuration), "--trust-market"];
        let mut node = Node::spawn(command(&[&words[..], &["--listen", "127.0.0.1:0", "--shards", "2"]].concat()));
        let ready = node.line();
        assert!(ready.starts_with("ready "), "{ready}");
        (node, ready)
    }

    /// Runs `raida admin`, which must end with a status; what it printed, or said where it refused.
    fn admin(&self, status: i32, words: &[&str]) -> String {
        let output = raida(&[&["admin", "--socket", text(&self.socket)][..], words].concat());
        let said = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let (printed, refused) = (said(output.stdout), said(output.stderr));
        assert_eq!(output.status.code(), Some(status), "{words:?}: {printed}{refused}");
        if status == 0 { printed } else { refused + &printed }
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.admin(0, &[&["--json"][..], words].concat())).expect("JSON")
    }

    /// Runs `raida client` with the wallet, which must end with a status; what it printed.
    fn client(&self, ready: &str, status: i32, words: &[&str]) -> String {
        let fixed = ["client", "--to", field(ready, "listen"), "--wallet", text(&self.wallet)];
        let output = raida(&[&fixed[..], words].concat());
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text")).concat();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        said
    }

    /// The lines of the journal, but for the first: how the coins came.
    fn journal(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.data.join(files::ADMIN_JOURNAL)).expect("a journal");
        let mut lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        assert_eq!(lines.remove(0)["act"], "mint");
        lines
    }
}

#[test]
fn a_dispute_from_report_to_end() {
    let place = Place::new();
    let (node, ready) = place.serve();
    place.client(&ready, 0, &["store", "--key", KEY, "--coins", "3x0"]);
    place.admin(0, &["hold", "--locker", KEY, "--reason", "case 17: theft reported"]);
    assert!(place.client(&ready, 1, &["remove", "--key", KEY]).contains("154"));
    assert!(place.client(&ready, 1, &["peek", "--key", KEY]).contains("154"));
    assert!(place.client(&ready, 1, &["store", "--key", KEY, "--coins", "1x0"]).contains("154"));
    assert!(place.admin(1, &["hold", "--locker", KEY, "--reason", "again"]).contains("case 17: theft reported"));

    // It outlasts the node, however that ends.
    node.kill();
    let (node, ready) = place.serve();
    assert!(place.client(&ready, 1, &["peek", "--key", KEY]).contains("154"));
    let suspended = &place.json(&["suspended"])["suspended"];
    let hold = &suspended["holds"][0];
    let uid = fs::metadata(&place.data).expect("a directory").uid();
    assert_eq!((&hold["reason"], &hold["by"]["uid"]), (&"case 17: theft reported".into(), &uid.into()));
    let fingerprint = hold["held"]["locker"].as_str().expect("a hash")[..8].to_string();
    assert!(place.admin(0, &["suspended"]).contains(&format!("locker       {fingerprint} since ")));

    assert!(place.admin(1, &["release", "--fingerprint", "00000000", "--reason", "typo"]).contains("not held"));
    assert!(place.admin(1, &["release", "--fingerprint", &fingerprint, "--reason", " "]).contains("a reason is"));
    place.admin(0, &["release", "--fingerprint", &fingerprint, "--reason", "case 17: settled"]);
    place.client(&ready, 0, &["remove", "--key", KEY]);
    assert_eq!(place.admin(0, &["suspended"]), "nothing is held, no market is paused\n");

    let acts: Vec<String> =
        place.journal().iter().map(|line| format!("{} {} {}", line["act"], line["what"], line["reason"])).collect();
    assert_eq!(
        acts,
        [
            format!("\"hold\" \"locker {fingerprint}\" \"case 17: theft reported\""),
            format!("\"release\" \"locker {fingerprint}\" \"case 17: settled\""),
        ]
    );
    assert!(place.journal().iter().all(|line| line["uid"] == uid && line["pid"].as_i64() > Some(0)));
    let ended = node.stop();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.said.contains("case 17: settled") && !ended.said.contains(KEY), "{}", ended.said);
}

#[test]
fn a_trade_locker_is_held_and_a_market_paused() {
    let place = Place::new();
    let (node, ready) = place.serve();
    let address = "44AFFq5kSiGBoZ4NMDwYtN18obc8AemS33DBLWs3H7otXft";
    let sale = ["put-for-sale", "--coins", "2x0", "--for", "xmr", "--price", "250", "--address", address];
    place.client(&ready, 0, &sale);
    let listed = || {
        let to = field(&ready, "listen");
        let output = raida(&["client", "--to", to, "--json", "list-for-sale", "--for", "xmr"]);
        String::from_utf8(output.stdout).expect("text")
    };
    let list = listed();
    let at = list.find("02EEEE").or_else(|| list.find("02eeee")).unwrap_or_else(|| panic!("an offer in {list}"));
    let identifier = list[at - 26..at + 6].to_string();
    place.admin(0, &["hold", "--trade-locker", &identifier, "--reason", "case 18"]);
    assert!(!listed().contains(&identifier));
    assert!(place.client(&ready, 1, &["peek-trade-locker", &identifier]).contains("154"));
    place.admin(0, &["release", "--trade-locker", &identifier, "--reason", "case 18: settled"]);
    assert!(listed().contains(&identifier));

    place.admin(0, &["pause", "monero", "--reason", "prices look wrong"]);
    assert!(place.admin(1, &["pause", "xmr", "--reason", "twice"]).contains("paused already"));
    assert!(place.client(&ready, 1, &sale).contains("50 "));
    assert!(listed().contains(&identifier));
    assert_eq!(place.json(&["suspended"])["suspended"]["pauses"][0]["coin"], "monero");
    place.admin(0, &["resume", "monero", "--reason", "they were right"]);
    place.client(&ready, 0, &sale);
    assert!(node.stop().status.success());
}

/// Whoever was robbed knows his coins, and the thief's key nobody.
#[test]
fn a_coin_leads_to_the_locker_whose_key_nobody_knows() {
    let place = Place::new();
    let (node, ready) = place.serve();
    place.client(&ready, 0, &["store", "--key", KEY, "--coins", "0:0,0:1"]);
    let address = "44AFFq5kSiGBoZ4NMDwYtN18obc8AemS33DBLWs3H7otXft";
    let sale = ["put-for-sale", "--coins", "0:2", "--for", "xmr", "--price", "250", "--address", address];
    place.client(&ready, 0, &sale);
    let why = ["--reason", "case 19"];
    let hold = |status, coin: [&str; 2]| place.admin(status, &[&["hold", "--coin"], &coin[..], &why].concat());

    let held = hold(0, ["0", "1"]);
    let fingerprint = held.trim().strip_prefix("hold: locker ").expect("a locker");
    assert!(place.client(&ready, 1, &["peek", "--key", KEY]).contains("154"));
    assert!(hold(1, ["0", "0"]).contains("is held already: case 19"));
    let offer = hold(0, ["0", "2"]);
    let offer = offer.trim().strip_prefix("hold: trade locker ").expect("a trade locker");
    assert!(place.client(&ready, 0, &["--json", "list-for-sale", "--for", "xmr"]).contains("\"offers\":[]"));
    assert!(hold(1, ["0", "3"]).contains("is in no locker, but in a wallet"));
    assert!(hold(1, ["-1", "3"]).contains("not in circulation"));
    hold(2, ["7", "0"]);
    place.admin(0, &[&["release", "--coin", "0", "0"][..], &why].concat());
    place.client(&ready, 0, &["peek", "--key", KEY]);
    let told: Vec<(Value, Value)> =
        place.journal().into_iter().map(|line| (line["act"].clone(), line["what"].clone())).collect();
    let line = |act: &str, what: String| (act.into(), what.into());
    let locker = format!("locker {fingerprint}");
    let expected =
        [line("hold", locker.clone()), line("hold", format!("trade locker {offer}")), line("release", locker)];
    assert_eq!(told, expected);
    assert!(node.stop().status.success());

    // Where the seller wants to be paid is what he is known by.
    let wallet = fs::read_to_string(&place.wallet).expect("a wallet");
    let coins = wallet.lines().map(|line| serde_json::from_str::<Value>(line).expect("a coin"));
    let an = coins.filter(|coin| coin["sn"] == 2).filter_map(|coin| Some(coin["an"].as_str()?.to_string())).next_back();
    let said = raida(&["inspect", "--data", text(&place.data), "locker", &an.expect("an AN")]);
    let said = String::from_utf8(said.stdout).expect("text");
    assert!(said.contains(&format!("price            250 monero\npayout address   {address}\n")), "{said}");
}

#[test]
fn connections_bounds_checkpoint_verify_and_the_end() {
    let place = Place::new();
    let (node, ready) = place.serve();
    place.client(&ready, 0, &["store", "--key", KEY, "--coins", "3x0"]);

    let mut silent = TcpStream::connect(field(&ready, "listen")).expect("a connection");
    let peer = silent.local_addr().expect("an address").to_string();
    let row = loop {
        let connections = place.json(&["connections"]);
        let rows = connections["connections"].as_array().expect("rows").clone();
        if let Some(row) = rows.into_iter().find(|row| row["peer"] == peer) {
            break row;
        }
    };
    assert_eq!((&row["requests"], &row["in_flight"]), (&0.into(), &0.into()));
    assert!(place.admin(0, &["connections"]).contains(&peer));
    let name = row["name"].as_str().expect("a name");
    place.admin(0, &["disconnect", name]);
    // It ends as the node closed it, not by a deadline of a minute.
    assert!(matches!(silent.read(&mut [0]), Ok(0) | Err(_)));
    assert!(place.admin(1, &["disconnect", name]).contains("no longer there"));
    assert!(place.admin(1, &["disconnect", "nobody"]).contains("no connection's name"));

    assert!(place.admin(0, &["bounds"]).contains("limits.idle_seconds = 60\n"));
    place.admin(0, &["set", "limits.idle_seconds", "30"]);
    place.admin(0, &["set", "store.cache_pages", "8"]);
    assert!(place.admin(0, &["bounds"]).contains("limits.idle_seconds = 30\n"));
    assert!(place.admin(1, &["set", "limits.idle_seconds", "0"]).contains("1..=86400"));
    assert!(place.admin(1, &["set", "server.port", "1"]).contains("cannot be changed"));

    place.admin(0, &["checkpoint"]);
    let verified = place.json(&["verify", "--pages-per-second", "100000"]);
    let report = &verified["verified"]["report"];
    assert_eq!((&report["damaged"], &report["failed"]), (&Value::Array(vec![]), &Value::Null));
    assert!(report["pages_read"].as_u64() > Some(0), "{verified}");
    assert_eq!(place.json(&["verify", "--status"])["verified"]["report"], *report);

    assert!(place.admin(0, &["stop", "--reason", "kernel update"]).contains("it has ended"));
    assert!(place.admin(3, &["checkpoint"]).contains("admin.sock"));
    let ended = node.waited();
    assert!(ended.status.success(), "{ended:?}");
    // The checkpoint of the end left nothing in the logs.
    let (node, ready) = place.serve();
    assert_eq!(field(&ready, "recovered"), "0");
    assert!(node.stop().status.success());
    let journal = place.journal();
    let acts: Vec<&Value> = journal.iter().map(|line| &line["act"]).collect();
    assert_eq!(acts, ["disconnect", "disconnect", "disconnect", "set", "set", "checkpoint", "verify", "stop"]);
    // What was gone already was not closed, and the journal says so.
    assert_eq!((&journal[1]["failed"], &journal[2]["what"]), (&Value::Null, &journal[1]["what"]));
    assert_eq!(journal[2]["failed"], format!("{name} is no longer there"));
}

/// As on a full disk: what helps goes on, what must be in the journal does not.
#[test]
fn without_its_journal_a_node_holds_nothing_but_makes_a_checkpoint_and_stops() {
    let place = Place::new();
    let (node, _) = place.serve();
    fs::remove_file(place.data.join(files::ADMIN_JOURNAL)).expect("a journal");
    fs::create_dir(place.data.join(files::ADMIN_JOURNAL)).expect("a folder in its place");
    assert!(place.admin(9, &["hold", "--locker", KEY, "--reason", "case 1"]).contains("admin.journal"));
    assert!(place.json(&["suspended"])["suspended"]["holds"].as_array().is_some_and(Vec::is_empty));
    place.admin(0, &["checkpoint"]);
    place.admin(0, &["stop", "--reason", "the disk is full"]);
    let ended = node.waited();
    assert!(ended.status.success() && ended.said.contains("not in the journal"), "{ended:?}");
}

#[test]
fn a_node_holds_no_more_than_a_backup_takes() {
    let place = Place::new();
    let by = Who { uid: 0, pid: 1 };
    let cause = Cause { reason: "case 1".to_owned(), since_unix_ms: 0, by };
    let held = |number: usize| Held::Locker((number as u128).to_be_bytes());
    let holds = (0..HOLDS_MAX).map(|number| Hold { held: held(number), cause: cause.clone() }).collect();
    let directory = Directory::open(&place.data).expect("a data directory");
    Suspended { salt: [7; 16], holds, pauses: Vec::new() }.save(&directory).expect("a disk");
    drop(directory);
    let (_node, _) = place.serve();
    assert!(place.admin(1, &["hold", "--locker", KEY, "--reason", "case 2"]).contains("10000 lockers are held"));
}

#[test]
fn a_page_that_rots_while_the_node_serves_is_found() {
    let place = Place::new();
    let (node, _) = place.serve();
    let file = fs::OpenOptions::new().write(true).open(place.data.join(files::COINS).join("08.pages"));
    file.and_then(|file| file.write_all_at(b"rot", 5000)).expect("a page");
    let said = place.admin(5, &["verify", "--pages-per-second", "100000"]);
    assert!(said.contains("coins/08.pages page 0 of denomination 0 is damaged"), "{said}");
    let ended = node.stop();
    assert!(ended.said.contains("page 0 of denomination 0 is damaged"), "{ended:?}");
}

/// What is held must not come free because a file rots.
#[test]
fn a_node_does_not_start_when_nobody_knows_what_is_held() {
    let place = Place::new();
    let (node, _) = place.serve();
    place.admin(0, &["hold", "--locker", KEY, "--reason", "case 19"]);
    assert!(node.stop().status.success());
    let file = place.data.join(files::SUSPENDED);
    for secret in [KEY, "ABC"] {
        assert!(!fs::read_to_string(&file).expect("text").contains(secret));
    }
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&place.data.join(files::ADMIN_JOURNAL)), 0o600);
    let mut bytes = fs::read(&file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("a file");
    let verified = command(&["verify", "--data", text(&place.data)]).output().expect("raida runs");
    assert_eq!(verified.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&verified.stdout).contains("suspended cannot be used"));
    let words = ["serve", "--data", text(&place.data), "--listen", "127.0.0.1:0"];
    assert!(ends_with(5, &words).contains("suspended is damaged, its checksum is wrong"));
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}
