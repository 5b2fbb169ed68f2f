//! The figures of a simulated case.

use crate::{
    scenario::{Case, Event, PERIOD},
    simulation::Trace,
};

/// A pool is settled once the highest utilisation is at most this multiple of the mean ...
const SETTLED: f64 = 1.10;
/// ... and stays so for this many periods.
const STAYS: usize = 20;
/// Number of last periods that count as steady state.
const STEADY: usize = 60;

/// Figures of one run, or means of several.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Periods until settled; infinite if never.
    pub settle: f64,
    /// Lower bound of these periods for any weights: life · ln(r).
    pub bound: f64,
    /// Highest over mean utilisation, less 1, after the first time it was at most 1.10; for a server that joins, its
    /// own over the mean.
    pub overshoot: f64,
    /// Highest over mean utilisation in steady state, mean.
    pub steady: f64,
    /// Fraction of the ring that moved per period in steady state, mean.
    pub moved: f64,
    /// The largest fraction that moved in one period.
    pub most_moved: f64,
    /// Connections that were reset, as a fraction of all.
    pub shed: f64,
}

impl Figures {
    /// Computes the figures of a run.
    pub fn of(case: &Case, trace: &Trace) -> Self {
        let all = trace.uneven.len();
        let fine = |period: usize| trace.uneven[period] <= SETTLED;
        let settle = (0..all - STAYS).find(|start| (*start..start + STAYS).all(fine));
        let first = (0..all).find(|period| fine(*period)).unwrap_or(all);
        let peak = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        // The overshoot is looked for in three times the periods it took to settle, but in at least 30; in all
        // periods where a server is silent for a while.
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

    /// Returns the means of several runs.
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
