//! Looks at a data directory that no node uses, all of it, and says what is damaged and whether that can be repaired.
//!
//! It reads with the code that recovers and writes nothing: what the pages in their place, the double-write areas and
//! the logs say together is what the next start would have. Where that start would refuse, or could not know, it goes
//! on all the same, so that one run names all the damage there is.
//!
//! What a process leaves that was merely killed is no damage: the next start replays the log. What is torn by a power cut
//! may look like rot; where a whole copy is left it counts as repairable.
//!
//! # What must hold, beyond checksums
//! * Every page that a control block notes as used is there; a page with coins is noted, or all of it is in the logs.
//! * No page and no order is newer than the logs and what they say is in place: else the logs have lost something.
//! * The logs agree on every coin.
//!
//! # Layout
//! * [`mod@survey`]: what the logs' directories hold
//! * `derive`: what is lost of them and can be made again
//! * [`walk`]: every page, against that
//! * [`report`]: what comes out
//! * [`online`]: less than all that, while a node serves

mod derive;
pub mod online;
pub mod report;
pub mod survey;
pub mod walk;

pub use report::{Finding, Repair, Report, Totals, Verdict};
pub use survey::Survey;

use super::error::StoreError;
use super::files;
use super::recovery::NODE_LINE;
use super::storage::Storage;
use super::suspended::Suspended;
use crate::coin::Denomination;

/// Verifies a data directory. `progress` is told the pages done and their number.
///
/// # Errors
/// [`StoreError::NotADataDirectory`] where there is none of this format. Whatever cannot be read is a finding.
pub fn verify(storage: &dyn Storage, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, StoreError> {
    let mut findings = Vec::new();
    let survey = Survey::new(storage, &mut findings)?;
    look_at_node_file(storage, &survey, &mut findings)?;
    look_at_coin_files(storage, &mut findings)?;
    look_at_suspensions(storage, &mut findings);
    let walked = walk::walk(storage, &survey, progress, &mut findings);
    Ok(survey.report(walked, findings))
}

/// Whether the file `node` says what it must. A directory whose control blocks are whole is one of this format without.
fn look_at_node_file(storage: &dyn Storage, survey: &Survey, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
    let length = storage.length(files::NODE)?;
    let mut line = vec![0; length.unwrap_or(0).min(4096) as usize];
    storage.read_at(files::NODE, 0, &mut line).or_else(|error| if length.is_none() { Ok(()) } else { Err(error) })?;
    if line == NODE_LINE.as_bytes() {
        return Ok(());
    }
    let says = std::str::from_utf8(&line).ok().and_then(|line| line.strip_suffix('\n'));
    let format = says.and_then(|line| line.strip_prefix("raida data directory, format "));
    if survey.controls.is_empty() || format.is_some_and(|format| format.bytes().all(|byte| byte.is_ascii_digit())) {
        let why = if length.is_none() { "it has no file `node`" } else { "its file `node` names another format" };
        return Err(StoreError::NotADataDirectory { why: why.to_string() });
    }
    let what = if length.is_none() { "is missing" } else { "does not say what it must" };
    findings.push(Finding::of_file(files::NODE, length, what, Some(Repair::NodeFile)));
    Ok(())
}

/// Whether what the operator has suspended can be read. Nobody else knows it: a node does not start without.
fn look_at_suspensions(storage: &dyn Storage, findings: &mut Vec<Finding>) {
    if let Err(error) = Suspended::load(storage) {
        let length = storage.length(files::SUSPENDED).ok().flatten();
        let what = format!("cannot be used, so that nobody knows what is held: {error}");
        findings.push(Finding::of_file(files::SUSPENDED, length, what, None));
    }
}

/// Whether every coin file has its size. What that costs, the pages say.
fn look_at_coin_files(storage: &dyn Storage, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
    for path in Denomination::all().map(files::coins) {
        let length = storage.length(&path)?;
        if length != Some(files::COINS_BYTES) {
            findings.push(Finding::of_wrong_size(&path, length, files::COINS_BYTES));
        }
    }
    Ok(())
}
