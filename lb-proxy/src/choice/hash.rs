//! `hash`: the same key, the same instance, as long as that one is available.
//!
//! Weighted rendezvous hashing: each instance scores the key, the highest score wins. When an instance goes, only its own
//! keys move; when one comes, it takes its share and no other key moves.

use super::{Candidates, Choice, Kind, Random};

/// The way.
pub const KIND: Kind = Kind {
    name: "hash",
    help: "the same client, header or cookie (`hash_on`) goes to the same instance while that one is available",
    make: || Box::new(Rendezvous),
};

#[derive(Debug)]
struct Rendezvous;

/// Mixes a number well (the finaliser of SplitMix64).
fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn score(key: u64, id: u64, weight: u32) -> f64 {
    let hash = mixed(mixed(key.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ mixed(id));
    // In (0, 1): 53 bits, and never 0.
    let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight) / uniform.ln()
}

impl Choice for Rendezvous {
    fn choose(&self, candidates: &dyn Candidates, key: u64, _: Random<'_>) -> Option<usize> {
        let weights = candidates.weights();
        let mut best: Option<(usize, f64)> = None;
        for index in 0..weights.len() {
            if !candidates.is_available(index) {
                continue;
            }
            let score = score(key, weights.id(index), weights.of(index));
            if best.is_none_or(|(_, highest)| score > highest) {
                best = Some((index, score));
            }
        }
        best.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Weights, testing::Example},
        *,
    };

    fn chosen(example: &Example, key: u64) -> u64 {
        let index = Rendezvous.choose(example, key, &mut |_| 0).unwrap();
        example.weights.id(index)
    }

    #[test]
    fn only_the_keys_of_what_goes_move() {
        let all = Example::new(&[1, 1, 1, 1]);
        let mut fewer = Example::new(&[1, 1, 1]);
        fewer.weights = Weights::new([(1, 1), (2, 1), (4, 1)]);
        for key in 0..1_000 {
            let before = chosen(&all, key);
            let after = chosen(&fewer, key);
            assert!(before == after || before == 3, "{key}: {before} {after}");
        }
    }
}
