//! Puts what a log holds into the archive, and removes what is too old.
//!
//! A file is written under another name, made durable, renamed, and the directory made durable: what has a name of the
//! archive is complete. A crash at any point leaves the log as it was, and it is done again; what is there is left alone.
//!
//! # A full disk
//! Coin files have holes that must still be filled: a checkpoint that finds no room ends all writing, and the next start
//! needs it, too. So on their disk the archive leaves free what they may yet grow, and something for payout addresses and
//! the operator's files. Short of that its oldest files go, as beyond any other bound; where these are not enough nothing
//! is archived, and the full log refuses writes, until there is room again.

use std::io;

use super::answers;
use super::format::{CHUNK_RECORDS_BYTES, FileName, HEADER_BYTES, Header, encode_chunk};
use crate::coin::Denomination;
use crate::store::error::StoreError;
use crate::store::files::{self, UNFINISHED};
use crate::store::storage::{Storage, Zeros};
use crate::store::wal::{Batches, CommitRecord, Source};

/// Left free on the coin files' disk beside what they may grow.
const SLACK_BYTES: u64 = 64 << 20;

/// The files of the archive, the oldest first.
///
/// # Errors
/// What the storage fails with.
pub fn list(storage: &dyn Storage) -> Result<Vec<FileName>, StoreError> {
    let mut names: Vec<FileName> =
        storage.list(files::ARCHIVE)?.iter().filter_map(|name| FileName::parse(name)).collect();
    names.sort_unstable();
    Ok(names)
}

/// The highest sequence of the archive, 0 where it has none: the clocks of a node start above it.
///
/// # Errors
/// What the storage fails with.
pub fn highest(storage: &dyn Storage) -> Result<u64, StoreError> {
    Ok(list(storage)?.iter().map(|name| name.last).max().unwrap_or(0))
}

/// Archives a log from its tail up to `last_batch`, all of which is durable: a file for each segment that has records.
/// Those that are there already are left as they are. Returns how many were made.
///
/// A batch that the disk has lost ends it, as recovery does; it is said in the log, and the journal tells of the gap.
///
/// # Errors
/// What the storage fails with; a file that was not finished has no name of the archive.
pub fn keep(storage: &dyn Storage, source: &Source, last_batch: u64) -> Result<u64, StoreError> {
    if source.tail.batch > last_batch {
        return Ok(0);
    }
    let there = list(storage)?;
    let mut batches = Batches::new(storage, *source)?;
    let mut made = 0;
    let mut file: Option<Unfinished<'_>> = None;
    while batches.next_batch() <= last_batch {
        let Some(header) = batches.advance()? else {
            let (segment, offset) = batches.due();
            let (path, batch) = (files::segment(source.writer, segment), batches.next_batch());
            let lost = StoreError::LostBatch { path, offset, batch };
            log::error!("{lost}: it and what follows it in its segment are not in the archive");
            break;
        };
        if file.as_ref().is_some_and(|file| file.segment != batches.last_segment()) {
            made += finish(file.take())?;
        }
        let file = file.get_or_insert_with(|| Unfinished::new(storage, source, batches.last_segment(), header.number));
        file.header.last_batch = header.number;
        let mut rest = batches.records(&header);
        while let Some((record, after)) = CommitRecord::decode(rest) {
            let length = rest.len() - after.len();
            file.add(&record, &rest[..length], &there)?;
            rest = after;
        }
    }
    made += finish(file)?;
    Ok(made)
}

fn finish(file: Option<Unfinished<'_>>) -> Result<u64, StoreError> {
    file.map_or(Ok(0), |file| file.finish().map(u64::from))
}

/// A file that is being written.
struct Unfinished<'a> {
    storage: &'a dyn Storage,
    segment: u16,
    /// It will not have more.
    bytes_max: u64,
    header: Header,
    /// Where the next chunk goes; 0: there is no file yet.
    at: u64,
    /// Records of the next chunk.
    records: Vec<u8>,
    /// The same segment was archived before.
    is_there: bool,
}

impl<'a> Unfinished<'a> {
    fn new(storage: &'a dyn Storage, source: &Source, segment: u16, first_batch: u64) -> Self {
        let header = Header {
            shard: source.writer,
            epoch: source.epoch,
            first_batch,
            last_batch: first_batch,
            first_sequence: 0,
            last_sequence: 0,
            earliest_ms: u64::MAX,
            latest_ms: 0,
            records: 0,
        };
        Self { storage, segment, bytes_max: source.segment_bytes, header, at: 0, records: Vec::new(), is_there: false }
    }

    fn path(&self) -> String {
        format!("{}/{:02}{UNFINISHED}", files::ARCHIVE, self.header.shard)
    }

    fn add(&mut self, record: &CommitRecord<'_>, bytes: &[u8], there: &[FileName]) -> Result<(), StoreError> {
        let header = &mut self.header;
        if header.records == 0 {
            header.first_sequence = record.commit.sequence;
            let (shard, first) = (header.shard, header.first_sequence);
            self.is_there = there.iter().any(|name| (name.shard, name.first) == (shard, first));
        }
        header.last_sequence = record.commit.sequence;
        header.earliest_ms = header.earliest_ms.min(record.commit.unix_ms);
        header.latest_ms = header.latest_ms.max(record.commit.unix_ms);
        header.records += 1;
        if self.is_there {
            return Ok(());
        }
        self.records.extend_from_slice(bytes);
        if self.records.len() >= CHUNK_RECORDS_BYTES { self.write_chunk() } else { Ok(()) }
    }

