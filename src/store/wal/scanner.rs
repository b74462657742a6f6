//! Reads a log back: what recovery sees of it.
//!
//! From the tail the chain is followed: each batch must have the writer, epoch, next number and chain that are expected,
//! and be whole. Where it is not at this place it may be at the start of the next segment. At the first break the log
//! ends, unless a later batch of this epoch says that the missing one was durable: that is reported as [`Lost`]. Batches
//! that a recycled segment still holds never match, nor prove anything: their numbers are lower.

use super::format::{
    BATCH_BYTES_BOUND, BatchHeader, CommitRecord, HEADER_BYTES, LogTail, PROOF_WITHIN_BYTES, WINDOW, whole_blocks,
};
use crate::mutant::{self, Mutant};
use crate::store::control::COUNTER_MAX;
use crate::store::error::StoreError;
use crate::store::files;
use crate::store::layout::{AlignedBytes, BLOCK_BYTES};
use crate::store::storage::Storage;

/// How much is read at once while looking for proof.
const CHUNK_BYTES: usize = 256 << 10;

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
    /// Set where the log goes on behind a batch that the disk lost. Whoever reads the log judges it.
    pub lost: Option<Lost>,
    /// Whether the batch that is not there is due where a segment's file has ended before its size.
    pub is_cut_off: bool,
}

/// A batch that was durable and is not whole any more; what follows it was not given to the visitor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The slot of the segment where [`Scanned::next_batch`] is due.
    pub segment: u16,
    /// Where in it.
    pub offset: u64,
    /// The highest sequence of the later batches that prove it: where everything up to this one is in place, nothing
    /// is lost but the batches themselves.
    pub highest_sequence: u64,
}

/// The segments of a log whose files have not their size, with the one they have: `None`, the file is missing.
///
/// # Errors
/// What the storage fails with.
pub fn wrong_segments(storage: &dyn Storage, source: &Source) -> Result<Vec<(u16, Option<u64>)>, StoreError> {
    let mut wrong = Vec::new();
    for slot in 0..source.segments {
        let length = storage.length(&files::segment(source.writer, slot))?;
        if length != Some(source.segment_bytes) {
            wrong.push((slot, length));
        }
    }
    Ok(wrong)
}

