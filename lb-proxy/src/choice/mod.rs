//! How an instance is chosen for a request: pure, one file per way.
//!
//! A way sees the instances as [`Candidates`]: their weights, which change seldom, and their load, which changes with each
//! request. It never sees an address, a clock or the network. To add one, copy the file of a similar way and name it in
//! [`KINDS`].

mod hash;
mod latency;
mod least_requests;
mod random;
mod round_robin;
mod score;
mod weights;

use std::fmt;

pub use latency::{PeakLatency, Typical};
pub use weights::Weights;

/// The way of services that name none.
pub const DEFAULT: &str = score::KIND.name;

/// All ways.
pub const KINDS: &[Kind] = &[
    score::KIND,
    round_robin::KIND,
    random::KIND,
    least_requests::KIND,
    hash::KIND,
];

/// A way to choose.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name in the configuration.
    pub name: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Makes the state of one service.
    pub make: fn() -> Box<dyn Choice>,
}

/// Returns the way with this name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The load of an instance at this moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Requests that it has not answered yet.
    pub pending: u32,
    /// How long it took to answer, in seconds; `None` if it has not answered recently.
    pub latency: Option<f64>,
    /// The part of its weight that counts, 0 to 1: less than 1 in the slow start.
    pub ramp: f64,
}

/// The instances that a request may go to.
pub trait Candidates {
    /// Their weights, all of them above 0.
    fn weights(&self) -> &Weights;
    /// The load of the instance with this index.
    fn load(&self, index: usize) -> Load;
    /// Whether this request may go there: it did not fail there before, and there is room.
    fn is_available(&self, index: usize) -> bool;
}

/// A source of randomness: a number below the argument, which is above 0.
pub type Random<'a> = &'a mut dyn FnMut(u64) -> u64;

/// Chooses instances for one service.
pub trait Choice: fmt::Debug + Send + Sync {
    /// Returns the index of an available instance. `key` is what [`hash`](self) depends on.
    fn choose(&self, candidates: &dyn Candidates, key: u64, random: Random<'_>) -> Option<usize>;
}

/// Draws so often before looking through all candidates.
const DRAWS: usize = 8;
/// Draws are this fine where a fraction decides.
const GRAIN: u64 = 1 << 32;

/// Draws an available instance by weight and ramp.
fn draw(candidates: &dyn Candidates, random: &mut dyn FnMut(u64) -> u64) -> Option<usize> {
    let weights = candidates.weights();
    if weights.is_empty() {
        return None;
    }
    for _ in 0..DRAWS {
        let index = weights.at(random(weights.total()));
        if candidates.is_available(index) {
            let ramp = candidates.load(index).ramp;
            if ramp >= 1.0 || (random(GRAIN) as f64) < ramp * GRAIN as f64 {
                return Some(index);
            }
        }
    }
    // Few are available, or all are in their slow start.
    let share = |index: usize| f64::from(weights.of(index)) * candidates.load(index).ramp.max(1e-3);
    let available = || (0..weights.len()).filter(|index| candidates.is_available(*index));
    let total: f64 = available().map(share).sum();
    let mut left = random(GRAIN) as f64 / GRAIN as f64 * total;
    let mut last = None;
    for index in available() {
        last = Some(index);
        left -= share(index);
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Instances of a test.
    #[derive(Debug)]
    pub struct Example {
        pub weights: Weights,
        pub loads: Vec<Load>,
        pub absent: Vec<usize>,
    }

    impl Example {
        pub fn new(weights: &[u32]) -> Self {
            let idle = Load {
                pending: 0,
                latency: None,
                ramp: 1.0,
            };
            Example {
                weights: Weights::new(
                    weights
                        .iter()
                        .enumerate()
                        .map(|(id, weight)| (id as u64 + 1, *weight)),
                ),
                loads: vec![idle; weights.len()],
                absent: Vec::new(),
            }
        }
    }

    impl Candidates for Example {
        fn weights(&self) -> &Weights {
            &self.weights
        }

        fn load(&self, index: usize) -> Load {
            self.loads[index]
        }

        fn is_available(&self, index: usize) -> bool {
            !self.absent.contains(&index)
        }
    }

    /// How often each instance is chosen in so many draws with different keys.
    pub fn counts(choice: &dyn Choice, example: &Example, draws: u64) -> Vec<u64> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = vec![0; example.loads.len()];
        for key in 0..draws {
            if let Some(index) = choice.choose(example, key, &mut |below| random.u64(..below)) {
                counts[index] += 1;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};

    #[test]
    fn every_way_follows_the_weights_and_chooses_only_what_is_available() {
        for kind in KINDS {
            let choice = (kind.make)();
            let found = counts(&*choice, &Example::new(&[100, 200, 700]), 10_000);
            for (count, expected) in found.iter().zip([1_000, 2_000, 7_000]) {
                assert!(count.abs_diff(expected) < 300, "{}: {found:?}", kind.name);
            }
            let choice = (kind.make)();
            let mut example = Example::new(&[1, 1, 1]);
            example.absent = vec![0, 2];
            assert_eq!(counts(&*choice, &example, 10), [0, 10, 0], "{}", kind.name);
            example.absent = vec![0, 1, 2];
            assert_eq!(counts(&*choice, &example, 10), [0, 0, 0], "{}", kind.name);
            assert_eq!(counts(&*choice, &Example::new(&[]), 1), [0_u64; 0]);
        }
    }

    #[test]
    fn a_new_instance_gets_less_while_it_starts() {
        for kind in KINDS.iter().filter(|kind| kind.name != "hash") {
            let choice = (kind.make)();
            let mut example = Example::new(&[100, 100]);
            example.loads[1].ramp = 0.25;
            let counts = counts(&*choice, &example, 10_000);
            assert!(counts[1].abs_diff(2_000) < 700, "{}: {counts:?}", kind.name);
        }
    }
}
