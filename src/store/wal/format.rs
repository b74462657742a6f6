//! Batches and commit records, byte by byte. Integers are big-endian.
//!
//! # A batch: whole blocks of 4,096 bytes, one write
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `RLB1` |
//! | 4 | 2 | format version = 1 |
//! | 6 | 1 | writer: the shard whose log it is |
//! | 7 | 1 | zero |
//! | 8 | 8 | epoch: raised at every start of the node |
//! | 16 | 8 | batch number, consecutive |
//! | 24 | 4 | bytes used, this header included |
//! | 28 | 4 | CRC field of the batch before: the chain |
//! | 32 | 8 | highest sequence up to the end of this batch |
//! | 40 | 8 | durable: number of the last batch of the contiguous durable prefix when this one was written |
//! | 48 | 4 | number of commit records; 0: a mark |
//! | 52 | 4 | CRC-32C of the used bytes with this field zero |
//! | 56 | | commit records, then zeros to the end of the block |
//!
//! # A commit record
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | length, this field included |
//! | 4 | 4 | CRC-32C of the bytes from 8 to the end |
//! | 8 | 8 | sequence |
//! | 16 | 8 | time, milliseconds since 1970-01-01 UTC |
//! | 24 | 1 | command group |
//! | 25 | 1 | command |
//! | 26 | 4 | number of changes, c |
//! | 30 | 2 | number of orders, 0 or 1 |
//! | 32 | 22·c | changes |
//! | | 153·o | orders, as in [`orders`](crate::store::orders) |
//!
//! # A change
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | coin number, 0..15,360,000 |
//! | 4 | 1 | where the coin was: 0 free, 1 wallet, 2 locker, 3 trade locker; for audits alone |
//! | 5 | 17 | the coin's new record |

use crate::coin::{CoinId, CoinRecord, Place};
use crate::store::layout::BLOCK_BYTES;
use crate::store::orders::Order;

const MAGIC: &[u8; 4] = b"RLB1";
const VERSION: u16 = 1;
const CRC_AT: usize = 52;
/// Bytes of a batch before its first record.
pub const HEADER_BYTES: usize = 56;
/// Bytes of a record before its first change.
pub const RECORD_HEADER_BYTES: usize = 32;
/// Bytes of a change.
pub const CHANGE_BYTES: usize = 22;
/// Changes of the largest record: a request of 65,535 bytes names no more coins.
pub const CHANGES_MAX: usize = 13_107;
/// Batches past the durable prefix that may be under way.
pub const WINDOW: u64 = 4;
/// How far behind a missing batch the next that can prove it durable begins at most: behind a window of the largest
/// batches, and what such a batch left unused at the end of a segment.
pub const PROOF_WITHIN_BYTES: u64 = 5 << 19;
/// No batch of any geometry is larger.
pub const BATCH_BYTES_BOUND: u64 = PROOF_WITHIN_BYTES / (WINDOW + 1);

const _: () = assert!(CHANGE_BYTES == 5 + CoinRecord::BYTES);
const _: () = assert!(CRC_AT + 4 == HEADER_BYTES);

/// Bytes of a record of so many changes and orders.
pub const fn record_bytes(changes: usize, orders: usize) -> usize {
    RECORD_HEADER_BYTES + changes * CHANGE_BYTES + orders * Order::BYTES
}

/// Bytes of whole blocks that hold `bytes`.
pub const fn whole_blocks(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

/// The sizes of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Bytes of a segment, a multiple of 4,096.
    pub segment_bytes: u64,
    /// Segments of a log, at least 3.
    pub segments: u16,
    /// Bytes of the largest batch, a multiple of 4,096.
    pub batch_bytes_max: usize,
    /// Bytes of the largest record. Half a batch or less wastes little: a batch is closed when the next record does not fit.
    pub record_bytes_max: usize,
}

impl Default for Geometry {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            segments: 4,
            batch_bytes_max: 512 << 10,
            record_bytes_max: record_bytes(CHANGES_MAX, 1),
        }
    }
}

