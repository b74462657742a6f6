//! A node of shards in memory, with its clients.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use crate::coin::{CoinId, CoinRecord, Months, PageNumber, Place, Secret, TradeCoin};
use crate::entropy::{Entropy, split_mix};
use crate::settings::{DATAGRAM_BYTES_MAX, Identifier, Settings, Settlement};
use crate::shard::Shard;
use crate::shard::acts::Act;
use crate::shard::backup::{BackupAnswer, BackupQuestion, BackupRefusal};
use crate::shard::interface::{ActDone, DiskDone, DiskError, DiskOp, Input, Now, Origin, Outputs, ShardFile, ShardId};
use crate::shard::message::Message;
use crate::shard::start::build_all;
use crate::shard::suspensions::Suspensions;
use crate::store::control::UsedPages;
use crate::store::double_write::page_at;
use crate::store::error::StoreError;
use crate::store::layout::{BLOCK_BYTES, PAGE_BYTES, PageFrame, PageState};
use crate::store::pages::{PageWriter, read_page, read_pages};
use crate::store::storage::{Memory, Storage};
use crate::store::wal::{Geometry, record_bytes};
use crate::store::{archive, files, recovery};
use crate::wire::header::{KeyName, NodeIdentity};
use crate::wire::reply;
use crate::wire::request::Request;
use crate::wire::seal::{self, Key, RequestRandom};
use crate::wire::status::Status;

use super::Seeded;
use super::journal::Expected;

/// How a world is made.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Shards of the node.
    pub shards: u8,
    /// Pages in each shard's cache.
    pub cache_pages: usize,
    /// From which everything follows.
    pub seed: u64,
    /// The sizes of each shard's log.
    pub geometry: Geometry,
    /// Whether it keeps what the logs held.
    pub archive: bool,
}

impl WorldOptions {
    /// Few pages and small segments, so that eviction, checkpoints and recycling happen all the time.
    pub fn small(shards: u8, seed: u64) -> Self {
        let geometry = Geometry {
            segment_bytes: 128 << 10,
            segments: 3,
            batch_bytes_max: 64 << 10,
            record_bytes_max: record_bytes(1000, 1),
        };
        Self { shards, cache_pages: 8, seed, geometry, archive: false }
    }

    /// A log that is full after a few commands, none of which names more than 64 coins.
    pub fn with_tiny_log(self, segment_blocks: u64) -> Self {
        let geometry = Geometry {
            segment_bytes: segment_blocks * BLOCK_BYTES as u64,
            segments: 3,
            batch_bytes_max: 2 * BLOCK_BYTES,
            record_bytes_max: record_bytes(64, 1),
        };
        Self { geometry, ..self }
    }

    /// With an archive.
    pub fn with_archive(self) -> Self {
        Self { archive: true, ..self }
    }

    fn settings(&self) -> Settings {
        Settings {
            raida_id: 0,
            coin_id: 6,
            shards: self.shards,
            cache_pages: self.cache_pages,
            requests_max: 256,
            coins_max: 100_000,
            offers_max: 64,
            rate_addresses_max: 64,
            break_limit: 30,
            break_window_s: 8 * 3600,
            break_exempt_loopback: true,
            reservation_ms: 16_000,
            datagram_bytes_max: DATAGRAM_BYTES_MAX,
            pown_sum: true,
            durable: true,
            archive: self.archive,
            settlement: [Settlement::Trusted; TradeCoin::ALL.len()],
            identifier: Identifier::Hashed,
            treasury: None,
        }
    }
}

/// Who sends a request, and how it is sealed.
#[derive(Clone)]
pub struct Client {
    /// The shard whose reactor has the connection.
    pub shard: u8,
    /// The address.
    pub peer: IpAddr,
    /// Whether it sends datagrams.
    pub datagram: bool,
    /// What names the key.
    pub key_name: KeyName,
    /// The key.
    pub key: Key,
}

impl Default for Client {
    fn default() -> Self {
        let peer = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        Self { shard: 0, peer, datagram: false, key_name: KeyName::None, key: Key::None }
    }
}

