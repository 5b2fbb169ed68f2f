//! Errors that a real reports of its own answers.

use super::{Figures, lower_median};
use crate::verdict::Sign;

/// Fraction of its answers from which on errors are a sign ...
const LEAST: f64 = 0.02;
/// ... if they are this many times the others'.
const TIMES: f64 = 3.0;

pub fn test(reals: &[Figures<'_>], real: usize) -> Option<Sign> {
    let fraction = reals[real].evidence.errors?;
    // A real that reports none may have none to report.
    let others =
        lower_median(super::others(reals, real, |other| other.evidence.errors)).unwrap_or(0.0);
    (fraction >= LEAST && fraction >= others * TIMES).then_some(Sign::Errors { fraction, others })
}
