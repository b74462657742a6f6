//! The disk as the store's blocking parts see it: files by name within one data directory.
//!
//! [`Directory`] is the real one. [`Memory`] is one that crashes, for tests and simulations.
//!
//! What an implementation promises: bytes written are durable after [`Storage::sync`] of their file; names made,
//! changed or removed are durable after [`Storage::sync_directory`] of their directory, and until then a crash keeps
//! them up to some moment. What a crash leaves of bytes not synced is any mixture of old and new.

mod directory;
mod memory;

pub use directory::Directory;
pub use memory::Memory;

use super::error::StoreError;
use super::files::UNFINISHED;

/// A data directory's files. Names are relative to it, parts divided by `/`.
pub trait Storage: Sync {
    /// Fills `bytes` from the file, at `offset`. A file that ends before is an error.
    fn read_at(&self, path: &str, offset: u64, bytes: &mut [u8]) -> Result<(), StoreError>;
    /// All bytes of a file that others may replace meanwhile: of the old one or of the new one. `None` where there is none.
    fn read_whole(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Where the first data at or after `offset` begin, `None` where only a hole is left: a hint, holes may count as data.
    fn data_from(&self, path: &str, offset: u64) -> Result<Option<u64>, StoreError>;
    /// Writes `bytes` to the file, at `offset`; it grows where needed.
    fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), StoreError>;
    /// Makes all that was written to the file durable.
    fn sync(&self, path: &str) -> Result<(), StoreError>;
    /// The file's length, `None` where there is no such file.
    fn length(&self, path: &str) -> Result<Option<u64>, StoreError>;
    /// What the disk under a directory, or file, has left.
    fn room(&self, path: &str) -> Result<Room, StoreError>;
    /// Bytes that a file takes on the disk: its holes take none. 0 where there is no such file.
    fn taken_bytes(&self, path: &str) -> Result<u64, StoreError>;
    /// Makes a file of so many zeros, over one of that name. Durable after [`Storage::sync`].
    fn create(&self, path: &str, length: u64, zeros: Zeros) -> Result<(), StoreError>;
    /// The names in a directory, without their path, in order; empty where there is no such directory.
    fn list(&self, path: &str) -> Result<Vec<String>, StoreError>;
    /// Gives a file or directory another name, over a file of that name.
    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError>;
    /// Removes a file.
    fn remove(&self, path: &str) -> Result<(), StoreError>;
    /// Makes a directory; its parent is there. One that is there already is left as it is.
    fn create_directory(&self, path: &str) -> Result<(), StoreError>;
    /// Removes an empty directory.
    fn remove_directory(&self, path: &str) -> Result<(), StoreError>;
    /// Makes the names in a directory durable; `""` is the data directory itself.
    fn sync_directory(&self, path: &str) -> Result<(), StoreError>;

    /// Says that a file will not be read again soon, so that it need not be kept open.
    fn done_with(&self, _path: &str) {}

    /// Fills `bytes` as [`Storage::read_at`] does, with zeros from where the file ends, or where it is not there.
    fn read_what_is_there(&self, path: &str, offset: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        let there = self.length(path)?.unwrap_or(0).saturating_sub(offset).min(bytes.len() as u64);
        let (there, missing) = bytes.split_at_mut(there as usize);
        missing.fill(0);
        if there.is_empty() { Ok(()) } else { self.read_at(path, offset, there) }
    }

    /// Replaces a file, or makes it. When this returns the new one is durable; a crash before leaves the old or the new.
    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let unfinished = format!("{path}{UNFINISHED}");
        self.create(&unfinished, bytes.len() as u64, Zeros::Hole)?;
        self.write_durably(&unfinished, 0, bytes)?;
        self.rename(&unfinished, path)?;
        self.sync_directory(parent(path))
    }

    /// Writes durably.
    fn write_durably(&self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_at(path, offset, bytes)?;
        self.sync(path)
    }
}

/// What a disk has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// The same for all that is on one disk, and for nothing else.
    pub disk: u64,
    /// Bytes that this process may still write there.
    pub free_bytes: u64,
}

/// How a new file's zeros are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zeros {
    /// As bytes on the disk, so that a later write changes no metadata: log segments.
    Written,
    /// As a hole that takes no space: coin files.
    Hole,
}

/// The directory part of a name, `""` where it has none.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
