//! `round-robin`: in turn, smoothly by weight.
//!
//! Each turn adds every instance's weight to its credit, takes the one with the most credit and subtracts the sum of the
//! weights from it. Equal weights give exactly equal counts, and a heavy instance's turns are spread between the others'.

use std::sync::{Mutex, PoisonError};

use super::{Candidates, Choice, Kind, Random};

/// The way.
pub const KIND: Kind = Kind {
    name: "round-robin",
    help: "in turn, smoothly by weight; equal weights give exactly equal counts",
    make: || Box::<RoundRobin>::default(),
};

/// Weights count in this part of 1, so that a slow start has steps.
const UNIT: f64 = 1_024.0;

#[derive(Debug, Default)]
struct RoundRobin(Mutex<Turns>);

/// Credits, in the order of the instances' ids.
#[derive(Debug, Default)]
struct Turns {
    ids: Vec<u64>,
    credits: Vec<i64>,
}

impl Turns {
    /// Follows a change of the instances: those that stay keep their credit.
    fn follow(&mut self, ids: &[u64]) {
        if self.ids == ids {
            return;
        }
        let credits = ids.iter().map(|id| {
            let position = self.ids.iter().position(|known| known == id);
            position.map_or(0, |position| self.credits[position])
        });
        self.credits = credits.collect();
        self.ids = ids.to_vec();
    }
}

impl Choice for RoundRobin {
    fn choose(&self, candidates: &dyn Candidates, _: u64, _: Random<'_>) -> Option<usize> {
        let weights = candidates.weights();
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.follow(weights.ids());
        let mut total = 0;
        let mut best: Option<usize> = None;
        for index in 0..weights.len() {
            if !candidates.is_available(index) {
                continue;
            }
            let ramp = candidates.load(index).ramp;
            let weight = (f64::from(weights.of(index)) * ramp * UNIT).max(1.0) as i64;
            total += weight;
            turns.credits[index] += weight;
            if best.is_none_or(|best| turns.credits[index] > turns.credits[best]) {
                best = Some(index);
            }
        }
        let best = best?;
        turns.credits[best] -= total;
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            Weights,
            testing::{Example, counts},
        },
        *,
    };

    fn order(choice: &RoundRobin, example: &Example, turns: usize) -> Vec<usize> {
        (0..turns)
            .filter_map(|_| choice.choose(example, 0, &mut |_| 0))
            .collect()
    }

    #[test]
    fn turns_are_smooth() {
        let choice = RoundRobin::default();
        let example = Example::new(&[5, 1, 1]);
        assert_eq!(order(&choice, &example, 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn turns_go_on_when_an_instance_comes_or_goes() {
        let choice = RoundRobin::default();
        let mut example = Example::new(&[1, 1, 1]);
        assert_eq!(order(&choice, &example, 2), [0, 1]);
        example.weights = Weights::new([(2, 1), (3, 1)]);
        example.loads.pop();
        let turns = order(&choice, &example, 8);
        // The third one has not had its turn yet.
        assert_eq!(turns[0], 1);
        let firsts = turns.iter().filter(|turn| **turn == 0).count();
        assert!((3..=4).contains(&firsts), "{turns:?}");
    }

    proptest! {
        #[test]
        fn equal_weights_give_exactly_equal_counts(instances in 1_usize..9, rounds in 1_u64..50, weight in 1_u32..65_536) {
            let example = Example::new(&vec![weight; instances]);
            let counts = counts(&RoundRobin::default(), &example, rounds * instances as u64);
            prop_assert_eq!(counts, vec![rounds; instances]);
        }

        #[test]
        fn weights_give_exact_shares_over_a_whole_round(weights in prop::collection::vec(1_u32..20, 1..6)) {
            let example = Example::new(&weights);
            let round = weights.iter().map(|weight| u64::from(*weight)).sum();
            let expected: Vec<u64> = weights.iter().map(|weight| u64::from(*weight)).collect();
            prop_assert_eq!(counts(&RoundRobin::default(), &example, round), expected);
        }
    }
}
