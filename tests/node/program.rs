//! The program as a process: run to its end, or as a node that serves.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const RAIDA: &str = env!("CARGO_BIN_EXE_raida");

/// Runs `raida` to its end.
pub fn raida(arguments: &[&str]) -> Output {
    Command::new(RAIDA).args(arguments).env_remove("RUST_LOG").output().expect("raida runs")
}

/// Runs `raida`, which must end with `status`; returns what it said on standard error.
pub fn ends_with(status: i32, arguments: &[&str]) -> String {
    let output = raida(arguments);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    said
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// A node as a process, killed when the test ends.
pub struct Node {
    process: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Node {
    /// Starts `raida` with these arguments.
    pub fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(RAIDA)
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("raida runs");
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Self { process, lines }
    }

    /// A node that serves `data` on a free port, with its ready line.
    pub fn serve(data: &Path, more: &[&str]) -> (Self, String) {
        let fixed = ["serve", "--data", text(data), "--listen", "127.0.0.1:0", "--shards", "1"];
        let mut node = Self::start(&[&fixed, more].concat());
        let ready = node.line();
        assert!(ready.starts_with("ready "), "{ready}");
        (node, ready)
    }

    pub fn line(&mut self) -> String {
        self.lines.next().expect("another line").expect("text")
    }

    /// Sends a signal and waits for the end.
    pub fn end(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.process.id() as i32), signal).expect("a signal");
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match self.process.try_wait().expect("a process") {
                Some(status) => return status.code(),
                None => assert!(Instant::now() < until, "the node does not end"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The value of a field of the ready line.
pub fn field<'a>(ready: &'a str, name: &str) -> &'a str {
    let value = ready.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{name} in {ready}"))
}

/// Makes a data directory with ten coins of 1, and a wallet beside it.
pub fn minted(folder: &Path) -> (PathBuf, PathBuf) {
    let (data, wallet) = (folder.join("data"), folder.join("wallet.jsonl"));
    let coins = ["--den", "0", "--first-sn", "0", "--count", "10"];
    ends_with(0, &[&["mint", "--data", text(&data), "--wallet", text(&wallet)], &coins[..]].concat());
    (data, wallet)
}
