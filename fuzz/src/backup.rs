//! A backup: whatever its bytes are, it is refused, or makes a whole data directory; untouched, the one it was taken of.
//!
//! Where the file is altered, its checksum must tell. Who means harm puts the checksum right: then the bytes of the frame
//! are altered, or the entries before they are compressed. Out of that may come anything but a panic or a directory that
//! is not whole: what is restored is backed up again, and that backup restored is backed up to the same bytes.

use std::cell::OnceCell;
use std::io::{Cursor, Write};

use lz4_flex::frame::{BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use raida::coin::{COINS, CoinId, CoinRecord, PAGES, PageNumber, PayoutAddress, Secret};
use raida::node::backup::{BackupPlan, take_backup};
use raida::sim::Seeded;
use raida::store::backup::reader::BackupReader;
use raida::store::backup::restore::{Restored, fill};
use raida::store::backup::snapshot::back_up_at_rest;
use raida::store::backup::{DIGEST_BYTES, End, HEADER_BYTES, Whose};
use raida::store::error::StoreError;
use raida::store::layout::{PAGE_BYTES, PageFrame};
use raida::store::orders::Order;
use raida::store::recovery::open_as_it_is;
use raida::store::storage::Memory;
use raida::store::wal::format::encode_record;
use raida::store::wal::{Change, Commit, PlaceKind, record_bytes};
use sha2::{Digest, Sha256};

use crate::input::Input;
use crate::log::act;
use crate::world::{self, Contents};

/// Alterations of one input.
const ALTERATIONS_MAX: usize = 4;
/// Bytes of an entry that says how many there are of what.
const END_BYTES: usize = 32;

/// Takes a backup of a node, alters it and restores it.
pub fn run(bytes: &[u8]) -> bool {
    thread_local! {
        static STARTS: OnceCell<Vec<Start>> = const { OnceCell::new() };
    }
    STARTS.with(|starts| {
        let starts = starts.get_or_init(|| (0..3).map(Start::new).collect());
        let mut input = Input(bytes);
        let start = &starts[input.below(starts.len())];
        match input.below(4) {
            0 => start.alter_file(&mut input),
            1 => start.alter_frame(&mut input),
            _ => start.alter_entries(&mut input),
        }
    })
}

/// A backup, and what it is of.
struct Start {
    file: Vec<u8>,
    /// Its entries, each with its kind.
    entries: Vec<Vec<u8>>,
    contents: Contents,
    /// Above all that was in place before the backup was begun.
    sequence: u64,
}

impl Start {
    /// Of a node of one or two shards, while its logs have what its pages lack; the last of one at rest.
    fn new(number: u8) -> Self {
        let shards = 1 + number % 2;
        let mut node = world::node(shards, u64::from(number));
        let mut random = Seeded(u64::from(number) + 47);
        for _ in 0..4 {
            let now = Contents::open(&node.storage.clone(), shards).expect("a data directory");
            (0..6).for_each(|_| act(&mut node, &now, &mut random));
            node.settle();
        }
        let storage = node.storage.clone();
        let file = match number {
            2 => back_up(&storage),
            _ => {
                let whose = Whose { raida_id: 3, coin_id: 6 };
                let plan = BackupPlan { whose, unix_ms: 1, shards, bytes_per_second: u64::MAX };
                let mut file = Vec::new();
                take_backup(&mut |shard, question| Some(node.back_up(shard.0, question)), &storage, &plan, &mut file)
                    .expect("a node that serves");
                file
            }
        };
        let end = read(&file).expect("a backup");
        assert_eq!(end.records == 0, number == 2, "{end:?}");
        let entries = entries(&file);
        let contents = Contents::open(&storage, shards).expect("a data directory");
        Self { file, entries, contents, sequence: end.sequence }
    }

    /// Alters any bytes of the file: only the one that was written is read.
    fn alter_file(&self, input: &mut Input<'_>) -> bool {
        let mut file = self.file.clone();
        alter(&mut file, input);
        if file == self.file {
            self.is_restored_from(&file);
            return true;
        }
        assert!(read(&file).is_err(), "its checksum does not hold");
        false
    }

    /// Alters the compressed bytes and puts the checksum right.
    fn alter_frame(&self, input: &mut Input<'_>) -> bool {
        let mut frame = self.file[HEADER_BYTES..self.file.len() - DIGEST_BYTES].to_vec();
        alter(&mut frame, input);
        is_refused_or_whole(&sealed([&self.file[..HEADER_BYTES], &frame].concat()))
    }

    /// Alters what comes where in the file and what it says.
    fn alter_entries(&self, input: &mut Input<'_>) -> bool {
        let mut entries = self.entries.clone();
        for _ in 0..ALTERATIONS_MAX {
            if !input.is_over() {
                self.alter_entry(&mut entries, input);
            }
        }
        let frame = FrameInfo::new().block_size(BlockSize::Max256KB);
        let mut encoder = FrameEncoder::with_frame_info(frame, self.file[..HEADER_BYTES].to_vec());
        entries.iter().for_each(|entry| encoder.write_all(entry).expect("memory"));
        let file = sealed(encoder.finish().expect("memory"));
        if entries == self.entries {
            assert!(file == self.file, "there is one way to write a backup");
            self.is_restored_from(&file);
            return true;
        }
        is_refused_or_whole(&file)
    }

    fn alter_entry(&self, entries: &mut Vec<Vec<u8>>, input: &mut Input<'_>) {
        let how = input.below(8);
        let at = entries.len() - input.below(entries.len() + 1);
        match how {
            0 => drop(entries.drain(at..(at + 1).min(entries.len()))),
            1 => {
                let other = input.below(entries.len() + 1);
                let copy = entries.get(other).cloned();
                drop(entries.splice(at..at, copy));
            }
            2 => entries.get_mut(at).into_iter().for_each(|entry| alter(entry, input)),
            3 => entries.insert(at, input.rest().to_vec()),
            4 => entries.insert(at, self.page(input)),
            5 => entries.insert(at, self.order(input)),
            6 => entries.insert(at, self.record(input)),
            // The last says that all is well, whatever came before.
            _ => {
                let sequence = self.sequence(input);
                let count = |kind| entries.iter().filter(|entry| entry.first() == Some(&kind)).count() as u64;
                let fields = [sequence, count(1), count(2), count(3)].map(u64::to_be_bytes);
                entries.pop();
                entries.push([&[255][..], fields.as_flattened()].concat());
            }
        }
    }

    /// Mostly one near the backup's own.
    fn sequence(&self, input: &mut Input<'_>) -> u64 {
        match input.byte() {
            0xFF => u64::from_be_bytes(input.array()),
            near => (self.sequence + u64::from(near)).saturating_sub(8),
        }
    }

    /// A page that is whole, with a coin.
    fn page(&self, input: &mut Input<'_>) -> Vec<u8> {
        let mut frame = PageFrame::zeroed();
        let page = PageNumber::new(input.place(usize::from(PAGES)) as u16).expect("below the number of pages");
        frame.set_record(input.place(1024), CoinRecord::decode(&input.array()));
        frame.seal(page, self.sequence(input));
        [&[1], frame.bytes()].concat()
    }

    fn order(&self, input: &mut Input<'_>) -> Vec<u8> {
        let mut bytes = vec![2; 1 + Order::BYTES];
        any_order(self.sequence(input), input).encode(&mut bytes[1..]);
        bytes
    }

    /// A record that is whole, of a change or two, at times with an order.
    fn record(&self, input: &mut Input<'_>) -> Vec<u8> {
        let commit = Commit { sequence: self.sequence(input), unix_ms: 1, group: input.byte(), code: input.byte() };
        let order = input.byte().is_multiple_of(2).then(|| any_order(commit.sequence, input));
        let changes: Vec<Change> = (0..input.below(3)).map(|_| any_change(input)).collect();
        let mut bytes = vec![3; 1 + record_bytes(changes.len(), usize::from(order.is_some()))];
        encode_record(&mut bytes[1..], &commit, changes.into_iter(), order.as_ref());
        bytes
    }

    /// The untouched file makes what it was taken of.
    fn is_restored_from(&self, file: &[u8]) {
        let (memory, restored) = restore(file).expect("a backup");
        assert_eq!(restored.end.sequence, self.sequence);
        assert!(Contents::open(&memory, 1).expect("a data directory") == self.contents, "it has other coins");
    }
}

fn any_order(sequence: u64, input: &mut Input<'_>) -> Order {
    let address = PayoutAddress::new(b"an address of twenty").expect("long enough");
    Order { an: world::trade_an(input.byte()), address, sequence: sequence.min(1 << 60) }
}

fn any_change(input: &mut Input<'_>) -> Change {
    let coin =
        CoinId::from_number((u32::from(input.word()) << 8 | u32::from(input.byte())) % COINS).expect("one of them");
    let mut an = [input.byte(); 16];
    an[12..].fill(input.byte());
    let to = CoinRecord { an: Secret::new(an), ..CoinRecord::decode(&[input.byte(); 17]) };
    Change { coin, from: PlaceKind::Wallet, to }
}

/// Overwrites, puts in and takes away some bytes.
fn alter(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    for _ in 0..ALTERATIONS_MAX {
        if input.is_over() {
            return;
        }
        let (how, place) = (input.byte(), input.array::<3>());
        let at = u32::from_be_bytes([0, place[0], place[1], place[2]]) as usize % (bytes.len() + 1);
        let count = 1 + input.below(16);
        let end = (at + count).min(bytes.len());
        match how % 4 {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, input.slice(count).iter().copied())),
            2 => bytes.truncate(at),
            _ => bytes[at..end].iter_mut().for_each(|byte| *byte ^= input.byte()),
        }
    }
}

