//! Makes the data directory of a benchmark: page by page, in the order of the coins.

use std::path::Path;

use super::data::{BROKEN, BenchData, LOCKED, USED_MIN};
use crate::coin::{COINS_PER_PAGE, CoinId, CoinRecord, Denomination, Months, PageNumber, Secret};
use crate::store::create::{build, write_pages};
use crate::store::error::StoreError;
use crate::store::layout::PageFrame;
use crate::store::recovery::finish_directory;
use crate::store::storage::Directory;
use crate::store::wal::Geometry;

/// What to make.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Wish {
    /// The seed of all secrets.
    pub seed: u64,
    /// The share of the coins in circulation, [`USED_MIN`]..=1.
    pub used: f64,
    /// Lockers with coins in them.
    pub lockers: u32,
    /// Coins in each.
    pub coins_per_locker: u32,
    /// Pages of each denomination that have coins, 1..=1000. The one that is broken has them on all: what a session is
    /// offered to join into may be anywhere, and coins are to be near it.
    pub pages: u16,
    /// The month of all coins.
    pub mfs: Months,
}

/// What was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Made {
    /// Coins in circulation.
    pub coins: u64,
    /// Those of them in lockers.
    pub locked: u64,
}

impl Wish {
    /// How many coins may be in lockers.
    pub fn locked_max(&self) -> u64 {
        let data = BenchData::new(self.seed);
        let pages = LOCKED.filter_map(Denomination::new).flat_map(|den| (0..self.pages).map(move |page| (den, page)));
        let used = |(den, page)| {
            let page = PageNumber::of(den, page).expect("a page of the denomination");
            let coins = (0..usize::from(COINS_PER_PAGE)).map(|slot| page.coin(slot));
            coins.filter(|coin| data.is_used(*coin, self.used)).count() as u64
        };
        pages.map(used).sum()
    }

    /// How many coins shall be.
    pub fn locked(&self) -> u64 {
        u64::from(self.lockers) * u64::from(self.coins_per_locker)
    }
}

/// Makes a new data directory at `root`. `progress` is told the pages done and their number.
///
/// # Errors
/// [`StoreError::NotEmpty`], [`StoreError::Io`]; then nothing is left of it.
///
/// # Panics
/// When the share is too small, or the lockers need more than [`Wish::locked_max`]: the command line checks them.
pub fn prepare(root: &Path, wish: &Wish, progress: &mut dyn FnMut(u64, u64)) -> Result<Made, StoreError> {
    assert!((USED_MIN..=1.0).contains(&wish.used) && wish.locked() <= wish.locked_max());
    build(root, |unfinished| {
        let directory = Directory::open(unfinished)?;
        let mut filler = Filler { data: BenchData::new(wish.seed), wish, made: Made::default(), key: None };
        let used = write_pages(&directory, &mut |page, frame| Ok(filler.fill(page, frame)), progress)?;
        finish_directory(&directory, Geometry::default(), used, Vec::new(), 0)?;
        Ok(filler.made)
    })
}

struct Filler<'a> {
    data: BenchData,
    wish: &'a Wish,
    made: Made,
    /// The locker that is being filled, and its key.
    key: Option<(u32, Secret)>,
}

impl Filler<'_> {
    /// Puts the coins of a page in circulation; whether there are any.
    fn fill(&mut self, page: PageNumber, frame: &mut PageFrame) -> bool {
        if page.in_denomination() >= self.wish.pages && page.denomination() != BROKEN {
            return false;
        }
        frame.records_mut().fill(0);
        let before = self.made.coins;
        for slot in 0..usize::from(COINS_PER_PAGE) {
            let coin = page.coin(slot);
            if self.data.is_used(coin, self.wish.used) {
                let an = self.an(coin);
                frame.set_record(slot, CoinRecord { an, mfs: self.wish.mfs });
                self.made.coins += 1;
            }
        }
        frame.seal(page, 0);
        self.made.coins > before
    }

    fn an(&mut self, coin: CoinId) -> Secret {
        if self.made.locked == self.wish.locked() {
            return self.data.an(coin);
        }
        let locker = (self.made.locked / u64::from(self.wish.coins_per_locker)) as u32;
        self.made.locked += 1;
        match self.key {
            Some((number, key)) if number == locker => key,
            _ => self.key.insert((locker, self.data.locker_key(locker))).1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coin::Place;
    use crate::store::pages::read_pages;
    use crate::store::recovery::open_as_it_is;
    use std::collections::HashMap;

    #[test]
    fn what_is_made_is_what_a_load_knows() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("data");
        let wish = Wish { seed: 7, used: 0.4, lockers: 500, coins_per_locker: 3, pages: 2, mfs: Months::new(9) };
        let made = prepare(&root, &wish, &mut |_, _| {}).unwrap();
        let directory = Directory::open(&root).unwrap();
        let opened = open_as_it_is(&directory).unwrap();
        assert_eq!(opened.used.count(), 14 * 2 + 1000);

        let data = BenchData::new(7);
        let (mut coins, mut lockers) = (0, HashMap::<Secret, u32>::new());
        read_pages(&directory, &opened.used, &mut |page, frame, _| {
            for (coin, record) in (0..1024).map(|slot| (page.coin(slot), frame.record(slot))) {
                assert_eq!(record.is_free(), !data.is_used(coin, 0.4));
                match record.place() {
                    _ if record.is_free() => continue,
                    Place::Locker(key) => *lockers.entry(key).or_default() += 1,
                    _ => assert_eq!(record.an, data.an(coin)),
                }
                coins += 1;
            }
        })
        .unwrap();
        assert_eq!(made, Made { coins, locked: 1500 });
        assert_eq!(lockers, (0..500).map(|number| (data.locker_key(number), 3)).collect());
    }

    #[test]
    fn lockers_take_the_coins_that_there_are_for_them() {
        let wish = Wish { seed: 1, used: 1.0, lockers: 9 * 1024, coins_per_locker: 1, pages: 1, mfs: Months::new(9) };
        assert_eq!(wish.locked_max(), wish.locked());
    }
}
