//! Reads a backup: first all of it for its checksum, then entry by entry. Nothing in it is believed before it was looked
//! at: what is wrong is an error that says so, however the file came to be so.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take};

use lz4_flex::frame::FrameDecoder;
use sha2::{Digest, Sha256};

use super::{
    DIGEST_BYTES, END_BYTES, ENTRY_BYTES_MAX, End, FRAME_HEAD, GIVEN_UP, HEADER_BYTES, Header, Kind, REASON_BYTES_MAX,
    SUSPENDED_BYTES_MAX, damaged, reason,
};
use crate::coin::{DENOMINATIONS, PageNumber, SERIAL_NUMBERS};
use crate::store::control::COUNTER_MAX;
use crate::store::error::StoreError;
use crate::store::layout::{PAGE_BYTES, PageFrame, PageState};
use crate::store::orders::Order;
use crate::store::suspended::Suspended;
use crate::store::wal::CommitRecord;

/// How much is read at once for the checksum.
const CHUNK_BYTES: usize = 256 << 10;
/// No backup has more orders: each has a coin at least.
const ORDERS_MAX: u64 = DENOMINATIONS as u64 * SERIAL_NUMBERS as u64;

/// A backup being read: pages, then orders, then records, then its end. Each of them says `None` when there is no more.
pub struct BackupReader<R: Read> {
    header: Header,
    entries: FrameDecoder<BufReader<Take<R>>>,
    /// What comes next.
    next: Kind,
    bytes: Box<[u8]>,
    last_page: Option<PageNumber>,
    seen: End,
}

impl<R: Read + Seek> BackupReader<R> {
    /// Begins to read a file, of which every byte is as it was written.
    ///
    /// # Errors
    /// [`StoreError::DamagedBackup`] where it is none, or cut or changed; [`StoreError::Io`].
    pub fn new(mut file: R) -> Result<Self, StoreError> {
        let length = check(&mut file)?;
        let mut header = [0; HEADER_BYTES];
        file.seek(SeekFrom::Start(0)).map_err(io_error)?;
        file.read_exact(&mut header).map_err(io_error)?;
        let header = Header::decode(&header).map_err(damaged)?;
        let mut entries = BufReader::new(file.take(length - HEADER_BYTES as u64 - DIGEST_BYTES as u64));
        if !entries.fill_buf().map_err(io_error)?.starts_with(&FRAME_HEAD) {
            return Err(damaged("its entries are not compressed as this program does it"));
        }
        let mut reader = Self {
            header,
            entries: FrameDecoder::new(entries),
            next: Kind::Page,
            bytes: vec![0; ENTRY_BYTES_MAX].into_boxed_slice(),
            last_page: None,
            seen: End { sequence: header.in_place, ..End::default() },
        };
        reader.read_kind()?;
        Ok(reader)
    }
}

/// Reads all of a backup for its checksum; returns how long it is.
///
/// # Errors
/// As [`BackupReader::new`].
pub fn check<R: Read + Seek>(file: &mut R) -> Result<u64, StoreError> {
    let whole = is_whole(file);
    if let Ok(Some(length)) = whole {
        return Ok(length);
    }
    // One that was given up early may look like anything.
    match reason(&tail(file).map_err(io_error)?) {
        Some(reason) => Err(damaged(format!("it was given up: {reason}"))),
        None => whole.and(Err(damaged("it was cut or changed: its checksum does not hold"))),
    }
}

/// The last bytes, where a reason may be.
fn tail<R: Read + Seek>(file: &mut R) -> io::Result<Vec<u8>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub((GIVEN_UP.len() + REASON_BYTES_MAX + 1) as u64)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(tail)
}

