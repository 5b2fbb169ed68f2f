//! What a real carries: new flows a second, connections, and what these were when a reading was taken.

use std::{collections::VecDeque, time::Duration};

use super::observation::{MAX_READING, Observation, Sample};

/// Periods that are remembered, for readings that arrive late.
const REMEMBERED_PERIODS: usize = 16;

/// Counters at the end of a period.
#[derive(Clone, Copy, Debug)]
struct Counters {
    at: Duration,
    /// New flows since the first period.
    flows: f64,
    /// Flows opened less flows closed.
    open: f64,
    /// The real's share of the ring in that period, if known.
    share: Option<f64>,
}

/// Traffic of a real.
#[derive(Debug, Default)]
pub struct Traffic {
    opened: Option<u64>,
    periods: VecDeque<Counters>,
    /// Connections by the best count there is, and the time each describes.
    connections: VecDeque<(Duration, f64)>,
    /// Whether that count is only flows opened less flows closed, since the last reported count if there was one.
    inferred: bool,
    /// By how much the last reported count differed from flows opened less flows closed.
    excess: Option<f64>,
    /// How late reported counts are beyond the age they report.
    lag: Duration,
}

fn remember<T>(history: &mut VecDeque<T>, entry: T) {
    if history.len() == REMEMBERED_PERIODS {
        history.pop_front();
    }
    history.push_back(entry);
}

impl Traffic {
    /// Records a period. Counts older than `max_age` are not used.
    pub fn observe(&mut self, now: Duration, max_age: Duration, observation: &Observation) {
        let new_flows = self.opened.replace(observation.opened).map_or(0, |before| {
            let increase = observation.opened.checked_sub(before);
            // A smaller total has started over.
            increase.unwrap_or(observation.opened)
        });
        let before = self.periods.back().map_or(0.0, |counters| counters.flows);
        let open = observation.opened.saturating_sub(observation.closed) as f64;
        remember(
            &mut self.periods,
            Counters {
                at: now,
                flows: before + new_flows as f64,
                open,
                share: observation
                    .share
                    .filter(|share| *share > 0.0 && *share <= 1.0),
            },
        );
        let reported =
            Sample::plausible(observation.load.connections).filter(|sample| sample.age <= max_age);
        let exact = observation
            .flows
            .filter(|flows| (0.0..=MAX_READING).contains(flows));
        if !observation.up {
            self.excess = None;
        }
        let count = match (reported, exact) {
            (Some(sample), _) => {
                let at = now.saturating_sub(sample.age);
                let then = self.open_at(at.saturating_sub(self.lag));
                self.excess = then.map(|open| sample.value - open);
                // What was inferred while nothing was reported is worse.
                while self.inferred && self.connections.back().is_some_and(|(last, _)| at <= *last)
                {
                    self.connections.pop_back();
                }
                Some((at, sample.value))
            }
            (None, Some(flows)) => Some((now, flows)),
            // SYNs that nobody answered are among those that were opened.
            (None, None) => (observation.opened > 0)
                .then(|| (now, (open + self.excess.unwrap_or(0.0)).max(0.0))),
        };
        self.inferred = reported.is_none() && exact.is_none();
        match count {
            None => self.connections.clear(),
            // The last reading again adds nothing.
            Some((at, _)) if self.connections.back().is_some_and(|(last, _)| at <= *last) => {}
            Some(count) => remember(&mut self.connections, count),
        }
    }

    /// Flows that were opened and closed in the last period.
    pub fn last_flows(&self) -> Option<(f64, f64)> {
        let last = self.periods.len().checked_sub(1)?;
        let (before, now) = (self.periods.get(last.checked_sub(1)?)?, self.periods[last]);
        let opened = now.flows - before.flows;
        Some((opened, (opened - (now.open - before.open)).max(0.0)))
    }

    /// Flows closed a second in the time `over` before `at`, as far as it is remembered.
    pub fn closed_at(&self, at: Duration, over: Duration) -> Option<f64> {
        let (first, last) = (self.periods.front()?.at, self.periods.back()?.at);
        let to = at.min(last);
        let from = to.saturating_sub(over).max(first);
        let time = to.checked_sub(from)?.as_secs_f64();
        let rate = self.rate_between(from, to)?;
        Some((rate - self.open_change(from, to)? / time).max(0.0))
    }

    /// New flows a second in the last period.
    pub fn rate(&self) -> Option<f64> {
        let last = self.periods.len().checked_sub(1)?;
        self.rate_between(
            self.periods.get(last.checked_sub(1)?)?.at,
            self.periods[last].at,
        )
    }

    /// New flows a second between two remembered times.
    fn rate_between(&self, from: Duration, to: Duration) -> Option<f64> {
        let time = to.checked_sub(from)?.as_secs_f64();
        (time > 0.0).then(|| (self.flows_until(to) - self.flows_until(from)) / time)
    }

    /// New flows until a time, interpolated between the ends of periods.
    fn flows_until(&self, at: Duration) -> f64 {
        let next = self.periods.partition_point(|counters| counters.at < at);
        let Some(after) = self.periods.get(next).or(self.periods.back()) else {
            return 0.0;
        };
        let before = next
            .checked_sub(1)
            .and_then(|before| self.periods.get(before))
            .unwrap_or(after);
        let span = after.at.saturating_sub(before.at).as_secs_f64();
        if span > 0.0 {
            let fraction = at.saturating_sub(before.at).as_secs_f64() / span;
            before.flows + (after.flows - before.flows) * fraction.min(1.0)
        } else {
            after.flows
        }
    }

