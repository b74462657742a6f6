//! Follows a log from batch to batch, as far as its chain holds.
//!
//! From the tail on each batch must have the writer, epoch, next number and chain that are expected, and be whole. Where
//! it is not at this place it may be at the start of the next segment. At the first break the log ends, for this reader;
//! batches that a recycled segment still holds never match, as their numbers are lower.

use super::format::{BATCH_BYTES_BOUND, BatchHeader, HEADER_BYTES, LogTail, whole_blocks};
use crate::mutant::{self, Mutant};
use crate::store::error::StoreError;
use crate::store::files;
use crate::store::layout::{AlignedBytes, BLOCK_BYTES};
use crate::store::storage::Storage;

/// Which log to read, from where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// The shard.
    pub writer: u8,
    /// The epoch in its control block.
    pub epoch: u64,
    /// The tail in its control block.
    pub tail: LogTail,
    /// Segments of the log; 0: there is nothing to read.
    pub segments: u16,
    /// Bytes of a segment.
    pub segment_bytes: u64,
}

/// A reader of a log. What segments are too short for reads as zeros: see [`Batches::is_cut_off`].
pub struct Batches<'a> {
    storage: &'a dyn Storage,
    source: Source,
    segment: u16,
    /// Where the next batch is due, behind the last one.
    offset: u64,
    next_batch: u64,
    previous_crc: u32,
    /// The segment of the last batch.
    last_segment: u16,
    /// What the segments' files have.
    lengths: Vec<u64>,
    /// Whether something was read since the last batch where a file has ended.
    is_short: bool,
    bytes: AlignedBytes,
}

impl<'a> Batches<'a> {
    /// At the tail.
    ///
    /// # Errors
    /// What the storage fails with.
    pub fn new(storage: &'a dyn Storage, source: Source) -> Result<Self, StoreError> {
        let lengths = (0..source.segments).map(|slot| storage.length(&files::segment(source.writer, slot)));
        let lengths = lengths.map(|length| Ok(length?.unwrap_or(0))).collect::<Result<Vec<u64>, StoreError>>()?;
        Ok(Self {
            storage,
            source,
            segment: source.tail.segment,
            offset: 0,
            next_batch: source.tail.batch,
            previous_crc: source.tail.previous_crc,
            last_segment: source.tail.segment,
            lengths,
            is_short: false,
            bytes: AlignedBytes::zeroed(0),
        })
    }

    /// The header of the next batch, whose records are then [`Batches::records`]; `None`: the log ends here.
    ///
    /// # Errors
    /// What the storage fails with.
    pub fn advance(&mut self) -> Result<Option<BatchHeader>, StoreError> {
        if self.source.segments == 0 {
            return Ok(None);
        }
        self.is_short = false;
        let mut found = self.expected_batch(self.segment, self.offset)?;
        if found.is_none() && self.offset > 0 {
            let (next, is_short) = ((self.segment + 1) % self.source.segments, self.is_short);
            found = self.expected_batch(next, 0)?;
            // Any batch would have found room here: what is not there was never due.
            if self.source.segment_bytes - self.offset >= BATCH_BYTES_BOUND {
                self.is_short = is_short;
            }
            if found.is_some() {
                (self.segment, self.offset) = (next, 0);
            }
        }
        let Some((header, crc)) = found else { return Ok(None) };
        self.last_segment = self.segment;
        self.offset += whole_blocks(header.used as usize) as u64;
        self.next_batch += 1;
        self.previous_crc = crc;
        Ok(Some(header))
    }

    /// The commit records of the batch that [`Batches::advance`] has just found.
    pub fn records(&self, header: &BatchHeader) -> &[u8] {
        &self.bytes[HEADER_BYTES..header.used as usize]
    }

    /// The segment of the last batch that was found.
    pub fn last_segment(&self) -> u16 {
        self.last_segment
    }

    /// The number of the first batch that was not found yet.
    pub fn next_batch(&self) -> u64 {
        self.next_batch
    }

    /// The CRC field of the last batch that was found.
    pub fn previous_crc(&self) -> u32 {
        self.previous_crc
    }

    /// Whether the batch that is not there is due where a segment's file has ended before its size.
    pub fn is_cut_off(&self) -> bool {
        self.is_short
    }

    /// Where the missing batch is due: behind the last one, or at the next segment's beginning where that one is full.
    pub fn due(&self) -> (u16, u64) {
        if self.offset < self.source.segment_bytes {
            (self.segment, self.offset)
        } else {
            ((self.segment + 1) % self.source.segments, 0)
        }
    }

    /// Where the reader stands: behind the last batch.
    pub fn place(&self) -> (u16, u64) {
        (self.segment, self.offset)
    }

    /// Whether the batch of a header that was read elsewhere is whole.
    ///
    /// # Errors
    /// What the storage fails with.
    pub fn is_whole(&mut self, segment: u16, offset: u64, header: &BatchHeader) -> Result<bool, StoreError> {
        let length = whole_blocks(header.used as usize);
        if length as u64 > self.source.segment_bytes - offset {
            return Ok(false);
        }
        self.read(segment, offset, length)?;
        Ok(header.whole(&self.bytes[..length]).is_some())
    }

    /// The header and CRC of the batch expected next, if it is here and whole; its bytes are then in `self.bytes`.
    fn expected_batch(&mut self, segment: u16, offset: u64) -> Result<Option<(BatchHeader, u32)>, StoreError> {
        let Some(header) = self.header(segment, offset)? else { return Ok(None) };
        let stale = mutant::is(Mutant::RecycledSegmentReplayed) && header.number != self.next_batch;
        let expected = stale
            || header.writer == self.source.writer
                && header.epoch == self.source.epoch
                && header.number == self.next_batch
                && header.previous_crc == self.previous_crc;
        let length = whole_blocks(header.used as usize);
        if !expected || length as u64 > self.source.segment_bytes - offset {
            return Ok(None);
        }
        self.read(segment, offset, length)?;
        Ok(header.whole(&self.bytes[..length]).map(|crc| (header, crc)))
    }

    fn header(&mut self, segment: u16, offset: u64) -> Result<Option<BatchHeader>, StoreError> {
        if offset + BLOCK_BYTES as u64 > self.source.segment_bytes {
            return Ok(None);
        }
        self.read(segment, offset, BLOCK_BYTES)?;
        Ok(BatchHeader::decode(&self.bytes))
    }

    fn read(&mut self, segment: u16, offset: u64, length: usize) -> Result<(), StoreError> {
        if self.bytes.len() < length {
            self.bytes = AlignedBytes::zeroed(length);
        }
        self.is_short |= offset + length as u64 > self.lengths[usize::from(segment)];
        let path = files::segment(self.source.writer, segment);
        self.storage.read_what_is_there(&path, offset, &mut self.bytes[..length])
    }
}