/// What can be slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Messages from a shard to another.
    Road(u8, u8),
    /// A shard's disk operations.
    Disk(u8),
    /// A shard's reads of pages.
    Reads(u8),
    /// Of a shard's writes the eldest: those that came later overtake it.
    Eldest(u8),
    /// A shard's writes of its control block.
    Control(u8),
    /// A shard's way to the archive.
    Archive(u8),
}

/// A running node and its made-up surroundings.
pub struct World {
    /// The disk.
    pub storage: Memory,
    /// The node's settings; they count from the next start on.
    pub settings: Settings,
    /// What is suspended; it counts from the next start on.
    pub suspensions: Suspensions,
    /// Milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    /// Microseconds of the clock that never goes back.
    pub monotonic_us: u64,
    /// After so many more writes that succeed one fails, and leaves anything between nothing and all of it.
    pub write_fails_after: Option<u64>,
    /// After so many more page reads that succeed one fails.
    pub read_fails_after: Option<u64>,
    /// The pages whose read failed, or brought damage.
    pub unreadable: Vec<PageNumber>,
    /// Reads and writes that failed so far.
    pub failed: (u64, u64),
    /// No write finds room on the disk.
    pub disk_full: bool,
    /// So many times from now on the archive takes nothing.
    pub archive_fails: u64,
    /// Whether it has, since the start.
    pub archive_has_failed: bool,
    /// How slow the disk is: 1 as fast as messages, 16 a sixteenth of that.
    pub disk_slowness: usize,
    /// What is slow: it happens only once it is taken out of here.
    pub held: Vec<Held>,
    /// A number that any other answer, disk operation or order of them would change.
    pub digest: u64,
    /// The entropy that shards drew for ANs, the newest last.
    pub drawn: Vec<[u8; 16]>,
    /// Messages from one shard to another so far.
    pub messages_sent: u64,
    /// What the journal must tell.
    pub journal: Expected,
    geometry: Geometry,
    random: Seeded,
    shards: Vec<Shard>,
    /// Messages under way, by (from, to).
    messages: HashMap<(u8, u8), VecDeque<Message>>,
    disk: Vec<(u8, DiskOp)>,
    answers: HashMap<u64, Vec<u8>>,
    /// Acts that ended, by token and shard.
    acts: HashMap<(u64, u8), ActDone>,
    next_token: u64,
    sent: HashMap<u64, seal::Sealed>,
}

impl World {
    /// A node on a new, empty data directory, started.
    pub fn new(options: &WorldOptions) -> Self {
        let storage = Memory::new();
        recovery::initialise(&storage, options.geometry).expect("a new storage in memory");
        let mut world = Self::on(storage, options);
        world.start();
        world
    }

    /// A node on a data directory, not started.
    pub fn on(storage: Memory, options: &WorldOptions) -> Self {
        Self {
            storage,
            settings: options.settings(),
            suspensions: Suspensions::default(),
            unix_ms: 1_795_219_200_000,
            monotonic_us: 1_000_000,
            write_fails_after: None,
            read_fails_after: None,
            unreadable: Vec::new(),
            failed: (0, 0),
            disk_full: false,
            archive_fails: 0,
            archive_has_failed: false,
            disk_slowness: 1,
            held: Vec::new(),
            digest: options.seed,
            drawn: Vec::new(),
            messages_sent: 0,
            journal: Expected::default(),
            geometry: options.geometry,
            random: Seeded(options.seed),
            shards: Vec::new(),
            messages: HashMap::new(),
            disk: Vec::new(),
            answers: HashMap::new(),
            acts: HashMap::new(),
            next_token: 0,
            sent: HashMap::new(),
        }
    }

    /// Recovers the data directory and starts the shards.
    ///
    /// # Panics
    /// When it does not recover.
    pub fn start(&mut self) {
        self.try_start().expect("a data directory that recovers");
    }

