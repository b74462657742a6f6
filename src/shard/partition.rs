//! Who owns what: pure functions from a name to the shard that keeps it.
//!
//! Every shard computes them for itself, so all must agree: nothing here depends on
//! a seed, on the machine or on time. Nothing on disk depends on them either, so they
//! may change from one version to the next, and so may the number of shards.
//!
//! A client who chooses his keys can choose the shard that serves them. He gains a slow
//! shard for himself; what must resist chosen keys, the tables inside a shard, is seeded
//! ([`KeyedHash`](super::keyed_hash::KeyedHash)).

use std::net::IpAddr;
use std::ops::Range;

use crate::coin::{Denomination, PAGES, PAGES_PER_DENOMINATION, PageNumber, Secret, TradeCoin};
use crate::entropy::mix;

use super::interface::ShardId;

/// The shard of a page, and so of its coins: neighbours go to different shards.
pub fn page_owner(page: PageNumber, shards: u8) -> ShardId {
    ShardId((page.get() % u16::from(shards)) as u8)
}

/// The shard that lists the coins of the regular locker of a key.
pub fn locker_home(key: &Secret, shards: u8) -> ShardId {
    prefix_home(key_prefix(key), shards)
}

/// The shard that knows every locker whose key starts so: encryption type 2 names its key by these five bytes.
pub fn prefix_home(prefix: [u8; 5], shards: u8) -> ShardId {
    home(prefix_number(prefix), shards)
}

/// The shard of a trade locker, by its AN or its public identifier: they share bytes 9..14, price and coin type.
pub fn market_home(an_or_identifier: &[u8; 16], shards: u8) -> ShardId {
    let [_, _, _, _, _, _, _, _, _, p0, p1, p2, p3, coin, _, _] = *an_or_identifier;
    terms_home(coin, u32::from_be_bytes([p0, p1, p2, p3]), shards)
}

/// The shard of every trade locker sold for this coin at this price: *buy* asks it alone.
pub fn market_home_of(coin: TradeCoin, price: u32, shards: u8) -> ShardId {
    terms_home(coin as u8, price, shards)
}

/// The shard that counts the rate of an address.
pub fn rate_home(address: IpAddr, shards: u8) -> ShardId {
    let number = u128::from_be_bytes(address_bytes(address));
    home((number >> 64) as u64 ^ mix(number as u64), shards)
}

/// The first five bytes of a locker key.
pub fn key_prefix(key: &Secret) -> [u8; 5] {
    *key.bytes().first_chunk().expect("5 of 16 bytes")
}

/// The five bytes as a number, for hashing.
pub fn prefix_number([a, b, c, d, e]: [u8; 5]) -> u64 {
    u64::from_be_bytes([0, 0, 0, a, b, c, d, e])
}

/// The 16 bytes that stand for an address: IPv4 as IPv6 writes it, so that one client is one address on either socket.
pub fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
    .octets()
}

fn terms_home(coin: u8, price: u32, shards: u8) -> ShardId {
    home(u64::from(coin) << 32 | u64::from(price), shards)
}

fn home(number: u64, shards: u8) -> ShardId {
    ShardId((mix(number) % u64::from(shards)) as u8)
}

/// The pages of one shard, numbered densely: what a shard keeps per page is an array of [`PageSlots::len`].
#[derive(Clone, Copy, Debug)]
pub struct PageSlots {
    shard: ShardId,
    shards: u8,
}

impl PageSlots {
    /// The pages of `shard` of `shards`.
    ///
    /// # Panics
    /// When there is no such shard.
    pub const fn new(shard: ShardId, shards: u8) -> Self {
        assert!(shard.0 < shards);
        Self { shard, shards }
    }

    /// How many pages the shard has.
    pub const fn len(&self) -> usize {
        self.first_at(PAGES)
    }

    /// Whether it has none: never, as there are more pages than shards.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a page is the shard's.
    pub fn owns(&self, page: PageNumber) -> bool {
        page_owner(page, self.shards) == self.shard
    }

