//! `raida admin`: what an operator does to a node that serves, over its admin socket.

use std::fmt::Write;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};

use raida::admin::client::{AskError, ask};
use raida::admin::request::{Answer, Named, Request, Verified};
use raida::calendar::iso;
use raida::coin::TradeCoin;
use raida::reactor::desk::ConnectionRow;
use raida::store::suspended::{Cause, Held, Hold, Pause};

use super::exit::{ExitStatus, Failure};
use super::offline::progress_bar;
use super::serve::say;

/// How often a verify that runs is looked at, and a node that ends.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Administer a node that serves: hold lockers, pause markets, verify, checkpoint, stop
///
/// Asks over the node's Unix socket (admin.socket in raida.toml). Every act is in the file admin.journal of the data
/// directory, with the user that asked for it and the reason he gave.
#[derive(Args)]
#[command(
    after_help = "A locker's KEY is 32 hex digits or a transmit code such as ABC-1234; `-` reads it from standard input, so
that it is in no list of processes. Exit status: 0 done; 1 the node says no; 3 no node answers; 9 the node could not.

Examples:
  raida admin hold --locker ABC-1234 --reason \"case 17: theft reported\"
  raida admin hold --coin 0 17 --reason \"case 18: theft reported, whoever has its key\"
  raida admin suspended
  raida admin release --fingerprint 1a2b3c4d --reason \"case 17: settled\"
  raida admin pause bitcoin --reason \"prices look wrong\"
  raida admin verify --pages-per-second 500
  raida admin set change.break_limit 10
  raida admin --socket /run/raida/2/admin.sock --json connections
  raida admin stop --reason \"kernel update\""
)]
pub struct Arguments {
    /// The node's admin socket
    #[arg(long, global = true, value_name = "PATH", env = "RAIDA_ADMIN", default_value = "/run/raida/0/admin.sock")]
    socket: PathBuf,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    /// What to do
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Hold a locker or trade locker: commands on it answer 154, until it is released
    Hold {
        #[command(flatten)]
        what: Target,
        #[command(flatten)]
        why: Reason,
    },
    /// Let commands on a held locker or trade locker pass again
    Release {
        #[command(flatten)]
        what: Target,
        /// What is held under this fingerprint, as `suspended` shows it
        #[arg(long, value_name = "HEX", group = "which")]
        fingerprint: Option<String>,
        #[command(flatten)]
        why: Reason,
    },
    /// Pause the market for a coin type: nothing is put for sale or bought
    Pause {
        /// Which
        coin: Market,
        #[command(flatten)]
        why: Reason,
    },
    /// Trade a coin type again
    Resume {
        /// Which
        coin: Market,
        #[command(flatten)]
        why: Reason,
    },
    /// What is held and paused, since when, by whom, why?
    Suspended,
    /// Bring everything committed to its place on disk, now
    Checkpoint,
    /// Read every page while the node serves
    Verify {
        /// At most so many pages of 20 KiB a second
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        pages_per_second: u32,
        /// Say how far it is, and what the last one found, instead of beginning one
        #[arg(long)]
        status: bool,
    },
    /// Which clients are connected?
    Connections,
    /// Close a client's connection
    Disconnect {
        /// Its name, as `connections` shows it
        name: String,
    },
    /// Which bounds can be changed, and what are they now?
    Bounds,
    /// Change a bound until the node ends
    Set {
        /// Its name, such as limits.idle_seconds
        name: String,
        /// Its value, as raida.toml writes it
        value: String,
    },
    /// Take no more requests, answer what is in flight, write a checkpoint and end
    Stop {
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
}

/// Which locker or trade locker.
#[derive(Args)]
#[group(id = "which", required = true, multiple = false)]
struct Target {
    /// A locker, by its key
    #[arg(long, value_name = "KEY")]
    locker: Option<String>,
    /// A trade locker, by the identifier that list-for-sale shows
    #[arg(long, value_name = "IDENTIFIER")]
    trade_locker: Option<String>,
    /// A trade locker, by its AN
    #[arg(long, value_name = "AN")]
    trade_locker_an: Option<String>,
    /// Whatever locker or trade locker this coin is in
    #[arg(long, num_args = 2, value_names = ["DEN", "SN"], allow_negative_numbers = true)]
    coin: Option<Vec<i64>>,
}

#[derive(Args)]
struct Reason {
    /// Why: it is kept with the act
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// A coin type.
#[derive(Clone, Copy, ValueEnum)]
enum Market {
    /// CloudCoin
    #[value(name = "cloudcoin", alias = "cc")]
    CloudCoin,
    /// Bitcoin
    #[value(name = "bitcoin", alias = "btc")]
    Bitcoin,
    /// Monero
    #[value(name = "monero", alias = "xmr")]
    Monero,
}

impl From<Market> for TradeCoin {
    fn from(coin: Market) -> Self {
        match coin {
            Market::CloudCoin => Self::CloudCoin,
            Market::Bitcoin => Self::Bitcoin,
            Market::Monero => Self::Monero,
        }
    }
}

impl Target {
    fn named(self, fingerprint: Option<String>) -> Result<Named, Failure> {
        let Self { locker, trade_locker, trade_locker_an, coin } = self;
        let coin = coin.as_deref().map(super::audit::coin).transpose()?;
        let coin = coin.map(|coin| Named::Coin { den: coin.denomination().get(), sn: coin.serial_number().get() });
        let named = locker.map(Named::Locker).or(trade_locker.map(Named::TradeLocker)).or(coin);
        let named = named.or(trade_locker_an.map(Named::TradeLockerAn)).or(fingerprint.map(Named::Fingerprint));
        match named.expect("clap wants one of them") {
            Named::Locker(key) => secret(key).map(Named::Locker),
            Named::TradeLockerAn(an) => secret(an).map(Named::TradeLockerAn),
            named => Ok(named),
        }
    }
}

/// A secret of the command line, or the first line of standard input.
fn secret(text: String) -> Result<String, Failure> {
    if text != "-" {
        return Ok(text);
    }
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Failure::new(ExitStatus::Machine, format_args!("standard input: {error}")))?;
    Ok(line.trim().to_string())
}

/// Asks, and prints what came.
pub fn run(arguments: Arguments) -> Result<ExitStatus, Failure> {
    let Arguments { socket, json, act } = arguments;
    let request = match act {
        Act::Verify { pages_per_second, status } => return verify(&socket, json, pages_per_second, status),
        Act::Stop { reason, no_wait } => return stop(&socket, json, reason, no_wait),
        act => request(act)?,
    };
    print(&asked(&socket, &request)?, json)?;
    Ok(ExitStatus::Done)
}

fn request(act: Act) -> Result<Request, Failure> {
    Ok(match act {
        Act::Hold { what, why } => Request::Hold { what: what.named(None)?, reason: why.reason },
        Act::Release { what, fingerprint, why } => {
            Request::Release { what: what.named(fingerprint)?, reason: why.reason }
        }
        Act::Pause { coin, why } => Request::Pause { coin: coin.into(), reason: why.reason },
        Act::Resume { coin, why } => Request::Resume { coin: coin.into(), reason: why.reason },
        Act::Suspended => Request::Suspended,
        Act::Checkpoint => Request::Checkpoint,
        Act::Connections => Request::Connections,
        Act::Disconnect { name } => Request::Disconnect { name },
        Act::Bounds => Request::Bounds,
        Act::Set { name, value } => Request::Bound { name, value },
        Act::Verify { pages_per_second, .. } => Request::Verify { pages_per_second },
        Act::Stop { reason, .. } => Request::Stop { reason },
    })
}

fn asked(socket: &Path, request: &Request) -> Result<Answer, Failure> {
    ask(socket, request).map_err(|error| {
        let status = match error {
            AskError::NotThere(..) | AskError::NoAnswer(_) => ExitStatus::NoAnswer,
            AskError::Refused(_) => ExitStatus::Refused,
            AskError::Failed(_) => ExitStatus::Machine,
        };
        Failure::new(status, error)
    })
}

/// Begins to verify and waits for the end, with a bar where standard error is a terminal.
fn verify(socket: &Path, json: bool, pages_per_second: u32, status: bool) -> Result<ExitStatus, Failure> {
    let mut answer = match status {
        true => asked(socket, &Request::Verified)?,
        false => asked(socket, &Request::Verify { pages_per_second })?,
    };
    let (bar, mut progress) = progress_bar();
    while let Answer::Verified(Verified { running: true, done, pages, .. }) = answer
        && !status
    {
        progress(done, pages);
        thread::sleep(LOOK_EVERY);
        answer = asked(socket, &Request::Verified)?;
    }
    bar.finish_and_clear();
    print(&answer, json)?;
    let Answer::Verified(Verified { report, .. }) = answer else { return Ok(ExitStatus::Done) };
    Ok(match report {
        Some(report) if report.failed.is_some() => ExitStatus::Machine,
        Some(report) if !report.damaged.is_empty() => ExitStatus::Data,
        _ => ExitStatus::Done,
    })
}

/// Stops the node, and waits until it listens no more.
fn stop(socket: &Path, json: bool, reason: String, no_wait: bool) -> Result<ExitStatus, Failure> {
    let answer = asked(socket, &Request::Stop { reason })?;
    let began = Instant::now();
    while !no_wait && std::os::unix::net::UnixStream::connect(socket).is_ok() {
        thread::sleep(LOOK_EVERY);
    }
    print(&answer, json)?;
    if !no_wait && !json {
        say(&format!("it has ended, after {:.1} s", began.elapsed().as_secs_f64()))?;
    }
    Ok(ExitStatus::Done)
}

fn print(answer: &Answer, json: bool) -> Result<(), Failure> {
    match json {
        true => say(&serde_json::to_string(answer).expect("texts and numbers are JSON")),
        false => say(told(answer).trim_end()),
    }
}

/// An answer, for a person.
fn told(answer: &Answer) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a text grows");
    match answer {
        Answer::Done(what) => line(format_args!("{what}")),
        Answer::Suspended { holds, pauses } => {
            if holds.is_empty() && pauses.is_empty() {
                line(format_args!("nothing is held, no market is paused"));
            }
            for Hold { held, cause } in holds {
                let (kind, identifier) = match held {
                    Held::Locker(_) => ("locker", String::new()),
                    Held::TradeLocker(bytes) => ("trade locker", format!(" ({:032X})", u128::from_be_bytes(*bytes))),
                };
                line(format_args!("{kind:12} {}{identifier} {}", held.fingerprint(), because(cause)));
            }
            for Pause { coin, cause } in pauses {
                line(format_args!("{:12} {coin:?} {}", "market", because(cause)));
            }
        }
        Answer::Connections(rows) => {
            let row = "name         shard  age_s  requests  in_flight  unsent_bytes  peer";
            line(format_args!("{row}"));
            for ConnectionRow { name, peer, shard, age_seconds, requests, in_flight, unsent_bytes } in rows {
                line(format_args!(
                    "{name:12} {shard:>5} {age_seconds:>6} {requests:>9} {in_flight:>10} {unsent_bytes:>13}  {peer}"
                ));
            }
        }
        Answer::Bounds(bounds) => bounds.iter().for_each(|(name, value)| line(format_args!("{name} = {value}"))),
        Answer::Verified(Verified { running: true, done, pages, .. }) => {
            line(format_args!("page {done} of {pages} is being read"));
        }
        Answer::Verified(Verified { report: None, .. }) => line(format_args!("no page has been read yet")),
        Answer::Verified(Verified { report: Some(report), .. }) => {
            for damage in &report.damaged {
                line(format_args!("damaged     {} {}", damage.path, damage.what));
            }
            if let Some(why) = &report.failed {
                line(format_args!("not finished: {why}"));
            }
            line(format_args!(
                "{} pages read in {:.1} s until {}, {} damaged, {} read again while they were written",
                report.pages_read,
                report.seconds,
                iso(report.ended_unix_ms),
                report.damaged.len(),
                report.read_again
            ));
        }
    }
    text
}

