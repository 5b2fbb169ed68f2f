//! Proofs that failed: all are counted, and a few stand in the log.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use lb_serve::Peer;

/// Lines of the log in a [`PERIOD`] at most: who tries passwords must not fill the disk.
const LINES: u32 = 5;
const PERIOD: Duration = Duration::from_secs(60);

/// Why a proof failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The field cannot be read, or has a scheme or an algorithm that is not taken.
    Malformed,
    /// The token is unknown, has ended, or was removed.
    Token,
    /// The user is unknown, or the password is wrong.
    Password,
    /// The proof was right, and was used before.
    Replay,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 4] = [
        Reason::Malformed,
        Reason::Token,
        Reason::Password,
        Reason::Replay,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Token => "token",
            Reason::Password => "password",
            Reason::Replay => "replay",
        }
    }
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<Reason, u64>,
    /// When the period began, lines in it, and what was left out of the log.
    began: Option<Duration>,
    lines: u32,
    left_out: u64,
}

/// The counts.
#[derive(Debug, Default)]
pub struct Failures(Mutex<State>);

/// What the log is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Nothing.
    Nothing,
    /// This failure, and that so many were left out before.
    Failure(u64),
}

impl Failures {
    /// Counts one, and decides whether it stands in the log. `now` counts from a start of the caller's choice.
    pub fn count(&self, reason: Reason, now: Duration) -> Line {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state.counts.entry(reason).or_default() += 1;
        let is_over = |began: Duration| now.saturating_sub(began) >= PERIOD;
        if state.began.is_none_or(is_over) {
            state.began = Some(now);
            state.lines = 0;
        }
        if state.lines >= LINES {
            state.left_out += 1;
            return Line::Nothing;
        }
        state.lines += 1;
        Line::Failure(std::mem::take(&mut state.left_out))
    }

    /// Counts one, and says so.
    pub fn note(&self, reason: Reason, peer: &Peer, what: &str, now: Duration) {
        match self.count(reason, now) {
            Line::Nothing => {}
            Line::Failure(0) => tracing::warn!("{peer} did not prove who it is: {what}"),
            Line::Failure(others) => {
                tracing::warn!(
                    "{peer} did not prove who it is: {what}; {others} others since were not logged"
                );
            }
        }
    }

    /// How many there were of each reason.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |reason: Reason| state.counts.get(&reason).copied().unwrap_or_default();
        Reason::ALL.map(|one| (one.name(), count(one))).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_few_are_logged() {
        let failures = Failures::default();
        let logged = |from: u64| {
            (0..1_000)
                .map(|at| failures.count(Reason::Password, Duration::from_millis(from + at)))
                .filter(|line| *line != Line::Nothing)
                .count()
        };
        assert_eq!(logged(0), 5);
        assert_eq!(logged(1_000), 0);
        let later = failures.count(Reason::Token, PERIOD);
        assert_eq!(later, Line::Failure(1_995));
        assert_eq!(
            failures.counts(),
            [
                ("malformed", 0),
                ("token", 1),
                ("password", 2_000),
                ("replay", 0)
            ]
        );
    }
}
