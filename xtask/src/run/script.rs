//! What is done to the brokers, and when.

use std::time::Duration;

/// A round: each thing is done once, and there is time to see what follows.
const ROUND: Duration = Duration::from_secs(60);

/// The shortest run in which anything is done: in less, a broker would be back before it is missed.
pub const SHORTEST: Duration = Duration::from_secs(30);

/// What is done to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Something else runs on its host and wants all CPU that the host may have.
    Load,
    /// That ends.
    Relieve,
    /// It is stopped where it is (SIGSTOP): it accepts connections and says nothing.
    Freeze,
    /// It goes on (SIGCONT).
    Thaw,
    /// It is killed (SIGKILL).
    Kill,
    /// It is started again.
    Revive,
}

impl Deed {
    /// Whether a trouble begins with it; else one ends.
    pub fn begins(self) -> bool {
        matches!(self, Self::Load | Self::Freeze | Self::Kill)
    }
}

/// A deed, when it is due and to which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Since the clients began.
    pub at: Duration,
    /// What is done.
    pub deed: Deed,
    /// To which broker, from 0.
    pub broker: usize,
}

/// A round's deeds: when, as a part of the round, what, and to which broker. What is begun is over before the
/// next begins, and the last ends early enough to see the broker come back.
const DEEDS: [(f64, Deed, usize); 6] = [
    (0.14, Deed::Load, 3),
    (0.33, Deed::Relieve, 3),
    (0.48, Deed::Freeze, 1),
    (0.64, Deed::Thaw, 1),
    (0.70, Deed::Kill, 2),
    (0.80, Deed::Revive, 2),
];

/// The deeds of a run, in the order of their time.
#[derive(Clone, Debug)]
pub struct Script {
    round: Duration,
    rounds: Option<u32>,
    deeds: Vec<(f64, Deed, usize)>,
    done: usize,
}

impl Script {
    /// For a run of this length, or one without an end; `loading`: brokers can be loaded. A run that is shorter
    /// than [`SHORTEST`] has no deeds, a longer one has as many rounds of a minute or more as fit.
    pub fn new(time: Option<Duration>, loading: bool) -> Self {
        let rounds = time.map(|time| {
            let whole = u32::try_from(time.as_secs() / ROUND.as_secs()).unwrap_or(u32::MAX);
            if time < SHORTEST { 0 } else { whole.max(1) }
        });
        let round = match (time, rounds) {
            (Some(time), Some(rounds)) if rounds > 0 => time / rounds,
            _ => ROUND,
        };
        let deeds = DEEDS
            .into_iter()
            .filter(|(_, deed, _)| loading || !matches!(deed, Deed::Load | Deed::Relieve))
            .collect();
        Self {
            round,
            rounds,
            deeds,
            done: 0,
        }
    }

    /// Whether anything is ever done.
    pub fn is_empty(&self) -> bool {
        self.rounds == Some(0)
    }

    /// The next step, if it is due by `now`, the time since the clients began. It counts as done.
    pub fn due(&mut self, now: Duration) -> Option<Step> {
        let (round, index) = (self.done / self.deeds.len(), self.done % self.deeds.len());
        let round = u32::try_from(round).ok()?;
        if self.rounds.is_some_and(|rounds| round >= rounds) {
            return None;
        }
        let (part, deed, broker) = self.deeds[index];
        let at = self.round * round + self.round.mul_f64(part);
        (at <= now).then(|| {
            self.done += 1;
            Step { at, deed, broker }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(script: &mut Script, until: u64) -> Vec<Step> {
        std::iter::from_fn(|| script.due(Duration::from_secs(until))).collect()
    }

    #[test]
    fn a_minute_has_each_deed_once_and_time_after_the_last() {
        let steps = all(&mut Script::new(Some(ROUND), true), 60);
        assert_eq!(steps.len(), DEEDS.len());
        assert!(steps.is_sorted_by_key(|step| step.at));
        assert!(steps.last().unwrap().at <= Duration::from_secs(50));
        // Whatever is begun ends, with the same broker, before the next begins.
        for pair in steps.chunks(2) {
            let [begin, end] = pair else {
                panic!("{pair:?}")
            };
            assert_eq!(begin.broker, end.broker);
            let expected = match begin.deed {
                Deed::Load => Deed::Relieve,
                Deed::Freeze => Deed::Thaw,
                Deed::Kill => Deed::Revive,
                other => panic!("{other:?} begins nothing"),
            };
            assert_eq!(end.deed, expected);
        }
    }

    #[test]
    fn steps_come_when_they_are_due() {
        let mut script = Script::new(Some(ROUND), true);
        assert_eq!(script.due(Duration::from_secs(8)), None);
        let first = script.due(Duration::from_secs(9)).unwrap();
        assert_eq!((first.deed, first.broker), (Deed::Load, 3));
        assert_eq!(script.due(Duration::from_secs(9)), None);
    }

    #[test]
    fn the_length_of_a_run_makes_its_rounds() {
        for (seconds, deeds, last) in [
            (0, 0, 0.0),
            (29, 0, 0.0),
            (30, 1, 24.0),
            (60, 1, 48.0),
            (119, 1, 95.2),
            (120, 2, 108.0),
            (3600, 60, 3588.0),
        ] {
            let mut script = Script::new(Some(Duration::from_secs(seconds)), true);
            assert_eq!(script.is_empty(), deeds == 0, "{seconds} s");
            let steps = all(&mut script, seconds);
            assert_eq!(steps.len(), deeds * DEEDS.len(), "{seconds} s");
            if let Some(step) = steps.last() {
                assert!((step.at.as_secs_f64() - last).abs() < 1e-6, "{step:?}");
            }
        }
    }

    #[test]
    fn without_an_end_it_goes_on() {
        let mut script = Script::new(None, true);
        let day = all(&mut script, 24 * 3600);
        assert_eq!(day.len(), 24 * 60 * DEEDS.len());
        assert!(script.due(Duration::from_secs(24 * 3600 + 12)).is_some());
    }

    #[test]
    fn brokers_without_a_limit_are_not_loaded() {
        let steps = all(&mut Script::new(Some(ROUND), false), 60);
        let deeds: Vec<Deed> = steps.iter().map(|step| step.deed).collect();
        assert_eq!(deeds, [Deed::Freeze, Deed::Thaw, Deed::Kill, Deed::Revive]);
    }
}
