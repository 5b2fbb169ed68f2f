//! Spreads the flows that a real is to lose in a period over its seconds: a rate is per second, so that not all of a
//! period's flows go at its beginning.

use lb_model::vip::RealId;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Time between two parts.
const PACE: Duration = Duration::from_secs(1);

/// The quotas of a VIP's reals, and when the next parts are due.
#[derive(Debug, Default)]
pub(super) struct ShedPace {
    quotas: BTreeMap<RealId, ShedQuota>,
    due: Option<Instant>,
}

/// The flows that one real is to lose in this period.
#[derive(Debug)]
struct ShedQuota {
    flows: u32,
    parts: u32,
    /// Parts that were taken.
    parts_taken: u32,
}

impl ShedPace {
    /// Sets how many flows a real is to lose within a period from now on; 0 cancels what is left of an earlier quota.
    pub(super) fn set_quota(&mut self, real: RealId, flows: u32, period: Duration, now: Instant) {
        if flows == 0 && !self.quotas.contains_key(&real) {
            return;
        }
        let parts = if flows == 0 {
            1
        } else {
            period.as_millis().div_ceil(PACE.as_millis()).max(1)
        };
        let quota = ShedQuota {
            flows,
            parts: u32::try_from(parts).unwrap_or(u32::MAX),
            parts_taken: 0,
        };
        self.quotas.insert(real, quota);
        self.due = Some(now);
    }

    /// When [`take`](Self::take) is to be called next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The parts that are due: for each real, the flows that it may lose until the next part.
    pub(super) fn take(&mut self, now: Instant) -> Vec<(RealId, u32)> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (real, quota) in &mut self.quotas {
            if quota.parts_taken >= quota.parts {
                continue;
            }
            let until =
                |part: u32| u64::from(quota.flows) * u64::from(part) / u64::from(quota.parts);
            // It grows by less than `flows`.
            let part = (until(quota.parts_taken + 1) - until(quota.parts_taken)) as u32;
            quota.parts_taken += 1;
            // Otherwise the last part still applies.
            if part > 0 || quota.flows == 0 {
                due.push((*real, part));
            }
        }
        self.quotas.retain(|_, quota| quota.flows > 0);
        let goes_on = self
            .quotas
            .values()
            .any(|quota| quota.parts_taken < quota.parts);
        self.due = goes_on.then(|| now + PACE);
        due
    }

    /// Forgets all reals but these.
    pub(super) fn keep(&mut self, keep: impl Fn(&RealId) -> bool) {
        self.quotas.retain(|real, _| keep(real));
    }

    /// Reals that may have flows left to lose.
    pub(super) fn reals(&self) -> impl Iterator<Item = RealId> + '_ {
        self.quotas.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn real(number: u8) -> RealId {
        std::net::IpAddr::from([10, 0, 0, number]).into()
    }

    /// The orders of each second, for so many of them.
    fn orders(pace: &mut ShedPace, begin: Instant, seconds: u64) -> Vec<Vec<(RealId, u32)>> {
        (0..seconds)
            .map(|second| pace.take(begin + Duration::from_secs(second)))
            .collect()
    }

    #[test]
    fn a_periods_flows_are_spread_over_it() {
        let (mut pace, now) = (ShedPace::default(), Instant::now());
        pace.set_quota(real(1), 12, Duration::from_secs(5), now);
        let orders = orders(&mut pace, now, 7);
        let flows: Vec<u32> = orders.iter().flatten().map(|(_, flows)| *flows).collect();
        assert_eq!(flows, [2, 2, 3, 2, 3]);
        assert!(orders[5].is_empty() && pace.due().is_none());
    }

    #[test]
    fn few_are_told_as_they_come_due() {
        let (mut pace, now) = (ShedPace::default(), Instant::now());
        pace.set_quota(real(1), 1, Duration::from_secs(3), now);
        let orders = orders(&mut pace, now, 3);
        assert_eq!(orders, [vec![], vec![], vec![(real(1), 1)]]);
    }

    #[test]
    fn a_short_period_has_one_part() {
        let (mut pace, now) = (ShedPace::default(), Instant::now());
        pace.set_quota(real(1), 7, Duration::from_millis(500), now);
        assert_eq!(pace.take(now), [(real(1), 7)]);
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn what_is_left_is_taken_back_once() {
        let (mut pace, now) = (ShedPace::default(), Instant::now());
        pace.set_quota(real(1), 0, PACE, now);
        assert_eq!(pace.due(), None, "there was none");
        pace.set_quota(real(1), 7, PACE, now);
        pace.set_quota(real(2), 5, PACE, now);
        pace.take(now);
        let next = now + PACE;
        pace.set_quota(real(1), 0, PACE, next);
        assert_eq!(pace.reals().collect::<Vec<_>>(), [real(1), real(2)]);
        assert_eq!(pace.take(next), [(real(1), 0)]);
        assert_eq!(pace.reals().collect::<Vec<_>>(), [real(2)]);
        pace.set_quota(real(1), 0, PACE, next);
        assert_eq!(pace.take(next), []);
    }

    #[test]
    fn a_new_order_takes_the_place_of_the_old_one() {
        let (mut pace, now) = (ShedPace::default(), Instant::now());
        pace.set_quota(real(1), 50, Duration::from_secs(5), now);
        assert_eq!(pace.take(now), [(real(1), 10)]);
        let next = now + PACE;
        pace.set_quota(real(1), 5, Duration::from_secs(5), next);
        let flows: u32 = orders(&mut pace, next, 9)
            .iter()
            .flatten()
            .map(|(_, flows)| *flows)
            .sum();
        assert_eq!(flows, 5);
    }
}
