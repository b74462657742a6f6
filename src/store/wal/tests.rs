//! The log as a whole: golden bytes, reservations, and what a crash leaves of writes in flight.

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
    assert_eq!(used, 255);
    let mut expected = b"RLB1\x00\x01\x02\x00\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x07".to_vec();
    expected.extend(b"\x00\x00\x00\xFF\xAA\xBB\xCC\xDD\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x01");
    expected.extend(0xF57F_ED41u32.to_be_bytes());
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

#[test]
fn a_lost_batch_that_was_durable_is_an_error() {
    let memory = memory();
    let mut log = Log::new(start(TAIL), SMALL);
    for sequence in 1..=12 {
        append(&mut log, sequence, 100).unwrap();
        let write = log.next_write().unwrap();
        to_disk(&memory, &write);
        log.written(write.segment, write.offset, write.bytes);
    }
    assert_eq!(sequences(&memory, &source(TAIL)).unwrap().0, (1..=12).collect::<Vec<_>>());
    memory.flip(&files::segment(2, 0), 100);
    let error = sequences(&memory, &source(TAIL)).unwrap_err().to_string();
    assert!(error.starts_with("log/2/segment-1 is damaged, batches before it are lost"), "{error}");
    memory.remove(&files::segment(2, 1)).unwrap();
    assert!(matches!(sequences(&memory, &source(TAIL)), Err(StoreError::DamagedFile { .. })));
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
        1 => Just(Step::Checkpoint),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is appended, written, ended in whatever order and lost in a crash: the scanner finds a prefix of what
    /// was appended since the checkpoint, with everything in it that was reported durable; and nothing old.
    #[test]
    fn a_crash_leaves_a_prefix_with_everything_durable(steps in prop::collection::vec(step(), 1..300), seed: u64) {
        let memory = memory();
        let mut log = Log::new(start(TAIL), SMALL);
        let mut appended: Vec<(u64, Ticket)> = Vec::new();
        let mut in_flight: Vec<LogWrite> = Vec::new();
        let mut reserved = std::collections::VecDeque::new();
        let (mut sequence, mut tail, mut in_place) = (0, TAIL, 0);
        for step in steps {
            match step {
                Step::Append { changes } => {
                    if let Some(ticket) = append(&mut log, sequence + 1, changes) {
                        sequence += 1;
                        appended.push((sequence, ticket));
                    }
                }
                Step::Reserve { changes } => {
                    if log.reserve(record_bytes(changes, 0)) {
                        reserved.push_back(changes);
                    }
                }
                Step::Use => {
                    if let Some(changes) = reserved.pop_front() {
                        sequence += 1;
                        let changes = (0..changes).map(|at| change(at as u32, sequence as u8));
                        appended.push((sequence, log.append(&commit(sequence), changes, None)));
                    }
                }
                Step::Submit => {
                    if let Some(write) = log.next_write() {
                        to_disk(&memory, &write);
                        in_flight.push(write);
                    }
                }
                Step::End { which } if !in_flight.is_empty() => {
                    let write = in_flight.swap_remove(which % in_flight.len());
                    // A durable write of a copy: other writes to the segment stay undecided.
                    sync_range(&memory, &write);
                    log.written(write.segment, write.offset, write.bytes);
                }
                Step::Checkpoint => {
                    let durable = log.durable();
                    in_place = appended.iter().rev().find(|(_, ticket)| *ticket <= durable).map_or(in_place, |(s, _)| *s);
                    if let Some(new) = log.recyclable(in_place) {
                        tail = new;
                        log.release(&tail);
                    }
                }
                Step::End { .. } => {}
            }
        }
        memory.crash(seed);
        let (found, scanned) = sequences(&memory, &source(tail)).unwrap();
        let durable = appended.iter().rev().find(|(_, ticket)| *ticket <= log.durable()).map_or(0, |(s, _)| *s);
        prop_assert!(found.windows(2).all(|pair| pair[0] + 1 == pair[1]), "no gap: {found:?}");
        let last = found.last().copied().unwrap_or(in_place);
        prop_assert!(found.first().is_none_or(|first| *first <= in_place + 1), "from the checkpoint on: {found:?}");
        prop_assert!((durable..=sequence).contains(&last), "durable {durable}, found {found:?}");
        prop_assert!(scanned.next_batch > log.durable().batch() && scanned.records == found.len() as u64);
        // Under a new epoch nothing of the old one is ever read, wherever the log goes on.
        let next = LogTail { segment: 0, batch: scanned.next_batch, previous_crc: scanned.previous_crc };
        let (none, _) = sequences(&memory, &Source { epoch: 10, ..source(next) }).unwrap();
        prop_assert!(none.is_empty());
    }
}

/// Makes one write durable: by a disk that keeps the others in its cache.
fn sync_range(memory: &Memory, write: &LogWrite) {
    memory.sync_part(&files::segment(2, write.segment), write.offset, write.length);
}
