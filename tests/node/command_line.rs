//! The command line as an operator meets it: help, mistakes, exit statuses, two nodes on one directory, and the story
//! that `raida dev` prints, pasted line by line.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::program::{Node, command, ends_unread, ends_with, field, minted, raida, text};

#[test]
fn help_is_everywhere_and_ends_well() {
    let subcommands = [
        "dev",
        "serve",
        "import",
        "export",
        "mint",
        "verify",
        "rebuild",
        "backup",
        "restore",
        "inspect",
        "audit",
        "report",
        "client",
        "completions",
        "manual",
    ];
    for words in
        subcommands.map(|name| vec![name]).into_iter().chain([vec![], vec!["client", "store"], vec!["inspect", "log"]])
    {
        let output = raida(&[&words[..], &["--help"]].concat());
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        let help = String::from_utf8(output.stdout).expect("text");
        assert!(help.contains("Usage: raida") && help.contains("raida "), "{words:?}: {help}");
    }
}

#[test]
fn a_wrong_command_line_is_usage() {
    for words in [&["serv"][..], &["serve"], &["serve", "--data", "d", "--raida-id", "25"], &["client", "--to"], &[]] {
        assert!(ends_with(2, words).contains("--help"), "{words:?}");
    }
}

#[test]
fn completions_and_manual_know_every_subcommand() {
    let script = String::from_utf8(raida(&["completions", "bash"]).stdout).expect("text");
    assert!(script.contains("list-for-sale") && script.contains("--trust-market"));
    let folder = tempfile::tempdir().expect("a folder");
    ends_with(0, &["manual", "--to", text(folder.path())]);
    for page in ["raida.1", "raida-serve.1", "raida-client-break.1", "raida-client-wallet-reconcile.1"] {
        assert!(folder.path().join(page).is_file(), "{page}");
    }
    assert!(fs::read_to_string(folder.path().join("raida.1")).expect("a page").contains("Exit status"));
}

#[test]
fn a_wrong_configuration_is_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("raida.toml");
    for (content, said) in [
        ("[limits]\nconnection = 1\n", "limits.connection: unknown key; [limits] knows connections,"),
        ("[server]\nraida_id = 25\n", "server.raida_id = 25: allowed are 0..=24"),
    ] {
        fs::write(&file, content).expect("a file");
        let line = ends_with(4, &["serve", "--data", text(folder.path()), "--config", text(&file)]);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(said) && line.contains(text(&file)), "{line}");
    }
}

/// Who cannot be told why still gets the status.
#[test]
fn a_standard_error_that_nobody_reads_changes_no_status() {
    assert_eq!(ends_unread(&["serve", "--data", "/nowhere", "--listen", "127.0.0.1:0"]), Some(5));
    assert_eq!(ends_unread(&["audit", "--data", "/nowhere"]), Some(5));
}

#[test]
fn what_is_no_data_directory_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let serve = |data: &Path| ends_with(5, &["serve", "--data", text(data), "--listen", "127.0.0.1:0"]);
    assert!(serve(&folder.path().join("nowhere")).contains("nowhere is no directory"));
    let other = folder.path().join("other");
    fs::create_dir(&other).expect("a folder");
    fs::write(other.join("letters"), "mine").expect("a file");
    assert!(serve(&other).contains("no data directory of this program"));
}

#[test]
fn a_node_serves_until_it_is_told_to_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, wallet) = minted(folder.path());
    let (node, ready) = Node::serve(&data, &["--raida-id", "3"]);
    assert_eq!((field(&ready, "raida"), field(&ready, "shards"), field(&ready, "coins")), ("3", "1", "10"));
    assert_eq!((field(&ready, "lockers"), field(&ready, "recovered")), ("0", "0"));

    let client = ["client", "--raida-id", "3", "--to", field(&ready, "listen"), "--wallet", text(&wallet)];
    let ask = |status: i32, words: &[&str]| ends_with(status, &[&client[..], words].concat());
    ask(0, &["store", "--key", "ABC-1234", "--coins", "4x0"]);
    ask(0, &["--udp", "--encrypt", "4", "--json", "peek", "--key", "ABC-1234"]);
    ask(1, &["peek", "--key", "NOT-0000"]);
    assert_eq!(node.end(Signal::SIGTERM).status.code(), Some(0));
    ask(3, &["echo"]);

    // Nothing was left to recover, and any number of shards finds the locker.
    let (node, ready) = Node::serve(&data, &["--raida-id", "3", "--durability", "none"]);
    assert_eq!((field(&ready, "lockers"), field(&ready, "recovered")), ("1", "0"));
    assert_eq!(node.end(Signal::SIGINT).status.code(), Some(0));
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, wallet) = minted(folder.path());
    let (node, ready) = Node::serve(&data, &[]);
    let to = ["client", "--to", field(&ready, "listen"), "--wallet", text(&wallet)];
    ends_with(0, &[&to[..], &["store", "--key", "ABC-1234", "--coins", "4x0"]].concat());
    drop(node);

    let mut node = Node::spawn(command(&["serve", "--data", text(&data), "--listen", "127.0.0.1:0", "--shards", "3"]));
    let ready = node.line();
    assert_eq!((field(&ready, "shards"), field(&ready, "lockers"), field(&ready, "recovered")), ("3", "1", "1"));
}

