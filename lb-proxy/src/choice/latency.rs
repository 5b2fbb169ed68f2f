//! The latency of an instance, as an average that rises at once and falls slowly.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// After this time an observation counts for 1/e.
const MEMORY: f64 = 10.0;
/// An average below this is unknown: the instance has not answered for many times [`MEMORY`].
const UNKNOWN: f32 = 1e-6;

/// The latency of an instance. A slow answer counts at once, so that an instance that stalls is avoided with its first slow
/// answer; the average falls with time, also without answers, so that it is tried again. Times are since any common start.
#[derive(Debug, Default)]
pub struct PeakLatency(AtomicU64);

impl PeakLatency {
    /// Counts an answer that took `latency`, at the time `now`.
    pub fn observe(&self, now: Duration, latency: Duration) {
        let sample = latency.as_secs_f32().max(UNKNOWN * 2.0);
        // Of two answers at the same moment, one may be lost.
        let word = self.0.load(Ordering::Relaxed);
        let (average, stamp) = unpack(word);
        let elapsed = now.as_secs_f32_since(stamp);
        let kept = (-f64::from(elapsed) / MEMORY).exp() as f32;
        let next = if word == 0 || sample > average * kept {
            sample
        } else {
            average * kept + sample * (1.0 - kept)
        };
        self.0.store(pack(next, now), Ordering::Relaxed);
    }

    /// Returns the latency at the time `now`, in seconds, or `None` if no answer counts any more.
    #[must_use]
    pub fn read(&self, now: Duration) -> Option<f64> {
        let word = self.0.load(Ordering::Relaxed);
        if word == 0 {
            return None;
        }
        let (average, stamp) = unpack(word);
        let elapsed = f64::from(now.as_secs_f32_since(stamp));
        let average = f64::from(average) * (-elapsed / MEMORY).exp();
        (average >= f64::from(UNKNOWN)).then_some(average)
    }
}

/// The average in the high half, and the time in milliseconds, which may wrap, in the low one.
fn pack(average: f32, now: Duration) -> u64 {
    u64::from(average.to_bits()) << 32 | (now.as_millis() as u64 & u64::from(u32::MAX))
}

fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

trait Since {
    /// Seconds since a stamp in milliseconds.
    fn as_secs_f32_since(&self, stamp: u32) -> f32;
}

impl Since for Duration {
    fn as_secs_f32_since(&self, stamp: u32) -> f32 {
        let elapsed = (self.as_millis() as u32).wrapping_sub(stamp);
        // A clock of another thread may be a little ahead.
        if elapsed > u32::MAX / 2 {
            return 0.0;
        }
        elapsed as f32 / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let latency = PeakLatency::default();
        assert_eq!(latency.read(at(0)), None);
        latency.observe(at(1), Duration::from_millis(10));
        assert!((latency.read(at(1)).unwrap() - 0.01).abs() < 1e-6);
        latency.observe(at(1), Duration::from_secs(1));
        assert!((latency.read(at(1)).unwrap() - 1.0).abs() < 1e-6);
        latency.observe(at(2), Duration::from_millis(10));
        let after = latency.read(at(2)).unwrap();
        assert!(after > 0.8 && after < 1.0, "{after}");
        // Without answers it falls, too, and is unknown in the end.
        assert!(latency.read(at(12)).unwrap() < after * 0.4);
        assert_eq!(latency.read(at(1_000)), None);
    }

    #[test]
    fn clocks_that_differ_a_little_do_no_harm() {
        let latency = PeakLatency::default();
        latency.observe(at(100), Duration::from_millis(5));
        assert!((latency.read(at(99)).unwrap() - 0.005).abs() < 1e-6);
    }
}
