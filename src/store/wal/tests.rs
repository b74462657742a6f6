//! The log as a whole: golden bytes, reservations, and what a crash leaves of writes in flight.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::format::{BatchHeader, HEADER_BYTES, RECORD_HEADER_BYTES};
use super::*;
use crate::coin::PayoutAddress;
use crate::coin::{CoinId, CoinRecord, Months, Secret};
use crate::store::error::StoreError;
use crate::store::files;
use crate::store::orders::Order;
use crate::store::storage::{Memory, Storage, Zeros};

const SMALL: Geometry =
    Geometry { segment_bytes: 32 << 10, segments: 3, batch_bytes_max: 8 << 10, record_bytes_max: record_bytes(200, 1) };

fn change(number: u32, byte: u8) -> Change {
    Change {
        coin: CoinId::from_number(number).unwrap(),
        from: PlaceKind::Locker,
        to: CoinRecord { an: Secret::new([byte; 16]), mfs: Months::new(45) },
    }
}

fn order(sequence: u64) -> Order {
    Order { an: Secret::new([3; 16]), address: PayoutAddress::new(&[4; 16]).unwrap(), sequence }
}

fn commit(sequence: u64) -> Commit {
    Commit { sequence, unix_ms: 0x0A0B, group: 8, code: 85 }
}

fn start(tail: LogTail) -> LogStart {
    LogStart { writer: 2, epoch: 9, tail }
}

const TAIL: LogTail = LogTail { segment: 0, batch: 7, previous_crc: 0xAABB_CCDD };

fn append(log: &mut Log, sequence: u64, changes: usize) -> Option<Ticket> {
    let changes = (0..changes).map(|at| change(at as u32, sequence as u8));
    log.reserve(record_bytes(changes.len(), 0)).then(|| log.append(&commit(sequence), changes, None))
}

#[test]
fn golden_bytes_of_a_batch() {
    let mut log = Log::new(start(TAIL), SMALL);
    assert!(log.reserve(record_bytes(1, 1)));
    log.append(&commit(0x0102), [change(0x0003_0201, 5)].into_iter(), Some(&order(6)));
    let write = log.next_write().unwrap();
    assert_eq!((write.segment, write.offset, write.length), (0, 0, 4096));
    let used = HEADER_BYTES + record_bytes(1, 1);
    assert_eq!(used, 263);
    let mut expected = b"RLB1\x00\x01\x02\x00\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x07".to_vec();
    expected.extend(b"\x00\x00\x01\x07\xAA\xBB\xCC\xDD\x00\x00\x00\x00\x00\x00\x01\x02");
    expected.extend(b"\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\x01");
    expected.extend(0xAC34_9A63u32.to_be_bytes());
    expected.extend(b"\x00\x00\x00\xCF");
    expected.extend(0x491F_3B15u32.to_be_bytes());
    expected
        .extend(b"\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x00\x00\x0A\x0B\x08\x55\x00\x00\x00\x01\x00\x01");
    expected.extend(b"\x00\x03\x02\x01\x02");
    expected.extend([5; 16]);
    expected.push(45);
    expected.extend([3; 16]);
    expected.push(16);
    expected.extend([4; 16]);
    expected.extend([0; 112]);
    expected.extend(b"\x00\x00\x00\x00\x00\x00\x00\x06");
    assert_eq!(&write.bytes[..used], &expected[..]);
    assert!(write.bytes[used..4096].iter().all(|&byte| byte == 0));
}

