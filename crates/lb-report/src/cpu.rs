//! How much of its CPU something used between two looks at its counters.

use std::time::Duration;

/// More throttled periods than this mean that it wanted more than it got, whatever the mean says. Nearly all: where
/// requests come by chance and a quota's period has room for a few of them, some periods are short at any load. At a
/// load of 0.65 that was 4 to 10 % of the periods, and more than a tenth in many a single second; a reading that jumps
/// from 0.65 to 0.9 by that makes the balancer believe that the server can carry a third less.
pub const THROTTLED: f64 = 0.9;
/// What the CPU is at least while it is throttled.
pub const THROTTLED_CPU: f64 = 0.9;

/// Periods of a quota, since the group was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// In which there was something to do.
    pub all: u64,
    /// In which it was stopped for the rest of the period.
    pub throttled: u64,
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// CPU time used.
    pub usage: Duration,
    /// Periods of its quota, if it has one.
    pub periods: Option<Periods>,
}

/// What was used between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Use {
    /// Of its limit, 0 to 1; at least [`THROTTLED_CPU`] when more than [`THROTTLED`] was throttled.
    pub fraction: f64,
    /// Throttled periods of all, 0 to 1.
    pub throttled: Option<f64>,
}

/// What was used of `cores` from `before` to `now`, `wall` later. `None` when no time passed, nothing is
/// allowed, or a counter went back: the group was made anew.
#[must_use]
pub fn between(before: &Count, now: &Count, wall: Duration, cores: f64) -> Option<Use> {
    if wall.is_zero() || !cores.is_finite() || cores <= 0.0 {
        return None;
    }
    let used = now.usage.checked_sub(before.usage)?;
    let throttled = match (before.periods, now.periods) {
        (Some(before), Some(now)) => Some(throttled(before, now)?),
        _ => None,
    };
    // The kernel lets a quota be exceeded by a slice, and the two clocks are not read at once.
    let mut fraction = (used.as_secs_f64() / wall.as_secs_f64() / cores).min(1.0);
    if throttled.is_some_and(|throttled| throttled > THROTTLED) {
        fraction = fraction.max(THROTTLED_CPU);
    }
    Some(Use {
        fraction,
        throttled,
    })
}

fn throttled(before: Periods, now: Periods) -> Option<f64> {
    let all = now.all.checked_sub(before.all)?;
    let throttled = now.throttled.checked_sub(before.throttled)?;
    if all == 0 {
        return Some(0.0);
    }
    Some((throttled as f64 / all as f64).min(1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(milliseconds: u64, periods: Option<(u64, u64)>) -> Count {
        Count {
            usage: Duration::from_millis(milliseconds),
            periods: periods.map(|(all, throttled)| Periods { all, throttled }),
        }
    }

    #[test]
    fn use_is_of_the_limit() {
        let second = Duration::from_secs(1);
        let used = |before, now, cores| between(&before, &now, second, cores);
        let plain = |fraction| {
            Some(Use {
                fraction,
                throttled: None,
            })
        };
        assert_eq!(used(count(0, None), count(500, None), 1.0), plain(0.5));
        assert_eq!(used(count(0, None), count(500, None), 0.5), plain(1.0));
        assert_eq!(used(count(0, None), count(500, None), 2.0), plain(0.25));
        // A little over its quota.
        assert_eq!(used(count(0, None), count(504, None), 0.5), plain(1.0));
        // Made anew.
        assert_eq!(used(count(500, None), count(10, None), 1.0), None);
        assert_eq!(used(count(0, None), count(1, None), 0.0), None);
        let now = count(1, None);
        assert_eq!(between(&now, &now, Duration::ZERO, 1.0), None);
    }

    #[test]
    fn throttling_counts_as_nearly_full() {
        let second = Duration::from_secs(1);
        let used = |all: u64, throttled: u64| {
            let before = count(0, Some((100, 10)));
            let now = count(300, Some((100 + all, 10 + throttled)));
            between(&before, &now, second, 1.0).expect("counters went on")
        };
        assert_eq!(used(10, 1).fraction, 0.3);
        assert_eq!(used(10, 1).throttled, Some(0.1));
        // By chance.
        assert_eq!(used(10, 7).fraction, 0.3);
        assert_eq!(used(10, 10).fraction, THROTTLED_CPU);
        assert_eq!(used(0, 0).throttled, Some(0.0));
        let back = between(
            &count(0, Some((100, 10))),
            &count(300, Some((5, 1))),
            second,
            1.0,
        );
        assert_eq!(back, None);
    }

    proptest! {
        #[test]
        fn a_fraction_is_one(
            before in any::<u32>(), now in any::<u32>(), wall in 0_u64..10_000, cores in 0.0_f64..256.0,
            all in 0_u64..1_000, throttled in 0_u64..1_000,
        ) {
            let used = between(
                &count(before.into(), Some((0, 0))),
                &count(now.into(), Some((all, throttled))),
                Duration::from_millis(wall),
                cores,
            );
            if let Some(used) = used {
                prop_assert!(now >= before && wall > 0);
                prop_assert!((0.0..=1.0).contains(&used.fraction));
                prop_assert!(used.throttled.is_some_and(|part| (0.0..=1.0).contains(&part)));
            } else {
                prop_assert!(now < before || wall == 0 || cores <= 0.0);
            }
        }

        #[test]
        fn more_work_is_never_less_and_more_cores_never_more(
            less in 0_u64..5_000, more in 0_u64..5_000, cores in 0.01_f64..64.0, extra in 0.0_f64..64.0,
        ) {
            let used = |milliseconds: u64, cores| {
                between(&count(0, None), &count(milliseconds, None), Duration::from_secs(1), cores)
                    .map(|used| used.fraction)
            };
            prop_assert!(used(less, cores) <= used(less + more, cores));
            prop_assert!(used(less, cores + extra) <= used(less, cores));
        }
    }
}
