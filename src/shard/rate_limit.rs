//! How many breaks a caller asked for within the window: an exact rolling limit. An address is two callers, one over TCP and
//! one over UDP ([`Caller`] says why).
//!
//! For each address the times of its last `limit` allowed requests are kept in a ring. Another is allowed where
//! the eldest of them is a whole window ago, or there are fewer: over no window of that length, wherever it
//! starts, are more than `limit` allowed. A refused request is not counted, so who keeps asking is served
//! again as soon as who waits.
//!
//! # When the table is full
//! The address that was allowed something longest ago makes room, whether its window is over or not. That does not
//! help who has `addresses_max` addresses to push others out with: he has a fresh limit with each of them anyway.
//! To refuse new addresses instead would let the same client, or anyone who forges the sender of
//! datagrams, keep all others out for a window. [`RateLimit::evictions`] tells when the table is too small.
//!
//! Memory: about 60 + 8 · limit bytes an address, taken as addresses come.

use crate::command::Caller;

use super::keyed_hash::KeyedHash;
use super::number_table::NumberTable;
use super::partition::address_bytes;
use super::slots::{Links, NONE, Slots, slot_with_links};

/// An address that was allowed something. Its times are `limit` places from `number · limit` on.
#[derive(Clone, Copy, Default)]
struct Address {
    /// IPv4 as IPv6 writes it.
    bytes: [u8; 16],
    /// Whether it called over UDP.
    datagram: bool,
    /// How many times are known, up to the limit.
    known: u32,
    /// Where the next time goes, 0..limit; with `limit` known, that of the eldest.
    next: u32,
    /// The ring of all addresses, by when they were last allowed something.
    links: Links,
}

slot_with_links!(Address);

/// The rates of the addresses that this shard counts.
pub struct RateLimit {
    hash: KeyedHash,
    limit: u32,
    window_us: u64,
    addresses_max: usize,
    addresses: Slots<Address>,
    /// Microseconds of [`Now::monotonic_us`](super::interface::Now::monotonic_us).
    times: Vec<u64>,
    by_address: NumberTable,
    least_recent: u32,
    violations: u64,
    evictions: u64,
}

impl RateLimit {
    /// At most `limit` within `window_us` for each of `addresses_max` addresses; limit 0: no limit.
    ///
    /// # Panics
    /// When there is a limit but no address may be counted.
    pub fn new(hash: KeyedHash, limit: u32, window_us: u64, addresses_max: usize) -> Self {
        assert!(limit == 0 || addresses_max > 0);
        Self {
            hash,
            limit,
            window_us,
            addresses_max,
            addresses: Slots::new(),
            times: Vec::new(),
            by_address: NumberTable::new(),
            least_recent: NONE,
            violations: 0,
            evictions: 0,
        }
    }

    /// Another limit or window from now on. Where the limit is another, counting begins anew.
    pub fn change(&mut self, limit: u32, window_us: u64) {
        self.window_us = window_us;
        if limit != self.limit {
            let Self { hash, addresses_max, violations, evictions, .. } = *self;
            *self = Self { violations, evictions, ..Self::new(hash, limit, window_us, addresses_max) };
        }
    }

    /// Whether a caller may go on, which is counted; a refusal counts as a violation alone.
    pub fn allow(&mut self, caller: Caller, now_us: u64) -> bool {
        if self.limit == 0 {
            return true;
        }
        let bytes = address_bytes(caller.address);
        let number = self.find(&bytes, caller.datagram).unwrap_or_else(|| self.add(bytes, caller.datagram, now_us));
        let Address { known, next, .. } = self.addresses[number];
        let time = number as usize * self.limit as usize + next as usize;
        if known == self.limit && now_us < self.times[time].saturating_add(self.window_us) {
            self.violations += 1;
            return false;
        }
        self.times[time] = now_us;
        let address = &mut self.addresses[number];
        address.known = self.limit.min(known + 1);
        address.next = (next + 1) % self.limit;
        self.addresses.unlink(&mut self.least_recent, number);
        self.addresses.append(&mut self.least_recent, number);
        true
    }

    /// How many requests were refused.
    pub const fn violations(&self) -> u64 {
        self.violations
    }

    /// How many addresses made room for another though their window was not over.
    pub const fn evictions(&self) -> u64 {
        self.evictions
    }

    /// How many addresses are known.
    pub const fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether no address is known.
    pub const fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    fn find(&self, bytes: &[u8; 16], datagram: bool) -> Option<u32> {
        self.by_address.find(self.hash.bytes(bytes), |number| {
            let address = &self.addresses[number];
            address.bytes == *bytes && address.datagram == datagram
        })
    }

    /// Starts to know an address, at the end of the ring.
    fn add(&mut self, bytes: [u8; 16], datagram: bool, now_us: u64) -> u32 {
        if self.addresses.len() == self.addresses_max {
            self.evict(now_us);
        }
        let number = self.addresses.insert(Address { bytes, datagram, ..Address::default() });
        let times = (number as usize + 1) * self.limit as usize;
        if self.times.len() < times {
            self.times.resize(times, 0);
        }
        let (hash, addresses) = (self.hash, &self.addresses);
        self.by_address.insert(hash.bytes(&bytes), number, |other| hash.bytes(&addresses[other].bytes));
        self.addresses.append(&mut self.least_recent, number);
        number
    }

