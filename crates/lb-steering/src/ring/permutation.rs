//! A keyed permutation of the slots of a ring.
//!
//! Each real ranks all slots by a permutation of its own. It can be computed in both directions for a single slot,
//! so nothing has to be stored or sorted.

use lb_model::vip::RealId;

/// Returns the hash of the ring's seed and a real's name. That of a real without a port is the hash of its address.
pub(super) fn key(seed: u64, real: RealId) -> u64 {
    let number = u128::from_be_bytes(super::mapped(real.address));
    let key = mix(mix(mix(seed).wrapping_add((number >> 64) as u64)).wrapping_add(number as u64));
    match real.port {
        None => key,
        Some(port) => mix(key.wrapping_add(port.get().into())),
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection in which each input bit changes
/// each output bit with probability near one half.
pub(super) fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Rounds of multiply and shift. After three rounds, the spread of the shares is that of random permutations.
const ROUNDS: usize = 3;

/// A permutation of 0 .. 2^bits, bits from 1 to 16.
#[derive(Clone, Copy)]
pub(super) struct Permutation {
    mask: u32,
    shift: u32,
    add: [u32; ROUNDS],
    multiply: [u32; ROUNDS],
    inverse: [u32; ROUNDS],
}

impl Permutation {
    /// Creates the permutation of `slots` slots (a power of two) for `key`.
    pub(super) fn new(key: u64, slots: u32) -> Self {
        let mut add = [0; ROUNDS];
        let mut multiply = [0; ROUNDS];
        let mut stream = key;
        for round in 0..ROUNDS {
            stream = mix(stream);
            add[round] = stream as u32;
            multiply[round] = (stream >> 32) as u32 | 1;
        }
        // With a shift of at least half the bits, x ^ (x >> shift) undoes itself.
        let shift = slots.trailing_zeros().div_ceil(2);
        Permutation {
            mask: slots - 1,
            shift,
            add,
            multiply,
            inverse: multiply.map(inverse),
        }
    }

    /// The slot with this rank.
    #[inline(always)]
    pub(super) fn slot(&self, rank: u32) -> u32 {
        let mut x = rank;
        for round in 0..ROUNDS {
            x = x
                .wrapping_add(self.add[round])
                .wrapping_mul(self.multiply[round])
                & self.mask;
            x ^= x >> self.shift;
        }
        x
    }

    /// The rank of this slot: the inverse of [`Self::slot`].
    #[inline(always)]
    pub(super) fn rank(&self, slot: u32) -> u32 {
        let mut x = slot;
        for round in (0..ROUNDS).rev() {
            x ^= x >> self.shift;
            x = x
                .wrapping_mul(self.inverse[round])
                .wrapping_sub(self.add[round])
                & self.mask;
        }
        x
    }
}

/// Returns the inverse of an odd number modulo 2^32, by Newton's iteration: each step doubles the number of correct
/// bits, and an odd number is its own inverse modulo 8.
fn inverse(odd: u32) -> u32 {
    (0..4).fold(odd, |x, _| {
        x.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(x)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_one_rank_and_each_rank_one_slot() {
        for slots in [256u32, 512, 4_096, 65_536] {
            for key in 0..8 {
                let permutation = Permutation::new(mix(key), slots);
                let mut seen = vec![false; slots as usize];
                for rank in 0..slots {
                    let slot = permutation.slot(rank);
                    assert_eq!(permutation.rank(slot), rank);
                    assert!(!std::mem::replace(&mut seen[slot as usize], true));
                }
            }
        }
    }
}
