//! `raida serve` in a process of its own, for tests that kill it or damage what it stands on.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a node may take to end before a test fails: far longer than any machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Few pages in memory and a small log: eviction, checkpoints and recycled segments all the time.
const CONFIGURATION: &str = "[store]\ncache_pages = 8\nlog_segment_bytes = 1048576\nlog_segments = 3\n\
                             [limits]\npown_sum = true\n";

/// A node that serves.
pub struct Process {
    child: Child,
    said: Option<JoinHandle<String>>,
    /// Where it listens.
    pub address: SocketAddr,
}

/// How a node ended.
#[derive(Debug)]
pub struct Ended {
    /// With which status.
    pub status: ExitStatus,
    /// What it said on standard error.
    pub said: String,
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

/// `raida` with these words.
pub fn raida(words: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raida"));
    command.args(words).env_remove("RUST_LOG");
    command
}

impl Process {
    /// A node on a data directory.
    pub fn start(data: &Path, shards: usize) -> Self {
        Self::try_start(raida(&serve(data, shards))).unwrap_or_else(|ended| panic!("it does not serve: {ended:?}"))
    }

    /// Runs a command until it serves, or has ended.
    pub fn try_start(mut command: Command) -> Result<Self, Ended> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("raida runs");
        let mut stderr = child.stderr.take().expect("a pipe");
        let said = thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).expect("text");
            said
        });
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let Some(ready) = lines.next() else {
            let status = child.wait().expect("a process");
            return Err(Ended { status, said: said.join().expect("text") });
        };
        let ready = ready.expect("text");
        let listen = ready.split_whitespace().find_map(|word| word.strip_prefix("listen=")).expect("ready … listen=");
        Ok(Self { child, said: Some(said), address: listen.parse().expect("an address") })
    }

    /// Kills a node that may be at any point of its start.
    pub fn kill_at_start(data: &Path, shards: usize, after: Duration) {
        let mut command = raida(&serve(data, shards));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("raida runs");
        thread::sleep(after);
        child.kill().expect("a signal");
        child.wait().expect("a process");
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        let status = self.child.try_wait().expect("a process");
        if status.is_none() {
            self.child.kill().expect("a signal");
        }
        let ended = self.ended();
        assert_eq!(status, None, "the node ended by itself: {ended:?}");
    }

    /// SIGTERM, and how it ends then.
    pub fn stop(mut self) -> Ended {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).expect("a signal");
        let until = Instant::now() + PATIENCE;
        loop {
            if self.child.try_wait().expect("a process").is_some() {
                return self.ended();
            }
            assert!(Instant::now() < until, "the node does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn ended(&mut self) -> Ended {
        let status = self.child.wait().expect("a process");
        Ended { status, said: self.said.take().expect("asked once").join().expect("text") }
    }
}

/// A test that fails leaves no node behind.
impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
