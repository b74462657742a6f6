//! Recovery against a small model of a node: whatever it did, wherever it stopped, what was acknowledged is found.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::coin::{CoinId, CoinRecord, Months, PageNumber, PayoutAddress, Secret};
use crate::store::double_write::{self, DoubleBatch};
use crate::store::layout::{PAGE_BYTES, PageFrame};
use crate::store::orders::encode_image;
use crate::store::pages::{read_page, read_pages};
use crate::store::storage::{Memory, Zeros};
use crate::store::wal::{Change, Commit, Log, LogWrite, PlaceKind, record_bytes};

const SMALL: Geometry =
    Geometry { segment_bytes: 32 << 10, segments: 3, batch_bytes_max: 8 << 10, record_bytes_max: record_bytes(100, 1) };
const OTHER: Geometry = Geometry { segment_bytes: 64 << 10, segments: 4, ..SMALL };

/// What a node holds, as far as clients were told.
#[derive(Clone, Default, PartialEq, Debug)]
struct State {
    coins: BTreeMap<CoinId, CoinRecord>,
    orders: BTreeMap<[u8; 16], Order>,
}

impl State {
    fn apply(&mut self, changes: &[Change], order: Option<&Order>) {
        self.coins.extend(changes.iter().map(|change| (change.coin, change.to)));
        self.orders.extend(order.map(|order| (*order.an.bytes(), *order)));
    }
}

/// What the data directory holds, read as the shards read it.
fn state(memory: &Memory, opened: &Opened) -> State {
    let mut state = State::default();
    let shards = opened.shards.len() as u8;
    for shard in 0..shards {
        read_pages(memory, shard, shards, &opened.used, &mut |page, frame, sequence| {
            assert!(sequence <= opened.sequence && page.get() % u16::from(shards) == u16::from(shard));
            let coins = (0..1024).map(|slot| (page.coin(slot), frame.record(slot)));
            state.coins.extend(coins.filter(|(_, record)| !record.is_free()));
        })
        .unwrap();
    }
    state.orders = opened.orders.iter().map(|order| (*order.an.bytes(), *order)).collect();
    state
}

/// A node as simple as can be: one transaction at a time, every page in memory.
struct Node<'a> {
    memory: &'a Memory,
    logs: Vec<Log>,
    controls: Vec<Control>,
    pages: BTreeMap<PageNumber, PageFrame>,
    dirty: BTreeSet<PageNumber>,
    sequence: u64,
    acknowledged: State,
    /// A transaction whose write has not ended.
    undecided: Option<State>,
}

impl<'a> Node<'a> {
    fn start(memory: &'a Memory, opened: Opened, geometry: Geometry) -> Self {
        let acknowledged = state(memory, &opened);
        Self {
            memory,
            logs: opened.shards.iter().map(|shard| Log::new(shard.log, geometry)).collect(),
            controls: opened.shards.into_iter().map(|shard| shard.control).collect(),
            pages: BTreeMap::new(),
            dirty: BTreeSet::new(),
            sequence: opened.sequence,
            acknowledged,
            undecided: None,
        }
    }

    /// Gives the coins new records through a shard's log, with an order for every third one.
    fn transact(&mut self, shard: usize, numbers: &BTreeSet<u32>) -> Result<(), StoreError> {
        let shard = shard % self.logs.len();
        let sequence = self.sequence + 1;
        let to = CoinRecord { an: Secret::new([sequence as u8; 16]), mfs: Months::new(1 + (sequence % 7) as u8) };
        let change = |number: &u32| Change { coin: CoinId::from_number(*number).unwrap(), from: PlaceKind::Wallet, to };
        let changes: Vec<Change> = numbers.iter().map(change).collect();
        let address = PayoutAddress::new(&sequence.to_be_bytes().repeat(2)).unwrap();
        let order = sequence.is_multiple_of(3).then(|| Order {
            an: Secret::new([(sequence % 5) as u8; 16]),
            address,
            sequence,
        });
        if !self.logs[shard].reserve(record_bytes(changes.len(), usize::from(order.is_some()))) {
            return self.checkpoint();
        }
        self.sequence = sequence;
        let commit = Commit { sequence, unix_ms: 1, group: 8, code: 82 };
        let ticket = self.logs[shard].append(&commit, changes.iter().copied(), order.as_ref());
        let mut after = self.acknowledged.clone();
        after.apply(&changes, order.as_ref());
        self.undecided = Some(after.clone());
        let LogWrite { segment, offset, bytes, length } = self.logs[shard].next_write().unwrap();
        self.memory.write_durably(&files::segment(shard as u8, segment), offset, &bytes[..length])?;
        self.logs[shard].written(segment, offset, bytes);
        assert!(ticket <= self.logs[shard].durable());
        self.acknowledged = after;
        self.undecided = None;
        for change in changes {
            self.page(change.coin.page())?.set_record(change.coin.slot(), change.to);
            self.dirty.insert(change.coin.page());
        }
        Ok(())
    }

