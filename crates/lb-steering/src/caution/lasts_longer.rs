//! Flows that live much longer than those of the reals that gave the share up: they queue, and what is read is not the
//! bottleneck. While nothing is known of how long a real's flows usually live, that is looked for before anything is lent to it.

use super::{DEVIATIONS, Figures, LogLife, RAISED, lower_median, served::LIFE_WINDOWS};
use crate::verdict::Sign;

/// Logarithm (base 2) of how much longer than the others' they must live.
const LEAST: f64 = 1.0;
/// The same compared with what the difference was at the operator's share.
const LEAST_GROWTH: f64 = 1.0;
/// Both after the variation of counts is allowed for.
const LEAST_CERTAIN: f64 = 0.4;
/// From this multiple on a real has the operator's share, and could be lent more.
const DUE: f64 = 1.0 / RAISED;

pub fn test(reals: &[Figures<'_>], real: usize) -> Option<Sign> {
    let is_raised = reals[real].multiple >= RAISED;
    if reals[real].multiple < DUE || reals[real].evidence.is_full() {
        return None;
    }
    (0..LIFE_WINDOWS).find_map(|window| {
        let change = super::life_change(reals, real, window, false);
        if !is_raised && change.is_some() {
            // How its flows usually live at this share is known, and no trouble.
            return None;
        }
        let longer = relative_life(reals, real, window)?;
        let growth = change.map_or(longer.mean, |change| change.mean);
        let error = DEVIATIONS * longer.variance.sqrt();
        let certain = longer.mean.min(growth) - error >= LEAST_CERTAIN;
        (longer.mean >= LEAST && growth >= LEAST_GROWTH && certain).then(|| Sign::LastsLonger {
            times: longer.mean.exp2(),
        })
    })
}

/// Its life over that of the reals with less than the operator's share, or over the others' if there are none. Where
/// steering does good, the raised reals are not the slower ones.
fn relative_life(reals: &[Figures<'_>], real: usize, window: usize) -> Option<LogLife> {
    let own = reals[real].life(window)?;
    let any_lowered = super::others(reals, real, |other| {
        (other.multiple < 1.0).then_some(other.life(window)?.mean)
    })
    .next()
    .is_some();
    let compared = |other: &Figures<'_>| {
        (!any_lowered || other.multiple < 1.0)
            .then(|| other.life(window))
            .flatten()
    };
    let usual = lower_median(super::others(reals, real, |other| {
        Some(compared(other)?.mean)
    }))?;
    let variance = lower_median(super::others(reals, real, |other| {
        Some(compared(other)?.variance)
    }))?;
    Some(LogLife {
        mean: own.mean - usual,
        variance: own.variance + variance,
    })
}
