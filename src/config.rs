//! raida.toml: every choice and every bound of a node, read strictly.
//!
//! The file has six tables, and the command line overrides what it says. A key nobody knows, a value of the wrong
//! type or out of range, is refused with one line ([`ConfigError`]) before anything is opened. `deploy/raida.toml`
//! is the commented form; a test holds it equal to [`Config::default`].
//!
//! Invariant: what [`Config::read`] returns is within every bound, so nobody checks them again.

pub mod admin;
pub mod section;
pub mod treasury;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;

use toml::Value;

use self::admin::Admin;
pub use self::section::ConfigError;
use self::section::Section;
use self::treasury::Treasury;
use crate::settings::{DATAGRAM_BYTES_MAX, Identifier, Settings, Settlement};
use crate::store::archive::Retention;

/// The most shards a node has.
pub const SHARDS_MAX: u8 = 64;
/// Servers of the network, and the entries of `server.raida_servers`.
pub const NETWORK_SERVERS: usize = 25;
/// Coins the longest request can name: 65,535 bytes of body, 5 a coin. Less room than that would refuse it for ever.
const COINS_OF_A_REQUEST: usize = 65_535 / 5;
/// The longest answer, 16 MiB, finds room beside others.
const OUTBOUND_BYTES_MIN: usize = 32 << 20;

/// A whole configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// `[server]`: who this node is and where it listens.
    pub server: Server,
    /// `[limits]`: what clients may use of it.
    pub limits: Limits,
    /// `[store]`: memory and disk.
    pub store: Store,
    /// `[archive]`: what is kept of the logs.
    pub archive: Archive,
    /// `[market]`: trade lockers.
    pub market: Market,
    /// `[change]`: break, join and their reservations.
    pub change: Change,
    /// `[treasury]`: who creates and frees coins over the wire.
    pub treasury: Treasury,
    /// `[admin]`: metrics, health and the status page.
    pub admin: Admin,
    /// What the operator should know about the file: keys of the reference that have no effect here.
    pub notes: Vec<String>,
}

/// `[server]`. The reference's keys mean the same here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// This node's number in the network, 0..=24.
    pub raida_id: u8,
    /// The network's coin id.
    pub coin_id: u16,
    /// The port, of TCP and of UDP.
    pub port: u16,
    /// The address to listen on.
    pub listen: IpAddr,
    /// Shards, each with a thread of its own; 0: one for each of `cpus`, or for each core the process may use.
    pub threads: u8,
    /// The cores of the shards, in order; empty: the kernel chooses.
    pub cpus: Vec<u16>,
}

/// `[limits]`. Each bound is the most there ever is; what is over it waits or gets a status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// TCP connections of a shard.
    pub connections: usize,
    /// Requests of one connection that are in flight at once.
    pub connection_requests: usize,
    /// Requests of a shard that are in flight at once.
    pub requests_in_flight: usize,
    /// Coins that the requests in flight of a shard name together.
    pub coins_in_flight: usize,
    /// How long a header may take to arrive, seconds.
    pub header_seconds: u64,
    /// How long a body may take to arrive, seconds.
    pub body_seconds: u64,
    /// How long a connection may be silent between requests, seconds.
    pub idle_seconds: u64,
    /// How long a client may take to read an answer, seconds.
    pub send_seconds: u64,
    /// Bytes of answers that wait for one connection's client, before no more of its requests are read.
    pub outbound_bytes_connection: usize,
    /// Bytes of answers that wait for all clients of a shard.
    pub outbound_bytes_total: usize,
    /// The longest answer over UDP, bytes with its header; what is longer is answered with 45.
    pub datagram_bytes: usize,
    /// Whether *pown sum* is served.
    pub pown_sum: bool,
}

/// `[store]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    /// Pages of 20 KiB in the cache of a shard.
    pub cache_pages: usize,
    /// Bytes of one segment of a shard's log.
    pub log_segment_bytes: u64,
    /// Segments of a shard's log.
    pub log_segments: u16,
    /// When an answer leaves.
    pub durability: Durability,
}

/// `[archive]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Archive {
    /// Whether what logs held is kept.
    pub enabled: bool,
    /// How much of it is kept, bytes.
    pub retain_bytes: u64,
    /// How long it is kept, days.
    pub retain_days: u64,
}

impl Archive {
    /// How much is kept.
    pub fn retention(&self) -> Retention {
        Retention { bytes_max: self.retain_bytes, age_ms_max: self.retain_days * 86_400_000 }
    }
}

