//! The control block: what of a shard's log is in place, and where the rest begins.
//!
//! Two slots of one block each, `control` at 0 and 4,096, are written in turn: generation g goes to slot g mod 2, so a
//! torn write leaves the block before it. It is the last step of a checkpoint: pages and orders are durable before it,
//! and log segments before its tail are overwritten only after it.
//!
//! # A slot: 4,096 bytes
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `RCB1` |
//! | 4 | 2 | format version = 1 |
//! | 6 | 1 | writer: the shard |
//! | 7 | 1 | orders image: 0 `orders-0`, 1 `orders-1` |
//! | 8 | 8 | generation |
//! | 16 | 8 | epoch |
//! | 24 | 8 | sequence: every commit up to it, of all shards, is in place |
//! | 32 | 8 | tail: batch number |
//! | 40 | 4 | tail: CRC field of the batch before |
//! | 44 | 2 | tail: segment slot |
//! | 46 | 2 | segments; 0: there is no log to read, its segments are being made |
//! | 48 | 8 | bytes of a segment |
//! | 56 | 8 | generation of the orders image |
//! | 64 | 1 | logs of the directory; what log 0's block says counts |
//! | 65 | 1875 | pages ever used: page p is bit p mod 8, least significant first, of byte p / 8 |
//! | 1940 | 2152 | zero |
//! | 4092 | 4 | CRC-32C of the bytes before |
//!
//! Integers are big-endian.

use super::layout::{AlignedBytes, BLOCK_BYTES};
use super::wal::LogTail;
use crate::coin::{PAGES, PageNumber};

const MAGIC: &[u8; 4] = b"RCB1";
const VERSION: u16 = 1;
const USED_AT: usize = 65;
const CRC_AT: usize = BLOCK_BYTES - 4;

const _: () = assert!(USED_AT + UsedPages::BYTES == 1940);

/// The highest value of a counter on disk: sequences, epochs, generations, batch numbers. No clock comes near it, so one
/// above it is damage, though its CRC may hold; and whoever goes on counting from one below it never comes to the end.
pub const COUNTER_MAX: u64 = u64::MAX / 4 * 3;

/// The size of a slot.
pub const SLOT_BYTES: usize = BLOCK_BYTES;

/// Which pages were ever written: one of them that reads as zeros was lost by the disk.
#[derive(Clone, PartialEq, Eq)]
pub struct UsedPages([u8; Self::BYTES]);

impl UsedPages {
    const BYTES: usize = PAGES as usize / 8;

    /// No page.
    pub const fn none() -> Self {
        Self([0; Self::BYTES])
    }

    /// Whether the page was ever written.
    pub fn contains(&self, page: PageNumber) -> bool {
        let page = usize::from(page.get());
        self.0[page / 8] & (1 << (page % 8)) != 0
    }

    /// Notes that the page is written.
    pub fn insert(&mut self, page: PageNumber) {
        let page = usize::from(page.get());
        self.0[page / 8] |= 1 << (page % 8);
    }

    /// Notes every page of `other`.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(byte, other)| *byte |= other);
    }

    /// How many pages it holds.
    pub fn count(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }
}

impl std::fmt::Debug for UsedPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UsedPages({})", self.count())
    }
}

/// Which orders image counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrdersImage {
    /// 0: `orders-0`, 1: `orders-1`.
    pub slot: u8,
    /// The generation in its header.
    pub generation: u64,
}

impl OrdersImage {
    /// The first of a new log.
    pub const FIRST: Self = Self { slot: 0, generation: 1 };

    /// The image to write next: the other slot, the next generation.
    pub const fn next(self) -> Self {
        Self { slot: 1 - self.slot, generation: self.generation + 1 }
    }
}

/// What a control block says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Control {
    /// The shard.
    pub writer: u8,
    /// Raised by one with every write of the block.
    pub generation: u64,
    /// The epoch its log is written under.
    pub epoch: u64,
    /// Every commit up to this sequence, of all shards, is in place.
    pub sequence: u64,
    /// Where the rest of the log begins.
    pub tail: LogTail,
    /// Segments of the log; 0 while they are being made.
    pub segments: u16,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Logs of the directory. Log 0's block counts: it names as many as there are, or fewer while surplus ones are removed.
    pub logs: u8,
    /// The image of the shard's orders.
    pub orders: OrdersImage,
    /// Pages ever used. After recovery each shard's block has all of them; a shard adds its own.
    pub used: UsedPages,
}

impl Control {
    /// Where in `control` this generation is written.
    pub const fn offset(&self) -> u64 {
        self.generation % 2 * SLOT_BYTES as u64
    }

