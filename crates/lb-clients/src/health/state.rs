//! The state of a real, made of outcomes. Pure: the caller passes the time.
//!
//! ```text
//!              first healthy answer
//!   unknown ─────────────────────────────► up ◄───── healthy_threshold healthy answers ──┐
//!      │  unhealthy_threshold "to be drained" │ ─ unhealthy_threshold "to be drained" ─► drain
//!      ├───────────────────────────────────────────────────────────────────────────────────▲
//!      │         from any: unhealthy_threshold failures in a row                           │
//!      └──────────────────────────────────► down ── healthy_threshold answers in a row ────┘ or up
//! ```
//!
//! An unknown real counts as up: an agent that restarts must not drop reals that served clients meanwhile. A dead one
//! goes down within its thresholds, at the fast interval, because an unknown state is in doubt. A real that is added
//! while others are up waits for its first probe; the supervisor of the VIP sees to that.

use std::{
    fmt,
    time::{Duration, Instant},
};

use lb_model::check::Check;

use super::{Outcome, Verdict};

/// The state of a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not probed often enough yet; it counts as up.
    Unknown,
    /// It serves.
    Up,
    /// It serves and wants no new flows.
    Drain,
    /// It does not serve.
    Down,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            State::Unknown => "unknown",
            State::Up => "up",
            State::Drain => "drain",
            State::Down => "down",
        })
    }
}

/// A change of a real's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The previous state.
    pub from: State,
    /// The new state.
    pub to: State,
    /// The reason of the outcome that decided.
    pub reason: String,
    /// How long the previous state lasted.
    pub after: Duration,
}

/// A real's health.
#[derive(Clone, Debug)]
pub struct Health {
    state: State,
    since: Instant,
    last: Option<Outcome>,
    // Outcomes in a row, up to the last one.
    failures: u32,
    answers: u32,
    healthy: u32,
    drains: u32,
}

