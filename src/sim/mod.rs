//! The other driver of shards: a made-up disk, network and clock, all from one seed.
//!
//! [`World`] runs the shards that the reactor runs, the same code to the byte, over [`Memory`](crate::store::storage::Memory). Nothing in it waits for
//! real time, so a test lives through many crashes a second.
//!
//! # The life of a seed
//! [`life`] draws faults and lets the clients of [`workload`] ask; what they are answered, [`history`] tries to explain
//! with the states of [`model`]; [`audit`] looks whether the node is in one of them, [`journal`] whether archive and logs
//! tell how it came there. [`report`] has the numbers.
//!
//! What a request costs, not whether it is right, is counted with [`lone`] and [`round`].

pub mod audit;
pub mod history;
pub mod journal;
pub mod life;
pub mod lone;
pub mod model;
pub mod payload;
pub mod report;
pub mod round;
pub mod workload;
mod world;

pub use world::{Client, Held, World, WorldOptions};

use crate::entropy::{Entropy, split_mix};

/// A sequence of numbers from a seed (SplitMix64), also the entropy of a made-up world.
#[derive(Clone, Debug)]
pub struct Seeded(pub u64);

impl Seeded {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        split_mix(&mut self.0)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// 16 bytes.
    pub fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes
    }
}

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.number().to_be_bytes()[..chunk.len()]);
        }
    }
}
