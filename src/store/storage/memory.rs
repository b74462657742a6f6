//! A disk in memory that crashes: for tests and simulations.
//!
//! What a crash leaves, as seen from a seed: of every 512-byte sector written and not synced the old or the new
//! bytes; of the names changed and not synced the first few changes, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, MutexGuard};

use super::{Room, Storage, Zeros, parent};
use crate::entropy::split_mix;
use crate::store::error::StoreError;

const SECTOR_BYTES: usize = 512;
type Sectors = BTreeMap<u64, [u8; SECTOR_BYTES]>;

/// A file or a directory, by the names it has now or had when last synced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(usize),
    Directory,
}

type Names = BTreeMap<String, Entry>;

/// A change of names that its directory's sync makes durable.
#[derive(Clone)]
enum NameChange {
    Add(String, Entry),
    Remove(String),
    Rename(String, String),
}

impl NameChange {
    fn directory(&self) -> &str {
        match self {
            Self::Add(path, _) | Self::Remove(path) | Self::Rename(path, _) => parent(path),
        }
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(path, entry) => {
                names.insert(path.clone(), *entry);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                let inside = format!("{from}/");
                let moves = |path: &String| path == from || path.starts_with(&inside);
                let moved: Vec<String> = names.keys().filter(|path| moves(path)).cloned().collect();
                for path in moved {
                    let entry = names.remove(&path).expect("just seen");
                    names.insert(format!("{to}{}", &path[from.len()..]), entry);
                }
            }
        }
    }
}

/// A file's bytes. Sectors not in a map are zeros.
#[derive(Clone, Default)]
struct Contents {
    now: Sectors,
    length: u64,
    durable: Sectors,
    durable_length: u64,
    /// Sectors that differ, or may.
    dirty: BTreeSet<u64>,
}

#[derive(Clone, Default)]
struct Disk {
    files: Vec<Contents>,
    names: Names,
    durable_names: Names,
    name_changes: Vec<NameChange>,
    /// Bits that flipped, and have not been written over: file, sector, byte in it.
    rot: Vec<(usize, u64, usize)>,
    /// Operations that change something until the crash; `None`: no crash is planned.
    left: Option<u64>,
    operations: u64,
    /// Bytes it says that it has; `None`: more than anybody needs.
    capacity: Option<u64>,
}

/// A data directory in memory.
#[derive(Default)]
pub struct Memory(Mutex<Disk>);

impl Clone for Memory {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.disk().clone()))
    }
}