    /// Recovers the data directory and starts the shards.
    ///
    /// # Errors
    /// What is wrong with the directory. It can be tried again.
    pub fn try_start(&mut self) -> Result<(), StoreError> {
        let shards = self.settings.shards;
        if self.settings.archive {
            archive::make(&self.storage)?;
        }
        let opened = recovery::open(&self.storage, shards, self.geometry)?;
        self.shards = build_all(&self.settings, &opened, self.geometry, &mut self.random, |mut page| {
            read_pages(&self.storage, &opened.used, &mut page)
        })?;
        self.shards.iter_mut().for_each(|shard| shard.begin_suspended(self.suspensions.clone()));
        Ok(())
    }

    /// Stops at once, as a machine without power does, and starts again with this many shards. Of writes under way the
    /// disk has anything between nothing and all.
    pub fn crash(&mut self, shards: u8) {
        self.stop(true);
        self.settings.shards = shards;
        self.start();
    }

    /// The node is no more: killed (whatever the disk had not yet done may be done or not), or with the power (and
    /// what was not synced may be lost). What it was asked is never answered.
    pub fn stop(&mut self, power: bool) {
        for (shard, op) in std::mem::take(&mut self.disk) {
            if power || self.random.one_in(2) {
                self.write_in_part(shard, &op);
            }
        }
        self.write_fails_after = None;
        self.read_fails_after = None;
        self.disk_full = false;
        self.archive_fails = 0;
        self.archive_has_failed = false;
        self.held.clear();
        if power {
            self.storage.crash(self.random.number());
        }
        self.shards.clear();
        self.messages.clear();
        self.answers.clear();
        self.acts.clear();
        self.sent.clear();
    }

    /// Mints coins while the node is down: writes pages to their places. Only for a world not started.
    pub fn mint(storage: &dyn Storage, coins: &[(CoinId, Secret)], month: u8) {
        let mut opened = recovery::open_as_it_is(storage).expect("a data directory");
        let mut used = UsedPages::none();
        let mut writer = PageWriter::new(storage, 0);
        let mut coins = coins.to_vec();
        coins.sort_by_key(|(coin, _)| *coin);
        for of_page in coins.chunk_by(|a, b| a.0.page() == b.0.page()) {
            let page = of_page[0].0.page();
            let mut frame = PageFrame::zeroed();
            read_page(storage, page, &opened.used, &mut frame).expect("a whole page");
            for (coin, an) in of_page {
                frame.set_record(coin.slot(), CoinRecord { an: *an, mfs: Months::new(month) });
            }
            frame.seal(page, 0);
            writer.add(page, &frame).expect("room");
            used.insert(page);
        }
        writer.finish().expect("pages written");
        let sequence = opened.sequence;
        recovery::note_pages(storage, &mut opened, &used, sequence).expect("control blocks written");
    }

    /// Sends a request; its answer comes with [`World::answer`].
    pub fn send(&mut self, client: &Client, request: &Request<'_>) -> u64 {
        let mut payload = Vec::new();
        request.encode(&mut payload);
        self.send_payload(client, request.command(), &payload)
    }

    /// Sends a payload, whatever is in it, as a command's.
    pub fn send_payload(
        &mut self,
        client: &Client,
        command: &'static crate::wire::request::Command,
        payload: &[u8],
    ) -> u64 {
        let node = NodeIdentity { raida_id: self.settings.raida_id, coin_id: self.settings.coin_id };
        let mut random = [0; 24 + 12];
        self.random.fill(&mut random);
        let random = RequestRandom {
            nonce: *random.first_chunk().expect("24 bytes"),
            challenge: *random.last_chunk().expect("12 bytes"),
        };
        let mut frame = Vec::new();
        let sealed = seal::seal(&mut frame, node, command, (client.key_name, &client.key), payload, random)
            .expect("a payload that a request can have");
        let token = self.send_frame(client, &frame);
        self.sent.insert(token, sealed);
        token
    }

    /// Sends bytes.
    pub fn send_frame(&mut self, client: &Client, frame: &[u8]) -> u64 {
        self.next_token += 1;
        let origin = Origin { token: self.next_token, peer: client.peer, datagram: client.datagram };
        let shard = client.shard % self.settings.shards;
        self.step(shard, Input::Request { origin, frame });
        self.next_token
    }