/// `[market]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Market {
    /// What names a trade locker in lists.
    pub identifier: Identifier,
    /// Offers that a shard's part of the market holds.
    pub offers_max: usize,
    /// How trade lockers sold for CloudCoin, Bitcoin and Monero are paid, in this order.
    pub settlement: [Settlement; 3],
}

/// `[change]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Breaks an address may ask for within the window; 0: as many as it likes.
    pub break_limit: u32,
    /// That window, hours.
    pub break_window_hours: u64,
    /// Whether this machine's own clients are not limited.
    pub exempt_loopback: bool,
    /// Addresses whose rate a shard counts.
    pub rate_addresses_max: usize,
    /// How long a session keeps the serial numbers it was offered, seconds.
    pub reservation_seconds: u64,
}

/// When an answer to a write leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// After its record is on disk.
    Sync,
    /// At once: what was answered can be lost. For measurements alone.
    None,
}

impl Durability {
    /// Its names in the file and on the command line.
    pub const CHOICES: [(&'static str, Self); 2] = [("sync", Self::Sync), ("none", Self::None)];
}

const IDENTIFIERS: [(&str, Identifier); 2] = [("hashed", Identifier::Hashed), ("an", Identifier::An)];
const SETTLEMENTS: [(&str, Settlement); 2] = [("off", Settlement::Off), ("trusted", Settlement::Trusted)];

impl Default for Server {
    fn default() -> Self {
        Self {
            raida_id: 0,
            coin_id: 6,
            port: 50_000,
            listen: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            threads: 0,
            cpus: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connection_requests: 32,
            requests_in_flight: 4_096,
            coins_in_flight: 262_144,
            header_seconds: 5,
            body_seconds: 10,
            idle_seconds: 60,
            send_seconds: 30,
            outbound_bytes_connection: 1 << 20,
            outbound_bytes_total: 64 << 20,
            datagram_bytes: DATAGRAM_BYTES_MAX,
            pown_sum: false,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { cache_pages: 2_048, log_segment_bytes: 16 << 20, log_segments: 4, durability: Durability::Sync }
    }
}

impl Default for Archive {
    fn default() -> Self {
        Self { enabled: true, retain_bytes: 10 << 30, retain_days: 730 }
    }
}

impl Default for Market {
    fn default() -> Self {
        Self { identifier: Identifier::Hashed, offers_max: 65_536, settlement: [Settlement::Off; 3] }
    }
}

impl Default for Change {
    fn default() -> Self {
        Self {
            break_limit: 30,
            break_window_hours: 8,
            exempt_loopback: true,
            rate_addresses_max: 65_536,
            reservation_seconds: 16,
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is not TOML, or says something that is not allowed; when a file that it names cannot be read.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| ConfigError::new(format_args!("{name}: {error}")))?;
        let mut config = Self::parse(&name, &text)?;
        config.treasury.read_key(&name)?;
        Ok(config)
    }

    /// Reads the text of a file; `file` is what errors call it. Files that it names are not read.
    ///
    /// # Errors
    /// When it is not TOML, or says something that is not allowed.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let mut tables: toml::Table = text.parse().map_err(|error| not_toml(file, text, &error))?;
        let mut notes = Vec::new();
        let mut read = |name: &'static str| Section::take(file, name, &mut tables);
        let (mut server, mut limits, mut store) = (read("server")?, read("limits")?, read("store")?);
        let (mut archive, mut market) = (read("archive")?, read("market")?);
        let (mut change, mut treasury, mut admin) = (read("change")?, read("treasury")?, read("admin")?);
        if let Some(name) = tables.keys().next() {
            return Err(ConfigError::new(format_args!(
                "{file}: {name}: unknown table; the tables are server, limits, store, archive, market, change, treasury, \
                 admin"
            )));
        }
        let mut config = Self {
            server: Server::read(&mut server)?,
            limits: Limits::read(&mut limits)?,
            store: Store::read(&mut store)?,
            archive: Archive::read(&mut archive)?,
            market: Market::read(&mut market)?,
            change: Change::read(&mut change)?,
            treasury: Treasury::read(&mut treasury)?,
            admin: Admin::read(&mut admin)?,
            notes: Vec::new(),
        };
        for section in [server, limits, store, archive, market, change, treasury, admin] {
            notes.extend(section.finish()?);
        }
        config.notes = notes;
        config.check(file)?;
        Ok(config)
    }

    /// What must hold between two keys; asked again when the command line has changed some.
    ///
    /// # Errors
    /// When it does not hold; `source` is what the error blames.
    pub fn check(&self, source: &str) -> Result<(), ConfigError> {
        let Server { threads, cpus, .. } = &self.server;
        if *threads != 0 && !cpus.is_empty() && cpus.len() != *threads as usize {
            return Err(ConfigError::new(format_args!(
                "{source}: server.cpus names {} cores for {threads} shards: allowed is one for each, or none",
                cpus.len()
            )));
        }
        let Limits { outbound_bytes_connection: one, outbound_bytes_total: all, .. } = self.limits;
        if one > all {
            return Err(ConfigError::new(format_args!(
                "{source}: limits.outbound_bytes_connection = {one}: allowed is at most limits.outbound_bytes_total, {all}"
            )));
        }
        self.admin.check(source)
    }

    /// How many shards the node has.
    pub fn shards(&self) -> u8 {
        let shards = match (self.server.threads, self.server.cpus.len()) {
            (0, 0) => thread::available_parallelism().map_or(1, usize::from),
            (0, cpus) => cpus,
            (threads, _) => threads as usize,
        };
        shards.min(SHARDS_MAX as usize) as u8
    }

    /// Where the node listens.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.server.listen, self.server.port)
    }

    /// What each shard is built with.
    pub fn settings(&self) -> Settings {
        Settings {
            raida_id: self.server.raida_id,
            coin_id: self.server.coin_id,
            shards: self.shards(),
            cache_pages: self.store.cache_pages,
            requests_max: self.limits.requests_in_flight,
            coins_max: self.limits.coins_in_flight,
            offers_max: self.market.offers_max,
            rate_addresses_max: self.change.rate_addresses_max,
            break_limit: self.change.break_limit,
            break_window_s: self.change.break_window_hours * 3_600,
            break_exempt_loopback: self.change.exempt_loopback,
            reservation_ms: self.change.reservation_seconds * 1_000,
            datagram_bytes_max: self.limits.datagram_bytes,
            pown_sum: self.limits.pown_sum,
            durable: self.store.durability == Durability::Sync,
            archive: self.archive.enabled,
            settlement: self.market.settlement,
            identifier: self.market.identifier,
            treasury: self.treasury.settings(),
        }
    }
}

impl Server {
    fn read(table: &mut Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let server = Self {
            raida_id: table.integer("raida_id", 0..=24, default.raida_id)?,
            coin_id: table.integer("coin_id", 0..=u16::MAX, default.coin_id)?,
            port: table.integer("port", 1..=u16::MAX, default.port)?,
            listen: table.value(
                "listen",
                "an IPv4 or IPv6 address in quotes, without a port",
                default.listen,
                |value| value.as_str()?.parse().ok(),
            )?,
            threads: table.integer("threads", 0..=SHARDS_MAX, default.threads)?,
            cpus: table.value("cpus", "a list of at most 64 different core numbers 0..=1023", default.cpus, cores)?,
        };
        Self::read_unused(table)?;
        Ok(server)
    }

