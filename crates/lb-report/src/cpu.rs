//! CPU use between two readings of the counters, as a fraction of the limit.

use std::time::Duration;

/// A group with a larger fraction of throttled periods wants more CPU than it gets, whatever its mean use. The
/// threshold is high because requests arrive in bursts and a period has room for only a few of them, so some periods
/// are throttled at any load: at a load of 0.65, 4 to 10 % of the periods, and more than 10 % in many single seconds.
/// A reading that jumps from 0.65 to 0.9 for that reason makes the balancer believe that the server can carry a third
/// less.
pub const THROTTLED: f64 = 0.9;
/// The least utilisation that is reported for a throttled group.
pub const THROTTLED_CPU: f64 = 0.9;

/// Periods of a quota since the group was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// Periods with runnable tasks.
    pub all: u64,
    /// Periods in which the quota was exhausted.
    pub throttled: u64,
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Used CPU time.
    pub usage: Duration,
    /// Periods of the quota; `None` without a quota.
    pub periods: Option<Periods>,
}

/// CPU use between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Use {
    /// Fraction of the limit, 0 to 1; at least [`THROTTLED_CPU`] if more than [`THROTTLED`] of the periods were
    /// throttled.
    pub fraction: f64,
    /// Fraction of the periods that were throttled, 0 to 1.
    pub throttled: Option<f64>,
}

/// Computes the use of `cores` cores from `before` to `now`, `wall` later. Returns `None` if no time passed, if
/// `cores` is not positive, or if a counter decreased because the group was recreated.
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
    // The kernel lets a group exceed its quota by a slice, and the two clocks are not read at the same instant.
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
    fn use_is_a_fraction_of_the_limit() {
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
        // Slightly above its quota.
        assert_eq!(used(count(0, None), count(504, None), 0.5), plain(1.0));
        // Recreated.
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
        // Throttled by bursts only.
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
        fn fractions_stay_within_0_and_1(
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
                prop_assert!(used.throttled.is_some_and(|fraction| (0.0..=1.0).contains(&fraction)));
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
