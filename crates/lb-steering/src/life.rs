//! Mean life of a connection: live connections over new flows a second (Little's law), both smoothed.

use std::time::Duration;

use super::Steering;

/// Hysteresis: once above a threshold, the life counts as above until it falls below this fraction of it.
const HYSTERESIS: f64 = 0.8;
/// Longest life that is measured, seconds.
const MAX_LIFE: f64 = 365.0 * 86_400.0;

/// The measured life of a VIP's connections.
#[derive(Debug, Default)]
pub struct Life {
    /// Live connections and new flows a second, smoothed.
    smoothed: Option<(f64, f64)>,
    long_lived: bool,
}

impl Life {
    /// Records a period of `time` seconds.
    pub fn observe(&mut self, settings: &Steering, time: f64, connections: f64, rate: f64) {
        let gain = 1.0 - (-time / settings.life_over.as_secs_f64()).exp();
        let smoothed = match self.smoothed {
            None => (connections, rate),
            Some((c, r)) => (c + gain * (connections - c), r + gain * (rate - r)),
        };
        self.smoothed = Some(smoothed);
        self.long_lived = self.is_long(settings);
    }

    /// Mean life in seconds; 0 until it is known.
    pub fn seconds(&self, settings: &Steering) -> f64 {
        match (settings.life.0, self.smoothed) {
            (Some(life), _) => life.as_secs_f64(),
            (None, Some((connections, rate))) if connections > 0.0 => {
                (connections / rate).min(MAX_LIFE)
            }
            _ => 0.0,
        }
    }

    /// Whether connections live so long that new flows alone are slow to even out the load.
    pub fn is_long(&self, settings: &Steering) -> bool {
        let threshold = f64::from(settings.long_lived_periods) * settings.period.as_secs_f64();
        let threshold = if self.long_lived {
            threshold * HYSTERESIS
        } else {
            threshold
        };
        self.seconds(settings) >= threshold
    }

    /// Whether a real's load is its number of connections, not its rate of new flows. `already` says whether it
    /// was until now.
    pub fn counts_connections(&self, settings: &Steering, already: bool) -> bool {
        let threshold = settings.period.as_secs_f64() * if already { HYSTERESIS } else { 1.0 };
        self.seconds(settings) >= threshold
    }

    /// Mean life, once it is known.
    pub fn time(&self, settings: &Steering) -> Option<Duration> {
        (self.smoothed.is_some() || settings.life.0.is_some())
            .then(|| Duration::from_secs_f64(self.seconds(settings)))
    }
}
