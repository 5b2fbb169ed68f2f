//! `least-requests`: the instance with the fewest pending requests per weight.

use super::{Candidates, Choice, Kind, Random, draw};

/// The way.
pub const KIND: Kind = Kind {
    name: "least-requests",
    help: "the fewest pending requests per weight; among equal ones drawn by weight",
    make: || Box::new(Least),
};

#[derive(Debug)]
struct Least;

impl Choice for Least {
    fn choose(&self, candidates: &dyn Candidates, _: u64, random: Random<'_>) -> Option<usize> {
        let weights = candidates.weights();
        let load = |index| {
            let load = candidates.load(index);
            f64::from(load.pending) / (f64::from(weights.of(index)) * load.ramp.max(1e-3))
        };
        let mut best = draw(candidates, random)?;
        let mut least = load(best);
        for index in 0..weights.len() {
            if candidates.is_available(index) && load(index) < least {
                (best, least) = (index, load(index));
            }
        }
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{Example, counts},
        *,
    };

    #[test]
    fn the_least_loaded_one_is_chosen() {
        let mut example = Example::new(&[100, 100, 300]);
        for (load, pending) in example.loads.iter_mut().zip([2, 3, 5]) {
            load.pending = pending;
        }
        assert_eq!(counts(&Least, &example, 100), [0, 0, 100]);
    }
}
