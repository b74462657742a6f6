//! `raida serve`: a node on a data directory, until it is told to stop.
//!
//! The flags override the file; both end in one [`Config`]. The main thread does nothing but wait for a signal and look
//! after the reactors ([`super::service_manager`]).

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use nix::sys::signal::{SigSet, Signal};

use raida::admin::operator::Operator;
use raida::admin::{Admin, Identity};
use raida::coin::TradeCoin;
use raida::config::admin::Door;
use raida::config::{Config, Durability, SHARDS_MAX};
use raida::node::{Node, NodeOptions, StartError, Termination, prepare_process};
use raida::reactor::ring::RingError;
use raida::settings::Settlement;

use super::exit::{ExitStatus, Failure, OrFailure};
use super::logs::LogFormat;
use super::offline::{data_failure, refuse_no_directory};
use super::service_manager;

/// Serve a data directory
///
/// Prints one line when it serves:
/// ready raida=<id> listen=<address> shards=<n> coins=<n> lockers=<n> recovered=<n> [admin=<address>] [socket=<path>]
///
/// SIGTERM and SIGINT end it: it stops accepting, finishes what is in flight, writes a checkpoint. A second signal ends
/// it at once; the next start then recovers from the log.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida serve --data /var/lib/raida/3/data --config /etc/raida/3.toml
  raida serve --data ./data --raida-id 3 --listen 127.0.0.1:50003 --shards 2
  raida serve --data ./data --cpus 0,1 --trust-market")]
pub struct Arguments {
    /// The data directory, made by `raida import`, `raida mint` or `raida dev`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The configuration; without it every key has its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// This node's number in the network (server.raida_id)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=24))]
    raida_id: Option<u8>,
    /// The network's coin id (server.coin_id)
    #[arg(long, value_name = "N")]
    coin_id: Option<u16>,
    /// Where to listen, over TCP and UDP (server.listen and server.port); port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Shards, each with a thread; 0: one for each core (server.threads)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=i64::from(SHARDS_MAX)))]
    shards: Option<u8>,
    /// The cores of the shards (server.cpus)
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(0..1024))]
    cpus: Option<Vec<u16>>,
    /// When a write is answered (store.durability)
    #[arg(long, value_enum)]
    durability: Option<DurabilityName>,
    /// Where metrics, health and the status page are served over HTTP: off or an address (admin.listen)
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<Door<SocketAddr>>,
    /// The Unix socket of the same: off or a path (admin.socket)
    #[arg(long, value_name = "PATH")]
    admin_socket: Option<Door<PathBuf>>,
    /// How the log on standard error looks; RUST_LOG chooses how much (error, warn, info, debug; info unless it is set)
    #[arg(long, value_enum, default_value_t, env = "RAIDA_LOG_FORMAT")]
    log_format: LogFormat,
    /// Take every buyer at his word, for test networks (market.cloudcoin, bitcoin and monero = "trusted")
    #[arg(long)]
    trust_market: bool,
}

/// The values of `--durability`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DurabilityName {
    /// When it is on disk
    Sync,
    /// At once: it may be lost
    None,
}

impl Arguments {
    /// How the log looks.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// The file's configuration with the flags over it.
    fn configuration(&self) -> Result<Config, Failure> {
        let mut config = match &self.config {
            Some(file) => Config::read(file).or_failure(ExitStatus::Configuration)?,
            None => Config::default(),
        };
        let server = &mut config.server;
        server.raida_id = self.raida_id.unwrap_or(server.raida_id);
        server.coin_id = self.coin_id.unwrap_or(server.coin_id);
        if let Some(listen) = self.listen {
            (server.listen, server.port) = (listen.ip(), listen.port());
        }
        // Whoever names cores or shards on the command line means the file's other half no longer.
        if self.shards.is_some() || self.cpus.is_some() {
            server.threads = self.shards.unwrap_or(0);
            server.cpus = self.cpus.clone().unwrap_or_default();
        }
        match self.durability {
            Some(DurabilityName::Sync) => config.store.durability = Durability::Sync,
            Some(DurabilityName::None) => config.store.durability = Durability::None,
            None => {}
        }
        if let Some(listen) = &self.admin {
            config.admin.listen = listen.clone();
        }
        if let Some(socket) = &self.admin_socket {
            config.admin.socket = socket.clone();
        }
        if self.trust_market {
            config.market.settlement = [Settlement::Trusted; 3];
        }
        config.check("command line").or_failure(ExitStatus::Configuration)?;
        Ok(config)
    }
}

/// Serves until a signal says stop.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.configuration()?;
    refuse_no_directory(&arguments.data)?;
    serve(&arguments.data, &config, |node, admin| say(&ready_line(config.server.raida_id, node, admin)))
}

