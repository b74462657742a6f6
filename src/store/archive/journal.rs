//! Tells every commit that archive and logs have, once, in an order in which the coins can be followed.
//!
//! Of each log first its files of the archive are read, then what it holds itself. Commits come in the order of their
//! sequences, those of one sequence by shard: a coin's commits have rising sequences, whichever logs they are in.
//!
//! # Beside a node that runs
//! It writes on, and overwrites what it has archived. So a log's control block is read before the archive is listed: what
//! was overwritten by then is in the list. When the chain of batches breaks, the control block is read again; where the log
//! has gone on past that place, the archive has what was missed. Of the log only what a later batch proves durable is told:
//! of the rest nobody was answered yet. A node at rest has proven everything after 50 ms, by a mark.
//!
//! In memory are a chunk of each log, and a few batches: never more, however long the journal is.

use std::collections::VecDeque;

use super::format::{CHUNK_HEADER_BYTES, FileName, HEADER_BYTES, compressed_bytes, decode_chunk};
use super::keep::{list, read_header};
use crate::store::control::Control;
use crate::store::error::StoreError;
use crate::store::files;
use crate::store::recovery::logs::{log_numbers, read_slots};
use crate::store::recovery::replay::source;
use crate::store::storage::Storage;
use crate::store::wal::{Batches, CommitRecord, Lost, scan};

/// Something of a log that is not told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    /// Batches that are in no file: they were overwritten while there was no archive, or their file was removed.
    Batches {
        /// The log.
        shard: u8,
        /// The highest sequence of it that was told before; 0: none was, the journal of this log begins here.
        after: u64,
    },
    /// A file is damaged, of the archive or of a log: what it has beyond this sequence is not told.
    Damaged {
        /// The file.
        path: String,
        /// The highest sequence of the log that was told before.
        after: u64,
    },
}

/// Files of the archive that are passed over: those without a record in this time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Milliseconds since 1970-01-01 UTC, from.
    pub since_ms: u64,
    /// To, not included.
    pub until_ms: u64,
}

impl Window {
    /// Whether a time is in it.
    pub fn contains(&self, unix_ms: u64) -> bool {
        (self.since_ms..self.until_ms).contains(&unix_ms)
    }
}

/// Archive and logs of a data directory.
pub struct Journal<'a> {
    storage: &'a dyn Storage,
    logs: Vec<Stream<'a>>,
    missing: VecDeque<Missing>,
}

impl<'a> Journal<'a> {
    /// At the beginning. `beside_a_node`: one runs on the directory. Else one may still start while it is read.
    ///
    /// # Errors
    /// What the storage fails with.
    pub fn new(storage: &'a dyn Storage, beside_a_node: bool, window: Option<Window>) -> Result<Self, StoreError> {
        let mut shards: Vec<u8> = list(storage)?.iter().map(|name| name.shard).collect();
        shards.extend(log_numbers(storage)?);
        shards.sort_unstable();
        shards.dedup();
        let logs = shards.into_iter().map(|shard| Stream::new(shard, beside_a_node, window)).collect();
        Ok(Self { storage, logs, missing: VecDeque::new() })
    }

    /// Gives every commit to `visit`, with the shard that made it; what is missing to `missing`, in its place.
    ///
    /// # Errors
    /// What the storage and the two fail with.
    pub fn read<E: From<StoreError>>(
        mut self,
        visit: &mut dyn FnMut(u8, &CommitRecord<'_>) -> Result<(), E>,
        missing: &mut dyn FnMut(Missing) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut next: Vec<Option<u64>> = vec![None; self.logs.len()];
        let mut changed: Vec<usize> = (0..self.logs.len()).collect();
        loop {
            for at in changed.drain(..) {
                next[at] = self.logs[at].next_sequence(self.storage, &mut self.missing)?;
            }
            self.missing.drain(..).try_for_each(&mut *missing)?;
            let first = next.iter().enumerate().filter_map(|(at, sequence)| Some((sequence.as_ref()?, at))).min();
            let Some((_, at)) = first else { return Ok(()) };
            let log = &mut self.logs[at];
            visit(log.shard, &log.take())?;
            changed.push(at);
        }
    }
}

/// A log, wherever it is.
struct Stream<'a> {
    shard: u8,
    beside_a_node: bool,
    window: Option<Window>,
    /// The highest sequence that was told, or passed over.
    told: u64,
    /// Epoch and number of the last batch that was told of, or passed over.
    last: Option<(u64, u64)>,
    files: VecDeque<FileName>,
    file: Option<OpenFile>,
    live: Option<Live<'a>>,
    /// Whole records; those before `at` are told.
    records: Vec<u8>,
    at: usize,
    has_ended: bool,
}

