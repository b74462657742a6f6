//! A file of the archive, byte by byte. Integers are big-endian.
//!
//! # Its name
//! `<first sequence>-<last sequence>-<shard>.log`, the numbers with leading zeros: in the order of their names files are
//! in that of their first sequences. While it is written it is called `<shard>.new`.
//!
//! # A file: a header, then chunks
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `RLA1` |
//! | 4 | 2 | format version = 1 |
//! | 6 | 1 | the shard whose log it was |
//! | 7 | 1 | zero |
//! | 8 | 8 | epoch of its batches |
//! | 16 | 8 | number of the first batch |
//! | 24 | 8 | number of the last batch |
//! | 32 | 8 | sequence of the first record |
//! | 40 | 8 | sequence of the last record |
//! | 48 | 8 | earliest time of a record, milliseconds since 1970-01-01 UTC |
//! | 56 | 8 | latest time of a record |
//! | 64 | 4 | number of records |
//! | 68 | 4 | CRC-32C of the header's other bytes |
//!
//! # A chunk
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | compressed bytes, n |
//! | 4 | 4 | bytes of its records |
//! | 8 | 4 | CRC-32C of the bytes before, and of the compressed ones |
//! | 12 | n | whole commit records as in [`wal::format`](crate::store::wal::format), compressed: an LZ4 block |

use std::fmt;

use crate::store::files;
use crate::store::wal::format::{CHANGES_MAX, record_bytes};

const MAGIC: &[u8; 4] = b"RLA1";
const VERSION: u16 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 72;
/// Bytes of a chunk before its compressed ones.
pub const CHUNK_HEADER_BYTES: usize = 12;
/// A chunk is closed when its records have so many bytes.
pub const CHUNK_RECORDS_BYTES: usize = 256 << 10;
/// No chunk has more bytes of records.
pub const CHUNK_RECORDS_BYTES_MAX: usize = CHUNK_RECORDS_BYTES + record_bytes(CHANGES_MAX, 1);

const CRC_AT: usize = 68;
const _: () = assert!(CRC_AT + 4 == HEADER_BYTES);

/// The name of a file of the archive. Ordered by sequence, then shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileName {
    /// The sequence of its first record.
    pub first: u64,
    /// The sequence of its last record.
    pub last: u64,
    /// The shard whose log it was.
    pub shard: u8,
}

impl FileName {
    /// The name that a file has, `None` where it is no file of an archive.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".log")?.splitn(3, '-');
        let mut number = || parts.next()?.parse().ok();
        let (first, last, shard) = (number()?, number()?, number()?);
        let parsed = Self { first, last, shard: u8::try_from(shard).ok()? };
        (parsed.to_string() == name).then_some(parsed)
    }

    /// Its path in the data directory.
    pub fn path(&self) -> String {
        format!("{}/{self}", files::ARCHIVE)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:020}-{:02}.log", self.first, self.last, self.shard)
    }
}

/// The header of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The shard whose log it was.
    pub shard: u8,
    /// The epoch of its batches.
    pub epoch: u64,
    /// The number of its first batch.
    pub first_batch: u64,
    /// The number of its last batch.
    pub last_batch: u64,
    /// The sequence of its first record.
    pub first_sequence: u64,
    /// The sequence of its last record.
    pub last_sequence: u64,
    /// The earliest time of a record.
    pub earliest_ms: u64,
    /// The latest time of a record.
    pub latest_ms: u64,
    /// How many records it has.
    pub records: u32,
}

impl Header {
    /// The file's name.
    pub fn name(&self) -> FileName {
        FileName { first: self.first_sequence, last: self.last_sequence, shard: self.shard }
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_be_bytes());
        bytes[6] = self.shard;
        let numbers = [
            self.epoch,
            self.first_batch,
            self.last_batch,
            self.first_sequence,
            self.last_sequence,
            self.earliest_ms,
            self.latest_ms,
        ];
        for (number, into) in numbers.into_iter().zip(bytes[8..64].chunks_exact_mut(8)) {
            into.copy_from_slice(&number.to_be_bytes());
        }
        bytes[64..CRC_AT].copy_from_slice(&self.records.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// The header of its bytes, `None` where it is not whole.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let whole = &bytes[..4] == MAGIC
            && bytes[4..6] == VERSION.to_be_bytes()
            && bytes[CRC_AT..] == crc32c::crc32c(&bytes[..CRC_AT]).to_be_bytes();
        whole.then(|| Self {
            shard: bytes[6],
            epoch: number(8),
            first_batch: number(16),
            last_batch: number(24),
            first_sequence: number(32),
            last_sequence: number(40),
            earliest_ms: number(48),
            latest_ms: number(56),
            records: u32::from_be_bytes(bytes[64..CRC_AT].try_into().expect("4 bytes")),
        })
    }
}

/// The chunk of some records.
pub fn encode_chunk(records: &[u8]) -> Vec<u8> {
    assert!(!records.is_empty() && records.len() <= CHUNK_RECORDS_BYTES_MAX);
    let mut chunk = vec![0; CHUNK_HEADER_BYTES + lz4_flex::block::get_maximum_output_size(records.len())];
    let (header, into) = chunk.split_at_mut(CHUNK_HEADER_BYTES);
    let length = lz4_flex::block::compress_into(records, into).expect("room for what cannot be compressed");
    header[..4].copy_from_slice(&(length as u32).to_be_bytes());
    header[4..8].copy_from_slice(&(records.len() as u32).to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..8]), &into[..length]);
    header[8..].copy_from_slice(&crc.to_be_bytes());
    chunk.truncate(CHUNK_HEADER_BYTES + length);
    chunk
}

/// The bytes that follow a chunk's header, `None` where it is none.
pub fn compressed_bytes(header: &[u8; CHUNK_HEADER_BYTES]) -> Option<usize> {
    let length = u32::from_be_bytes(header[..4].try_into().expect("4 bytes")) as usize;
    (length <= lz4_flex::block::get_maximum_output_size(CHUNK_RECORDS_BYTES_MAX)).then_some(length)
}

/// The records of a whole chunk, `None` where it is not as it was written.
pub fn decode_chunk(header: &[u8; CHUNK_HEADER_BYTES], compressed: &[u8]) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(header[4..8].try_into().expect("4 bytes")) as usize;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..8]), compressed);
    if header[8..] != crc.to_be_bytes() || length > CHUNK_RECORDS_BYTES_MAX {
        return None;
    }
    let mut records = vec![0; length];
    let decoded = lz4_flex::block::decompress_into(compressed, &mut records).ok()?;
    (decoded == length).then_some(records)
}