    fn page(&mut self, page: PageNumber) -> Result<&mut PageFrame, StoreError> {
        if !self.pages.contains_key(&page) {
            let mut frame = PageFrame::zeroed();
            read_page(self.memory, page, &UsedPages::none(), &mut frame)?;
            self.pages.insert(page, frame);
        }
        Ok(self.pages.get_mut(&page).unwrap())
    }

    /// Writes a shard's dirty pages to their places.
    fn write_back(&mut self, shard: usize) -> Result<(), StoreError> {
        let shard = shard % self.logs.len();
        let shards = self.logs.len() as u16;
        let mut batch = DoubleBatch::new();
        for page in self.dirty.iter().filter(|page| usize::from(page.get() % shards) == shard) {
            let frame = self.pages.get_mut(page).unwrap();
            frame.seal(*page, self.sequence);
            batch.add(*page, frame);
            self.controls[shard].used.insert(*page);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let (bytes, length, pages) = batch.finish();
        self.memory.write_durably(&files::double_write(shard as u8), 0, &bytes[..length])?;
        for (index, page) in pages.iter().enumerate() {
            let at = double_write::page_at(index);
            let path = files::coins(page.denomination());
            self.memory.write_at(&path, files::page_offset(*page), &bytes[at..at + PAGE_BYTES])?;
        }
        for page in pages {
            self.memory.sync(&files::coins(page.denomination()))?;
            self.dirty.remove(&page);
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), StoreError> {
        (0..self.logs.len()).try_for_each(|shard| self.write_back(shard))?;
        let shards = self.logs.len() as u8;
        for control in &mut self.controls {
            control.orders = control.orders.next();
            // Each shard has its part of the orders.
            let mine = self.acknowledged.orders.values().filter(|order| order.an.bytes()[0] % shards == control.writer);
            let mine: Vec<Order> = mine.copied().collect();
            let image = encode_image(control.orders.generation, mine.iter());
            self.memory.write_durably(&files::orders(control.writer, control.orders.slot), 0, &image)?;
        }
        // Only when all is in place, orders too, does the first control block say so.
        for (control, log) in self.controls.iter_mut().zip(&mut self.logs) {
            let tail = log.recyclable(self.sequence).unwrap_or(log.tail());
            (control.tail, control.sequence) = (tail, self.sequence);
            control.generation += 1;
            self.memory.write_durably(&files::control(control.writer), control.offset(), &control.to_block())?;
            log.release(&tail);
        }
        Ok(())
    }
}

fn new_directory() -> Memory {
    let memory = Memory::new();
    initialise(&memory, SMALL).unwrap();
    memory
}

#[derive(Clone, Debug)]
enum Step {
    Transact { shard: usize, coins: BTreeSet<u32> },
    WriteBack { shard: usize },
    Checkpoint,
}

/// Coins on a dozen pages of three denominations, some of them neighbours.
fn coin() -> impl Strategy<Value = u32> {
    (0..3u32, 0..4u32, 0..3u32).prop_map(|(den, page, slot)| den * 7 * 1_024_000 + page * 1024 + slot * 400)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4usize, prop::collection::btree_set(coin(), 1..12))
            .prop_map(|(shard, coins)| Step::Transact { shard, coins }),
        2 => (0..4usize).prop_map(|shard| Step::WriteBack { shard }),
        1 => Just(Step::Checkpoint),
    ]
}

