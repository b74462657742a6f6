//! The archive as a whole: golden bytes, everything told once whatever happens meanwhile, damage and gaps named.

use std::io::Cursor;

use super::format::{
    CHUNK_HEADER_BYTES, CHUNK_RECORDS_BYTES, HEADER_BYTES, Header, compressed_bytes, decode_chunk, encode_chunk,
};
use super::keep::list;
use super::*;
use crate::coin::{CoinId, CoinRecord, Denomination, Months, Secret};
use crate::store::backup::reader::BackupReader;
use crate::store::backup::restore::fill;
use crate::store::backup::snapshot::back_up_at_rest;
use crate::store::control::Control;
use crate::store::recovery::{Opened, initialise, logs::write_control_twice, open};
use crate::store::storage::{Memory, Zeros};
use crate::store::wal::{Change, Commit, FullSegment, Geometry, Log, PlaceKind, record_bytes};

const SMALL: Geometry =
    Geometry { segment_bytes: 32 << 10, segments: 3, batch_bytes_max: 8 << 10, record_bytes_max: record_bytes(200, 1) };

const FOREVER: Retention = Retention { bytes_max: u64::MAX, age_ms_max: u64::MAX };

/// A data directory with one log and an archive, as simple as can be: whatever is full is archived and given free.
struct Writer<'a> {
    memory: &'a Memory,
    log: Log,
    control: Control,
    sequence: u64,
}

fn directory() -> Memory {
    let memory = Memory::new();
    initialise(&memory, SMALL).unwrap();
    make(&memory).unwrap();
    memory
}

impl<'a> Writer<'a> {
    fn start(memory: &'a Memory) -> Self {
        Self::of(memory, open(memory, 1, SMALL).unwrap(), 0)
    }

    fn of(memory: &'a Memory, opened: Opened, shard: usize) -> Self {
        let start = opened.shards[shard].clone();
        let log = Log::new(start.log, SMALL).with_archive();
        Self { memory, log, control: start.control, sequence: opened.sequence }
    }

    /// Commits so many changes, durably; the time is the sequence.
    fn commit(&mut self, changes: u32) {
        self.sequence += 1;
        let to = CoinRecord { an: Secret::new([self.sequence as u8; 16]), mfs: Months::new(9) };
        let change = |number| Change { coin: CoinId::from_number(number).unwrap(), from: PlaceKind::Free, to };
        while !self.log.reserve(record_bytes(changes as usize, 0)) {
            self.recycle();
        }
        let commit = Commit { sequence: self.sequence, unix_ms: self.sequence, group: 8, code: 82 };
        self.log.append(&commit, (0..changes).map(change), None);
        let write = self.log.next_write().unwrap();
        let path = files::segment(self.control.writer, write.segment);
        self.memory.write_durably(&path, write.offset, &write.bytes[..write.length]).unwrap();
        self.log.written(write.segment, write.offset, write.bytes);
    }

    fn commit_many(&mut self, count: u64) {
        (0..count).for_each(|_| self.commit(150));
    }

    /// Commits until there is a segment to be archived.
    fn commit_until_full(&mut self) -> FullSegment {
        loop {
            self.commit(150);
            if let Some(full) = self.log.next_to_archive() {
                return full;
            }
        }
    }

    fn mark(&mut self) {
        let mark = self.log.mark();
        let path = files::segment(self.control.writer, mark.segment);
        self.memory.write_durably(&path, mark.offset, &mark.bytes[..mark.length]).unwrap();
        self.log.written(mark.segment, mark.offset, mark.bytes);
    }

    fn archive(&mut self) {
        while let Some(full) = self.log.next_to_archive() {
            keep(self.memory, &full.source, full.last_batch).unwrap();
            self.log.archived(&full);
        }
    }

    /// Archives and gives free what is full.
    fn recycle(&mut self) {
        self.archive();
        self.control.tail = self.log.recyclable(u64::MAX).expect("a full log has a full segment");
        write_control_twice(self.memory, &files::log(self.control.writer), &mut self.control).unwrap();
        self.log.release(&self.control.tail);
    }
}

/// What is told, and what is said to be missing.
fn told(memory: &Memory, beside_a_node: bool, window: Option<Window>) -> (Vec<(u8, u64)>, Vec<Missing>) {
    let (mut told, mut missing) = (Vec::new(), Vec::new());
    let journal = Journal::new(memory, beside_a_node, window).unwrap();
    let read = journal.read::<StoreError>(
        &mut |shard, record| {
            assert_eq!(record.changes().len(), 150);
            told.push((shard, record.commit.sequence));
            Ok(())
        },
        &mut |what| {
            missing.push(what);
            Ok(())
        },
    );
    read.unwrap();
    (told, missing)
}

