//! The treasury as its operator uses it: a key in a file, the client's commands, and a log that tells of every use.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::program::{Node, ends_with, field, minted, raida, text};

const KEY: &str = "00112233445566778899aabbccddeeff";

/// A key's file, and a configuration that names it.
fn configured(folder: &Path) -> (PathBuf, PathBuf) {
    let (key, file) = (folder.join("key"), folder.join("raida.toml"));
    fs::write(&key, KEY).expect("a file");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a mode");
    fs::write(&file, format!("[treasury]\nkey_file = {key:?}\n")).expect("a file");
    (key, file)
}

#[test]
fn every_use_is_told_and_no_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, wallet) = minted(folder.path());
    let (key, file) = configured(folder.path());
    let (node, ready) = Node::serve(&data, &["--config", text(&file)]);
    let client = ["client", "--json", "--to", field(&ready, "listen"), "--wallet", text(&wallet)];
    let ask = |words: &[&str]| {
        let output = raida(&[&client[..], words, &["--treasury-key", text(&key)]].concat());
        let said = String::from_utf8(output.stdout).expect("text");
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        serde_json::from_str::<serde_json::Value>(&said).expect("JSON")
    };

    let offered = ask(&["available-serial-numbers", "--den", "1", "--session", "5"]);
    let first = offered["ranges"][0][0].as_u64().expect("a serial number");
    let [one, two] = [first, first + 1].map(|sn| format!("1:{sn}"));
    ask(&["create-coins", "--session", "5", "--coins", &format!("{one},{two}")]);
    assert_eq!(ask(&["all-serial-numbers", "--den", "1"])["coins"], 2);
    // They are coins like any other.
    ends_with(0, &[&client[..], &["--encrypt", "4", "pown", "--coins", &one]].concat());
    assert_eq!(ask(&["delete-coins", "--coins", &one])["deleted"], 1);
    ask(&["free-coins", "--coins", &two]);
    assert_eq!(ask(&["all-serial-numbers", "--den", "1"])["coins"], 0);
    let other = folder.path().join("other");
    fs::write(&other, KEY.replace('0', "1")).expect("a file");
    let refused = ["all-serial-numbers", "--den", "1", "--treasury-key", text(&other)];
    ends_with(1, &[&client[..], &refused].concat());

    let ended = node.stop();
    let told = |line: &str| ended.said.lines().filter(|said| said.contains(line)).count();
    for line in [
        "available-serial-numbers (3.120) by 127.0.0.1, 1 items: 250",
        "create-coins (3.130) by 127.0.0.1, 2 items: 250",
        "delete-coins (3.140) by 127.0.0.1, 1 items: 241",
        "free-coins (3.150) by 127.0.0.1, 1 items: 250",
        "command=all-serial-numbers",
    ] {
        assert_eq!(told(line), 1, "{line}: {}", ended.said);
    }
    let secrets = [KEY, "0x11", "17, 34", &KEY.replace('0', "1")];
    assert!(!secrets.iter().any(|secret| ended.said.contains(secret)), "{}", ended.said);
}