/// The entries of a backup, one by one.
fn entries(file: &[u8]) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut frame = FrameDecoder::new(&file[HEADER_BYTES..file.len() - DIGEST_BYTES]);
    std::io::copy(&mut frame, &mut bytes).expect("a frame");
    let mut rest = &bytes[..];
    let mut entries = Vec::new();
    while let Some(&kind) = rest.first() {
        let length = 1 + match kind {
            1 => PAGE_BYTES,
            2 => Order::BYTES,
            3 => u32::from_be_bytes(rest[1..5].try_into().expect("4 bytes")) as usize,
            255 => END_BYTES,
            kind => unreachable!("kind {kind}: nothing is suspended"),
        };
        let (entry, after) = rest.split_at(length);
        entries.push(entry.to_vec());
        rest = after;
    }
    entries
}

/// With a checksum that holds.
fn sealed(mut file: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::digest(&file);
    file.extend_from_slice(&digest);
    file
}

/// A file that was altered, but for its checksum: whether anything comes of it.
fn is_refused_or_whole(file: &[u8]) -> bool {
    // Much faster than to restore it.
    let Ok(end) = read(file).map_err(|error| check_refusal(&error)) else { return false };
    let (memory, restored) = match restore(file) {
        Ok(restored) => restored,
        Err(error) => {
            check_refusal(&error);
            return false;
        }
    };
    assert_eq!(restored.end, end);
    let again = back_up(&memory);
    let (memory, _) = restore(&again).expect("a backup of what was restored");
    assert!(back_up(&memory) == again, "what was restored comes back as it is");
    true
}

