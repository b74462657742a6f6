//! Shows what is in a data directory that no node uses, for a person who looks: coins, pages, the log. Nothing is
//! changed, and a damaged directory is shown as far as it goes.

use super::error::StoreError;
use super::files;
use super::layout::{AlignedBytes, BLOCK_BYTES, PageFrame, PageState};
use super::pages::survey_page;
use super::storage::Storage;
use super::verify::Survey;
use super::verify::survey::Origin;
use super::verify::walk::each_page;
use super::wal::CommitRecord;
use super::wal::format::{BatchHeader, HEADER_BYTES, whole_blocks};
use crate::coin::{COINS_PER_PAGE, CoinId, CoinRecord, PageNumber, Secret};

/// A page.
pub struct PageView {
    /// What is in its place.
    pub state: PageState,
    /// Where its content comes from at the next start.
    pub origin: Origin,
    /// Its sequence then.
    pub sequence: u64,
    /// Its content then; means nothing where it is lost.
    pub frame: PageFrame,
    /// The coins of which the logs have records that may not be in its place, with the sequence of the newest.
    pub logged: Vec<(CoinId, u64)>,
}

impl PageView {
    /// The record of one of its coins; `None` where the page is lost.
    pub fn record(&self, coin: CoinId) -> Option<CoinRecord> {
        let lost = matches!(self.origin, Origin::Damaged | Origin::Lost);
        (!lost).then(|| self.frame.record(coin.slot()))
    }
}

/// Looks at a page.
pub fn page(storage: &dyn Storage, survey: &Survey, number: PageNumber) -> PageView {
    let mut frame = PageFrame::zeroed();
    let state = survey_page(storage, number, &mut frame);
    let (origin, sequence) = survey.bring(number, state, &mut frame);
    let logged = |coin: &CoinId| Some((*coin, survey.logged_change(*coin)?));
    let logged = survey.changed_on(number).iter().filter_map(logged).collect();
    PageView { state, origin, sequence, frame, logged }
}

/// The coins in circulation that have an AN: those of a locker or trade locker. Pages that are lost have none.
pub fn coins_of(
    storage: &dyn Storage,
    survey: &Survey,
    an: &Secret,
    progress: &mut dyn FnMut(u64, u64),
) -> Vec<(CoinId, CoinRecord)> {
    let mut found = Vec::new();
    each_page(storage, survey, progress, &mut |page| {
        if !matches!(page.origin, Origin::Damaged | Origin::Lost) {
            let coins = (0..usize::from(COINS_PER_PAGE)).map(|slot| (page.number.coin(slot), page.frame.record(slot)));
            found.extend(coins.filter(|(_, record)| !record.is_free() && record.an == *an));
        }
    });
    found
}

/// Blocks of a segment.
pub enum Stretch<'a> {
    /// A whole batch.
    Batch(BatchHeader, Vec<CommitRecord<'a>>),
    /// Never written: so many bytes.
    Zeros(u64),
    /// Neither: so many bytes that are torn, damaged, or the rest of what was overwritten.
    Other(u64),
}

/// Gives what a segment holds to `visit`, with where it begins.
///
/// # Errors
/// What the storage fails with.
pub fn segment(
    storage: &dyn Storage,
    shard: u8,
    slot: u16,
    visit: &mut dyn FnMut(u64, Stretch<'_>),
) -> Result<(), StoreError> {
    let path = files::segment(shard, slot);
    let length = storage.length(&path)?.unwrap_or(0);
    let mut bytes = AlignedBytes::zeroed(BLOCK_BYTES);
    let (mut at, mut since, mut zeros) = (0, 0, true);
    // What lies between batches is shown when it ends.
    let between = |since: u64, at: u64, zeros: bool, visit: &mut dyn FnMut(u64, Stretch<'_>)| {
        if at > since {
            visit(since, if zeros { Stretch::Zeros(at - since) } else { Stretch::Other(at - since) });
        }
    };
    while at < length {
        let block = (length - at).min(BLOCK_BYTES as u64) as usize;
        storage.read_at(&path, at, &mut bytes[..block])?;
        if let Some((header, size)) = batch_at(storage, &path, (at, length), &mut bytes)? {
            between(since, at, zeros, visit);
            visit(at, Stretch::Batch(header, records(&header, &bytes)));
            at += size;
            since = at;
            continue;
        }
        let is_zeros = bytes[..block].iter().all(|&byte| byte == 0);
        if is_zeros != zeros {
            between(since, at, zeros, visit);
            (since, zeros) = (at, is_zeros);
        }
        at += block as u64;
    }
    between(since, at, zeros, visit);
    Ok(())
}

/// The whole batch whose first block is in `bytes`, with its size; all of it is then there.
fn batch_at(
    storage: &dyn Storage,
    path: &str,
    (at, length): (u64, u64),
    bytes: &mut AlignedBytes,
) -> Result<Option<(BatchHeader, u64)>, StoreError> {
    let Some(header) = BatchHeader::decode(&bytes[..BLOCK_BYTES]) else { return Ok(None) };
    let size = whole_blocks(header.used as usize);
    if size as u64 > length - at {
        return Ok(None);
    }
    if bytes.len() < size {
        *bytes = AlignedBytes::zeroed(size);
    }
    storage.read_at(path, at, &mut bytes[..size])?;
    Ok(header.whole(&bytes[..size]).map(|_| (header, size as u64)))
}

fn records<'a>(header: &BatchHeader, bytes: &'a [u8]) -> Vec<CommitRecord<'a>> {
    let mut rest = &bytes[HEADER_BYTES..header.used as usize];
    std::iter::from_fn(|| {
        let (record, after) = CommitRecord::decode(rest)?;
        rest = after;
        Some(record)
    })
    .collect()
}