/// Commits of shard 0.
fn commits(sequences: impl Iterator<Item = u64>) -> Vec<(u8, u64)> {
    sequences.map(|sequence| (0, sequence)).collect()
}

fn header() -> Header {
    Header {
        shard: 3,
        epoch: 0x0102,
        first_batch: 0x0A,
        last_batch: 0x0B,
        first_sequence: 12,
        last_sequence: 345,
        earliest_ms: 6,
        latest_ms: 0x0708_0000_0000,
        records: 9,
    }
}

#[test]
fn golden_bytes_of_a_header() {
    let bytes = header().encode();
    let mut expected = b"RLA1\x00\x01\x03\x00".to_vec();
    for number in [0x0102u64, 0x0A, 0x0B, 12, 345, 6, 0x0708_0000_0000] {
        expected.extend(number.to_be_bytes());
    }
    expected.extend(b"\x00\x00\x00\x09");
    assert_eq!(&bytes[..68], &expected[..]);
    assert_eq!(bytes[68..], crc32c::crc32c(&expected).to_be_bytes());
    assert_eq!(Header::decode(&bytes), Some(header()));
    for at in 0..HEADER_BYTES {
        let mut flipped = bytes;
        flipped[at] ^= 1 << (at % 8);
        assert_eq!(Header::decode(&flipped), None, "byte {at}");
    }
}

#[test]
fn names_are_in_the_order_of_their_sequences() {
    let name = header().name();
    assert_eq!(name.path(), "archive/00000000000000000012-00000000000000000345-03.log");
    assert_eq!(FileName::parse("00000000000000000012-00000000000000000345-03.log"), Some(name));
    for wrong in ["", "03.new", "12-345-3.log", "00000000000000000012-00000000000000000345-03", "a-b-c.log"] {
        assert_eq!(FileName::parse(wrong), None, "{wrong}");
    }
    let later = FileName { first: 111, ..name };
    assert!(name < later && name.to_string() < later.to_string());
}

#[test]
fn a_chunk_comes_back_whole_or_not_at_all() {
    let random: Vec<u8> = (0..CHUNK_RECORDS_BYTES as u64).map(|at| crate::entropy::mix(at) as u8).collect();
    for records in [&b"x"[..], &[7; 100_000], &random] {
        let chunk = encode_chunk(records);
        let (header, compressed) = chunk.split_first_chunk::<CHUNK_HEADER_BYTES>().unwrap();
        assert_eq!(compressed_bytes(header), Some(compressed.len()));
        assert_eq!(decode_chunk(header, compressed).as_deref(), Some(records));
    }
    let chunk = encode_chunk(&[7; 1000]);
    assert!(chunk.len() < 50, "{} bytes", chunk.len());
    for at in 0..chunk.len() {
        let mut flipped = chunk.clone();
        flipped[at] ^= 1 << (at % 8);
        let (header, compressed) = flipped.split_first_chunk().unwrap();
        assert_eq!(decode_chunk(header, compressed), None, "byte {at}");
    }
}

#[test]
fn everything_is_told_once_while_it_runs_and_after_each_start() {
    let memory = directory();
    let mut last = 0;
    for round in 1..=4 {
        let mut writer = Writer::start(&memory);
        assert_eq!(told(&memory, false, None), (commits(1..=last), vec![]));
        writer.commit_many(37 * round);
        last = writer.sequence;
        assert_eq!(told(&memory, false, None), (commits(1..=last), vec![]));
        // Archived and not given free: told once all the same.
        writer.archive();
        assert_eq!(told(&memory, false, None), (commits(1..=last), vec![]));
    }
    let names = list(&memory).unwrap();
    assert!(names.len() > 20 && names.windows(2).all(|pair| pair[0].last < pair[1].first), "{names:?}");
}

#[test]
fn without_an_archive_what_was_overwritten_is_said_to_be_missing() {
    let memory = Memory::new();
    initialise(&memory, SMALL).unwrap();
    assert!(!is_there(&memory).unwrap());
    let opened = open(&memory, 1, SMALL).unwrap();
    let mut writer = Writer { log: Log::new(opened.shards[0].log, SMALL), ..Writer::of(&memory, opened, 0) };
    writer.commit_many(40);
    let (found, missing) = told(&memory, false, None);
    assert_eq!(missing, [Missing::Batches { shard: 0, after: 0 }]);
    assert!(found.len() < 40 && found.last() == Some(&(0, 40)), "{found:?}");
    drop(writer);
    open(&memory, 1, SMALL).unwrap();
    assert_eq!(told(&memory, false, None), (vec![], vec![Missing::Batches { shard: 0, after: 0 }]));
}

