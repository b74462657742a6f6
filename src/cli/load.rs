//! `raida load`: made-up coins and load on a node, to measure it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, Subcommand, ValueEnum};

use raida::coin::PAGES_PER_DENOMINATION;
use raida::load::data::{COINS_MAX, SLOTS_MAX, USED_MIN};
use raida::load::prepare::{Wish, prepare};
use raida::load::run::{LoadError, OperationName, Options, Travel, run as run_load};
use raida::wire::header::NodeIdentity;

use super::exit::{ExitStatus, Failure};
use super::mint::this_month;
use super::offline::{progress_bar, store_failure};
use super::serve::say;

/// Measure a node: make a directory of made-up coins, and put load on whoever serves it
///
/// The secrets of all coins follow from the seed, so never serve such a directory to anybody. Every cycle brings its coins
/// back, so one directory can be loaded again and again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida load prepare --data /tmp/bench --lockers 1000
  raida serve --data /tmp/bench --shards 1 --cpus 0 --trust-market
  raida load run --to 127.0.0.1:50000 --operation peek --lockers 1000 --processor 1
  raida load run --to 127.0.0.1:50000 --tcp --connections 64 --pipeline 8 --operation locker --json")]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Prepare(PrepareArguments),
    Run(RunArguments),
}

/// Make a data directory whose coins follow from a seed
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida load prepare --data /tmp/bench
  raida load prepare --data /tmp/full --used 0.9999 --lockers 1000000 --coins-per-locker 1")]
struct PrepareArguments {
    /// The data directory to make; not there yet, or empty
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What all secrets follow from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The share of the coins of each denomination in circulation, 0.25 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    used: f64,
    /// Lockers with coins in them, from the smallest denomination up
    #[arg(long, value_name = "N", default_value_t = 1000)]
    lockers: u32,
    /// Coins in each locker
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    coins_per_locker: u32,
    /// Pages of each denomination, of a thousand, that have coins at all; 5 has them on all
    #[arg(long, value_name = "N", default_value_t = PAGES_PER_DENOMINATION, value_parser = pages)]
    pages: u16,
}

/// Put load on a node, and say how it answers
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida load run --to 127.0.0.1:50000 --operation echo --in-flight 64
  raida load run --to 127.0.0.1:50000 --operation detect --coins 3 --rate 100000
  raida load run --to 127.0.0.1:50000 --operation change --tcp --connections 8 --pipeline 4 --seconds 10")]
struct RunArguments {
    /// The node
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:50000")]
    to: SocketAddr,
    /// The node's number in the network
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=24))]
    raida_id: u8,
    /// The network's coin id
    #[arg(long, value_name = "N", default_value_t = 6)]
    coin_id: u16,
    /// What is asked
    #[arg(long, value_enum)]
    operation: OperationChoice,
    /// Requests in flight over UDP
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = slots, conflicts_with = "tcp")]
    in_flight: usize,
    /// Over TCP
    #[arg(long)]
    tcp: bool,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = slots, requires = "tcp")]
    connections: usize,
    /// Requests in flight on each connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = slots, requires = "tcp")]
    pipeline: usize,
    /// Requests a second, whether or not answers come; without it each starts when another was answered
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// How long is measured
    #[arg(long, value_name = "N", default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// How long is run before that, seconds
    #[arg(long, value_name = "N", default_value = "1", value_parser = seconds)]
    warm_up: Duration,
    /// What the secrets of the directory follow from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Lockers that are peeked, one after the other
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    lockers: u32,
    /// Coins of a request
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = coins)]
    coins: usize,
    /// Take the coins of a locker cycle from pages apart, so that they are on different shards
    #[arg(long)]
    spread: bool,
    /// Pages that the coins of a detect come from
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = pages)]
    pages: u16,
    /// Sessions that ask for serial numbers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    sessions: u32,
    /// Seconds without an answer after which a datagram is lost
    #[arg(long, value_name = "N", default_value = "1", value_parser = seconds)]
    patience: Duration,
    /// The processor to run on
    #[arg(long, value_name = "N")]
    processor: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The values of `--operation`.
#[derive(Clone, Copy, Debug)]
struct OperationChoice(OperationName);