#[test]
fn a_flipped_bit_of_a_record_or_batch_is_seen() {
    let mut log = Log::new(start(TAIL), SMALL);
    append(&mut log, 1, 2).unwrap();
    let bytes = log.next_write().unwrap().bytes;
    let used = HEADER_BYTES + record_bytes(2, 0);
    let header = BatchHeader::decode(&bytes).unwrap();
    assert!(header.whole(&bytes).is_some());
    assert_eq!(CommitRecord::decode(&bytes[HEADER_BYTES..used]).unwrap().0.changes().len(), 2);
    for at in 0..used {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let seen = BatchHeader::decode(&flipped).and_then(|header| header.whole(&flipped));
        assert_eq!(seen, None, "byte {at}");
        if at >= HEADER_BYTES {
            assert!(CommitRecord::decode(&flipped[HEADER_BYTES..used]).is_none(), "byte {at}");
        }
    }
    assert!(CommitRecord::decode(&bytes[HEADER_BYTES..used - 1]).is_none());
    assert!(CommitRecord::decode(&bytes[HEADER_BYTES..HEADER_BYTES + RECORD_HEADER_BYTES - 1]).is_none());
}

#[test]
fn what_arrives_while_four_writes_are_under_way_shares_the_fifth() {
    let mut log = Log::new(start(TAIL), SMALL);
    let mut writes = Vec::new();
    for sequence in 1..=4 {
        append(&mut log, sequence, 1).unwrap();
        writes.push(log.next_write().unwrap());
    }
    let tickets: Vec<Ticket> = (5..=9).map(|sequence| append(&mut log, sequence, 1).unwrap()).collect();
    assert!(tickets.iter().all(|ticket| ticket.batch() == 11));
    assert!(log.next_write().is_none());
    // The second is durable first: that helps nobody, as the prefix has not grown.
    let second = writes.remove(1);
    log.written(second.segment, second.offset, second.bytes);
    assert_eq!((log.durable().batch(), log.next_write().is_none()), (6, true));
    let first = writes.remove(0);
    log.written(first.segment, first.offset, first.bytes);
    assert_eq!(log.durable().batch(), 8);
    let shared = log.next_write().unwrap();
    assert!(log.next_write().is_none() && !log.is_idle());
    for write in writes.into_iter().chain([shared]) {
        log.written(write.segment, write.offset, write.bytes);
    }
    assert!(log.is_idle() && tickets.iter().all(|ticket| *ticket <= log.durable()));
    let counters = log.counters();
    assert_eq!((counters.records, counters.batches, counters.bytes, counters.highest_sequence), (9, 5, 5 * 4096, 9));
}

#[test]
fn the_largest_record_finds_room_in_an_idle_log_of_the_default_size() {
    let geometry = Geometry::default();
    let mut log = Log::new(start(TAIL), geometry);
    for _ in 0..2 {
        assert!(log.reserve(geometry.record_bytes_max));
    }
    log.cancel(geometry.record_bytes_max);
    let changes = (0..13_107).map(|number| change(number, 1));
    log.append(&commit(1), changes, Some(&order(1)));
    let write = log.next_write().unwrap();
    assert_eq!(write.length, 290_816);
    assert!(!log.needs_checkpoint());
}

#[test]
fn what_was_reserved_is_appended_even_when_the_checkpoint_lags() {
    let mut log = Log::new(start(TAIL), SMALL);
    // Fill the ring while one reservation of the worst size is kept.
    let worst = SMALL.record_bytes_max;
    assert!(log.reserve(worst));
    let mut sequence = 0;
    while append(&mut log, sequence + 1, 150).is_some() {
        sequence += 1;
        while let Some(write) = log.next_write() {
            log.written(write.segment, write.offset, write.bytes);
        }
    }
    assert!(log.needs_checkpoint() && !log.reserve(worst));
    sequence += 1;
    log.append(&commit(sequence), (0..200).map(|number| change(number, 1)), Some(&order(1)));
    while let Some(write) = log.next_write() {
        log.written(write.segment, write.offset, write.bytes);
    }
    assert!(log.is_idle());
    // The checkpoint makes room again.
    assert_eq!(log.recyclable(0), None);
    let tail = log.recyclable(sequence).unwrap();
    assert_ne!(tail, log.tail());
    log.release(&tail);
    assert!(log.tail() == tail && log.reserve(worst) && !log.needs_checkpoint());
}