    /// New flows a second in the last period and the share of the ring that brought them, if both are known.
    pub fn rate_and_share(&self) -> Option<(f64, f64)> {
        self.rate().zip(self.periods.back()?.share)
    }

    /// The share of the ring at a time, as far as it is remembered.
    pub fn share_at(&self, at: Duration) -> Option<f64> {
        self.periods
            .iter()
            .min_by_key(|counters| counters.at.abs_diff(at))?
            .share
    }

    /// Connections now: the last count, and what was opened and closed since. `None` if there is no count.
    pub fn connections(&self) -> Option<f64> {
        let (at, count) = self.connections.back()?;
        let then = self.open_at(at.saturating_sub(self.lag))?;
        Some((count + self.periods.back()?.open - then).max(0.0))
    }

    /// Sets how late reported counts of connections are beyond the age they report.
    pub const fn set_lag(&mut self, lag: Duration) {
        self.lag = lag;
    }

    /// Flows opened less flows closed, at the end of the remembered period that is next to a time.
    fn open_at(&self, at: Duration) -> Option<f64> {
        let next = self
            .periods
            .iter()
            .min_by_key(|counters| counters.at.abs_diff(at))?;
        Some(next.open)
    }

    /// How the last two reported counts differ, and when they were taken.
    pub fn reported_change(&self) -> Option<(Duration, Duration, f64)> {
        let last = self.connections.len().checked_sub(1)?;
        let (then, first) = self.connections.get(last.checked_sub(1)?)?;
        let (at, second) = self.connections[last];
        (!self.inferred).then_some((*then, at, second - first))
    }

    /// By how much flows opened less flows closed grew between two times, if both are remembered.
    pub fn open_change(&self, from: Duration, to: Duration) -> Option<f64> {
        (self.periods.front()?.at <= from)
            .then(|| Some(self.open_at(to)? - self.open_at(from)?))
            .flatten()
    }

    /// Whether connections are only inferred from flows opened and closed. Unanswered SYNs, and closes that bypass
    /// the balancer, stay in that number for good.
    pub const fn is_inferred(&self) -> bool {
        self.inferred
    }

    /// New flows a second in the time `over` before `at`, as far as it is remembered: a reading is the mean of such
    /// a time, which seldom ends with a period.
    pub fn rate_at(&self, at: Duration, over: Duration) -> Option<f64> {
        let (first, last) = (self.periods.front()?.at, self.periods.back()?.at);
        let to = at.min(last);
        self.rate_between(to.saturating_sub(over).max(first), to)
    }

    /// Connections at a time, as far as they are remembered.
    pub fn connections_at(&self, at: Duration) -> Option<f64> {
        self.connections
            .iter()
            .min_by_key(|count| count.0.abs_diff(at))
            .map(|count| count.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::pool::{real, seconds};

    /// Traffic from the total of opened flows at each time.
    fn traffic(counts: &[(u64, u64)]) -> Traffic {
        let mut traffic = Traffic::default();
        let mut observation = real(0, 100);
        for (at, opened) in counts {
            observation.opened = *opened;
            traffic.observe(seconds(*at), seconds(15), &observation);
        }
        traffic
    }

    #[test]
    fn a_rate_covers_the_time_before_the_reading() {
        let traffic = traffic(&[(100, 7), (105, 507), (110, 507), (115, 1_007)]);
        let rate = |at| traffic.rate_at(seconds(at), seconds(5));
        assert_eq!(traffic.rate(), Some(100.0));
        assert_eq!(rate(115), Some(100.0));
        // Two of its five seconds are in the period without flows.
        assert_eq!(rate(113), Some(60.0));
        assert_eq!(rate(110), Some(0.0));
        assert_eq!(rate(106), Some(80.0));
        // Only the remembered time counts.
        assert_eq!(rate(102), Some(100.0));
        assert_eq!(rate(100), None);
        assert_eq!(rate(90), None);
        assert_eq!(rate(120), Some(100.0));
    }

    #[test]
    fn a_count_that_was_reported_is_continued_and_corrected() {
        let mut traffic = Traffic::default();
        let mut observation = real(0, 100);
        let mut observe = |at, opened, connections: Option<(f64, u64)>| {
            observation.opened = opened;
            observation.load.connections = connections.map(|(value, age)| Sample {
                value,
                age: seconds(age),
            });
            traffic.observe(seconds(at), seconds(15), &observation);
            (traffic.connections(), traffic.connections_at(seconds(at)))
        };
        // 400 SYNs were never answered.
        assert_eq!(observe(100, 1_000, Some((600.0, 0))).0, Some(600.0));
        assert_eq!(observe(105, 1_010, None).0, Some(610.0));
        assert_eq!(observe(110, 1_020, None), (Some(620.0), Some(620.0)));
        // A report of that time counts more.
        assert_eq!(observe(115, 1_020, Some((615.0, 5))).0, Some(615.0));
        assert_eq!(traffic.connections_at(seconds(110)), Some(615.0));
        assert!(!traffic.is_inferred());
    }

    #[test]
    fn a_counter_that_starts_over_is_continued() {
        let traffic = traffic(&[(100, 1_000), (105, 1_500), (110, 50)]);
        assert_eq!(traffic.rate(), Some(10.0));
        assert_eq!(traffic.rate_at(seconds(110), seconds(10)), Some(55.0));
        assert_eq!(Traffic::default().rate(), None);
    }
}
