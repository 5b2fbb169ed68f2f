//! What arrives at a pool, second by second.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::observation::MAX_READING;

/// Time over which noise is learned, seconds.
const NOISE_OVER: f64 = 120.0;
/// A change of the rate by more than this many deviations is no noise.
const NOISE_CLIP: f64 = 4.0;
/// Changes after which they are clipped.
const NOISE_FIRST: f64 = 10.0;
/// Of the seconds of a mean, at least this part must be known; of a longer mean, half of [`KNOWN_SECONDS`].
const KNOWN_PART: f64 = 0.5;
const KNOWN_SECONDS: f64 = 10.0;

/// What arrived in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bucket {
    count: f64,
    /// The part of the second of which it is known.
    known: f64,
}

/// Arrivals in buckets of a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The oldest first.
    buckets: VecDeque<Bucket>,
    /// Number of the second after the last bucket.
    end: u64,
    /// Arrivals a second in the last call.
    last: Option<f64>,
    /// Variance of the arrivals of a second, from changes between calls: a trend does not count as noise.
    variance: f64,
    changes: f64,
}

impl Rate {
    /// Records what arrived between two times; `None` if that is unknown. Buckets of the last `keep` seconds are kept.
    pub fn record(&mut self, from: Duration, to: Duration, count: Option<f64>, keep: u64) {
        let (begin, end) = (from.as_secs_f64(), to.as_secs_f64());
        let time = end - begin;
        if time <= 0.0 {
            return;
        }
        let rate = count
            .filter(|count| (0.0..=MAX_READING).contains(count))
            .map(|count| count / time);
        self.learn_noise(rate, time);
        let first = from.as_secs().max(to.as_secs().saturating_sub(keep));
        if self.buckets.is_empty() {
            self.end = first;
        }
        for second in first..=to.as_secs() {
            let overlap = (end.min(second as f64 + 1.0) - begin.max(second as f64)).max(0.0);
            if overlap <= 0.0 {
                continue;
            }
            while self.end <= second {
                self.buckets.push_back(Bucket::default());
                self.end += 1;
            }
            let behind = usize::try_from(self.end - second).unwrap_or(usize::MAX);
            let bucket = self.buckets.len().checked_sub(behind);
            if let (Some(rate), Some(bucket)) = (rate, bucket) {
                self.buckets[bucket].count += rate * overlap;
                self.buckets[bucket].known += overlap;
            }
        }
        // One more than is asked for: the last second has not ended.
        while self.buckets.len() as u64 > keep + 1 {
            self.buckets.pop_front();
        }
    }

    fn learn_noise(&mut self, rate: Option<f64>, time: f64) {
        if let (Some(rate), Some(last)) = (rate, self.last) {
            let mut found = (rate - last).powi(2) * time / 2.0;
            if self.changes >= NOISE_FIRST {
                found = found.min(self.variance * NOISE_CLIP.powi(2));
            }
            self.changes += 1.0;
            let gain = (1.0 - (-time / NOISE_OVER).exp()).max(1.0 / self.changes);
            self.variance += gain.min(1.0) * (found - self.variance);
        }
        self.last = rate;
    }

    /// Mean arrivals a second over the last whole seconds, as far as they are known; `None` if too few are.
    pub fn mean(&self, now: Duration, over: Duration) -> Option<f64> {
        let (now, over) = (now.as_secs(), over.as_secs().max(1));
        let skipped = usize::try_from(self.end.saturating_sub(now)).unwrap_or(usize::MAX);
        // Seconds since the last record are unknown.
        let silent = now.saturating_sub(self.end);
        let taken = usize::try_from(over.saturating_sub(silent)).unwrap_or(usize::MAX);
        let (mut count, mut known) = (0.0, 0.0);
        for bucket in self.buckets.iter().rev().skip(skipped).take(taken) {
            count += bucket.count;
            known += bucket.known;
        }
        let least = (over as f64).min(KNOWN_SECONDS) * KNOWN_PART;
        (known >= least).then(|| count / known)
    }

    /// Whether the last call knew what arrived.
    pub const fn is_current(&self) -> bool {
        self.last.is_some()
    }

    /// Standard deviation of such a mean.
    pub fn deviation(&self, over: Duration) -> f64 {
        // Arrivals of independent clients vary by that much at least.
        let least = self.last.unwrap_or(0.0);
        (self.variance.max(least) / over.as_secs_f64().max(1.0)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn of(counts: &[Option<f64>]) -> Rate {
        let mut rate = Rate::default();
        for (second, count) in (0..).zip(counts) {
            rate.record(seconds(second), seconds(second + 1), *count, 120);
        }
        rate
    }

    #[test]
    fn a_mean_is_of_whole_seconds() {
        let mut rate = of(&[Some(1.0); 60]);
        assert_eq!(rate.mean(seconds(60), seconds(60)), Some(1.0));
        rate.record(seconds(60), Duration::from_millis(60_500), Some(50.0), 120);
        let half = Duration::from_millis(60_500);
        assert_eq!(rate.mean(half, seconds(10)), Some(1.0));
        rate.record(half, seconds(61), Some(50.0), 120);
        let mean = rate.mean(seconds(61), seconds(10)).unwrap();
        assert!((mean - 10.9).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn unknown_seconds_are_left_out() {
        let mut counts = vec![Some(4.0); 20];
        counts.extend([None; 6]);
        let rate = of(&counts);
        assert_eq!(rate.mean(seconds(26), seconds(20)), Some(4.0));
        // Four seconds of ten are too few.
        assert_eq!(rate.mean(seconds(26), seconds(10)), None);
        assert_eq!(rate.mean(seconds(40), seconds(10)), None);
        assert_eq!(Rate::default().mean(seconds(5), seconds(10)), None);
    }

    #[test]
    fn one_call_may_cover_many_seconds() {
        let mut rate = Rate::default();
        rate.record(seconds(0), seconds(30), Some(300.0), 20);
        assert_eq!(rate.mean(seconds(30), seconds(20)), Some(10.0));
        assert!(rate.buckets.len() <= 21, "{}", rate.buckets.len());
    }

    #[test]
    fn noise_is_learned_and_a_step_is_none() {
        let noisy = |second: usize| {
            100.0
                + if second.is_multiple_of(2) {
                    10.0
                } else {
                    -10.0
                }
        };
        let mut counts: Vec<_> = (0..200).map(|second| Some(noisy(second))).collect();
        let before = of(&counts).deviation(seconds(1));
        // Differences of ±20 are those of independent seconds with a deviation of 14.
        assert!((13.0..15.0).contains(&before), "{before}");
        counts.extend([Some(1_000.0); 2]);
        assert!(of(&counts).deviation(seconds(1)) < before * 2.5);
    }
}
