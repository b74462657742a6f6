//! The bounds and choices a node is built with; `config` fills them in.

use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::coin::{Secret, TradeCoin};

/// The longest datagram of IPv4, bytes of its payload.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// What a shard must know from the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's number in the network, 0..25.
    pub raida_id: u8,
    /// The network's coin id: 6 today.
    pub coin_id: u16,
    /// Shards of this node.
    pub shards: u8,
    /// Pages in this shard's cache, at least 8.
    pub cache_pages: usize,
    /// Requests in flight.
    pub requests_max: usize,
    /// Coins named by the requests in flight.
    pub coins_max: usize,
    /// Offers this shard's part of the market holds.
    pub offers_max: usize,
    /// Addresses whose rate this shard counts.
    pub rate_addresses_max: usize,
    /// Breaks an address may ask for within the window; 0: as many as it likes.
    pub break_limit: u32,
    /// The window of the rate limit, seconds.
    pub break_window_s: u64,
    /// Whether 127.0.0.0/8 and ::1 are not limited.
    pub break_exempt_loopback: bool,
    /// How long a session keeps the serial numbers offered to it, milliseconds.
    pub reservation_ms: u64,
    /// The longest answer over UDP, bytes with its header; what is longer is answered with 45.
    pub datagram_bytes_max: usize,
    /// Whether *pown sum* is served.
    pub pown_sum: bool,
    /// Whether an answer waits for its log record to be durable. Only a benchmark says no.
    pub durable: bool,
    /// Whether full log segments are archived before they are overwritten. The data directory then has an archive.
    pub archive: bool,
    /// How a trade locker sold for each coin type is paid, by [`TradeCoin`].
    pub settlement: [Settlement; TradeCoin::ALL.len()],
    /// What names a trade locker in lists.
    pub identifier: Identifier,
    /// Who may create and free coins over the wire; nobody unless it is set.
    pub treasury: Option<Treasury>,
}

/// Who may create and free coins over the wire.
#[derive(Clone, Debug)]
pub struct Treasury {
    /// The key, which every request of the treasury has in it.
    pub key: Zeroizing<Secret>,
    /// The networks that requests may come from.
    pub networks: Vec<IpNet>,
}

/// How a buyer pays the seller of a trade locker. More kinds will come: this is their one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settlement {
    /// Nothing is sold for this coin type: *buy* answers 50.
    Off,
    /// The buyer is taken at his word. For test networks alone.
    Trusted,
}

/// What names a trade locker where everybody can read it (PROTOCOL.md, "Locker identifier").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identifier {
    /// A hash of the AN, and its public part.
    Hashed,
    /// The AN itself, which is also the right to take the offer back: the mission's literal form.
    An,
}
