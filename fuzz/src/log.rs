//! A data directory with altered bytes, opened: an error that names what is wrong, or every coin as it was.
//!
//! Where control blocks, orders, double-write areas or pages are altered, nothing else may come out than before. A
//! segment may lose its last batches, as nobody can tell rot from a write that was torn: then the state is that after
//! some first commits of each log, and of all changes of a commit or of none. What an altered byte cannot tell from what
//! was written - the CRC is put right behind it - may say anything, but nothing may panic or ask for memory without end.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use raida::sim::{Client, Seeded, World};
use raida::store::control::{Control, SLOT_BYTES};
use raida::store::error::StoreError;
use raida::store::files;
use raida::store::layout::{BLOCK_BYTES, PAGE_BYTES};
use raida::store::orders::Order;
use raida::store::storage::{Memory, Storage, Zeros};
use raida::store::wal::format::BatchHeader;
use raida::store::wal::{Source, scan};
use raida::wire::request::{COMMANDS, CommandKind};

use crate::frame::payload::Maker;
use crate::input::Input;
use crate::world::{self, Contents, row_of_order};

/// Alterations of one input.
const ALTERATIONS_MAX: usize = 4;

/// Alters the files of a data directory and opens it, twice.
pub fn run(bytes: &[u8]) -> bool {
    thread_local! {
        static STARTS: OnceCell<Vec<Start>> = const { OnceCell::new() };
    }
    STARTS.with(|starts| {
        let starts = starts.get_or_init(|| (0..4).map(Start::new).collect());
        let mut input = Input(bytes);
        let start = &starts[input.below(starts.len())];
        let shards = 1 + input.byte() % 3;
        let storage = start.storage.clone();
        let mut altered = Altered::default();
        for _ in 0..ALTERATIONS_MAX {
            if !input.is_over() {
                start.alter(&storage, &mut input, &mut altered);
            }
        }
        let opened = Contents::open(&storage, shards);
        if !altered.forged {
            start.check(&opened, &altered);
        }
        check_again(&storage, shards, &opened);
        opened.is_ok()
    })
}

/// What was done to the files.
#[derive(Default)]
struct Altered {
    /// A CRC was put right: the bytes may say anything.
    forged: bool,
    /// A segment of a log is not as it was.
    segments: bool,
    /// Nor is a control block.
    controls: bool,
}

/// A data directory as a crash leaves it.
struct Start {
    storage: Memory,
    /// Its files, but for the coin files; of those the pages in use, by file and offset.
    files: Vec<(String, u64)>,
    pages: Vec<(String, u64)>,
    /// What it says, as it is.
    contents: Contents,
    /// What it could say if its logs ended earlier.
    earlier: BTreeSet<Contents>,
}

impl Start {
    /// A node of one or two shards that did this and that, many things or few, and was stopped without warning.
    fn new(number: u8) -> Self {
        let shards = 1 + number % 2;
        let mut node = world::node(shards, u64::from(number));
        let mut random = Seeded(u64::from(number) + 31);
        for _ in 0..if number < 2 { 4 } else { 60 } {
            let now = Contents::open(&node.storage.clone(), shards).expect("a data directory");
            (0..6).for_each(|_| act(&mut node, &now, &mut random));
            node.settle();
        }
        // The last are under way when the machine stops.
        let now = Contents::open(&node.storage.clone(), shards).expect("a data directory");
        (0..6).for_each(|_| act(&mut node, &now, &mut random));
        (0..20).for_each(|_| _ = node.advance());
        node.storage.crash(u64::from(number));
        Self::of(node.storage, shards)
    }

    fn of(storage: Memory, shards: u8) -> Self {
        let contents = Contents::open(&storage.clone(), shards).expect("a data directory");
        let earlier = earlier(&storage, shards);
        assert!(earlier.contains(&contents) && earlier.len() > 1);
        let mut files = vec![(files::NODE.to_string(), storage.length(files::NODE).expect("memory").expect("a file"))];
        for log in 0..shards {
            let directory = files::log(log);
            for name in storage.list(&directory).expect("a log") {
                let path = format!("{directory}/{name}");
                let length = storage.length(&path).expect("memory").expect("a file");
                files.push((path, length));
            }
        }
        let pages: BTreeSet<_> = contents.coins.keys().map(|coin| coin.page()).collect();
        let pages =
            pages.into_iter().map(|page| (files::coins(page.denomination()), files::page_offset(page))).collect();
        Self { storage, files, pages, contents, earlier }
    }

