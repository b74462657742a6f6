//! Repairs what [`verify`](super::verify) calls repairable, and nothing else.
//!
//! 1. The bytes concerned are kept: copied into `damaged/` in the data directory, durable before anything is changed.
//! 2. What recovery cannot do by itself is done: files get their sizes, images of orders are written anew.
//! 3. Recovery runs, as at a start: pages come back from double-write areas and logs, both slots of every control block
//!    are written.
//! 4. Everything is verified again.
//!
//! Each step may be interrupted anywhere: what was damaged is then still repairable, or whole. A file is replaced under
//! its name in one step, a page through recovery's own way.

use super::control::{Control, SLOT_BYTES, UsedPages};
use super::error::StoreError;
use super::files::{self, UNFINISHED};
use super::layout::{AlignedBytes, PAGE_BYTES};
use super::orders::encode_image;
use super::recovery::logs::read_slots;
use super::recovery::{NODE_LINE, note_pages, open_as_it_is};
use super::storage::{Storage, Zeros};
use super::verify::{Finding, Repair, Report, Verdict, verify};
use crate::coin::PageNumber;

/// Where damaged bytes are kept.
pub const DAMAGED: &str = "damaged";

/// How much is copied at once.
const COPY_BYTES: usize = 1 << 20;

/// What a rebuild did.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// The files that have the damaged bytes, within the data directory.
    pub kept: Vec<String>,
    /// What verify says now.
    pub report: Report,
}

/// Repairs the data directory that `report` is of, which no process has changed since. `label` is part of the names of
/// the files that keep the damaged bytes: the time, for a person.
///
/// # Errors
/// What the storage fails with; it may be run again, with a new report.
///
/// # Panics
/// When the report's verdict is not [`Verdict::Repairable`].
pub fn rebuild(
    storage: &dyn Storage,
    report: &Report,
    label: &str,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Rebuilt, StoreError> {
    assert!(report.verdict() == Verdict::Repairable, "what is lost cannot be repaired, what is whole need not be");
    let mut kept = Vec::new();
    storage.create_directory(DAMAGED)?;
    for finding in &report.findings {
        kept.extend(keep(storage, finding, label)?);
    }
    storage.sync_directory(DAMAGED)?;
    storage.sync_directory("")?;
    // Files first, so that every page has its place.
    let (files, pages): (Vec<&Finding>, Vec<_>) =
        report.findings.iter().partition(|finding| finding.repair != Some(Repair::Zeros));
    files.into_iter().chain(pages).try_for_each(|finding| repair(storage, report, finding))?;
    let mut opened = open_as_it_is(storage)?;
    let noted = noted_pages(report);
    if noted.count() > 0 {
        let sequence = opened.sequence;
        note_pages(storage, &mut opened, &noted, sequence)?;
    }
    Ok(Rebuilt { kept, report: verify(storage, progress)? })
}

/// Copies the bytes concerned into a new file, durably; `None` where there are none.
fn keep(storage: &dyn Storage, finding: &Finding, label: &str) -> Result<Option<String>, StoreError> {
    let there = storage.length(&finding.path)?.unwrap_or(0).saturating_sub(finding.offset);
    let length = there.min(finding.length);
    if length == 0 || finding.repair == Some(Repair::Noted) {
        return Ok(None);
    }
    let name = format!("{label}-{}-{}", finding.path.replace('/', "-"), finding.offset);
    let taken = storage.list(DAMAGED)?;
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let name = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name)).expect("a free name");
    let path = format!("{DAMAGED}/{name}");
    storage.create(&path, length, Zeros::Hole)?;
    copy(storage, (&finding.path, finding.offset), &path, length)?;
    storage.sync(&path)?;
    Ok(Some(path))
}

/// Copies bytes to the start of another file, which is zeros; holes stay holes. What cannot be read stays zeros too.
fn copy(storage: &dyn Storage, (from, offset): (&str, u64), to: &str, length: u64) -> Result<(), StoreError> {
    let mut bytes = AlignedBytes::zeroed(COPY_BYTES);
    for at in (0..length).step_by(COPY_BYTES) {
        let bytes = &mut bytes[..(length - at).min(COPY_BYTES as u64) as usize];
        match storage.read_at(from, offset + at, bytes) {
            Ok(()) if bytes.iter().all(|&byte| byte == 0) => {}
            Ok(()) => storage.write_at(to, at, bytes)?,
            Err(error) => log::warn!("{error}; its copy has zeros there"),
        }
    }
    Ok(())
}

/// Does what recovery cannot.
fn repair(storage: &dyn Storage, report: &Report, finding: &Finding) -> Result<(), StoreError> {
    let Finding { path, offset, length, .. } = finding;
    match finding.repair.expect("everything is repairable") {
        Repair::Recovery | Repair::Noted => Ok(()),
        Repair::NodeFile => {
            replace(storage, path, 0, &|unfinished| storage.write_at(unfinished, 0, NODE_LINE.as_bytes()))
        }
        Repair::Size(size) => {
            let there = storage.length(path)?.unwrap_or(0).min(size);
            replace(storage, path, size, &|unfinished| copy(storage, (path, 0), unfinished, there))
        }
        Repair::Zeros => {
            let zeros = AlignedBytes::zeroed(PAGE_BYTES);
            (*offset..offset + length).step_by(PAGE_BYTES).try_for_each(|at| storage.write_at(path, at, &zeros))?;
            storage.sync(path)
        }
        Repair::Control { shard } => {
            let lost = report.derived.iter().find(|control| control.writer == shard);
            let mut control = lost.expect("made again when the directory was verified").clone();
            control.used.add(&noted_pages(report));
            replace(storage, path, 2 * SLOT_BYTES as u64, &|unfinished| {
                (0..2).try_for_each(|generation| {
                    let control = Control { generation, ..control.clone() };
                    storage.write_at(unfinished, control.offset(), &control.to_block())
                })
            })
        }
        Repair::Orders { shard } => {
            let control = Control::newest(read_slots(storage, shard)?).expect("seen when the directory was verified");
            let image = encode_image(control.orders.generation, report.all_orders.iter());
            replace(storage, path, 0, &|unfinished| storage.write_at(unfinished, 0, &image))
        }
    }
}

/// Puts a file of `length` zeros, as changed by `fill`, in the place of `path` in one step.
fn replace(
    storage: &dyn Storage,
    path: &str,
    length: u64,
    fill: &dyn Fn(&str) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let unfinished = format!("{path}{UNFINISHED}");
    storage.create(&unfinished, length, Zeros::Hole)?;
    fill(&unfinished)?;
    storage.sync(&unfinished)?;
    storage.rename(&unfinished, path)?;
    storage.sync_directory(path.rsplit_once('/').map_or("", |(directory, _)| directory))
}

/// The pages that are to be noted as used.
fn noted_pages(report: &Report) -> UsedPages {
    let mut noted = UsedPages::none();
    let is_noted = |page: PageNumber| {
        report.findings.iter().any(|finding| {
            let pages = finding.offset..finding.offset + finding.length;
            finding.repair == Some(Repair::Noted)
                && finding.path == files::coins(page.denomination())
                && pages.contains(&files::page_offset(page))
        })
    };
    PageNumber::all().filter(|page| is_noted(*page)).for_each(|page| noted.insert(page));
    noted
}
