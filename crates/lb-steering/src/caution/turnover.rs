//! Connections that become fewer though the real gets new flows: what it is given does not stay. Where few flows begin,
//! the data plane's exact counts tell that sooner than a sample.

use super::{DEVIATIONS, Figures};
use crate::{shares, verdict::Sign};

/// Factors by which counts decay per period.
const DECAYS: [f64; 2] = [0.93, 0.97];
/// Of the connections that a real should gain, it must gain this fraction; ...
const LEAST_KEPT: f64 = 0.25;
/// ... from this one on it may be lent more.
const KEPT: f64 = 0.5;
/// A difference below this fraction of what is expected is none: reals are not alike.
const LEAST_DIFFERENCE: f64 = 0.2;
/// Many connections that end at once, as when a server restarts, count as this many times what was opened, ...
const MOST_CLOSED: f64 = 2.0;
/// ... and this many.
const MOST_CLOSED_MORE: f64 = 10.0;

/// Flows counted, of which older ones count less.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    opened: f64,
    /// Flows closed; many at once count as few.
    closed: f64,
    /// Flows closed, as a measure for others.
    ended: f64,
    /// Connections, summed over the periods.
    connections: f64,
}

/// How a real's connections are replaced.
#[derive(Debug, Default)]
pub struct Turnover {
    /// The totals of opened and closed flows.
    last: Option<(u64, u64)>,
    counts: [Counts; DECAYS.len()],
}

impl Turnover {
    /// Records a period from the totals of opened and closed flows, and the connections at its end.
    pub fn observe(&mut self, opened: u64, closed: u64, connections: Option<f64>) {
        let before = self.last.replace((opened, closed));
        let (Some((first_opened, first_closed)), Some(connections)) = (before, connections) else {
            self.counts = Default::default();
            return;
        };
        // A smaller total has started over.
        let opened = opened.saturating_sub(first_opened) as f64;
        let closed = closed.saturating_sub(first_closed) as f64;
        for (counts, decay) in self.counts.iter_mut().zip(DECAYS) {
            let add = |sum: &mut f64, increase: f64| *sum = *sum * decay + increase;
            add(&mut counts.opened, opened);
            add(
                &mut counts.closed,
                closed.min(opened * MOST_CLOSED + MOST_CLOSED_MORE),
            );
            add(&mut counts.ended, closed);
            add(&mut counts.connections, connections);
        }
    }
}

/// A real's counts, beside what is expected of them.
struct Compared {
    own: Counts,
    /// Flows that would have closed if its connections ended as the others' do.
    usual: f64,
}

impl Compared {
    fn new(reals: &[Figures<'_>], real: usize, window: usize) -> Option<Self> {
        let counts = |figures: &Figures<'_>| figures.evidence.turnover.counts[window];
        let own = counts(&reals[real]);
        let rates = super::others(reals, real, |other| {
            let counts = counts(other);
            (counts.connections > 0.0).then(|| counts.ended / counts.connections)
        });
        let usual = shares::median(rates.collect())? * own.connections;
        (usual > 0.0).then_some(Compared { own, usual })
    }

    /// Connections that it has more.
    fn gained(&self) -> f64 {
        self.own.opened - self.own.closed
    }

    /// Connections that it should have more, if these are many enough to tell.
    fn predicted(&self) -> Option<f64> {
        let predicted = self.own.opened - self.usual;
        let deviation = DEVIATIONS * (self.own.opened + self.usual).sqrt();
        let least = deviation.max(self.own.opened * LEAST_DIFFERENCE);
        (predicted > least).then_some(predicted)
    }

    /// Whether it loses connections though it gets flows. Those that are short by nature end as they begin.
    fn loses(&self) -> bool {
        let expected = self.usual.max(self.own.opened);
        let deviation = DEVIATIONS * (self.own.closed + expected).sqrt();
        self.own.closed - expected > deviation.max(expected * LEAST_DIFFERENCE)
    }
}

pub fn test(reals: &[Figures<'_>], real: usize) -> Option<Sign> {
    (0..DECAYS.len()).find_map(|window| {
        let compared = Compared::new(reals, real, window)?;
        let fails = compared
            .predicted()
            .is_some_and(|predicted| compared.gained() < predicted * LEAST_KEPT);
        (compared.loses() || fails).then(|| Sign::EndsSooner {
            times: compared.own.closed / compared.usual,
        })
    })
}

/// Whether a real has kept the connections that it was given beyond what it loses.
pub fn keeps(reals: &[Figures<'_>], real: usize) -> bool {
    (0..DECAYS.len()).any(|window| {
        Compared::new(reals, real, window).is_some_and(|compared| {
            compared
                .predicted()
                .is_some_and(|predicted| compared.gained() >= predicted * KEPT)
        })
    })
}
