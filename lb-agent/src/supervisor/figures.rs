//! What the supervisor measures, for metrics: counts of probes and of what readers report, and where steering
//! stands.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use lb_clients::health::{Outcome, Verdict};
use lb_clients::load::combine::{SourceState, SourceStates};
use lb_model::vip::{RealId, VipKey};
use lb_serve::metrics::Histogram;
use lb_steering::LimitedBy;

/// Upper bounds of the time a probe takes, in seconds: from an answer of the same host to the longest time-outs in
/// use.
const PROBE_BOUNDS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Figures of every VIP that is supervised.
pub type AllFigures = HashMap<VipKey, VipFigures>;

/// Counts of a VIP's probes.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeCounts {
    /// Probes that found a real healthy.
    pub healthy: u64,
    /// Probes that found that a real wants no new flows.
    pub drain: u64,
    /// Probes that failed.
    pub unhealthy: u64,
    /// Probes that say nothing of the real, because this host could not make them or slept.
    pub inconclusive: u64,
    /// Reals whose last probe says nothing.
    pub undecided: u64,
    /// How long they took.
    pub durations: Histogram,
}

impl Default for ProbeCounts {
    fn default() -> Self {
        ProbeCounts {
            healthy: 0,
            drain: 0,
            unhealthy: 0,
            inconclusive: 0,
            undecided: 0,
            durations: Histogram::new(PROBE_BOUNDS),
        }
    }
}

impl ProbeCounts {
    /// Counts a probe.
    pub(super) fn count(&mut self, outcome: &Outcome) {
        match outcome.verdict {
            Verdict::Healthy => self.healthy += 1,
            Verdict::Drain => self.drain += 1,
            Verdict::Unhealthy => self.unhealthy += 1,
            Verdict::Inconclusive => {
                self.inconclusive += 1;
                // How long it took is no matter of the real.
                return;
            }
        }
        self.durations.observe(outcome.latency);
    }
}

/// Figures of a VIP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VipFigures {
    /// Whether it has fallen back to the operator's weights.
    pub falls_back: bool,
    /// Its probes; `None` if it has no check.
    pub probes: Option<ProbeCounts>,
    /// Its reals.
    pub reals: BTreeMap<RealId, RealFigures>,
}

/// Figures of a real. What is not known, or does not apply, is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RealFigures {
    /// What steering works with, a fraction of the real's own limit.
    pub utilisation: Option<f64>,
    /// Estimated capacity: connections, or new flows a second where connections are short.
    pub capacity: Option<f64>,
    /// Share of the new flows that steering aims at, 0 to 1.
    pub target_share: Option<f64>,
    /// How far its utilisation is trusted, 0 to 1.
    pub trust: Option<f64>,
    /// What keeps its weight from being more.
    pub limited_by: Option<&'static str>,
    /// Its load readers.
    pub readers: Option<ReaderFigures>,
}

/// Figures of the load readers of a real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderFigures {
    /// Questions that were not answered.
    pub failures: u64,
    /// Lines, topics, values and words of answers that could not be read.
    pub unreadable: u64,
    /// Readers whose last question was not answered, or that have not asked yet.
    pub failing: u64,
    /// Age of the last reading; of several readers, of the one whose last reading is the oldest.
    pub age: Option<Duration>,
}

impl ReaderFigures {
    /// Figures of the readers of these sources.
    pub(super) fn new(states: &SourceStates, failures: u64, now: Instant) -> Self {
        let sources = states.sources();
        let failing = |state: &&SourceState| state.error.is_some() || state.reported_at.is_none();
        let newest = |state: &SourceState| state.readings().map(|reading| reading.at).max();
        let oldest = sources.iter().filter_map(newest).min();
        ReaderFigures {
            failures,
            unreadable: 0,
            failing: sources.iter().filter(failing).count() as u64,
            age: oldest.map(|at| now.saturating_duration_since(at)),
        }
    }
}

/// The short name of a limit, as the label `reason` has it.
pub(super) const fn limit_name(limit: &LimitedBy) -> &'static str {
    match limit {
        LimitedBy::Nothing => "nothing",
        LimitedBy::WeightZero => "weight_zero",
        LimitedBy::Drained => "drained",
        LimitedBy::Evacuated => "evacuated",
        LimitedBy::Down => "down",
        LimitedBy::HeldDown(_) => "held_down",
        LimitedBy::ProbeDrain => "probe_drain",
        LimitedBy::AgentCommand => "agent_drain",
        LimitedBy::OverloadDrain => "overload_drain",
        LimitedBy::Overload(_) => "overload",
        LimitedBy::SlowStart(_) => "slow_start",
        LimitedBy::ScarceResource(_) => "guard",
        LimitedBy::ConnectionSurplus => "surplus",
        LimitedBy::Shedding(_) => "shedding",
        LimitedBy::StaleReading(_) => "stale",
        LimitedBy::ShareBound => "bound",
        LimitedBy::Sign(..) => "sign",
        LimitedBy::Doubt(_) => "doubt",
        LimitedBy::Loan(_) => "loan",
        LimitedBy::OperatorWeights(_) => "operator_weights",
        LimitedBy::MovementBound => "movement",
        LimitedBy::UnsuitableController => "long_connections",
    }
}

/// The short name of the limit of a real that waits for its first probe.
pub(super) const AWAITING_PROBE: &str = "awaiting_probe";

#[cfg(test)]
mod tests {
    use lb_steering::{Doubt, Fallback, Sign};

    use super::*;

    #[test]
    fn every_limit_is_in_the_documentation() {
        let page = include_str!("../../../docs/monitoring.md");
        let limits = [
            LimitedBy::Nothing,
            LimitedBy::WeightZero,
            LimitedBy::Drained,
            LimitedBy::Down,
            LimitedBy::HeldDown(Duration::ZERO),
            LimitedBy::ProbeDrain,
            LimitedBy::AgentCommand,
            LimitedBy::OverloadDrain,
            LimitedBy::Overload(0.5),
            LimitedBy::SlowStart(0.5),
            LimitedBy::ScarceResource(0.5),
            LimitedBy::ConnectionSurplus,
            LimitedBy::Shedding(1),
            LimitedBy::StaleReading(Duration::ZERO),
            LimitedBy::ShareBound,
            LimitedBy::Sign(Sign::EndsSooner { times: 10.0 }, Duration::ZERO),
            LimitedBy::Doubt(Doubt::Frozen),
            LimitedBy::Loan(1.5),
            LimitedBy::OperatorWeights(Fallback::Untrusted { reals: 1 }),
            LimitedBy::MovementBound,
            LimitedBy::UnsuitableController,
        ];
        let names = limits.iter().map(limit_name).chain([AWAITING_PROBE]);
        for name in names {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn probes_count_by_their_verdict() {
        let mut counts = ProbeCounts::default();
        for (verdict, milliseconds) in [
            (Verdict::Healthy, 1),
            (Verdict::Healthy, 2),
            (Verdict::Drain, 3),
            (Verdict::Unhealthy, 10_000),
            (Verdict::Inconclusive, 10_000),
        ] {
            counts.count(&Outcome::new(
                verdict,
                "",
                Duration::from_millis(milliseconds),
            ));
        }
        assert_eq!((counts.healthy, counts.drain, counts.unhealthy), (2, 1, 1));
        assert_eq!(counts.inconclusive, 1);
        assert_eq!(counts.durations.count(), 4);
    }
}
