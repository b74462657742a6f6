//! Reads a log back: what recovery sees of it.
//!
//! The records of [`Batches`], as far as those go. There the log ends, unless a later batch of this epoch says that the
//! missing one was durable: that is reported as [`Lost`]. Batches that a recycled segment still holds prove nothing: their
//! numbers are lower.

use super::batches::{Batches, Source};
use super::format::{BatchHeader, CommitRecord, PROOF_WITHIN_BYTES, WINDOW};
use crate::store::control::COUNTER_MAX;
use crate::store::error::StoreError;
use crate::store::files;
use crate::store::layout::{AlignedBytes, BLOCK_BYTES};
use crate::store::storage::Storage;

/// How much is read at once while looking for proof.
const CHUNK_BYTES: usize = 256 << 10;

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
    while let Some(header) = scanner.batches.advance()? {
        scanner.visit_records(&header, visit)?;
    }
    let Scanner { batches, scanned, .. } = &mut scanner;
    scanned.next_batch = batches.next_batch();
    scanned.previous_crc = batches.previous_crc();
    scanned.is_cut_off = batches.is_cut_off();
    if source.segments > 0 {
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
    while scanner.batches.next_batch() <= last {
        let Some(header) = scanner.batches.advance()? else {
            let ((segment, offset), batch) = (scanner.batches.due(), scanner.batches.next_batch());
            return Err(StoreError::LostBatch { path: files::segment(source.writer, segment), offset, batch });
        };
        scanner.visit_records(&header, visit)?;
    }
    Ok(())
}

struct Scanner<'a> {
    storage: &'a dyn Storage,
    source: &'a Source,
    batches: Batches<'a>,
    scanned: Scanned,
}

impl<'a> Scanner<'a> {
    /// A scanner that has read nothing yet.
    fn new(storage: &'a dyn Storage, source: &'a Source) -> Result<Self, StoreError> {
        let scanned = Scanned {
            next_batch: source.tail.batch,
            previous_crc: source.tail.previous_crc,
            records: 0,
            highest_sequence: 0,
            lost: None,
            is_cut_off: false,
        };
        Ok(Self { storage, source, batches: Batches::new(storage, *source)?, scanned })
    }

    fn visit_records(
        &mut self,
        header: &BatchHeader,
        visit: &mut dyn FnMut(&CommitRecord<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Self { source, batches, scanned, .. } = self;
        let path = || files::segment(source.writer, batches.last_segment());
        let mut rest = batches.records(header);
        for _ in 0..header.records {
            let Some((record, after)) = CommitRecord::decode(rest) else {
                return Err(StoreError::DamagedFile { path: path(), why: "a whole batch holds a broken record" });
            };
            if record.commit.sequence > COUNTER_MAX {
                return Err(StoreError::DamagedFile { path: path(), why: "a sequence is past the end of all" });
            }
            if record.commit.sequence <= scanned.highest_sequence {
                return Err(StoreError::DamagedFile { path: path(), why: "its sequences do not rise" });
            }
            scanned.highest_sequence = record.commit.sequence;
            scanned.records += 1;
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
        let (mut segment, mut offset) = self.batches.place();
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
                    if header.durable >= self.scanned.next_batch && self.batches.is_whole(segment, at, &header)? {
                        highest_sequence = highest_sequence.max(Some(header.highest_sequence));
                    }
                }
                offset += length as u64;
            }
            (segment, offset) = ((segment + 1) % self.source.segments, 0);
            if segment == self.source.tail.segment {
                let (segment, offset) = self.batches.due();
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
}
