//! What happens to the pool, and when.

use std::time::Duration;

use serde::Serialize;

use crate::rounds::{ROUND, Rounds};

/// The shortest run in which something happens: in less time, the pool would not be small again before the end.
pub const SHORTEST: Duration = ROUND;

/// Something that happens to the pool. The serialised names are part of the JSON report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Step {
    /// Many more clients come.
    #[serde(rename = "load up")]
    LoadUp,
    /// An instance is told to crash: it answers everything with 500 until it is relaunched.
    #[serde(rename = "crashed")]
    Crash,
    /// The process of an instance is killed (SIGKILL).
    #[serde(rename = "killed")]
    Kill,
    /// These clients go.
    #[serde(rename = "load down")]
    LoadDown,
}

/// The steps of one round: the time as a fraction of the round, and the step. The load falls early enough to see the pool
/// shrink: it does when the need was low for ten seconds.
const STEPS: [(f64, Step); 4] = [
    (0.05, Step::LoadUp),
    (0.28, Step::Crash),
    (0.40, Step::Kill),
    (0.54, Step::LoadDown),
];

/// The steps of a run.
#[derive(Clone, Debug)]
pub struct Schedule(Rounds<Step>);

impl Schedule {
    /// Creates the schedule for a run of this length, or for an endless one. In a run shorter than [`SHORTEST`] nothing
    /// happens.
    pub fn new(time: Option<Duration>) -> Self {
        Self(Rounds::new(time, SHORTEST, STEPS.to_vec()))
    }

    /// Returns whether the schedule has no steps.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the next step if it is due at `now`, the time since the clients started, and counts it as done.
    pub fn due(&mut self, now: Duration) -> Option<Step> {
        self.0.due(now).map(|(_, step)| step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_each_step_once_and_time_for_the_pool_to_shrink() {
        let mut schedule = Schedule::new(Some(ROUND));
        let until = |schedule: &mut Schedule, seconds| {
            let now = Duration::from_secs(seconds);
            std::iter::from_fn(|| schedule.due(now)).collect::<Vec<_>>()
        };
        assert!(until(&mut schedule, 2).is_empty());
        assert_eq!(until(&mut schedule, 5), [Step::LoadUp]);
        let rest = [Step::Crash, Step::Kill, Step::LoadDown];
        assert_eq!(until(&mut schedule, 35), rest);
        assert!(until(&mut schedule, 60).is_empty());
        assert!(Schedule::new(Some(Duration::from_secs(59))).is_empty());
    }
}
