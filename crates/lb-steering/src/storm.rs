//! Times in which nothing is learned: the pool is beyond its capacity, or much of it has just died or come back. Readings
//! then show the storm, not the reals.

use std::time::Duration;

use super::{
    Steering,
    observation::Sample,
    pool::{Member, estimated_capacities},
};

/// Utilisation of the least used reals from which on the pool is beyond its capacity, ...
const BEYOND: f64 = 0.92;
/// ... until it has been below this ...
const WITHIN: f64 = 0.88;
/// The part of the pool, by capacity, that these are: where one real is full and others are not, steering helps.
const LEAST_USED: f64 = 0.25;
/// ... for this many periods.
const CALM_PERIODS: u32 = 3;
/// The fraction of the operator's weights of reals that died or came back lately that makes a storm.
const CHANGED: f64 = 0.3;
/// From this utilisation of the others on, a real that comes back gets its whole share.
const OTHERS_BUSY: f64 = 0.8;

/// Whether there is a storm.
#[derive(Debug, Default)]
pub struct Storm {
    raging: bool,
    calm_periods: u32,
}

impl Storm {
    /// Ends a period. Returns whether a storm began.
    pub fn observe(&mut self, settings: &Steering, now: Duration, pool: &[Member<'_>]) -> bool {
        let before = self.raging;
        let utilisation = pool_utilisation(settings, pool).unwrap_or(0.0);
        let changed = changed(settings, now, pool) >= CHANGED;
        if utilisation >= BEYOND || changed {
            self.raging = true;
            self.calm_periods = 0;
        } else if utilisation < WITHIN {
            self.calm_periods += 1;
            self.raging &= self.calm_periods < CALM_PERIODS;
        }
        self.raging && !before
    }

    /// Whether there is one.
    pub const fn is_raging(&self) -> bool {
        self.raging
    }
}

/// Utilisation of the least used reals: their part of the pool, by capacity, is used by this much at most.
fn pool_utilisation(settings: &Steering, pool: &[Member<'_>]) -> Option<f64> {
    let mut used: Vec<(f64, f64)> = pool
        .iter()
        .zip(estimated_capacities(pool))
        .filter(|(member, _)| member.is_eligible())
        .filter_map(|(member, capacity)| {
            Some((
                Sample::fresh(member.utilisation, settings.stale_after())?,
                capacity,
            ))
        })
        .collect();
    used.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut left = LEAST_USED * used.iter().map(|(_, capacity)| capacity).sum::<f64>();
    used.into_iter()
        .find(|(_, capacity)| {
            left -= capacity;
            left <= 0.0
        })
        .map(|(utilisation, _)| utilisation)
}

/// The fraction of the operator's weights of reals whose health changed lately.
fn changed(settings: &Steering, now: Duration, pool: &[Member<'_>]) -> f64 {
    let since = now.saturating_sub(settings.slow_start);
    let (mut changed, mut all) = (0.0, 0.0);
    for member in pool {
        all += member.operator_weight();
        if member.state.eligibility.changed_after(since) {
            changed += member.operator_weight();
        }
    }
    if all > 0.0 { changed / all } else { 0.0 }
}

/// The lowest factor of its share that slow start leaves a real: where the others are busy, or would be if it had less,
/// they need it at once.
pub fn least_ramp(settings: &Steering, now: Duration, pool: &[Member<'_>]) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    let (mut used, mut others, mut ramping) = (0.0, 0.0, 0.0);
    for (member, capacity) in pool.iter().zip(estimated_capacities(pool)) {
        if !member.is_eligible() {
            continue;
        }
        let is_ramping = member.state.eligibility.slow_start(settings, now) < 1.0;
        let utilisation = Sample::fresh(member.utilisation, settings.stale_after());
        if is_ramping {
            ramping += capacity;
        } else {
            others += capacity;
        }
        if let Some(utilisation) = utilisation {
            used += utilisation.min(1.0) * capacity;
            if !is_ramping {
                sum += utilisation;
                count += 1.0;
            }
        }
    }
    if count == 0.0 || ramping == 0.0 {
        0.0
    } else if sum / count >= OTHERS_BUSY {
        1.0
    } else {
        // What keeps the others below that with the load that the pool has.
        ((used / OTHERS_BUSY - others) / ramping).clamp(0.0, 1.0)
    }
}
