//! A backup: one file with all that a data directory holds at one sequence, checksummed.
//!
//! # The file
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `RBK1` |
//! | 4 | 2 | format version = 1 |
//! | 6 | 1 | RAIDA id; 255: not told, taken while no node served |
//! | 7 | 1 | zero |
//! | 8 | 2 | coin id; 65,535: not told |
//! | 10 | 6 | zero |
//! | 16 | 8 | time, milliseconds since 1970-01-01 UTC |
//! | 24 | 8 | sequence: every commit up to it is in the pages |
//! | 32 | | entries, compressed: one LZ4 frame, of blocks up to 256 KiB that stand alone, without checksums of its own |
//! | end - 32 | 32 | SHA-256 of all bytes before |
//!
//! # An entry: its kind in one byte, then
//! | kind | what | size |
//! |---|---|---|
//! | 1 | a page as it is in its place; each once, by ascending numbers | 20,480 |
//! | 2 | an order, as in [`orders`](super::orders) | 153 |
//! | 3 | a commit record, as in [`wal::format`](super::wal::format) | its length |
//! | 4 | what is suspended, if anything ever was: its length in 4 bytes, then the file as in [`suspended`](super::suspended) | 4 and more |
//! | 255 | the end: the sequence of the backup, and how many pages, orders and records there are, 8 bytes each | 32 |
//!
//! A backup of a running node goes out while it is made, so one that was given up ends with `\nRBKX` and a line that says
//! why, in place of entries and checksum.
//!
//! Integers are big-endian. Kinds come in this order. A page that is not there was never used. Whatever else a data
//! directory will have to hold gets a kind of its own, 5 and up; a program that does not know a kind refuses the file.
//!
//! # Why it is consistent
//! The pages of a running node are copied one after the other while it changes them, so they may have changes of any
//! commit up to the last of those days. The records bring each coin to where it is at the backup's sequence: they are all
//! those above the header's sequence and up to the end's, from all logs. Records are absolute and no page has a change
//! above the end's sequence, so after them every command up to it is done as a whole, and of every other nothing.
//!
//! Nobody should be able to read it who may not have all coins. The checksum tells a file that was cut or has rotted, not
//! one that somebody forged.
//!
//! # Layout
//! * [`writer`], [`reader`]: the file, byte by byte
//! * [`snapshot`]: fills one from a data directory, at rest or in use
//! * [`restore`](mod@restore): makes a data directory of one

pub mod reader;
pub mod restore;
pub mod snapshot;
pub mod writer;

use super::control::COUNTER_MAX;
use super::error::StoreError;
use super::layout::PAGE_BYTES;
use super::orders::Order;
use super::wal::format::{CHANGES_MAX, record_bytes};

const MAGIC: &[u8; 4] = b"RBK1";
const VERSION: u16 = 1;
/// Bytes before the entries.
pub const HEADER_BYTES: usize = 32;
/// Bytes behind them.
pub const DIGEST_BYTES: usize = 32;
/// What the frame begins with: LZ4's magic, and what is said of it above. A frame that says anything else of itself is
/// none of ours, so nobody makes the reader keep more than a block.
const FRAME_HEAD: [u8; 7] = [0x04, 0x22, 0x4D, 0x18, 0x60, 0x50, 0xFB];
/// Bytes of the end's fields.
const END_BYTES: usize = 32;
/// The largest entry but for its kind.
const ENTRY_BYTES_MAX: usize = record_bytes(CHANGES_MAX, 1);
/// Bytes of what is suspended, at most.
const SUSPENDED_BYTES_MAX: u32 = 64 << 20;
const RAIDA_NOT_TOLD: u8 = u8::MAX;
const COIN_NOT_TOLD: u16 = u16::MAX;

const _: () = assert!(PAGE_BYTES <= ENTRY_BYTES_MAX && Order::BYTES <= ENTRY_BYTES_MAX);

/// What a backup that was given up ends with, before the reason.
const GIVEN_UP: &[u8] = b"\nRBKX";
/// Bytes of a reason at most.
const REASON_BYTES_MAX: usize = 500;