#[test]
fn what_is_overwritten_while_it_is_read_is_found_in_the_archive() {
    let memory = directory();
    let mut writer = Writer::start(&memory);
    writer.commit_many(10);
    let mut found = Vec::new();
    let journal = Journal::new(&memory, true, None).unwrap();
    let read = journal.read::<StoreError>(
        &mut |_, record| {
            found.push(record.commit.sequence);
            // The node goes round its log more than once, while its reader stands at an early commit.
            if [3, 5, 60].contains(&record.commit.sequence) {
                writer.commit_many(50);
            }
            Ok(())
        },
        &mut |missing| panic!("{missing:?}"),
    );
    read.unwrap();
    // Nothing proves yet that the last one is durable.
    assert_eq!(found, (1..=159).collect::<Vec<_>>());
    assert_eq!(told(&memory, true, None).0.len(), 159);
    writer.mark();
    assert_eq!(told(&memory, true, None).0.len(), 160);
}

#[test]
fn a_node_that_starts_again_beside_its_reader_is_noticed() {
    let memory = directory();
    let mut writer = Writer::start(&memory);
    writer.commit_many(8);
    let mut found = Vec::new();
    let journal = Journal::new(&memory, true, None).unwrap();
    let read = journal.read::<StoreError>(
        &mut |_, record| {
            found.push(record.commit.sequence);
            if record.commit.sequence == 2 {
                let mut writer = Writer::start(&memory);
                writer.commit_many(40);
                writer.mark();
            }
            Ok(())
        },
        &mut |missing| panic!("{missing:?}"),
    );
    read.unwrap();
    assert_eq!(found, (1..=48).collect::<Vec<_>>());
}

#[test]
fn a_crash_at_any_point_of_archiving_loses_and_doubles_nothing() {
    for operations in 1..60 {
        let memory = directory();
        let mut writer = Writer::start(&memory);
        writer.commit_many(12);
        let full = writer.log.next_to_archive().unwrap();
        memory.crash_after(operations);
        let kept = keep(&memory, &full.source, full.last_batch);
        // Then at the next start.
        let opened = kept.is_ok() && open(&memory, 1, SMALL).is_ok();
        memory.crash(operations);
        open(&memory, 1, SMALL).unwrap();
        assert_eq!(told(&memory, false, None), (commits(1..=12), vec![]), "after {operations} operations");
        assert!(memory.list(files::ARCHIVE).unwrap().iter().all(|name| FileName::parse(name).is_some()));
        if opened {
            return;
        }
    }
    panic!("a start of so few operations");
}

/// A node is killed while it starts, starts again and begins its log anew; then the power fails.
#[test]
fn what_a_killed_node_archived_is_durable_before_its_log_is_overwritten() {
    for operations in 1..200 {
        let memory = directory();
        Writer::start(&memory).commit_many(12);
        memory.crash_after(operations);
        let opened = open(&memory, 1, SMALL);
        memory.go_on();
        open(&memory, 1, SMALL).unwrap();
        memory.crash(0);
        assert_eq!(told(&memory, false, None), (commits(1..=12), vec![]), "after {operations} operations");
        if opened.is_ok() {
            return;
        }
    }
    panic!("a start of so few operations");
}

#[test]
fn a_log_that_is_made_anew_is_told_behind_the_one_before() {
    let memory = directory();
    let mut expected = Vec::new();
    for shards in [2, 1, 2, 1] {
        let opened = open(&memory, shards, SMALL).unwrap();
        assert_eq!(told(&memory, false, None), (expected.clone(), vec![]));
        // Into the last log, which comes and goes.
        let shard = shards - 1;
        let mut writer = Writer::of(&memory, opened, usize::from(shard));
        let before = writer.sequence;
        writer.commit_many(5);
        expected.extend((before + 1..=writer.sequence).map(|sequence| (shard, sequence)));
    }
    let names = list(&memory).unwrap();
    assert_eq!(names.iter().filter(|name| name.shard == 1).count(), 2, "{names:?}");
    assert_eq!(told(&memory, false, None), (expected, vec![]));
}

