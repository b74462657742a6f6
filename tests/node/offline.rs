//! Verify, rebuild and inspect as an operator uses them, on directories of real nodes, whole and damaged.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::program::{Node, RAIDA, ends_with, field, minted, raida, text};

/// What `raida` said on standard output, ending with `status`.
fn says(status: i32, arguments: &[&str]) -> String {
    let output = raida(arguments);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

/// Overwrites bytes of a file.
fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(path).and_then(|file| file.write_all_at(bytes, at)).expect("a file");
}

/// Everything in a directory, but for its lock.
fn contents(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => left.push(path),
                false => found.push((text(&path).to_owned(), fs::read(&path).expect("a file"))),
            }
        }
    }
    found.sort_unstable();
    found.retain(|(path, _)| !path.ends_with("/lock"));
    found
}

/// The AN of coin 0:0 as the wallet has it.
fn an(wallet: &Path) -> String {
    let lines = fs::read_to_string(wallet).expect("a wallet");
    let line = lines.lines().rfind(|line| line.contains("\"den\":0,\"sn\":0,")).expect("coin 0:0");
    let (_, an) = line.split_once("\"an\":\"").expect("an AN");
    an[..32].to_lowercase()
}

#[test]
fn a_whole_directory_is_clean_and_can_be_looked_into() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, wallet) = minted(folder.path());
    let before = contents(&data);
    let verify = ["verify", "--data", text(&data)];
    let said = says(0, &verify);
    assert!(said.ends_with("\nclean\n") && said.contains("value            10.00000000"), "{said}");

    let inspect = |words: &[&str]| says(0, &[&["inspect", "--data", text(&data)], words].concat());
    let coin = inspect(&["coin", "0", "0"]);
    assert!(
        coin.contains("place            wallet") && coin.contains("page             0 of denomination 0"),
        "{coin}"
    );
    assert!(inspect(&["coin", "-8", "1023999"]).contains("place            free"));
    let page = inspect(&["page", "0", "0", "--coins"]);
    assert!(page.contains("circulation      10") && page.contains("0:9 wallet MFS "), "{page}");
    let secret = an(&wallet);
    for hidden in [&coin, &page, &inspect(&["log"])] {
        assert!(!hidden.contains(&secret), "{hidden}");
    }
    assert!(inspect(&["--show-secrets", "coin", "0", "0"]).contains(&secret));
    assert!(inspect(&["page", "0", "0", "--coins", "--show-secrets"]).contains(&secret));
    assert_eq!(contents(&data), before, "who looks changes nothing");

    for words in [&["coin", "7", "0"][..], &["coin", "0", "1024000"], &["page", "0", "1000"], &["locker", "two words"]]
    {
        ends_with(2, &[&["inspect", "--data", text(&data)], words].concat());
    }
    let (_node, _) = Node::serve(&data, &[]);
    for words in [&verify[..], &["rebuild", "--yes", "--data", text(&data)], &["inspect", "--data", text(&data), "log"]]
    {
        assert!(ends_with(6, words).contains("in use by another process"));
    }
}