    /// Writes the block's bytes.
    pub fn encode(&self, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), SLOT_BYTES);
        assert!(self.orders.slot < 2);
        bytes.fill(0);
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_be_bytes());
        bytes[6] = self.writer;
        bytes[7] = self.orders.slot;
        bytes[8..16].copy_from_slice(&self.generation.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.tail.batch.to_be_bytes());
        bytes[40..44].copy_from_slice(&self.tail.previous_crc.to_be_bytes());
        bytes[44..46].copy_from_slice(&self.tail.segment.to_be_bytes());
        bytes[46..48].copy_from_slice(&self.segments.to_be_bytes());
        bytes[48..56].copy_from_slice(&self.segment_bytes.to_be_bytes());
        bytes[56..64].copy_from_slice(&self.orders.generation.to_be_bytes());
        bytes[64] = self.logs;
        bytes[USED_AT..USED_AT + UsedPages::BYTES].copy_from_slice(&self.used.0);
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
    }

    /// The block's bytes in a buffer of their own.
    pub fn to_block(&self) -> AlignedBytes {
        let mut bytes = AlignedBytes::zeroed(SLOT_BYTES);
        self.encode(&mut bytes);
        bytes
    }

    /// The block of a slot's bytes, `None` unless it is whole and can go on counting (see [`COUNTER_MAX`]).
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SLOT_BYTES] = bytes.try_into().ok()?;
        let be_u16 = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let be_u32 = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let be_u64 = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if &bytes[..4] != MAGIC
            || be_u16(4) != VERSION
            || bytes[7] > 1
            || be_u32(CRC_AT) != crc32c::crc32c(&bytes[..CRC_AT])
            || [8, 16, 24, 32, 56].into_iter().any(|counter| be_u64(counter) > COUNTER_MAX)
        {
            return None;
        }
        Some(Self {
            writer: bytes[6],
            generation: be_u64(8),
            epoch: be_u64(16),
            sequence: be_u64(24),
            tail: LogTail { segment: be_u16(44), batch: be_u64(32), previous_crc: be_u32(40) },
            segments: be_u16(46),
            segment_bytes: be_u64(48),
            logs: bytes[64],
            orders: OrdersImage { slot: bytes[7], generation: be_u64(56) },
            used: UsedPages(bytes[USED_AT..USED_AT + UsedPages::BYTES].try_into().expect("1875 bytes")),
        })
    }

    /// The block of two slots that counts: the whole one of the higher generation.
    pub fn newest(slots: [Option<Self>; 2]) -> Option<Self> {
        slots.into_iter().flatten().max_by_key(|control| control.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> Control {
        let mut used = UsedPages::none();
        used.insert(PageNumber::new(9).unwrap());
        used.insert(PageNumber::new(14_999).unwrap());
        Control {
            writer: 3,
            generation: 0x1111_1111_1111_1112,
            epoch: 0x2222_2222_2222_2222,
            sequence: 0x3333_3333_3333_3333,
            tail: LogTail { segment: 0x4444, batch: 0x5555_5555_5555_5555, previous_crc: 0x6666_6666 },
            segments: 0x7777,
            segment_bytes: 0x8888_8888_8888_8888,
            logs: 0xAA,
            orders: OrdersImage { slot: 1, generation: 0x9999_9999_9999_9999 },
            used,
        }
    }

    #[test]
    fn golden_bytes_of_a_control_block() {
        let block = control().to_block();
        let mut expected = b"RCB1\x00\x01\x03\x01".to_vec();
        expected.extend([0x11; 7]);
        expected.push(0x12);
        for (byte, times) in [(0x22, 8), (0x33, 8), (0x55, 8), (0x66, 4), (0x44, 2), (0x77, 2), (0x88, 8), (0x99, 8)] {
            expected.extend(std::iter::repeat_n(byte, times));
        }
        expected.extend([0xAA, 0, 2]);
        assert_eq!(&block[..67], &expected[..]);
        assert_eq!(block[1939], 0x80);
        assert!(block[67..1939].iter().chain(&block[1940..4092]).all(|&byte| byte == 0));
        assert_eq!(block[4092..], 0x7758_B37Fu32.to_be_bytes());
        assert_eq!(Control::decode(&block), Some(control()));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let block = control().to_block();
        for at in 0..SLOT_BYTES {
            let mut flipped = block.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(Control::decode(&flipped), None, "byte {at}");
        }
        assert_eq!(Control::decode(&[0; SLOT_BYTES]), None);
        let last = Control { epoch: COUNTER_MAX, ..control() };
        assert_eq!(Control::decode(&last.to_block()), Some(last.clone()));
        let beyond = [
            Control { epoch: COUNTER_MAX + 1, ..control() },
            Control { generation: u64::MAX, ..control() },
            Control { sequence: u64::MAX, ..control() },
            Control { tail: LogTail { batch: u64::MAX, ..control().tail }, ..control() },
            Control { orders: OrdersImage { generation: u64::MAX, ..control().orders }, ..control() },
        ];
        assert!(beyond.iter().all(|control| Control::decode(&control.to_block()).is_none()), "though their CRC holds");
        assert_eq!(Control::decode(&block[1..]), None);
    }

    #[test]
    fn the_newer_whole_slot_counts() {
        let older = control();
        let newer = Control { generation: older.generation + 1, sequence: 1 + older.sequence, ..older.clone() };
        assert_eq!((older.offset(), newer.offset()), (0, 4096));
        assert_eq!(Control::newest([Some(older.clone()), Some(newer.clone())]), Some(newer));
        assert_eq!(Control::newest([Some(older.clone()), None]), Some(older));
        assert_eq!(Control::newest([None, None]), None);
    }

    #[test]
    fn orders_images_alternate() {
        assert_eq!(OrdersImage::FIRST.next(), OrdersImage { slot: 1, generation: 2 });
        assert_eq!(OrdersImage::FIRST.next().next(), OrdersImage { slot: 0, generation: 3 });
    }

    #[test]
    fn pages_ever_used() {
        let mut used = control().used;
        assert_eq!(used.count(), 2);
        assert!(used.contains(PageNumber::new(9).unwrap()) && !used.contains(PageNumber::new(8).unwrap()));
        let mut other = UsedPages::none();
        other.insert(PageNumber::new(8).unwrap());
        used.add(&other);
        assert!(used.contains(PageNumber::new(8).unwrap()));
        assert_eq!(used.count(), 3);
    }
}
