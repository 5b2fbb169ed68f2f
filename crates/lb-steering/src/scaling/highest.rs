//! The highest value of a window of time.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

/// Values that differ by less than this part are one, with the time of the later and the value of the higher one.
const SAME: f64 = 0.005;

/// What a policy has required, and since when that is known without a gap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Highest {
    since: Option<Duration>,
    last: Duration,
    /// Times and values; each value is above all that follow.
    peaks: VecDeque<(Duration, f64)>,
}

impl Highest {
    /// Records a value. After a gap of more than `gap` the window begins anew. Values of `window` are kept.
    pub fn record(&mut self, now: Duration, value: f64, window: Duration, gap: Duration) {
        if now.saturating_sub(self.last) > gap {
            self.since = None;
        }
        self.since.get_or_insert(now);
        self.last = now;
        while self.peaks.back().is_some_and(|(_, last)| *last <= value) {
            self.peaks.pop_back();
        }
        match self.peaks.back_mut() {
            Some((at, last)) if value >= *last * (1.0 - SAME) => *at = now,
            _ => self.peaks.push_back((now, value)),
        }
        let oldest = now.saturating_sub(window);
        while self.peaks.front().is_some_and(|(at, _)| *at < oldest) {
            self.peaks.pop_front();
        }
    }

    /// The highest value that is known of the window.
    pub fn value(&self, now: Duration, window: Duration) -> Option<f64> {
        let oldest = now.saturating_sub(window);
        let known = self.peaks.iter().find(|(at, _)| *at >= oldest);
        known.map(|(_, value)| *value)
    }

    /// How much longer it takes until the whole window is known.
    pub fn missing(&self, now: Duration, window: Duration) -> Duration {
        let known = self
            .since
            .map_or(Duration::ZERO, |since| now.saturating_sub(since));
        window.saturating_sub(known)
    }

    /// Begins anew.
    pub fn forget(&mut self) {
        *self = Highest::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const WINDOW: Duration = seconds(10);
    const GAP: Duration = seconds(3);

    #[test]
    fn it_is_the_highest_of_the_window() {
        let mut highest = Highest::default();
        let values = [
            5.0, 9.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0,
        ];
        for (second, value) in (100..).zip(values) {
            highest.record(seconds(second), value, WINDOW, GAP);
            let from = (second as usize - 100).saturating_sub(10);
            let expected = values[from..=second as usize - 100]
                .iter()
                .copied()
                .fold(0.0, f64::max);
            assert_eq!(highest.value(seconds(second), WINDOW), Some(expected));
        }
        assert!(highest.missing(seconds(112), WINDOW).is_zero());
        assert!(highest.peaks.len() <= 3);
    }

    #[test]
    fn a_gap_begins_the_window_anew() {
        let mut highest = Highest::default();
        highest.record(seconds(100), 1.0, WINDOW, GAP);
        highest.record(seconds(103), 1.0, WINDOW, GAP);
        assert_eq!(highest.missing(seconds(103), WINDOW), seconds(7));
        highest.record(seconds(107), 1.0, WINDOW, GAP);
        assert_eq!(highest.missing(seconds(107), WINDOW), seconds(10));
        assert_eq!(Highest::default().missing(seconds(1), WINDOW), WINDOW);
    }
}
