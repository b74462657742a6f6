//! Memory that the kernel can read and write with O_DIRECT, and the page of 1024 coins.
//!
//! # A page on disk: 20,480 bytes
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `RCP1` |
//! | 4 | 2 | format version = 1 |
//! | 6 | 2 | page number, 0..15,000 |
//! | 8 | 8 | sequence: the highest of the changes it holds |
//! | 16 | 4 | CRC-32C of all 20,480 bytes with this field zero |
//! | 20 | 12 | zero |
//! | 32 | 17,408 | 1024 records of 17 bytes |
//! | 17,440 | 3,040 | zero |
//!
//! Integers are big-endian. A page of zeros alone was never used: all its coins are free.

use crate::coin::{COINS_PER_PAGE, CoinRecord, PageNumber};

/// What O_DIRECT aligns to.
pub const BLOCK_BYTES: usize = 4096;
/// A page on disk and in the cache.
pub const PAGE_BYTES: usize = 5 * BLOCK_BYTES;

/// The records of a page.
pub const RECORDS_BYTES: usize = COINS_PER_PAGE as usize * CoinRecord::BYTES;

const MAGIC: &[u8; 4] = b"RCP1";
const VERSION: u16 = 1;
const CRC_AT: usize = 16;
const RECORDS_AT: usize = 32;

const _: () = assert!(RECORDS_BYTES == 17_408 && RECORDS_AT + RECORDS_BYTES <= PAGE_BYTES);

/// One block, aligned to itself.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES]);

const _: () = assert!(size_of::<Block>() == BLOCK_BYTES);

/// Bytes in whole, aligned blocks, for O_DIRECT. Moving it moves no byte.
#[derive(Clone)]
pub struct AlignedBytes(Box<[Block]>);

impl AlignedBytes {
    /// `bytes` zeros, rounded up to whole blocks.
    pub fn zeroed(bytes: usize) -> Self {
        Self(bytemuck::allocation::zeroed_slice_box(bytes.div_ceil(BLOCK_BYTES)))
    }
}

impl std::ops::Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl std::ops::DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBytes({})", self.len())
    }
}

/// What a page read from disk turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageState {
    /// All zeros: never used.
    NeverUsed,
    /// Whole, of this page, with this sequence.
    Used(u64),
    /// Not what was written: torn, flipped or of another page.
    Damaged,
}

/// A page in memory: its bytes as they are on disk, header and CRC as of the last [`PageFrame::seal`].
#[derive(Clone, Debug)]
pub struct PageFrame(AlignedBytes);

impl PageFrame {
    /// A page of free coins.
    pub fn zeroed() -> Self {
        Self(AlignedBytes::zeroed(PAGE_BYTES))
    }

    /// The record at a place, 0..1024.
    pub fn record(&self, slot: usize) -> CoinRecord {
        let at = RECORDS_AT + slot * CoinRecord::BYTES;
        CoinRecord::decode(self.0[at..at + CoinRecord::BYTES].try_into().expect("17 bytes"))
    }

    /// Changes the record at a place; the CRC holds again after [`PageFrame::seal`].
    pub fn set_record(&mut self, slot: usize, record: CoinRecord) {
        let at = RECORDS_AT + slot * CoinRecord::BYTES;
        self.0[at..at + CoinRecord::BYTES].copy_from_slice(&record.encode());
    }

    /// Its 1024 records, one after the other: a page of the reference's.
    pub fn records(&self) -> &[u8] {
        &self.0[RECORDS_AT..RECORDS_AT + RECORDS_BYTES]
    }

    /// Its 1024 records, to be overwritten; the CRC holds again after [`PageFrame::seal`].
    pub fn records_mut(&mut self) -> &mut [u8] {
        &mut self.0[RECORDS_AT..RECORDS_AT + RECORDS_BYTES]
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its bytes, for the read that fills them.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// What its bytes are, taken for `page`.
    pub fn state(&self, page: PageNumber) -> PageState {
        page_state(&self.0, page)
    }

    /// Writes header and CRC: the page is ready for the disk.
    pub fn seal(&mut self, page: PageNumber, sequence: u64) {
        let bytes = &mut self.0;
        bytes[..RECORDS_AT].fill(0);
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_be_bytes());
        bytes[6..8].copy_from_slice(&page.get().to_be_bytes());
        bytes[8..16].copy_from_slice(&sequence.to_be_bytes());
        let crc = crc32c::crc32c(bytes);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    }
}

/// A page that was never used.
static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// What the `PAGE_BYTES` bytes are, taken for `page`.
pub fn page_state(bytes: &[u8], page: PageNumber) -> PageState {
    assert_eq!(bytes.len(), PAGE_BYTES);
    let field = |at: usize, size: usize| &bytes[at..at + size];
    // Most pages of a young node are zeros: they are known by their first bytes, without a CRC.
    let is_named =
        field(0, 4) == MAGIC && field(4, 2) == VERSION.to_be_bytes() && field(6, 2) == page.get().to_be_bytes();
    if is_named && field(CRC_AT, 4) == crc_of(bytes).to_be_bytes() {
        PageState::Used(u64::from_be_bytes(field(8, 8).try_into().expect("8 bytes")))
    } else if bytes == ZEROS {
        PageState::NeverUsed
    } else {
        PageState::Damaged
    }
}

/// The CRC of a page, with its field of zeros.
fn crc_of(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &[0; 4]), &bytes[CRC_AT + 4..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coin::{Months, Secret};

    fn page() -> PageNumber {
        PageNumber::new(1003).unwrap()
    }

    fn sealed() -> PageFrame {
        let mut frame = PageFrame::zeroed();
        frame.set_record(1, CoinRecord { an: Secret::new([0xA5; 16]), mfs: Months::new(45) });
        frame.seal(page(), 0x0102_0304_0506_0708);
        frame
    }

    #[test]
    fn golden_bytes_of_a_page() {
        let frame = sealed();
        let bytes = frame.bytes();
        assert_eq!(&bytes[..16], b"RCP1\x00\x01\x03\xEB\x01\x02\x03\x04\x05\x06\x07\x08");
        assert_eq!(&bytes[16..20], &0xB067_FBD2u32.to_be_bytes());
        assert!(bytes[20..49].iter().all(|&byte| byte == 0));
        assert_eq!(&bytes[49..66], b"\xA5\xA5\xA5\xA5\xA5\xA5\xA5\xA5\xA5\xA5\xA5\xA5\xA5\xA5\xA5\xA5\x2d");
        assert!(bytes[66..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn every_flipped_bit_of_every_block_is_seen() {
        let frame = sealed();
        assert_eq!(frame.state(page()), PageState::Used(0x0102_0304_0506_0708));
        for at in (0..PAGE_BYTES).step_by(61) {
            let mut flipped = frame.clone();
            flipped.bytes_mut()[at] ^= 1 << (at % 8);
            assert_eq!(flipped.state(page()), PageState::Damaged, "byte {at}");
        }
    }

    #[test]
    fn zeros_were_never_used_and_a_page_is_not_another() {
        assert_eq!(PageFrame::zeroed().state(page()), PageState::NeverUsed);
        assert_eq!(sealed().state(PageNumber::new(1004).unwrap()), PageState::Damaged);
    }

    #[test]
    fn memory_is_aligned() {
        let bytes = AlignedBytes::zeroed(PAGE_BYTES + 1);
        assert_eq!(bytes.len(), PAGE_BYTES + BLOCK_BYTES);
        assert_eq!(bytes.as_ptr().align_offset(BLOCK_BYTES), 0);
    }
}
