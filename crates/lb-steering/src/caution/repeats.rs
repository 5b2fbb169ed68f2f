//! Clients that repeat their SYNs or reset their flows: requests that failed, whatever the real reads.

use super::{DEVIATIONS, Figures, Window};
use crate::verdict::Sign;

/// Fraction of the flows from which on repeated SYNs are a sign.
pub const LEAST_REPEATED: f64 = 0.01;
/// The same of resets, which some clients use to end a flow.
const LEAST_RESET: f64 = 0.05;
/// How many times the others' fraction it must be, after the variation of counts is allowed for.
const TIMES: f64 = 1.5;

pub fn repeated_syns(reals: &[Figures<'_>], real: usize) -> Option<Sign> {
    let (fraction, others) = excess(reals, real, LEAST_REPEATED, |window| window.repeated)?;
    Some(Sign::RepeatedSyns { fraction, others })
}

pub fn resets(reals: &[Figures<'_>], real: usize) -> Option<Sign> {
    let (fraction, others) = excess(reals, real, LEAST_RESET, |window| window.resets)?;
    Some(Sign::Resets { fraction, others })
}

/// Returns the fraction of a real's flows that are counted, and the others', if it is well above theirs and `least`.
fn excess(
    reals: &[Figures<'_>],
    real: usize,
    least: f64,
    count: fn(&Window) -> f64,
) -> Option<(f64, f64)> {
    let windows = reals[real].windows()?;
    if windows.iter().all(|window| count(window) < 1.0) {
        return None;
    }
    for (number, own) in windows.iter().enumerate() {
        let fraction = |figures: &Figures<'_>| {
            let window = &figures.windows()?[number];
            (window.opened > 0.0).then(|| count(window) / window.opened)
        };
        let others = super::lower_median(super::others(reals, real, fraction))?;
        let most = (others * TIMES).max(least);
        // A Poisson count of n varies by √n, and one of 0 by about 1.
        let deviation = DEVIATIONS * count(own).max(1.0).sqrt();
        if count(own) - deviation > most * own.opened.max(1.0) {
            return Some((fraction(&reals[real])?, others));
        }
        if count(own) + deviation < most * own.opened {
            // What an earlier time shows is over.
            return None;
        }
    }
    None
}