/// One life of a node: how many shards, what it does, after how many operations it stops, what the crash leaves.
#[derive(Clone, Debug)]
struct Life {
    shards: u8,
    other_geometry: bool,
    steps: Vec<Step>,
    crash_after: u64,
    seed: u64,
}

fn life() -> impl Strategy<Value = Life> {
    (1..5u8, any::<bool>(), prop::collection::vec(step(), 0..60), 1..300u64, any::<u64>()).prop_map(
        |(shards, other_geometry, steps, crash_after, seed)| Life { shards, other_geometry, steps, crash_after, seed },
    )
}

/// Opens for the life's shards, restarting until no crash interrupts it.
fn open_through_crashes(memory: &Memory, life: &Life, geometry: Geometry) -> Opened {
    let mut crash_after = life.crash_after;
    memory.crash_after(crash_after);
    loop {
        match open(memory, life.shards, geometry) {
            Ok(opened) => return opened,
            Err(error) => assert!(error.to_string().contains("the machine stopped"), "{error}"),
        }
        memory.crash(life.seed.wrapping_add(crash_after));
        crash_after *= 2;
        memory.crash_after(crash_after);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Lives with different numbers of shards and segments follow each other; each ends in a crash, and recovery itself
    /// is interrupted too. What was acknowledged is always found, and a transaction is there as a whole or not at all.
    #[test]
    fn what_was_acknowledged_is_found(lives in prop::collection::vec(life(), 1..5)) {
        let memory = new_directory();
        let mut allowed = vec![State::default()];
        for life in lives {
            let geometry = if life.other_geometry { OTHER } else { SMALL };
            let opened = open_through_crashes(&memory, &life, geometry);
            let found = state(&memory, &opened);
            prop_assert!(allowed.contains(&found), "found {found:?}, allowed {allowed:?}");
            prop_assert_eq!(memory.list(files::LOGS).unwrap().len(), usize::from(life.shards));
            memory.crash_after(life.crash_after);
            let mut node = Node::start(&memory, opened, geometry);
            let mut steps = life.steps.iter();
            let stopped = steps.try_for_each(|step| match step {
                Step::Transact { shard, coins } => node.transact(*shard, coins),
                Step::WriteBack { shard } => node.write_back(*shard),
                Step::Checkpoint => node.checkpoint(),
            });
            if let Err(error) = stopped {
                prop_assert!(error.to_string().contains("the machine stopped"), "{error}");
            }
            allowed = [Some(node.acknowledged), node.undecided].into_iter().flatten().collect();
            memory.crash(life.seed);
        }
    }
}

/// A directory that three shards left in the middle of their work, everything they wrote on disk.
fn abandoned() -> (Memory, State) {
    let memory = new_directory();
    let opened = open(&memory, 3, SMALL).unwrap();
    let mut node = Node::start(&memory, opened, SMALL);
    for round in 0..30u32 {
        let coins = (0..10).map(|at| round % 7 * 1_024_000 + at * 2500 + round % 3 * 100).collect();
        node.transact(round as usize, &coins).unwrap();
        match round {
            10 => node.checkpoint().unwrap(),
            20 => node.write_back(1).unwrap(),
            _ => {}
        }
    }
    let state = node.acknowledged;
    (memory, state)
}

#[test]
fn recovery_may_be_interrupted_anywhere() {
    let (memory, expected) = abandoned();
    for shards in [2, 5] {
        let before = memory.operations();
        let whole = memory.clone();
        let opened = open(&whole, shards, OTHER).unwrap();
        assert_eq!((state(&whole, &opened), opened.recovered), (expected.clone(), 19));
        let operations = whole.operations() - before;
        assert!(operations > 60, "{operations}");
        for crash_after in 1..=operations {
            let memory = memory.clone();
            memory.crash_after(crash_after);
            open(&memory, shards, OTHER).unwrap_err();
            memory.crash(crash_after);
            let opened = open(&memory, shards, OTHER).unwrap();
            assert_eq!(state(&memory, &opened), expected, "{shards} shards, crash after {crash_after}");
            assert_eq!(opened.sequence, 30);
            assert!(opened.shards.iter().all(|shard| shard.control.logs == shards));
        }
    }
}

#[test]
fn a_log_that_somebody_removed_is_missed() {
    let (memory, _) = abandoned();
    for shards in [3, 5, 2] {
        open(&memory, shards, SMALL).unwrap();
        for removed in (0..shards).rev() {
            let memory = memory.clone();
            logs::remove_tree(&memory, &files::log(removed)).unwrap();
            let error = open(&memory, shards, SMALL).unwrap_err().to_string();
            assert!(error.starts_with(&format!("log/{removed}")), "{error}");
        }
    }
}

#[test]
fn a_clean_start_has_nothing_to_replay_and_a_new_epoch() {
    let (memory, _) = abandoned();
    let first = open(&memory, 1, SMALL).unwrap();
    let second = open(&memory, 1, SMALL).unwrap();
    assert_eq!((second.recovered, second.repaired, second.sequence), (0, 0, 30));
    assert_eq!(second.shards[0].log.epoch, first.shards[0].log.epoch + 1);
    assert_eq!(memory.list(files::LOGS).unwrap(), ["0"]);
}

#[test]
fn a_batch_beyond_a_gap_stays_lost_even_when_the_gap_is_filled_alike() {
    let memory = new_directory();
    let append = |log: &mut Log, sequence: u64| {
        let to = CoinRecord { an: Secret::new([sequence as u8; 16]), mfs: Months::new(1) };
        let coin = CoinId::from_number(sequence as u32).unwrap();
        assert!(log.reserve(record_bytes(1, 0)));
        let change = Change { coin, from: PlaceKind::Free, to };
        log.append(&Commit { sequence, unix_ms: 0, group: 0, code: 0 }, [change].into_iter(), None);
        log.next_write().unwrap()
    };
    let write = |write: &LogWrite| {
        let path = files::segment(0, write.segment);
        memory.write_durably(&path, write.offset, &write.bytes[..write.length]).unwrap();
    };
    let mut log = Log::new(open(&memory, 1, SMALL).unwrap().shards[0].log, SMALL);
    append(&mut log, 1);
    write(&append(&mut log, 2));
    let opened = open(&memory, 1, SMALL).unwrap();
    assert_eq!(opened.recovered, 0);
    write(&append(&mut Log::new(opened.shards[0].log, SMALL), 1));
    assert_eq!(open(&memory, 1, SMALL).unwrap().recovered, 1);
}

#[test]
fn rot_in_a_log_is_named() {
    let (memory, _) = abandoned();
    // A log's ten batches have a block each, eight blocks a segment. Nothing tells that the last was ever durable.
    for batch in 0..9 {
        let (segment, offset) = (batch / 8, u64::from(batch) % 8 * 4096);
        let memory = memory.clone();
        memory.flip(&files::segment(1, segment), offset + 100);
        let error = open(&memory, 3, SMALL).unwrap_err().to_string();
        let says = format!(
            "log/1/segment-{segment} is damaged at offset {offset}, batch {} with answered commands is lost",
            batch + 1
        );
        assert!(error.starts_with(&says), "{error}");
    }
}

#[test]
fn rot_in_a_log_costs_nothing_where_all_it_said_is_in_place() {
    let (memory, _) = abandoned();
    let mut node = Node::start(&memory, open(&memory, 3, SMALL).unwrap(), SMALL);
    let coins: BTreeSet<u32> = [5, 1_024_005].into();
    (0..3).for_each(|_| node.transact(1, &coins).unwrap());
    node.checkpoint().unwrap();
    let rotten = memory.clone();
    rotten.flip(&files::segment(1, 0), 4096 + 100);
    let opened = open(&rotten, 3, SMALL).unwrap();
    assert_eq!((state(&rotten, &opened), opened.recovered), (node.acknowledged.clone(), 0));
    node.transact(1, &coins).unwrap();
    memory.flip(&files::segment(1, 0), 4096 + 100);
    assert!(matches!(open(&memory, 3, SMALL), Err(StoreError::LostBatch { offset: 4096, .. })));
}

/// The page of the coins that [`abandoned`] changes first.
fn a_page() -> PageNumber {
    CoinId::from_number(0).unwrap().page()
}

fn read_all(memory: &Memory, opened: &Opened) -> Result<(), StoreError> {
    read_pages(memory, 0, 1, &opened.used, &mut |_, _, _| {})
}

#[test]
fn a_rotten_page_is_named_and_not_taken_back_to_an_old_copy() {
    let (memory, _) = abandoned();
    open(&memory, 3, SMALL).unwrap();
    let opened = open(&memory, 1, SMALL).unwrap();
    memory.flip("coins/00.pages", 5000);
    let error = read_all(&memory, &opened).unwrap_err();
    assert!(matches!(error, StoreError::DamagedPage { page } if page == a_page()), "{error}");
    let opened = open(&memory, 1, SMALL).unwrap();
    assert_eq!(opened.repaired, 0);
    read_all(&memory, &opened).unwrap_err();
}

#[test]
fn a_used_page_that_reads_as_zeros_is_named() {
    let (memory, _) = abandoned();
    let opened = open(&memory, 1, SMALL).unwrap();
    memory.write_at("coins/00.pages", 0, &[0; PAGE_BYTES]).unwrap();
    let error = read_all(&memory, &opened).unwrap_err();
    assert!(matches!(error, StoreError::LostPage { page } if page == a_page()), "{error}");
    memory.create("coins/00.pages", files::COINS_BYTES, Zeros::Hole).unwrap();
    assert!(matches!(read_all(&memory, &opened), Err(StoreError::LostPage { .. })), "in a hole too");
}

#[test]
fn one_slot_of_a_control_block_may_rot_and_two_are_named() {
    let (memory, expected) = abandoned();
    for slot in 0..2 {
        let memory = memory.clone();
        memory.flip(&files::control(1), slot * 4096 + 30);
        let opened = open(&memory, 3, SMALL).unwrap();
        assert_eq!(state(&memory, &opened), expected, "slot {slot}");
    }
    memory.flip(&files::control(1), 30);
    memory.flip(&files::control(1), 4096 + 30);
    let error = open(&memory, 3, SMALL).unwrap_err().to_string();
    assert!(error.starts_with("log/1/control is damaged"), "{error}");
}

#[test]
fn what_is_lost_of_logs_and_orders_is_named() {
    let (memory, _) = abandoned();
    let fails = |damage: &dyn Fn(&Memory), says: &str| {
        let memory = memory.clone();
        damage(&memory);
        let error = open(&memory, 3, SMALL).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    };
    fails(&|memory| memory.remove("log/2/segment-1").unwrap(), "log/2/segment-1 is damaged");
    fails(&|memory| memory.rename("log/0", "log/7").unwrap(), "log/0/control is damaged");
    fails(&|memory| (0..2).for_each(|slot| memory.flip(&files::orders(0, slot), 20)), "log/0/orders-");
    fails(&|memory| memory.remove("coins/03.pages").unwrap(), "coins/03.pages is damaged");
    fails(&|memory| memory.flip("node", 28), "this is no data directory of this program: its file `node` names");
    fails(&|memory| memory.remove("node").unwrap(), "this is no data directory of this program: it has no file");
}

#[test]
fn a_new_directory_opens_empty_and_an_unfinished_one_not_at_all() {
    let memory = Memory::new();
    initialise(&memory, SMALL).unwrap();
    let operations = memory.operations();
    let opened = open(&memory, 2, SMALL).unwrap();
    assert_eq!((opened.sequence, opened.recovered, opened.used.count()), (0, 0, 0));
    assert_eq!(state(&memory, &opened), State::default());
    for crash_after in 1..operations {
        let memory = Memory::new();
        memory.crash_after(crash_after);
        initialise(&memory, SMALL).unwrap_err();
        memory.crash(crash_after);
        if let Err(error) = open(&memory, 2, SMALL) {
            assert!(matches!(error, StoreError::NotADataDirectory { .. }), "{error}");
        }
    }
}