impl Memory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans a crash: after so many more operations that change something, every operation fails until
    /// [`Memory::crash`]. The write at which it happens may leave anything between nothing and all of it.
    pub fn crash_after(&self, operations: u64) {
        self.disk().left = Some(operations);
    }

    /// Takes back a crash that was planned: only the operations of one thread came to nothing.
    pub fn go_on(&self) {
        self.disk().left = None;
    }

    /// From now on it says that it has so many bytes. Writes beyond them succeed all the same.
    pub fn say_capacity(&self, bytes: u64) {
        self.disk().capacity = Some(bytes);
    }

    /// Operations that changed something so far.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// The machine stops and starts again: what was not synced is lost or kept, as the seed has it.
    /// Of eight seeds in a row one loses all of it and one keeps all of it.
    pub fn crash(&self, seed: u64) {
        let disk = &mut *self.disk();
        let mut random = seed;
        let mut keep = || match seed % 8 {
            0 => false,
            1 => true,
            _ => split_mix(&mut random) & 1 == 0,
        };
        for change in std::mem::take(&mut disk.name_changes) {
            if !keep() {
                break;
            }
            change.apply(&mut disk.durable_names);
        }
        disk.names = disk.durable_names.clone();
        for file in &mut disk.files {
            for sector in std::mem::take(&mut file.dirty) {
                if keep() {
                    file.sync_sector(sector);
                }
            }
            if file.length != file.durable_length && keep() {
                file.durable_length = file.length;
            }
            file.now = file.durable.clone();
            file.length = file.durable_length;
        }
        disk.left = None;
    }

    /// Makes a part of a file durable, as a durable write does (RWF_DSYNC), and leaves the rest as it is.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn sync_part(&self, path: &str, offset: u64, length: usize) {
        let disk = &mut *self.disk();
        let Ok(file) = disk.file("sync", path) else { panic!("no file {path}") };
        let sector = SECTOR_BYTES as u64;
        for sector in offset / sector..(offset + length as u64).div_ceil(sector) {
            file.sync_sector(sector);
        }
    }

    /// Flips a bit of a file, as rot does.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn flip(&self, path: &str, at: u64) {
        let disk = &mut *self.disk();
        let Some(Entry::File(file)) = disk.names.get(path).copied() else { panic!("no file {path}") };
        let rot = (file, at / SECTOR_BYTES as u64, at as usize % SECTOR_BYTES);
        disk.flip(rot);
        disk.rot.push(rot);
    }

    /// Flips back every bit that has flipped and has not been written over; returns how many.
    pub fn heal(&self) -> usize {
        let disk = &mut *self.disk();
        let rot = std::mem::take(&mut disk.rot);
        rot.iter().for_each(|&rot| disk.flip(rot));
        rot.len()
    }

    /// Whether bits have flipped that have not been written over, nor flipped back.
    pub fn has_rot(&self) -> bool {
        !self.disk().rot.is_empty()
    }

    /// Where there are data, not holes: the files and their sectors of 512 bytes, in order.
    pub fn data(&self) -> Vec<(String, u64)> {
        let disk = self.disk();
        let files = disk.names.iter().filter_map(|(path, entry)| match entry {
            Entry::File(file) => Some((path, &disk.files[*file])),
            Entry::Directory => None,
        });
        files.flat_map(|(path, file)| file.now.keys().map(|sector| (path.clone(), *sector))).collect()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().expect("no panic under this lock")
    }

    /// Counts an operation that changes something. `Err`: the crash is now.
    fn change(disk: &mut Disk, doing: &'static str, path: &str) -> Result<(), StoreError> {
        disk.operations += 1;
        match &mut disk.left {
            None => Ok(()),
            Some(0) => Err(crashed(doing, path)),
            Some(left) => {
                *left -= 1;
                if *left == 0 { Err(crashed(doing, path)) } else { Ok(()) }
            }
        }
    }
}

fn crashed(doing: &'static str, path: &str) -> StoreError {
    StoreError::io(doing, path)(io::Error::other("the machine stopped"))
}

fn absent(doing: &'static str, path: &str) -> StoreError {
    StoreError::io(doing, path)(io::Error::from(io::ErrorKind::NotFound))
}

impl Disk {
    fn flip(&mut self, (file, sector, byte): (usize, u64, usize)) {
        let file = &mut self.files[file];
        for sectors in [&mut file.now, &mut file.durable] {
            sectors.entry(sector).or_insert([0; SECTOR_BYTES])[byte] ^= 1;
        }
    }

    fn alive(&self, doing: &'static str, path: &str) -> Result<(), StoreError> {
        if self.left == Some(0) { Err(crashed(doing, path)) } else { Ok(()) }
    }

    fn file(&mut self, doing: &'static str, path: &str) -> Result<&mut Contents, StoreError> {
        match self.names.get(path) {
            Some(Entry::File(file)) => Ok(&mut self.files[*file]),
            _ => Err(absent(doing, path)),
        }
    }

    fn name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    /// Whether the directory of `path` is there.
    fn has_parent(&self, path: &str) -> bool {
        parent(path).is_empty() || self.names.get(parent(path)) == Some(&Entry::Directory)
    }
}

impl Contents {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (sector, within) = (at / SECTOR_BYTES as u64, at as usize % SECTOR_BYTES);
            let (piece, after) = rest.split_at(rest.len().min(SECTOR_BYTES - within));
            let into = self.now.entry(sector).or_insert([0; SECTOR_BYTES]);
            into[within..within + piece.len()].copy_from_slice(piece);
            self.dirty.insert(sector);
            (at, rest) = (at + piece.len() as u64, after);
        }
        self.length = self.length.max(at);
    }

    fn taken_bytes(&self) -> u64 {
        self.now.len() as u64 * SECTOR_BYTES as u64
    }

    fn sync_sector(&mut self, sector: u64) {
        self.dirty.remove(&sector);
        match self.now.get(&sector) {
            Some(bytes) => self.durable.insert(sector, *bytes),
            None => self.durable.remove(&sector),
        };
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        if offset + bytes.len() as u64 > self.length {
            return false;
        }
        bytes.fill(0);
        let end = offset + bytes.len() as u64;
        let first = offset / SECTOR_BYTES as u64;
        for (sector, stored) in self.now.range(first..end.div_ceil(SECTOR_BYTES as u64)) {
            let start = sector * SECTOR_BYTES as u64;
            let (from, to) = (start.max(offset), (start + SECTOR_BYTES as u64).min(end));
            bytes[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&stored[(from - start) as usize..(to - start) as usize]);
        }
        true
    }
}

