//! The latency of an instance: an estimate that rises at once, and then comes back.
//!
//! A slow answer counts at once, so that an instance that stalls is avoided with its first slow answer. But who is avoided
//! does not answer, so the estimate must come back without answers, and soon however slow the one answer was: latencies
//! differ by orders of magnitude, so it is their logarithm that comes back. In each [`HALF_LIFE`] the distance to what is
//! usual among the instances of the service ([`Typical`]) halves on this scale: 1 s among answers of 1 ms is 32 ms after one
//! half-life, 6 ms after two, 2.4 ms after three. (An average of the latencies themselves would be at 50 ms after three times
//! that long.) Then it is as good as the others, gets requests, and shows what it is.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// In this time, in seconds, the distance to what is usual halves on a logarithmic scale.
const HALF_LIFE: f64 = 3.0;
/// After so many half-lives without an answer nothing is known any more.
const FORGOTTEN: f64 = 10.0;
/// The shortest latency, in seconds.
const SHORTEST: f32 = 1e-6;

/// The latency of an instance. Times are since any common start.
#[derive(Debug, Default)]
pub struct PeakLatency(AtomicU64);

impl PeakLatency {
    /// Counts an answer that took `latency`, at the time `now`.
    pub fn observe(&self, now: Duration, latency: Duration) {
        let sample = latency.as_secs_f32().max(SHORTEST);
        // Of two answers at the same moment, one may be lost.
        let word = self.0.load(Ordering::Relaxed);
        let (average, stamp) = unpack(word);
        let next = if word == 0 || sample > average {
            sample
        } else {
            between(average.into(), sample.into(), elapsed(now, stamp)) as f32
        };
        self.0.store(pack(next, now), Ordering::Relaxed);
    }

    /// Returns the latency at the time `now`, in seconds, or `None` if no answer counts any more. `typical` is what is usual
    /// among the instances.
    #[must_use]
    pub fn read(&self, now: Duration, typical: Option<f64>) -> Option<f64> {
        let word = self.0.load(Ordering::Relaxed);
        if word == 0 {
            return None;
        }
        let (average, stamp) = unpack(word);
        let (average, elapsed) = (f64::from(average), elapsed(now, stamp));
        if elapsed > HALF_LIFE * FORGOTTEN {
            return None;
        }
        Some(typical.map_or(average, |typical| between(average, typical, elapsed)))
    }

    /// Forgets all answers.
    pub fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Where an estimate is that comes back from `from` to `to` for so many seconds.
fn between(from: f64, to: f64, seconds: f64) -> f64 {
    let to = to.max(SHORTEST.into());
    to * (from / to).powf((-seconds / HALF_LIFE).exp2())
}

/// The latency that is usual among the instances of a service: the median.
#[derive(Debug, Default)]
pub struct Typical(AtomicU64);

impl Typical {
    /// Sets it to the median of these, the lower one of two: of two instances the slow one is not usual.
    pub fn set(&self, mut latencies: Vec<f64>) {
        latencies.sort_by(f64::total_cmp);
        let middle = latencies.len().saturating_sub(1) / 2;
        // 0: none.
        let median = latencies.get(middle).copied().unwrap_or(0.0);
        self.0.store(median.to_bits(), Ordering::Relaxed);
    }

    /// Returns it, if any instance has answered.
    #[must_use]
    pub fn get(&self) -> Option<f64> {
        let median = f64::from_bits(self.0.load(Ordering::Relaxed));
        (median > 0.0).then_some(median)
    }
}

/// The average in the high half, and the time in milliseconds, which may wrap, in the low one.
fn pack(average: f32, now: Duration) -> u64 {
    u64::from(average.to_bits()) << 32 | (now.as_millis() as u64 & u64::from(u32::MAX))
}

fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

/// Seconds since a stamp in milliseconds.
fn elapsed(now: Duration, stamp: u32) -> f64 {
    let elapsed = (now.as_millis() as u32).wrapping_sub(stamp);
    // A clock of another thread may be a little ahead.
    if elapsed > u32::MAX / 2 {
        return 0.0;
    }
    f64::from(elapsed) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const QUICK: Duration = Duration::from_millis(1);
    const TYPICAL: Option<f64> = Some(0.001);

    #[test]
    fn it_rises_at_once_and_comes_back_with_answers() {
        let latency = PeakLatency::default();
        assert_eq!(latency.read(at(0), None), None);
        latency.observe(at(1), QUICK);
        latency.observe(at(1), Duration::from_secs(1));
        assert!((latency.read(at(1), TYPICAL).unwrap() - 1.0).abs() < 1e-6);
        // Quick answers at once change little, and after a half-life as much as half of the way.
        latency.observe(at(1), QUICK);
        assert!(latency.read(at(1), TYPICAL).unwrap() > 0.99);
        latency.observe(at(4), QUICK);
        let after = latency.read(at(4), TYPICAL).unwrap();
        assert!((after - 0.0316).abs() < 0.001, "{after}");
    }

    #[test]
    fn one_that_does_not_answer_is_soon_as_good_as_the_others() {
        let latency = PeakLatency::default();
        latency.observe(at(1), Duration::from_secs(1));
        let read = |time| latency.read(at(time), TYPICAL).unwrap();
        for (time, expected) in [(4, 0.0316), (7, 0.005_62), (10, 0.002_37), (13, 0.001_54)] {
            assert!((read(time) - expected).abs() < expected / 100.0, "{time}");
        }
        // One that is quicker than the others, and does not answer, does not stay the best for ever either.
        let latency = PeakLatency::default();
        latency.observe(at(1), Duration::from_micros(10));
        assert!(latency.read(at(10), TYPICAL).unwrap() > 0.000_5);
        assert_eq!(latency.read(at(60), TYPICAL), None);
    }

    #[test]
    fn what_is_usual_is_the_median() {
        let typical = Typical::default();
        assert_eq!(typical.get(), None);
        for (latencies, expected) in [
            (vec![2.0, 0.5], Some(0.5)),
            (vec![3.0, 1.0, 2.0], Some(2.0)),
            (vec![], None),
        ] {
            typical.set(latencies);
            assert_eq!(typical.get(), expected);
        }
    }

    #[test]
    fn clocks_that_differ_a_little_do_no_harm() {
        let latency = PeakLatency::default();
        latency.observe(at(100), Duration::from_millis(5));
        assert!((latency.read(at(99), TYPICAL).unwrap() - 0.005).abs() < 1e-6);
    }
}
