//! Detects readings that are late without saying so, such as those of a source that averages or is polled seldom.
//! Utilisation follows what a real carries, so the delay is the one at which changes of both agree best, over all
//! reals of the pool. A count of connections follows the flows that the data plane sees begin and end.

use std::time::Duration;

/// Number of candidate delays of utilisation: 0 to this many periods, exclusive.
const DELAYS: usize = 5;
/// The same of counts of connections. They are exact, so that more candidates explain nothing by chance.
const COUNT_DELAYS: usize = 14;
/// Factor by which evidence decays per period.
const DECAY: f64 = 0.9;
/// Another delay is adopted once it leaves less than this fraction of the residual that the current one leaves ...
const MAX_RESIDUAL_RATIO: f64 = 0.5;
/// ... and explains at least this much more (squared natural logarithms): four changes by a fifth.
const MIN_RESIDUAL_GAIN: f64 = 0.16;
/// The same for counts (squared connections): a few changes by ten.
const MIN_COUNT_GAIN: f64 = 400.0;

/// The delay of one quantity beyond the age that its readings report.
#[derive(Debug)]
struct Delay<const DELAYS: usize> {
    /// For each candidate delay, the sum of squared changes that it leaves unexplained.
    residuals: [f64; DELAYS],
    /// The delay in use, in periods.
    periods: usize,
}

impl<const DELAYS: usize> Default for Delay<DELAYS> {
    fn default() -> Self {
        Delay {
            residuals: [0.0; DELAYS],
            periods: 0,
        }
    }
}

impl<const DELAYS: usize> Delay<DELAYS> {
    /// Adds what each delay leaves unexplained of a change, if all of them are known.
    fn observe(&mut self, unexplained: impl Fn(u32) -> Option<f64>) {
        let all: Option<Vec<f64>> = (0..DELAYS as u32).map(unexplained).collect();
        for (sum, one) in self.residuals.iter_mut().zip(all.unwrap_or_default()) {
            *sum += one.powi(2);
        }
    }

    /// Ends a period. Returns whether another delay is in use from now on.
    fn end_period(&mut self, min_gain: f64) -> bool {
        let current = self.residuals[self.periods];
        let best = (0..DELAYS)
            .min_by(|a, b| self.residuals[*a].total_cmp(&self.residuals[*b]))
            .unwrap_or_default();
        let least = self.residuals[best];
        for sum in &mut self.residuals {
            *sum *= DECAY;
        }
        let changes = least < current * MAX_RESIDUAL_RATIO && current - least > min_gain;
        if changes {
            self.periods = best;
        }
        changes
    }
}

/// The delays of readings.
#[derive(Debug, Default)]
pub struct Lag {
    utilisation: Delay<DELAYS>,
    connections: Delay<COUNT_DELAYS>,
}

impl Lag {
    /// The delay of utilisation that is in use.
    pub fn time(&self, period: Duration) -> Duration {
        period * self.utilisation.periods as u32
    }

    /// The same of reported connections.
    pub fn of_connections(&self, period: Duration) -> Duration {
        period * self.connections.periods as u32
    }

    /// Records that a real's utilisation changed by the factor `utilisation`. `carried` returns the factor by which
    /// the carried load changed, a given delay earlier.
    pub fn observe(
        &mut self,
        period: Duration,
        utilisation: f64,
        carried: impl Fn(Duration) -> Option<f64>,
    ) {
        self.utilisation
            .observe(|periods| Some((utilisation / carried(period * periods)?).ln()));
    }

    /// Records that a real's reported connections changed by `reported`. `opened` returns the flows that were opened
    /// less those that were closed, a given delay earlier.
    pub fn observe_connections(
        &mut self,
        period: Duration,
        reported: f64,
        opened: impl Fn(Duration) -> Option<f64>,
    ) {
        self.connections
            .observe(|periods| Some(reported - opened(period * periods)?));
    }

    /// Ends a period. Returns whether another delay of utilisation is in use from now on.
    pub fn end_period(&mut self) -> bool {
        self.connections.end_period(MIN_COUNT_GAIN);
        self.utilisation.end_period(MIN_RESIDUAL_GAIN)
    }
}
