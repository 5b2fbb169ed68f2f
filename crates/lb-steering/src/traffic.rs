//! What a real carries: new flows a second, connections, and what that was when a reading was taken.

use std::{collections::VecDeque, time::Duration};

use super::observed::{MOST, Observed, Sample};

/// Periods that are remembered, for readings that come late.
const REMEMBERED: usize = 16;

/// What was counted until a time.
#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Duration,
    /// New flows since the first time.
    flows: f64,
    /// Flows opened and not seen to close.
    open: f64,
    /// The real's part of the ring in that period, where it is known.
    share: Option<f64>,
}

/// What a real carries.
#[derive(Debug, Default)]
pub struct Traffic {
    opened: Option<u64>,
    past: VecDeque<Counted>,
    /// Connections by the count that is preferred, and when that was true.
    counts: VecDeque<(Duration, f64)>,
    /// That count is flows opened less closed.
    reckoned: bool,
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
        let new = self
            .opened
            .replace(observed.opened)
            // A smaller total began anew.
            .map_or(0, |before| {
                let more = observed.opened.checked_sub(before);
                more.unwrap_or(observed.opened)
            });
        let before = self.past.back().map_or(0.0, |counted| counted.flows);
        let open = observed.opened.saturating_sub(observed.closed) as f64;
        remember(
            &mut self.past,
            Counted {
                at: now,
                flows: before + new as f64,
                open,
                share: observed.share.filter(|share| *share > 0.0 && *share <= 1.0),
            },
        );
        let own = Sample::sane(observed.load.connections).filter(|sample| sample.age <= oldest);
        let exact = observed.flows.filter(|flows| (0.0..=MOST).contains(flows));
        let count = match (own, exact) {
            (Some(sample), _) => Some((now.saturating_sub(sample.age), sample.value)),
            (None, Some(flows)) => Some((now, flows)),
            (None, None) => (observed.opened > 0).then_some((now, open)),
        };
        self.reckoned = own.is_none() && exact.is_none();
        match count {
            None => self.counts.clear(),
            // A reading that is still the last one says nothing new.
            Some((at, _)) if self.counts.back().is_some_and(|(last, _)| at <= *last) => {}
            Some(count) => remember(&mut self.counts, count),
        }
    }

    /// New flows a second in the last period.
    pub fn rate(&self) -> Option<f64> {
        let last = self.past.len().checked_sub(1)?;
        self.rate_between(self.past.get(last.checked_sub(1)?)?.at, self.past[last].at)
    }

    /// New flows a second between two times that are remembered.
    fn rate_between(&self, from: Duration, to: Duration) -> Option<f64> {
        let time = to.checked_sub(from)?.as_secs_f64();
        (time > 0.0).then(|| (self.flows_until(to) - self.flows_until(from)) / time)
    }

    /// New flows until then; between two counts they came evenly.
    fn flows_until(&self, at: Duration) -> f64 {
        let next = self.past.partition_point(|counted| counted.at < at);
        let Some(after) = self.past.get(next).or(self.past.back()) else {
            return 0.0;
        };
        let before = next
            .checked_sub(1)
            .and_then(|before| self.past.get(before))
            .unwrap_or(after);
        let span = after.at.saturating_sub(before.at).as_secs_f64();
        if span > 0.0 {
            let part = at.saturating_sub(before.at).as_secs_f64() / span;
            before.flows + (after.flows - before.flows) * part.min(1.0)
        } else {
            after.flows
        }
    }

    /// New flows a second in the last period, and the part of the ring that brought them, where both are known.
    pub fn rate_of_share(&self) -> Option<(f64, f64)> {
        self.rate().zip(self.past.back()?.share)
    }

    /// The part of the ring that it had then, as far as that is remembered.
    pub fn share_then(&self, at: Duration) -> Option<f64> {
        self.past
            .iter()
            .min_by_key(|counted| counted.at.abs_diff(at))?
            .share
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

    /// Whether nobody counts connections but by what opens and closes. SYNs that nobody answers, and closes that pass
    /// the balancer by, stay in that for good.
    pub const fn reckoned(&self) -> bool {
        self.reckoned
    }

    /// New flows a second in so much time before then, as far as that is remembered: a reading is the mean of such
    /// a time, which seldom ends with a period.
    pub fn rate_then(&self, at: Duration, over: Duration) -> Option<f64> {
        let (first, last) = (self.past.front()?.at, self.past.back()?.at);
        let to = at.min(last);
        self.rate_between(to.saturating_sub(over).max(first), to)
    }

    /// Connections then, as far as that is remembered.
    pub fn connections_then(&self, at: Duration) -> Option<f64> {
        let count = self.counts.iter().min_by_key(|count| count.0.abs_diff(at));
        count.map(|count| count.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::pool::{real, seconds};

    /// Counts until each time.
    fn traffic(counts: &[(u64, u64)]) -> Traffic {
        let mut traffic = Traffic::default();
        let mut observed = real(0, 100);
        for (at, opened) in counts {
            observed.opened = *opened;
            traffic.observe(seconds(*at), seconds(15), &observed);
        }
        traffic
    }

    #[test]
    fn what_was_carried_is_of_the_time_before_a_reading() {
        let traffic = traffic(&[(100, 7), (105, 507), (110, 507), (115, 1_007)]);
        let rate = |at| traffic.rate_then(seconds(at), seconds(5));
        assert_eq!(traffic.rate(), Some(100.0));
        assert_eq!(rate(115), Some(100.0));
        // Two of its five seconds are of the period without flows.
        assert_eq!(rate(113), Some(60.0));
        assert_eq!(rate(110), Some(0.0));
        assert_eq!(rate(106), Some(80.0));
        // As far as it is remembered.
        assert_eq!(rate(102), Some(100.0));
        assert_eq!(rate(100), None);
        assert_eq!(rate(90), None);
        assert_eq!(rate(120), Some(100.0));
    }

    #[test]
    fn a_counter_that_begins_anew_goes_on() {
        let traffic = traffic(&[(100, 1_000), (105, 1_500), (110, 50)]);
        assert_eq!(traffic.rate(), Some(10.0));
        assert_eq!(traffic.rate_then(seconds(110), seconds(10)), Some(55.0));
        assert_eq!(Traffic::default().rate(), None);
    }
}
