//! What can be wrong with a data directory: one clear line each, no secret in any.

use std::fmt;
use std::io;

use crate::coin::{CoinId, PageNumber};

/// Why the store cannot do what it was asked.
#[derive(Debug)]
pub enum StoreError {
    /// The system failed an operation.
    Io {
        /// What was done: `read`, `write`, `sync` …
        doing: &'static str,
        /// To which file, within the data directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses the directory.
    Locked {
        /// The directory.
        path: String,
    },
    /// No data directory is there, or one of a format this program does not know.
    NotADataDirectory {
        /// What is missing or unknown.
        why: String,
    },
    /// Something is where a new data directory shall be made.
    NotEmpty {
        /// The directory.
        path: String,
    },
    /// A page is neither whole nor zero, and no whole copy is in a double-write area.
    DamagedPage {
        /// Which page.
        page: PageNumber,
    },
    /// A page was used and reads as zeros.
    LostPage {
        /// Which page.
        page: PageNumber,
    },
    /// Neither slot of a control block is whole, or the whole one is not the last that was written.
    DamagedControl {
        /// The file.
        path: String,
    },
    /// The orders image that the control block names is not whole.
    DamagedOrders {
        /// The file.
        path: String,
    },
    /// A coin file is not there, or a log lacks what must be durable.
    DamagedFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A batch of the log was durable and is not whole any more.
    LostBatch {
        /// The segment's file.
        path: String,
        /// Where in it the batch is due.
        offset: u64,
        /// Its number.
        batch: u64,
    },
    /// Two logs say different things of a coin under one sequence.
    Contradiction {
        /// Which coin.
        coin: CoinId,
        /// Under which sequence.
        sequence: u64,
    },
    /// A file to import is missing, short, long or holds what it cannot.
    DamagedImport {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file to restore is no backup, or not a whole one.
    DamagedBackup {
        /// What is wrong with it, without its name.
        why: String,
    },
    /// A coin to be minted is in circulation.
    InCirculation {
        /// Which coin.
        coin: CoinId,
    },
    /// Serial numbers to be minted go beyond the denomination's last.
    NoSuchCoins {
        /// The denomination.
        den: i8,
        /// The first serial number.
        first_sn: u32,
        /// How many.
        count: u32,
    },
}

impl StoreError {
    /// An operation that the system failed, for `map_err`.
    pub fn io(doing: &'static str, path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_string();
        move |source| Self::Io { doing, path, source }
    }

    /// Whether something in a data directory is not as it was written: [`verify`](super::verify) says more.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::DamagedPage { .. }
                | Self::LostPage { .. }
                | Self::DamagedControl { .. }
                | Self::DamagedOrders { .. }
                | Self::DamagedFile { .. }
                | Self::LostBatch { .. }
                | Self::Contradiction { .. }
        )
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, source } => write!(f, "cannot {doing} {path}: {source}"),
            Self::Locked { path } => write!(f, "{path} is in use by another process, which holds {path}/lock"),
            Self::NotADataDirectory { why } => write!(f, "this is no data directory of this program: {why}"),
            Self::NotEmpty { path } => write!(f, "{path} is there already and not empty"),
            Self::DamagedPage { page } => {
                write_page(f, *page)?;
                f.write_str(" is damaged and has no whole copy")
            }
            Self::LostPage { page } => {
                write_page(f, *page)?;
                f.write_str(" held coins and reads as zeros")
            }
            Self::DamagedControl { path } => write!(f, "{path} is damaged"),
            Self::DamagedOrders { path } => write!(f, "{path} is damaged, payout addresses are lost"),
            Self::DamagedFile { path, why } => write!(f, "{path} is damaged, {why}"),
            Self::LostBatch { path, offset, batch } => {
                write!(f, "{path} is damaged at offset {offset}, batch {batch} with answered commands is lost")
            }
            Self::Contradiction { coin, sequence } => {
                write!(f, "the logs contradict each other on coin {coin:?}, sequence {sequence}")
            }
            Self::DamagedImport { path, why } => write!(f, "cannot import {path}: {why}"),
            Self::DamagedBackup { why } => write!(f, "the backup cannot be restored: {why}"),
            Self::InCirculation { coin } => write!(f, "coin {coin:?} is in circulation already"),
            Self::NoSuchCoins { den, first_sn, count } => {
                write!(f, "denomination {den} has no {count} serial numbers from {first_sn} on")
            }
        }
    }
}

/// Names a page as an operator finds it: file, number there, denomination.
fn write_page(f: &mut fmt::Formatter<'_>, page: PageNumber) -> fmt::Result {
    let den = page.denomination();
    write!(f, "{}: page {} of denomination {den}", super::files::coins(den), page.in_denomination())
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_names_what_is_wrong() {
        let page = PageNumber::new(1003).unwrap();
        assert_eq!(
            StoreError::DamagedPage { page }.to_string(),
            "coins/01.pages: page 3 of denomination -7 is damaged and has no whole copy"
        );
        assert_eq!(
            StoreError::io("read", "log/0/control")(io::Error::from_raw_os_error(5)).to_string(),
            "cannot read log/0/control: Input/output error (os error 5)"
        );
        assert_eq!(
            StoreError::LostBatch { path: "log/0/segment-1".to_string(), offset: 4096, batch: 7 }.to_string(),
            "log/0/segment-1 is damaged at offset 4096, batch 7 with answered commands is lost"
        );
        assert_eq!(
            StoreError::InCirculation { coin: CoinId::new(-8, 5).unwrap() }.to_string(),
            "coin -8:5 is in circulation already"
        );
    }
}