impl<'a> Stream<'a> {
    fn new(shard: u8, beside_a_node: bool, window: Option<Window>) -> Self {
        Self {
            shard,
            beside_a_node,
            window,
            told: 0,
            last: None,
            files: VecDeque::new(),
            file: None,
            live: None,
            records: Vec::new(),
            at: 0,
            has_ended: false,
        }
    }

    /// The sequence of the next record to be told, `None` at the end.
    fn next_sequence(
        &mut self,
        storage: &'a dyn Storage,
        missing: &mut VecDeque<Missing>,
    ) -> Result<Option<u64>, StoreError> {
        loop {
            while let Some((record, after)) = CommitRecord::decode(&self.records[self.at..]) {
                if record.commit.sequence > self.told {
                    return Ok(Some(record.commit.sequence));
                }
                self.at = self.records.len() - after.len();
            }
            if self.has_ended {
                return Ok(None);
            }
            self.at = 0;
            self.records.clear();
            self.has_ended = !self.load(storage, missing)?;
        }
    }

    /// The record that [`Stream::next_sequence`] found.
    fn take(&mut self) -> CommitRecord<'_> {
        let (record, after) = CommitRecord::decode(&self.records[self.at..]).expect("it was just found");
        self.told = record.commit.sequence;
        self.at = self.records.len() - after.len();
        record
    }

    /// Reads more records; `false`: there are none.
    fn load(&mut self, storage: &'a dyn Storage, missing: &mut VecDeque<Missing>) -> Result<bool, StoreError> {
        loop {
            if let Some(file) = &mut self.file {
                match file.next_chunk(storage)? {
                    Chunk::Records(records) => {
                        self.records = records;
                        return Ok(true);
                    }
                    Chunk::End if self.told >= file.name.last => {}
                    Chunk::End | Chunk::Damaged => {
                        missing.push_back(Missing::Damaged { path: file.name.path(), after: self.told });
                    }
                    Chunk::Removed => missing.push_back(Missing::Batches { shard: self.shard, after: self.told }),
                }
                self.told = self.told.max(file.name.last);
                storage.done_with(&file.name.path());
                self.file = None;
            } else if let Some(name) = self.files.pop_front() {
                self.open_file(storage, name, missing)?;
            } else if let Some(live) = &mut self.live {
                if let Some(records) = live.next_records()? {
                    self.last = Some((live.control.epoch, live.told_batch));
                    self.records = records;
                    return Ok(true);
                }
                let damage = live.damage(storage, self.told)?;
                if !live.is_overtaken(storage)? {
                    missing.extend(damage);
                    return Ok(false);
                }
                self.live = None;
                // Only a node overtakes: one runs now, even if none did at the beginning.
                self.beside_a_node = true;
            } else if !self.look_around(storage, missing)? {
                return Ok(false);
            }
        }
    }

    /// Finds out where the log goes on: in files, or in the log itself. `false`: nowhere.
    fn look_around(&mut self, storage: &'a dyn Storage, missing: &mut VecDeque<Missing>) -> Result<bool, StoreError> {
        // The control block first: what it lets be overwritten is in the list.
        let control = Control::newest(read_slots(storage, self.shard)?);
        let (shard, told) = (self.shard, self.told);
        self.files = list(storage)?.into_iter().filter(|name| name.shard == shard && name.last > told).collect();
        if !self.files.is_empty() {
            return Ok(true);
        }
        let Some(control) = control else {
            let path = files::control(shard);
            if storage.length(&path)?.is_some() {
                missing.push_back(Missing::Damaged { path, after: told });
            }
            return Ok(false);
        };
        self.note_gap(control.epoch, control.tail.batch, missing);
        self.live = Some(Live::new(storage, control, self.beside_a_node)?);
        Ok(true)
    }

    fn open_file(
        &mut self,
        storage: &dyn Storage,
        name: FileName,
        missing: &mut VecDeque<Missing>,
    ) -> Result<(), StoreError> {
        // Retention may have removed it just now: what follows tells of the gap.
        if storage.length(&name.path())?.is_none() {
            return Ok(());
        }
        let Some(header) = read_header(storage, &name)? else {
            missing.push_back(Missing::Damaged { path: name.path(), after: self.told });
            self.told = self.told.max(name.last);
            self.last = None;
            return Ok(());
        };
        self.note_gap(header.epoch, header.first_batch, missing);
        self.last = Some((header.epoch, header.last_batch));
        let is_wanted = |window: Window| header.latest_ms >= window.since_ms && header.earliest_ms < window.until_ms;
        if self.window.is_none_or(is_wanted) {
            self.file = Some(OpenFile { name, at: HEADER_BYTES as u64 });
        } else {
            storage.done_with(&name.path());
            self.told = self.told.max(name.last);
        }
        Ok(())
    }

    /// Tells of batches that are nowhere, before this one.
    fn note_gap(&mut self, epoch: u64, batch: u64, missing: &mut VecDeque<Missing>) {
        let follows = match self.last {
            None => batch == 1 || self.told > 0,
            Some((last_epoch, last)) if last_epoch == epoch => batch <= last + 1,
            // A new epoch goes on counting, maybe after a mark that no file has; a log made anew does not.
            Some((_, last)) => batch == 1 || batch <= last + 2,
        };
        if !follows {
            missing.push_back(Missing::Batches { shard: self.shard, after: self.told });
        }
    }
}

