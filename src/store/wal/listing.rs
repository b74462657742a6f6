//! Lists what segments hold, whatever it is: for a person who looks, and where the control block is lost.

use super::format::{BatchHeader, CommitRecord, HEADER_BYTES, whole_blocks};
use crate::store::error::StoreError;
use crate::store::files;
use crate::store::layout::{AlignedBytes, BLOCK_BYTES};
use crate::store::storage::Storage;

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
pub fn list(
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