    /// Sends a request and runs until its answer is there: status and payload.
    pub fn call(&mut self, client: &Client, request: &Request<'_>) -> (Status, Vec<u8>) {
        let token = self.send(client, request);
        self.settle();
        self.answer(client, token).expect("an answer when nothing is left to do")
    }

    /// The answer to a request, once it is there: status and payload. `None` too where the node closed the connection
    /// instead: see [`World::closed`].
    pub fn answer(&mut self, client: &Client, token: u64) -> Option<(Status, Vec<u8>)> {
        let bytes = self.answers.remove(&token)?;
        if bytes.is_empty() {
            self.answers.insert(token, bytes);
            return None;
        }
        let sealed = self.sent.remove(&token).expect("a request that was sealed");
        let mut payload = Vec::new();
        let summary = reply::read(&bytes, &sealed, &client.key, &mut payload).expect("a good reply");
        Some((summary.status, payload))
    }

    /// Whether the node closed a request's connection without an answer.
    pub fn closed(&self, token: u64) -> bool {
        self.answers.get(&token).is_some_and(Vec::is_empty)
    }

    /// Tells every shard an act of the operator; whether it is done comes with [`World::acted`].
    pub fn act(&mut self, act: &Act) -> u64 {
        self.next_token += 1;
        let token = self.next_token;
        (0..self.settings.shards).for_each(|shard| self.step(shard, Input::Act { token, act: act.clone() }));
        token
    }

    /// Whether an act was done on every shard, once it has ended on all; `None` before.
    pub fn acted(&self, token: u64) -> Option<bool> {
        (0..self.settings.shards).try_fold(true, |done, shard| Some(done & self.acts.get(&(token, shard))?.done))
    }

    /// Where a coin is, as its owner says; `None` where that is not heard of.
    pub fn located(&mut self, coin: CoinId) -> Option<Place> {
        let token = self.act(&Act::Locate(coin));
        self.settle();
        (0..self.settings.shards).find_map(|shard| self.acts.get(&(token, shard))?.place)
    }

    /// The answer's bytes, once they are there.
    pub fn answer_bytes(&mut self, token: u64) -> Option<Vec<u8>> {
        self.answers.remove(&token)
    }

    /// Runs until nothing is left to do.
    pub fn settle(&mut self) {
        while self.advance() {}
    }

    /// Does one thing, chosen by the seed: delivers a message, ends a disk operation, or ends a shard's turn.
    /// `false`: nothing is left to do, but for what is held up.
    pub fn advance(&mut self) -> bool {
        let roads = self.roads();
        let disk = self.disk_operations();
        let choices = roads.len() + disk.len();
        if choices == 0 {
            // Turns end when there is nothing else: what they start is then left to do. If that is nothing, time passes
            // until a shard wants to be woken.
            return self.end_turns() || self.pass_time() && self.end_turns();
        }
        if self.random.one_in(4) {
            let shard = self.random.below(self.shards.len()) as u8;
            self.step(shard, Input::Turn);
        }
        self.monotonic_us += 1;
        let choice = self.random.below(choices);
        if let Some(&(from, to)) = roads.get(choice) {
            let message = self.messages.get_mut(&(from, to)).and_then(VecDeque::pop_front).expect("a message");
            self.step(to, Input::Message { from: ShardId(from), message });
        } else if self.disk_slowness == 1 || self.random.one_in(self.disk_slowness) {
            let (shard, op) = self.disk.remove(disk[choice - roads.len()]);
            let done = self.carry_out(shard, op);
            self.step(shard, Input::Disk(done));
        }
        true
    }

    /// Whether that started anything.
    fn end_turns(&mut self) -> bool {
        for shard in 0..self.settings.shards {
            self.step(shard, Input::Turn);
        }
        !self.disk_operations().is_empty() || !self.roads().is_empty()
    }

    /// Whether anybody waits for the clock.
    fn pass_time(&mut self) -> bool {
        let wake_at_us = self.shards.iter().filter_map(Shard::wake_at_us).min();
        self.monotonic_us = self.monotonic_us.max(wake_at_us.unwrap_or(0));
        wake_at_us.is_some()
    }

