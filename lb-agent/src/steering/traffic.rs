//! What a real carries: new flows a second, connections, and what that was when a reading was taken.

use std::{collections::VecDeque, time::Duration};

use super::observed::{MOST, Observed, Sample};

/// Periods that are remembered, for readings that come late.
const REMEMBERED: usize = 16;

/// What a real carried at a time.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    at: Duration,
    /// New flows a second in the period before.
    pub rate: f64,
    /// Connections; none: nobody counts them.
    pub connections: Option<f64>,
}

/// What a real carries.
#[derive(Debug, Default)]
pub struct Traffic {
    totals: Option<(u64, Duration)>,
    past: VecDeque<Carried>,
}

impl Traffic {
    /// Notes a period.
    pub fn observe(&mut self, now: Duration, oldest: Duration, observed: &Observed) {
        let before = self.totals.replace((observed.opened, now));
        let rate = before.map_or(0.0, |(opened, at)| {
            let time = now.saturating_sub(at).as_secs_f64();
            // A smaller total began anew.
            let new = observed
                .opened
                .checked_sub(opened)
                .unwrap_or(observed.opened);
            if time > 0.0 { new as f64 / time } else { 0.0 }
        });
        let exact = observed.flows.filter(|flows| (0.0..=MOST).contains(flows));
        let counted =
            (observed.opened > 0).then(|| observed.opened.saturating_sub(observed.closed) as f64);
        let connections = Sample::fresh(observed.load.connections, oldest)
            .or(exact)
            .or(counted);
        if self.past.len() == REMEMBERED {
            self.past.pop_front();
        }
        self.past.push_back(Carried {
            at: now,
            rate,
            connections,
        });
    }

    /// Now: the last period that was noted.
    pub fn now(&self) -> Option<Carried> {
        self.past.back().copied()
    }

    /// What it carried then, as far as that is remembered. The first period has no rate.
    pub fn then(&self, at: Duration) -> Option<Carried> {
        self.past
            .iter()
            .skip(usize::from(self.past.len() < REMEMBERED))
            .min_by_key(|carried| carried.at.abs_diff(at))
            .copied()
    }
}