    /// The place of one of the shard's pages, 0..[`PageSlots::len`], in order of page number.
    ///
    /// # Panics
    /// When the page is another shard's.
    pub fn slot(&self, page: PageNumber) -> usize {
        assert!(self.owns(page));
        page.get() as usize / self.shards as usize
    }

    /// The page at a place.
    ///
    /// # Panics
    /// When `slot` is past the shard's last page.
    pub fn page(&self, slot: usize) -> PageNumber {
        let number = slot * self.shards as usize + self.shard.index();
        u16::try_from(number).ok().and_then(PageNumber::new).expect("a slot of this shard")
    }

    /// The place of the shard's first page whose number is `number` or more; [`PageSlots::len`] where none is.
    pub const fn first_at(&self, number: u16) -> usize {
        (number as usize + self.shards as usize - 1 - self.shard.index()) / self.shards as usize
    }

    /// The places of a denomination's pages.
    pub const fn of(&self, den: Denomination) -> Range<usize> {
        let first = den.index() as u16 * PAGES_PER_DENOMINATION;
        self.first_at(first)..self.first_at(first + PAGES_PER_DENOMINATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_one_place_on_one_shard() {
        for shards in [1, 2, 3, 7, 64, 255] {
            let of: Vec<_> = (0..shards).map(|shard| PageSlots::new(ShardId(shard), shards)).collect();
            assert_eq!(of.iter().map(PageSlots::len).sum::<usize>(), PAGES as usize);
            for page in PageNumber::all() {
                let owner = page_owner(page, shards);
                let slots = of[owner.index()];
                assert!(slots.slot(page) < slots.len());
                assert_eq!(slots.page(slots.slot(page)), page);
                assert_eq!(slots.first_at(page.get()), slots.slot(page));
                let next = of[(owner.index() + 1) % shards as usize];
                assert_eq!(next.owns(page), shards == 1);
                assert!(next.first_at(page.get()) == next.len() || next.page(next.first_at(page.get())) >= page);
            }
        }
    }

    #[test]
    fn a_locker_and_its_prefix_have_one_home() {
        for byte in 0..=255 {
            let key = Secret::new([byte; 16]);
            assert_eq!(locker_home(&key, 5), prefix_home([byte; 5], 5));
        }
    }

    #[test]
    fn an_and_identifier_and_terms_have_one_home() {
        for price in (0..u32::MAX).step_by(98_765_432) {
            let mut an = [7; 16];
            an[9..13].copy_from_slice(&price.to_be_bytes());
            an[13..].copy_from_slice(&[1, 0xEE, 0xEE]);
            let mut identifier = an;
            identifier[..9].fill(0xD1);
            assert_eq!(market_home(&an, 7), market_home(&identifier, 7));
            assert_eq!(market_home(&an, 7), market_home_of(TradeCoin::Bitcoin, price, 7));
        }
    }

    #[test]
    fn an_ipv4_client_is_the_same_on_an_ipv6_socket() {
        let v4: IpAddr = "192.0.2.7".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(address_bytes(v4), address_bytes(mapped));
        for shards in 1..=16 {
            assert_eq!(rate_home(v4, shards), rate_home(mapped, shards));
        }
    }

    #[test]
    fn homes_are_spread() {
        let shards = 4;
        let mut counts = [[0u32; 4]; 3];
        for number in 0..4000u32 {
            let [a, b, c, d] = number.to_be_bytes();
            counts[0][prefix_home([a, b, c, d, 9], shards).index()] += 1;
            counts[1][market_home_of(TradeCoin::Monero, number, shards).index()] += 1;
            counts[2][rate_home(IpAddr::V4(number.into()), shards).index()] += 1;
        }
        assert!(counts.as_flattened().iter().all(|&count| (850..1150).contains(&count)), "{counts:?}");
    }
}