#[test]
fn what_a_killed_node_left_is_clean_and_shown_with_its_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, wallet) = minted(folder.path());
    let (node, ready) = Node::serve(&data, &[]);
    let to = ["client", "--to", field(&ready, "listen"), "--wallet", text(&wallet)];
    ends_with(0, &[&to[..], &["store", "--key", "ABC-1234", "--coins", "4x0"]].concat());
    drop(node);

    let said = says(0, &["verify", "--data", text(&data)]);
    assert!(said.ends_with("\nclean\n") && said.contains("to replay        1 from the logs"), "{said}");
    let inspect = |words: &[&str]| says(0, &[&["inspect", "--data", text(&data)], words].concat());
    let log = inspect(&["log"]);
    assert!(log.contains("store, coins: 4\n") && log.contains("wallet -> locker: 0:0..3"), "{log}");
    let coin = inspect(&["coin", "0", "3"]);
    assert!(coin.contains("place            locker") && coin.contains("to be replayed at the next start"), "{coin}");
    // MD5 of "0ABC-1234", with a locker's last four bytes.
    let key = "d21fb1d3356a62e770ca4e40ffffffff";
    let lockers = [inspect(&["locker", "ABC-1234"]), inspect(&["locker", key])];
    assert!(lockers[0] == lockers[1] && lockers[0].contains("coins            4\n"), "{lockers:?}");
    assert!(![log, coin, lockers[0].clone()].iter().any(|said| said.contains(key)));
    assert!(inspect(&["--show-secrets", "log"]).contains(key));

    let mut typed = Command::new(RAIDA)
        .args(["inspect", "--data", text(&data), "locker", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("raida runs");
    typed.stdin.take().expect("a pipe").write_all(format!("{key}\n").as_bytes()).expect("a key");
    let typed = typed.wait_with_output().expect("an end");
    assert_eq!(String::from_utf8(typed.stdout).expect("text"), lockers[0]);
}

#[test]
fn what_is_repairable_is_repaired_when_somebody_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, _) = minted(folder.path());
    overwrite(&data.join("log/0/control"), 4096 + 100, b"rot");
    fs::remove_file(data.join("coins/14.pages")).expect("a file");
    overwrite(&data.join("coins/00.pages"), 20_480 + 7, b"rot");
    let before = contents(&data);
    let said = says(10, &["verify", "--data", text(&data)]);
    for line in [
        "repairable  log/0/control has one block that is torn or damaged; the other counts",
        "repairable  coins/14.pages is missing",
        "repairable  coins/00.pages page 1 of denomination -8 (coins -8:1024 to -8:2047): damaged, but never used",
        "repairable: `raida rebuild --data ",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let line = ends_with(5, &["serve", "--data", text(&data), "--listen", "127.0.0.1:0"]);
    assert!(line.contains(&format!("see `raida verify --data {}`", text(&data))), "{line}");
    assert!(ends_with(2, &["rebuild", "--data", text(&data)]).contains("say --yes"));
    assert_eq!(contents(&data), before, "nothing is changed that nobody agreed to");

    let said = says(0, &["rebuild", "--yes", "--data", text(&data)]);
    assert!(said.ends_with("repaired 3, and clean now\n"), "{said}");
    let journal = fs::read_to_string(data.join("admin.journal")).expect("a journal");
    assert!(journal.contains(r#""act":"rebuild","what":"3 findings"}"#), "{journal}");
    let kept = contents(&data.join("damaged"));
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().any(|(path, bytes)| path.contains("coins-00.pages-20480") && &bytes[7..10] == b"rot"));
    says(0, &["verify", "--data", text(&data)]);
    let (_node, ready) = Node::serve(&data, &[]);
    assert_eq!((field(&ready, "coins"), field(&ready, "recovered")), ("10", "0"));
}

#[test]
fn what_is_lost_is_named_and_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, _) = minted(folder.path());
    let served = Node::serve(&data, &[]);
    assert_eq!(served.0.stop().status.code(), Some(0));
    overwrite(&data.join("coins/08.pages"), 1000, b"rot");
    let before = contents(&data);
    let page = "page 0 of denomination 0 (coins 0:0 to 0:1023)";
    let said = says(5, &["verify", "--data", text(&data)]);
    assert!(said.contains(&format!("damaged     coins/08.pages {page}: damaged, and no whole copy is left")), "{said}");
    let line = ends_with(5, &["serve", "--data", text(&data), "--listen", "127.0.0.1:0", "--shards", "1"]);
    assert!(line.contains("page 0 of denomination 0 is damaged"), "{line}");
    let line = ends_with(5, &["rebuild", "--yes", "--data", text(&data)]);
    assert!(line.contains("refused, and nothing was changed"), "{line}");
    assert!(says(0, &["inspect", "--data", text(&data), "coin", "0", "5"]).contains("unknown: its page is lost"));
    let after = contents(&data);
    let changed: Vec<&String> =
        before.iter().zip(&after).filter(|(was, is)| was != is).map(|((path, _), _)| path).collect();
    // The node's attempt began a new epoch before it came to the pages.
    assert!(changed.iter().all(|path| path.contains("/log/")), "{changed:?}");

    ends_with(5, &["verify", "--data", text(folder.path())]);
    assert!(ends_with(5, &["verify", "--data", text(&folder.path().join("nowhere"))]).contains("is no directory"));
}