/// Else one that recycles nothing would be asked for again as soon as it is done.
#[test]
fn a_checkpoint_is_wanted_only_where_it_recycles_something() {
    let mut log = Log::new(start(TAIL), SMALL);
    let mut sequence = 0;
    let mut under_way = VecDeque::new();
    while under_way.back().is_none_or(|write: &LogWrite| write.segment == TAIL.segment) {
        assert!(!log.gains_by_checkpoint(), "one segment is in use");
        if under_way.len() == WINDOW as usize {
            let LogWrite { segment, offset, bytes, .. } = under_way.pop_front().unwrap();
            log.written(segment, offset, bytes);
        }
        sequence += 1;
        append(&mut log, sequence, 150).unwrap();
        under_way.push_back(log.next_write().unwrap());
    }
    assert!(!log.gains_by_checkpoint(), "the last batch of the first segment is under way");
    for LogWrite { segment, offset, bytes, .. } in under_way {
        log.written(segment, offset, bytes);
    }
    assert!(log.gains_by_checkpoint());
    log.release(&log.recyclable(sequence).unwrap());
    while log.reserve(SMALL.record_bytes_max) {}
    assert!(!log.gains_by_checkpoint(), "all room is reserved, and none recyclable");
}

#[test]
#[should_panic(expected = "a reservation is given back once")]
fn appending_without_a_reservation_is_a_bug() {
    Log::new(start(TAIL), SMALL).append(&commit(1), [change(1, 1)].into_iter(), None);
}

#[test]
#[should_panic(expected = "a log's sequences rise")]
fn sequences_rise() {
    let mut log = Log::new(start(TAIL), SMALL);
    append(&mut log, 2, 1).unwrap();
    append(&mut log, 2, 1);
}

fn memory() -> Memory {
    let memory = Memory::new();
    memory.create_directory(files::LOGS).unwrap();
    memory.create_directory(&files::log(2)).unwrap();
    for slot in 0..SMALL.segments {
        memory.create(&files::segment(2, slot), SMALL.segment_bytes, Zeros::Written).unwrap();
        memory.sync(&files::segment(2, slot)).unwrap();
    }
    for directory in ["", files::LOGS, &files::log(2)] {
        memory.sync_directory(directory).unwrap();
    }
    memory
}

fn source(tail: LogTail) -> Source {
    Source { writer: 2, epoch: 9, tail, segments: SMALL.segments, segment_bytes: SMALL.segment_bytes }
}

fn sequences(memory: &Memory, source: &Source) -> Result<(Vec<u64>, Scanned), StoreError> {
    let mut sequences = Vec::new();
    let scanned = scan(memory, source, &mut |record| {
        let byte = Secret::new([record.commit.sequence as u8; 16]);
        assert!(record.changes().all(|change| change.to.an == byte));
        sequences.push(record.commit.sequence);
        Ok(())
    })?;
    Ok((sequences, scanned))
}

fn to_disk(memory: &Memory, write: &LogWrite) {
    memory.write_at(&files::segment(2, write.segment), write.offset, &write.bytes[..write.length]).unwrap();
}

/// Appends records alone in their batches, durable one after the other.
fn append_and_write(memory: &Memory, log: &mut Log, sequences: std::ops::RangeInclusive<u64>, changes: usize) {
    for sequence in sequences {
        append(log, sequence, changes).unwrap();
        let write = log.next_write().unwrap();
        to_disk(memory, &write);
        log.written(write.segment, write.offset, write.bytes);
    }
}

