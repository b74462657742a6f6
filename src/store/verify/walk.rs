//! Every page, against what the logs' directories say of it; and the coins as they come out.

use std::collections::HashSet;

use super::report::{Finding, Repair, Totals};
use super::survey::{Origin, Survey};
use crate::coin::{COINS_PER_PAGE, DENOMINATIONS, PAGES, PageNumber, Place, Secret};
use crate::store::files;
use crate::store::layout::{PAGE_BYTES, PageFrame, PageState};
use crate::store::pages::survey_pages;
use crate::store::storage::Storage;

/// What the walk counted.
pub struct Walked {
    /// The coins, by denomination.
    pub totals: [Totals; DENOMINATIONS],
    /// ANs of orders that coins belong to.
    pub on_sale: HashSet<Secret>,
}

/// What is wrong with a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Torn,
    NeverUsed,
    Logged,
    Damaged,
    Lost,
    Ahead,
    Unnoted,
}

impl Trouble {
    fn what(self) -> &'static str {
        match self {
            Self::Torn => "torn or damaged; a double-write area has it whole",
            Self::NeverUsed => "damaged, but never used: no coin of it was ever in circulation",
            Self::Logged => "torn or damaged; the logs have all that it ever held",
            Self::Damaged => "damaged, and no whole copy is left",
            Self::Lost => "held coins and reads as zeros",
            Self::Ahead => "newer than anything the logs know: the logs have lost commands",
            Self::Unnoted => "has coins and is not noted as used",
        }
    }

    fn repair(self) -> Option<Repair> {
        match self {
            Self::Torn => Some(Repair::Recovery),
            Self::NeverUsed | Self::Logged => Some(Repair::Zeros),
            Self::Damaged | Self::Lost | Self::Ahead => None,
            Self::Unnoted => Some(Repair::Noted),
        }
    }
}

/// Pages next to each other in one file with the same trouble.
struct Run {
    first: PageNumber,
    last: PageNumber,
    trouble: Trouble,
}

impl Run {
    fn is_continued_by(&self, page: PageNumber, trouble: Trouble) -> bool {
        let next = page.get() == self.last.get() + 1 && page.denomination() == self.first.denomination();
        next && trouble == self.trouble
    }

    fn finding(&self) -> Finding {
        let (first, last) = (self.first.in_denomination(), self.last.in_denomination());
        let den = self.first.denomination();
        let pages = if first == last { format!("page {first}") } else { format!("pages {first} to {last}") };
        let coins = (self.first.coin(0), self.last.coin(usize::from(COINS_PER_PAGE) - 1));
        let what = self.trouble.what();
        Finding {
            path: files::coins(den),
            offset: files::page_offset(self.first),
            length: u64::from(last - first + 1) * PAGE_BYTES as u64,
            what: format!("{pages} of denomination {den} (coins {:?} to {:?}): {what}", coins.0, coins.1),
            repair: self.trouble.repair(),
        }
    }
}

/// A page as the next start would have it.
pub struct Page<'a> {
    /// Which.
    pub number: PageNumber,
    /// What is in its place.
    pub state: PageState,
    /// Where its content is from.
    pub origin: Origin,
    /// Its sequence then.
    pub sequence: u64,
    /// Its coins; means nothing where the page is lost.
    pub frame: &'a PageFrame,
}

/// Gives every page to `visit`, in order, but those that nobody ever heard of.
pub fn each_page(
    storage: &dyn Storage,
    survey: &Survey,
    progress: &mut dyn FnMut(u64, u64),
    visit: &mut dyn FnMut(&Page<'_>),
) {
    let mut frame = PageFrame::zeroed();
    survey_pages(storage, &mut |number, read, state| {
        progress(u64::from(number.get()) + 1, u64::from(PAGES));
        if state == PageState::NeverUsed && survey.knows_nothing_of(number) {
            return;
        }
        match state {
            PageState::NeverUsed => frame.bytes_mut().fill(0),
            _ => frame.bytes_mut().copy_from_slice(read.bytes()),
        }
        let (origin, sequence) = survey.bring(number, state, &mut frame);
        visit(&Page { number, state, origin, sequence, frame: &frame });
    });
}

/// Reads every page and counts the coins as the next start would have them.
pub fn walk(
    storage: &dyn Storage,
    survey: &Survey,
    progress: &mut dyn FnMut(u64, u64),
    findings: &mut Vec<Finding>,
) -> Walked {
    let orders: HashSet<Secret> = survey.orders().into_iter().map(|order| order.an).collect();
    let mut walked = Walked { totals: [Totals::default(); DENOMINATIONS], on_sale: HashSet::new() };
    let mut run: Option<Run> = None;
    each_page(storage, survey, progress, &mut |page| {
        let totals = &mut walked.totals[page.number.denomination().index()];
        let coins = match page.origin {
            Origin::Damaged | Origin::Lost => {
                totals.unknown += u64::from(COINS_PER_PAGE);
                0
            }
            _ => count(page.frame, &orders, totals, &mut walked.on_sale),
        };
        if let Some(trouble) = trouble(survey, page, coins) {
            let number = page.number;
            match &mut run {
                Some(run) if run.is_continued_by(number, trouble) => run.last = number,
                _ => {
                    findings.extend(run.replace(Run { first: number, last: number, trouble }).map(|run| run.finding()));
                }
            }
        }
    });
    findings.extend(run.map(|run| run.finding()));
    walked
}

fn trouble(survey: &Survey, page: &Page<'_>, coins: u64) -> Option<Trouble> {
    match page.origin {
        Origin::Place if page.sequence > survey.logged() => Some(Trouble::Ahead),
        Origin::Place if coins > 0 && !survey.may_be_unnoted(page.number, page.sequence) => Some(Trouble::Unnoted),
        Origin::Place | Origin::Nowhere => None,
        Origin::Copy => Some(Trouble::Torn),
        Origin::Logs if page.sequence == 0 => Some(Trouble::NeverUsed),
        Origin::Logs => Some(Trouble::Logged),
        Origin::Damaged => Some(Trouble::Damaged),
        Origin::Lost => Some(Trouble::Lost),
    }
}

/// Adds a page's coins to the totals; returns how many are in circulation.
fn count(frame: &PageFrame, orders: &HashSet<Secret>, totals: &mut Totals, on_sale: &mut HashSet<Secret>) -> u64 {
    let before = totals.circulation;
    for slot in 0..usize::from(COINS_PER_PAGE) {
        let place = frame.record(slot).place();
        totals.circulation += u64::from(place != Place::Free);
        match place {
            Place::Free | Place::Wallet => {}
            Place::Locker(_) => totals.lockers += 1,
            Place::TradeLocker(an) if orders.contains(&an) => {
                totals.on_sale += 1;
                on_sale.insert(an);
            }
            Place::TradeLocker(_) => totals.not_for_sale += 1,
        }
    }
    totals.circulation - before
}
