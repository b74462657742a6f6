//! Export, backup and restore as an operator uses them, on directories of real nodes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::crash::Lab;
use crate::holder::{Holder, value};
use crate::net::NetClient;
use crate::program::{Node, command, ends_with, field, minted, raida, text};

/// Every file below a directory, by its name there.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below it").to_path_buf();
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

fn export(data: &Path, to: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    ends_with(0, &["export", "--data", text(data), "--to", text(to)]);
    tree(to)
}

/// The coins of a page of records that are not as they were.
fn changed(was: &[u8], is: &[u8]) -> Vec<usize> {
    let records = was.chunks_exact(17).zip(is.chunks_exact(17)).enumerate();
    records.filter(|(_, (was, is))| was != is).map(|(slot, _)| slot).collect()
}

#[test]
fn what_was_imported_is_exported_byte_for_byte_and_later_only_what_changed_differs() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    let (minted, wallet) = minted(folder.path());
    let reference = export(&minted, &place("reference"));
    assert_eq!(reference.len(), 15_000, "a page file each");
    assert!(reference.values().all(|page| page.len() == 17_408));

    let data = place("imported");
    ends_with(0, &["import", "--from", text(&place("reference")), "--data", text(&data)]);
    assert!(export(&data, &place("again")) == reference, "byte for byte");
    assert!(ends_with(5, &["export", "--data", text(&data), "--to", text(&place("again"))]).contains("not empty"));

    let (node, ready) = Node::serve(&data, &[]);
    let client = ["client", "--to", field(&ready, "listen"), "--wallet", text(&wallet)];
    let ask = |words: &[&str]| ends_with(0, &[&client[..], words].concat());
    ask(&["store", "--key", "ABC-1234", "--coins", "0:0,0:1,0:2,0:3"]);
    let price = ["--for", "btc", "--price", "500", "--address", "an address of twenty"];
    ask(&[&["put-for-sale", "--coins", "0:7"], &price[..]].concat());
    assert!(ends_with(6, &["export", "--data", text(&data), "--to", text(&place("none"))]).contains("in use"));
    drop(node);

    let mut later = export(&data, &place("later"));
    let trade = later.keys().find(|name| name.starts_with("Trades")).expect("an address").clone();
    assert_eq!(later.remove(&trade).expect("an address"), b"an address of twenty");
    let page = Path::new("Data/00/00/0000.bin");
    assert_eq!(changed(&reference[page], &later[page]), [0, 1, 2, 3, 7]);
    later.insert(page.to_path_buf(), reference[page].clone());
    assert!(later == reference, "nothing else changed");
}

#[test]
fn a_backup_of_a_killed_node_is_restored_and_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    let (data, wallet) = minted(folder.path());
    let (node, ready) = Node::serve(&data, &[]);
    let client = |ready: &str, words: &[&str]| {
        ends_with(0, &[&["client", "--to", field(ready, "listen"), "--wallet", text(&wallet)], words].concat());
    };
    client(&ready, &["store", "--key", "ABC-1234", "--coins", "4x0"]);
    let file = place("a.backup");
    let backup = ["backup", "--data", text(&data), "--to", text(&file)];
    assert!(ends_with(6, &backup).contains("in use"));
    drop(node);

    ends_with(0, &backup);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(ends_with(2, &backup).contains("is there already"));
    let restored = place("restored");
    let restore = ["restore", "--from", text(&file), "--data", text(&restored)];
    let said = String::from_utf8(raida(&restore).stdout).expect("text");
    assert!(said.contains("value            10.00000000\n") && said.ends_with("\nrestored\n"), "{said}");
    assert!(ends_with(5, &restore).contains("not empty"));
    ends_with(0, &["verify", "--data", text(&restored)]);
    assert!(export(&data, &place("was")) == export(&restored, &place("is")), "the same coins");
    let (_node, ready) = Node::serve(&restored, &["--shards", "3"]);
    assert_eq!((field(&ready, "coins"), field(&ready, "lockers"), field(&ready, "recovered")), ("10", "1", "0"));
    client(&ready, &["remove", "--key", "ABC-1234"]);

    let mut bytes = fs::read(&file).expect("a file");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    for (wrong, why) in [(&bytes[..], "cut or changed"), (&bytes[..at], "cut or changed"), (&b"x"[..], "too short")] {
        fs::write(&file, wrong).expect("a file");
        let elsewhere = place("elsewhere");
        let line = ends_with(5, &["restore", "--from", text(&file), "--data", text(&elsewhere)]);
        assert!(line.contains(why) && !elsewhere.exists(), "{line}");
    }
}

#[test]
fn how_coins_came_is_in_the_journal_of_their_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    let (data, wallet) = minted(folder.path());
    let again = ["mint", "--data", text(&data), "--den", "0", "--first-sn", "5", "--count", "2"];
    assert!(ends_with(5, &[&again[..], &["--wallet", text(&wallet)]].concat()).contains("in circulation already"));
    let (reference, imported, file) = (place("reference"), place("imported"), place("a.backup"));
    export(&data, &reference);
    ends_with(0, &["import", "--from", text(&reference), "--data", text(&imported)]);
    ends_with(0, &["backup", "--data", text(&imported), "--to", text(&file)]);
    let restored = place("restored");
    ends_with(0, &["restore", "--from", text(&file), "--data", text(&restored)]);
    let told = |data: &Path| -> (String, String) {
        let journal = fs::read_to_string(data.join("admin.journal")).expect("a journal");
        let [line] = journal.lines().collect::<Vec<_>>()[..] else { panic!("what was refused is not told: {journal}") };
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let word = |name: &str| line[name].as_str().expect("a text").to_string();
        assert_eq!(line["uid"], fs::metadata(data).expect("a directory").uid());
        assert!(word("time").ends_with('Z') && line["failed"].is_null(), "{line}");
        (word("act"), word("what"))
    };
    let of = |act: &str, what: String| (act.to_string(), what);
    assert_eq!(told(&data), of("mint", "10 coins of denomination 0 from serial number 0 on".to_string()));
    let from = format!("10 coins worth 10.00000000 from {}", text(&reference));
    assert_eq!(told(&imported), of("import", from));
    let (act, what) = told(&restored);
    let from = format!("10 coins worth 10.00000000 from {}, taken ", text(&file));
    assert!(act == "restore" && what.starts_with(&from), "{what}");
}

