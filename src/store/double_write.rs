//! The double-write area: pages pass through it on their way to their place.
//!
//! A batch of up to 64 pages is first made durable here, then each page is written to its place, durably; only then
//! may the next batch overwrite the area. So a page torn in its place is whole here, and a batch torn here has not
//! touched its places yet.
//!
//! # The area: a header block, then pages
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `RDW1` |
//! | 4 | 2 | format version = 1 |
//! | 6 | 2 | number of pages, n, 0..=64 |
//! | 8 | 4 | CRC-32C of the block with this field zero |
//! | 12 | 4 | zero |
//! | 16 | 2·64 | page numbers, then zeros |
//! | 144 | 3,952 | zero |
//! | 4,096 + 20,480·i | 20,480 | page i, sealed |
//!
//! Integers are big-endian. A page vouches for itself by its own number and CRC, so the header need not.

use super::layout::{AlignedBytes, BLOCK_BYTES, PAGE_BYTES, PageFrame, PageState};
use crate::coin::PageNumber;

/// Pages of the largest batch.
pub const PAGES_PER_BATCH: usize = 64;
/// The size of the area.
pub const AREA_BYTES: usize = page_at(PAGES_PER_BATCH);

const MAGIC: &[u8; 4] = b"RDW1";
const VERSION: u16 = 1;
const CRC_AT: usize = 8;
const PAGES_AT: usize = 16;

const _: () = assert!(PAGES_AT + 2 * PAGES_PER_BATCH <= BLOCK_BYTES);

/// Where page `index` of a batch starts in the area.
pub const fn page_at(index: usize) -> usize {
    BLOCK_BYTES + index * PAGE_BYTES
}

/// A batch of sealed pages, as the area holds them.
#[derive(Debug)]
pub struct DoubleBatch {
    bytes: AlignedBytes,
    pages: Vec<PageNumber>,
}

impl Default for DoubleBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl DoubleBatch {
    /// An empty batch with memory for 64 pages.
    pub fn new() -> Self {
        Self::with_capacity(PAGES_PER_BATCH)
    }

    /// An empty batch with memory for so many pages, at most 64.
    pub fn with_capacity(pages: usize) -> Self {
        assert!((1..=PAGES_PER_BATCH).contains(&pages));
        Self { bytes: AlignedBytes::zeroed(page_at(pages)), pages: Vec::with_capacity(pages) }
    }

    /// An empty batch in the buffers of a finished one.
    pub fn reuse(bytes: AlignedBytes, mut pages: Vec<PageNumber>) -> Self {
        pages.clear();
        Self { bytes, pages }
    }

    /// Copies a sealed page into the batch.
    ///
    /// # Panics
    /// When the batch is full, the page is in it already, or it is not sealed as `page`.
    pub fn add(&mut self, page: PageNumber, frame: &PageFrame) {
        assert!(!self.is_full() && !self.pages.contains(&page));
        debug_assert!(matches!(frame.state(page), PageState::Used(_)), "a page is sealed before it is written");
        let at = page_at(self.pages.len());
        self.bytes[at..at + PAGE_BYTES].copy_from_slice(frame.bytes());
        self.pages.push(page);
    }

    /// Whether no page finds room.
    pub fn is_full(&self) -> bool {
        page_at(self.pages.len() + 1) > self.bytes.len()
    }

    /// Whether no page is in it.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Its pages, in the order of the area.
    pub fn pages(&self) -> &[PageNumber] {
        &self.pages
    }

    /// Writes the header: the bytes for the area, how many of them (whole blocks), and the pages they hold.
    pub fn finish(mut self) -> (AlignedBytes, usize, Vec<PageNumber>) {
        encode_header(&mut self.bytes[..BLOCK_BYTES], &self.pages);
        let length = page_at(self.pages.len());
        (self.bytes, length, self.pages)
    }
}

