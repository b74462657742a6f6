//! How values are distributed, counted in buckets whose bounds are powers of two.
//!
//! Adding one is a shift and two additions on plain numbers of one thread, so it may stand where every request passes.
//! Two histograms add up to that of all their values, which is how the shards' become the node's.

/// Buckets: the last has everything above 2^25, which of microseconds is half a minute.
pub const BUCKETS: usize = 27;

/// The distribution of whole numbers, such as microseconds, bytes or records.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Histogram {
    /// Bucket `i` has the values above 2^(i-1) and up to 2^i; the first 0 and 1, the last all that are larger.
    pub buckets: [u64; BUCKETS],
    /// The values added together.
    pub sum: u64,
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        self.add_many(value, 1);
    }

    /// Counts a value several times.
    pub fn add_many(&mut self, value: u64, times: u64) {
        let bucket = (u64::BITS - value.saturating_sub(1).leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += times;
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
    }

    /// Adds the values of another.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many values it has.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The largest value of a bucket; `None` for the last, which has no bound.
    pub const fn bound(bucket: usize) -> Option<u64> {
        if bucket + 1 < BUCKETS { Some(1 << bucket) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for value in [0, 1, 2, 3, 4, 5, 8, 9, 1023, 1024, 1025, 1 << 25, (1 << 25) + 1, u64::MAX] {
            let mut histogram = Histogram::default();
            histogram.add(value);
            let bucket = histogram.buckets.iter().position(|&count| count == 1).unwrap();
            assert!(Histogram::bound(bucket).is_none_or(|bound| value <= bound), "{value} in {bucket}");
            let below = bucket.checked_sub(1).and_then(Histogram::bound);
            assert!(below.is_none_or(|bound| value > bound), "{value} in {bucket}");
        }
    }

    #[test]
    fn histograms_add_up() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        one.add(3);
        other.add_many(5, 2);
        one.merge(&other);
        assert_eq!((one.count(), one.sum, one.buckets[2], one.buckets[3]), (3, 13, 1, 2));
    }
}
