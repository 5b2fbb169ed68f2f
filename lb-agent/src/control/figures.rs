//! What the owner measures of its own work, and everything it can say at one moment.

use std::time::{Duration, Instant};

use lb_serve::metrics::Histogram;

use super::{StatusView, VipView};
use lb_model::intent::Refusal;

/// Upper bounds of the time a change takes, in seconds: one disk write takes milliseconds, a batch of changes or
/// larger tables take tens or hundreds.
const CHANGE_BOUNDS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Counts of the owner's work since the agent started.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Transactions that the store has committed.
    pub commits: u64,
    /// Transactions that failed.
    pub failed_commits: u64,
    /// Changes that were accepted, those that change nothing included.
    pub accepted: u64,
    /// Changes that were refused.
    pub refused: u64,
    /// Time from a change's request to its answer, the wait in the queue included.
    pub durations: Histogram,
}

impl Default for Work {
    fn default() -> Self {
        Work {
            commits: 0,
            failed_commits: 0,
            accepted: 0,
            refused: 0,
            durations: Histogram::new(CHANGE_BOUNDS),
        }
    }
}

impl Work {
    /// Counts a change that was requested at `since` and is answered now.
    pub(super) fn count_change<T>(&mut self, outcome: &Result<T, Refusal>, since: Instant) {
        match outcome {
            Ok(_) => self.accepted += 1,
            Err(_) => self.refused += 1,
        }
        self.durations.observe(since.elapsed());
    }

    /// Counts a transaction.
    pub(super) fn count_commit<T, E>(&mut self, outcome: &Result<T, E>) {
        match outcome {
            Ok(_) => self.commits += 1,
            Err(_) => self.failed_commits += 1,
        }
    }
}

/// What the owner says at one moment.
#[derive(Debug)]
pub struct Figures {
    /// The VIPs that are served.
    pub vips: Vec<VipView>,
    /// The data plane's counters.
    pub stats: lb_dataplane::Stats,
    /// The agent's state.
    pub status: StatusView,
    /// VIPs that are configured and that the data plane has no room for.
    pub unplaced: usize,
    /// Its work.
    pub work: Work,
    /// How long it took to collect this.
    pub took: Duration,
}
