//! Reads a log back: what recovery sees of it.
//!
//! From the tail the chain is followed: each batch must have the writer, epoch, next number and chain that are expected,
//! and be whole. Where it is not at this place it may be at the start of the next segment. At the first break the log
//! ends: what is beyond was never durable. Batches that a recycled segment still holds never match.
//!
//! Because batch n + 4 is written only after batch n is durable, a segment that begins with such a batch of this
//! epoch, while n is missing, is proof that the disk lost n: that is an error, not the end.

use super::format::{BatchHeader, CommitRecord, HEADER_BYTES, LogTail, WINDOW, whole_blocks};
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

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scanned {
    /// The number of the first batch that is not there.
    pub next_batch: u64,
    /// The CRC field of the last that is.
    pub previous_crc: u32,
    /// Records given to the visitor.
    pub records: u64,
    /// The highest sequence among them, 0 if none.
    pub highest_sequence: u64,
}

/// Gives every commit record of the log to `visit`, in their order.
///
/// # Errors
/// [`StoreError::DamagedFile`] where a segment is missing, something durable is lost, or a whole batch holds what no
/// writer writes; what the storage and `visit` fail with.
pub fn scan(
    storage: &dyn Storage,
    source: &Source,
    visit: &mut dyn FnMut(&CommitRecord<'_>) -> Result<(), StoreError>,
) -> Result<Scanned, StoreError> {
    for slot in 0..source.segments {
        let path = files::segment(source.writer, slot);
        if storage.length(&path)? != Some(source.segment_bytes) {
            return Err(StoreError::DamagedFile { path, why: "it is missing or of another size" });
        }
    }
    let mut scanner = Scanner {
        storage,
        source,
        segment: source.tail.segment,
        offset: 0,
        scanned: Scanned {
            next_batch: source.tail.batch,
            previous_crc: source.tail.previous_crc,
            records: 0,
            highest_sequence: 0,
        },
        bytes: AlignedBytes::zeroed(0),
    };
    if source.segments > 0 {
        while scanner.step(visit)? {}
        scanner.check_nothing_is_lost()?;
    }
    Ok(scanner.scanned)
}

struct Scanner<'a> {
    storage: &'a dyn Storage,
    source: &'a Source,
    segment: u16,
    offset: u64,
    scanned: Scanned,
    bytes: AlignedBytes,
}

impl Scanner<'_> {
    /// Reads the next batch; `false`: there is none.
    fn step(&mut self, visit: &mut dyn FnMut(&CommitRecord<'_>) -> Result<(), StoreError>) -> Result<bool, StoreError> {
        let mut found = self.expected_batch(self.segment, self.offset)?;
        if found.is_none() && self.offset > 0 {
            let next = (self.segment + 1) % self.source.segments;
            found = self.expected_batch(next, 0)?;
            if found.is_some() {
                (self.segment, self.offset) = (next, 0);
            }
        }
        let Some((header, crc)) = found else { return Ok(false) };
        self.visit_records(&header, visit)?;
        self.offset += whole_blocks(header.used as usize) as u64;
        self.scanned.next_batch += 1;
        self.scanned.previous_crc = crc;
        Ok(true)
    }

    /// The header and CRC of the batch expected next, if it is here and whole; its bytes are then in `self.bytes`.
    fn expected_batch(&mut self, segment: u16, offset: u64) -> Result<Option<(BatchHeader, u32)>, StoreError> {
        let Some(header) = self.header(segment, offset)? else { return Ok(None) };
        let expected = header.writer == self.source.writer
            && header.epoch == self.source.epoch
            && header.number == self.scanned.next_batch
            && header.previous_crc == self.scanned.previous_crc;
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
        self.storage.read_at(&files::segment(self.source.writer, segment), offset, &mut self.bytes[..length])
    }

    fn visit_records(
        &mut self,
        header: &BatchHeader,
        visit: &mut dyn FnMut(&CommitRecord<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let path = || files::segment(self.source.writer, self.segment);
        let mut rest = &self.bytes[HEADER_BYTES..header.used as usize];
        for _ in 0..header.records {
            let Some((record, after)) = CommitRecord::decode(rest) else {
                return Err(StoreError::DamagedFile { path: path(), why: "a whole batch holds a broken record" });
            };
            if record.commit.sequence <= self.scanned.highest_sequence {
                return Err(StoreError::DamagedFile { path: path(), why: "its sequences do not rise" });
            }
            self.scanned.highest_sequence = record.commit.sequence;
            self.scanned.records += 1;
            visit(&record)?;
            rest = after;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(StoreError::DamagedFile { path: path(), why: "a whole batch holds more than its records" })
        }
    }

    /// No segment begins with a batch that could be written only after the missing one was durable.
    fn check_nothing_is_lost(&mut self) -> Result<(), StoreError> {
        for segment in 0..self.source.segments {
            let Some(header) = self.header(segment, 0)? else { continue };
            if header.writer != self.source.writer
                || header.epoch != self.source.epoch
                || header.number < self.scanned.next_batch + WINDOW
            {
                continue;
            }
            let length = whole_blocks(header.used as usize);
            if length as u64 > self.source.segment_bytes {
                continue;
            }
            self.read(segment, 0, length)?;
            if header.whole(&self.bytes[..length]).is_some() {
                let path = files::segment(self.source.writer, segment);
                return Err(StoreError::DamagedFile { path, why: "batches before it are lost" });
            }
        }
        Ok(())
    }
}