#[test]
fn a_second_node_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, wallet) = minted(folder.path());
    let (_node, ready) = Node::serve(&data, &[]);
    let line = ends_with(6, &["serve", "--data", text(&data), "--listen", "127.0.0.1:0"]);
    assert!(line.contains("in use by another process"), "{line}");
    let coins = ["--den", "1", "--first-sn", "0", "--count", "1", "--wallet", text(&wallet)];
    ends_with(6, &[&["mint", "--data", text(&data)], &coins[..]].concat());

    let other = folder.path().join("other");
    ends_with(0, &[&["mint", "--data", text(&other)], &coins[..]].concat());
    let line = ends_with(8, &["serve", "--data", text(&other), "--listen", field(&ready, "listen")]);
    assert!(line.contains(&format!("cannot listen on {}", field(&ready, "listen"))), "{line}");
}

#[test]
fn a_coin_in_circulation_is_not_minted_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, wallet) = minted(folder.path());
    let before = fs::read(&wallet).expect("a wallet");
    assert_eq!(before.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"{\"den\":0,\"sn\":")).count(), 10);
    let mint = ["mint", "--data", text(&data), "--wallet", text(&wallet), "--den", "0"];
    let line = ends_with(5, &[&mint[..], &["--first-sn", "9", "--count", "2"]].concat());
    assert!(line.contains("coin 0:9 is in circulation already"), "{line}");
    ends_with(2, &[&mint[..], &["--first-sn", "1023999", "--count", "2"]].concat());
    assert_eq!(fs::read(&wallet).expect("a wallet"), before);
}

/// A data directory as the C server has it: every page file, all coins free but one.
fn reference_directory(root: &Path) {
    for den in -8i8..=6 {
        for high in 0..4u16 {
            let folder = root.join(format!("Data/{:02x}/{high:02x}", den as u8));
            fs::create_dir_all(&folder).expect("a folder");
            for page in (high << 8..(high + 1) << 8).filter(|&page| page < 1000) {
                File::create(folder.join(format!("{page:04x}.bin")))
                    .and_then(|file| file.set_len(17_408))
                    .expect("a file");
            }
        }
    }
    let mut page = vec![0; 17_408];
    page[..17].fill(7);
    fs::write(root.join("Data/00/00/0001.bin"), page).expect("a file");
}

#[test]
fn a_reference_directory_becomes_a_data_directory_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, data) = (folder.path().join("reference"), folder.path().join("data"));
    reference_directory(&from);
    let import = ["import", "--from", text(&from), "--data", text(&data)];

    let short = from.join("Data/fa/03/03e7.bin");
    File::options().write(true).open(&short).and_then(|file| file.set_len(17_407)).expect("a file");
    assert!(ends_with(5, &import).contains("fa/03/03e7.bin"));
    fs::remove_file(&short).expect("a file");
    assert!(ends_with(5, &import).contains("fa/03/03e7.bin"));
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");

    File::create(&short).and_then(|file| file.set_len(17_408)).expect("a file");
    let counts = String::from_utf8(raida(&import).stdout).expect("text");
    assert_eq!(counts, "pages            1\ncoins            1\nvalue            1.00000000\ntrade lockers    0\n");
    assert!(ends_with(5, &import).contains("not empty"));
    let (_node, ready) = Node::serve(&data, &[]);
    assert_eq!(field(&ready, "coins"), "1");
}

#[test]
fn the_story_of_dev_works_as_it_is_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("a folder of mine");
    // On the second run the coins are there already, and the story works again.
    for run in 1..=2 {
        let mut node =
            Node::spawn(command(&["dev", "--data", text(&data), "--shards", "2", "--listen", "127.0.0.1:0"]));
        let mut printed = Vec::new();
        while !printed.last().is_some_and(|line: &String| line.starts_with("Ctrl-C")) {
            printed.push(node.line());
        }
        let ready = printed.iter().find(|line| line.starts_with("ready ")).expect("a ready line");
        assert_eq!((field(ready, "coins"), field(ready, "raida")), ("65", "0"), "run {run}");
        let story: Vec<&str> = printed
            .iter()
            .skip_while(|line| !line.starts_with("export "))
            .take_while(|line| !line.is_empty())
            .map(String::as_str)
            .collect();
        assert!(story.iter().filter(|line| line.contains(" client ")).count() > 10);
        // `set -e` ends at the first command that fails.
        let pasted = format!("set -e\n{}\n", story.join("\n"));
        let output = Command::new("sh").args(["-c", &pasted]).output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "run {run}: {said}");
        assert!(said.contains("worth 722.00000000"), "run {run}: {said}");
        assert_eq!(node.end(Signal::SIGINT).status.code(), Some(0), "run {run}");
    }
}