impl ValueEnum for OperationChoice {
    fn value_variants<'a>() -> &'a [Self] {
        const CHOICES: [OperationChoice; OperationName::ALL.len()] = {
            let mut choices = [OperationChoice(OperationName::Echo); OperationName::ALL.len()];
            let mut at = 0;
            while at < choices.len() {
                choices[at] = OperationChoice(OperationName::ALL[at].1);
                at += 1;
            }
            choices
        };
        &CHOICES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, operation) = OperationName::ALL.iter().find(|(_, operation)| *operation == self.0)?;
        Some(PossibleValue::new(*name).help(match operation {
            OperationName::Echo => "are you there?",
            OperationName::Peek => "what is in this locker?",
            OperationName::Detect => "are these the ANs of these coins?",
            OperationName::SerialNumbers => "which coins could a break make?",
            OperationName::Locker => "coins into a locker and out again",
            OperationName::Change => "a coin into ten and back",
            OperationName::Market => "sell, list, look, buy, take home",
        }))
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok();
    share.filter(|share| (USED_MIN..=1.0).contains(share)).ok_or_else(|| format!("a share is {USED_MIN} to 1"))
}

fn slots(text: &str) -> Result<usize, String> {
    let slots: Option<usize> = text.parse().ok();
    slots.filter(|slots| (1..=SLOTS_MAX).contains(slots)).ok_or_else(|| format!("allowed is 1 to {SLOTS_MAX}"))
}

fn coins(text: &str) -> Result<usize, String> {
    let coins: Option<usize> = text.parse().ok();
    coins.filter(|coins| (1..=COINS_MAX).contains(coins)).ok_or_else(|| format!("allowed is 1 to {COINS_MAX}"))
}

fn pages(text: &str) -> Result<u16, String> {
    let pages: Option<u16> = text.parse().ok();
    let allowed = 1..=PAGES_PER_DENOMINATION;
    pages.filter(|pages| allowed.contains(pages)).ok_or_else(|| format!("allowed is 1 to {PAGES_PER_DENOMINATION}"))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| *rate > 0.0 && rate.is_finite()).ok_or_else(|| "a rate is above 0".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|time| time.as_secs() < 1 << 20).ok_or_else(|| "a time in seconds".to_owned())
}

/// Prepares or runs.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.what {
        What::Prepare(arguments) => run_prepare(&arguments),
        What::Run(arguments) => run_run(&arguments),
    }
}

fn run_prepare(arguments: &PrepareArguments) -> Result<(), Failure> {
    let &PrepareArguments { seed, used, lockers, coins_per_locker, pages, .. } = arguments;
    let wish = Wish { seed, used, lockers, coins_per_locker, pages, mfs: this_month() };
    let most = wish.locked_max();
    if wish.locked() > most {
        let line = format!("{lockers} lockers of {coins_per_locker} coins: there are {most} coins for lockers");
        return Err(Failure::new(ExitStatus::Usage, line));
    }
    let (bar, mut progress) = progress_bar();
    let made = prepare(&arguments.data, &wish, &mut progress);
    bar.finish_and_clear();
    let made = made.map_err(store_failure)?;
    say(&format!(
        "made {} with {} coins, {} of them in {lockers} lockers",
        arguments.data.display(),
        made.coins,
        made.locked
    ))
}

fn run_run(arguments: &RunArguments) -> Result<(), Failure> {
    let travel = match arguments.tcp {
        false => Travel::Udp(arguments.in_flight),
        true => Travel::Tcp(arguments.connections, arguments.pipeline),
    };
    if travel.in_flight() > SLOTS_MAX {
        let line = format!("{} requests in flight: allowed are {SLOTS_MAX}", travel.in_flight());
        return Err(Failure::new(ExitStatus::Usage, line));
    }
    let options = Options {
        to: arguments.to,
        node: NodeIdentity { raida_id: arguments.raida_id, coin_id: arguments.coin_id },
        operation: arguments.operation.0,
        travel,
        rate: arguments.rate,
        measured: arguments.seconds,
        warm_up: arguments.warm_up,
        seed: arguments.seed,
        lockers: arguments.lockers,
        coins: arguments.coins,
        spread: arguments.spread,
        pages: arguments.pages,
        sessions: arguments.sessions,
        patience: arguments.patience,
        processor: arguments.processor,
    };
    let report = run_load(&options).map_err(|error| {
        let status = match &error {
            LoadError::Ring(_) => ExitStatus::Kernel,
            LoadError::Machine(_) => ExitStatus::Machine,
            LoadError::NoAnswer(_) => ExitStatus::NoAnswer,
        };
        Failure::new(status, error)
    })?;
    say(&if arguments.json { report.json().to_string() } else { report.text() })
}