    /// The roads with messages that are not held up, in order.
    fn roads(&self) -> Vec<(u8, u8)> {
        let moving = self
            .messages
            .iter()
            .filter(|((from, to), queue)| !queue.is_empty() && !self.held.contains(&Held::Road(*from, *to)));
        let mut roads: Vec<(u8, u8)> = moving.map(|(&road, _)| road).collect();
        roads.sort_unstable();
        roads
    }

    /// The disk operations that are not held up.
    fn disk_operations(&self) -> Vec<usize> {
        let is_write = |op: &DiskOp| matches!(op, DiskOp::Write { .. } | DiskOp::WritePages { .. });
        let writes = |(shard, op): &(u8, DiskOp), of: u8| *shard == of && is_write(op);
        let eldest = |index: usize| !self.disk[..index].iter().any(|op| writes(op, self.disk[index].0));
        let held = |index: usize| {
            let (shard, op) = &self.disk[index];
            let read = matches!(op, DiskOp::ReadPage { .. });
            let write = is_write(op);
            self.held.iter().any(|held| match held {
                Held::Road(..) => false,
                Held::Disk(slow) => slow == shard,
                Held::Reads(slow) => slow == shard && read,
                Held::Eldest(slow) => slow == shard && write && eldest(index),
                Held::Archive(slow) => slow == shard && matches!(op, DiskOp::Archive(_)),
                Held::Control(slow) => slow == shard && matches!(op, DiskOp::Write { file: ShardFile::Control, .. }),
            })
        };
        (0..self.disk.len()).filter(|&index| !held(index)).collect()
    }

    /// Stops the node as SIGTERM does, in the midst of whatever it does, and says whether every shard came to an end.
    pub fn shut_down(&mut self) -> bool {
        for shard in 0..self.settings.shards {
            self.step(shard, Input::Shutdown);
        }
        self.settle();
        self.shards.iter().all(Shard::stopped)
    }

    /// A shard, to look at.
    pub fn shard(&self, shard: u8) -> &Shard {
        &self.shards[shard as usize]
    }

    /// Asks a shard a backup's question.
    ///
    /// # Errors
    /// Why it does no more for the backup.
    pub fn back_up(&mut self, shard: u8, question: BackupQuestion) -> Result<BackupAnswer, BackupRefusal> {
        self.shards[shard as usize].back_up(question)
    }

    fn step(&mut self, shard: u8, input: Input<'_>) {
        let mut out = Outputs::default();
        let now = Now { monotonic_us: self.monotonic_us, unix_ms: self.unix_ms };
        let entropy = &mut Recording { random: &mut self.random, drawn: &mut self.drawn };
        self.shards[shard as usize].step(now, entropy, input, &mut out);
        self.archive_has_failed |= self.shards[shard as usize].archive_is_failing();
        for reply in out.replies {
            self.digest = mix(self.digest, reply.token, &out.bytes[reply.start..reply.end]);
            let before = self.answers.insert(reply.token, out.bytes[reply.start..reply.end].to_vec());
            assert!(before.is_none(), "a request is answered once");
        }
        for ended in out.acts {
            let before = self.acts.insert((ended.token, shard), ended);
            assert!(before.is_none(), "an act ends once");
        }
        self.messages_sent += out.messages.len() as u64;
        for (to, message) in out.messages {
            self.messages.entry((shard, to.0)).or_default().push_back(message);
        }
        for op in out.disk {
            log::debug!("  shard {shard} asks for {}", told(&op));
            self.journal.asked(shard, &op);
            writes(shard, &op, |_, offset, bytes| self.digest = mix(self.digest, offset, bytes));
            self.disk.push((shard, op));
        }
    }

