//! The coins of a benchmark: all that is in the directory that [`prepare`](super::prepare) makes, from one seed.
//!
//! Which coins are in circulation is a hash of their number, so that taken and free ones are mixed: a search for free
//! coins finds both. It is a threshold on that hash: a coin in circulation with a share of a quarter is so with every
//! larger share, and a load takes only such coins. So it need not be told the share.
//!
//! What each denomination is for, so that one load does not touch the coins of another:
//!
//! | den | for |
//! |---|---|
//! | -8..=0 | the lockers that are peeked, from -8 up, as far as they reach |
//! | 1 | searched for free coins |
//! | 2 | put into lockers and taken out |
//! | 3 | detected |
//! | 4, 5 | broken and joined |
//! | 6 | sold and bought |

use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};

use crate::coin::{CoinId, Denomination, PAGES_PER_DENOMINATION, PageNumber, SERIAL_NUMBERS, Secret, TradeCoin};
use crate::entropy::mix;
use crate::wire::items::SecretCoin;
use crate::wire::request::locker::SaleTerms;

/// The smallest share of coins in circulation.
pub const USED_MIN: f64 = 0.25;
/// Coins that a request of a load names at most.
pub const COINS_MAX: usize = 16;
/// Requests in flight at most: each needs coins of its own for a cycle, and a number of its own in two echo bytes.
pub const SLOTS_MAX: usize = 8192;

/// The denominations of the lockers that are peeked.
pub const LOCKED: RangeInclusive<i8> = -8..=0;
/// The denomination that is searched for free coins.
pub const SEARCHED: Denomination = denomination(1);
/// The denomination that is put into lockers and taken out.
pub const STORED: Denomination = denomination(2);
/// The denomination that is detected.
pub const DETECTED: Denomination = denomination(3);
/// The denomination that is broken.
pub const BROKEN: Denomination = denomination(5);
/// The denomination that is sold and bought.
pub const SOLD: Denomination = denomination(6);

const fn denomination(den: i8) -> Denomination {
    Denomination::new(den).expect("a denomination")
}

/// The secrets of a seed.
#[derive(Clone, Copy, Debug)]
pub struct BenchData {
    seed: u64,
}

impl BenchData {
    /// Those of a seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Whether a coin is in circulation where the share `used` is; 1 is all.
    pub fn is_used(&self, coin: CoinId, used: f64) -> bool {
        let place = mix(mix(self.seed) ^ u64::from(coin.number()));
        // 53 bits are as exact as the share.
        ((place >> 11) as f64) < used * (1u64 << 53) as f64
    }

    /// The AN of a coin that is in no locker: never one that says locker or trade locker.
    pub fn an(&self, coin: CoinId) -> Secret {
        let mut bytes = self.bytes("coin", coin.number());
        bytes[15] &= 0x7F;
        Secret::new(bytes)
    }

    /// The key of a locker that is peeked.
    pub fn locker_key(&self, number: u32) -> Secret {
        self.key("locker", number)
    }

    /// The key of the locker that a slot puts its coins into.
    pub fn cycle_key(&self, slot: usize) -> Secret {
        self.key("cycle", slot as u32)
    }

    /// The AN of the trade locker that a slot sells its coins in, and its terms: no other slot's are the same.
    pub fn sale(&self, slot: usize) -> (Secret, SaleTerms) {
        let terms = SaleTerms { coin_type: TradeCoin::CloudCoin, price: slot as u32 + 1 };
        let random = *self.bytes("sale", slot as u32).first_chunk().expect("9 of 16 bytes");
        (terms.an(random), terms)
    }

    fn key(&self, what: &str, number: u32) -> Secret {
        let mut bytes = self.bytes(what, number);
        bytes[12..].fill(0xFF);
        Secret::new(bytes)
    }

    fn bytes(&self, what: &str, number: u32) -> [u8; 16] {
        let hash = Sha256::new().chain_update(what).chain_update(self.seed.to_be_bytes());
        let hash = hash.chain_update(number.to_be_bytes()).finalize();
        *hash.first_chunk().expect("16 of 32 bytes")
    }

    /// The coins of a denomination that are in circulation whatever the share, with their ANs, in order.
    pub fn coins_of(&self, den: Denomination) -> impl Iterator<Item = SecretCoin> {
        self.coins_of_pages(den, PAGES_PER_DENOMINATION)
    }

