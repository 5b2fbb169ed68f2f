//! `random`: drawn by weight.

use super::{Candidates, Choice, Kind, Random, draw};

/// The way.
pub const KIND: Kind = Kind {
    name: "random",
    help: "drawn by weight",
    make: || Box::new(Weighted),
};

#[derive(Debug)]
struct Weighted;

impl Choice for Weighted {
    fn choose(&self, candidates: &dyn Candidates, _: u64, random: Random<'_>) -> Option<usize> {
        draw(candidates, random)
    }
}
