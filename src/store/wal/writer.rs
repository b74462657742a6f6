//! The log's writer: fills batches, keeps the ring of segments. Pure; whoever owns it does the writes it asks for.
//!
//! The way of a record: [`Log::reserve`] when its transaction is admitted, [`Log::append`] when it commits,
//! [`Log::next_write`] whenever the disk may get more, [`Log::written`] when a write is durable, and then its
//! [`Ticket`] is at or below [`Log::durable`]. A log at rest gets one [`Log::mark`].
//!
//! # Why a reservation can always be honoured
//! * *On disk.* A record alone in a batch costs whole blocks. Joining records in a batch costs no more than
//!   that, and a batch that goes to the next segment wastes less than the largest batch at the old one's end. So a
//!   segment counts as its size less the largest batch, and what is reserved or waits never exceeds what is free.
//! * *In memory.* A batch is closed when the next record does not fit, so it is filled to within one largest record.
//!   At most [`WINDOW`] batches are with the disk; [`WAITING`] more buffers hold everything reserved or waiting.

use std::collections::VecDeque;

use super::format::{
    BatchHeader, Change, Commit, Geometry, HEADER_BYTES, LogTail, WINDOW, encode_record, record_bytes, whole_blocks,
};
use crate::histogram::Histogram;
use crate::mutant::{self, Mutant};
use crate::store::layout::AlignedBytes;
use crate::store::orders::Order;

/// Buffers for batches that the disk does not have yet.
const WAITING: usize = 4;

/// Names a commit record's batch. A record is durable when its ticket is at or below [`Log::durable`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(u64);

impl Ticket {
    /// The number of the batch.
    pub const fn batch(self) -> u64 {
        self.0
    }
}

/// Where a log goes on after recovery. The whole ring is free, and the first batch starts a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogStart {
    /// The shard.
    pub writer: u8,
    /// The epoch, already in the control block on disk.
    pub epoch: u64,
    /// Where the first batch goes, which number it has and what it is chained to, as in the control block.
    pub tail: LogTail,
}

/// A batch for the disk: the first `length` bytes, durable when it reports success.
#[derive(Debug)]
pub struct LogWrite {
    /// The segment's slot.
    pub segment: u16,
    /// Where in the segment, a multiple of the block size.
    pub offset: u64,
    /// The buffer; comes back with [`Log::written`].
    pub bytes: AlignedBytes,
    /// How much of it, whole blocks.
    pub length: usize,
}

/// What a log has done since the start, for metrics.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    /// Records appended.
    pub records: u64,
    /// Batches given to the disk.
    pub batches: u64,
    /// Bytes given to the disk, padding included.
    pub bytes: u64,
    /// The highest sequence appended.
    pub highest_sequence: u64,
    /// Records of each batch; a mark has none.
    pub batch_records: Histogram,
    /// Bytes of each batch, padding included.
    pub batch_bytes: Histogram,
}

/// A batch being filled, or filled and waiting for the disk.
struct OpenBatch {
    bytes: AlignedBytes,
    used: usize,
    records: u32,
    highest_sequence: u64,
}

/// A batch the disk has.
struct InFlight {
    number: u64,
    segment: u16,
    offset: u64,
    done: bool,
}

/// What a segment in use holds.
struct Segment {
    /// The tail, if the log began here.
    start: LogTail,
    last_batch: u64,
    highest_sequence: u64,
}

/// A shard's log, writing side.
pub struct Log {
    writer: u8,
    epoch: u64,
    geometry: Geometry,
    /// Batches not yet with the disk, the one being filled last.
    waiting: VecDeque<OpenBatch>,
    buffers: Vec<AlignedBytes>,
    in_flight: VecDeque<InFlight>,
    /// Segments in use, the tail first, the one being written last. Never empty.
    segments: VecDeque<Segment>,
    /// Where in the last of them the next batch goes.
    offset: u64,
    next_number: u64,
    previous_crc: u32,
    /// Whether the last batch has records, for which no mark stands yet.
    unmarked: bool,
    /// Bytes of records: appended but not with the disk, and reserved.
    waiting_record_bytes: usize,
    reserved_record_bytes: usize,
    /// The same as whole blocks on disk.
    waiting_disk_bytes: u64,
    reserved_disk_bytes: u64,
    /// Segments with records above this sequence are not recycled.
    kept_above: Option<u64>,
    counters: Counters,
}

