//! The one function from which every view follows.
//!
//! The free map, the locker index and the market are pure functions of the coin records. A transaction applies what
//! [`derive()`] says of (old, new); the start applies what it says of (free, record) for every coin, collected by page in
//! [`PageViews`]. Nothing else touches a view.

use crate::coin::{COINS_PER_PAGE, CoinId, CoinRecord, PageNumber, Place};
use crate::store::layout::PageFrame;

use super::free_map::WORDS_PER_PAGE;

/// How the views change with one coin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ViewChange {
    /// Whether the coin comes free (`Some(true)`) or into circulation (`Some(false)`).
    pub free: Option<bool>,
    /// The locker or trade locker it leaves.
    pub leaves: Option<Place>,
    /// The locker or trade locker it enters.
    pub enters: Option<Place>,
}

/// What changes in the views when a coin's record changes.
#[inline]
pub fn derive(old: &CoinRecord, new: &CoinRecord) -> ViewChange {
    let (from, to) = (old.place(), new.place());
    let indexed = |place| matches!(place, Place::Locker(_) | Place::TradeLocker(_)).then_some(place);
    let moves = from != to;
    ViewChange {
        free: (old.is_free() != new.is_free()).then_some(new.is_free()),
        leaves: indexed(from).filter(|_| moves),
        enters: indexed(to).filter(|_| moves),
    }
}

/// What the records of a page say of the views. Its memory is used again for the next.
#[derive(Default)]
pub struct PageViews {
    /// Its free coins: a bit a coin, words and bits in their order.
    pub free: [u64; WORDS_PER_PAGE as usize],
    /// Its coins in lockers and trade lockers.
    pub listed: Vec<(CoinId, Place)>,
}

impl PageViews {
    /// Looks at a page.
    pub fn derive(&mut self, page: PageNumber, frame: &PageFrame) {
        let free = CoinRecord::default();
        self.free = [u64::MAX; WORDS_PER_PAGE as usize];
        self.listed.clear();
        for slot in 0..COINS_PER_PAGE as usize {
            let change = derive(&free, &frame.record(slot));
            if change.free == Some(false) {
                self.free[slot / u64::BITS as usize] &= !(1 << (slot % u64::BITS as usize));
            }
            self.listed.extend(change.enters.map(|place| (page.coin(slot), place)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coin::{Months, Secret};

    fn record(an: [u8; 16], mfs: u8) -> CoinRecord {
        CoinRecord { an: Secret::new(an), mfs: Months::new(mfs) }
    }

    #[test]
    fn views_follow_the_record() {
        let mut key = [1; 16];
        key[12..].fill(0xFF);
        let mut other = key;
        other[0] = 2;
        let (free, owned, locked, elsewhere) =
            (record([9; 16], 0), record([3; 16], 7), record(key, 7), record(other, 8));
        let change = |free, leaves, enters| ViewChange { free, leaves, enters };
        let (here, there) = (Some(Place::Locker(Secret::new(key))), Some(Place::Locker(Secret::new(other))));
        assert_eq!(derive(&free, &owned), change(Some(false), None, None));
        assert_eq!(derive(&owned, &free), change(Some(true), None, None));
        assert_eq!(derive(&free, &locked), change(Some(false), None, here));
        assert_eq!(derive(&locked, &elsewhere), change(None, here, there));
        assert_eq!(derive(&locked, &free), change(Some(true), here, None));
        assert_eq!(derive(&locked, &record(key, 9)), change(None, None, None), "put into the locker it is in");
        assert_eq!(derive(&free, &record(key, 0)), change(None, None, None), "a free coin is nowhere, whatever its AN");
    }
}
