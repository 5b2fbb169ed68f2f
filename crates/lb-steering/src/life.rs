//! How long connections live: live ones over new ones a second (Little's law), both smoothed.

use std::time::Duration;

use super::spec::Steering;

/// Above a threshold, connections are so until they live for less than this part of it.
const HYSTERESIS: f64 = 0.8;
/// Longest life that is told apart from any longer one.
const LONGEST: f64 = 365.0 * 86_400.0;

/// What is measured.
#[derive(Debug, Default)]
pub struct Life {
    /// Connections and new ones a second, smoothed.
    smooth: Option<(f64, f64)>,
    long: bool,
}

impl Life {
    /// Notes a period of this length, seconds.
    pub fn observe(&mut self, spec: &Steering, time: f64, connections: f64, rate: f64) {
        let gain = 1.0 - (-time / spec.life_over.as_secs_f64()).exp();
        let smooth = match self.smooth {
            None => (connections, rate),
            Some((c, r)) => (c + gain * (connections - c), r + gain * (rate - r)),
        };
        self.smooth = Some(smooth);
        let threshold = f64::from(spec.long_lived_periods) * spec.period.as_secs_f64();
        let threshold = if self.long {
            threshold * HYSTERESIS
        } else {
            threshold
        };
        self.long = self.seconds(spec) >= threshold;
    }

    /// Mean life, seconds; 0 as long as nothing is known.
    pub fn seconds(&self, spec: &Steering) -> f64 {
        match (spec.life, self.smooth) {
            (Some(life), _) => life.as_secs_f64(),
            (None, Some((connections, rate))) if connections > 0.0 => {
                (connections / rate).min(LONGEST)
            }
            _ => 0.0,
        }
    }

    /// So long that new flows alone are slow to even out the load.
    pub fn long(&self, spec: &Steering) -> bool {
        let threshold = f64::from(spec.long_lived_periods) * spec.period.as_secs_f64();
        let threshold = if self.long {
            threshold * HYSTERESIS
        } else {
            threshold
        };
        self.seconds(spec) >= threshold
    }

    /// So long that connections, not new flows, are what a real carries; `already`:
    /// they were.
    pub fn counts_connections(&self, spec: &Steering, already: bool) -> bool {
        let threshold = spec.period.as_secs_f64() * if already { HYSTERESIS } else { 1.0 };
        self.seconds(spec) >= threshold
    }

    /// As time.
    pub fn time(&self, spec: &Steering) -> Option<Duration> {
        (self.smooth.is_some() || spec.life.is_some())
            .then(|| Duration::from_secs_f64(self.seconds(spec)))
    }
}