impl Health {
    /// The health of a real that was not probed yet.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Health {
            state: State::Unknown,
            since: now,
            last: None,
            failures: 0,
            answers: 0,
            healthy: 0,
            drains: 0,
        }
    }

    /// The health of a real that was down when the previous agent ended.
    #[must_use]
    pub fn dead(now: Instant) -> Self {
        Health {
            state: State::Down,
            ..Health::new(now)
        }
    }

    /// Records an outcome, and returns the change if the state becomes another. One that is inconclusive leaves everything
    /// as it is.
    pub fn observe(&mut self, check: &Check, outcome: Outcome, now: Instant) -> Option<Change> {
        if outcome.verdict == Verdict::Inconclusive {
            return None;
        }
        self.count(outcome.verdict);
        let next = self.next(check, outcome.verdict);
        let change = (next != self.state).then(|| Change {
            from: self.state,
            to: next,
            reason: outcome.reason.clone(),
            after: now.saturating_duration_since(self.since),
        });
        self.last = Some(outcome);
        if change.is_some() {
            self.state = next;
            self.since = now;
        }
        change
    }

    fn count(&mut self, verdict: Verdict) {
        let in_a_row = |count: &mut u32, is: bool| {
            *count = if is { count.saturating_add(1) } else { 0 };
        };
        in_a_row(&mut self.failures, verdict == Verdict::Unhealthy);
        in_a_row(&mut self.answers, verdict.is_alive());
        in_a_row(&mut self.healthy, verdict == Verdict::Healthy);
        in_a_row(&mut self.drains, verdict == Verdict::Drain);
    }

    fn next(&self, check: &Check, verdict: Verdict) -> State {
        if self.failures >= check.unhealthy_threshold {
            return State::Down;
        }
        match self.state {
            State::Unknown if verdict == Verdict::Healthy => State::Up,
            State::Unknown | State::Up if self.drains >= check.unhealthy_threshold => State::Drain,
            State::Drain if self.healthy >= check.healthy_threshold => State::Up,
            State::Down if self.answers >= check.healthy_threshold => {
                if verdict == Verdict::Drain {
                    State::Drain
                } else {
                    State::Up
                }
            }
            same => same,
        }
    }

    /// Forgets the outcomes because the check changed. The state stays until the new check says otherwise.
    pub fn reconsider(&mut self) {
        *self = Health {
            last: None,
            failures: 0,
            answers: 0,
            healthy: 0,
            drains: 0,
            ..*self
        };
    }

    /// Whether the real may get flows: in every state but down.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state != State::Down
    }

    /// Whether the real wants no new flows.
    #[must_use]
    pub fn wants_drain(&self) -> bool {
        self.state == State::Drain
    }

    /// Whether the next probe should come soon: there was none yet, or the last outcome disagrees with the state.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        let Some(last) = &self.last else {
            return true;
        };
        !matches!(
            (self.state, last.verdict),
            (State::Up, Verdict::Healthy)
                | (State::Drain, Verdict::Drain)
                | (State::Down, Verdict::Unhealthy)
        )
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// When the state began.
    #[must_use]
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// The reason of the last outcome; empty before the first.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.last
            .as_ref()
            .map_or("", |outcome| outcome.reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::health::probe::tcp::Tcp;
    use lb_model::component::Component;

    /// `h`ealthy, `d`rain, `u`nhealthy.
    fn outcome(letter: char) -> Outcome {
        let verdict = match letter {
            'h' => Verdict::Healthy,
            'd' => Verdict::Drain,
            _ => Verdict::Unhealthy,
        };
        Outcome::new(verdict, &letter.to_string(), Duration::ZERO)
    }

    /// 2 answers up, 3 failures down.
    fn after(letters: &str) -> (Health, Vec<State>) {
        let check = Check::new(Component::new("tcp", &Tcp {}));
        let mut health = Health::new(Instant::now());
        let changes = letters
            .chars()
            .filter_map(|letter| health.observe(&check, outcome(letter), Instant::now()))
            .map(|change| change.to)
            .collect();
        (health, changes)
    }

    #[test]
    fn thresholds_decide() {
        use State::{Down, Drain, Unknown, Up};
        for (letters, state, changes, in_doubt) in [
            ("", Unknown, &[][..], true),
            ("h", Up, &[Up], false),
            ("u", Unknown, &[], true),
            ("uu", Unknown, &[], true),
            ("uuu", Down, &[Down], false),
            ("uuh", Up, &[Up], false),
            ("hu", Up, &[Up], true),
            ("huu", Up, &[Up], true),
            ("huuu", Down, &[Up, Down], false),
            ("huuhuuhuu", Up, &[Up], true),
            ("huuuh", Down, &[Up, Down], true),
            ("huuuhh", Up, &[Up, Down, Up], false),
            ("huuuhuh", Down, &[Up, Down], true),
            ("huuuhuhh", Up, &[Up, Down, Up], false),
            // To be drained.
            ("d", Unknown, &[], true),
            ("ddd", Drain, &[Drain], false),
            ("hdd", Up, &[Up], true),
            ("hddhdd", Up, &[Up], true),
            ("hddd", Drain, &[Up, Drain], false),
            ("hdddh", Drain, &[Up, Drain], true),
            ("hdddhh", Up, &[Up, Drain, Up], false),
            ("hddduuu", Down, &[Up, Drain, Down], false),
            ("uuudd", Drain, &[Down, Drain], false),
            ("uuudh", Up, &[Down, Up], false),
            ("hdudud", Up, &[Up], true),
        ] {
            let (health, found) = after(letters);
            assert_eq!(health.state(), state, "{letters}");
            assert_eq!(found, changes, "{letters}");
            assert_eq!(health.in_doubt(), in_doubt, "{letters}");
            assert_eq!(health.is_up(), state != Down, "{letters}");
            assert_eq!(health.wants_drain(), state == Drain, "{letters}");
        }
    }

    #[test]
    fn a_change_tells_why_and_after_how_long() {
        let check = Check::new(Component::new("tcp", &Tcp {}));
        let start = Instant::now();
        let mut health = Health::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        health.observe(&check, outcome('h'), at(1));
        for second in 2..4 {
            assert_eq!(health.observe(&check, outcome('u'), at(second)), None);
            assert_eq!(health.since(), at(1));
        }
        let change = health.observe(&check, outcome('u'), at(5)).unwrap();
        assert_eq!((change.from, change.to), (State::Up, State::Down));
        assert_eq!(change.reason, "u");
        assert_eq!(change.after, Duration::from_secs(4));
        assert_eq!(health.since(), at(5));
        assert_eq!(health.reason(), "u");
    }

    #[test]
    fn another_check_keeps_the_state_and_restarts_the_count() {
        let check = Check::new(Component::new("tcp", &Tcp {}));
        let (mut health, _) = after("huu");
        health.reconsider();
        assert_eq!(health.state(), State::Up);
        assert!(health.in_doubt());
        for _ in 0..2 {
            assert_eq!(health.observe(&check, outcome('u'), Instant::now()), None);
        }
        assert!(
            health
                .observe(&check, outcome('u'), Instant::now())
                .is_some()
        );
        let (mut down, _) = after("uuu");
        down.reconsider();
        assert!(!down.is_up() && down.in_doubt());
    }

    proptest! {
        /// Whatever came before: enough of the same decide, and nobody goes down on fewer failures.
        #[test]
        fn enough_of_the_same_decide(letters in "[hdu]{0,40}") {
            let (health, _) = after(&letters);
            for (last, state) in [("uuu", State::Down), ("hh", State::Up)] {
                let (health, _) = after(&format!("{letters}{last}"));
                prop_assert_eq!(health.state(), state);
                prop_assert!(!health.in_doubt());
            }
            let ends_in_failures = letters.ends_with("uuu");
            prop_assert!(health.is_up() || ends_in_failures || letters.contains("uuu"));
        }
    }
}