    /// Those of its first pages.
    pub fn coins_of_pages(&self, den: Denomination, pages: u16) -> impl Iterator<Item = SecretCoin> {
        let pages = (0..pages).map(move |page| PageNumber::of(den, page).expect("a page of the denomination"));
        let coins = pages.flat_map(|page| (0..crate::coin::COINS_PER_PAGE as usize).map(move |slot| page.coin(slot)));
        let data = *self;
        coins.filter(move |coin| data.is_used(*coin, USED_MIN)).map(move |coin| (coin.into(), data.an(coin)))
    }

    /// The coins that each of `slots` slots has for its cycles, `count` of the same 16 whatever the count is: a load goes
    /// on where another was killed.
    ///
    /// # Panics
    /// When there are more than [`SLOTS_MAX`] slots or [`COINS_MAX`] coins: the command line checks them.
    pub fn coins_of_slots(&self, den: Denomination, slots: usize, count: usize) -> Vec<Vec<SecretCoin>> {
        assert!(slots <= SLOTS_MAX && count <= COINS_MAX);
        let mut coins = self.coins_of(den);
        let mut of_slot = || -> Vec<SecretCoin> { coins.by_ref().take(COINS_MAX).collect() };
        let groups = (0..slots).map(|_| of_slot());
        groups
            .map(|mut coins| {
                assert_eq!(coins.len(), COINS_MAX, "a quarter of a denomination is enough for all slots");
                coins.truncate(count);
                coins
            })
            .collect()
    }

    /// The same coins dealt out one by one, so that those of a slot are on pages apart where there are many slots.
    pub fn spread_coins_of_slots(&self, den: Denomination, slots: usize, count: usize) -> Vec<Vec<SecretCoin>> {
        let coins = self.coins_of_slots(den, slots, COINS_MAX).concat();
        (0..slots).map(|slot| coins.iter().skip(slot).step_by(slots).take(count).copied().collect()).collect()
    }
}

const _: () = assert!(SLOTS_MAX * COINS_MAX <= SERIAL_NUMBERS as usize / 4 * 9 / 10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coin::Place;
    use std::collections::HashSet;

    const DATA: BenchData = BenchData::new(1);

    fn coin(number: u32) -> CoinId {
        CoinId::from_number(number).unwrap()
    }

    #[test]
    fn secrets_have_their_shapes_and_are_distinct() {
        let mut seen = HashSet::new();
        for number in 0..2000u32 {
            let slot = number as usize;
            let (trade, terms) = DATA.sale(slot);
            let secrets = [DATA.an(coin(number)), DATA.locker_key(number), DATA.cycle_key(slot), trade];
            assert_eq!(secrets[0].place(), Place::Wallet);
            assert!(matches!(secrets[1].place(), Place::Locker(_)) && matches!(secrets[2].place(), Place::Locker(_)));
            assert_eq!(SaleTerms::of(&trade), Some(terms));
            for secret in secrets {
                assert!(seen.insert(*secret.bytes()));
            }
        }
        assert!(seen.insert(*BenchData::new(2).an(coin(0)).bytes()), "another seed has other secrets");
    }

    #[test]
    fn a_share_of_the_coins_is_used_and_a_larger_share_holds_the_smaller() {
        let of = |used: f64| (0..100_000).filter(|&number| DATA.is_used(coin(number), used)).count();
        for (used, expected) in [(0.25, 25_000), (0.5, 50_000), (0.9999, 99_990)] {
            assert!(of(used).abs_diff(expected) < 700, "{used}: {}", of(used));
        }
        assert_eq!((of(0.0), of(1.0)), (0, 100_000));
        assert!((0..100_000).all(|number| !DATA.is_used(coin(number), 0.25) || DATA.is_used(coin(number), 0.3)));
    }

    #[test]
    fn slots_have_coins_of_their_own_and_keep_them() {
        let three = DATA.coins_of_slots(STORED, SLOTS_MAX, 3);
        let all = DATA.coins_of_slots(STORED, 10, COINS_MAX);
        assert!(three.iter().zip(&all).all(|(three, all)| three[..] == all[..3]));
        let coins: HashSet<_> = three.iter().flatten().map(|(coin, _)| *coin).collect();
        assert_eq!(coins.len(), SLOTS_MAX * 3);
        assert!(coins.iter().all(|coin| coin.den == STORED.get() && DATA.is_used(coin.id().unwrap(), USED_MIN)));
    }
}