#[test]
fn rot_in_any_batch_but_the_last_is_reported_with_its_place() {
    let memory = memory();
    let mut log = Log::new(start(TAIL), SMALL);
    append_and_write(&memory, &mut log, 1..=12, 100);
    let (found, scanned) = sequences(&memory, &source(TAIL)).unwrap();
    assert_eq!((found, scanned.lost), ((1..=12).collect(), None));
    for batch in 0..11u64 {
        let memory = memory.clone();
        let segment = (batch / 8) as u16;
        memory.flip(&files::segment(2, segment), batch % 8 * 4096 + 100);
        let (found, scanned) = sequences(&memory, &source(TAIL)).unwrap();
        assert_eq!((found, scanned.next_batch), ((1..=batch).collect(), 7 + batch));
        let lost = Lost { segment, offset: batch % 8 * 4096, highest_sequence: 12 };
        assert_eq!(scanned.lost, Some(lost));
    }
    // Of a whole segment too: the next one's beginning tells.
    for at in 0..8 {
        memory.flip(&files::segment(2, 0), at * 4096 + 100);
    }
    assert!(sequences(&memory, &source(TAIL)).unwrap().1.lost.is_some());
}

#[test]
fn what_is_kept_is_not_recycled_and_is_read_up_to_a_batch_while_the_log_goes_on() {
    let read = |memory: &Memory, last| {
        let mut sequences = Vec::new();
        scan_up_to(memory, &source(TAIL), last, &mut |record| {
            sequences.push(record.commit.sequence);
            Ok(())
        })
        .map(|()| sequences)
    };
    let memory = memory();
    let mut log = Log::new(start(TAIL), SMALL);
    assert_eq!((log.last().batch(), read(&memory, 6).unwrap()), (6, vec![]));
    append_and_write(&memory, &mut log, 1..=10, 100);
    log.keep_above(Some(7));
    assert!(!log.gains_by_checkpoint() && !log.is_full_of_kept(), "the first segment has record 8");
    let last = log.last();
    assert_eq!((last.batch(), last), (16, log.durable()));
    let ticket = append(&mut log, 11, 100).unwrap();
    assert_eq!(log.last(), ticket);
    let write = log.next_write().unwrap();
    assert!(log.last() == ticket && log.durable() == last);
    to_disk(&memory, &write);
    log.written(write.segment, write.offset, write.bytes);
    append_and_write(&memory, &mut log, 12..=18, 100);
    assert!(log.is_full_of_kept() && !log.needs_checkpoint());
    assert_eq!(read(&memory, last.batch()).unwrap(), (1..=10).collect::<Vec<u64>>());
    assert_eq!(read(&memory, log.last().batch()).unwrap(), (1..=18).collect::<Vec<u64>>());
    memory.flip(&files::segment(2, 1), 100);
    let lost = read(&memory, last.batch()).unwrap_err().to_string();
    assert_eq!(lost, "log/2/segment-1 is damaged at offset 0, batch 15 with answered commands is lost");
    log.keep_above(Some(8));
    assert_eq!(log.recyclable(u64::MAX).map(|tail| tail.segment), Some(1), "all of the first segment is in place");
    log.keep_above(None);
    assert_eq!(log.recyclable(u64::MAX).map(|tail| tail.segment), Some(2));
}

/// A segment that is missing matters where the next batch may be due: never beyond the one after the last batch.
#[test]
fn a_log_is_cut_off_where_a_batch_may_have_been() {
    let memory = memory();
    let mut log = Log::new(start(TAIL), SMALL);
    append_and_write(&memory, &mut log, 1..=12, 100);
    for (slot, found, is_cut_off) in [(0, 0, true), (1, 8, true), (2, 12, true)] {
        let memory = memory.clone();
        memory.remove(&files::segment(2, slot)).unwrap();
        assert_eq!(wrong_segments(&memory, &source(TAIL)).unwrap(), [(slot, None)]);
        let (sequences, scanned) = sequences(&memory, &source(TAIL)).unwrap();
        assert_eq!((sequences.len(), scanned.is_cut_off), (found, is_cut_off), "segment {slot}");
    }
    let empty = memory.clone();
    empty.create(&files::segment(2, 0), SMALL.segment_bytes, Zeros::Written).unwrap();
    for slot in [1, 2] {
        empty.remove(&files::segment(2, slot)).unwrap();
        assert!(!sequences(&empty, &source(TAIL)).unwrap().1.is_cut_off, "the first batch is due elsewhere");
    }
    let (_, scanned) = sequences(&memory, &source(TAIL)).unwrap();
    assert!(!scanned.is_cut_off && wrong_segments(&memory, &source(TAIL)).unwrap().is_empty());
}

