//! The archive of real nodes, and what `raida audit` and `raida report` tell of it: everything, once, and no secret.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{Error, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use raida::client::secrets::hex_of_bytes;
use raida::coin::{CoinId, Place, Secret};
use serde_json::Value;

use crate::crash::Lab;
use crate::holder::Holder;
use crate::net::NetClient;
use crate::program::{Node, RAIDA, command, ends_unread, ends_with, field, minted, raida, text};

/// How long something may take before a test fails: far longer than any machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `raida` said on standard output, ending well and saying nothing else.
fn says(words: &[&str]) -> String {
    let output = raida(words);
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success() && said.is_empty(), "{words:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

fn audit(data: &Path, more: &[&str]) -> String {
    says(&[&["audit", "--data", text(data)], more].concat())
}

/// A step of a coin as `--json` tells it.
#[derive(PartialEq, Eq, Hash, Clone, Debug)]
struct Step {
    sequence: u64,
    log: u64,
    coin: (i64, i64),
    from: String,
    to: String,
}

fn steps(json: &str) -> Vec<Step> {
    let step = |line: &str| {
        let step: Value = serde_json::from_str(line).expect("a line of JSON");
        let word = |name: &str| step[name].as_str().expect("text").to_owned();
        Step {
            sequence: step["sequence"].as_u64().expect("a number"),
            log: step["log"].as_u64().expect("a number"),
            coin: (step["den"].as_i64().expect("a number"), step["sn"].as_i64().expect("a number")),
            from: word("from"),
            to: word("to"),
        }
    };
    json.lines().map(step).collect()
}

/// Every step once, each coin's from where the one before left it; returns where they come to.
fn follow(steps: &[Step]) -> BTreeMap<(i64, i64), &str> {
    let mut seen = HashSet::new();
    let mut places = BTreeMap::new();
    for step in steps {
        assert!(seen.insert((step.sequence, step.log, step.coin)), "{step:?} is told twice");
        let before = places.insert(step.coin, &step.to[..]);
        assert!(before.is_none_or(|before| before == step.from), "{step:?} comes from {before:?}");
    }
    assert!(steps.windows(2).all(|pair| pair[0].sequence <= pair[1].sequence));
    places
}

fn archived(data: &Path) -> usize {
    fs::read_dir(data.join("archive")).map_or(0, |files| {
        files.filter(|file| file.as_ref().is_ok_and(|file| text(&file.path()).ends_with(".log"))).count()
    })
}

/// Lets all clients of a lab work until `enough`.
fn work_until(lab: &mut Lab, node: &Node, enough: impl Fn() -> bool) {
    let stop = AtomicBool::new(false);
    let act = |holder: &mut Holder, client: &mut NetClient| match stop.load(Ordering::Relaxed) {
        false => holder.act(client),
        true => Err(Error::other("enough")),
    };
    lab.work(node.address(), act, || {
        let until = Instant::now() + PATIENCE;
        while !enough() {
            assert!(Instant::now() < until, "it takes too long");
            thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_audit_tells_where_coins_came_from_and_went_and_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, wallet) = minted(folder.path());
    let (node, ready) = Node::serve(&data, &["--trust-market"]);
    let client = |ready: &str, words: &[&str]| {
        ends_with(0, &[&["client", "--to", field(ready, "listen"), "--wallet", text(&wallet)], words].concat());
    };
    client(&ready, &["store", "--key", "ABC-1234", "--coins", "4x0"]);
    client(&ready, &["remove", "--key", "ABC-1234", "--coins", "0:3"]);
    let address = "bc1qxy2kgdygjrsqtzq2n0yrf2493p83kkfjhx0wlh";
    client(&ready, &["put-for-sale", "--coins", "0:5,0:6", "--for", "btc", "--price", "250", "--address", address]);
    let txid = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
    let buy =
        ["buy", "--key", "DEF-5678", "--for", "btc", "--value", "200000000", "--price", "250", "--memo", "thanks"];
    client(&ready, &[&buy[..], &["--txid", txid]].concat());
    node.kill();

    let table = audit(&data, &[]);
    let told: Vec<&str> = table.lines().map(|line| line.split_once("  ").expect("a time").1.trim_start()).collect();
    assert_eq!(told.len(), 9, "{table}");
    for (at, words) in [
        (0, &["store", "0:0", "owned -> locker"][..]),
        (3, &["store", "0:3", "owned -> locker"]),
        (4, &["remove", "0:3", "locker -> owned"]),
        (5, &["put-for-sale", "0:5", "owned -> on sale  for 250 bitcoin as "]),
        (8, &["buy", "0:6", "on sale -> locker"]),
    ] {
        assert!(words.iter().all(|word| told[at].contains(word)), "{words:?}: {}", told[at]);
    }

    // The same after the next start, beside the node that serves, and after it has stopped.
    let (node, ready) = Node::serve(&data, &[]);
    assert_eq!(field(&ready, "recovered"), "4");
    assert_eq!((archived(&data), audit(&data, &[])), (1, table.clone()));
    let coin = audit(&data, &["--coin", "0", "3", "--csv"]);
    assert_eq!(coin.lines().count(), 3, "{coin}");
    assert!(
        coin.starts_with("time,sequence,")
            && coin.lines().nth(2).is_some_and(|line| line.contains(",remove,0,3,locker,owned,"))
    );
    let locker = audit(&data, &["--locker", "ABC-1234"]);
    assert_eq!(locker.lines().collect::<Vec<_>>(), table.lines().take(5).collect::<Vec<_>>());
    let mut typed = Command::new(RAIDA)
        .args(["audit", "--data", text(&data), "--locker", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("raida runs");
    typed.stdin.take().expect("a pipe").write_all(b"DEF-5678\n").expect("a key");
    let typed = typed.wait_with_output().expect("an end");
    assert_eq!(String::from_utf8(typed.stdout).expect("text").lines().count(), 2);
    assert_eq!(audit(&data, &["--until", "2020-01-01"]), "");
    assert_eq!(audit(&data, &["--since", "7d", "--json"]).lines().count(), 9);
    assert_eq!(node.end(Signal::SIGTERM).status.code(), Some(0));
    assert_eq!(audit(&data, &[]), table);

    let report = |more: &[&str]| says(&[&["report", "--data", text(&data), "--by", "all"], more].concat());
    let sums: Value = serde_json::from_str(&report(&["--json"])).expect("JSON");
    let trade = &sums["trade"][0];
    assert_eq!((&sums["commits"], &sums["coins"]), (&Value::from(4), &Value::from(9)));
    assert_eq!(
        (&trade["offered"], &trade["sold"], &trade["paid"]),
        (&Value::from(1), &Value::from(1), &Value::from(250))
    );
    assert_eq!((&trade["value"], &trade["price_of_one"]), (&Value::from("2.00000000"), &Value::from("125.00000000")));
    let (table_of_sums, csv) = (report(&[]), report(&["--csv"]));
    assert!(
        table_of_sums.contains("4 commands changed 9 coins") && table_of_sums.contains("250..250"),
        "{table_of_sums}"
    );
    assert!(csv.contains("trade,all,bitcoin,1,2,1,2.00000000,250,250,250,,,\n"), "{csv}");
    assert!(csv.lines().all(|line| line.split(',').count() == 13), "{csv}");

    let secrets = fs::read_to_string(&wallet).expect("a wallet");
    let ans = secrets.split("\"an\":\"").skip(1).map(|rest| rest[..32].to_lowercase());
    let key = "d21fb1d3356a62e770ca4e40ffffffff".to_owned();
    let everything = [table, audit(&data, &["--json"]), audit(&data, &["--csv"]), table_of_sums, csv, sums.to_string()];
    for secret in ans.chain([key]) {
        assert!(everything.iter().all(|said| !said.contains(&secret)));
    }
}

#[test]
fn a_report_tells_refusals_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, wallet) = minted(folder.path());
    let peek = |ready: &str, key: &str, status| {
        let to = ["client", "--to", field(ready, "listen"), "--wallet", text(&wallet)];
        ends_with(status, &[&to[..], &["peek", "--key", key]].concat());
    };
    let report = |more: &[&str]| says(&[&["report", "--data", text(&data)], more].concat());
    let answers = |command: &str, status: u8| {
        let sums: Value = serde_json::from_str(&report(&["--json"])).expect("JSON");
        let of: Vec<&Value> = sums["answers"].as_array().expect("a list").iter().collect();
        let is_it = |answer: &&&Value| answer["command"] == command && answer["status"] == status;
        of.iter().find(is_it).map(|answer| (answer["answers"].as_u64(), answer["class"].clone()))
    };
    let (node, ready) = Node::serve(&data, &[]);
    peek(&ready, "ABC-1234", 1);
    peek(&ready, "ABC-1235", 1);
    assert_eq!(node.end(Signal::SIGTERM).status.code(), Some(0));
    assert_eq!(answers("peek", 242), Some((Some(2), Value::from("refused"))));
    assert_eq!(answers("peek", 250), None);

    // What was kept is added to, over any number of shards.
    let (node, ready) = Node::serve(&data, &["--shards", "2"]);
    peek(&ready, "ABC-1236", 1);
    assert_eq!(node.end(Signal::SIGTERM).status.code(), Some(0));
    assert_eq!(answers("peek", 242).expect("as before").0, Some(3));
    let (table, csv) = (report(&["--since", "2h"]), report(&["--since", "2h", "--csv"]));
    assert!(table.contains("refused                          3"), "{table}");
    assert!(table.contains(&format!("{:<22}{:>12}  {:<9}{:>4}", "peek", 3, "refused", 242)), "{table}");
    assert!(csv.contains("\nanswer,,peek,,,,,,,,refused,242,3\n"), "{csv}");
    assert!(!report(&["--until", "2020-01-01"]).contains("refused"));

    let file = fs::read_dir(data.join("archive")).expect("a folder").flatten().map(|file| file.path());
    let file = file.filter(|path| text(path).ends_with(".csv")).last().expect("the day's answers");
    fs::write(&file, "hour,command,status,answers\n99,peek,179,3\n").expect("a file");
    let said = ends_with(5, &["report", "--data", text(&data)]);
    assert!(said.contains("answers-") && said.contains("1 files of the archive are damaged"), "{said}");
}

/// Where coins are, as an audit says it.
fn place(an: &Secret) -> &'static str {
    match an.place() {
        Place::Locker(_) => "locker",
        Place::TradeLocker(_) => "on sale",
        Place::Free | Place::Wallet => "owned",
    }
}

#[test]
fn archive_and_logs_tell_everything_that_was_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lab = Lab::new(folder.path().join("data"), 11, 331);
    let data = lab.data.clone();
    for shards in [2, 1] {
        let node = Node::start(&data, shards);
        let before = archived(&data);
        work_until(&mut lab, &node, || archived(&data) >= before + 3);
        // Beside the node, at whatever point it is.
        follow(&steps(&audit(&data, &["--json"])));
        node.kill();
    }
    // What was under way when the node was killed is settled when it is asked again.
    let node = Node::start(&data, 3);
    lab.agrees(&node);
    assert_eq!(node.stop().status.code(), Some(0));

    let json = audit(&data, &["--json"]);
    let told = steps(&json);
    let places = follow(&told);
    let commits: HashSet<(u64, u64)> = told.iter().map(|step| (step.sequence, step.log)).collect();
    let written = lab.written();
    assert!(commits.len() as u64 >= written && commits.len() as u64 <= written + 16, "{} {written}", commits.len());
    let coins: BTreeMap<CoinId, Secret> = lab.coins().collect();
    for (coin, an) in &coins {
        let name = (i64::from(coin.denomination().get()), i64::from(coin.serial_number().get()));
        assert!(
            places.get(&name).is_none_or(|told| *told == place(an)),
            "{coin:?} is told to be {:?}",
            places.get(&name)
        );
    }
    let free =
        places.iter().filter(|((den, sn), _)| !coins.contains_key(&CoinId::new(*den as i8, *sn as u32).unwrap()));
    assert!(free.clone().count() > 0);
    for (coin, told) in free {
        assert_eq!(*told, "free", "{coin:?}");
    }
    for an in coins.values() {
        assert!(!json.contains(&hex_of_bytes(an.bytes())));
    }
    let sums: Value = serde_json::from_str(&says(&["report", "--data", text(&data), "--json"])).expect("JSON");
    assert_eq!(sums["commits"].as_u64(), Some(commits.len() as u64));
    assert!(sums["trade"][0]["sold"].as_u64().is_some_and(|sold| sold > 0), "{sums}");
}

/// An audit that somebody reads slowly is in nobody's way: a node starts beside it, and what it tells stays whole.
#[test]
fn a_node_starts_while_an_audit_of_its_directory_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lab = Lab::new(folder.path().join("data"), 13, 331);
    let data = lab.data.clone();
    let node = Node::start(&data, 2);
    work_until(&mut lab, &node, || archived(&data) >= 2);
    node.kill();
    let before = steps(&audit(&data, &["--json"]));

    let mut audit = command(&["audit", "--data", text(&data), "--json"]);
    let mut audit = audit.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("raida runs");
    // It has begun, and waits: what it tells is more than a pipe holds.
    let mut told = vec![0];
    audit.stdout.as_mut().expect("a pipe").read_exact(&mut told).expect("a first byte");
    assert_eq!(audit.try_wait().expect("a process"), None);
    let node = Node::start(&data, 1);
    work_until(&mut lab, &node, || archived(&data) >= 4);
    audit.stdout.as_mut().expect("a pipe").read_to_end(&mut told).expect("the rest");
    let ended = audit.wait_with_output().expect("a process");
    let said = String::from_utf8(ended.stderr).expect("text");
    assert!(ended.status.success() && said.is_empty(), "{said}");
    let told = steps(std::str::from_utf8(&told).expect("text"));
    follow(&told);
    assert!(before.iter().zip(&told).all(|(before, told)| before == told) && told.len() >= before.len());
    assert_eq!(node.stop().status.code(), Some(0));
}