/// It is the file's fault, and a line says so.
fn check_refusal(error: &StoreError) {
    let line = error.to_string();
    assert!(matches!(error, StoreError::DamagedBackup { .. }) && !line.contains('\n'), "{line}");
}

/// Reads a backup to its end.
fn read(file: &[u8]) -> Result<End, StoreError> {
    let mut reader = BackupReader::new(Cursor::new(file))?;
    let mut frame = PageFrame::zeroed();
    while reader.page(&mut frame)?.is_some() {}
    while reader.order()?.is_some() {}
    while reader.record(|_| Ok(()))? {}
    reader.suspended()?;
    reader.end()
}

fn restore(file: &[u8]) -> Result<(Memory, Restored), StoreError> {
    let memory = Memory::new();
    let restored = fill(&memory, BackupReader::new(Cursor::new(file))?, &mut |_, _| {})?;
    Ok((memory, restored))
}

/// A backup of a data directory that no node uses.
fn back_up(storage: &Memory) -> Vec<u8> {
    let storage = storage.clone();
    let opened = open_as_it_is(&storage).expect("a data directory");
    back_up_at_rest(&storage, &opened, Vec::new(), 1, &mut |_, _| {}).expect("a data directory").1
}

/// Each backup as it is, by its bytes, its frame and its entries; and one with a record more.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..3).flat_map(|start| [vec![start, 0], vec![start, 1], vec![start, 2]]).collect();
    let record = [6, 1, 9, 2, 5, 1, 1, 0, 200, 7, 0x42, 0x42, 9];
    let end = [7, 0, 12];
    seeds.push([&[0, 2][..], &record, &end].concat());
    seeds
}