    /// The reference's other keys, so that its file can be used as it is.
    fn read_unused(table: &mut Section<'_>) -> Result<(), ConfigError> {
        let number =
            |value: &Value| value.as_integer().is_some_and(|number| (0..=i64::from(u32::MAX)).contains(&number));
        let numbers = "0..=4294967295";
        let later = "this version serves no command that needs it";
        table.unused("backup_freq", numbers, "every write is on disk before it is answered", number)?;
        table.unused("integrity_freq", numbers, later, number)?;
        table.unused("udp_effective_payload", numbers, "a datagram carries up to 65507 bytes", number)?;
        table.unused("synchronization_enabled", "true, false", later, Value::is_bool)?;
        table.unused("root_path", "text in quotes", "--data names the data directory", Value::is_str)?;
        table.unused_secret("admin_key", "treasury.key_file names a file that has it")?;
        table.unused_secret("proxy_key", later)?;
        table.unused("proxy_addr", "text in quotes", later, Value::is_str)?;
        table.unused("proxy_port", numbers, later, number)?;
        table.unused("btc_confirmations", numbers, later, number)?;
        table.unused("raida_servers", "a list of 25 \"host:port\" in quotes", later, |value| {
            value.as_array().is_some_and(|servers| servers.len() == NETWORK_SERVERS && servers.iter().all(is_host_port))
        })
    }
}

impl Limits {
    fn read(table: &mut Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            connections: table.integer("connections", 1..=1_000_000, default.connections)?,
            connection_requests: table.integer("connection_requests", 1..=512, default.connection_requests)?,
            requests_in_flight: table.integer("requests_in_flight", 1..=1_000_000, default.requests_in_flight)?,
            coins_in_flight: table.integer(
                "coins_in_flight",
                COINS_OF_A_REQUEST..=16_777_216,
                default.coins_in_flight,
            )?,
            header_seconds: table.integer("header_seconds", 1..=3_600, default.header_seconds)?,
            body_seconds: table.integer("body_seconds", 1..=3_600, default.body_seconds)?,
            idle_seconds: table.integer("idle_seconds", 1..=86_400, default.idle_seconds)?,
            send_seconds: table.integer("send_seconds", 1..=3_600, default.send_seconds)?,
            outbound_bytes_connection: table.integer(
                "outbound_bytes_connection",
                65_536..=1 << 30,
                default.outbound_bytes_connection,
            )?,
            outbound_bytes_total: table.integer(
                "outbound_bytes_total",
                OUTBOUND_BYTES_MIN..=1 << 40,
                default.outbound_bytes_total,
            )?,
            datagram_bytes: table.integer("datagram_bytes", 1_400..=DATAGRAM_BYTES_MAX, default.datagram_bytes)?,
            pown_sum: table.boolean("pown_sum", default.pown_sum)?,
        })
    }
}

