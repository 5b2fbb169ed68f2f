//! Flows that are to be ended until the next period, in parts: a rate is so many a second, and not all of a
//! period's at its beginning.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// From one part to the next.
const PACE: Duration = Duration::from_secs(1);

/// What the data plane is to be told of shedding, and when.
#[derive(Debug, Default)]
pub(super) struct Pace {
    orders: BTreeMap<IpAddr, Order>,
    due: Option<Instant>,
}

/// Of one real.
#[derive(Debug)]
struct Order {
    flows: u32,
    parts: u32,
    /// Parts that were given.
    given: u32,
}

impl Pace {
    /// So many flows of a real are to be ended within a period from now on. None: what is left of an earlier
    /// order is taken back.
    pub(super) fn order(&mut self, real: IpAddr, flows: u32, period: Duration, now: Instant) {
        if flows == 0 && !self.orders.contains_key(&real) {
            return;
        }
        let parts = if flows == 0 {
            1
        } else {
            period.as_millis().div_ceil(PACE.as_millis()).max(1)
        };
        let order = Order {
            flows,
            parts: u32::try_from(parts).unwrap_or(u32::MAX),
            given: 0,
        };
        self.orders.insert(real, order);
        self.due = Some(now);
    }

    /// When [`take`](Self::take) is to be called next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What the data plane is to be told now: the flows that a real may lose until it is told something else.
    pub(super) fn take(&mut self, now: Instant) -> Vec<(IpAddr, u32)> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut told = Vec::new();
        for (real, order) in &mut self.orders {
            if order.given >= order.parts {
                continue;
            }
            let until =
                |part: u32| u64::from(order.flows) * u64::from(part) / u64::from(order.parts);
            // It grows by less than `flows`.
            let part = (until(order.given + 1) - until(order.given)) as u32;
            order.given += 1;
            // Else what was told last stands.
            if part > 0 || order.flows == 0 {
                told.push((*real, part));
            }
        }
        self.orders.retain(|_, order| order.flows > 0);
        let goes_on = self.orders.values().any(|order| order.given < order.parts);
        self.due = goes_on.then(|| now + PACE);
        told
    }

    /// Forgets all reals but these.
    pub(super) fn keep(&mut self, keep: impl Fn(&IpAddr) -> bool) {
        self.orders.retain(|real, _| keep(real));
    }

    /// Reals that may have flows left to lose.
    pub(super) fn reals(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.orders.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn real(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    /// What is told each second for so many of them.
    fn told(pace: &mut Pace, begin: Instant, seconds: u64) -> Vec<Vec<(IpAddr, u32)>> {
        (0..seconds)
            .map(|second| pace.take(begin + Duration::from_secs(second)))
            .collect()
    }

    #[test]
    fn a_periods_flows_are_spread_over_it() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.order(real(1), 12, Duration::from_secs(5), now);
        let told = told(&mut pace, now, 7);
        let flows: Vec<u32> = told.iter().flatten().map(|(_, flows)| *flows).collect();
        assert_eq!(flows, [2, 2, 3, 2, 3]);
        assert!(told[5].is_empty() && pace.due().is_none());
    }

    #[test]
    fn few_are_told_as_they_come_due() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.order(real(1), 1, Duration::from_secs(3), now);
        let told = told(&mut pace, now, 3);
        assert_eq!(told, [vec![], vec![], vec![(real(1), 1)]]);
    }

    #[test]
    fn a_short_period_has_one_part() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.order(real(1), 7, Duration::from_millis(500), now);
        assert_eq!(pace.take(now), [(real(1), 7)]);
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn what_is_left_is_taken_back_once() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.order(real(1), 0, PACE, now);
        assert_eq!(pace.due(), None, "there was none");
        pace.order(real(1), 7, PACE, now);
        pace.order(real(2), 5, PACE, now);
        pace.take(now);
        let next = now + PACE;
        pace.order(real(1), 0, PACE, next);
        assert_eq!(pace.reals().collect::<Vec<_>>(), [real(1), real(2)]);
        assert_eq!(pace.take(next), [(real(1), 0)]);
        assert_eq!(pace.reals().collect::<Vec<_>>(), [real(2)]);
        pace.order(real(1), 0, PACE, next);
        assert_eq!(pace.take(next), []);
    }

    #[test]
    fn a_new_order_takes_the_place_of_the_old_one() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.order(real(1), 50, Duration::from_secs(5), now);
        assert_eq!(pace.take(now), [(real(1), 10)]);
        let next = now + PACE;
        pace.order(real(1), 5, Duration::from_secs(5), next);
        let flows: u32 = told(&mut pace, next, 9)
            .iter()
            .flatten()
            .map(|(_, flows)| *flows)
            .sum();
        assert_eq!(flows, 5);
    }
}
