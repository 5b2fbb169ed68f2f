//! Maglev's table (Eisenbud et al., NSDI 2016) with weights.
//!
//! Each real walks the slots by a fixed step from a start of its own and takes, at its turn, the next free one. The
//! step is odd, so it meets every slot of a table whose size is a power of two. Turns are weighted: in each round a
//! real's credit grows by its weight, and the real takes a slot when its credit has reached the largest weight.

use super::{Candidate, NO_REAL, permutation::mix};

/// Builds the table; `reals` is not empty and sorted by address.
pub(super) fn build(slots: u32, reals: &[Candidate]) -> Vec<u16> {
    struct Walk {
        next: u32,
        step: u32,
        credit: u32,
    }
    let mask = slots - 1;
    let largest = reals.iter().map(|real| real.weight).max().unwrap_or(1);
    let mut walks: Vec<Walk> = reals
        .iter()
        .map(|real| {
            let hash = mix(real.key);
            Walk {
                next: hash as u32 & mask,
                step: ((hash >> 32) as u32 & mask) | 1,
                credit: 0,
            }
        })
        .collect();
    let mut ring = vec![NO_REAL; slots as usize];
    let mut free = slots;
    loop {
        for (real, walk) in reals.iter().zip(&mut walks) {
            walk.credit += real.weight;
            if walk.credit < largest {
                continue;
            }
            walk.credit -= largest;
            while ring[walk.next as usize] != NO_REAL {
                walk.next = (walk.next + walk.step) & mask;
            }
            ring[walk.next as usize] = real.position;
            free -= 1;
            if free == 0 {
                return ring;
            }
        }
    }
}