    fn carry_out(&mut self, shard: u8, mut op: DiskOp) -> DiskDone {
        let error = match &mut op {
            DiskOp::ReadPage { page, .. } if is_over(&mut self.read_fails_after) => {
                self.unreadable.push(*page);
                Some(EIO)
            }
            DiskOp::ReadPage { page, frame } => {
                let read = self.storage.read_at(&coins(*page), files::page_offset(*page), frame.bytes_mut());
                if frame.state(*page) == PageState::Damaged {
                    self.unreadable.push(*page);
                }
                read.err().map(|_| EIO)
            }
            // A disk of its own, as it were.
            DiskOp::Archive(_) if self.archive_fails > 0 => {
                self.archive_fails -= 1;
                Some(ENOSPC)
            }
            DiskOp::Archive(full) => archive::keep(&self.storage, &full.source, full.last_batch).err().map(|_| EIO),
            _ if self.disk_full => Some(ENOSPC),
            op if is_over(&mut self.write_fails_after) => {
                self.write_in_part(shard, op);
                Some(EIO)
            }
            op => {
                let mut failed = None;
                writes(shard, op, |path, offset, bytes| {
                    failed = failed.or(self.storage.write_durably(path, offset, bytes).err().map(|_| EIO));
                });
                failed
            }
        };
        if error.is_some() && !matches!(op, DiskOp::Archive(_)) {
            let reads = matches!(op, DiskOp::ReadPage { .. });
            *(if reads { &mut self.failed.0 } else { &mut self.failed.1 }) += 1;
        }
        let outcome = if error.is_some() { "failed" } else { "done" };
        log::debug!("  shard {shard}: {} {outcome}", told(&op));
        if error.is_none() {
            self.journal.done(shard, &op);
        }
        DiskDone { op, result: error.map_or(Ok(()), |errno| Err(DiskError { errno })) }
    }

    /// A write that does not come to its end: which of its bytes the disk has, the next crash decides.
    fn write_in_part(&mut self, shard: u8, op: &DiskOp) {
        if let DiskOp::Archive(full) = op {
            self.storage.crash_after(1 + self.random.below(8) as u64);
            let kept = archive::keep(&self.storage, &full.source, full.last_batch);
            log::debug!("  a segment was being archived: {kept:?}");
            self.storage.go_on();
            return;
        }
        writes(shard, op, |path, offset, bytes| {
            self.storage.write_at(path, offset, bytes).expect("a file of the data directory");
        });
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A number that depends on another, on a third, and on bytes.
fn mix(digest: u64, number: u64, bytes: &[u8]) -> u64 {
    split_mix(&mut (digest ^ number.rotate_left(32) ^ u64::from(crc32c::crc32c(bytes))))
}

/// A disk operation, for whoever reads a trace.
fn told(op: &DiskOp) -> String {
    match op {
        DiskOp::ReadPage { page, .. } => {
            format!("a read of page {} of denomination {}", page.in_denomination(), page.denomination())
        }
        DiskOp::Write { file, offset, length, .. } => format!("a write of {length} bytes at {offset} of {file:?}"),
        DiskOp::WritePages { pages, .. } => format!("a write of {} pages in place", pages.len()),
        DiskOp::Archive(full) => format!("segment {} to be archived", full.source.tail.segment),
    }
}

/// Counts down to a failure; `true`: now.
fn is_over(left: &mut Option<u64>) -> bool {
    match left {
        None => false,
        Some(0) => {
            *left = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
    }
}

/// Shows each write of an operation: file, place, bytes.
fn writes(shard: u8, op: &DiskOp, mut write: impl FnMut(&str, u64, &[u8])) {
    match op {
        DiskOp::ReadPage { .. } | DiskOp::Archive(_) => {}
        DiskOp::Write { file, offset, bytes, length } => {
            write(&file.path(ShardId(shard)), *offset, &bytes[..*length]);
        }
        DiskOp::WritePages { pages, bytes } => {
            for (index, &page) in pages.iter().enumerate() {
                write(&coins(page), files::page_offset(page), &bytes[page_at(index)..page_at(index) + PAGE_BYTES]);
            }
        }
    }
}

/// Entropy that remembers what it gave for ANs: those are 16 bytes, others more.
struct Recording<'a> {
    random: &'a mut Seeded,
    drawn: &'a mut Vec<[u8; 16]>,
}

impl Entropy for Recording<'_> {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.random.fill(bytes);
        self.drawn.extend(<[u8; 16]>::try_from(&*bytes));
    }
}

fn coins(page: PageNumber) -> String {
    files::coins(page.denomination())
}