/// The length of a file whose checksum holds; `None` where it does not.
fn is_whole<R: Read + Seek>(file: &mut R) -> Result<Option<u64>, StoreError> {
    let length = file.seek(SeekFrom::End(0)).map_err(io_error)?;
    file.seek(SeekFrom::Start(0)).map_err(io_error)?;
    let Some(mut left) = length.checked_sub(DIGEST_BYTES as u64).filter(|left| *left >= HEADER_BYTES as u64) else {
        return Err(damaged("it is too short to be one"));
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut digest = Sha256::new();
    let mut is_head = true;
    while left > 0 {
        let bytes = &mut chunk[..left.min(CHUNK_BYTES as u64) as usize];
        file.read_exact(bytes).map_err(io_error)?;
        if std::mem::take(&mut is_head) {
            // What is another kind of file is called so, rather than changed.
            let header = bytes.first_chunk().expect("it is longer than a header");
            Header::decode(header).map_err(damaged)?;
        }
        digest.update(&bytes);
        left -= bytes.len() as u64;
    }
    let mut expected = [0; DIGEST_BYTES];
    file.read_exact(&mut expected).map_err(io_error)?;
    Ok((digest.finalize()[..] == expected).then_some(length))
}

impl<R: Read> BackupReader<R> {
    /// Its head.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the next page into the frame; says which it is.
    ///
    /// # Errors
    /// [`StoreError::DamagedBackup`], [`StoreError::Io`]; so for the others.
    pub fn page(&mut self, frame: &mut PageFrame) -> Result<Option<PageNumber>, StoreError> {
        if self.next != Kind::Page {
            return Ok(None);
        }
        self.read(0..PAGE_BYTES)?;
        frame.bytes_mut().copy_from_slice(&self.bytes[..PAGE_BYTES]);
        let page = PageNumber::new(u16::from_be_bytes([self.bytes[6], self.bytes[7]]));
        let page = page.filter(|page| self.last_page < Some(*page)).ok_or_else(|| damaged("its pages are mixed up"))?;
        let PageState::Used(sequence) = frame.state(page) else { return Err(damaged("a page in it is damaged")) };
        self.last_page = Some(page);
        self.seen.pages += 1;
        self.see(sequence)?;
        self.read_kind()?;
        Ok(Some(page))
    }

    /// Reads the next order.
    pub fn order(&mut self) -> Result<Option<Order>, StoreError> {
        if self.next != Kind::Order {
            return Ok(None);
        }
        self.read(0..Order::BYTES)?;
        let order = Order::decode(&self.bytes[..Order::BYTES]).ok_or_else(|| damaged("an order in it is none"))?;
        self.seen.orders += 1;
        if self.seen.orders > ORDERS_MAX {
            return Err(damaged("it has more orders than there are coins"));
        }
        self.see(order.sequence)?;
        self.read_kind()?;
        Ok(Some(order))
    }

    /// Reads the next record and gives it to `take`; says whether there was one.
    pub fn record(
        &mut self,
        take: impl FnOnce(&CommitRecord<'_>) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        if self.next != Kind::Record {
            return Ok(false);
        }
        self.read(0..4)?;
        let length = u32::from_be_bytes(self.bytes[..4].try_into().expect("4 bytes")) as usize;
        if !(4..=ENTRY_BYTES_MAX).contains(&length) {
            return Err(damaged("a record in it is longer than any"));
        }
        self.read(4..length)?;
        let Some((record, [])) = CommitRecord::decode(&self.bytes[..length]) else {
            return Err(damaged("a record in it is none"));
        };
        let sequence = record.commit.sequence;
        if sequence <= self.header.in_place {
            return Err(damaged("a record in it is older than its pages"));
        }
        take(&record)?;
        self.seen.records += 1;
        self.see(sequence)?;
        self.read_kind()?;
        Ok(true)
    }

    /// Reads what is suspended, if anything ever was.
    pub fn suspended(&mut self) -> Result<Option<Suspended>, StoreError> {
        if self.next != Kind::Suspended {
            return Ok(None);
        }
        self.read(0..4)?;
        let length = u32::from_be_bytes(self.bytes[..4].try_into().expect("4 bytes"));
        if length > SUSPENDED_BYTES_MAX {
            return Err(damaged("what is suspended is more than there can be"));
        }
        let mut bytes = Vec::new();
        (&mut self.entries).take(length.into()).read_to_end(&mut bytes).map_err(io_error)?;
        if bytes.len() != length as usize {
            return Err(damaged("what is suspended is cut"));
        }
        let suspended = Suspended::decode(&bytes).map_err(|why| damaged(format!("what is suspended: {why}")))?;
        self.read_kind()?;
        Ok(Some(suspended))
    }

    /// Reads the end, behind which nothing is; and whether what came before is what it says.
    pub fn end(mut self) -> Result<End, StoreError> {
        if self.next != Kind::End {
            return Err(damaged("what is in it is mixed up"));
        }
        self.read(0..END_BYTES)?;
        let end = End::decode(self.bytes[..END_BYTES].try_into().expect("32 bytes"));
        if end.sequence > COUNTER_MAX || end != (End { sequence: end.sequence, ..self.seen }) {
            return Err(damaged("it has not what it says at its end"));
        }
        if self.seen.sequence > end.sequence {
            return Err(damaged("something in it is newer than the whole"));
        }
        let mut more = [0];
        let is_over = self.entries.read(&mut more).map_err(io_error)? == 0;
        let mut rest = self.entries.into_inner();
        if !is_over || rest.read(&mut more).map_err(io_error)? > 0 {
            return Err(damaged("it goes on behind its end"));
        }
        Ok(end)
    }

    /// Notes a sequence.
    fn see(&mut self, sequence: u64) -> Result<(), StoreError> {
        if sequence > COUNTER_MAX {
            return Err(damaged("a sequence in it is past the end of all"));
        }
        self.seen.sequence = self.seen.sequence.max(sequence);
        Ok(())
    }

    fn read_kind(&mut self) -> Result<(), StoreError> {
        let mut kind = [0];
        self.entries.read_exact(&mut kind).map_err(io_error)?;
        let Some(next) = Kind::new(kind[0]) else {
            return Err(damaged(format!("it has entries of kind {}, which this program does not know", kind[0])));
        };
        if next < self.next {
            return Err(damaged("what is in it is mixed up"));
        }
        self.next = next;
        Ok(())
    }

    fn read(&mut self, range: std::ops::Range<usize>) -> Result<(), StoreError> {
        self.entries.read_exact(&mut self.bytes[range]).map_err(io_error)
    }
}

/// What the system failed with; anything else is the decoder's opinion of the file.
fn io_error(error: io::Error) -> StoreError {
    match error.raw_os_error() {
        Some(_) => StoreError::io("read", "the backup")(error),
        None => damaged(format!("it cannot be read to its end: {error}")),
    }
}
