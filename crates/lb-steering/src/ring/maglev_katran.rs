//! Katran's ring: Maglev's table with weights, of 65,537 slots, bit for bit as Katran fills it, so that both give a flow
//! the same real.
//!
//! Reals take their turns in the order of their hashes. Turns are weighted as in `maglev`. A real's walk wraps around at
//! 2^32 before it is reduced to a slot; so it depends on how often the real was placed, and not on the last slot alone.

use lb_common::limits::KATRAN_RING_SLOTS;

use super::{Candidate, NO_REAL, endpoint_hash};

/// A walk that has come this far has met every slot that it meets.
///
/// A step s meets 2^32 / s slots before it wraps around for the first time. These are all of them, except for s = 65,536,
/// which meets the same 65,536 slots for ever.
const LONGEST: u32 = 2 * KATRAN_RING_SLOTS;

struct Walk {
    start: u32,
    step: u32,
    steps: u32,
    credit: u32,
}

impl Walk {
    /// The next free slot.
    fn next(&mut self, ring: &[u16]) -> usize {
        while self.steps < LONGEST {
            let at = self.start.wrapping_add(self.steps.wrapping_mul(self.step));
            let slot = (at % KATRAN_RING_SLOTS) as usize;
            self.steps += 1;
            if ring[slot] == NO_REAL {
                return slot;
            }
        }
        // Katran goes on for ever here.
        ring.iter()
            .position(|real| *real == NO_REAL)
            .unwrap_or_default()
    }
}

/// Builds the table; `reals` is not empty.
pub(super) fn build(reals: &[Candidate]) -> Vec<u16> {
    let mut order: Vec<&Candidate> = reals.iter().collect();
    order.sort_by_key(|real| real.key);
    let largest = reals.iter().map(|real| real.weight).max().unwrap_or(1);
    let mut walks: Vec<Walk> = order
        .iter()
        .map(|real| {
            let (start, step) = endpoint_hash::walk(real.key);
            Walk {
                start,
                step,
                steps: 0,
                credit: 0,
            }
        })
        .collect();
    let mut ring = vec![NO_REAL; KATRAN_RING_SLOTS as usize];
    let mut free = ring.len();
    loop {
        for (real, walk) in order.iter().zip(&mut walks) {
            walk.credit += real.weight;
            if walk.credit < largest {
                continue;
            }
            walk.credit -= largest;
            let slot = walk.next(&ring);
            ring[slot] = real.position;
            free -= 1;
            if free == 0 {
                return ring;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::ring::{Algorithm, build};

    /// The ring of the addresses with this prefix and last parts 1, 2 and 3. Positions are in another order than that of
    /// the addresses, and the weight 0 is one more.
    fn ring(prefix: &str, weights: [u32; 3]) -> Vec<u32> {
        let real = |last: u32| -> IpAddr { format!("{prefix}{last}").parse().unwrap() };
        let reals =
            [3, 9, 1, 2].map(|last| (real(last), *weights.get(last as usize - 1).unwrap_or(&0)));
        build(Algorithm::MaglevKatran, 5, KATRAN_RING_SLOTS, &reals)
            .into_iter()
            .map(|position| [3, 9, 1, 2][usize::from(position)])
            .collect()
    }

    /// The beginning of the SHA-256 of a ring whose reals have these numbers, in words of 32 bits, lowest byte first.
    fn sum(ring: &[u32]) -> String {
        let bytes: Vec<u8> = ring
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let digest = ::ring::digest::digest(&::ring::digest::SHA256, &bytes);
        digest.as_ref()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    #[test]
    fn rings_are_katrans() {
        let v4 = ring("10.0.0.", [1, 1, 1]);
        assert_eq!(v4[..10], [2, 1, 3, 2, 1, 3, 3, 1, 1, 2]);
        assert_eq!(sum(&v4), "2790e8c3fe9ecc1f");
        assert_eq!(v4[43_349], 2);
        assert_eq!(ring("10.0.0.", [100, 100, 100]), v4);
        assert_eq!(sum(&ring("10.0.0.", [1, 2, 3])), "134807bb0864c1b3");
        // Katran numbered these after the first three.
        let v6: Vec<u32> = ring("fc00::", [1, 1, 1])
            .iter()
            .map(|number| number + 3)
            .collect();
        assert_eq!(sum(&v6), "9a7f34b7affeac70");
        assert!(ring("10.0.0.", [0, 7, 0]).iter().all(|number| *number == 2));
    }

    #[test]
    fn a_walk_that_does_not_meet_every_slot_ends() {
        let mut ring = vec![0; KATRAN_RING_SLOTS as usize];
        for start in [0, 1, 65_536] {
            let mut met = Walk {
                start,
                step: 65_536,
                steps: 0,
                credit: 0,
            };
            let mut free = vec![NO_REAL; KATRAN_RING_SLOTS as usize];
            for _ in 0..KATRAN_RING_SLOTS {
                let slot = met.next(&free);
                assert_eq!(std::mem::replace(&mut free[slot], 0), NO_REAL);
            }
            for step in [1, 2, 32_768, 65_535] {
                for slot in [0, start, 65_536] {
                    ring[slot as usize] = NO_REAL;
                    let mut walk = Walk {
                        start,
                        step,
                        steps: 0,
                        credit: 0,
                    };
                    assert_eq!(walk.next(&ring), slot as usize);
                    assert!(walk.steps <= KATRAN_RING_SLOTS, "{start} {step} {slot}");
                    ring[slot as usize] = 0;
                }
            }
        }
    }
}