impl Store {
    fn read(table: &mut Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            cache_pages: table.integer("cache_pages", 8..=15_000, default.cache_pages)?,
            log_segment_bytes: table.value(
                "log_segment_bytes",
                "1048576..=1073741824 in whole blocks of 4096",
                default.log_segment_bytes,
                |value| {
                    let bytes = u64::try_from(value.as_integer()?).ok()?;
                    ((1 << 20..=1 << 30).contains(&bytes) && bytes % 4_096 == 0).then_some(bytes)
                },
            )?,
            log_segments: table.integer("log_segments", 3..=1_024, default.log_segments)?,
            durability: table.choice("durability", &Durability::CHOICES, default.durability)?,
        })
    }
}

impl Archive {
    fn read(table: &mut Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            enabled: table.boolean("enabled", default.enabled)?,
            retain_bytes: table.integer("retain_bytes", 1 << 20..=1 << 50, default.retain_bytes)?,
            retain_days: table.integer("retain_days", 1..=36_500, default.retain_days)?,
        })
    }
}

impl Market {
    fn read(table: &mut Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let [cloudcoin, bitcoin, monero] = default.settlement;
        Ok(Self {
            identifier: table.choice("identifier", &IDENTIFIERS, default.identifier)?,
            offers_max: table.integer("offers_max", 1..=15_360_000, default.offers_max)?,
            settlement: [
                table.choice("cloudcoin", &SETTLEMENTS, cloudcoin)?,
                table.choice("bitcoin", &SETTLEMENTS, bitcoin)?,
                table.choice("monero", &SETTLEMENTS, monero)?,
            ],
        })
    }
}

impl Change {
    fn read(table: &mut Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            break_limit: table.integer("break_limit", 0..=1_000_000, default.break_limit)?,
            break_window_hours: table.integer("break_window_hours", 1..=8_760, default.break_window_hours)?,
            exempt_loopback: table.boolean("exempt_loopback", default.exempt_loopback)?,
            rate_addresses_max: table.integer("rate_addresses_max", 1..=16_777_216, default.rate_addresses_max)?,
            reservation_seconds: table.integer("reservation_seconds", 1..=3_600, default.reservation_seconds)?,
        })
    }
}

/// A list of different core numbers.
fn cores(value: &Value) -> Option<Vec<u16>> {
    let mut cores = Vec::new();
    for core in value.as_array()? {
        let core = u16::try_from(core.as_integer()?).ok().filter(|&core| core < 1_024)?;
        if cores.contains(&core) {
            return None;
        }
        cores.push(core);
    }
    (cores.len() <= SHARDS_MAX as usize).then_some(cores)
}

/// Whether a value is `host:port`.
fn is_host_port(value: &Value) -> bool {
    value
        .as_str()
        .and_then(|server| server.rsplit_once(':'))
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// The line of the mistake and what it is. Never the line itself, as it may hold a secret.
fn not_toml(file: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = 1 + text.as_bytes()[..before].iter().filter(|&&byte| byte == b'\n').count();
    ConfigError::new(format_args!("{file}: line {line} is not TOML: {}", error.message()))
}

#[cfg(test)]
mod tests;
