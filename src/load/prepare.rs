//! Makes the data directory of a benchmark: page by page, in the order of the coins.

use std::path::Path;

use super::data::{BenchData, LOCKED, USED_MIN};
use crate::coin::{
    COINS_PER_PAGE, CoinId, CoinRecord, Denomination, Months, PageNumber, SERIAL_NUMBERS, Secret, SerialNumber,
};
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
        coins_of(LOCKED.filter_map(Denomination::new)).filter(|coin| data.is_used(*coin, self.used)).count() as u64
    }

    /// How many coins shall be.
    pub fn locked(&self) -> u64 {
        u64::from(self.lockers) * u64::from(self.coins_per_locker)
    }
}

fn coins_of(denominations: impl Iterator<Item = Denomination>) -> impl Iterator<Item = CoinId> {
    denominations.flat_map(|den| (0..SERIAL_NUMBERS).filter_map(SerialNumber::new).map(move |sn| CoinId::of(den, sn)))
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
        finish_directory(&directory, Geometry::default(), used, Vec::new())?;
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