#[test]
fn while_the_archive_takes_nothing_writes_are_refused_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lab = Lab::new(folder.path().join("data"), 12, 331);
    let (data, away) = (lab.data.clone(), folder.path().join("away"));
    let node = Node::start(&data, 1);
    work_until(&mut lab, &node, || archived(&data) >= 1);
    // As a disk that is not mounted any more.
    fs::rename(data.join("archive"), &away).expect("a folder");
    // Each client ends with the first command that is refused.
    lab.work(node.address(), Holder::act, || ());
    lab.agrees(&node);
    fs::rename(&away, data.join("archive")).expect("a folder");
    let archived_before = archived(&data);
    let until = Instant::now() + PATIENCE;
    while archived(&data) <= archived_before {
        assert!(Instant::now() < until, "it is not tried again");
        lab.work(
            node.address(),
            |holder: &mut Holder, client: &mut NetClient| holder.act(client).and(Err(Error::other("one is enough"))),
            || (),
        );
        thread::sleep(Duration::from_millis(50));
    }
    work_until(&mut lab, &node, || archived(&data) >= archived_before + 3);
    lab.agrees(&node);
    let ended = node.stop();
    assert!(ended.status.success() && ended.said.contains("a log segment cannot be archived"), "{ended:?}");
    let commits: HashSet<u64> = steps(&audit(&data, &["--json"])).iter().map(|step| step.sequence).collect();
    assert!(commits.len() as u64 >= lab.written(), "{} {}", commits.len(), lab.written());
}

