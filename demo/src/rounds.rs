//! Schedules that repeat.

use std::time::Duration;

/// A round: everything happens once, and there is time to see its consequences.
pub const ROUND: Duration = Duration::from_secs(60);

/// The steps of a run, in the order of their times.
#[derive(Clone, Debug)]
pub struct Rounds<S> {
    round: Duration,
    rounds: Option<u32>,
    /// When each is due, as a fraction of a round.
    steps: Vec<(f64, S)>,
    done: usize,
}

impl<S: Copy> Rounds<S> {
    /// Creates the schedule for a run of this length, or for an endless one. A run shorter than `shortest` has no steps, a
    /// longer one has as many rounds of at least a minute as fit, but at least one.
    pub fn new(time: Option<Duration>, shortest: Duration, steps: Vec<(f64, S)>) -> Self {
        let rounds = time.map(|time| {
            let whole = u32::try_from(time.as_secs() / ROUND.as_secs()).unwrap_or(u32::MAX);
            if time < shortest { 0 } else { whole.max(1) }
        });
        let round = match (time, rounds) {
            (Some(time), Some(rounds)) if rounds > 0 => time / rounds,
            _ => ROUND,
        };
        Self {
            round,
            rounds,
            steps,
            done: 0,
        }
    }

    /// Returns whether the schedule has no steps.
    pub fn is_empty(&self) -> bool {
        self.rounds == Some(0)
    }

    /// Returns the next step and when it is due, if that is at `now` or before, and counts it as done. Times are since the
    /// clients started.
    pub fn due(&mut self, now: Duration) -> Option<(Duration, S)> {
        let (round, index) = (self.done / self.steps.len(), self.done % self.steps.len());
        let round = u32::try_from(round).ok()?;
        if self.rounds.is_some_and(|rounds| round >= rounds) {
            return None;
        }
        let (fraction, step) = self.steps[index];
        let at = self.round * round + self.round.mul_f64(fraction);
        (at <= now).then(|| {
            self.done += 1;
            (at, step)
        })
    }
}
