//! Pages in their place, outside the shards: written crash-safely, read as a whole at start.

use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use super::control::UsedPages;
use super::double_write::{self, DoubleBatch};
use super::error::StoreError;
use super::files;
use super::layout::{AlignedBytes, PAGE_BYTES, PageFrame, PageState, page_state};
use super::storage::Storage;
use crate::coin::{PAGES, PAGES_PER_DENOMINATION, PageNumber};

/// Pages read at once: a megabyte, near enough.
const PAGES_PER_READ: u16 = 50;
/// Reads that all pages take; none spans two files.
const READS: u16 = PAGES / PAGES_PER_READ;

/// How often a page is read again that a node may be just writing, and after how long: a write takes far less.
const TORN_READS_MAX: u32 = 20;
const BETWEEN_TORN_READS: Duration = Duration::from_millis(10);

const _: () = assert!(PAGES_PER_DENOMINATION.is_multiple_of(PAGES_PER_READ));

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

/// Reads pages, in their order, changes each as `change` says and writes it back through `writer`. `change` gets the
/// page and its sequence, 0 if it was never used, and returns the new one.
///
/// # Errors
/// As [`read_page`].
pub fn change_pages(
    storage: &dyn Storage,
    pages: &[PageNumber],
    used: &UsedPages,
    writer: &mut PageWriter<'_>,
    change: &mut dyn FnMut(PageNumber, &mut PageFrame, u64) -> u64,
) -> Result<(), StoreError> {
    let mut bytes = AlignedBytes::zeroed(usize::from(PAGES_PER_READ) * PAGE_BYTES);
    let mut frame = PageFrame::zeroed();
    for run in runs(pages) {
        let bytes = &mut bytes[..run.len() * PAGE_BYTES];
        storage.read_at(&files::coins(run[0].denomination()), files::page_offset(run[0]), bytes)?;
        for (page, bytes) in run.iter().zip(bytes.chunks_exact(PAGE_BYTES)) {
            frame.bytes_mut().copy_from_slice(bytes);
            let before = match checked(*page, frame.state(*page), used)? {
                PageState::Used(sequence) => sequence,
                _ => 0,
            };
            let sequence = change(*page, &mut frame, before);
            frame.seal(*page, sequence);
            writer.add(*page, &frame)?;
        }
    }
    Ok(())
}

fn checked(page: PageNumber, state: PageState, used: &UsedPages) -> Result<PageState, StoreError> {
    match state {
        PageState::Damaged => Err(StoreError::DamagedPage { page }),
        PageState::NeverUsed if used.contains(page) => Err(StoreError::LostPage { page }),
        state => Ok(state),
    }
}

/// Takes a used page and its sequence.
pub trait Visit: FnMut(PageNumber, &PageFrame, u64) {}
impl<F: FnMut(PageNumber, &PageFrame, u64)> Visit for F {}

/// Reads every used page, in order, and gives it to `visit`; a page not given has never been used.
///
/// # Errors
/// As [`read_page`]; the first one ends it.
pub fn read_pages(storage: &dyn Storage, used: &UsedPages, visit: &mut dyn Visit) -> Result<(), StoreError> {
    let mut reader = Reader::new(storage, used);
    (0..READS).try_for_each(|read| {
        reader.load(read)?;
        reader.visit(visit)
    })
}

/// Takes a page and its bytes.
pub type Copy<'a> = dyn FnMut(PageNumber, &[u8]) -> Result<(), StoreError> + 'a;

/// Groups of pages that [`copy_pages`] knows, each a megabyte at most.
pub const PAGE_GROUPS: u16 = READS;

/// Reads the used pages of a group, in order, while a node may be changing them, and gives their bytes to `copy`. A page
/// that is torn is read again for a while, as the node may be just writing it.
///
/// # Errors
/// As [`read_page`], of the pages that were in `used` before they are read; what `copy` fails with.
///
/// # Panics
/// When there is no such group.
pub fn copy_pages(storage: &dyn Storage, used: &UsedPages, group: u16, copy: &mut Copy<'_>) -> Result<(), StoreError> {
    let mut reader = Reader::new(storage, used);
    reader.load(group)?;
    for page in reader.loaded() {
        let mut state = checked(page, reader.state(page), used);
        for _ in 0..TORN_READS_MAX {
            let Err(StoreError::DamagedPage { .. }) = state else { break };
            thread::sleep(BETWEEN_TORN_READS);
            state = read_page(storage, page, used, &mut reader.frame);
        }
        if let PageState::Used(_) = state? {
            copy(page, reader.frame.bytes())?;
        }
    }
    Ok(())
}

