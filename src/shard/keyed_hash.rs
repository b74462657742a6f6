//! The hash of a shard's tables, keyed by random numbers that clients cannot know.
//!
//! Locker keys, trade lockers' ANs and addresses are chosen by clients. With a known hash they could
//! choose a million that collide, and make each look-up a search. This one is Dietzfelbinger's vector
//! multiply-add-shift over 128-bit numbers, which is strongly universal: whatever two names a client
//! chooses beforehand, their hashes are independent, over the choice of the key.
//!
//! No behaviour may depend on it but speed: tables are looked up, never walked.

use crate::entropy::Entropy;

/// A hash function that only its shard knows.
#[derive(Clone, Copy)]
pub struct KeyedHash {
    high: u128,
    low: u128,
    start: u128,
}

impl KeyedHash {
    /// A hash function like no other.
    pub fn new(entropy: &mut dyn Entropy) -> Self {
        let mut number = || {
            let mut bytes = [0; 16];
            entropy.fill(&mut bytes);
            u128::from_be_bytes(bytes)
        };
        Self { high: number(), low: number(), start: number() }
    }

    /// The hash of 16 bytes.
    pub const fn bytes(&self, bytes: &[u8; 16]) -> u64 {
        let name = u128::from_be_bytes(*bytes);
        let sum = self
            .high
            .wrapping_mul(name >> 64)
            .wrapping_add(self.low.wrapping_mul(name & u64::MAX as u128))
            .wrapping_add(self.start);
        (sum >> 64) as u64
    }

    /// The hash of a number.
    pub const fn number(&self, number: u64) -> u64 {
        (self.low.wrapping_mul(number as u128).wrapping_add(self.start) >> 64) as u64
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::entropy::mix;

    /// Entropy of a seed.
    pub struct Seeded(pub u64);

    impl Entropy for Seeded {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = mix(self.0);
                *byte = self.0 as u8;
            }
        }
    }

    #[test]
    fn another_key_is_another_hash_and_every_byte_counts() {
        let (one, two) = (KeyedHash::new(&mut Seeded(1)), KeyedHash::new(&mut Seeded(2)));
        let name = [0x5A; 16];
        assert_ne!(one.bytes(&name), two.bytes(&name));
        assert_ne!(one.number(77), two.number(77));
        for at in 0..16 {
            let mut other = name;
            other[at] ^= 1;
            assert_ne!(one.bytes(&name), one.bytes(&other), "byte {at}");
        }
    }

    #[test]
    fn names_that_follow_each_other_fill_a_table_evenly() {
        let hash = KeyedHash::new(&mut Seeded(3));
        let mut counts = [0u32; 64];
        for number in 0..6400u128 {
            counts[hash.bytes(&(number << 40).to_be_bytes()) as usize % 64] += 1;
        }
        assert!(counts.iter().all(|&count| (20..400).contains(&count)), "{counts:?}");
    }
}
