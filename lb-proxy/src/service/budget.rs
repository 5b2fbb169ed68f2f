//! A budget of retries: so many percent of the requests, and a few always.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::clock;

/// Length of a period, in milliseconds.
const PERIOD: u64 = 10_000;
/// Retries that each period allows, however few requests there are.
const ALWAYS: u64 = 10;

/// Counts requests and retries of the present and the previous period.
#[derive(Debug, Default)]
pub struct Budget {
    /// Number of the present period.
    period: AtomicU64,
    requests: AtomicU64,
    previous_requests: AtomicU64,
    retries: AtomicU64,
}

impl Budget {
    /// Counts a request.
    pub fn request(&self) {
        self.turn(clock::now_millis());
        self.requests.fetch_add(1, Relaxed);
    }

    /// Takes a retry from the budget of `percent` of the requests. Returns whether there was one.
    pub fn take(&self, percent: u32) -> bool {
        self.take_at(clock::now_millis(), percent)
    }

    fn take_at(&self, now: u64, percent: u32) -> bool {
        self.turn(now);
        let requests = self
            .requests
            .load(Relaxed)
            .max(self.previous_requests.load(Relaxed));
        let allowed = (requests * u64::from(percent) / 100).max(ALWAYS);
        // Threads that ask at the same moment must not take more than there is.
        self.retries
            .fetch_update(Relaxed, Relaxed, |taken| {
                (taken < allowed).then_some(taken + 1)
            })
            .is_ok()
    }

    fn turn(&self, now: u64) {
        let period = now / PERIOD;
        let last = self.period.load(Relaxed);
        if period != last
            && self
                .period
                .compare_exchange(last, period, Relaxed, Relaxed)
                .is_ok()
        {
            let requests = self.requests.swap(0, Relaxed);
            let previous = if period == last + 1 { requests } else { 0 };
            self.previous_requests.store(previous, Relaxed);
            self.retries.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_requests_is_allowed_and_a_few_always() {
        let budget = Budget::default();
        let taken = |now, percent| (0..1_000).filter(|_| budget.take_at(now, percent)).count();
        assert_eq!(taken(1, 20), 10);
        budget.requests.store(200, Relaxed);
        assert_eq!(taken(1, 20), 30, "40 in this period, of which 10 are gone");
        // The next period starts with what the last one had.
        assert_eq!(taken(PERIOD, 20), 40);
        assert_eq!(taken(PERIOD * 3, 20), 10);
    }
}
