//! The names of the files in a data directory, relative to it.

use super::layout::PAGE_BYTES;
use crate::coin::{Denomination, PAGES_PER_DENOMINATION, PageNumber};

/// The directory of the coin files.
pub const COINS: &str = "coins";
/// The directory of the logs, one directory a shard.
pub const LOGS: &str = "log";
/// The directory of the archive of the logs.
pub const ARCHIVE: &str = "archive";
/// What makes a directory a data directory.
pub const NODE: &str = "node";
/// Locked by the process that uses the directory.
pub const LOCK: &str = "lock";
/// What the operator has suspended.
pub const SUSPENDED: &str = "suspended";
/// What the operator did.
pub const ADMIN_JOURNAL: &str = "admin.journal";
/// What a file or directory is called until it is complete; left-overs are removed at start.
pub const UNFINISHED: &str = ".new";
/// What a directory is called while it is removed; left-overs are removed at start.
pub const SURPLUS: &str = ".old";

/// The size of a coin file.
pub const COINS_BYTES: u64 = PAGES_PER_DENOMINATION as u64 * PAGE_BYTES as u64;

/// The file of a denomination's pages.
pub fn coins(den: Denomination) -> String {
    format!("{COINS}/{:02}.pages", den.index())
}

/// Where a page starts in its denomination's file.
pub const fn page_offset(page: PageNumber) -> u64 {
    page.in_denomination() as u64 * PAGE_BYTES as u64
}

/// A shard's directory.
pub fn log(shard: u8) -> String {
    format!("{LOGS}/{shard}")
}

/// A shard's control block.
pub fn control(shard: u8) -> String {
    format!("{LOGS}/{shard}/control")
}

/// A shard's double-write area.
pub fn double_write(shard: u8) -> String {
    format!("{LOGS}/{shard}/double")
}

/// One of a shard's two orders images.
pub fn orders(shard: u8, slot: u8) -> String {
    format!("{LOGS}/{shard}/orders-{slot}")
}

/// A segment of a shard's log.
pub fn segment(shard: u8, slot: u16) -> String {
    format!("{LOGS}/{shard}/segment-{slot}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let page = PageNumber::new(14_999).unwrap();
        assert_eq!((coins(page.denomination()).as_str(), page_offset(page)), ("coins/14.pages", 999 * 20_480));
        assert_eq!(COINS_BYTES, 20_480_000);
        assert_eq!(control(3), "log/3/control");
        assert_eq!(double_write(0), "log/0/double");
        assert_eq!(orders(1, 0), "log/1/orders-0");
        assert_eq!(segment(12, 345), "log/12/segment-345");
        assert!(control(7).starts_with(&log(7)));
    }
}
