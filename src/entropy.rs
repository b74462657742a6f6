//! Where random bytes come from: getrandom in the node, the seed in the simulator.

/// A source of bytes nobody can guess.
pub trait Entropy {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

const SPLIT_MIX_STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Spreads every bit of a number over all 64 (SplitMix64; one to one). Nothing secret comes of it.
pub const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(SPLIT_MIX_STEP);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// The next number of the sequence that follows from a seed.
pub const fn split_mix(state: &mut u64) -> u64 {
    let number = mix(*state);
    *state = state.wrapping_add(SPLIT_MIX_STEP);
    number
}

/// The system's entropy (getrandom), taken a pool at a time so that a coin does not cost a syscall.
pub struct SystemEntropy {
    pool: [u8; Self::POOL_BYTES],
    used: usize,
}

impl SystemEntropy {
    const POOL_BYTES: usize = 1024;

    /// An empty pool.
    pub fn new() -> Self {
        Self { pool: [0; Self::POOL_BYTES], used: Self::POOL_BYTES }
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    /// # Panics
    /// When the system gives no entropy: going on with guessable secrets would lose money.
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(Self::POOL_BYTES) {
            if self.used + chunk.len() > Self::POOL_BYTES {
                getrandom::fill(&mut self.pool).expect("the system's entropy");
                self.used = 0;
            }
            let taken = &mut self.pool[self.used..self.used + chunk.len()];
            chunk.copy_from_slice(taken);
            taken.fill(0); // what was handed out is in one place only
            self.used += chunk.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_alike() {
        let mut entropy = SystemEntropy::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let mut bytes = [0; 16];
            entropy.fill(&mut bytes);
            assert!(seen.insert(bytes));
        }
        let mut long = [0; 3000];
        entropy.fill(&mut long);
        assert!(long.chunks_exact(16).all(|chunk| chunk != [0; 16]));
    }
}