    /// Alters one file: a byte or some bytes, its length, its being there.
    fn alter(&self, storage: &Memory, input: &mut Input<'_>, altered: &mut Altered) {
        let how = input.byte();
        if how % 8 == 7 && !self.pages.is_empty() {
            let (path, offset) = &self.pages[input.below(self.pages.len())];
            let at = offset + input.place(PAGE_BYTES) as u64;
            return overwrite(storage, path, at, input);
        }
        let (path, length) = &self.files[input.below(self.files.len())];
        altered.segments |= path.contains("segment");
        altered.controls |= path.contains("control");
        match how % 8 {
            0 => storage.remove(path).unwrap_or(()),
            1 => {
                // Another length, with what was there as far as it goes.
                let shorter = u64::from(input.word()) * length / 65_536;
                let mut bytes = vec![0; shorter as usize];
                if storage.read_at(path, 0, &mut bytes).is_ok() {
                    storage.create(path, shorter, Zeros::Hole).expect("memory");
                    storage.write_at(path, 0, &bytes).expect("memory");
                }
            }
            _ => {
                // Mostly near the start of a block, where the headers are.
                let blocks = (length / BLOCK_BYTES as u64).max(1) as usize;
                let block = input.place(blocks) as u64 * BLOCK_BYTES as u64;
                let within = if how & 0x80 == 0 { input.below(256) } else { input.place(BLOCK_BYTES) };
                let was_right =
                    how & 0x40 != 0 && checksum(storage, path, block).is_some_and(|checksum| checksum.is_right());
                overwrite(storage, path, (block + within as u64).min(length.saturating_sub(1)), input);
                if let Some(checksum) = checksum(storage, path, block).filter(|_| was_right) {
                    altered.forged = true;
                    storage.write_at(path, checksum.at, &checksum.right).expect("memory");
                }
            }
        }
    }

    /// What is said of coins and orders is what was, or what was once.
    fn check(&self, opened: &Result<Contents, StoreError>, altered: &Altered) {
        match opened {
            Err(error) => {
                let line = error.to_string();
                assert!(!line.is_empty() && !line.contains('\n'), "{line}");
            }
            // The control block before it may take the log up where it is not needed any more: two faults at once.
            Ok(_) if altered.segments && altered.controls => (),
            Ok(contents) if altered.segments => {
                assert!(self.earlier.contains(contents), "this was never so:\n{:?}", self.difference(contents));
            }
            Ok(contents) => assert!(*contents == self.contents, "{:?}", self.difference(contents)),
        }
    }

    /// The coins that are not as they were.
    fn difference(&self, contents: &Contents) -> Vec<raida::coin::CoinId> {
        let all: BTreeSet<_> = self.contents.coins.keys().chain(contents.coins.keys()).copied().collect();
        all.into_iter().filter(|coin| self.contents.coins.get(coin) != contents.coins.get(coin)).collect()
    }
}

/// One request about the coins there are, in plain text.
pub(crate) fn act(node: &mut World, now: &Contents, random: &mut Seeded) {
    let kinds = [
        CommandKind::Pown,
        CommandKind::Store,
        CommandKind::StoreMultiple,
        CommandKind::Remove,
        CommandKind::PutForSale,
        CommandKind::Buy,
        CommandKind::RemoveTradeLocker,
    ];
    let kind = kinds[random.below(kinds.len())];
    let noise: Vec<u8> = (0..40).map(|_| random.number() as u8).collect();
    let payload = Maker { contents: now, offered: None }.payload(kind, &mut Input(&noise));
    let client = Client { shard: random.below(2) as u8, ..Client::default() };
    let command = COMMANDS.iter().find(|command| command.kind == kind).expect("a command");
    node.send_payload(&client, command, &payload);
}

/// What a data directory would say if each log ended after any of its commits.
fn earlier(storage: &Memory, shards: u8) -> BTreeSet<Contents> {
    let mut logs: Vec<Vec<(u64, Contents)>> = Vec::new();
    let mut in_place = 0;
    for log in 0..shards {
        let mut slots = vec![0; 2 * SLOT_BYTES];
        storage.read_at(&files::control(log), 0, &mut slots).expect("a control block");
        let control = Control::newest([0, SLOT_BYTES].map(|at| Control::decode(&slots[at..at + SLOT_BYTES])))
            .expect("a whole control block");
        in_place = in_place.max(control.sequence);
        let source = Source {
            writer: log,
            epoch: control.epoch,
            tail: control.tail,
            segments: control.segments,
            segment_bytes: control.segment_bytes,
        };
        let mut commits = Vec::new();
        scan(storage, &source, &mut |record| {
            let mut commit = Contents::default();
            record.changes().for_each(|change| _ = commit.coins.insert(change.coin, change.to.encode()));
            commit.orders.extend(record.orders().map(|order| row_of_order(&order)));
            commits.push((record.commit.sequence, commit));
            Ok(())
        })
        .expect("a whole log");
        logs.push(commits);
    }
    let ends: Vec<usize> = logs.iter().map(Vec::len).collect();
    // What is in place and in the images; of the logs nothing.
    let base = without_logs(storage, shards);
    let mut states = BTreeSet::new();
    let second = ends.get(1).copied().unwrap_or(0);
    for first in 0..=ends[0] {
        for second in 0..=second {
            let of_second = logs.get(1).into_iter().flat_map(|log| &log[..second]);
            let mut commits: Vec<&(u64, Contents)> = logs[0][..first].iter().chain(of_second).collect();
            // Two logs may use one sequence, but not for the same coin.
            commits.sort_unstable_by_key(|(sequence, _)| *sequence);
            let mut state = base.clone();
            for (sequence, commit) in commits {
                for (an, order) in &commit.orders {
                    let newest = state.orders.entry(*an).or_insert_with(|| order.clone());
                    if newest.1 < order.1 {
                        *newest = order.clone();
                    }
                }
                if *sequence > in_place {
                    state.coins.extend(commit.coins.clone());
                }
            }
            state.coins.retain(|_, record| record[16] != 0);
            state.drop_dead_orders();
            states.insert(state);
        }
    }
    states
}

