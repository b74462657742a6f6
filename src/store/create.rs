//! Makes a data directory: beside its place, complete and durable, then under its name in one step.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::control::UsedPages;
use super::error::StoreError;
use super::files;
use super::layout::{AlignedBytes, PAGE_BYTES, PageFrame};
use super::recovery::initialise;
use super::storage::{Directory, Storage, Zeros};
use super::wal::Geometry;
use crate::coin::{Denomination, PAGES, PAGES_PER_DENOMINATION, PageNumber};

/// Pages written at once.
const PAGES_PER_WRITE: u16 = 50;

/// Makes an empty data directory: no coin is in circulation.
///
/// # Errors
/// [`StoreError::NotEmpty`] where something is there, [`StoreError::Io`]; then nothing is left.
pub fn create(root: &Path, geometry: Geometry) -> Result<(), StoreError> {
    build(root, |unfinished| initialise(&Directory::open(unfinished)?, geometry))
}

/// Makes a directory at `root`, which is not there or empty: `fill` fills and syncs it under another name. Where that
/// fails, or the machine stops, nothing is at `root`.
pub fn build<T>(root: &Path, fill: impl FnOnce(&Path) -> Result<T, StoreError>) -> Result<T, StoreError> {
    let name = root.to_string_lossy().into_owned();
    let (root, parent, unfinished) = places(root).map_err(StoreError::io("use", &name))?;
    refuse_if_taken(&root)?;
    fs::create_dir_all(&parent).map_err(StoreError::io("create", &parent.to_string_lossy()))?;
    let _lock = claim(&unfinished)?;
    let filled = fill(&unfinished).and_then(|filled| {
        put_in_place(&unfinished, &root, &parent).map_err(StoreError::io("create", &name))?;
        Ok(filled)
    });
    if filled.is_err()
        && let Err(error) = fs::remove_dir_all(&unfinished)
    {
        log::warn!("cannot remove {}: {error}", unfinished.display());
    }
    filled
}

/// What is done last to a directory being made, of which is known what it holds: it is there from the first moment.
pub type Last<'a, T> = dyn Fn(&dyn Storage, &T) -> Result<(), StoreError> + 'a;

/// Fills the page in the frame and seals it; `false` where it is to stay a hole.
pub type Fill<'a> = dyn FnMut(PageNumber, &mut PageFrame) -> Result<bool, StoreError> + 'a;

/// Writes all coin files, in the order of the pages, each as `fill` makes it from a frame that may hold another page.
/// Returns the pages that were used. `progress` is told the pages done and their number. Everything is durable.
///
/// # Errors
/// What `fill` fails with, and [`StoreError::Io`].
pub fn write_pages(
    storage: &dyn Storage,
    fill: &mut Fill<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<UsedPages, StoreError> {
    storage.create_directory(files::COINS)?;
    let mut used = UsedPages::none();
    let mut bytes = AlignedBytes::zeroed(usize::from(PAGES_PER_WRITE) * PAGE_BYTES);
    let mut frame = PageFrame::zeroed();
    for den in Denomination::all() {
        let path = files::coins(den);
        storage.create(&path, files::COINS_BYTES, Zeros::Hole)?;
        for first in (0..PAGES_PER_DENOMINATION).step_by(usize::from(PAGES_PER_WRITE)) {
            let mut any = false;
            for (number, into) in (first..).zip(bytes.chunks_exact_mut(PAGE_BYTES)) {
                let page = PageNumber::of(den, number).expect("a page of the denomination");
                into.fill(0);
                if fill(page, &mut frame)? {
                    into.copy_from_slice(frame.bytes());
                    used.insert(page);
                    any = true;
                }
            }
            if any {
                storage.write_at(&path, u64::from(first) * PAGE_BYTES as u64, &bytes)?;
            }
            let done = den.index() as u64 * u64::from(PAGES_PER_DENOMINATION) + u64::from(first + PAGES_PER_WRITE);
            progress(done, u64::from(PAGES));
        }
        storage.sync(&path)?;
    }
    storage.sync_directory(files::COINS)?;
    Ok(used)
}

/// The directory, its parent, and what it is called until it is complete.
fn places(root: &Path) -> io::Result<(PathBuf, PathBuf, PathBuf)> {
    let root = std::path::absolute(root)?;
    let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no name of its own"));
    };
    let mut unfinished = name.to_os_string();
    unfinished.push(files::UNFINISHED);
    Ok((root.clone(), parent.to_path_buf(), parent.join(unfinished)))
}

