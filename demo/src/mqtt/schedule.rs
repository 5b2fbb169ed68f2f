//! Which faults the brokers suffer, and when.

use std::time::Duration;

use serde::Serialize;

use crate::rounds::Rounds;

/// The shortest run with faults: in less time, a broker would be back before its absence is noticed.
pub const SHORTEST: Duration = Duration::from_secs(30);

/// What is wrong with a broker. The serialised names are part of the JSON report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Fault {
    /// Another program on its host takes all the CPU time that the host may use.
    #[serde(rename = "loaded")]
    CpuLoad,
    /// It is stopped (SIGSTOP): its kernel accepts connections, but nothing answers on them.
    #[serde(rename = "frozen")]
    Freeze,
    /// It was killed (SIGKILL).
    #[serde(rename = "killed")]
    Kill,
}

impl Fault {
    /// Describes a broker that suffers the fault, in a word.
    pub fn adjective(self) -> &'static str {
        match self {
            Self::CpuLoad => "loaded",
            Self::Freeze => "frozen",
            Self::Kill => "killed",
        }
    }
}

/// An end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The fault begins.
    Begin,
    /// The fault is repaired.
    End,
}

/// One entry of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it is due, since the clients started.
    pub at: Duration,
    /// The fault.
    pub fault: Fault,
    /// Whether it begins or ends.
    pub edge: Edge,
    /// The broker, counted from 0.
    pub broker: usize,
}

/// The steps of one round: the time as a fraction of the round, the fault, which end of it, and the broker. A fault
/// ends before the next begins, and the last ends early enough to see the broker come back.
const STEPS: [(f64, Fault, Edge, usize); 6] = [
    (0.14, Fault::CpuLoad, Edge::Begin, 3),
    (0.33, Fault::CpuLoad, Edge::End, 3),
    (0.48, Fault::Freeze, Edge::Begin, 1),
    (0.64, Fault::Freeze, Edge::End, 1),
    (0.70, Fault::Kill, Edge::Begin, 2),
    (0.80, Fault::Kill, Edge::End, 2),
];

/// The steps of a run.
#[derive(Clone, Debug)]
pub struct Schedule(Rounds<(Fault, Edge, usize)>);

impl Schedule {
    /// Creates the schedule for a run of this length, or for an endless one. A run shorter than [`SHORTEST`] has no
    /// faults. Without `cpu_limits` there is no [`Fault::CpuLoad`].
    pub fn new(time: Option<Duration>, cpu_limits: bool) -> Self {
        let steps = STEPS
            .into_iter()
            .filter(|(_, fault, _, _)| cpu_limits || *fault != Fault::CpuLoad)
            .map(|(fraction, fault, edge, broker)| (fraction, (fault, edge, broker)))
            .collect();
        Self(Rounds::new(time, SHORTEST, steps))
    }

    /// Returns whether the schedule has no steps.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the next step if it is due at `now`, the time since the clients started, and counts it as done.
    pub fn due(&mut self, now: Duration) -> Option<Step> {
        let (at, (fault, edge, broker)) = self.0.due(now)?;
        Some(Step {
            at,
            fault,
            edge,
            broker,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::ROUND;

    fn all(schedule: &mut Schedule, until: u64) -> Vec<Step> {
        std::iter::from_fn(|| schedule.due(Duration::from_secs(until))).collect()
    }

    #[test]
    fn a_minute_has_each_fault_once_and_time_after_the_last() {
        let steps = all(&mut Schedule::new(Some(ROUND), true), 60);
        assert_eq!(steps.len(), STEPS.len());
        assert!(steps.is_sorted_by_key(|step| step.at));
        assert!(steps.last().unwrap().at <= Duration::from_secs(50));
        let mut faults = Vec::new();
        // Every fault ends, on the same broker, before the next begins.
        for pair in steps.chunks(2) {
            let [begin, end] = pair else {
                panic!("{pair:?}")
            };
            assert_eq!((begin.edge, end.edge), (Edge::Begin, Edge::End));
            assert_eq!((begin.broker, begin.fault), (end.broker, end.fault));
            faults.push(begin.fault);
        }
        assert_eq!(faults, [Fault::CpuLoad, Fault::Freeze, Fault::Kill]);
    }

    #[test]
    fn steps_come_when_they_are_due() {
        let mut schedule = Schedule::new(Some(ROUND), true);
        assert_eq!(schedule.due(Duration::from_secs(8)), None);
        let first = schedule.due(Duration::from_secs(9)).unwrap();
        assert_eq!(
            (first.fault, first.edge, first.broker),
            (Fault::CpuLoad, Edge::Begin, 3)
        );
        assert_eq!(schedule.due(Duration::from_secs(9)), None);
    }

    #[test]
    fn the_length_of_a_run_determines_its_rounds() {
        for (seconds, rounds, last) in [
            (0, 0, 0.0),
            (29, 0, 0.0),
            (30, 1, 24.0),
            (60, 1, 48.0),
            (119, 1, 95.2),
            (120, 2, 108.0),
            (3600, 60, 3588.0),
        ] {
            let mut schedule = Schedule::new(Some(Duration::from_secs(seconds)), true);
            assert_eq!(schedule.is_empty(), rounds == 0, "{seconds} s");
            let steps = all(&mut schedule, seconds);
            assert_eq!(steps.len(), rounds * STEPS.len(), "{seconds} s");
            if let Some(step) = steps.last() {
                assert!((step.at.as_secs_f64() - last).abs() < 1e-6, "{step:?}");
            }
        }
    }

    #[test]
    fn an_endless_run_repeats_its_rounds() {
        let mut schedule = Schedule::new(None, true);
        let day = all(&mut schedule, 24 * 3600);
        assert_eq!(day.len(), 24 * 60 * STEPS.len());
        assert!(schedule.due(Duration::from_secs(24 * 3600 + 12)).is_some());
    }

    #[test]
    fn brokers_without_a_cpu_limit_are_not_loaded() {
        let steps = all(&mut Schedule::new(Some(ROUND), false), 60);
        let faults: Vec<Fault> = steps.iter().map(|step| step.fault).collect();
        assert_eq!(
            faults,
            [Fault::Freeze, Fault::Freeze, Fault::Kill, Fault::Kill]
        );
    }
}
