//! The double-write area.

use super::layout::{BLOCK_BYTES, PAGE_BYTES};

/// Where page `index` of a batch starts in the area.
pub const fn page_at(index: usize) -> usize {
    BLOCK_BYTES + index * PAGE_BYTES
}