/// A directory that holds no more than a lock file is empty.
fn refuse_if_taken(root: &Path) -> Result<(), StoreError> {
    let name = root.to_string_lossy();
    match fs::read_dir(root) {
        Ok(entries) => {
            let mut entries = entries.map(|entry| entry.is_ok_and(|entry| entry.file_name() == files::LOCK));
            if entries.all(|is_lock| is_lock) { Ok(()) } else { Err(StoreError::NotEmpty { path: name.into_owned() }) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(StoreError::NotEmpty { path: name.into_owned() })
        }
        Err(error) => Err(StoreError::io("list", &name)(error)),
    }
}

/// Makes the unfinished directory anew, and keeps others from doing so meanwhile by a lock on the directory itself.
fn claim(unfinished: &Path) -> Result<File, StoreError> {
    let name = unfinished.to_string_lossy();
    let claimed = || -> io::Result<Option<File>> {
        if let Ok(left_over) = File::open(unfinished) {
            if left_over.try_lock().is_err() {
                return Ok(None);
            }
            fs::remove_dir_all(unfinished)?;
        }
        fs::create_dir(unfinished)?;
        let directory = File::open(unfinished)?;
        directory.lock()?;
        Ok(Some(directory))
    };
    claimed().map_err(StoreError::io("create", &name))?.ok_or_else(|| StoreError::Locked { path: name.into_owned() })
}

fn put_in_place(unfinished: &Path, root: &Path, parent: &Path) -> io::Result<()> {
    if root.exists() {
        // No more than an empty directory, maybe with a lock file: looked at before.
        if let Err(error) = fs::remove_file(root.join(files::LOCK))
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        fs::remove_dir(root)?;
    }
    fs::rename(unfinished, root)?;
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::recovery::open;

    const SMALL: Geometry =
        Geometry { segment_bytes: 1 << 20, segments: 3, batch_bytes_max: 64 << 10, record_bytes_max: 32 << 10 };

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_directory_opens_on_the_real_disk_for_any_number_of_shards() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("a/data");
        create(&root, SMALL).unwrap();
        assert_eq!(names(&place.path().join("a")), ["data"]);
        assert_eq!(names(&root), ["coins", "lock", "log", "node"]);
        for shards in [2, 3, 1] {
            let opened = open(&Directory::open(&root).unwrap(), shards, SMALL).unwrap();
            assert_eq!((opened.shards.len(), opened.used.count()), (usize::from(shards), 0));
            assert_eq!(names(&root.join("log")).len(), usize::from(shards));
        }
        let taken = create(&root, SMALL).unwrap_err();
        assert!(matches!(taken, StoreError::NotEmpty { .. }), "{taken}");
    }

    #[test]
    fn an_empty_directory_and_left_overs_are_no_obstacle() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("data");
        fs::create_dir_all(place.path().join("data.new/log/0")).unwrap();
        fs::create_dir(&root).unwrap();
        fs::write(root.join("lock"), "").unwrap();
        create(&root, SMALL).unwrap();
        assert_eq!(names(place.path()), ["data"]);
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("data");
        let failed = build(&root, |unfinished| -> Result<(), StoreError> {
            fs::write(unfinished.join("half"), "done").unwrap();
            let meanwhile = build(&root, |_| Ok(())).unwrap_err();
            assert!(matches!(meanwhile, StoreError::Locked { .. }), "{meanwhile}");
            Err(StoreError::NoSuchCoins { den: 0, first_sn: 0, count: 0 })
        });
        assert!(matches!(failed, Err(StoreError::NoSuchCoins { .. })));
        assert_eq!(names(place.path()), Vec::<String>::new());
    }
}