/// The archive that a directory is restored beside tells what the restore undid; what comes after it is told, too, and can
/// be archived.
#[test]
fn beside_a_kept_archive_a_restored_directory_uses_no_sequence_again() {
    let memory = directory();
    Writer::start(&memory).commit_many(5);
    let opened = open(&memory, 1, SMALL).unwrap();
    let (_, backup) = back_up_at_rest(&memory, &opened, Vec::new(), 0, &mut |_, _| {}).unwrap();
    Writer::start(&memory).commit_many(20);
    open(&memory, 1, SMALL).unwrap();

    let restored = Memory::new();
    let end = fill(&restored, BackupReader::new(Cursor::new(backup)).unwrap(), &mut |_, _| {}).unwrap().end;
    assert_eq!(end.sequence, 5);
    make(&restored).unwrap();
    for name in list(&memory).unwrap() {
        let mut bytes = vec![0; memory.length(&name.path()).unwrap().unwrap() as usize];
        memory.read_at(&name.path(), 0, &mut bytes).unwrap();
        restored.replace(&name.path(), &bytes).unwrap();
    }
    Writer::start(&restored).commit_many(30);
    open(&restored, 1, SMALL).unwrap();
    assert_eq!(told(&restored, false, None), (commits(1..=55), vec![]));
    assert_eq!(list(&restored).unwrap().last().map(|name| name.last), Some(55), "all of it is archived");
}

#[test]
fn damage_and_gaps_are_named_and_the_rest_is_told() {
    let memory = directory();
    Writer::start(&memory).commit_many(60);
    open(&memory, 1, SMALL).unwrap();
    let names = list(&memory).unwrap();
    let without = |name: &FileName| commits((1..=60).filter(|sequence| !(name.first..=name.last).contains(sequence)));

    let name = names[3];
    memory.flip(&name.path(), HEADER_BYTES as u64 + 20);
    let damaged = Missing::Damaged { path: name.path(), after: name.first - 1 };
    assert_eq!(told(&memory, false, None), (without(&name), vec![damaged.clone()]));
    memory.heal();
    memory.flip(&name.path(), 9);
    assert_eq!(told(&memory, false, None), (without(&name), vec![damaged.clone()]));
    memory.heal();
    // Cut off where a chunk begins.
    memory.create(&name.path(), HEADER_BYTES as u64, Zeros::Hole).unwrap();
    let header = Header { shard: 0, first_sequence: name.first, last_sequence: name.last, ..header() };
    memory.write_at(&name.path(), 0, &header.encode()).unwrap();
    let (found, missing) = told(&memory, false, None);
    assert_eq!(found, without(&name));
    assert!(missing.contains(&damaged), "{missing:?}");

    memory.remove(&name.path()).unwrap();
    let gap = Missing::Batches { shard: 0, after: name.first - 1 };
    assert_eq!(told(&memory, false, None), (without(&name), vec![gap]));
}

#[test]
fn the_oldest_is_removed_beyond_either_bound() {
    let memory = directory();
    Writer::start(&memory).commit_many(60);
    open(&memory, 1, SMALL).unwrap();
    let names = list(&memory).unwrap();
    let length = |name: &FileName| memory.length(&name.path()).unwrap().unwrap();
    assert_eq!(retain(&memory, &FOREVER, u64::MAX).unwrap(), 0);

    let bytes_max = names[2..].iter().map(length).sum();
    assert_eq!(retain(&memory, &Retention { bytes_max, ..FOREVER }, 0).unwrap(), 2);
    assert_eq!(list(&memory).unwrap(), names[2..]);
    // The times of these commits are their sequences.
    let retention = Retention { age_ms_max: 1000, ..FOREVER };
    assert_eq!(retain(&memory, &retention, names[4].last + 1000).unwrap(), 2);
    assert_eq!(retain(&memory, &retention, names[4].last + 1001).unwrap(), 1);
    assert_eq!(list(&memory).unwrap(), names[5..]);
    let begins = Missing::Batches { shard: 0, after: 0 };
    assert_eq!(told(&memory, false, None), (commits(names[5].first..=60), vec![begins]));
}