/// A log that has room for what is written during a backup on a slow machine.
const CONFIGURATION: &str = "[store]\ncache_pages = 8\nlog_segment_bytes = 1048576\nlog_segments = 64\n";

/// Serves a data directory with two shards and a Unix socket.
fn serve_with_socket(data: &Path, configuration: &str) -> (Node, PathBuf) {
    let (file, socket) = (data.with_file_name("backup.toml"), data.with_file_name("admin.sock"));
    fs::write(&file, configuration).expect("a configuration");
    let words = ["serve", "--listen", "127.0.0.1:0", "--raida-id", "0", "--shards", "2", "--trust-market"];
    let own = ["--data", text(data), "--config", text(&file), "--admin-socket", text(&socket)];
    let node = Node::try_start(command(&[&words[..], &own].concat()));
    (node.unwrap_or_else(|ended| panic!("it does not serve: {ended:?}")), socket)
}

/// Restores a backup and serves it.
fn restored(file: &Path) -> (PathBuf, Node) {
    let data = file.with_extension("restored");
    let said = raida(&["restore", "--from", text(file), "--data", text(&data)]);
    let said = String::from_utf8(said.stdout).expect("text");
    assert!(said.starts_with("backup of        RAIDA 0, coin id 6\n") && said.ends_with("\nrestored\n"), "{said}");
    ends_with(0, &["verify", "--data", text(&data)]);
    let node = Node::start(&data, 3);
    (data, node)
}

#[test]
fn backups_of_a_node_under_load_are_whole_and_the_node_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    let mut lab = Lab::new(place("data"), 7, 331);
    let worth = lab.worth();
    let (node, socket) = serve_with_socket(&place("data"), CONFIGURATION);
    let backup = |name: &str| {
        ends_with(0, &["backup", "--socket", text(&socket), "--to", text(&place(name))]);
    };
    let (stop, steps) = (AtomicBool::new(false), AtomicU64::new(0));
    // Nothing that frees coins or makes them: what all are worth is the same at every moment.
    let act = |holder: &mut Holder, client: &mut NetClient| {
        if stop.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("it is enough"));
        }
        match steps.fetch_add(1, Ordering::Relaxed) % 5 {
            0 => holder.store(client),
            1 => holder.remove(client),
            2 => holder.pown(client),
            3 => holder.break_coin(client),
            _ => holder.join(client),
        }
    };
    let during = ["first.backup", "second.backup", "third.backup"];
    let mut written = Vec::new();
    lab.work(node.address(), act, || {
        for name in during {
            let before = steps.load(Ordering::Relaxed);
            while steps.load(Ordering::Relaxed) < before + 100 {
                std::thread::yield_now();
            }
            backup(name);
            written.push(steps.load(Ordering::Relaxed) - before);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(written.iter().all(|steps| *steps > 100), "commands came meanwhile: {written:?}");
    backup("after.backup");
    lab.agrees(&node);
    for name in during {
        let (_, node) = restored(&place(name));
        let mut client = NetClient::tcp(node.address()).expect("a connection");
        assert_eq!(value(&mut client), worth, "what all coins are worth");
        assert!(node.stop().status.success());
    }
    let journal = fs::read_to_string(place("data").join("admin.journal")).expect("a journal");
    assert_eq!(journal.matches("\"act\":\"backup\"").count(), 4, "{journal}");
    let (_, again) = restored(&place("after.backup"));
    lab.agrees(&again);
    assert!(node.stop().status.success() && again.stop().status.success());
}

#[test]
fn who_asks_for_a_backup_hears_why_there_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, _) = minted(folder.path());
    let (file, nowhere) = (folder.path().join("a.backup"), folder.path().join("nowhere.sock"));
    ends_with(3, &["backup", "--socket", text(&nowhere), "--to", text(&file)]);
    ends_with(2, &["backup", "--to", text(&file)]);
    ends_with(2, &["backup", "--socket", text(&nowhere), "--data", text(&data), "--to", text(&file)]);
    let (node, socket) = serve_with_socket(&data, CONFIGURATION);
    let mut stream = UnixStream::connect(&socket).expect("it listens");
    stream.write_all(b"POST /backup?rate=0 HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
    // A page that rots while the node serves is named, and no backup is made without it.
    File::options()
        .write(true)
        .open(data.join("coins/08.pages"))
        .and_then(|file| file.write_all_at(b"rot", 900))
        .unwrap();
    let said = ends_with(3, &["backup", "--socket", text(&socket), "--to", text(&file)]);
    assert!(said.contains("it was given up: coins/08.pages: page 0 of denomination 0 is damaged"), "{said}");
    assert!(!file.exists() && node.stop().status.success());
}
