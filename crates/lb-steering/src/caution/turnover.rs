//! Connections that become fewer though the real gets new flows: what it is given does not stay. Where few flows begin,
//! the data plane's exact counts tell that sooner than a sample.

use super::{DEVIATIONS, Figures};
use crate::{shares, verdict::Sign};

/// Factors by which counts decay per period.
const DECAYS: [f64; 2] = [0.93, 0.97];
/// Many connections that end at once, as when a server restarts, count as this many times what was opened, ...
const MOST_CLOSED: f64 = 2.0;
/// ... and this many.
const MOST_CLOSED_MORE: f64 = 10.0;

/// Flows counted, of which older ones count less.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    opened: f64,
    closed: f64,
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
            add(&mut counts.connections, connections);
        }
    }
}

pub fn test(reals: &[Figures<'_>], real: usize) -> Option<Sign> {
    (0..DECAYS.len()).find_map(|window| {
        let counts = |figures: &Figures<'_>| figures.evidence.turnover.counts[window];
        let own = counts(&reals[real]);
        let rates = super::others(reals, real, |other| {
            let counts = counts(other);
            (counts.connections > 0.0).then(|| counts.closed / counts.connections)
        });
        let usual = shares::median(rates.collect())? * own.connections;
        // Flows that are short by nature end as they begin.
        let expected = usual.max(own.opened);
        let deviation = DEVIATIONS * (own.closed + expected).sqrt();
        (usual > 0.0 && own.closed - expected > deviation).then(|| Sign::EndsSooner {
            times: own.closed / usual,
        })
    })
}
