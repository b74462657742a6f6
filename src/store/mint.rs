//! Puts new coins into circulation, offline.
//!
//! The secrets come first: they are in the caller's hands, who has written them where they are safe, before the first
//! page is written. A crash after that leaves the first of the coins in circulation and the others free; the wallet
//! has the secrets of all.
//!
//! A page that was never used is written and noted before coins are in it: the logs know nothing of minted coins, so a
//! page that has some is always one that the control blocks know.

use super::control::UsedPages;
use super::error::StoreError;
use super::layout::PageFrame;
use super::pages::{PageWriter, change_pages, read_page};
use super::recovery::{note_pages, open_as_it_is};
use super::storage::Storage;
use crate::coin::{CoinId, CoinRecord, Denomination, Months, Place, SERIAL_NUMBERS, Secret, SerialNumber};

/// A coin and its AN: what a wallet keeps.
pub type Minted = (CoinId, Secret);

/// Which coins to mint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mint {
    /// Their denomination.
    pub den: Denomination,
    /// The first serial number.
    pub first_sn: u32,
    /// How many.
    pub count: u32,
    /// Their month.
    pub mfs: Months,
}

impl Mint {
    fn coins(&self) -> Result<Vec<CoinId>, StoreError> {
        let no_such = StoreError::NoSuchCoins { den: self.den.get(), first_sn: self.first_sn, count: self.count };
        match self.first_sn.checked_add(self.count) {
            Some(end) if end <= SERIAL_NUMBERS && self.count > 0 => {
                Ok((self.first_sn..end).filter_map(SerialNumber::new).map(|sn| CoinId::of(self.den, sn)).collect())
            }
            _ => Err(no_such),
        }
    }
}

/// Mints coins in a data directory that no node uses. `random` fills bytes with what nobody can guess; `save` makes
/// the secrets durable elsewhere.
///
/// # Errors
/// [`StoreError::InCirculation`] names the first coin that is, and nothing has changed. What `save` fails with:
/// nothing has changed either.
pub fn mint(
    storage: &dyn Storage,
    mint: &Mint,
    random: &mut dyn FnMut(&mut [u8]),
    save: &mut dyn FnMut(&[Minted]) -> Result<(), StoreError>,
) -> Result<Vec<Minted>, StoreError> {
    assert!(mint.mfs != Months::FREE, "a coin in circulation has a month");
    let coins = mint.coins()?;
    let mut opened = open_as_it_is(storage)?;
    let mut frame = PageFrame::zeroed();
    for coins in coins.chunk_by(|a, b| a.page() == b.page()) {
        read_page(storage, coins[0].page(), &opened.used, &mut frame)?;
        if let Some(coin) = coins.iter().find(|coin| !frame.record(coin.slot()).is_free()) {
            return Err(StoreError::InCirculation { coin: *coin });
        }
    }
    let minted: Vec<Minted> = coins.iter().map(|coin| (*coin, fresh_secret(random))).collect();
    save(&minted)?;
    let pages: Vec<_> = coins.chunk_by(|a, b| a.page() == b.page()).map(|coins| coins[0].page()).collect();
    let sequence = opened.sequence + 1;
    let new: Vec<_> = pages.iter().copied().filter(|page| !opened.used.contains(*page)).collect();
    let mut noted = UsedPages::none();
    let mut writer = PageWriter::new(storage, 0);
    change_pages(storage, &new, &opened.used, &mut writer, &mut |page, _, before| {
        noted.insert(page);
        before
    })?;
    writer.finish()?;
    note_pages(storage, &mut opened, &noted, sequence)?;
    let mut of_pages = minted.chunk_by(|a, b| a.0.page() == b.0.page());
    let mut writer = PageWriter::new(storage, 0);
    change_pages(storage, &pages, &opened.used, &mut writer, &mut |_, frame, _| {
        for (coin, an) in of_pages.next().expect("the coins of each page") {
            frame.set_record(coin.slot(), CoinRecord { an: *an, mfs: mint.mfs });
        }
        sequence
    })?;
    writer.finish()?;
    Ok(minted)
}

