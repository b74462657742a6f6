//! The real disk: a directory of the file system, locked for this process.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use nix::sys::statvfs::statvfs;

use super::{Room, Storage, Zeros};
use crate::store::error::StoreError;
use crate::store::files;
use crate::store::layout::{AlignedBytes, BLOCK_BYTES};

/// How much is written at once where a file is filled with zeros.
const FILL_BYTES: usize = 1 << 20;

/// How often a lock that is taken is tried again, and after how long.
const LOCK_ATTEMPTS: u32 = 20;
const BETWEEN_LOCK_ATTEMPTS: Duration = Duration::from_millis(10);

/// A data directory on a file system.
///
/// Aligned reads and writes go past the page cache (O_DIRECT) where the file system can do that. Dropping it gives the
/// lock back.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    direct: bool,
    writable: bool,
    files: Mutex<OpenFiles>,
    /// Holds the lock; `None`: whoever looks beside a node has none.
    _lock: Option<File>,
}

/// Files in use, by name and whether opened with O_DIRECT. Emptied whenever a name changes.
#[derive(Debug, Default)]
struct OpenFiles {
    by_name: HashMap<(String, bool), Arc<File>>,
    /// How often names have changed.
    changes: u64,
}

impl Directory {
    /// Locks a directory, which is there, for this process.
    ///
    /// A process that is being started by a former holder of the lock holds it too until it is another program, so a
    /// lock that is taken is tried again for a moment.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process has it, [`StoreError::Io`].
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(files::LOCK);
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        Self::locked_by(lock.map_err(StoreError::io("open", &path.to_string_lossy()))?, root, true)
    }

    /// The same to look only: nothing in it is changed, and a process that may not write can have it. Where it has no
    /// lock file, no process has used it yet, and the directory itself is locked.
    ///
    /// # Errors
    /// As [`Directory::open`].
    pub fn open_to_read(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(files::LOCK);
        let lock = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(root),
            lock => lock,
        };
        Self::locked_by(lock.map_err(StoreError::io("open", &path.to_string_lossy()))?, root, false)
    }

    /// The same beside a process that uses it, without a lock: for what holds true of files that change meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open_beside(root: &Path) -> Result<Self, StoreError> {
        let path = root.to_string_lossy();
        fs::read_dir(root).map_err(StoreError::io("open", &path))?;
        Ok(Self::over(root, false, None))
    }

    fn locked_by(lock: File, root: &Path, writable: bool) -> Result<Self, StoreError> {
        let path = root.join(files::LOCK);
        let name = path.to_string_lossy();
        let mut attempts_left = LOCK_ATTEMPTS;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempts_left > 0 => thread::sleep(BETWEEN_LOCK_ATTEMPTS),
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Locked { path: root.to_string_lossy().into_owned() });
                }
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &name)(error)),
            }
            attempts_left -= 1;
        }
        Ok(Self::over(root, writable, Some(lock)))
    }

    fn over(root: &Path, writable: bool, lock: Option<File>) -> Self {
        let path = root.join(files::LOCK);
        let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path).is_ok();
        if !direct && writable {
            log::warn!("{}: the file system has no O_DIRECT, going through the page cache", root.display());
        }
        Self { root: root.to_path_buf(), direct, writable, files: Mutex::default(), _lock: lock }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether aligned reads and writes go past the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// The file, opened for what `offset` and `bytes` allow.
    fn file(&self, path: &str, offset: u64, bytes: &[u8]) -> Result<Arc<File>, StoreError> {
        let block = BLOCK_BYTES as u64;
        let aligned = offset.is_multiple_of(block)
            && bytes.len().is_multiple_of(BLOCK_BYTES)
            && bytes.as_ptr().align_offset(BLOCK_BYTES) == 0;
        self.opened(path, aligned && self.direct)
    }

    fn opened(&self, path: &str, direct: bool) -> Result<Arc<File>, StoreError> {
        let key = (path.to_string(), direct);
        let changes = {
            let files = self.files();
            if let Some(file) = files.by_name.get(&key) {
                return Ok(file.clone());
            }
            files.changes
        };
        // Not under the lock: a disk that hangs here, as that of the archive may, must not keep others from other files.
        let flags = if direct { libc::O_DIRECT } else { 0 };
        let file = OpenOptions::new().read(true).write(self.writable).custom_flags(flags).open(self.root.join(path));
        let file = Arc::new(file.map_err(StoreError::io("open", path))?);
        let mut files = self.files();
        // Opened under a name that may be another file's by now, it serves this time only.
        if files.changes == changes {
            files.by_name.insert(key, file.clone());
        }
        Ok(file)
    }

    fn files(&self) -> MutexGuard<'_, OpenFiles> {
        self.files.lock().expect("no panic under this lock")
    }

    /// Names have changed. After they have: who opens one before may have the file that was.
    fn forget(&self) {
        let closed = {
            let mut files = self.files();
            files.changes += 1;
            std::mem::take(&mut files.by_name)
        };
        drop(closed);
    }
}