#[test]
fn rot_in_the_last_batch_is_reported_once_a_mark_stands_behind_it() {
    let memory = memory();
    let mut log = Log::new(start(TAIL), SMALL);
    assert!(!log.wants_mark(), "a new log has nothing to mark");
    append_and_write(&memory, &mut log, 1..=2, 100);
    let rotten = memory.clone();
    rotten.flip(&files::segment(2, 0), 4096 + 100);
    let (found, scanned) = sequences(&rotten, &source(TAIL)).unwrap();
    assert_eq!((found, scanned.lost), (vec![1], None), "without a mark nobody can tell");
    assert!(log.wants_mark());
    let mark = log.mark();
    let header = BatchHeader::decode(&mark.bytes).unwrap();
    assert_eq!((header.number, header.durable, header.records, header.highest_sequence), (9, 8, 0, 2));
    assert_eq!((mark.offset, mark.length), (2 * 4096, 4096));
    to_disk(&memory, &mark);
    log.written(mark.segment, mark.offset, mark.bytes);
    assert!(log.is_idle() && !log.wants_mark(), "one mark, then silence");
    let rotten = memory.clone();
    rotten.flip(&files::segment(2, 0), 4096 + 100);
    let lost = Lost { segment: 0, offset: 4096, highest_sequence: 2 };
    assert_eq!(sequences(&rotten, &source(TAIL)).unwrap().1.lost, Some(lost));
    // The mark is a link of the chain like any other.
    append_and_write(&memory, &mut log, 3..=3, 1);
    assert!(log.wants_mark());
    let (found, scanned) = sequences(&memory, &source(TAIL)).unwrap();
    assert_eq!((found, scanned.next_batch, scanned.lost), (vec![1, 2, 3], 11, None));
}

#[test]
fn a_mark_takes_no_room_that_is_reserved() {
    let memory = memory();
    let mut log = Log::new(start(TAIL), SMALL);
    append_and_write(&memory, &mut log, 1..=1, 1);
    while log.reserve(record_bytes(0, 0)) {}
    assert!(log.is_idle() && !log.wants_mark());
    log.cancel(record_bytes(0, 0));
    assert!(log.wants_mark());
}

#[test]
fn proof_is_looked_for_as_far_as_it_can_be_and_where_segments_begin() {
    let geometry = Geometry { segment_bytes: 16 << 20, ..SMALL };
    let memory = Memory::new();
    memory.create_directory(files::LOGS).unwrap();
    memory.create_directory(&files::log(2)).unwrap();
    for slot in 0..geometry.segments {
        memory.create(&files::segment(2, slot), geometry.segment_bytes, Zeros::Written).unwrap();
    }
    let mut log = Log::new(start(TAIL), geometry);
    append_and_write(&memory, &mut log, 1..=5, 190);
    let source = Source { segment_bytes: geometry.segment_bytes, ..source(TAIL) };
    // The last batch alone, at another place.
    let mut last = vec![0; 8192];
    memory.read_at(&files::segment(2, 0), 4 * 8192, &mut last).unwrap();
    memory.write_at(&files::segment(2, 0), 0, &[0; 5 * 8192]).unwrap();
    let lost = |segment: u16, offset: u64| {
        let memory = memory.clone();
        memory.write_at(&files::segment(2, segment), offset, &last).unwrap();
        sequences(&memory, &source).unwrap().1.lost
    };
    let found = Some(Lost { segment: 0, offset: 0, highest_sequence: 5 });
    assert_eq!(lost(0, super::format::PROOF_WITHIN_BYTES - 4096), found);
    assert_eq!(lost(0, super::format::PROOF_WITHIN_BYTES), None, "no writer leaves such a gap");
    assert_eq!((lost(1, 0), lost(2, 0)), (found, found));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append {
        changes: usize,
    },
    /// Sets room aside, to be used much later.
    Reserve {
        changes: usize,
    },
    /// Uses what was set aside first.
    Use,
    Submit,
    /// The write in flight at that place, modulo their number, ends.
    End {
        which: usize,
    },
    /// A log at rest is marked.
    Mark,
    /// Everything up to the durable prefix is in place.
    Checkpoint,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..200usize).prop_map(|changes| Step::Append { changes }),
        2 => (0..200usize).prop_map(|changes| Step::Reserve { changes }),
        2 => Just(Step::Use),
        3 => Just(Step::Submit),
        3 => (0..4usize).prop_map(|which| Step::End { which }),
        1 => Just(Step::Mark),
        1 => Just(Step::Checkpoint),
    ]
}

