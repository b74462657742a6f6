//! Looks at a data directory while a node serves it, at a bounded rate.
//!
//! What is not whole is read again for a while before it counts: the node may just be writing it. Looked at are
//! * every page in its place: its checksum and its number, and that it is not zeros where a control block notes it as used;
//! * of each log a control block, and the image of payout addresses that it names.
//!
//! What this cannot say: whether pages, logs and payout addresses agree, how many coins there are, and whether a damaged
//! page is whole elsewhere (in the node's memory, a double-write area, the logs). The logs' ends move while one looks.
//! [`verify`](super::verify) says all that, of a directory that no node uses.

use std::thread;
use std::time::{Duration, Instant};

use super::report::Finding;
use crate::coin::{PAGES, PageNumber};
use crate::store::control::{Control, UsedPages};
use crate::store::error::StoreError;
use crate::store::files;
use crate::store::layout::{PAGE_BYTES, PageFrame, PageState};
use crate::store::pages::survey_page;
use crate::store::recovery::logs::{log_numbers, read_slots};
use crate::store::recovery::replay::read_slot;
use crate::store::storage::Storage;

/// How often something that is not whole is read again, and after how long: a write takes far less than that together.
const READS_AGAIN: u32 = 25;
const BETWEEN_READS: Duration = Duration::from_millis(20);
/// Pages after which the rate is looked at.
const PAGES_PER_LOOK: u64 = 16;

/// What was found while the node served.
#[derive(Clone, Default, Debug)]
pub struct Online {
    /// Pages read: those ever used, and those between them.
    pub pages: u64,
    /// Times that something was read again, as the node was writing it.
    pub again: u64,
    /// What is wrong. None of it says how it is repaired.
    pub findings: Vec<Finding>,
}

