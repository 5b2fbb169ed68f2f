//! Readings that are late and do not say so: a source that averages, or that is asked seldom. Utilisation follows
//! what a real carries, so the delay is the one at which changes of both agree best, over all reals of the pool.

use std::time::Duration;

/// Delays that are told apart, in periods: none, and up to this many less one.
const DELAYS: usize = 5;
/// What is kept of what was found until a period ago.
const KEEP: f64 = 0.9;
/// Another delay is believed once it leaves less than this part of what the present one leaves unexplained.
const BETTER: f64 = 0.5;
/// Nor before it would explain this much more (squares of natural logarithms): four changes by a fifth.
const WORTH: f64 = 0.16;

/// What is measured.
#[derive(Debug, Default)]
pub struct Lag {
    /// For each delay: squares of what it leaves unexplained.
    unexplained: [f64; DELAYS],
    /// The delay that is reckoned with, in periods.
    periods: usize,
}

impl Lag {
    /// The delay beyond what readings say of their age.
    pub fn time(&self, period: Duration) -> Duration {
        period * self.periods as u32
    }

    /// Notes that a real's utilisation changed by this factor. `carried`: by which factor what it carried changed,
    /// so long before.
    pub fn observe(
        &mut self,
        period: Duration,
        utilisation: f64,
        carried: impl Fn(Duration) -> Option<f64>,
    ) {
        let changes: Option<Vec<f64>> = (0..DELAYS)
            .map(|periods| carried(period * periods as u32))
            .collect();
        for (sum, change) in self.unexplained.iter_mut().zip(changes.unwrap_or_default()) {
            *sum += (utilisation / change).ln().powi(2);
        }
    }

    /// A period is over; whether another delay is reckoned with from now on.
    pub fn conclude(&mut self) -> bool {
        let now = self.unexplained[self.periods];
        let best = (0..DELAYS)
            .min_by(|a, b| self.unexplained[*a].total_cmp(&self.unexplained[*b]))
            .unwrap_or_default();
        let least = self.unexplained[best];
        for sum in &mut self.unexplained {
            *sum *= KEEP;
        }
        let other = least < now * BETTER && now - least > WORTH;
        if other {
            self.periods = best;
        }
        other
    }
}