/// A log on a made-up disk, and what was done with it.
struct Life {
    memory: Memory,
    log: Log,
    appended: Vec<(u64, Ticket)>,
    in_flight: Vec<LogWrite>,
    /// Batches that are durable: header, slot, offset.
    durable: Vec<(BatchHeader, u16, u64)>,
    reserved: VecDeque<usize>,
    sequence: u64,
    tail: LogTail,
    in_place: u64,
}

impl Life {
    fn new() -> Self {
        Self {
            memory: memory(),
            log: Log::new(start(TAIL), SMALL),
            appended: Vec::new(),
            in_flight: Vec::new(),
            durable: Vec::new(),
            reserved: VecDeque::new(),
            sequence: 0,
            tail: TAIL,
            in_place: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { changes } => {
                if let Some(ticket) = append(&mut self.log, self.sequence + 1, changes) {
                    self.sequence += 1;
                    self.appended.push((self.sequence, ticket));
                }
            }
            Step::Reserve { changes } => {
                if self.log.reserve(record_bytes(changes, 0)) {
                    self.reserved.push_back(changes);
                }
            }
            Step::Use => {
                if let Some(changes) = self.reserved.pop_front() {
                    self.sequence += 1;
                    let changes = (0..changes).map(|at| change(at as u32, self.sequence as u8));
                    self.appended.push((self.sequence, self.log.append(&commit(self.sequence), changes, None)));
                }
            }
            Step::Submit => {
                let write = self.log.next_write();
                self.submit(write);
            }
            Step::Mark => {
                let mark = self.log.wants_mark().then(|| self.log.mark());
                self.submit(mark);
            }
            Step::End { which } if !self.in_flight.is_empty() => {
                let write = self.in_flight.swap_remove(which % self.in_flight.len());
                self.end(write);
            }
            Step::Checkpoint => {
                self.in_place = self.acknowledged().max(self.in_place);
                if let Some(new) = self.log.recyclable(self.in_place) {
                    self.tail = new;
                    self.log.release(&new);
                }
            }
            Step::End { .. } => {}
        }
    }

    fn submit(&mut self, write: Option<LogWrite>) {
        if let Some(write) = write {
            to_disk(&self.memory, &write);
            self.in_flight.push(write);
        }
    }

    /// A durable write of a copy: other writes to the segment stay undecided.
    fn end(&mut self, write: LogWrite) {
        self.memory.sync_part(&files::segment(2, write.segment), write.offset, write.length);
        self.durable.push((BatchHeader::decode(&write.bytes).unwrap(), write.segment, write.offset));
        self.log.written(write.segment, write.offset, write.bytes);
    }

    /// Writes all that waits; every write ends.
    fn come_to_rest(&mut self) {
        loop {
            while let Some(write) = self.in_flight.pop() {
                self.end(write);
            }
            match self.log.next_write() {
                Some(write) => self.submit(Some(write)),
                None => return,
            }
        }
    }