impl Log {
    /// A log that goes on at `start`. All its memory is taken here.
    ///
    /// # Panics
    /// When `geometry` is out of its bounds ([`Geometry::check`]).
    pub fn new(start: LogStart, geometry: Geometry) -> Self {
        geometry.check();
        assert!(start.tail.segment < geometry.segments && start.tail.batch > 0);
        let buffers = WINDOW as usize + WAITING;
        let mut segments = VecDeque::with_capacity(usize::from(geometry.segments));
        segments.push_back(Segment { start: start.tail, last_batch: start.tail.batch - 1, highest_sequence: 0 });
        Self {
            writer: start.writer,
            epoch: start.epoch,
            geometry,
            waiting: VecDeque::with_capacity(buffers),
            buffers: (0..buffers).map(|_| AlignedBytes::zeroed(geometry.batch_bytes_max)).collect(),
            in_flight: VecDeque::with_capacity(WINDOW as usize),
            segments,
            offset: 0,
            next_number: start.tail.batch,
            previous_crc: start.tail.previous_crc,
            unmarked: false,
            waiting_record_bytes: 0,
            reserved_record_bytes: 0,
            waiting_disk_bytes: 0,
            reserved_disk_bytes: 0,
            kept_above: None,
            counters: Counters::default(),
        }
    }

    /// Sets room aside for a record of so many bytes ([`record_bytes`]). `false`: not now; a checkpoint or a
    /// completed write makes room. An idle log whose checkpoint is done has room for the largest record.
    ///
    /// # Panics
    /// When the record is larger than the geometry allows.
    pub fn reserve(&mut self, record_bytes: usize) -> bool {
        assert!(record_bytes <= self.geometry.record_bytes_max);
        let disk = disk_bytes(record_bytes);
        let fits = self.waiting_record_bytes + self.reserved_record_bytes + record_bytes <= self.memory_bytes()
            && self.waiting_disk_bytes + self.reserved_disk_bytes + disk <= self.free_disk_bytes();
        if fits {
            self.reserved_record_bytes += record_bytes;
            self.reserved_disk_bytes += disk;
        }
        fits
    }

    /// Bytes of the largest record it takes.
    pub const fn record_bytes_max(&self) -> usize {
        self.geometry.record_bytes_max
    }

    /// Gives a reservation back.
    pub fn cancel(&mut self, record_bytes: usize) {
        assert!(self.reserved_record_bytes >= record_bytes, "a reservation is given back once");
        self.reserved_record_bytes -= record_bytes;
        self.reserved_disk_bytes -= disk_bytes(record_bytes);
    }

    /// Appends a commit record; consumes a reservation of exactly its size.
    ///
    /// # Panics
    /// When nothing was reserved, or the sequence is not above the one before.
    pub fn append(
        &mut self,
        commit: &Commit,
        changes: impl ExactSizeIterator<Item = Change>,
        order: Option<&Order>,
    ) -> Ticket {
        assert!(commit.sequence > self.counters.highest_sequence, "a log's sequences rise");
        let size = record_bytes(changes.len(), usize::from(order.is_some()));
        self.cancel(size);
        let batch = self.batch_with_room(size);
        let before = whole_blocks(batch.used) as u64 * u64::from(batch.records > 0);
        encode_record(&mut batch.bytes[batch.used..batch.used + size], commit, changes, order);
        batch.used += size;
        batch.records += 1;
        batch.highest_sequence = commit.sequence;
        self.waiting_disk_bytes += whole_blocks(batch.used) as u64 - before;
        self.waiting_record_bytes += size;
        self.counters.records += 1;
        self.counters.highest_sequence = commit.sequence;
        Ticket(self.next_number + self.waiting.len() as u64 - 1)
    }