impl Geometry {
    /// Asserts what [`Log`](super::Log) relies on.
    ///
    /// # Panics
    /// When a size is outside its bounds: configuration checks them first.
    pub fn check(&self) {
        assert!(self.segments >= 3 && self.segment_bytes.is_multiple_of(BLOCK_BYTES as u64));
        assert!(self.batch_bytes_max.is_multiple_of(BLOCK_BYTES));
        assert!(HEADER_BYTES + self.record_bytes_max < self.batch_bytes_max);
        assert!(self.segment_bytes >= 2 * self.batch_bytes_max as u64);
        assert!(self.batch_bytes_max as u64 <= BATCH_BYTES_BOUND);
    }
}

/// Where the part of a log that is still needed begins: always the start of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogTail {
    /// The segment's slot.
    pub segment: u16,
    /// The number of its first batch.
    pub batch: u64,
    /// The CRC field of the batch before that.
    pub previous_crc: u32,
}

/// Where a coin was before a change, without its secrets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PlaceKind {
    /// Not in circulation.
    Free = 0,
    /// With an owner.
    Wallet = 1,
    /// In a locker.
    Locker = 2,
    /// In a trade locker.
    TradeLocker = 3,
}

impl PlaceKind {
    /// The kind of a byte in a change.
    pub const fn new(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Free),
            1 => Some(Self::Wallet),
            2 => Some(Self::Locker),
            3 => Some(Self::TradeLocker),
            _ => None,
        }
    }
}

impl From<Place> for PlaceKind {
    fn from(place: Place) -> Self {
        match place {
            Place::Free => Self::Free,
            Place::Wallet => Self::Wallet,
            Place::Locker(_) => Self::Locker,
            Place::TradeLocker(_) => Self::TradeLocker,
        }
    }
}

/// A coin's new record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which coin.
    pub coin: CoinId,
    /// Where it was.
    pub from: PlaceKind,
    /// What it is now.
    pub to: CoinRecord,
}

impl Change {
    fn encode(&self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&self.coin.number().to_be_bytes());
        bytes[4] = self.from as u8;
        bytes[5..CHANGE_BYTES].copy_from_slice(&self.to.encode());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            coin: CoinId::from_number(be_u32(bytes, 0))?,
            from: PlaceKind::new(bytes[4])?,
            to: CoinRecord::decode(bytes[5..CHANGE_BYTES].try_into().expect("17 bytes")),
        })
    }
}

/// What a commit record says besides its changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commit {
    /// Above every sequence that its coins have seen, and above every one before it in its log.
    pub sequence: u64,
    /// When, milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    /// The command's group.
    pub group: u8,
    /// The command's code in its group.
    pub code: u8,
}

/// A commit record in memory that a batch was read into. Made only of bytes that hold one.
#[derive(Clone, Copy)]
pub struct CommitRecord<'a> {
    /// Sequence, time, command.
    pub commit: Commit,
    bytes: &'a [u8],
    changes: &'a [u8],
    orders: &'a [u8],
}

impl<'a> CommitRecord<'a> {
    /// The record that `bytes` begin with, and the bytes after it. `None`: they begin with none that is whole.
    pub fn decode(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        if bytes.len() < RECORD_HEADER_BYTES {
            return None;
        }
        let (length, changes) = (be_u32(bytes, 0) as usize, be_u32(bytes, 26) as usize);
        let orders = usize::from(u16::from_be_bytes([bytes[30], bytes[31]]));
        let whole = changes <= CHANGES_MAX && orders <= 1 && length == record_bytes(changes, orders);
        if !whole || length > bytes.len() || be_u32(bytes, 4) != crc32c::crc32c(&bytes[8..length]) {
            return None;
        }
        let (record, rest) = bytes.split_at(length);
        let (changes, orders) = record[RECORD_HEADER_BYTES..].split_at(changes * CHANGE_BYTES);
        let decodes = changes.chunks_exact(CHANGE_BYTES).all(|bytes| Change::decode(bytes).is_some())
            && orders.chunks_exact(Order::BYTES).all(|bytes| Order::decode(bytes).is_some());
        let commit =
            Commit { sequence: be_u64(record, 8), unix_ms: be_u64(record, 16), group: record[24], code: record[25] };
        decodes.then_some((Self { commit, bytes: record, changes, orders }, rest))
    }

    /// The CRC-32C of all it says.
    pub fn checksum(&self) -> u32 {
        be_u32(self.bytes, 4)
    }