/// Gives every commit record of the log to `visit`, in their order. What segments are too short for reads as zeros: see
/// [`Scanned::is_cut_off`].
///
/// # Errors
/// [`StoreError::DamagedFile`] where a whole batch holds what no writer writes; what the storage and `visit` fail with.
pub fn scan(
    storage: &dyn Storage,
    source: &Source,
    visit: &mut dyn FnMut(&CommitRecord<'_>) -> Result<(), StoreError>,
) -> Result<Scanned, StoreError> {
    let mut scanner = Scanner::new(storage, source)?;
    if source.segments > 0 {
        while scanner.step(visit)? {
            scanner.is_short = false;
        }
        scanner.scanned.is_cut_off = scanner.is_short;
        scanner.scanned.lost = scanner.look_for_proof()?;
    }
    Ok(scanner.scanned)
}

/// Gives every commit record of a log that goes on to `visit`, in their order, up to those of batch `last`, which is
/// durable; nothing that `source` speaks of is recycled meanwhile.
///
/// # Errors
/// [`StoreError::LostBatch`] where one of these batches is not whole; else as [`scan`].
pub fn scan_up_to(
    storage: &dyn Storage,
    source: &Source,
    last: u64,
    visit: &mut dyn FnMut(&CommitRecord<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut scanner = Scanner::new(storage, source)?;
    while scanner.scanned.next_batch <= last {
        if !scanner.step(visit)? {
            let ((segment, offset), batch) = (scanner.due(), scanner.scanned.next_batch);
            return Err(StoreError::LostBatch { path: files::segment(source.writer, segment), offset, batch });
        }
    }
    Ok(())
}

struct Scanner<'a> {
    storage: &'a dyn Storage,
    source: &'a Source,
    segment: u16,
    offset: u64,
    scanned: Scanned,
    /// What the segments' files have.
    lengths: Vec<u64>,
    /// Whether something was read since the last batch where a file has ended.
    is_short: bool,
    bytes: AlignedBytes,
}

impl<'a> Scanner<'a> {
    /// A scanner that has read nothing yet.
    fn new(storage: &'a dyn Storage, source: &'a Source) -> Result<Self, StoreError> {
        let lengths = (0..source.segments).map(|slot| storage.length(&files::segment(source.writer, slot)));
        let lengths = lengths.map(|length| Ok(length?.unwrap_or(0))).collect::<Result<Vec<u64>, StoreError>>()?;
        Ok(Self {
            storage,
            source,
            segment: source.tail.segment,
            offset: 0,
            scanned: Scanned {
                next_batch: source.tail.batch,
                previous_crc: source.tail.previous_crc,
                records: 0,
                highest_sequence: 0,
                lost: None,
                is_cut_off: false,
            },
            lengths,
            is_short: false,
            bytes: AlignedBytes::zeroed(0),
        })
    }

    /// Reads the next batch; `false`: there is none.
    fn step(&mut self, visit: &mut dyn FnMut(&CommitRecord<'_>) -> Result<(), StoreError>) -> Result<bool, StoreError> {
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
        let stale = mutant::is(Mutant::RecycledSegmentReplayed) && header.number != self.scanned.next_batch;
        let expected = stale
            || header.writer == self.source.writer
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
        self.is_short |= offset + length as u64 > self.lengths[usize::from(segment)];
        let path = files::segment(self.source.writer, segment);
        self.storage.read_what_is_there(&path, offset, &mut self.bytes[..length])
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
            if record.commit.sequence > COUNTER_MAX {
                return Err(StoreError::DamagedFile { path: path(), why: "a sequence is past the end of all" });
            }
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

    /// Looks through what follows the break for batches that prove the missing one durable, in the order in which the
    /// writer goes round the ring. As long as it comes upon later batches it goes on; after [`PROOF_WITHIN_BYTES`]
    /// without one it looks at the beginnings of the remaining segments alone: reading all of a large ring would take
    /// longer than the rest of a start.
    fn look_for_proof(&mut self) -> Result<Option<Lost>, StoreError> {
        let mut highest_sequence = None;
        let mut chunk = AlignedBytes::zeroed(CHUNK_BYTES);
        let (mut segment, mut offset) = (self.segment, self.offset);
        let mut look = PROOF_WITHIN_BYTES;
        loop {
            while offset < self.source.segment_bytes && (look > 0 || offset == 0) {
                let most = if look > 0 { CHUNK_BYTES } else { BLOCK_BYTES };
                let length = most.min((self.source.segment_bytes - offset) as usize);
                let path = files::segment(self.source.writer, segment);
                self.storage.read_what_is_there(&path, offset, &mut chunk[..length])?;
                look = look.saturating_sub(length as u64);
                for (at, block) in (offset..).step_by(BLOCK_BYTES).zip(chunk[..length].chunks_exact(BLOCK_BYTES)) {
                    let Some(header) = BatchHeader::decode(block).filter(|header| self.is_later(header)) else {
                        continue;
                    };
                    look = PROOF_WITHIN_BYTES;
                    if header.durable >= self.scanned.next_batch && self.is_whole(segment, at, &header)? {
                        highest_sequence = highest_sequence.max(Some(header.highest_sequence));
                    }
                }
                offset += length as u64;
            }
            (segment, offset) = ((segment + 1) % self.source.segments, 0);
            if segment == self.source.tail.segment {
                let (segment, offset) = self.due();
                return Ok(highest_sequence.map(|highest_sequence| Lost { segment, offset, highest_sequence }));
            }
        }
    }

    /// Whether a header is of a batch that the writer wrote after the missing one. What it says of itself must fit the
    /// ring and the window: the middle of a torn batch, which clients wrote, shall not pass for one easily.
    fn is_later(&self, header: &BatchHeader) -> bool {
        let blocks = u64::from(self.source.segments) * self.source.segment_bytes / BLOCK_BYTES as u64;
        let missing = self.scanned.next_batch;
        header.writer == self.source.writer
            && header.epoch == self.source.epoch
            && (missing + 1..missing + blocks).contains(&header.number)
            && (header.number - WINDOW.min(header.number)..header.number).contains(&header.durable)
    }

    fn is_whole(&mut self, segment: u16, offset: u64, header: &BatchHeader) -> Result<bool, StoreError> {
        let length = whole_blocks(header.used as usize);
        if length as u64 > self.source.segment_bytes - offset {
            return Ok(false);
        }
        self.read(segment, offset, length)?;
        Ok(header.whole(&self.bytes[..length]).is_some())
    }

    /// Where the missing batch is due: behind the last one, or at the next segment's beginning where that one is full.
    fn due(&self) -> (u16, u64) {
        if self.offset < self.source.segment_bytes {
            (self.segment, self.offset)
        } else {
            ((self.segment + 1) % self.source.segments, 0)
        }
    }
}
