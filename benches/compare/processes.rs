//! The programs of a comparison: nodes and floors that serve, loads that run, each on its processor.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The processor of whoever serves, and the one of the loads.
const SERVER_PROCESSOR: &str = "0";
const LOAD_PROCESSOR: &str = "1";
/// The unit of times in /proc, the same on every Linux that runs io_uring.
const TICKS_PER_SECOND: f64 = 100.0;
/// The node: a program of this package.
const NODE: &str = env!("CARGO_BIN_EXE_raida");

/// Something went wrong with a program, as a line for people.
pub type Outcome<T> = Result<T, String>;

/// A server that runs until it is dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// From its start to its line that it is ready.
    pub start: Duration,
}

impl Server {
    /// Starts a node on a data directory, with one shard unless `more` says otherwise.
    pub fn node(data: &Path, more: &[&str]) -> Outcome<Self> {
        let mut command = Command::new(NODE);
        command.arg("serve").arg("--data").arg(data).args(["--listen", "127.0.0.1:0"]);
        if !more.contains(&"--shards") {
            command.args(["--shards", "1", "--cpus", SERVER_PROCESSOR]);
        }
        Self::start(command.args(more))
    }

    /// Starts a floor.
    pub fn floor(program: &Path, arguments: &[&str]) -> Outcome<Self> {
        Self::start(Command::new(program).args(arguments).args(["--processor", SERVER_PROCESSOR]))
    }

    fn start(command: &mut Command) -> Outcome<Self> {
        let begun = Instant::now();
        let name = format!("{command:?}");
        let told = |error: io::Error| format!("{name}: {error}");
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(told)?;
        let mut output = BufReader::new(child.stdout.take().ok_or("a server without output")?);
        let mut line = String::new();
        output.read_line(&mut line).map_err(told)?;
        let start = begun.elapsed();
        // The node says `ready … listen=ADDRESS …`, a floor `ready ADDRESS`.
        let address = line.split_whitespace().find_map(|word| word.trim_start_matches("listen=").parse().ok());
        let Some(address) = address else {
            // It ends by itself, and has said why.
            return Err(format!("{name} is not ready: {line:?}, {:?}", child.wait()));
        };
        Ok(Self { child, address, start })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// How long its threads have worked.
    pub fn processor_seconds(&self) -> Outcome<f64> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        // After the name in parentheses: the user's and the system's ticks are the 12th and 13th.
        let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS_PER_SECOND)
    }

    /// Bytes of memory that it has.
    pub fn resident_bytes(&self) -> Outcome<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().map_err(|_| format!("VmRSS:{line}"))?;
        Ok(kib * 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A node ends in order, a floor at once; either may be gone already.
        let ended = kill(self.pid(), Signal::SIGTERM).is_ok() && self.child.wait().is_ok();
        if !ended {
            eprintln!("a server ended by itself");
        }
    }
}

/// What a load measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Answers a second.
    pub rate: f64,
    /// Microseconds below which half of the latencies are, and 99 of a hundred.
    pub p50: f64,
    /// 99 of a hundred.
    pub p99: f64,
    /// Microseconds that the server's threads worked for an answer, the kernel's part and looking around included.
    pub cpu_us: f64,
    /// Bytes of a request, on average.
    pub request_bytes: f64,
    /// Bytes of an answer, on average.
    pub answer_bytes: f64,
}

/// A load's time before it is measured, as a share of the measured.
const WARM_UP: f64 = 0.25;

/// A load on a server, for so many seconds.
pub fn load(server: &Server, words: &str, seconds: f64) -> Outcome<Sample> {
    load_on(LOAD_PROCESSOR, server, words, seconds)
}

/// A load on the server's own processor, for one request in flight: as the two never work at once, it measures no
/// wake-up of an idle processor, which on a virtual machine takes longer than the disk.
pub fn load_beside(server: &Server, words: &str, seconds: f64) -> Outcome<Sample> {
    load_on(SERVER_PROCESSOR, server, words, seconds)
}

fn load_on(processor: &str, server: &Server, words: &str, seconds: f64) -> Outcome<Sample> {
    let before = server.processor_seconds()?;
    let sample = wait_for_load(start_load_on(processor, server, words, seconds)?)?;
    let worked = server.processor_seconds()? - before;
    // What it worked for the warm-up and the end is for answers too.
    let answers = sample.rate * seconds * (1.0 + WARM_UP);
    Ok(Sample { cpu_us: worked * 1e6 / answers, ..sample })
}

/// Starts a load, to do something else meanwhile.
pub fn start_load(server: &Server, words: &str, seconds: f64) -> Outcome<Child> {
    start_load_on(LOAD_PROCESSOR, server, words, seconds)
}

fn start_load_on(processor: &str, server: &Server, words: &str, seconds: f64) -> Outcome<Child> {
    let mut command = Command::new(NODE);
    command.args(["load", "run", "--json", "--processor", processor, "--to", &server.address.to_string()]);
    command.args(["--seconds", &seconds.to_string(), "--warm-up", &(seconds * WARM_UP).to_string()]);
    command.args(words.split_whitespace()).stdout(Stdio::piped());
    command.spawn().map_err(|error| format!("{command:?}: {error}"))
}

/// Waits until a load is over.
pub fn wait_for_load(load: Child) -> Outcome<Sample> {
    let output = load.wait_with_output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("a load failed: {}", output.status));
    }
    let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| format!("a load's report: {error}"))?;
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    let answers = number("/answers");
    let refused: f64 = report["statuses"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(status, _)| !["241", "250"].contains(&status.as_str()))
        .filter_map(|(_, count)| count.as_f64())
        .sum();
    if refused + number("/lost") > answers / 100.0 {
        return Err(format!("more than one answer of a hundred is lost or no success: {}", report["statuses"]));
    }
    Ok(Sample {
        rate: number("/answers_per_second"),
        p50: number("/latency_us/p50"),
        p99: number("/latency_us/p99"),
        cpu_us: 0.0,
        request_bytes: number("/request_bytes"),
        answer_bytes: number("/answer_bytes"),
    })
}

/// A bare log, one record at a time or more; the rate is of its appends.
pub fn log_alone(floor: &Path, file: &Path, record_bytes: usize, seconds: f64) -> Outcome<Sample> {
    let mut command = Command::new(floor);
    command.args(["log", "--json", "--processor", SERVER_PROCESSOR, "--in-flight", "1"]).arg("--log").arg(file);
    command.args(["--record-bytes", &record_bytes.to_string(), "--seconds", &seconds.ceil().to_string()]);
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| format!("a log's report: {error}"))?;
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    let (p50, p99) = (number("/latency_us/p50"), number("/latency_us/p99"));
    Ok(Sample { rate: number("/appends_per_second"), p50, p99, ..Sample::default() })
}

/// A data directory of made-up coins, made if it is not there yet.
pub fn prepare(place: &Path, name: &str, words: &str) -> Outcome<PathBuf> {
    let data = place.join(name);
    if !data.exists() {
        eprintln!("making {}", data.display());
        let mut command = Command::new(NODE);
        command.args(["load", "prepare"]).args(words.split_whitespace()).arg("--data").arg(&data);
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        if !output.status.success() {
            return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(data)
}