    fn write_chunk(&mut self) -> Result<(), StoreError> {
        let path = self.path();
        if self.at == 0 {
            make_room(self.storage, self.bytes_max)?;
            self.storage.create(&path, 0, Zeros::Hole)?;
            self.at = HEADER_BYTES as u64;
        }
        let chunk = encode_chunk(&self.records);
        self.records.clear();
        self.storage.write_at(&path, self.at, &chunk)?;
        self.at += chunk.len() as u64;
        Ok(())
    }

    /// Whether it is a new file of the archive.
    fn finish(mut self) -> Result<bool, StoreError> {
        if self.is_there || self.header.records == 0 {
            return Ok(false);
        }
        if !self.records.is_empty() {
            self.write_chunk()?;
        }
        let path = self.path();
        self.storage.write_at(&path, 0, &self.header.encode())?;
        self.storage.sync(&path)?;
        self.storage.rename(&path, &self.header.name().path())?;
        self.storage.sync_directory(files::ARCHIVE)?;
        Ok(true)
    }
}

/// Makes room for a file of so many bytes, at the cost of the oldest where it must be.
///
/// # Errors
/// Where that is not enough: then nothing is removed.
fn make_room(storage: &dyn Storage, bytes: u64) -> Result<(), StoreError> {
    let room = storage.room(files::ARCHIVE)?;
    let shares_disk = storage.room(files::COINS)?.disk == room.disk;
    let wanted = bytes + if shares_disk { reserve(storage)? } else { 0 };
    if room.free_bytes >= wanted {
        return Ok(());
    }
    let mut free = room.free_bytes;
    let mut oldest = Vec::new();
    for name in list(storage)? {
        if free >= wanted {
            break;
        }
        free = free.saturating_add(storage.taken_bytes(&name.path())?);
        oldest.push(name);
    }
    if free < wanted {
        let why = format!("{} bytes of the disk are free, {wanted} have to be", room.free_bytes);
        return Err(StoreError::io("add to", files::ARCHIVE)(io::Error::new(io::ErrorKind::StorageFull, why)));
    }
    log::warn!("the disk is nearly full: the {} oldest files of the archive are removed", oldest.len());
    remove(storage, &oldest)
}

/// What the coin files may still grow, and some.
fn reserve(storage: &dyn Storage) -> Result<u64, StoreError> {
    let grows = |den| Ok(files::COINS_BYTES.saturating_sub(storage.taken_bytes(&files::coins(den))?));
    Denomination::all().map(grows).try_fold(SLACK_BYTES, |sum, bytes: Result<u64, StoreError>| Ok(sum + bytes?))
}

fn remove(storage: &dyn Storage, names: &[FileName]) -> Result<(), StoreError> {
    names.iter().try_for_each(|name| storage.remove(&name.path()))?;
    if names.is_empty() { Ok(()) } else { storage.sync_directory(files::ARCHIVE) }
}

/// How much of the archive is kept. The oldest files go first, whichever bound they are beyond.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Bytes of all files together.
    pub bytes_max: u64,
    /// How long ago a file's last record may be, milliseconds.
    pub age_ms_max: u64,
}

/// Removes what is beyond the bounds, of segments as of answers; the latter are too few bytes to count. Returns how many
/// files.
///
/// # Errors
/// What the storage fails with.
pub fn retain(storage: &dyn Storage, retention: &Retention, now_ms: u64) -> Result<u64, StoreError> {
    let names = list(storage)?;
    let lengths: Vec<u64> =
        names.iter().map(|name| Ok(storage.length(&name.path())?.unwrap_or(0))).collect::<Result<_, StoreError>>()?;
    let mut bytes: u64 = lengths.iter().sum();
    // So many of the oldest go.
    let mut count = 0;
    while bytes > retention.bytes_max {
        bytes -= lengths[count];
        count += 1;
    }
    for (name, number) in names.iter().zip(1..).skip(count) {
        // One that is damaged, or of a clock that was wrong, has no time: it goes with the next that has.
        let latest_ms = read_header(storage, name)?.map(|header| header.latest_ms).filter(|time| *time <= now_ms);
        match latest_ms.map(|time| now_ms - time > retention.age_ms_max) {
            Some(true) => count = number,
            Some(false) => break,
            None => {}
        }
    }
    remove(storage, &names[..count])?;
    Ok(answers::retain(storage, retention, now_ms)? + count as u64)
}

/// The header of a file, `None` where it is damaged, or another's.
///
/// # Errors
/// What the storage fails with.
pub fn read_header(storage: &dyn Storage, name: &FileName) -> Result<Option<Header>, StoreError> {
    let mut bytes = [0; HEADER_BYTES];
    storage.read_what_is_there(&name.path(), 0, &mut bytes)?;
    Ok(Header::decode(&bytes).filter(|header| header.name() == *name))
}