/// Reads every used page once, in no order, in several threads, and gives it with its sequence to `visit`, which each
/// thread calls with a value of its own; returns these. For the start of a node. More threads than processors keep the
/// disk busy.
///
/// # Errors
/// As [`read_page`]; the first one ends it.
pub fn read_all_pages<T: Default + Send>(
    storage: &dyn Storage,
    used: &UsedPages,
    threads: usize,
    visit: impl Fn(&mut T, PageNumber, &PageFrame, u64) + Sync,
) -> Result<Vec<T>, StoreError> {
    let next = AtomicU16::new(0);
    let work = || -> Result<T, StoreError> {
        let mut reader = Reader::new(storage, used);
        let mut own = T::default();
        loop {
            let read = next.fetch_add(1, Ordering::Relaxed);
            if read >= READS {
                return Ok(own);
            }
            reader.load(read)?;
            reader.visit(&mut |page, frame, sequence| visit(&mut own, page, frame, sequence))?;
        }
    };
    // After a failure the others stop when they are done with what they are at.
    let work = || work().inspect_err(|_| next.store(READS, Ordering::Relaxed));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.collect()
    })
}

/// Reads every page, in order, and gives it to `visit` with what it turned out to be: damaged ones too, and those that
/// were never used, for which the frame means nothing. What the storage cannot read is damaged; what a file is too short
/// for was never used.
pub fn survey_pages(storage: &dyn Storage, visit: &mut dyn FnMut(PageNumber, &PageFrame, PageState)) {
    let used = UsedPages::none();
    let mut reader = Reader::new(storage, &used);
    for read in 0..READS {
        reader.load_what_can_be_read(read);
        for page in reader.loaded() {
            let state = reader.state(page);
            visit(page, &reader.frame, state);
        }
    }
}

/// Reads one page as [`survey_pages`] does.
pub fn survey_page(storage: &dyn Storage, page: PageNumber, frame: &mut PageFrame) -> PageState {
    read_what_can_be_read(storage, page, frame.bytes_mut());
    frame.state(page)
}

fn read_what_can_be_read(storage: &dyn Storage, page: PageNumber, bytes: &mut [u8]) {
    let path = files::coins(page.denomination());
    if storage.read_what_is_there(&path, files::page_offset(page), bytes).is_err() {
        // Neither a page nor zeros.
        bytes.fill(0xFF);
    }
}

/// Reads pages by the megabyte.
struct Reader<'a> {
    storage: &'a dyn Storage,
    used: &'a UsedPages,
    bytes: AlignedBytes,
    frame: PageFrame,
    /// The first page loaded, and the first of those that is not in a hole.
    first: u16,
    first_data: u16,
}

impl<'a> Reader<'a> {
    fn new(storage: &'a dyn Storage, used: &'a UsedPages) -> Self {
        let bytes = AlignedBytes::zeroed(usize::from(PAGES_PER_READ) * PAGE_BYTES);
        Self { storage, used, bytes, frame: PageFrame::zeroed(), first: 0, first_data: 0 }
    }

    /// Loads the pages of one read, 0..[`READS`].
    fn load(&mut self, read: u16) -> Result<(), StoreError> {
        self.first = read * PAGES_PER_READ;
        let page = PageNumber::new(self.first).expect("a read of pages");
        let path = files::coins(page.denomination());
        let data = self.storage.data_from(&path, files::page_offset(page))?;
        let skipped = data.map_or(u64::MAX, |at| (at - files::page_offset(page)) / PAGE_BYTES as u64);
        let skipped = skipped.min(u64::from(PAGES_PER_READ)) as u16;
        self.first_data = self.first + skipped;
        if let Some(page) = PageNumber::new(self.first_data).filter(|_| skipped < PAGES_PER_READ) {
            let bytes = &mut self.bytes[usize::from(skipped) * PAGE_BYTES..];
            self.storage.read_at(&path, files::page_offset(page), bytes)?;
        }
        Ok(())
    }

    /// Loads the pages of one read as [`survey_pages`] says.
    fn load_what_can_be_read(&mut self, read: u16) {
        if self.load(read).is_ok() {
            return;
        }
        self.first_data = self.first;
        let pages = PageNumber::all().skip(usize::from(self.first));
        for (page, bytes) in pages.zip(self.bytes.chunks_exact_mut(PAGE_BYTES)) {
            read_what_can_be_read(self.storage, page, bytes);
        }
    }

    /// The pages loaded, in order.
    fn loaded(&self) -> impl Iterator<Item = PageNumber> + use<> {
        PageNumber::all().skip(usize::from(self.first)).take(usize::from(PAGES_PER_READ))
    }

    /// Says what a loaded page is, and brings it into the frame if it is used.
    fn state(&mut self, page: PageNumber) -> PageState {
        if page.get() < self.first_data {
            return PageState::NeverUsed;
        }
        let at = usize::from(page.get() - self.first) * PAGE_BYTES;
        let bytes = &self.bytes[at..at + PAGE_BYTES];
        let state = page_state(bytes, page);
        if matches!(state, PageState::Used(_)) {
            self.frame.bytes_mut().copy_from_slice(bytes);
        }
        state
    }

