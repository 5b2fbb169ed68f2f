//! Flows that end much sooner than the other reals': a real that fails fast has little to do, and looks capable.

use std::time::Duration;

use super::{
    DEVIATIONS, Figures, RAISED, lower_median,
    served::{LIFE_WINDOWS, UNIT},
};
use crate::{shares, verdict::Sign};

/// Logarithm (base 2) of how much sooner they must end at least.
const LEAST: f64 = 1.3;
/// The same after the variation of counts is allowed for.
const LEAST_CERTAIN: f64 = 0.6;
/// Logarithm of how much sooner they must end than before, relative to the others'.
const LEAST_CHANGE: f64 = 0.8;
/// The same after the variation of counts is allowed for.
const LEAST_CERTAIN_CHANGE: f64 = 0.4;
/// The fraction of its flows that end sooner than usual must have grown by this, ...
const LEAST_MORE: f64 = 0.08;
/// ... and by this after the variation of counts is allowed for.
const LEAST_CERTAIN_MORE: f64 = 0.04;
/// Flows that usually live for longer than this, seconds, are not compared that way: while a real gains flows, more of
/// those that end are young.
const LONGEST: f64 = 2.0;
/// Other reals' flows wait, too: of their life, at least this fraction is service.
const LEAST_SERVICE: f64 = 0.4;
/// The fraction of its flows that ends soon must exceed the others' by this: the flows that are left open say nothing.
const EXCESS: f64 = 0.25;
/// A real that has served for less than this has no old flows, ...
const SERVED: Duration = Duration::from_secs(40);
/// ... nor has one that has served for less than this many usual lives.
const LIVES: f64 = 8.0;

pub fn test(reals: &[Figures<'_>], real: usize) -> Option<Sign> {
    (0..LIFE_WINDOWS).find_map(|window| {
        than_others(reals, real, window)
            .or_else(|| than_before(reals, real, window))
            .or_else(|| more_than_before(reals, real, window))
    })
}

/// Looks for more flows than usual that end soon, while the others are as before: a part of them fails.
fn more_than_before(reals: &[Figures<'_>], real: usize, window: usize) -> Option<Sign> {
    if reals[real].multiple < RAISED || reals[real].serving_for < SERVED {
        return None;
    }
    let excess = |figures: &Figures<'_>| {
        let (ended_by, ended) = figures.windows()?[window].ended_by()?;
        let excess = figures.evidence.usual_lives.excess(&ended_by)?;
        // A fraction varies most at one half.
        Some((excess, 0.25 / ended))
    };
    let (own, variance) = excess(&reals[real])?;
    if own < LEAST_MORE {
        return None;
    }
    let others =
        shares::median(super::others(reals, real, |other| Some(excess(other)?.0)).collect())?;
    let more = own - others;
    let certain = more - DEVIATIONS * variance.sqrt();
    let life = reals[real].life(window)?.mean;
    let usual = reals[real].evidence.usual_life.value?;
    if usual.exp2() * UNIT > LONGEST {
        return None;
    }
    let sooner = usual - life;
    (more >= LEAST_MORE && certain >= LEAST_CERTAIN_MORE && sooner > 0.0).then(|| {
        Sign::EndsSooner {
            times: sooner.exp2(),
        }
    })
}

/// Compares with what was usual: its work has not become less, so it does less of it.
fn than_before(reals: &[Figures<'_>], real: usize, window: usize) -> Option<Sign> {
    if reals[real].serving_for < SERVED {
        return None;
    }
    // It must have changed itself: others may serve more slowly.
    let own = reals[real].life(window)?.mean - reals[real].evidence.usual_life.value?;
    if -own < LEAST_CHANGE {
        return None;
    }
    let change = super::life_change(reals, real, window, true)?;
    let sooner = -change.mean.max(own);
    let certain = sooner - DEVIATIONS * change.variance.sqrt();
    (sooner >= LEAST_CHANGE && certain >= LEAST_CERTAIN_CHANGE).then(|| Sign::EndsSooner {
        times: sooner.exp2(),
    })
}

fn than_others(reals: &[Figures<'_>], real: usize, window: usize) -> Option<Sign> {
    let own = reals[real].life(window)?;
    let calm = |other: &Figures<'_>| other.life(window).filter(|_| other.is_calm(window));
    // At utilisation u, a flow of a single queue is served in the fraction 1 − u of its life.
    let service = |other: &Figures<'_>| {
        let free = 1.0 - other.utilisation.unwrap_or(1.0);
        let service = calm(other)?.mean + free.max(LEAST_SERVICE).log2();
        // Where others serve more slowly than usual, it is they that changed.
        Some(match other.evidence.usual_life.value {
            Some(usual) => service.min(usual),
            None => service,
        })
    };
    let usual = lower_median(super::others(reals, real, service))?;
    let served = reals[real].serving_for;
    if served < SERVED && served.as_secs_f64() < LIVES * usual.exp2() * UNIT {
        return None;
    }
    let variance = lower_median(super::others(reals, real, |other| {
        Some(calm(other)?.variance)
    }))?;
    let sooner = usual - own.mean;
    let certain = sooner - DEVIATIONS * (own.variance + variance).sqrt();
    if sooner < LEAST || certain < LEAST_CERTAIN {
        return None;
    }
    // Among flows that end, those of a real that got many new ones lately are young. So compare with what it opened.
    let soon = |figures: &Figures<'_>| Some(figures.windows()?[window].ended_within(usual));
    let usually_soon = lower_median(super::others(reals, real, |other| {
        calm(other)?;
        soon(other)
    }))?;
    (soon(&reals[real])? >= usually_soon + EXCESS).then(|| Sign::EndsSooner {
        times: sooner.exp2(),
    })
}