/// The last bytes of a backup that was given up.
pub fn given_up(reason: &str) -> Vec<u8> {
    let reason: String = reason.chars().filter(|letter| is_printable(*letter)).take(REASON_BYTES_MAX).collect();
    [GIVEN_UP, reason.as_bytes(), b"\n"].concat()
}

/// The reason in the last bytes of a backup that was given up.
fn reason(tail: &[u8]) -> Option<String> {
    let at = tail.windows(GIVEN_UP.len()).rposition(|bytes| bytes == GIVEN_UP)?;
    let reason = std::str::from_utf8(&tail[at + GIVEN_UP.len()..]).ok()?.strip_suffix('\n')?;
    reason.chars().all(is_printable).then(|| reason.to_string())
}

/// Whether a letter does no harm on a terminal.
const fn is_printable(letter: char) -> bool {
    letter == ' ' || letter.is_ascii_graphic()
}

/// What kind of entry follows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
enum Kind {
    Page = 1,
    Order = 2,
    Record = 3,
    Suspended = 4,
    End = 255,
}

impl Kind {
    const fn new(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Page),
            2 => Some(Self::Order),
            3 => Some(Self::Record),
            4 => Some(Self::Suspended),
            255 => Some(Self::End),
            _ => None,
        }
    }
}

/// Which node of which network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Whose {
    /// The node's number in the network.
    pub raida_id: u8,
    /// The network.
    pub coin_id: u16,
}

/// The head of a backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Whose coins these are; `None`: not told.
    pub whose: Option<Whose>,
    /// When it was begun, milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    /// Every commit up to it is in the pages.
    pub in_place: u64,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let not_told = Whose { raida_id: RAIDA_NOT_TOLD, coin_id: COIN_NOT_TOLD };
        let Whose { raida_id, coin_id } = self.whose.unwrap_or(not_told);
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_be_bytes());
        bytes[6] = raida_id;
        bytes[8..10].copy_from_slice(&coin_id.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.unix_ms.to_be_bytes());
        bytes[24..].copy_from_slice(&self.in_place.to_be_bytes());
        bytes
    }

    /// The header of a file's first bytes, or what is wrong with them.
    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, String> {
        let version = u16::from_be_bytes([bytes[4], bytes[5]]);
        if &bytes[..4] != MAGIC {
            return Err("it is no backup of this program".to_string());
        }
        if version != VERSION {
            return Err(format!("it is of format {version}, which this program does not know"));
        }
        let (raida_id, coin_id) = (bytes[6], u16::from_be_bytes([bytes[8], bytes[9]]));
        let be_u64 = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if be_u64(24) > COUNTER_MAX {
            return Err("its sequence is past the end of all".to_string());
        }
        Ok(Self {
            whose: (raida_id != RAIDA_NOT_TOLD).then_some(Whose { raida_id, coin_id }),
            unix_ms: be_u64(16),
            in_place: be_u64(24),
        })
    }
}

/// The last entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct End {
    /// Every commit up to it is in the backup, and no other.
    pub sequence: u64,
    /// Pages.
    pub pages: u64,
    /// Orders.
    pub orders: u64,
    /// Commit records.
    pub records: u64,
}

impl End {
    fn encode(&self) -> [u8; END_BYTES] {
        let mut bytes = [0; END_BYTES];
        let fields = [self.sequence, self.pages, self.orders, self.records];
        for (field, into) in fields.iter().zip(bytes.chunks_exact_mut(8)) {
            into.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; END_BYTES]) -> Self {
        let be_u64 = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        Self { sequence: be_u64(0), pages: be_u64(8), orders: be_u64(16), records: be_u64(24) }
    }
}

/// A file that is no whole backup; `why` says it of the file.
fn damaged(why: impl Into<String>) -> StoreError {
    StoreError::DamagedBackup { why: why.into() }
}

#[cfg(test)]
mod tests;