    /// Gives the loaded pages to `visit`. One in a hole was never used, or is lost.
    fn visit(&mut self, visit: &mut dyn Visit) -> Result<(), StoreError> {
        for page in self.loaded() {
            if let PageState::Used(sequence) = checked(page, self.state(page), self.used)? {
                visit(page, &self.frame, sequence);
            }
        }
        Ok(())
    }
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

/// Writes the pages of an area to their places, durably; neighbours in one write.
fn write_in_place(storage: &dyn Storage, area: &[u8], pages: &[PageNumber]) -> Result<(), StoreError> {
    let mut at = double_write::page_at(0);
    for run in runs(pages) {
        let bytes = &area[at..at + run.len() * PAGE_BYTES];
        storage.write_at(&files::coins(run[0].denomination()), files::page_offset(run[0]), bytes)?;
        at += bytes.len();
    }
    let mut denominations: Vec<_> = pages.iter().map(|page| page.denomination()).collect();
    denominations.sort_unstable();
    denominations.dedup();
    denominations.into_iter().try_for_each(|den| storage.sync(&files::coins(den)))
}

/// Pages that lie next to each other in one file, a megabyte at most.
fn runs(pages: &[PageNumber]) -> impl Iterator<Item = &[PageNumber]> {
    let neighbours = |a: &PageNumber, b: &PageNumber| a.get() + 1 == b.get() && a.denomination() == b.denomination();
    pages.chunk_by(neighbours).flat_map(|run| run.chunks(usize::from(PAGES_PER_READ)))
}

#[cfg(test)]
mod tests {

    use std::sync::Mutex;

    use super::*;
    use crate::coin::{CoinRecord, Months, Secret};
    use crate::store::recovery::{initialise, note_pages, open_as_it_is};
    use crate::store::storage::Memory;
    use crate::store::wal::Geometry;

    fn with_pages(storage: &dyn Storage, pages: impl Iterator<Item = PageNumber>) -> UsedPages {
        initialise(storage, Geometry { segment_bytes: 1 << 20, ..Geometry::default() }).unwrap();
        let mut opened = open_as_it_is(storage).unwrap();
        let mut writer = PageWriter::new(storage, 0);
        let mut used = UsedPages::none();
        let mut frame = PageFrame::zeroed();
        for page in pages {
            let record =
                |slot| CoinRecord { an: Secret::new([page.get() as u8; 16]), mfs: Months::new(slot as u8 | 1) };
            (0..1024).for_each(|slot| frame.set_record(slot, record(slot)));
            frame.seal(page, u64::from(page.get()));
            writer.add(page, &frame).unwrap();
            used.insert(page);
        }
        assert_eq!(writer.finish().unwrap(), used.count() as u64);
        note_pages(storage, &mut opened, &used, 15_000).unwrap();
        used
    }

    #[test]
    fn used_pages_are_read_in_order_and_holes_are_skipped() {
        let memory = Memory::new();
        let numbers = [0, 1, 2, 49, 50, 51, 999, 1000, 1500, 7003, 14_998, 14_999];
        let pages = numbers.map(|number| PageNumber::new(number).unwrap());
        let used = with_pages(&memory, pages.into_iter());
        for threads in 1..=5 {
            let mut all = Vec::new();
            read_pages(&memory, &used, &mut |page, frame, sequence| {
                assert_eq!(frame.record(7).an, Secret::new([page.get() as u8; 16]));
                assert_eq!(sequence, u64::from(page.get()));
                all.push(page);
            })
            .unwrap();
            assert_eq!(all, pages);
            let all = Mutex::new(Vec::new());
            let visit = |own: &mut Vec<PageNumber>, page, frame: &PageFrame, sequence| {
                assert_eq!((frame.state(page), page.get()), (PageState::Used(sequence), sequence as u16));
                assert!(!own.contains(&page), "a thread's own value stays its own");
                own.push(page);
                all.lock().unwrap().push(page);
            };
            read_all_pages(&memory, &used, threads, visit).unwrap();
            let mut all = all.into_inner().unwrap();
            all.sort_unstable();
            assert_eq!(all, pages);
        }
    }

    #[test]
    fn a_page_is_in_its_place_when_the_writer_has_finished() {
        let memory = Memory::new();
        let used = with_pages(&memory, PageNumber::all().step_by(100));
        memory.crash(0);
        let mut frame = PageFrame::zeroed();
        for page in PageNumber::all().step_by(50) {
            let expected = match page.get() % 100 {
                0 => PageState::Used(u64::from(page.get())),
                _ => PageState::NeverUsed,
            };
            assert_eq!(read_page(&memory, page, &used, &mut frame).unwrap(), expected);
        }
    }

    #[test]
    fn the_first_damaged_page_ends_the_reading() {
        let memory = Memory::new();
        let used = with_pages(&memory, PageNumber::all().step_by(100));
        let page = PageNumber::new(300).unwrap();
        memory.flip(&files::coins(page.denomination()), files::page_offset(page) + 99);
        let error = read_all_pages(&memory, &used, 3, |_: &mut (), _, _, _| {}).unwrap_err();
        assert!(matches!(error, StoreError::DamagedPage { page: damaged } if damaged == page), "{error}");
    }
}