/// What a data directory says whose segments hold nothing; dead orders too, as commits may give them coins.
fn without_logs(storage: &Memory, shards: u8) -> Contents {
    let storage = storage.clone();
    for log in 0..shards {
        for name in storage.list(&files::log(log)).expect("a log").iter().filter(|name| name.starts_with("segment")) {
            let path = format!("{}/{name}", files::log(log));
            let length = storage.length(&path).expect("memory").expect("a file");
            storage.create(&path, length, Zeros::Written).expect("memory");
        }
    }
    Contents::open_with_dead_orders(&storage, shards).expect("a data directory")
}

/// XORs or replaces bytes of a file, as many as there are.
fn overwrite(storage: &Memory, path: &str, at: u64, input: &mut Input<'_>) {
    let (replace, count) = (input.below(2) == 1, 1 + input.below(16));
    let with = input.slice(count);
    let left = storage.length(path).ok().flatten().map_or(0, |length| length.saturating_sub(at)) as usize;
    if left == 0 {
        return;
    }
    let mut bytes = vec![0; with.len().min(left)];
    storage.read_at(path, at, &mut bytes).expect("bytes of the file");
    for (byte, with) in bytes.iter_mut().zip(with) {
        *byte = if replace { *with } else { *byte ^ with };
    }
    storage.write_at(path, at, &bytes).expect("memory");
}

/// The CRC of a block: where in the file, what is there, what should be.
struct Checksum {
    at: u64,
    stored: [u8; 4],
    right: [u8; 4],
}

impl Checksum {
    fn is_right(&self) -> bool {
        self.stored == self.right
    }
}

/// That of what begins at a block: a control block, an orders image, a header of the double-write area, a batch.
fn checksum(storage: &Memory, path: &str, block: u64) -> Option<Checksum> {
    let length = storage.length(path).ok().flatten()?;
    let mut bytes = vec![0; length.checked_sub(block)? as usize];
    storage.read_at(path, block, &mut bytes).expect("bytes of the file");
    let (covered, at) = match path.rsplit('/').next().expect("a last part") {
        "control" => (SLOT_BYTES - 4, SLOT_BYTES - 4),
        "double" => (BLOCK_BYTES, 8),
        "orders-0" | "orders-1" => {
            let orders = u32::from_be_bytes(*bytes.get(16..)?.first_chunk()?) as usize;
            (24usize.saturating_add(orders.saturating_mul(Order::BYTES)), 20)
        }
        _ => (BatchHeader::decode(&bytes)?.used as usize, 44),
    };
    let stored = *bytes.get(at..)?.first_chunk()?;
    bytes[at..at + 4].fill(0);
    let right = crc32c::crc32c(bytes.get(..covered)?).to_be_bytes();
    Some(Checksum { at: block + at as u64, stored, right })
}

/// Opening it again finds the same: an error is not gone, and what was opened is in its place.
fn check_again(storage: &Memory, shards: u8, opened: &Result<Contents, StoreError>) {
    let again = Contents::open(storage, shards);
    match (opened, again) {
        (Ok(first), Ok(again)) => assert!(*first == again),
        (Err(first), Err(again)) => assert_eq!(first.to_string(), again.to_string()),
        (first, again) => panic!("first {:?}, then {:?}", first.as_ref().err(), again.err()),
    }
}

/// Every file with a byte of each of its first blocks written as it was, with the CRC put right and without.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for start in 0..4 {
        for file in 0..1 + 7 * (1 + start % 2) {
            for (how, block) in [(2, 0), (0x42, 0), (2, 1), (0x42, 1)] {
                seeds.push(vec![start, file % 3, how, file, 0, block, 16, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
            }
        }
    }
    seeds
}
