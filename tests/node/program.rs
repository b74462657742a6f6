//! The program as a process: run to its end, or as a node that serves, to be asked, stopped or killed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Lines, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const RAIDA: &str = env!("CARGO_BIN_EXE_raida");

/// How long a node may take to end before a test fails: far longer than any machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Few pages in memory and a small log: eviction, checkpoints and recycled segments all the time.
const CONFIGURATION: &str = "[store]\ncache_pages = 8\nlog_segment_bytes = 1048576\nlog_segments = 3\n\
                             [limits]\npown_sum = true\n";

/// `raida` with these words.
pub fn command(words: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(RAIDA);
    command.args(words).env_remove("RUST_LOG");
    command
}

/// Runs `raida` to its end.
pub fn raida(words: &[&str]) -> Output {
    command(words).output().expect("raida runs")
}

/// Runs `raida`, which must end with `status`; returns what it said on standard error.
pub fn ends_with(status: i32, arguments: &[&str]) -> String {
    let output = raida(arguments);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    said
}

/// Runs `raida` with a standard error that nobody reads; its status.
pub fn ends_unread(words: &[&str]) -> Option<i32> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    command(words).stdout(Stdio::null()).stderr(writer).status().expect("raida runs").code()
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// The words that serve a data directory on a free port, with a small cache and log; what the file beside it says counts.
pub fn serve(data: &Path, shards: usize) -> Vec<String> {
    let configuration = data.with_file_name("raida.toml");
    std::fs::write(&configuration, CONFIGURATION).expect("a configuration");
    let words = ["serve", "--listen", "127.0.0.1:0", "--raida-id", "0", "--trust-market"].map(str::to_string);
    let path = |path: &Path| path.to_str().expect("a path of text").to_string();
    let own = ["--shards".to_string(), shards.to_string(), "--data".to_string(), path(data), "--config".to_string()];
    words.into_iter().chain(own).chain([path(&configuration)]).collect()
}

/// A node as a process, killed when the test ends.
pub struct Node {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: Option<JoinHandle<String>>,
    /// Its ready line, once it was read.
    ready: String,
}

/// How a node ended.
#[derive(Debug)]
pub struct Ended {
    /// With which status.
    pub status: ExitStatus,
    /// What it said on standard error.
    pub said: String,
}

impl Node {
    /// Runs a command that is to become a node.
    pub fn spawn(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("raida runs");
        let mut stderr = process.stderr.take().expect("a pipe");
        let said = thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).expect("text");
            said
        });
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Self { process, lines, said: Some(said), ready: String::new() }
    }

    /// Runs a command until it serves, or has ended.
    pub fn try_start(command: Command) -> Result<Self, Ended> {
        let mut node = Self::spawn(command);
        match node.lines.next() {
            Some(ready) => node.ready = ready.expect("text"),
            None => return Err(node.ended()),
        }
        Ok(node)
    }

    /// A node on a data directory, with a small cache and log.
    pub fn start(data: &Path, shards: usize) -> Self {
        Self::try_start(command(&serve(data, shards))).unwrap_or_else(|ended| panic!("it does not serve: {ended:?}"))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        field(&self.ready, "listen").parse().expect("an address")
    }

    /// A node that serves `data` as it does by default, with its ready line.
    pub fn serve(data: &Path, more: &[&str]) -> (Self, String) {
        let fixed = ["serve", "--data", text(data), "--listen", "127.0.0.1:0"];
        let shards: &[&str] = if more.contains(&"--shards") { &[] } else { &["--shards", "1"] };
        let mut node = Self::spawn(command(&[&fixed, shards, more].concat()));
        let ready = node.line();
        node.ready.clone_from(&ready);
        assert!(ready.starts_with("ready "), "{ready}");
        (node, ready)
    }

    /// The next line on standard output.
    pub fn line(&mut self) -> String {
        self.lines.next().expect("another line").expect("text")
    }

    /// Kills a node that may be at any point of its start.
    pub fn kill_at_start(data: &Path, shards: usize, after: Duration) {
        let node = Self::spawn(command(&serve(data, shards)));
        thread::sleep(after);
        drop(node);
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        let status = self.process.try_wait().expect("a process");
        if status.is_none() {
            self.process.kill().expect("a signal");
        }
        let ended = self.ended();
        assert_eq!(status, None, "the node ended by itself: {ended:?}");
    }

    /// SIGTERM, and how it ends then.
    pub fn stop(self) -> Ended {
        self.end(Signal::SIGTERM)
    }

    /// Sends a signal, and says how it ends.
    pub fn end(self, signal: Signal) -> Ended {
        kill(Pid::from_raw(self.process.id() as i32), signal).expect("a signal");
        self.waited()
    }

    /// Waits until it has ended by itself.
    pub fn waited(mut self) -> Ended {
        let until = Instant::now() + PATIENCE;
        loop {
            if self.process.try_wait().expect("a process").is_some() {
                return self.ended();
            }
            assert!(Instant::now() < until, "the node does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn ended(&mut self) -> Ended {
        let status = self.process.wait().expect("a process");
        Ended { status, said: self.said.take().expect("asked once").join().expect("text") }
    }
}

/// A test that fails leaves no node behind.
impl Drop for Node {
    fn drop(&mut self) {
        // It has ended already, as a rule.
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
