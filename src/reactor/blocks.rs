//! A file of blocks, written round and round, each write durable when it completes: a log without anything in it, for
//! the floor that a node's log is compared with.
//!
//! As in the node's log: zeros were written beforehand, O_DIRECT where the file system has it, RWF_DSYNC, a few writes
//! in flight, and only the writes up to the first that is not done count.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use io_uring::opcode;
use io_uring::types::Fd;

use crate::store::layout::{AlignedBytes, BLOCK_BYTES};

use super::disk::open;
use super::ring::{Completion, Kind, Ring, Tag};
use super::table::Name;

/// Writes in flight at once.
pub const WRITES_MAX: usize = 4;

/// A write that is with the kernel, or memory for one.
struct Place {
    bytes: AlignedBytes,
    /// The number of the write that has it; what is below the durable prefix is free.
    number: u64,
    length: usize,
    offset: u64,
    done: bool,
}

/// The file and the writes in flight.
pub struct Blocks {
    file: File,
    file_bytes: u64,
    offset: u64,
    places: Vec<Place>,
    /// How many writes were begun, and how many are durable with all before them.
    begun: u64,
    durable: u64,
}

impl Blocks {
    /// Makes a file of `file_bytes` zeros, over one of that name; no write is longer than `write_bytes_max`.
    ///
    /// # Errors
    /// What the system says, with the file's name.
    ///
    /// # Panics
    /// When the longest write does not fit the file.
    pub fn create(path: &Path, file_bytes: u64, write_bytes_max: usize) -> io::Result<Self> {
        assert!(write_bytes_max as u64 <= file_bytes && file_bytes.is_multiple_of(BLOCK_BYTES as u64));
        let mut zeros = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let chunk = vec![0; 1 << 20];
        for at in (0..file_bytes).step_by(chunk.len()) {
            zeros.write_all(&chunk[..chunk.len().min((file_bytes - at) as usize)])?;
        }
        zeros.sync_all()?;
        let places = (0..WRITES_MAX).map(|_| Place {
            bytes: AlignedBytes::zeroed(write_bytes_max),
            number: 0,
            length: 0,
            offset: 0,
            done: true,
        });
        Ok(Self { file: open(path)?, file_bytes, offset: 0, places: places.collect(), begun: 0, durable: 0 })
    }

    /// Whether another write may begin.
    pub fn has_room(&self) -> bool {
        self.begun - self.durable < WRITES_MAX as u64
    }

    /// Whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.begun == self.durable
    }

    /// How many writes are durable, with all before them.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Begins a write of `bytes`, filled up with zeros to whole blocks. Returns its number, the first is 0: it is durable
    /// once [`Blocks::durable`] is above it.
    ///
    /// # Panics
    /// When there is no room, or the bytes are none or too many.
    pub fn write(&mut self, bytes: &[u8], ring: &mut Ring) -> u64 {
        assert!(self.has_room() && !bytes.is_empty());
        let number = self.begun;
        let place = &mut self.places[number as usize % WRITES_MAX];
        assert!(place.done);
        let length = bytes.len().next_multiple_of(BLOCK_BYTES);
        place.bytes[..bytes.len()].copy_from_slice(bytes);
        place.bytes[bytes.len()..length].fill(0);
        if self.offset + length as u64 > self.file_bytes {
            self.offset = 0;
        }
        (place.number, place.length, place.offset, place.done) = (number, length, self.offset, false);
        self.offset += length as u64;
        self.begun += 1;
        self.push(number, ring);
        number
    }

    fn push(&mut self, number: u64, ring: &mut Ring) {
        let slot = number as usize % WRITES_MAX;
        let place = &self.places[slot];
        let entry = opcode::Write::new(Fd(self.file.as_raw_fd()), place.bytes.as_ptr(), place.length as u32)
            .offset(place.offset)
            .rw_flags(libc::RWF_DSYNC)
            .build();
        let tag = Tag { kind: Kind::Disk, name: Name { slot: slot as u32, generation: 0 } };
        // SAFETY: the bytes are boxed in their place, which is left alone until its completion.
        unsafe { ring.push(entry, tag) };
    }

    /// A write completed.
    ///
    /// # Errors
    /// What the disk says; a write that was made in part is one too.
    pub fn completed(&mut self, completion: Completion, ring: &mut Ring) -> io::Result<()> {
        let slot = completion.tag.name.slot as usize;
        match completion.result {
            error if [-libc::EINTR, -libc::EAGAIN].contains(&error) => {
                self.push(self.places[slot].number, ring);
                return Ok(());
            }
            error if error < 0 => return Err(io::Error::from_raw_os_error(-error)),
            bytes if bytes as usize != self.places[slot].length => return Err(io::ErrorKind::WriteZero.into()),
            _ => self.places[slot].done = true,
        }
        while self.durable < self.begun && self.places[self.durable as usize % WRITES_MAX].done {
            self.durable += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn writes_are_durable_in_order_and_wrap_around() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut ring = Ring::new().unwrap();
        // The ring is dropped first, before the memory that the kernel knows from it: it is idle by then.
        let mut blocks = Blocks::create(&path, 3 * BLOCK_BYTES as u64, 2 * BLOCK_BYTES).unwrap();
        let mut completions = Vec::new();
        for round in 1..=10u8 {
            let length = if round % 2 == 0 { 1 } else { BLOCK_BYTES + 1 };
            while !blocks.has_room() {
                ring.submit(Some(Duration::MAX)).unwrap();
                ring.drain(&mut completions);
                completions.drain(..).for_each(|completion| blocks.completed(completion, &mut ring).unwrap());
            }
            assert_eq!(blocks.write(&vec![round; length], &mut ring), u64::from(round) - 1);
        }
        while !blocks.is_idle() {
            ring.submit(Some(Duration::MAX)).unwrap();
            ring.drain(&mut completions);
            completions.drain(..).for_each(|completion| blocks.completed(completion, &mut ring).unwrap());
        }
        assert_eq!(blocks.durable(), 10);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 3 * BLOCK_BYTES);
        let firsts: Vec<u8> = bytes.chunks(BLOCK_BYTES).map(|block| block[0]).collect();
        // The ninth, of two blocks, began anew; the tenth follows it.
        assert_eq!(firsts, [9, 9, 10]);
    }
}