    /// Itself, as it was decoded.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its changes.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = Change> + use<'a> {
        self.changes.chunks_exact(CHANGE_BYTES).map(|bytes| Change::decode(bytes).expect("checked when decoded"))
    }

    /// Its orders.
    pub fn orders(&self) -> impl ExactSizeIterator<Item = Order> + use<'a> {
        self.orders.chunks_exact(Order::BYTES).map(|bytes| Order::decode(bytes).expect("checked when decoded"))
    }
}

/// Writes a record into `bytes`, which are exactly its size.
pub fn encode_record(
    bytes: &mut [u8],
    commit: &Commit,
    changes: impl ExactSizeIterator<Item = Change>,
    order: Option<&Order>,
) {
    let count = changes.len();
    let length = record_bytes(count, usize::from(order.is_some()));
    assert_eq!(bytes.len(), length);
    bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
    bytes[8..16].copy_from_slice(&commit.sequence.to_be_bytes());
    bytes[16..24].copy_from_slice(&commit.unix_ms.to_be_bytes());
    bytes[24] = commit.group;
    bytes[25] = commit.code;
    bytes[26..30].copy_from_slice(&(count as u32).to_be_bytes());
    bytes[30..32].copy_from_slice(&u16::from(order.is_some()).to_be_bytes());
    let (into, order_into) = bytes[RECORD_HEADER_BYTES..].split_at_mut(count * CHANGE_BYTES);
    let mut written = 0;
    for (change, into) in changes.zip(into.chunks_exact_mut(CHANGE_BYTES)) {
        change.encode(into);
        written += 1;
    }
    assert_eq!(written, count, "an exact-size iterator gives what it says");
    if let Some(order) = order {
        order.encode(order_into);
    }
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
}

/// The header of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// The shard whose log it is.
    pub writer: u8,
    /// The epoch it was written under.
    pub epoch: u64,
    /// Its number.
    pub number: u64,
    /// Bytes used, the header included.
    pub used: u32,
    /// The CRC field of the batch before.
    pub previous_crc: u32,
    /// The highest sequence in it; in a mark that of the batch before.
    pub highest_sequence: u64,
    /// The last batch of the contiguous durable prefix when it was written: at most [`WINDOW`] before it.
    pub durable: u64,
    /// How many records it has; 0: it is a mark.
    pub records: u32,
}

impl BatchHeader {
    /// Writes itself and the CRC over `bytes[..used]`; returns the CRC.
    pub fn seal(&self, bytes: &mut [u8]) -> u32 {
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_be_bytes());
        bytes[6] = self.writer;
        bytes[7] = 0;
        bytes[8..16].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.used.to_be_bytes());
        bytes[28..32].copy_from_slice(&self.previous_crc.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.highest_sequence.to_be_bytes());
        bytes[40..48].copy_from_slice(&self.durable.to_be_bytes());
        bytes[48..CRC_AT].copy_from_slice(&self.records.to_be_bytes());
        bytes[CRC_AT..HEADER_BYTES].fill(0);
        let crc = crc32c::crc32c(&bytes[..self.used as usize]);
        bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
        crc
    }

    /// The header that `bytes` begin with; its CRC is not looked at yet, as more bytes may have to be read for it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER_BYTES || &bytes[..4] != MAGIC || bytes[4..6] != VERSION.to_be_bytes() || bytes[7] != 0 {
            return None;
        }
        let used = be_u32(bytes, 24);
        (used as usize >= HEADER_BYTES).then(|| Self {
            writer: bytes[6],
            epoch: be_u64(bytes, 8),
            number: be_u64(bytes, 16),
            used,
            previous_crc: be_u32(bytes, 28),
            highest_sequence: be_u64(bytes, 32),
            durable: be_u64(bytes, 40),
            records: be_u32(bytes, 48),
        })
    }

    /// The CRC field, if the used bytes, which start `bytes`, are what was written.
    pub fn whole(&self, bytes: &[u8]) -> Option<u32> {
        let used = bytes.get(..self.used as usize)?;
        let crc = crc32c::crc32c_append(
            crc32c::crc32c_append(crc32c::crc32c(&used[..CRC_AT]), &[0; 4]),
            &used[HEADER_BYTES..],
        );
        (be_u32(used, CRC_AT) == crc).then_some(crc)
    }
}

fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn be_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