impl Storage for Directory {
    fn read_at(&self, path: &str, offset: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.file(path, offset, bytes)?.read_exact_at(bytes, offset).map_err(StoreError::io("read", path))
    }

    fn read_whole(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        // Of a descriptor of its own, which is one file's from beginning to end.
        match fs::read(self.root.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", path)(error)),
        }
    }

    fn data_from(&self, path: &str, offset: u64) -> Result<Option<u64>, StoreError> {
        let file = self.opened(path, false)?;
        match nix::unistd::lseek64(&*file, offset as i64, nix::unistd::Whence::SeekData) {
            Ok(at) => Ok(Some(at as u64)),
            Err(nix::errno::Errno::ENXIO) => Ok(None),
            // A file system that cannot tell has data everywhere.
            Err(nix::errno::Errno::EINVAL) => Ok(Some(offset)),
            Err(error) => Err(StoreError::io("seek in", path)(error.into())),
        }
    }

    fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.file(path, offset, bytes)?.write_all_at(bytes, offset).map_err(StoreError::io("write", path))
    }

    fn sync(&self, path: &str) -> Result<(), StoreError> {
        self.opened(path, false)?.sync_data().map_err(StoreError::io("sync", path))
    }

    fn length(&self, path: &str) -> Result<Option<u64>, StoreError> {
        match fs::metadata(self.root.join(path)) {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("look at", path)(error)),
        }
    }

    fn room(&self, path: &str) -> Result<Room, StoreError> {
        let full = self.root.join(path);
        let disk = fs::metadata(&full).map_err(StoreError::io("look at", path))?.dev();
        let left = statvfs(&full).map_err(|error| StoreError::io("look at", path)(error.into()))?;
        Ok(Room { disk, free_bytes: left.blocks_available() * left.fragment_size() })
    }

    fn taken_bytes(&self, path: &str) -> Result<u64, StoreError> {
        match fs::metadata(self.root.join(path)) {
            // Blocks of 512 bytes, whatever those of the file system are.
            Ok(metadata) => Ok(metadata.blocks() * 512),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(StoreError::io("look at", path)(error)),
        }
    }

    fn create(&self, path: &str, length: u64, zeros: Zeros) -> Result<(), StoreError> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.root.join(path));
        file.and_then(|file| file.set_len(length)).map_err(StoreError::io("create", path))?;
        self.forget();
        if zeros == Zeros::Written {
            let chunk = AlignedBytes::zeroed(FILL_BYTES);
            for offset in (0..length).step_by(FILL_BYTES) {
                let bytes = (length - offset).min(FILL_BYTES as u64) as usize;
                self.write_at(path, offset, &chunk[..bytes])?;
            }
        }
        Ok(())
    }

    fn list(&self, path: &str) -> Result<Vec<String>, StoreError> {
        let entries = match fs::read_dir(self.root.join(path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io("list", path)(error)),
        };
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        let mut names = entries.map(name).collect::<io::Result<Vec<_>>>().map_err(StoreError::io("list", path))?;
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        fs::rename(self.root.join(from), self.root.join(to)).map_err(StoreError::io("rename", from))?;
        self.forget();
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), StoreError> {
        fs::remove_file(self.root.join(path)).map_err(StoreError::io("remove", path))?;
        self.forget();
        Ok(())
    }

    fn create_directory(&self, path: &str) -> Result<(), StoreError> {
        match fs::create_dir(self.root.join(path)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StoreError::io("create", path)(error)),
            _ => Ok(()),
        }
    }

    fn remove_directory(&self, path: &str) -> Result<(), StoreError> {
        fs::remove_dir(self.root.join(path)).map_err(StoreError::io("remove", path))?;
        self.forget();
        Ok(())
    }

    fn done_with(&self, path: &str) {
        self.files().by_name.retain(|(name, _), _| name != path);
    }

    fn sync_directory(&self, path: &str) -> Result<(), StoreError> {
        let directory = File::open(self.root.join(path)).map_err(StoreError::io("open", path))?;
        directory.sync_all().map_err(StoreError::io("sync", path))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_is_written_is_read_aligned_or_not() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(place.path()).unwrap();
        directory.create_directory("a").unwrap();
        directory.create_directory("a").unwrap();
        directory.create("a/file", 16_384, Zeros::Written).unwrap();
        let mut block = AlignedBytes::zeroed(4096);
        block.fill(7);
        directory.write_durably("a/file", 4096, &block).unwrap();
        directory.write_durably("a/file", 4095, b"x").unwrap();
        let mut bytes = [1; 4];
        directory.read_at("a/file", 4094, &mut bytes).unwrap();
        assert_eq!(bytes, [0, b'x', 7, 7]);
        block.fill(0);
        directory.read_at("a/file", 4096, &mut block).unwrap();
        assert!(block.iter().all(|&byte| byte == 7));
        assert!(directory.read_at("a/file", 16_384, &mut block).is_err(), "a file that ends is an error");
    }

    #[test]
    fn holes_take_no_room() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(place.path()).unwrap();
        directory.create("file", 1 << 20, Zeros::Hole).unwrap();
        assert_eq!((directory.taken_bytes("file").unwrap(), directory.taken_bytes("none").unwrap()), (0, 0));
        directory.write_durably("file", 0, &[1; 8192]).unwrap();
        assert!((8192..1 << 20).contains(&directory.taken_bytes("file").unwrap()));
        let room = directory.room("").unwrap();
        assert!(room.free_bytes > 0);
        assert_eq!(directory.room("file").unwrap().disk, room.disk);
    }

    #[test]
    fn names_come_and_go() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(place.path()).unwrap();
        assert_eq!(directory.list("none").unwrap(), Vec::<String>::new());
        directory.create_directory("a").unwrap();
        directory.create("a/1", 10, Zeros::Hole).unwrap();
        assert_eq!(directory.length("a/1").unwrap(), Some(10));
        directory.rename("a/1", "a/2").unwrap();
        directory.sync_directory("a").unwrap();
        assert_eq!((directory.length("a/1").unwrap(), directory.list("a").unwrap()), (None, vec!["2".to_string()]));
        assert!(directory.remove_directory("a").is_err());
        directory.remove("a/2").unwrap();
        directory.remove_directory("a").unwrap();
        directory.sync_directory("").unwrap();
        assert_eq!(directory.list("").unwrap(), ["lock"]);
    }

    /// Whoever reads a file while it is replaced has the old one or the new one, and afterwards the new one.
    #[test]
    fn who_reads_while_a_file_is_replaced_reads_a_whole_one() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(place.path()).unwrap();
        let contents = |number: usize| vec![number as u8; 1 + number % 7];
        directory.replace("file", &contents(0)).unwrap();
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for number in 1..200 {
                    directory.replace("file", &contents(number)).unwrap();
                    let mut byte = [0];
                    directory.read_at("file", 0, &mut byte).unwrap();
                    assert_eq!(byte, [number as u8], "what was replaced is not read again");
                }
            });
            while !writer.is_finished() {
                let bytes = directory.read_whole("file").unwrap().expect("it is always there");
                assert!((0..200).any(|number| contents(number) == bytes), "{bytes:?}");
                // The same the other way, which keeps files open.
                directory.read_at("file", 0, &mut [0]).unwrap();
            }
        });
    }

    /// A named pipe that nobody writes to takes an open for reading as a disk that hangs does.
    #[test]
    fn an_open_that_hangs_holds_up_nobody_else() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), [7]).unwrap();
        let pipe = place.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let directory = Arc::new(Directory::open_to_read(place.path()).unwrap());
        let read = |name: &'static str| {
            let (directory, (sender, done)) = (Arc::clone(&directory), mpsc::channel());
            let reader = thread::spawn(move || {
                let mut byte = [0];
                let read = directory.read_at(name, 0, &mut byte);
                sender.send(read.map(|()| byte)).unwrap();
            });
            (reader, done)
        };
        let (hanging, _hangs) = read("pipe");
        // In its open, or about to be.
        thread::sleep(Duration::from_millis(50));
        let (other, done) = read("file");
        let found = done.recv_timeout(Duration::from_secs(20)).map(Result::unwrap);
        drop(OpenOptions::new().read(true).write(true).open(&pipe).unwrap());
        assert_eq!(found, Ok([7]));
        hanging.join().unwrap();
        other.join().unwrap();
    }

    #[test]
    fn one_process_has_it() {
        let place = tempfile::tempdir().unwrap();
        let first = Directory::open(place.path()).unwrap();
        let second = Directory::open(place.path()).unwrap_err().to_string();
        assert!(second.ends_with("/lock") && second.contains("in use by another process"), "{second}");
        assert!(matches!(Directory::open_to_read(place.path()), Err(StoreError::Locked { .. })));
        drop(first);
        let reader = Directory::open_to_read(place.path()).unwrap();
        assert!(matches!(Directory::open(place.path()), Err(StoreError::Locked { .. })));
        drop(reader);
        Directory::open(place.path()).unwrap();
    }

    #[test]
    fn who_looks_only_changes_nothing() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), [1; 10]).unwrap();
        let reader = Directory::open_to_read(place.path()).unwrap();
        assert_eq!(reader.list("").unwrap(), ["file"], "no lock file is made");
        let mut bytes = [0; 12];
        reader.read_what_is_there("file", 5, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
        reader.write_at("file", 0, &[2]).unwrap_err();
    }
}
