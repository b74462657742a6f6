//! Bytes from bytes, as a fuzzer without a compiler's help makes them: seeds with flips, cuts, splices, numbers at
//! the ends of their range. Random bytes alone would reach little.

use raida::entropy::Entropy;
use raida::sim::Seeded;

/// Longer inputs are cut.
const BYTES_MAX: usize = 4096;
/// Numbers where programs err.
const EDGES: [u64; 8] = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0xFFFF_FFFF, u64::MAX];

/// An input made of the seeds: at times one of them as it is, or random bytes.
pub fn next(seeds: &[Vec<u8>], random: &mut Seeded) -> Vec<u8> {
    if random.one_in(50) {
        let length = random.below(300);
        return noise(length, random);
    }
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..random.below(6) {
        change(&mut bytes, seeds, random);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn noise(length: usize, random: &mut Seeded) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Seeded) {
    let at = random.below(bytes.len() + 1);
    let some = random.below(20);
    match random.below(8) {
        0 => bytes.truncate(at),
        1 => bytes.extend(noise(some, random)),
        2 => drop(bytes.splice(at..at, noise(some, random))),
        3 => drop(bytes.drain(at..(at + some).min(bytes.len()))),
        // The rest of another seed, or of this one from elsewhere on.
        4 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            drop(bytes.splice(at.., other[from..].iter().copied()));
        }
        5 => {
            let edge = EDGES[random.below(EDGES.len())].to_be_bytes();
            let width = 1 << random.below(4);
            let end = (at + width).min(bytes.len());
            bytes[at..end].copy_from_slice(&edge[8 - (end - at)..]);
        }
        6 => bytes.get_mut(at).into_iter().for_each(|byte| *byte = random.number() as u8),
        _ => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << random.below(8)),
    }
}
