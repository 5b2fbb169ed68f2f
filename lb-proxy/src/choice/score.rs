//! `score`: of two instances drawn by weight, the one that will probably answer sooner.
//!
//! The cost of an instance is its latency times its pending requests per weight. Two draws avoid what the best of all would
//! cause: that all threads run to the same instance at once. Drawing by weight keeps the shares at the weights while nothing
//! is loaded, and costs that are nearly equal count as equal: the fastest of several idle instances does not get everything.

use super::{Candidates, Choice, DRAWS, Kind, Random, draw};

/// The way.
pub const KIND: Kind = Kind {
    name: "score",
    help: "of two instances drawn by weight, the one with less latency times pending requests per weight",
    make: || Box::new(Score),
};

/// Costs that differ by less than this factor are equal.
const EQUAL: f64 = 1.5;

#[derive(Debug)]
struct Score;

impl Choice for Score {
    fn choose(&self, candidates: &dyn Candidates, _: u64, random: Random<'_>) -> Option<usize> {
        let first = draw(candidates, random)?;
        let weights = candidates.weights();
        if weights.len() == 1 {
            return Some(first);
        }
        let other = (0..DRAWS).find_map(|_| draw(candidates, random).filter(|one| *one != first));
        let Some(second) = other else {
            return Some(first);
        };
        let mean = weights.total() as f64 / weights.len() as f64;
        let (a, b) = (candidates.load(first), candidates.load(second));
        // An instance that has not answered yet is taken to be as fast as the other one.
        let latency = (a.latency.or(b.latency), b.latency.or(a.latency));
        let cost = |index, pending: u32, ramp: f64, latency: Option<f64>| {
            let weight = f64::from(weights.of(index)) * ramp.max(1e-3) / mean;
            latency.unwrap_or(1.0) * (1.0 + f64::from(pending) / weight)
        };
        let first_cost = cost(first, a.pending, a.ramp, latency.0);
        let second_cost = cost(second, b.pending, b.ramp, latency.1);
        Some(if second_cost * EQUAL < first_cost {
            second
        } else {
            first
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{Example, counts},
        *,
    };

    #[test]
    fn a_slow_or_busy_instance_gets_less() {
        for (pending, latency) in [(20, 0.01), (0, 0.1)] {
            let mut example = Example::new(&[100, 100, 100]);
            for load in &mut example.loads {
                load.latency = Some(0.01);
            }
            example.loads[1].pending = pending;
            example.loads[1].latency = Some(latency);
            let counts = counts(&Score, &example, 9_000);
            assert!(counts[1] < 500 && counts[0] > 3_500, "{counts:?}");
        }
    }

    #[test]
    fn pending_requests_count_by_weight() {
        // Twice the weight with twice the requests: both are equally loaded.
        let mut example = Example::new(&[100, 200]);
        example.loads[0].pending = 10;
        example.loads[1].pending = 20;
        let counts = counts(&Score, &example, 9_000);
        assert!(counts[0].abs_diff(3_000) < 300, "{counts:?}");
    }

    #[test]
    fn one_that_never_answered_is_tried() {
        let mut example = Example::new(&[100, 100]);
        example.loads[0].latency = Some(0.5);
        let counts = counts(&Score, &example, 1_000);
        assert!(counts[1].abs_diff(500) < 100, "{counts:?}");
    }
}
