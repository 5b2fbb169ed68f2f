//! Probes that take longer than at a lower share: they queue, as clients' requests do.

use super::{Figures, RAISED, lower_median};
use crate::verdict::Sign;

/// Logarithm of how much longer than at the operator's share probes must take, relative to the others' ...
const LEAST_GROWTH: f64 = 1.4;
/// ... and how much longer than the others'.
const LEAST: f64 = 0.7;
/// A round trip below this is no sign of a queue, seconds.
const LEAST_TIME: f64 = 0.02;

pub fn test(reals: &[Figures<'_>], real: usize) -> Option<Sign> {
    let evidence = &reals[real].evidence;
    if reals[real].multiple < RAISED
        || evidence.is_full()
        || evidence.round_trip?.exp() < LEAST_TIME
    {
        return None;
    }
    let longer = relative_round_trip(reals, real)?;
    // A pool that is always busy shows nothing of its usual state.
    let growth = longer - evidence.base_round_trip.value.unwrap_or(LEAST);
    (longer >= LEAST && growth >= LEAST_GROWTH).then(|| Sign::SlowProbes {
        times: growth.exp(),
    })
}

/// Logarithm of its round trip over the others'.
pub fn relative_round_trip(reals: &[Figures<'_>], real: usize) -> Option<f64> {
    let own = reals[real].evidence.round_trip?;
    let usual = lower_median(super::others(reals, real, |other| {
        other.evidence.round_trip.filter(|_| other.is_unhampered())
    }))?;
    Some(own - usual)
}
