//! The floor that a node is compared with: bare servers and a bare log, with a node's techniques and nothing of its work.
//!
//! * `floor echo`: over UDP and TCP, an answer of N bytes to every request, nothing looked at but the echo.
//! * `floor durable`: the same, but every request first adds R bytes to a log, and is answered when they are durable.
//! * `floor log`: that log alone.
//!
//! Multishot receives into provided buffers, joined sends, one submission a turn, a look around before a sleep: no node
//! with the same kernel can be faster.

mod log;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// A bare server or log, to compare a node with
#[derive(Parser)]
#[command(name = "floor")]
enum Command {
    Echo(EchoArguments),
    Durable(DurableArguments),
    Log(LogArguments),
}

/// Answer every request with as many bytes
#[derive(Args)]
struct EchoArguments {
    /// Where to listen, over UDP and TCP
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Bytes of an answer
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(32..))]
    answer_bytes: u16,
    /// Bytes of a request; only TCP needs to know
    #[arg(long, value_name = "N", default_value_t = 98, value_parser = clap::value_parser!(u16).range(32..))]
    request_bytes: u16,
    /// The processor to run on
    #[arg(long, value_name = "N")]
    processor: Option<usize>,
    /// How long to look around before a sleep, microseconds
    #[arg(long, value_name = "N", default_value_t = 30)]
    spin_us: u64,
}

/// Answer every request when some bytes for it are on disk
#[derive(Args)]
struct DurableArguments {
    #[command(flatten)]
    echo: EchoArguments,
    #[command(flatten)]
    log: LogFile,
}

/// Append and sync, without a network
#[derive(Args)]
struct LogArguments {
    #[command(flatten)]
    log: LogFile,
    /// Records that wait for the disk at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    in_flight: usize,
    /// How long
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u64,
    /// The processor to run on
    #[arg(long, value_name = "N")]
    processor: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A log that is made.
#[derive(Args)]
struct LogFile {
    /// The file; made anew
    #[arg(long = "log", value_name = "FILE")]
    path: PathBuf,
    /// Bytes of a record
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=4096))]
    record_bytes: u16,
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    // `cargo bench` and `cargo test` start every bench so: there is nothing to serve then.
    let words: Vec<_> = std::env::args_os().filter(|word| word != "--bench").collect();
    if words.len() == 1 {
        println!("the floor is started by name: floor echo, floor durable or floor log; see floor --help");
        return Ok(());
    }
    match Command::parse_from(words) {
        Command::Echo(arguments) => {
            pin(arguments.processor)?;
            server::Server::new(&arguments, None)?.run()
        }
        Command::Durable(arguments) => {
            pin(arguments.echo.processor)?;
            let log = log::Log::create(&arguments.log.path, arguments.log.record_bytes)?;
            server::Server::new(&arguments.echo, Some(log))?.run()
        }
        Command::Log(arguments) => {
            pin(arguments.processor)?;
            let log = log::Log::create(&arguments.log.path, arguments.log.record_bytes)?;
            let measured = log::measure(log, arguments.in_flight, Duration::from_secs(arguments.seconds))?;
            println!("{}", if arguments.json { measured.json() } else { measured.text() });
            Ok(())
        }
    }
}

fn pin(processor: Option<usize>) -> Outcome {
    if let Some(processor) = processor {
        let mut processors = CpuSet::new();
        processors.set(processor)?;
        sched_setaffinity(Pid::from_raw(0), &processors)?;
    }
    Ok(())
}
