//! Pages in their place, outside the shards: written crash-safely, read as a whole at start.

use super::control::UsedPages;
use super::double_write::DoubleBatch;
use super::error::StoreError;
use super::files;
use super::layout::{AlignedBytes, PAGE_BYTES, PageFrame, PageState};
use super::storage::Storage;
use crate::coin::{Denomination, PAGES_PER_DENOMINATION, PageNumber};

/// Pages read at once: a megabyte, near enough.
const PAGES_PER_READ: u16 = 50;

/// Reads one page from its place.
///
/// # Errors
/// [`StoreError::DamagedPage`], [`StoreError::LostPage`] where it is in `used` and zero; what the storage fails with.
pub fn read_page(
    storage: &dyn Storage,
    page: PageNumber,
    used: &UsedPages,
    frame: &mut PageFrame,
) -> Result<PageState, StoreError> {
    storage.read_at(&files::coins(page.denomination()), files::page_offset(page), frame.bytes_mut())?;
    checked(page, frame.state(page), used)
}

fn checked(page: PageNumber, state: PageState, used: &UsedPages) -> Result<PageState, StoreError> {
    match state {
        PageState::Damaged => Err(StoreError::DamagedPage { page }),
        PageState::NeverUsed if used.contains(page) => Err(StoreError::LostPage { page }),
        state => Ok(state),
    }
}

/// Reads every used page of a shard, in order, and gives it with its sequence to `visit`; a page not given has never
/// been used. For the start: after recovery, one thread a shard.
///
/// # Errors
/// As [`read_page`]; the first one ends it.
///
/// # Panics
/// When `shard` is none of the `shards`.
pub fn read_pages(
    storage: &dyn Storage,
    shard: u8,
    shards: u8,
    used: &UsedPages,
    visit: &mut dyn FnMut(PageNumber, &PageFrame, u64),
) -> Result<(), StoreError> {
    assert!(shard < shards);
    let mut bytes = AlignedBytes::zeroed(usize::from(PAGES_PER_READ) * PAGE_BYTES);
    let mut frame = PageFrame::zeroed();
    for den in Denomination::all() {
        let path = files::coins(den);
        let mut next = 0;
        while next < PAGES_PER_DENOMINATION {
            // What lies in a hole was never used: that is looked at below, without reading it.
            let data = storage.data_from(&path, u64::from(next) * PAGE_BYTES as u64)?;
            let first = data.map_or(PAGES_PER_DENOMINATION, |at| (at / PAGE_BYTES as u64) as u16);
            let end = PAGES_PER_DENOMINATION.min(first + PAGES_PER_READ);
            let read = &mut bytes[..usize::from(end - first) * PAGE_BYTES];
            if !read.is_empty() {
                storage.read_at(&path, u64::from(first) * PAGE_BYTES as u64, read)?;
            }
            for number in next..end {
                let page = PageNumber::of(den, number).expect("a page of the denomination");
                if page.get() % u16::from(shards) != u16::from(shard) {
                    continue;
                }
                let mut state = PageState::NeverUsed;
                if number >= first {
                    let at = usize::from(number - first) * PAGE_BYTES;
                    frame.bytes_mut().copy_from_slice(&read[at..at + PAGE_BYTES]);
                    state = frame.state(page);
                }
                if let PageState::Used(sequence) = checked(page, state, used)? {
                    visit(page, &frame, sequence);
                }
            }
            next = end;
        }
    }
    Ok(())
}

/// Writes pages to their places, each batch through a double-write area first: a crash leaves every page as it was or
/// as it shall be, or torn with its copy whole in the area.
pub struct PageWriter<'a> {
    storage: &'a dyn Storage,
    area: String,
    /// Absent only while it is written.
    batch: Option<DoubleBatch>,
    written: u64,
}

impl<'a> PageWriter<'a> {
    /// A writer through the area of that shard.
    pub fn new(storage: &'a dyn Storage, shard: u8) -> Self {
        Self { storage, area: files::double_write(shard), batch: Some(DoubleBatch::new()), written: 0 }
    }

    /// Takes a sealed page; it is in its place, durably, after [`PageWriter::finish`] at the latest.
    pub fn add(&mut self, page: PageNumber, frame: &PageFrame) -> Result<(), StoreError> {
        let batch = self.batch.as_mut().expect("not being written");
        batch.add(page, frame);
        if batch.is_full() { self.flush() } else { Ok(()) }
    }

    /// Makes all pages durable; returns how many there were.
    pub fn finish(mut self) -> Result<u64, StoreError> {
        if self.batch.as_ref().is_some_and(|batch| !batch.is_empty()) {
            self.flush()?;
        }
        Ok(self.written)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let batch = self.batch.take().expect("a write that failed ends the writer");
        let (bytes, length, pages) = batch.finish();
        self.storage.write_durably(&self.area, 0, &bytes[..length])?;
        write_in_place(self.storage, &bytes, &pages)?;
        self.written += pages.len() as u64;
        self.batch = Some(DoubleBatch::reuse(bytes, pages));
        Ok(())
    }
}

/// Writes the pages of an area to their places, durably.
fn write_in_place(storage: &dyn Storage, area: &[u8], pages: &[PageNumber]) -> Result<(), StoreError> {
    for (index, page) in pages.iter().enumerate() {
        let at = super::double_write::page_at(index);
        let path = files::coins(page.denomination());
        storage.write_at(&path, files::page_offset(*page), &area[at..at + PAGE_BYTES])?;
    }
    let mut denominations: Vec<_> = pages.iter().map(|page| page.denomination()).collect();
    denominations.sort_unstable();
    denominations.dedup();
    denominations.into_iter().try_for_each(|den| storage.sync(&files::coins(den)))
}
