//! A histogram of latencies that many threads can add to.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Buckets per doubling: a quantile is at most 1/16 too high.
const STEPS: u64 = 16;
const STEP_BITS: u32 = STEPS.ilog2();
/// Up to 2^36 µs, 19 hours.
const BUCKETS: usize = 33 * STEPS as usize;

/// Counts of durations, in microseconds.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Histogram {
    /// Adds a duration.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the duration that a fraction of `quantile` (0 to 1) of the recorded ones does not exceed, rounded up to
    /// the end of its bucket; `None` if nothing is recorded.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let counts: Vec<u64> = self
            .buckets
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = ((total as f64 * quantile).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        let index = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros(upper(index)))
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let doublings = micros.ilog2() - STEP_BITS;
    let step = (micros >> doublings) - STEPS;
    let index = u64::from(doublings + 1) * STEPS + step;
    (index as usize).min(BUCKETS - 1)
}

/// Returns the largest value of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let doublings = index / STEPS - 1;
    ((index % STEPS + STEPS + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_that_ends_little_above_it() {
        let mut last = 0;
        for micros in (0..5_000)
            .chain((0..35).map(|bit| 1 << bit))
            .chain((4..35).map(|bit| (1 << bit) - 1))
        {
            let end = upper(bucket(micros));
            assert!(
                end >= micros,
                "{micros} is above the end {end} of its bucket"
            );
            assert!(
                end - micros <= micros / STEPS,
                "{micros} is far below the end {end} of its bucket"
            );
            last = last.max(bucket(micros));
        }
        assert!(last < BUCKETS);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_recorded_values() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        let p50 = histogram
            .quantile(0.5)
            .expect("there are values")
            .as_micros();
        assert!((500..=531).contains(&p50), "{p50}");
        let p99 = histogram
            .quantile(0.99)
            .expect("there are values")
            .as_micros();
        assert!((990..=1055).contains(&p99), "{p99}");
    }
}