/// Serves `data` until a signal says stop; `serving` is called once it serves.
pub fn serve(
    data: &Path,
    config: &Config,
    serving: impl FnOnce(&Node, Option<&Admin>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    warn_of(config);
    prepare_process().or_failure(ExitStatus::Machine)?;
    // Before any thread starts, so that all of them leave the signals to this one.
    let termination = Termination::catch().or_failure(ExitStatus::Machine)?;
    // Before the node, so that a long start can be watched.
    let admin = start_admin(config)?;
    let node = Node::start(NodeOptions::new(data, config)).map_err(|error| start_failure(error, data))?;
    if let Some(admin) = &admin {
        admin.serving(node.desk(), node.directory());
        admin.operated_by(Some(Operator::new(&node, config)));
    }
    serving(&node, admin.as_ref())?;
    service_manager::ready();
    let signal = service_manager::watch(&node, &termination)?;
    log::info!("{signal}: finishing what is in flight");
    service_manager::stopping();
    // From here on a second signal has its usual effect: the operator does not want to wait.
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]).thread_unblock().or_failure(ExitStatus::Machine)?;
    if let Some(admin) = &admin {
        admin.draining();
        admin.operated_by(None);
    }
    node.stop().or_failure(ExitStatus::Machine)?;
    Ok(())
}

fn start_admin(config: &Config) -> Result<Option<Admin>, Failure> {
    let identity = Identity { raida_id: config.server.raida_id, coin_id: config.server.coin_id };
    Admin::start(&config.admin, identity).or_failure(ExitStatus::Address)
}

/// What whoever starts a node waits for.
pub fn ready_line(raida_id: u8, node: &Node, admin: Option<&Admin>) -> String {
    let found = node.inventory();
    let address = admin.and_then(Admin::address).map(|address| format!(" admin={address}")).unwrap_or_default();
    let socket = admin.and_then(Admin::socket).map(|path| format!(" socket={}", path.display())).unwrap_or_default();
    format!(
        "ready raida={raida_id} listen={} shards={} coins={} lockers={} recovered={}{address}{socket}",
        node.address(),
        node.shards(),
        found.coins,
        found.lockers,
        found.recovered
    )
}

/// Prints lines on standard output, at once even into a pipe.
pub fn say(lines: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{lines}").and_then(|()| out.flush()).or_failure(ExitStatus::Machine)
}

/// What the operator should know before the node serves.
fn warn_of(config: &Config) {
    config.notes.iter().for_each(|note| log::warn!("{note}"));
    let trusted = TradeCoin::ALL.iter().zip(config.market.settlement);
    let trusted: Vec<String> =
        trusted.filter(|pair| pair.1 == Settlement::Trusted).map(|(coin, _)| format!("{coin:?}")).collect();
    if !trusted.is_empty() {
        let coins = trusted.join(", ");
        log::warn!("market: buyers who say they paid in {coins} are taken at their word; for test networks alone");
    }
    if config.store.durability == Durability::None {
        log::warn!("store: answers do not wait for the disk; what was answered can be lost");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if usize::from(config.shards()) > cores {
        log::warn!("server: {} shards on {cores} cores are slower than {cores}", config.shards());
    }
}

fn start_failure(error: StartError, data: &Path) -> Failure {
    match error {
        StartError::Store(error) => data_failure(error, data),
        StartError::Kernel(RingError::Failed(ref cause)) if cause.raw_os_error() == Some(libc::ENOMEM) => {
            let hint = "raise the limit of locked memory (`ulimit -l`, LimitMEMLOCK= in a unit)";
            Failure::new(ExitStatus::Kernel, format_args!("{error}: {hint}"))
        }
        StartError::Kernel(_) => Failure::new(ExitStatus::Kernel, error),
        StartError::Address { .. } => Failure::new(ExitStatus::Address, error),
        StartError::Machine(_) => Failure::new(ExitStatus::Machine, error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn configuration(flags: &[&str]) -> Result<Config, Failure> {
        let words = ["raida", "--data", "d"].into_iter().chain(flags.iter().copied());
        Line::try_parse_from(words).expect("a command line").arguments.configuration()
    }

    #[test]
    fn without_flags_everything_is_the_default() {
        assert_eq!(configuration(&[]), Ok(Config::default()));
    }

    #[test]
    fn flags_override_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("raida.toml");
        fs::write(&file, "[server]\nraida_id = 3\nport = 50003\nthreads = 4\ncpus = [0, 1, 2, 3]\n").unwrap();
        let file = ["--config", file.to_str().unwrap()];
        let of = |flags: &[&str]| configuration(&[&file, flags].concat()).unwrap();

        assert_eq!((of(&[]).server.raida_id, of(&[]).shards()), (3, 4));
        let config = of(&["--raida-id", "5", "--listen", "127.0.0.1:0", "--shards", "2", "--durability", "none"]);
        assert_eq!((config.server.raida_id, config.shards()), (5, 2));
        assert_eq!(
            (config.listen(), config.store.durability),
            (SocketAddr::from(([127, 0, 0, 1], 0)), Durability::None)
        );
        assert_eq!(of(&["--cpus", "7,9"]).shards(), 2);
        assert_eq!(of(&["--trust-market"]).market.settlement, [Settlement::Trusted; 3]);
    }

    #[test]
    fn what_contradicts_itself_is_a_wrong_configuration() {
        for flags in [["--shards", "3", "--cpus", "1,2"].as_slice(), &["--config", "/nowhere/raida.toml"]] {
            assert_eq!(configuration(flags).unwrap_err().status, ExitStatus::Configuration);
        }
    }
}