    /// Forgets the address that was allowed something longest ago.
    fn evict(&mut self, now_us: u64) {
        let number = self.least_recent;
        let Address { bytes, next, .. } = self.addresses[number];
        let limit = self.limit as usize;
        let last = number as usize * limit + (next as usize + limit - 1) % limit;
        self.evictions += u64::from(now_us < self.times[last].saturating_add(self.window_us));
        let found = self.by_address.remove(self.hash.bytes(&bytes), |other| other == number);
        assert!(found.is_some(), "an address is found by its bytes");
        self.addresses.unlink(&mut self.least_recent, number);
        self.addresses.remove(number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::keyed_hash::tests::Seeded;
    use super::*;

    fn rates(limit: u32, window_us: u64, addresses_max: usize) -> RateLimit {
        RateLimit::new(KeyedHash::new(&mut Seeded(1)), limit, window_us, addresses_max)
    }

    fn caller(address: &str) -> Caller {
        Caller { address: address.parse().unwrap(), datagram: false }
    }

    fn address(number: u8) -> Caller {
        caller(&format!("192.0.2.{number}"))
    }

    #[test]
    fn what_was_forged_over_udp_leaves_tcp_alone() {
        let mut rates = rates(1, 1000, 8);
        let forged = Caller { datagram: true, ..address(1) };
        assert!(rates.allow(forged, 0) && !rates.allow(forged, 1));
        assert!(rates.allow(address(1), 2) && !rates.allow(address(1), 3));
        assert_eq!((rates.len(), rates.violations()), (2, 2));
    }

    #[test]
    fn the_window_rolls_from_each_request() {
        let mut rates = rates(2, 100, 8);
        let answers = [0, 40, 99, 100, 139, 140, 199, 200].map(|now| rates.allow(address(1), now));
        assert_eq!(answers, [true, true, false, true, false, true, false, true]);
        assert_eq!(rates.violations(), 3);
    }

    #[test]
    fn asking_on_does_not_lengthen_the_wait() {
        let mut rates = rates(1, 1000, 8);
        assert!(rates.allow(address(1), 0));
        assert!((1..1000).all(|now| !rates.allow(address(1), now)));
        assert!(rates.allow(address(1), 1000));
    }

    #[test]
    fn an_address_is_the_full_address_on_either_socket() {
        let mut rates = rates(1, 1000, 8);
        assert!(rates.allow(caller("2001:db8::1"), 0));
        assert!(rates.allow(caller("2001:db8::2"), 0));
        assert!(!rates.allow(caller("2001:db8::1"), 0));
        assert!(rates.allow(address(1), 0));
        assert!(!rates.allow(caller("::ffff:192.0.2.1"), 0));
    }

    #[test]
    fn limit_0_is_no_limit() {
        let mut rates = rates(0, 1000, 0);
        assert!((0..1000).all(|_| rates.allow(address(1), 5)));
        assert!(rates.is_empty());
    }

    #[test]
    fn the_least_recently_allowed_makes_room() {
        let mut rates = rates(1, 1000, 2);
        assert!(rates.allow(address(1), 0) && rates.allow(address(2), 1));
        assert!(rates.allow(address(3), 1000));
        assert_eq!((rates.len(), rates.evictions()), (2, 0), "the window of the first was over");
        assert!(rates.allow(address(4), 1000));
        assert_eq!((rates.len(), rates.evictions()), (2, 1), "the window of the second was not");
        assert!(!rates.allow(address(3), 1001) && !rates.allow(address(4), 1001));
    }

    #[test]
    fn refusals_do_not_keep_an_address_from_making_room() {
        let mut rates = rates(1, 1000, 2);
        assert!(rates.allow(address(1), 0) && rates.allow(address(2), 1));
        assert!(!rates.allow(address(1), 2));
        assert!(rates.allow(address(3), 3));
        assert!(!rates.allow(address(2), 4), "the second is still known");
    }

    proptest! {
        #[test]
        fn no_more_than_the_limit_in_any_window(
            limit in 1u32..6,
            window in 1u64..60,
            requests in prop::collection::vec((0u8..6, 0u64..20), 1..300),
        ) {
            let mut rates = rates(limit, window, 6);
            let mut allowed: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
            let (mut now, mut violations) = (0, 0);
            for (who, later) in requests {
                now += later;
                let times = allowed.entry(who).or_default();
                let in_window = times.iter().filter(|&&time| now < time + window).count();
                let expected = in_window < limit as usize;
                prop_assert_eq!(rates.allow(address(who), now), expected);
                if expected { times.push(now) } else { violations += 1 }
            }
            prop_assert_eq!(rates.violations(), violations);
            prop_assert_eq!(rates.evictions(), 0);
        }
    }
}
