//! Export, backup and restore as an operator uses them, on directories of real nodes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::program::{Node, ends_with, field, minted, raida, text};

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