/// Looks at everything, at no more than `pages_per_second`; `progress` is told the pages done and their number, and says
/// whether to go on. `None`: it said no.
///
/// # Errors
/// What the storage fails with where it lists names. What cannot be read is a finding.
pub fn verify_online(
    storage: &dyn Storage,
    pages_per_second: u32,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Option<Online>, StoreError> {
    let mut found = Online::default();
    let mut used = UsedPages::none();
    for log in log_numbers(storage)? {
        if let Some(control) = look_at_log(storage, log, &mut found) {
            used.add(&control.used);
        }
    }
    let began = Instant::now();
    let mut frame = PageFrame::zeroed();
    for page in PageNumber::all() {
        if !progress(u64::from(page.get()), u64::from(PAGES)) {
            return Ok(None);
        }
        if is_in_hole(storage, page) && !used.contains(page) {
            continue;
        }
        look_at_page(storage, page, &used, &mut frame, &mut found);
        found.pages += 1;
        if found.pages.is_multiple_of(PAGES_PER_LOOK) {
            let due = Duration::from_secs_f64(found.pages as f64 / f64::from(pages_per_second.max(1)));
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    progress(u64::from(PAGES), u64::from(PAGES));
    Ok(Some(found))
}

/// Tries until it gets something, or gives up.
fn again_until<T>(found: &mut Online, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let mut seen = look();
    for _ in 0..READS_AGAIN {
        if seen.is_some() {
            break;
        }
        thread::sleep(BETWEEN_READS);
        found.again += 1;
        seen = look();
    }
    seen
}

/// A log's control block, and the orders that it names.
fn look_at_log(storage: &dyn Storage, log: u8, found: &mut Online) -> Option<Control> {
    let mut last = None;
    let whole = again_until(found, || {
        last = Control::newest(read_slots(storage, log).ok()?);
        let orders = last.as_ref()?.orders;
        // The control block moves on to another image before this one is written over.
        let (generation, _) = read_slot(storage, log, orders.slot).ok()??;
        (generation >= orders.generation).then_some(())
    });
    if whole.is_none() {
        let (path, what) = match &last {
            None => (files::control(log), "has no whole slot"),
            Some(control) => (files::orders(log, control.orders.slot), "is not the image that the control block names"),
        };
        let length = storage.length(&path).ok().flatten();
        found.findings.push(Finding::of_file(&path, length, what, None));
    }
    last
}

fn look_at_page(storage: &dyn Storage, page: PageNumber, used: &UsedPages, frame: &mut PageFrame, found: &mut Online) {
    let mut state = PageState::NeverUsed;
    let whole = again_until(found, || {
        state = survey_page(storage, page, frame);
        match state {
            PageState::Used(_) => Some(()),
            PageState::NeverUsed => (!used.contains(page)).then_some(()),
            PageState::Damaged => None,
        }
    });
    if whole.is_none() {
        let what = if state == PageState::Damaged { "is damaged" } else { "held coins and reads as zeros" };
        found.findings.push(Finding {
            path: files::coins(page.denomination()),
            offset: files::page_offset(page),
            length: PAGE_BYTES as u64,
            what: format!("page {} of denomination {} {what}", page.in_denomination(), page.denomination()),
            repair: None,
        });
    }
}

/// Whether the disk has nothing where a page is.
fn is_in_hole(storage: &dyn Storage, page: PageNumber) -> bool {
    let (path, at) = (files::coins(page.denomination()), files::page_offset(page));
    storage.data_from(&path, at).is_ok_and(|data| data.is_none_or(|data| data >= at + PAGE_BYTES as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coin::{CoinId, Secret};
    use crate::sim::{World, WorldOptions};
    use crate::store::recovery;
    use crate::store::storage::Memory;

    /// A directory of two logs with coins on three pages.
    fn directory() -> Memory {
        let storage = Memory::new();
        let options = WorldOptions::small(2, 1);
        recovery::initialise(&storage, options.geometry).unwrap();
        let coins = [(0, 1), (0, 5000), (3, 7)].map(|(den, sn)| (CoinId::new(den, sn).unwrap(), Secret::new([7; 16])));
        World::mint(&storage, &coins, 10);
        let mut world = World::on(storage, &options);
        world.start();
        assert!(world.shut_down());
        world.storage
    }

    fn looked(storage: &Memory) -> Online {
        verify_online(storage, u32::MAX, &mut |_, _| true).unwrap().expect("to the end")
    }

    #[test]
    fn a_whole_directory_has_no_findings() {
        let found = looked(&directory());
        assert_eq!((found.pages >= 3, found.again, found.findings), (true, 0, vec![]));
    }

    #[test]
    fn what_is_damaged_is_named() {
        let page = CoinId::new(3, 7).unwrap().page();
        let (path, at) = (files::coins(page.denomination()), files::page_offset(page));
        let storage = directory();
        storage.flip(&path, at + 5000);
        let found = looked(&storage);
        assert_eq!(found.findings.len(), 1);
        assert_eq!(
            (found.findings[0].to_string().as_str(), found.findings[0].offset, found.again),
            ("damaged     coins/11.pages page 0 of denomination 3 is damaged", at, u64::from(READS_AGAIN))
        );

        let storage = directory();
        storage.write_durably(&path, at, &[0; PAGE_BYTES]).unwrap();
        storage.write_durably(&files::control(1), 0, &[0; 100]).unwrap();
        storage.write_durably(&files::control(1), crate::store::control::SLOT_BYTES as u64, &[0; 100]).unwrap();
        let findings: Vec<String> = looked(&storage).findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            findings,
            [
                "damaged     log/1/control has no whole slot",
                "damaged     coins/11.pages page 0 of denomination 3 held coins and reads as zeros"
            ]
        );
    }

    #[test]
    fn it_is_broken_off_and_keeps_its_rate() {
        let storage = directory();
        let mut calls = 0;
        let stopped = verify_online(&storage, u32::MAX, &mut |_, _| {
            calls += 1;
            calls < 10
        });
        assert!(stopped.unwrap().is_none());
        assert_eq!(calls, 10);
    }

    /// A page is torn while it is written, and whole soon after.
    #[test]
    fn a_page_that_is_being_written_is_read_again() {
        let page = CoinId::new(3, 7).unwrap().page();
        let (path, at) = (files::coins(page.denomination()), files::page_offset(page));
        let storage = directory();
        let mut whole = vec![0; PAGE_BYTES];
        storage.read_at(&path, at, &mut whole).unwrap();
        storage.write_durably(&path, at + 4096, &[0xAA; 4096]).unwrap();
        let found = thread::scope(|scope| {
            let looking = scope.spawn(|| looked(&storage));
            thread::sleep(3 * BETWEEN_READS);
            storage.write_durably(&path, at, &whole).unwrap();
            looking.join().unwrap()
        });
        assert_eq!(found.findings, []);
    }
}