    /// The highest sequence that was reported durable.
    fn acknowledged(&self) -> u64 {
        let durable = self.log.durable();
        self.appended.iter().rev().find(|(_, ticket)| *ticket <= durable).map_or(0, |(sequence, _)| *sequence)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is appended, written, ended in whatever order and lost in a crash: the scanner finds a prefix of what
    /// was appended since the checkpoint, with everything in it that was reported durable; and nothing old. A torn tail
    /// is never taken for rot.
    #[test]
    fn a_crash_leaves_a_prefix_with_everything_durable(steps in prop::collection::vec(step(), 1..300), seed: u64) {
        let mut life = Life::new();
        steps.into_iter().for_each(|step| life.step(step));
        life.memory.crash(seed);
        let (found, scanned) = sequences(&life.memory, &source(life.tail)).unwrap();
        let durable = life.acknowledged();
        prop_assert_eq!(scanned.lost, None);
        prop_assert!(found.windows(2).all(|pair| pair[0] + 1 == pair[1]), "no gap: {found:?}");
        let last = found.last().copied().unwrap_or(life.in_place);
        prop_assert!(found.first().is_none_or(|first| *first <= life.in_place + 1), "from the checkpoint on: {found:?}");
        prop_assert!((durable..=life.sequence).contains(&last), "durable {durable}, found {found:?}");
        prop_assert!(scanned.next_batch > life.log.durable().batch() && scanned.records == found.len() as u64);
        // Under a new epoch nothing of the old one is ever read, wherever the log goes on.
        let next = LogTail { segment: 0, batch: scanned.next_batch, previous_crc: scanned.previous_crc };
        let (none, scanned) = sequences(&life.memory, &Source { epoch: 10, ..source(next) }).unwrap();
        prop_assert!(none.is_empty() && scanned.lost.is_none());
    }

    /// Whatever was done before, and whatever a crash left besides: a batch that is durable and rots is missed wherever
    /// a later durable one can tell, and in a log that came to rest and was marked that is always so.
    #[test]
    fn rot_is_told_from_a_torn_tail(
        steps in prop::collection::vec(step(), 1..200), rests: bool, victim: prop::sample::Index, at: prop::sample::Index,
        seed: u64,
    ) {
        let mut life = Life::new();
        steps.into_iter().for_each(|step| life.step(step));
        if rests {
            life.come_to_rest();
            life.step(Step::Mark);
            life.come_to_rest();
        }
        life.memory.crash(seed);
        let durable = life.log.durable().batch();
        let needed: Vec<_> =
            life.durable.iter().filter(|(header, ..)| (life.tail.batch..=durable).contains(&header.number)).collect();
        prop_assume!(!needed.is_empty());
        let (header, segment, offset) = *victim.get(&needed);
        life.memory.flip(&files::segment(2, *segment), *offset + at.index(header.used as usize) as u64);
        let (found, scanned) = sequences(&life.memory, &source(life.tail)).unwrap();
        prop_assert_eq!(scanned.next_batch, header.number);
        let proof = life.durable.iter().map(|(later, ..)| later).filter(|later| later.durable >= header.number);
        let proven = proof.map(|later| later.highest_sequence).max();
        let lost = scanned.lost.map(|lost| lost.highest_sequence);
        prop_assert!(lost >= proven, "proven {proven:?}, {lost:?}");
        if let Some(Lost { segment: due, offset: due_at, .. }) = scanned.lost {
            prop_assert!((due, due_at) == (*segment, *offset) || *offset == 0, "due at {due}, {due_at}");
        }
        // Only the mark itself may rot unseen, and no record with it; or the last window, where no mark found room.
        let newest = life.log.counters().highest_sequence;
        if rests && lost.is_none() && header.records == 0 {
            prop_assert_eq!(found.last().copied().unwrap_or(newest), newest);
        } else if rests && lost.is_none() {
            prop_assert!(header.number + WINDOW > durable && !life.log.wants_mark());
        }
    }
}
