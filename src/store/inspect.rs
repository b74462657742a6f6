//! Shows what is in a data directory that no node uses, for a person who looks. Nothing is changed, and a
//! damaged directory is shown as far as it goes. The log's batches are listed by [`wal::listing`](super::wal::listing).

use super::layout::{PageFrame, PageState};
use super::pages::survey_page;
use super::storage::Storage;
use super::verify::Survey;
use super::verify::survey::Origin;
use super::verify::walk::each_page;
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
