//! Makes a data directory of a backup.
//!
//! Beside its place, complete and durable, and verified like any other directory; then under its name in one step. The
//! pages go to their places as they are, the records go to them as recovery would bring them.

use std::io::{Read, Seek};
use std::path::Path;

use super::reader::BackupReader;
use super::{End, Header, damaged};
use crate::store::control::UsedPages;
use crate::store::create::{Last, build, write_pages};
use crate::store::error::StoreError;
use crate::store::layout::PageFrame;
use crate::store::recovery::replay::Replay;
use crate::store::recovery::{finish_directory, note_pages, open_as_it_is};
use crate::store::storage::{Directory, Storage};
use crate::store::verify::{Report, Verdict, verify};
use crate::store::wal::Geometry;

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// The backup's head.
    pub header: Header,
    /// Its end.
    pub end: End,
    /// What the directory holds.
    pub report: Report,
}

/// Restores a backup into a new data directory. When all of it is there, and before it has its name, `last` may add to it.
/// `progress` is told the pages done and their number.
///
/// # Errors
/// [`StoreError::DamagedBackup`], [`StoreError::NotEmpty`] where something is at `to`, [`StoreError::Io`]; then nothing is
/// left there.
pub fn restore(
    from: impl Read + Seek,
    to: &Path,
    last: &Last<'_, Restored>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, StoreError> {
    build(to, |unfinished| {
        let directory = Directory::open(unfinished)?;
        let restored = fill(&directory, BackupReader::new(from)?, progress)?;
        last(&directory, &restored)?;
        Ok(restored)
    })
}

/// Makes an empty storage the data directory that a backup was taken of.
///
/// # Errors
/// As [`restore`]; then the storage is of no use.
pub fn fill<R: Read>(
    storage: &dyn Storage,
    mut reader: BackupReader<R>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, StoreError> {
    let header = *reader.header();
    let mut used = fill_pages(storage, &mut reader, progress)?;
    let mut replay = Replay::new(header.in_place);
    while let Some(order) = reader.order()? {
        replay.take_order(order);
    }
    while reader.record(|record| replay.take(record))? {}
    let suspended = reader.suspended()?;
    let end = reader.end()?;
    finish_directory(storage, Geometry::default(), used.clone(), replay.orders(), end.sequence)?;
    if let Some(suspended) = suspended {
        suspended.save(storage)?;
    }
    let mut opened = open_as_it_is(storage)?;
    replay.write_pages(storage, &mut used)?;
    note_pages(storage, &mut opened, &used, end.sequence)?;
    let report = verify(storage, &mut |_, _| {})?;
    match report.verdict() {
        Verdict::Clean => Ok(Restored { header, end, report }),
        _ => Err(damaged(report.findings.first().map_or(String::new(), ToString::to_string))),
    }
}

/// Puts the pages in their places; returns which they are.
fn fill_pages<R: Read>(
    storage: &dyn Storage,
    reader: &mut BackupReader<R>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<UsedPages, StoreError> {
    let mut next_frame = PageFrame::zeroed();
    let mut next = reader.page(&mut next_frame)?;
    let mut fill = |page, frame: &mut PageFrame| {
        if next != Some(page) {
            return Ok(false);
        }
        frame.bytes_mut().copy_from_slice(next_frame.bytes());
        next = reader.page(&mut next_frame)?;
        Ok(true)
    };
    write_pages(storage, &mut fill, progress)
}
