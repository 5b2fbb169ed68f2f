//! From what happened to what is reported.

use crate::{
    scenario::{Case, Event, PERIOD},
    world::Trace,
};

/// A pool is settled once the greatest utilisation is this much of the mean, and stays so.
const SETTLED: f64 = 1.10;
/// For so many periods.
const STAYS: usize = 20;
/// The last periods, in which nothing happens any more.
const STEADY: usize = 60;

/// What one run comes to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Periods until settled; infinite: never.
    pub settle: f64,
    /// Periods that no weights can beat: life · ln(r).
    pub bound: f64,
    /// Greatest over mean utilisation once it was settled, less 1; of a joiner, its own.
    pub overshoot: f64,
    /// Mean of greatest over mean utilisation in the end.
    pub steady: f64,
    /// Mean part of the ring that moved per period in the end.
    pub moved: f64,
    /// The greatest part that moved in one period.
    pub most_moved: f64,
    /// Connections that were reset, as a part of all.
    pub shed: f64,
}

impl Figures {
    /// Of a run.
    pub fn of(case: &Case, trace: &Trace) -> Self {
        let all = trace.uneven.len();
        let fine = |period: usize| trace.uneven[period] <= SETTLED;
        let settle = (0..all - STAYS).find(|start| (*start..start + STAYS).all(fine));
        let first = (0..all).find(|period| fine(*period)).unwrap_or(all);
        let peak = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        // The swing that follows: three times as long as it took, but no less than 30 periods; all that comes
        // where a server is silent for a while.
        let end = if case.event == Event::Stale {
            all
        } else {
            (first * 3 + 30).min(all)
        };
        let overshoot = if case.event == Event::Join {
            peak(&trace.subject)
        } else if first < all {
            peak(&trace.uneven[first..end])
        } else {
            peak(&trace.uneven)
        };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        Figures {
            settle: settle.map_or(f64::INFINITY, |settle| (settle + 1) as f64),
            bound: (case.life / PERIOD * (trace.first / SETTLED).ln()).max(0.0),
            overshoot: overshoot - 1.0,
            steady: mean(&trace.uneven[all - STEADY..]),
            moved: mean(&trace.moved[all - STEADY..]),
            most_moved: peak(&trace.moved[1.min(all)..]),
            shed: trace.shed,
        }
    }

    /// The mean of several runs.
    pub fn mean(runs: &[Figures]) -> Self {
        let mean = |value: fn(&Figures) -> f64| {
            runs.iter().map(value).sum::<f64>() / runs.len().max(1) as f64
        };
        Figures {
            settle: mean(|f| f.settle),
            bound: mean(|f| f.bound),
            overshoot: mean(|f| f.overshoot),
            steady: mean(|f| f.steady),
            moved: mean(|f| f.moved),
            most_moved: mean(|f| f.most_moved),
            shed: mean(|f| f.shed),
        }
    }
}