/// A secret that puts its coin into a wallet: not one of those whose last bytes say locker or trade locker.
fn fresh_secret(random: &mut dyn FnMut(&mut [u8])) -> Secret {
    loop {
        let mut bytes = [0; 16];
        random(&mut bytes);
        let secret = Secret::new(bytes);
        if secret.place() == Place::Wallet {
            return secret;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::recovery::{initialise, open};
    use crate::store::storage::Memory;
    use crate::store::wal::Geometry;

    const SMALL: Geometry =
        Geometry { segment_bytes: 1 << 20, segments: 3, batch_bytes_max: 64 << 10, record_bytes_max: 32 << 10 };

    fn new_directory() -> Memory {
        let memory = Memory::new();
        initialise(&memory, SMALL).unwrap();
        open(&memory, 2, SMALL).unwrap();
        memory
    }

    fn wish(first_sn: u32, count: u32) -> Mint {
        Mint { den: Denomination::new(0).unwrap(), first_sn, count, mfs: Months::new(40) }
    }

    /// Numbers of a counter, and first of all a locker's key, which must not be taken.
    fn random() -> impl FnMut(&mut [u8]) {
        let mut count = 0u8;
        move |bytes| {
            bytes.fill(if count == 0 { 0xFF } else { count });
            count = count.wrapping_add(1);
        }
    }

    fn records(memory: &Memory, wish: Mint) -> Vec<CoinRecord> {
        let mut frame = PageFrame::zeroed();
        let record = |coin: CoinId| {
            read_page(memory, coin.page(), &UsedPages::none(), &mut frame).unwrap();
            frame.record(coin.slot())
        };
        wish.coins().unwrap().into_iter().map(record).collect()
    }

    #[test]
    fn minted_coins_are_in_circulation_with_the_secrets_that_were_saved() {
        let memory = new_directory();
        let mut saved = Vec::new();
        let minted = mint(&memory, &wish(1000, 50), &mut random(), &mut |coins| {
            assert!(records(&memory, wish(1000, 50)).iter().all(CoinRecord::is_free), "saved before they count");
            saved = coins.to_vec();
            Ok(())
        })
        .unwrap();
        assert_eq!(minted, saved);
        memory.crash(0);
        let opened = open(&memory, 3, SMALL).unwrap();
        assert_eq!((opened.sequence, opened.used.count()), (1, 2));
        let expected: Vec<_> = saved.iter().map(|(_, an)| CoinRecord { an: *an, mfs: Months::new(40) }).collect();
        assert_eq!(records(&memory, wish(1000, 50)), expected);
        assert_eq!(expected[0].an, Secret::new([1; 16]), "a locker's key is no secret of a wallet's coin");
    }

    #[test]
    fn coins_in_circulation_are_refused_and_the_first_is_named() {
        let memory = new_directory();
        mint(&memory, &wish(1023, 2), &mut random(), &mut |_| Ok(())).unwrap();
        let refused = mint(&memory, &wish(0, 2000), &mut random(), &mut |_| panic!("nothing to save")).unwrap_err();
        assert_eq!(refused.to_string(), "coin 0:1023 is in circulation already");
    }

    #[test]
    fn nothing_changes_where_the_secrets_cannot_be_saved() {
        let memory = new_directory();
        let failed = mint(&memory, &wish(0, 2), &mut random(), &mut |_| {
            Err(StoreError::io("write", "wallet")(std::io::Error::other("full")))
        });
        assert_eq!(failed.unwrap_err().to_string(), "cannot write wallet: full");
        assert!(records(&memory, wish(0, 2)).iter().all(CoinRecord::is_free));
    }

    #[test]
    fn serial_numbers_end() {
        let memory = new_directory();
        for (first_sn, count) in [(1_023_999, 2), (0, 0), (u32::MAX, 2), (1_024_000, 1)] {
            let refused = mint(&memory, &wish(first_sn, count), &mut random(), &mut |_| Ok(())).unwrap_err();
            assert!(matches!(refused, StoreError::NoSuchCoins { .. }), "{refused}");
        }
        assert_eq!(mint(&memory, &wish(1_023_999, 1), &mut random(), &mut |_| Ok(())).unwrap().len(), 1);
    }
}