/// One file whose time nobody knows does not keep all that came after it.
#[test]
fn what_has_no_time_goes_with_the_next_that_has() {
    let memory = directory();
    Writer::start(&memory).commit_many(60);
    open(&memory, 1, SMALL).unwrap();
    let names = list(&memory).unwrap();
    memory.flip(&names[0].path(), 9);
    memory.flip(&names[3].path(), 9);
    let retention = Retention { age_ms_max: 1000, ..FOREVER };
    assert_eq!(retain(&memory, &retention, names[0].last + 1001).unwrap(), 0);
    assert_eq!(retain(&memory, &retention, names[2].last + 1001).unwrap(), 3);
    assert_eq!(list(&memory).unwrap(), names[3..]);
    // A time to come is none.
    assert_eq!(retain(&memory, &Retention { age_ms_max: 0, ..FOREVER }, names[5].first).unwrap(), 2);
    assert_eq!(list(&memory).unwrap(), names[5..]);
}

/// What the coin files may still grow, and 64 MiB.
fn reserve(memory: &Memory) -> u64 {
    let grows = |den| files::COINS_BYTES - memory.taken_bytes(&files::coins(den)).unwrap();
    Denomination::all().map(grows).sum::<u64>() + (64 << 20)
}

fn taken(memory: &Memory) -> u64 {
    memory.data().len() as u64 * 512
}

#[test]
fn on_a_full_disk_the_coin_files_have_their_room() {
    let memory = directory();
    let mut writer = Writer::start(&memory);
    writer.commit_many(60);
    writer.archive();
    let names = list(&memory).unwrap();
    let full = writer.commit_until_full();
    // Room for one more file, as large as a segment: nothing is removed.
    let enough = taken(&memory) + reserve(&memory) + SMALL.segment_bytes;
    memory.say_capacity(enough);
    assert_eq!(keep(&memory, &full.source, full.last_batch).unwrap(), 1);
    writer.log.archived(&full);
    assert_eq!(list(&memory).unwrap()[..names.len()], names);

    let full = writer.commit_until_full();
    let short = taken(&memory) + reserve(&memory) + SMALL.segment_bytes - 1;
    memory.say_capacity(short);
    assert_eq!(keep(&memory, &full.source, full.last_batch).unwrap(), 1);
    writer.log.archived(&full);
    assert_eq!(list(&memory).unwrap()[0], names[1], "the oldest went, and no other");

    // Somebody else's files fill it: the archive helps nobody by giving itself up.
    let full = writer.commit_until_full();
    let before = list(&memory).unwrap();
    memory.say_capacity(0);
    let error = keep(&memory, &full.source, full.last_batch).unwrap_err().to_string();
    assert!(error.starts_with("cannot add to archive: 0 bytes of the disk are free, "), "{error}");
    assert_eq!(memory.list(files::ARCHIVE).unwrap().len(), before.len(), "nothing is removed, nothing begun");
}

#[test]
fn files_of_another_time_are_passed_over() {
    let memory = directory();
    Writer::start(&memory).commit_many(60);
    open(&memory, 1, SMALL).unwrap();
    let (found, missing) = told(&memory, false, Some(Window { since_ms: 30, until_ms: 32 }));
    assert!(
        missing.is_empty() && found.len() < 20 && found.contains(&(0, 30)) && found.contains(&(0, 31)),
        "{found:?}"
    );
}

#[test]
fn damage_of_a_log_is_named() {
    let memory = directory();
    let mut writer = Writer::start(&memory);
    writer.commit_many(4);
    writer.mark();
    memory.flip(&files::segment(0, 0), 3 * 4096 + 10);
    let damaged = |path: String, after| Missing::Damaged { path, after };
    assert_eq!(told(&memory, false, None), (commits(1..=3), vec![damaged(files::segment(0, 0), 3)]));
    memory.flip(&files::control(0), 10);
    memory.flip(&files::control(0), 4096 + 10);
    assert_eq!(told(&memory, false, None), (vec![], vec![damaged(files::control(0), 0)]));
}

#[test]
fn a_lost_batch_ends_its_segment_and_the_gap_is_told() {
    let memory = directory();
    let mut writer = Writer::start(&memory);
    writer.commit_many(12);
    let full = writer.log.next_to_archive().unwrap();
    memory.flip(&files::segment(0, full.source.tail.segment), 3 * 4096 + 10);
    assert_eq!(keep(&memory, &full.source, full.last_batch).unwrap(), 1);
    writer.log.archived(&full);
    writer.recycle();
    let (found, missing) = told(&memory, false, None);
    assert_eq!(missing, [Missing::Batches { shard: 0, after: 3 }]);
    // A commit a batch, both counted from 1.
    assert_eq!(found, commits((1..=3).chain(full.last_batch + 1..=12)));
}
