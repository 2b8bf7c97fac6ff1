//! How long readings took from their arrival at the gateway to MongoDB.
//!
//! A histogram of fixed size: four buckets for each doubling from 1 ms to twelve days, so a quantile is
//! wrong by a quarter at most, and a reading that waited for days in a gateway's queue counts as what
//! it is. Clocks of two machines meet here: a negative difference counts as zero.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const BUCKETS: usize = 120;

/// Counts by duration.
#[derive(Debug)]
pub struct Latencies {
    buckets: [AtomicU64; BUCKETS],
    sum_ms: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    buckets: [u64; BUCKETS],
    sum_ms: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum_ms: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    /// One reading.
    pub fn add(&self, took_ms: i64) {
        // Beyond any truth, so that the sum cannot overflow.
        let ms = u64::try_from(took_ms).unwrap_or(0).min(1 << 36);
        if let Some(bucket) = self.buckets.get(bucket(ms)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// All counts.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)),
            sum_ms: self.sum_ms.load(Ordering::Relaxed),
        }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            sum_ms: 0,
        }
    }
}

impl Snapshot {
    /// What came after an earlier one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            buckets: std::array::from_fn(|at| self.buckets[at] - earlier.buckets[at]),
            sum_ms: self.sum_ms - earlier.sum_ms,
        }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_millis(self.sum_ms)
    }

    /// In milliseconds, a bound below which 99 of 100 are; `None` of nothing.
    #[must_use]
    pub fn p99_ms(&self) -> Option<u64> {
        let count = self.count();
        self.bound_ms(count - count / 100)
    }

    /// In milliseconds, a bound below which half of them are; `None` of nothing.
    #[must_use]
    pub fn p50_ms(&self) -> Option<u64> {
        self.bound_ms(self.count().div_ceil(2))
    }

    fn bound_ms(&self, rank: u64) -> Option<u64> {
        let mut below = 0;
        let at = self.buckets.iter().position(|bucket| {
            below += bucket;
            below >= rank
        });
        at.filter(|_| rank > 0).map(upper_ms)
    }

    /// For Prometheus: upper bounds in seconds, a factor of four apart, with the count of each.
    #[must_use]
    pub fn coarse(&self) -> Vec<(f64, u64)> {
        // Buckets below 1, 4, 16 … ms; the last holds the rest.
        let ends =
            std::iter::once(1).chain((1..BUCKETS / 4).step_by(2).map(|doubling| 4 * doubling));
        let mut from = 0;
        let mut coarse = Vec::new();
        for end in ends {
            let count = self.buckets[from..end].iter().sum();
            coarse.push((
                Duration::from_millis(upper_ms(end - 1)).as_secs_f64(),
                count,
            ));
            from = end;
        }
        coarse.push((f64::INFINITY, self.buckets[from..].iter().sum()));
        coarse
    }
}

fn bucket(ms: u64) -> usize {
    if ms < 4 {
        return usize::try_from(ms).unwrap_or(0);
    }
    let doubling = ms.ilog2();
    let quarter = (ms >> (doubling - 2)) & 3;
    let at = 4 * u64::from(doubling - 1) + quarter;
    usize::try_from(at).map_or(BUCKETS - 1, |at| at.min(BUCKETS - 1))
}

/// What a bucket's values are below.
fn upper_ms(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64 + 1;
    }
    let (doubling, quarter) = (bucket / 4 + 1, bucket % 4);
    (quarter as u64 + 5) << (doubling - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_a_bucket_that_is_a_quarter_wide() {
        for ms in (0..5000).chain([86_400_000, 1 << 30]) {
            let (bucket, upper) = (bucket(ms), upper_ms(bucket(ms)));
            assert!(ms < upper, "{ms} ms in {bucket} below {upper}");
            assert!(
                upper <= ms + ms / 4 + 1,
                "{ms} ms in {bucket} below {upper}"
            );
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_p99_of_a_window_is_of_that_window_alone() {
        let latencies = Latencies::default();
        assert_eq!(latencies.snapshot().p99_ms(), None);
        for _ in 0..1000 {
            latencies.add(86_400_000);
        }
        let before = latencies.snapshot();
        (0..98).for_each(|_| latencies.add(30));
        latencies.add(31);
        latencies.add(5000);
        let window = latencies.snapshot().since(&before);
        assert_eq!((window.count(), window.p99_ms()), (100, Some(32)));
        assert_eq!(window.sum(), Duration::from_millis(98 * 30 + 5031));
        latencies.add(-7);
        assert_eq!(latencies.snapshot().since(&before).count(), 101);
    }

    #[test]
    fn coarse_buckets_lose_none_and_their_bounds_grow_by_four() {
        let latencies = Latencies::default();
        for ms in [0, 1, 3, 4, 15, 16, 100_000, i64::MAX] {
            latencies.add(ms);
        }
        let coarse = latencies.snapshot().coarse();
        assert_eq!(coarse.iter().map(|(_, count)| count).sum::<u64>(), 8);
        assert_eq!(
            coarse[..4],
            [(0.001, 1), (0.004, 2), (0.016, 2), (0.064, 1)]
        );
        assert!(coarse.len() < 20);
    }
}