/// A file of the archive that is being read.
struct OpenFile {
    name: FileName,
    at: u64,
}

enum Chunk {
    Records(Vec<u8>),
    End,
    Damaged,
    /// By retention, just now.
    Removed,
}

impl OpenFile {
    fn next_chunk(&mut self, storage: &dyn Storage) -> Result<Chunk, StoreError> {
        let path = self.name.path();
        match storage.length(&path)? {
            Some(length) if length == self.at => return Ok(Chunk::End),
            Some(_) => {}
            None => return Ok(Chunk::Removed),
        }
        let mut header = [0; CHUNK_HEADER_BYTES];
        storage.read_what_is_there(&path, self.at, &mut header)?;
        let Some(bytes) = compressed_bytes(&header) else { return Ok(Chunk::Damaged) };
        let mut compressed = vec![0; bytes];
        storage.read_what_is_there(&path, self.at + CHUNK_HEADER_BYTES as u64, &mut compressed)?;
        self.at += (CHUNK_HEADER_BYTES + bytes) as u64;
        Ok(decode_chunk(&header, &compressed).map_or(Chunk::Damaged, Chunk::Records))
    }
}

/// A log that is being read.
struct Live<'a> {
    control: Control,
    batches: Batches<'a>,
    beside_a_node: bool,
    /// Batches that were read and not told: their number and records.
    held: VecDeque<(u64, Vec<u8>)>,
    /// Up to which batch all are durable.
    durable: u64,
    told_batch: u64,
}

impl<'a> Live<'a> {
    fn new(storage: &'a dyn Storage, control: Control, beside_a_node: bool) -> Result<Self, StoreError> {
        let batches = Batches::new(storage, source(&control))?;
        // Where no node runs the next start takes all that is whole.
        let durable = if beside_a_node { 0 } else { u64::MAX };
        let told_batch = control.tail.batch - 1;
        Ok(Self { told_batch, control, batches, beside_a_node, held: VecDeque::new(), durable })
    }

    fn next_records(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        loop {
            if self.held.front().is_some_and(|(number, _)| *number <= self.durable)
                && let Some((number, records)) = self.held.pop_front()
            {
                self.told_batch = number;
                return Ok(Some(records));
            }
            let Some(header) = self.batches.advance()? else { return Ok(None) };
            self.durable = self.durable.max(header.durable);
            self.held.push_back((header.number, self.batches.records(&header).to_vec()));
        }
    }

    /// Whether the log goes on behind what was read, as its disk has lost a batch. Beside a node nobody can tell that from a
    /// batch that is being written; its next start finds it.
    fn damage(&self, storage: &dyn Storage, after: u64) -> Result<Option<Missing>, StoreError> {
        if self.beside_a_node {
            return Ok(None);
        }
        let lost = scan(storage, &source(&self.control), &mut |_| Ok(()))?.lost;
        let path = |lost: Lost| files::segment(self.control.writer, lost.segment);
        Ok(lost.map(|lost| Missing::Damaged { path: path(lost), after }))
    }

    /// Whether the batch that was not found is one that the node has archived meanwhile.
    fn is_overtaken(&self, storage: &dyn Storage) -> Result<bool, StoreError> {
        let now = Control::newest(read_slots(storage, self.control.writer)?);
        Ok(now.is_none_or(|now| now.epoch != self.control.epoch || now.tail.batch > self.batches.next_batch()))
    }
}
