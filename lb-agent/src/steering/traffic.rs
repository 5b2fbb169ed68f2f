//! What a real carries: new flows a second, connections, and what that was when a reading was taken.

use std::{collections::VecDeque, time::Duration};

use super::observed::{MOST, Observed, Sample};

/// Periods that are remembered, for readings that come late.
const REMEMBERED: usize = 16;

/// What was counted until a time.
#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Duration,
    /// New flows a second in the period before; none: it is the first.
    rate: Option<f64>,
    /// Flows opened and not seen to close.
    open: f64,
}

/// What a real carries.
#[derive(Debug, Default)]
pub struct Traffic {
    opened: Option<(u64, Duration)>,
    past: VecDeque<Counted>,
    /// Connections by the count that is preferred, and when that was true.
    counts: VecDeque<(Duration, f64)>,
}

fn remember<T>(past: &mut VecDeque<T>, one: T) {
    if past.len() == REMEMBERED {
        past.pop_front();
    }
    past.push_back(one);
}

impl Traffic {
    /// Notes a period.
    pub fn observe(&mut self, now: Duration, oldest: Duration, observed: &Observed) {
        let before = self.opened.replace((observed.opened, now));
        let rate = before.and_then(|(opened, at)| {
            let time = now.saturating_sub(at).as_secs_f64();
            // A smaller total began anew.
            let new = observed
                .opened
                .checked_sub(opened)
                .unwrap_or(observed.opened);
            (time > 0.0).then(|| new as f64 / time)
        });
        let open = observed.opened.saturating_sub(observed.closed) as f64;
        remember(
            &mut self.past,
            Counted {
                at: now,
                rate,
                open,
            },
        );
        let own = Sample::sane(observed.load.connections).filter(|sample| sample.age <= oldest);
        let exact = observed.flows.filter(|flows| (0.0..=MOST).contains(flows));
        let count = match (own, exact) {
            (Some(sample), _) => Some((now.saturating_sub(sample.age), sample.value)),
            (None, Some(flows)) => Some((now, flows)),
            (None, None) => (observed.opened > 0).then_some((now, open)),
        };
        match count {
            None => self.counts.clear(),
            // A reading that is still the last one says nothing new.
            Some((at, _)) if self.counts.back().is_some_and(|(last, _)| at <= *last) => {}
            Some(count) => remember(&mut self.counts, count),
        }
    }

    /// New flows a second in the last period.
    pub fn rate(&self) -> Option<f64> {
        self.past.back().and_then(|counted| counted.rate)
    }

    /// Connections now: the last count, and what was opened and closed since. None: nobody counts.
    pub fn connections(&self) -> Option<f64> {
        let (at, count) = self.counts.back()?;
        let then = self
            .past
            .iter()
            .min_by_key(|counted| counted.at.abs_diff(*at))?;
        Some((count + self.past.back()?.open - then.open).max(0.0))
    }

    /// New flows a second then, as far as that is remembered.
    pub fn rate_then(&self, at: Duration) -> Option<f64> {
        self.past
            .iter()
            .min_by_key(|counted| counted.at.abs_diff(at))?
            .rate
    }

    /// Connections then, as far as that is remembered.
    pub fn connections_then(&self, at: Duration) -> Option<f64> {
        let count = self.counts.iter().min_by_key(|count| count.0.abs_diff(at));
        count.map(|count| count.1)
    }
}