impl Storage for Memory {
    fn read_at(&self, path: &str, offset: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        let mut disk = self.disk();
        disk.alive("read", path)?;
        if disk.file("read", path)?.read(offset, bytes) {
            Ok(())
        } else {
            Err(StoreError::io("read", path)(io::Error::from(io::ErrorKind::UnexpectedEof)))
        }
    }

    fn read_whole(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut disk = self.disk();
        disk.alive("read", path)?;
        let Ok(file) = disk.file("read", path) else { return Ok(None) };
        let mut bytes = vec![0; file.length as usize];
        assert!(file.read(0, &mut bytes), "a file has its length");
        Ok(Some(bytes))
    }

    fn data_from(&self, path: &str, offset: u64) -> Result<Option<u64>, StoreError> {
        let mut disk = self.disk();
        disk.alive("seek in", path)?;
        let sector = SECTOR_BYTES as u64;
        let next = disk.file("seek in", path)?.now.range(offset / sector..).next();
        Ok(next.map(|(at, _)| (at * sector).max(offset)))
    }

    fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let disk = &mut *self.disk();
        disk.alive("write", path)?;
        let result = Self::change(disk, "write", path);
        let Some(Entry::File(file)) = disk.names.get(path).copied() else { return Err(absent("write", path)) };
        disk.files[file].write(offset, bytes);
        let written = |at: u64| (offset..offset + bytes.len() as u64).contains(&at);
        disk.rot.retain(|&(of, sector, byte)| of != file || !written(sector * SECTOR_BYTES as u64 + byte as u64));
        result
    }

    fn write_durably(&self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_at(path, offset, bytes)?;
        let mut disk = self.disk();
        Self::change(&mut disk, "sync", path)?;
        let sector = SECTOR_BYTES as u64;
        let file = disk.file("sync", path)?;
        for sector in offset / sector..(offset + bytes.len() as u64).div_ceil(sector) {
            file.sync_sector(sector);
        }
        file.durable_length = file.length;
        Ok(())
    }

    fn sync(&self, path: &str) -> Result<(), StoreError> {
        let mut disk = self.disk();
        Self::change(&mut disk, "sync", path)?;
        let file = disk.file("sync", path)?;
        for sector in std::mem::take(&mut file.dirty) {
            file.sync_sector(sector);
        }
        file.durable_length = file.length;
        Ok(())
    }

    fn length(&self, path: &str) -> Result<Option<u64>, StoreError> {
        let mut disk = self.disk();
        disk.alive("look at", path)?;
        Ok(disk.file("look at", path).ok().map(|file| file.length))
    }

    fn room(&self, path: &str) -> Result<Room, StoreError> {
        let disk = self.disk();
        disk.alive("look at", path)?;
        let taken = disk.names.values().map(|entry| match entry {
            Entry::File(file) => disk.files[*file].taken_bytes(),
            Entry::Directory => 0,
        });
        let free_bytes = disk.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(taken.sum()));
        Ok(Room { disk: 0, free_bytes })
    }

    fn taken_bytes(&self, path: &str) -> Result<u64, StoreError> {
        let mut disk = self.disk();
        disk.alive("look at", path)?;
        Ok(disk.file("look at", path).map_or(0, |file| file.taken_bytes()))
    }

    fn create(&self, path: &str, length: u64, _zeros: Zeros) -> Result<(), StoreError> {
        let mut disk = self.disk();
        Self::change(&mut disk, "create", path)?;
        if !disk.has_parent(path) {
            return Err(absent("create", path));
        }
        let file = disk.files.len();
        disk.files.push(Contents { length, ..Contents::default() });
        disk.name(NameChange::Add(path.to_string(), Entry::File(file)));
        Ok(())
    }

    fn list(&self, path: &str) -> Result<Vec<String>, StoreError> {
        let disk = self.disk();
        disk.alive("list", path)?;
        let names = disk.names.keys().filter(|name| parent(name) == path);
        Ok(names.map(|name| name.rsplit('/').next().expect("a last part").to_string()).collect())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let mut disk = self.disk();
        Self::change(&mut disk, "rename", from)?;
        assert_eq!(parent(from), parent(to), "names move within their directory");
        if !disk.names.contains_key(from) || disk.names.get(to) == Some(&Entry::Directory) {
            return Err(absent("rename", from));
        }
        disk.name(NameChange::Rename(from.to_string(), to.to_string()));
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), StoreError> {
        let mut disk = self.disk();
        Self::change(&mut disk, "remove", path)?;
        disk.file("remove", path)?;
        disk.name(NameChange::Remove(path.to_string()));
        Ok(())
    }

    fn create_directory(&self, path: &str) -> Result<(), StoreError> {
        let mut disk = self.disk();
        Self::change(&mut disk, "create", path)?;
        if !disk.has_parent(path) {
            return Err(absent("create", path));
        }
        if !disk.names.contains_key(path) {
            disk.name(NameChange::Add(path.to_string(), Entry::Directory));
        }
        Ok(())
    }

    fn remove_directory(&self, path: &str) -> Result<(), StoreError> {
        let mut disk = self.disk();
        Self::change(&mut disk, "remove", path)?;
        let is_empty = !disk.names.keys().any(|name| parent(name) == path);
        if disk.names.get(path) != Some(&Entry::Directory) || !is_empty {
            return Err(absent("remove", path));
        }
        disk.name(NameChange::Remove(path.to_string()));
        Ok(())
    }

    fn sync_directory(&self, path: &str) -> Result<(), StoreError> {
        let mut disk = self.disk();
        Self::change(&mut disk, "sync", path)?;
        let changes = std::mem::take(&mut disk.name_changes);
        let (synced, left) = changes.into_iter().partition(|change| change.directory() == path);
        disk.name_changes = left;
        let synced: Vec<NameChange> = synced;
        synced.iter().for_each(|change| change.apply(&mut disk.durable_names));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file() -> Memory {
        let memory = Memory::new();
        memory.create("file", 8192, Zeros::Hole).unwrap();
        memory.sync("file").unwrap();
        memory.sync_directory("").unwrap();
        memory
    }

    fn bytes(memory: &Memory) -> Vec<u8> {
        let mut bytes = vec![9; 8192];
        memory.read_at("file", 0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn synced_bytes_stay_and_others_may_tear() {
        let memory = with_file();
        memory.write_durably("file", 100, &[1; 1000]).unwrap();
        memory.write_at("file", 0, &[2; 8192]).unwrap();
        assert_eq!(bytes(&memory), [2; 8192]);
        let after = |seed| {
            let memory = memory.clone();
            memory.crash(seed);
            bytes(&memory)
        };
        let mut old = vec![0; 8192];
        old[100..1100].fill(1);
        assert_eq!(after(0), old);
        assert_eq!(after(1), [2; 8192]);
        let torn = after(2);
        assert!(torn != old && torn != [2; 8192]);
        assert!(torn.chunks(512).enumerate().all(|(i, part)| part == [2; 512] || part == &old[i * 512..][..512]));
    }

    #[test]
    fn names_not_synced_are_kept_up_to_some_moment() {
        let memory = with_file();
        memory.create_directory("a").unwrap();
        memory.create("a/x", 10, Zeros::Hole).unwrap();
        memory.sync("a/x").unwrap();
        memory.sync_directory("a").unwrap();
        memory.rename("a", "b").unwrap();
        assert_eq!(memory.list("b").unwrap(), ["x"]);
        let after = |seed| {
            let memory = memory.clone();
            memory.crash(seed);
            memory.list("").unwrap()
        };
        assert_eq!(after(0), ["file"]);
        assert_eq!(after(1), ["b", "file"]);
        memory.sync_directory("").unwrap();
        memory.crash(0);
        assert_eq!(memory.list("").unwrap(), ["b", "file"]);
        assert_eq!(memory.length("b/x").unwrap(), Some(10));
    }

    #[test]
    fn a_planned_crash_stops_everything() {
        let memory = with_file();
        memory.crash_after(2);
        memory.write_at("file", 0, &[1; 512]).unwrap();
        assert!(memory.sync("file").is_err());
        assert!(memory.read_at("file", 0, &mut [0; 512]).is_err());
        assert!(memory.list("").is_err());
        memory.crash(0);
        assert_eq!(bytes(&memory), [0; 8192]);
    }
}