fn because(cause: &Cause) -> String {
    format!("since {} by uid {}: {}", iso(cause.since_unix_ms), cause.by.uid, cause.reason)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(words: &[&str]) -> Option<Act> {
        Line::try_parse_from(["raida"].iter().chain(words)).ok().map(|line| line.arguments.act)
    }

    #[test]
    fn what_is_held_is_named_once_and_with_a_reason() {
        let key = ["--locker", "ABC-1234"];
        let why = ["--reason", "case 1"];
        assert!(parsed(&[&["hold"][..], &key, &why].concat()).is_some());
        assert!(parsed(&[&["hold"][..], &key].concat()).is_none());
        assert!(parsed(&[&["hold"][..], &why].concat()).is_none());
        assert!(parsed(&[&["hold", "--trade-locker", "00"][..], &key, &why].concat()).is_none());
        assert!(parsed(&[&["hold", "--fingerprint", "00"][..], &why].concat()).is_none());
        let release = parsed(&[&["release", "--fingerprint", "1a2b3c4d"][..], &why].concat()).expect("a command line");
        let Request::Release { what: Named::Fingerprint(digits), reason } = request(release).unwrap() else {
            panic!("a release by fingerprint")
        };
        assert_eq!((digits.as_str(), reason.as_str()), ("1a2b3c4d", "case 1"));
        assert!(parsed(&[&["release", "--fingerprint", "1a"][..], &key, &why].concat()).is_none());
    }

    #[test]
    fn a_socket_nobody_listens_on_is_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let failure = asked(&folder.path().join("none.sock"), &Request::Checkpoint).unwrap_err();
        assert_eq!(failure.status, ExitStatus::NoAnswer);
        assert!(failure.line.contains("none.sock"), "{}", failure.line);
    }

    #[test]
    fn what_is_held_is_told_without_a_secret() {
        let cause = Cause {
            reason: "case 1".to_string(),
            since_unix_ms: 1_795_309_260_007,
            by: raida::store::suspended::Who { uid: 1000, pid: 1 },
        };
        let answer = Answer::Suspended {
            holds: vec![Hold { held: Held::Locker([0x1A; 16]), cause: cause.clone() }],
            pauses: vec![Pause { coin: TradeCoin::Monero, cause }],
        };
        let because = "since 2026-11-22T01:01:00.007Z by uid 1000: case 1";
        assert_eq!(told(&answer), format!("locker       1a1a1a1a {because}\nmarket       Monero {because}\n"));
        let nothing = Answer::Suspended { holds: vec![], pauses: vec![] };
        assert_eq!(told(&nothing), "nothing is held, no market is paused\n");
    }
}