    /// The next batch for the disk: something waits, and fewer than [`WINDOW`] batches are past the durable prefix.
    /// Call it when a turn ends and after every [`Log::written`]: what arrives meanwhile shares the next batch.
    pub fn next_write(&mut self) -> Option<LogWrite> {
        if self.in_flight.len() >= WINDOW as usize {
            return None;
        }
        let batch = self.waiting.pop_front()?;
        let length = whole_blocks(batch.used);
        self.waiting_record_bytes -= batch.used - HEADER_BYTES;
        self.waiting_disk_bytes -= length as u64;
        self.unmarked = true;
        Some(self.hand_over(batch))
    }

    /// Whether the log is at rest, the last records have no mark, and there is room for one that nobody reserved.
    pub fn wants_mark(&self) -> bool {
        let room = self.reserved_disk_bytes + disk_bytes(0) <= self.free_disk_bytes();
        self.unmarked && self.is_idle() && room
    }

    /// A batch without records: it proves that all before it is durable, so that nobody takes rot in the last of it
    /// for the end of the log.
    ///
    /// # Panics
    /// Where none is wanted: [`Log::wants_mark`].
    pub fn mark(&mut self) -> LogWrite {
        assert!(self.wants_mark());
        self.unmarked = false;
        let bytes = self.buffers.pop().expect("a log at rest has all its buffers");
        let highest_sequence = self.counters.highest_sequence;
        self.hand_over(OpenBatch { bytes, used: HEADER_BYTES, records: 0, highest_sequence })
    }

    /// Seals a batch and gives it its place.
    fn hand_over(&mut self, mut batch: OpenBatch) -> LogWrite {
        let length = whole_blocks(batch.used);
        batch.bytes[batch.used..length].fill(0);
        let (segment, offset) = self.place(length as u64, batch.highest_sequence);
        let header = BatchHeader {
            writer: self.writer,
            epoch: self.epoch,
            number: self.next_number,
            used: batch.used as u32,
            previous_crc: self.previous_crc,
            highest_sequence: batch.highest_sequence,
            durable: self.durable().0,
            records: batch.records,
        };
        self.previous_crc = header.seal(&mut batch.bytes);
        self.in_flight.push_back(InFlight { number: self.next_number, segment, offset, done: false });
        self.next_number += 1;
        self.counters.batches += 1;
        self.counters.bytes += length as u64;
        self.counters.batch_records.add(u64::from(batch.records));
        self.counters.batch_bytes.add(length as u64);
        LogWrite { segment, offset, bytes: batch.bytes, length }
    }

    /// A write became durable; writes may end in any order.
    ///
    /// # Panics
    /// When no such write is in flight.
    pub fn written(&mut self, segment: u16, offset: u64, bytes: AlignedBytes) {
        let write = self.in_flight.iter_mut().find(|write| write.segment == segment && write.offset == offset);
        let write = write.expect("a write that ends was in flight");
        assert!(!std::mem::replace(&mut write.done, true), "a write ends once");
        self.buffers.push(bytes);
        while self.in_flight.front().is_some_and(|write| write.done) {
            self.in_flight.pop_front();
        }
    }

    /// The last ticket of the contiguous durable prefix.
    pub fn durable(&self) -> Ticket {
        if mutant::is(Mutant::DurableWithAHole)
            && let Some(last) = self.in_flight.iter().rfind(|write| write.done)
        {
            return Ticket(last.number);
        }
        Ticket(self.in_flight.front().map_or(self.next_number, |write| write.number) - 1)
    }

    /// The last ticket given: everything appended so far has this one or an earlier one.
    pub fn last(&self) -> Ticket {
        Ticket(self.next_number + self.waiting.len() as u64 - 1)
    }

    /// Whether everything appended is durable.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// How many segments are in use, and how many there are.
    pub fn segments(&self) -> (usize, usize) {
        (self.segments.len(), usize::from(self.geometry.segments))
    }

    /// Whether more than half of the segments are in use, and a checkpoint would change that.
    pub fn needs_checkpoint(&self) -> bool {
        self.segments.len() > usize::from(self.geometry.segments) / 2 && self.gains_by_checkpoint()
    }

    /// Whether a checkpoint now would recycle a segment. Where it would not, room comes only with what is under way.
    pub fn gains_by_checkpoint(&self) -> bool {
        self.recyclable(u64::MAX).is_some()
    }

