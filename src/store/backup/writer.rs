//! Writes a backup, byte by byte, to wherever it goes: a file, or who asked for it.

use std::io::{self, Write};

use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use sha2::{Digest, Sha256};

use super::{End, Header, Kind, SUSPENDED_BYTES_MAX};
use crate::coin::PageNumber;
use crate::store::layout::{PageState, page_state};
use crate::store::orders::Order;
use crate::store::suspended::Suspended;
use crate::store::wal::CommitRecord;

/// A backup being written. Without [`BackupWriter::finish`] it is none.
pub struct BackupWriter<W: Write> {
    out: FrameEncoder<Hashing<W>>,
    last: Kind,
    last_page: Option<PageNumber>,
    end: End,
    /// The highest sequence in it.
    highest: u64,
}

impl<W: Write> BackupWriter<W> {
    /// Begins a backup.
    ///
    /// # Errors
    /// What `out` fails with, here and below.
    pub fn new(out: W, header: &Header) -> io::Result<Self> {
        let mut out = Hashing { out, digest: Sha256::new() };
        out.write_all(&header.encode())?;
        let frame = FrameInfo::new().block_size(BlockSize::Max256KB);
        Ok(Self {
            out: FrameEncoder::with_frame_info(frame, out),
            last: Kind::Page,
            last_page: None,
            end: End::default(),
            highest: header.in_place,
        })
    }

    /// Adds a page that was ever used, whole as it is in its place.
    ///
    /// # Panics
    /// When it is not whole, or pages do not come in order.
    pub fn page(&mut self, page: PageNumber, bytes: &[u8]) -> io::Result<()> {
        let PageState::Used(sequence) = page_state(bytes, page) else { panic!("a page that is whole") };
        assert!(self.last_page < Some(page), "pages come in order");
        self.last_page = Some(page);
        self.highest = self.highest.max(sequence);
        self.end.pages += 1;
        self.entry(Kind::Page, bytes)
    }

    /// Adds an order.
    pub fn order(&mut self, order: &Order) -> io::Result<()> {
        let mut bytes = [0; Order::BYTES];
        order.encode(&mut bytes);
        self.highest = self.highest.max(order.sequence);
        self.end.orders += 1;
        self.entry(Kind::Order, &bytes)
    }

    /// Adds a commit record.
    pub fn record(&mut self, record: &CommitRecord<'_>) -> io::Result<()> {
        self.highest = self.highest.max(record.commit.sequence);
        self.end.records += 1;
        self.entry(Kind::Record, record.bytes())
    }

    /// Adds what is suspended. That there is more of it than a backup takes is an error, too: more than
    /// [`HOLDS_MAX`](crate::store::suspended::HOLDS_MAX) holds, of a file that a node did not write.
    pub fn suspended(&mut self, suspended: &Suspended) -> io::Result<()> {
        let bytes = suspended.encode();
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= SUSPENDED_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("more lockers are held than a backup takes"))?;
        self.entry(Kind::Suspended, &[&length.to_be_bytes(), &bytes[..]].concat())
    }

    /// The highest sequence of what was added: the backup's is at least as high.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Ends a backup that has everything up to `sequence`; returns what was in it, and where it went.
    ///
    /// # Panics
    /// When it has anything above.
    pub fn finish(mut self, sequence: u64) -> io::Result<(End, W)> {
        assert!(self.highest <= sequence, "a backup has nothing above its sequence");
        let end = End { sequence, ..self.end };
        self.entry(Kind::End, &end.encode())?;
        let Hashing { mut out, digest } = self.out.finish()?;
        out.write_all(&digest.finalize())?;
        out.flush()?;
        Ok((end, out))
    }

    fn entry(&mut self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        assert!(self.last <= kind, "kinds come in order");
        self.last = kind;
        self.out.write_all(&[kind as u8])?;
        self.out.write_all(bytes)
    }
}

/// Takes the digest of what goes through it.
struct Hashing<W> {
    out: W,
    digest: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