fn encode_header(header: &mut [u8], pages: &[PageNumber]) {
    header.fill(0);
    header[..4].copy_from_slice(MAGIC);
    header[4..6].copy_from_slice(&VERSION.to_be_bytes());
    header[6..8].copy_from_slice(&(pages.len() as u16).to_be_bytes());
    for (page, into) in pages.iter().zip(header[PAGES_AT..].chunks_exact_mut(2)) {
        into.copy_from_slice(&page.get().to_be_bytes());
    }
    let crc = crc32c::crc32c(header);
    header[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

/// How many pages the batch of an area has. `None` where the header is not whole: then the batch was torn, and no page
/// was written to its place from it; or there never was one.
pub fn batch_pages(area: &[u8]) -> Option<usize> {
    let header = area.get(..BLOCK_BYTES)?;
    let mut unsigned = header.to_vec();
    unsigned[CRC_AT..CRC_AT + 4].fill(0);
    let whole = &header[..4] == MAGIC
        && header[4..6] == VERSION.to_be_bytes()
        && header[CRC_AT..CRC_AT + 4] == crc32c::crc32c(&unsigned).to_be_bytes();
    whole.then(|| usize::from(u16::from_be_bytes([header[6], header[7]])).min(PAGES_PER_BATCH))
}

/// The whole pages of an area, with where they start in it.
pub fn decode(area: &[u8]) -> Vec<(PageNumber, usize)> {
    let count = batch_pages(area).unwrap_or(0);
    let numbers = area.get(PAGES_AT..BLOCK_BYTES).unwrap_or_default().chunks_exact(2);
    let numbers = numbers.map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let pages = numbers.take(count).enumerate();
    pages
        .filter_map(|(index, number)| {
            let (page, at) = (PageNumber::new(number)?, page_at(index));
            let state = super::layout::page_state(area.get(at..at + PAGE_BYTES)?, page);
            matches!(state, PageState::Used(_)).then_some((page, at))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coin::{CoinRecord, Months, Secret};

    fn page(number: u16, byte: u8) -> (PageNumber, PageFrame) {
        let page = PageNumber::new(number).unwrap();
        let mut frame = PageFrame::zeroed();
        frame.set_record(0, CoinRecord { an: Secret::new([byte; 16]), mfs: Months::new(1) });
        frame.seal(page, u64::from(byte));
        (page, frame)
    }

    fn area() -> Vec<u8> {
        let mut batch = DoubleBatch::new();
        for (page, frame) in [page(258, 1), page(14_999, 2)] {
            batch.add(page, &frame);
        }
        let (bytes, length, pages) = batch.finish();
        assert_eq!(pages.len(), 2);
        bytes[..length].to_vec()
    }

    #[test]
    fn golden_bytes_of_an_area() {
        let area = area();
        assert_eq!(area.len(), 4096 + 2 * 20_480);
        assert_eq!(&area[..8], b"RDW1\x00\x01\x00\x02");
        assert_eq!(area[8..12], 0xFB67_68B0u32.to_be_bytes());
        assert_eq!(&area[12..20], b"\x00\x00\x00\x00\x01\x02\x3A\x97");
        assert!(area[20..4096].iter().all(|&byte| byte == 0));
        assert_eq!(&area[4096..24_576], page(258, 1).1.bytes());
        assert_eq!(&area[24_576..], page(14_999, 2).1.bytes());
    }

    #[test]
    fn what_is_whole_is_found() {
        let [first, second] = [258, 14_999].map(|number| PageNumber::new(number).unwrap());
        assert_eq!(decode(&area()), [(first, 4096), (second, 24_576)]);
        assert_eq!(batch_pages(&area()), Some(2));
        let mut torn = area();
        torn[30_000] ^= 1;
        assert_eq!(decode(&torn), [(first, 4096)]);
        assert_eq!(decode(&area()[..30_000]), [(first, 4096)]);
        for at in 0..200 {
            let mut torn = area();
            torn[at] ^= 1;
            assert_eq!((decode(&torn), batch_pages(&torn)), (vec![], None), "byte {at}");
        }
        assert_eq!(decode(&[0; AREA_BYTES]), []);
        assert_eq!(decode(&[]), []);
    }

    #[test]
    fn a_batch_is_bounded_and_its_buffers_are_used_again() {
        let mut batch = DoubleBatch::with_capacity(2);
        batch.add(page(1, 1).0, &page(1, 1).1);
        assert!(!batch.is_full());
        batch.add(page(2, 1).0, &page(2, 1).1);
        assert!(batch.is_full());
        let (bytes, _, pages) = batch.finish();
        let mut batch = DoubleBatch::reuse(bytes, pages);
        assert!(batch.is_empty() && !batch.is_full());
        batch.add(page(3, 1).0, &page(3, 1).1);
        let (bytes, length, _) = batch.finish();
        assert_eq!(decode(&bytes[..length]), [(page(3, 1).0, 4096)]);
    }
}
