//! Detects readings that are late without saying so, such as those of a source that averages or is polled seldom.
//! Utilisation follows what a real carries, so the delay is the one at which changes of both agree best, over all
//! reals of the pool.

use std::time::Duration;

/// Number of candidate delays: 0 to this many periods, exclusive.
const DELAYS: usize = 5;
/// Factor by which evidence decays per period.
const DECAY: f64 = 0.9;
/// Another delay is adopted once it leaves less than this fraction of the residual that the current one leaves ...
const MAX_RESIDUAL_RATIO: f64 = 0.5;
/// ... and explains at least this much more (squared natural logarithms): four changes by a fifth.
const MIN_RESIDUAL_GAIN: f64 = 0.16;

/// The delay of readings beyond the age they report.
#[derive(Debug, Default)]
pub struct Lag {
    /// For each candidate delay, the sum of squared changes that it leaves unexplained.
    residuals: [f64; DELAYS],
    /// The delay in use, in periods.
    periods: usize,
}

impl Lag {
    /// The delay in use.
    pub fn time(&self, period: Duration) -> Duration {
        period * self.periods as u32
    }

    /// Records that a real's utilisation changed by the factor `utilisation`. `carried` returns the factor by which
    /// the carried load changed, a given delay earlier.
    pub fn observe(
        &mut self,
        period: Duration,
        utilisation: f64,
        carried: impl Fn(Duration) -> Option<f64>,
    ) {
        let changes: Option<Vec<f64>> = (0..DELAYS)
            .map(|periods| carried(period * periods as u32))
            .collect();
        for (sum, change) in self.residuals.iter_mut().zip(changes.unwrap_or_default()) {
            *sum += (utilisation / change).ln().powi(2);
        }
    }

    /// Ends a period. Returns whether another delay is in use from now on.
    pub fn end_period(&mut self) -> bool {
        let current = self.residuals[self.periods];
        let best = (0..DELAYS)
            .min_by(|a, b| self.residuals[*a].total_cmp(&self.residuals[*b]))
            .unwrap_or_default();
        let least = self.residuals[best];
        for sum in &mut self.residuals {
            *sum *= DECAY;
        }
        let changes = least < current * MAX_RESIDUAL_RATIO && current - least > MIN_RESIDUAL_GAIN;
        if changes {
            self.periods = best;
        }
        changes
    }
}