    /// The tail as of the last [`Log::release`]: what a control block says that recycles nothing.
    pub fn tail(&self) -> LogTail {
        self.segments[0].start
    }

    /// The tail to put into the control block once everything up to `sequence` is in place; `None` where that
    /// recycles no segment. Until [`Log::release`] nothing is overwritten.
    pub fn recyclable(&self, sequence: u64) -> Option<LogTail> {
        let sequence = sequence.min(self.kept_above.unwrap_or(u64::MAX));
        let durable = self.durable().0;
        let needed = |segment: &Segment| segment.highest_sequence > sequence || segment.last_batch > durable;
        let last = self.segments.len() - 1;
        match self.segments.iter().take(last).position(needed).unwrap_or(last) {
            0 => None,
            first => Some(self.segments[first].start),
        }
    }

    /// Keeps all records above a sequence, for a backup that is going to read them; `None`: none any more.
    pub fn keep_above(&mut self, sequence: Option<u64>) {
        self.kept_above = sequence;
    }

    /// Whether records are kept for a backup.
    pub fn is_kept(&self) -> bool {
        self.kept_above.is_some()
    }

    /// Whether the last free segment was begun while records are kept: what is left of it is for a checkpoint's time.
    pub fn is_full_of_kept(&self) -> bool {
        self.is_kept() && self.segments.len() == usize::from(self.geometry.segments)
    }

    /// The control block with `tail` is durable: the segments before it may be overwritten.
    ///
    /// # Panics
    /// When `tail` is none that [`Log::recyclable`] or [`Log::tail`] gave.
    pub fn release(&mut self, tail: &LogTail) {
        let first = self.segments.iter().position(|segment| segment.start == *tail).expect("a tail of this log");
        self.segments.drain(..first);
    }

    /// What it has done since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The batch being filled, or a new one where the record does not fit.
    fn batch_with_room(&mut self, record_bytes: usize) -> &mut OpenBatch {
        let room = |batch: &OpenBatch| batch.used + record_bytes <= self.geometry.batch_bytes_max;
        if !self.waiting.back().is_some_and(room) {
            let bytes = self.buffers.pop().expect("a reserved record finds a buffer");
            self.waiting.push_back(OpenBatch { bytes, used: HEADER_BYTES, records: 0, highest_sequence: 0 });
        }
        self.waiting.back_mut().expect("just seen or pushed")
    }

    /// Gives the next batch its place, in this segment or at the start of the next.
    fn place(&mut self, length: u64, highest_sequence: u64) -> (u16, u64) {
        if self.offset + length > self.geometry.segment_bytes {
            assert!(self.segments.len() < usize::from(self.geometry.segments), "a reserved record finds a segment");
            let last = self.segments[self.segments.len() - 1].start.segment;
            let start = LogTail {
                segment: (last + 1) % self.geometry.segments,
                batch: self.next_number,
                previous_crc: self.previous_crc,
            };
            self.segments.push_back(Segment { start, last_batch: self.next_number, highest_sequence });
            self.offset = 0;
        }
        let segment = self.segments.back_mut().expect("never empty");
        segment.last_batch = self.next_number;
        segment.highest_sequence = highest_sequence;
        let offset = self.offset;
        self.offset += length;
        (segment.start.segment, offset)
    }

    /// Bytes of records that may be reserved or wait at once.
    fn memory_bytes(&self) -> usize {
        let filled = self.geometry.batch_bytes_max - HEADER_BYTES - self.geometry.record_bytes_max;
        ((WAITING - 1) * filled).max(self.geometry.record_bytes_max)
    }

    /// Bytes that batches find on disk, whatever their sizes.
    fn free_disk_bytes(&self) -> u64 {
        let waste = self.geometry.batch_bytes_max as u64;
        let free = u64::from(self.geometry.segments) - self.segments.len() as u64;
        let here = (self.geometry.segment_bytes - self.offset).saturating_sub(waste);
        here + free * (self.geometry.segment_bytes - waste)
    }
}

/// What a record costs on disk when it is alone in a batch.
fn disk_bytes(record_bytes: usize) -> u64 {
    whole_blocks(HEADER_BYTES + record_bytes) as u64
}