#[test]
fn a_wrong_question_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, _) = minted(folder.path());
    for words in [
        &["--coin", "7", "0"][..],
        &["--coin", "0"],
        &["--coin", "0", "1024000"],
        &["--since", "yesterday"],
        &["--since", "2026-02-30"],
        &["--since", "2026-02-02", "--until", "2026-02-01"],
        &["--json", "--csv"],
        &["--locker", "two words"],
        &["--locker", "ABC-1234", "--raida-id", "25"],
    ] {
        let said = ends_with(2, &[&["audit", "--data", text(&data)], words].concat());
        assert!(!said.contains("two words"), "{said}");
    }
    ends_with(2, &["report", "--data", text(&data), "--by", "week"]);
    assert!(ends_with(5, &["audit", "--data", text(&data.join("nowhere"))]).contains("is no directory"));
    assert!(ends_with(5, &["report", "--data", text(folder.path())]).contains("no data directory"));
    assert_eq!(audit(&data, &[]), "");
    assert!(says(&["report", "--data", text(&data)]).contains("nothing was changed"));
}

#[test]
fn without_an_archive_the_gap_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, wallet) = minted(folder.path());
    let file = folder.path().join("raida.toml");
    fs::write(&file, "[archive]\nenabled = false\n").expect("a file");
    let (node, ready) = Node::serve(&data, &["--config", text(&file)]);
    let to = ["client", "--to", field(&ready, "listen"), "--wallet", text(&wallet)];
    ends_with(0, &[&to[..], &["store", "--key", "ABC-1234", "--coins", "4x0"]].concat());
    assert_eq!(node.end(Signal::SIGTERM).status.code(), Some(0));
    assert_eq!(audit(&data, &[]).lines().count(), 4);
    let (node, _) = Node::serve(&data, &["--config", text(&file)]);
    assert_eq!(node.end(Signal::SIGTERM).status.code(), Some(0));
    let said = ends_with(0, &["audit", "--data", text(&data)]);
    assert!(said.contains("log 0: nothing is kept from before"), "{said}");
    assert_eq!(ends_unread(&["audit", "--data", text(&data)]), Some(0));
    assert!(!data.join("archive").exists());
}
