//! Weighted rendezvous hashing with a cap.
//!
//! Every pair of a slot and a real has a score; the slot belongs to the real with the lowest one. With scores that
//! are exponential variables divided by the weight, each real wins a share in proportion to its weight, and a
//! changed weight moves only the slots that its own scores win or lose.
//!
//! **Scores without logarithms.** A real ranks the slots by a permutation of its own, and the slot with
//! rank k gets the mean of the (k+1)-th smallest of N exponential variables: 1/N + 1/(N-1) + … + 1/(N-k)
//! (Rényi 1953). That takes integer divisions only, so the bytes are the same on every machine; and
//! a column's scores are spread evenly instead of at random, which halves the variance of the shares.
//!
//! **The cap.** No real gets more than its fair share plus [`allowance`]. The assignment is the stable matching of
//! slots and reals in which both prefer the lower score: take all pairs by ascending score, and match a pair if the
//! slot is free and the real below its cap. No two pairs compare equal, so there is exactly one such matching,
//! whichever way it is found, and the ring remains a function of its input.
//!
//! **Finding it quickly.** Low ranks come first, so looking at the few lowest ranks of each real settles most slots:
//! about N · ln n steps instead of N · n for n reals. Slots that stay open, and slots that a full real returns,
//! search all reals.

use std::{collections::BinaryHeap, sync::OnceLock};

use lb_common::limits::MAX_RING_SLOTS;

use super::{Candidate, permutation::Permutation};

/// Binary digits after the point of a rank's score before it is divided by the weight.
const SCORE_BITS: u32 = 40;
/// Binary digits after the point of a weight's reciprocal.
const RECIPROCAL_BITS: u32 = 36;
/// Digits dropped from their product, so that it fits 64 bits: the largest score is 12 (> ln 65,536 + 0.58) < 2^4,
/// at weight 1.
const DROPPED_BITS: u32 = 18;

const _: () = assert!(SCORE_BITS + RECIPROCAL_BITS + 4 - DROPPED_BITS <= 62);

/// How far a real may exceed its fair share of `fair` slots, in slots: 1.25 √fair, about 1.8 standard deviations of
/// its number of slots without a cap. So the same fraction of the reals is capped in every ring, and a change of all
/// fair shares moves the same small fraction of the slots. At 1,024 slots per real (65,536 slots, 64 reals) it is
/// 3.9 %. Measured there, mean of 24 sets: peak 1.039 of the fair share, 1.04 times the moves that a weight change
/// needs, and 0.014 % of the ring moved needlessly by a removal. With half of the allowance: 1.02, 1.16 times and
/// 0.07 %.
fn allowance(fair: u64) -> u64 {
    (fair * 25 / 16).isqrt()
}

/// A real's column of the score matrix, computed on demand.
struct Column<'a> {
    permutation: Permutation,
    /// The scores by rank, common to all columns.
    ranks: &'a [u64],
    /// 1 / weight.
    reciprocal: u64,
    /// The most slots that the real may have.
    cap: usize,
}

impl Column<'_> {
    #[inline(always)]
    fn score_of_rank(&self, rank: u32) -> u64 {
        scale(self.ranks[rank as usize], self.reciprocal)
    }

    #[inline(always)]
    fn score(&self, slot: u32) -> u64 {
        self.score_of_rank(self.permutation.rank(slot))
    }
}

#[inline(always)]
fn scale(score: u64, reciprocal: u64) -> u64 {
    ((u128::from(score) * u128::from(reciprocal)) >> DROPPED_BITS) as u64
}

/// Builds the ring; `reals` is not empty, sorted by address.
pub(super) fn build(slots: u32, reals: &[Candidate]) -> Vec<u16> {
    let total: u64 = reals.iter().map(|real| u64::from(real.weight)).sum();
    let ranks = rank_scores(slots);
    let columns: Vec<Column<'_>> = reals
        .iter()
        .map(|real| {
            let fair = (u64::from(real.weight) * u64::from(slots)).div_ceil(total);
            Column {
                permutation: Permutation::new(real.key, slots),
                ranks,
                reciprocal: (1 << RECIPROCAL_BITS) / u64::from(real.weight),
                cap: (fair + allowance(fair)) as usize,
            }
        })
        .collect();
    let mut owners = best(slots, &columns, total);
    respect_caps(&mut owners, &columns);
    owners
        .into_iter()
        .map(|owner| reals[real_of(owner)].position)
        .collect()
}

/// Sort key of a pair: the score's upper 48 bits, then the real's index in the order of addresses. The lower 16 bits
/// of a score carry no information, as two ranks of one real are at least 2^26 apart. One word per slot keeps the
/// table in the cache.
type Pair = u64;
/// Greater than any pair.
const NO_PAIR: Pair = u64::MAX;

#[inline(always)]
fn pair(score: u64, real: u16) -> Pair {
    score & !0xFFFF | u64::from(real)
}

#[inline(always)]
fn real_of(pair: Pair) -> usize {
    usize::from(pair as u16)
}

/// Returns the best pair of every slot, caps aside.
fn best(slots: u32, columns: &[Column<'_>], total: u64) -> Vec<Pair> {
    let mut owners = vec![NO_PAIR; slots as usize];
    // Up to this score, all but about one in `2n` slots have a pair.
    let turns = u64::from(usize::BITS - columns.len().leading_zeros());
    let horizon = (turns << (SCORE_BITS + RECIPROCAL_BITS - DROPPED_BITS)) / total;
    for (real, column) in (0u16..).zip(columns) {
        for rank in 0..slots {
            let score = column.score_of_rank(rank);
            if score > horizon {
                break;
            }
            let owner = &mut owners[column.permutation.slot(rank) as usize];
            *owner = pair(score, real).min(*owner);
        }
    }
    for (slot, owner) in (0u32..).zip(&mut owners) {
        if *owner == NO_PAIR {
            // No pair is 0.
            *owner = next_after(0, slot, columns);
        }
    }
    owners
}

/// Returns the slot's best pair after `last`.
fn next_after(last: Pair, slot: u32, columns: &[Column<'_>]) -> Pair {
    let mut next = NO_PAIR;
    for (real, column) in (0u16..).zip(columns) {
        let candidate = pair(column.score(slot), real);
        if candidate > last && candidate < next {
            next = candidate;
        }
    }
    next
}

/// Turns the best pairs into the stable matching: full reals return their worst slots, which go to their next best
/// real, and so on (deferred acceptance, Gale and Shapley 1962).
fn respect_caps(owners: &mut [Pair], columns: &[Column<'_>]) {
    let mut held = vec![0usize; columns.len()];
    for &owner in owners.iter() {
        held[real_of(owner)] += 1;
    }
    // The slots of a real that is full, the worst first.
    let mut full: Vec<Option<BinaryHeap<(Pair, u32)>>> = held
        .iter()
        .zip(columns)
        .map(|(&held, column)| (held >= column.cap).then(BinaryHeap::new))
        .collect();
    for (slot, &owner) in (0u32..).zip(owners.iter()) {
        if let Some(slots) = &mut full[real_of(owner)] {
            slots.push((owner, slot));
        }
    }
    let mut unassigned: Vec<(Pair, u32)> = Vec::new();
    for (column, slots) in columns.iter().zip(&mut full) {
        let Some(slots) = slots else { continue };
        while slots.len() > column.cap {
            unassigned.extend(slots.pop());
        }
    }
    while let Some((rejected, slot)) = unassigned.pop() {
        let pair = next_after(rejected, slot, columns);
        // The caps add up to at least the number of slots, so a slot never runs out of reals.
        debug_assert!(pair != NO_PAIR, "every slot has a real left to try");
        owners[slot as usize] = pair;
        let real = real_of(pair);
        match &mut full[real] {
            Some(slots) => {
                slots.push((pair, slot));
                unassigned.extend(slots.pop());
            }
            none => {
                held[real] += 1;
                if held[real] == columns[real].cap {
                    // An unassigned slot is still listed with the real that rejected it, which is another one.
                    let owned = (0u32..)
                        .zip(owners.iter())
                        .filter(|(_, owner)| real_of(**owner) == real);
                    *none = Some(owned.map(|(slot, &owner)| (owner, slot)).collect());
                }
            }
        }
    }
}

/// Returns the scores of a column by rank, for weight 1.
fn rank_scores(slots: u32) -> &'static [u64] {
    const SIZES: usize = MAX_RING_SLOTS.trailing_zeros() as usize + 1;
    static TABLES: [OnceLock<Vec<u64>>; SIZES] = [const { OnceLock::new() }; SIZES];
    TABLES[slots.trailing_zeros() as usize].get_or_init(|| {
        let mut score = 0;
        (0..slots)
            .map(|rank| {
                score += (1u64 << SCORE_BITS) / u64::from(slots - rank);
                score
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::permutation::mix;

    /// The definition: all pairs by ascending score, matched if slot and real have room.
    fn by_definition(slots: u32, reals: &[Candidate]) -> Vec<u16> {
        let total: u64 = reals.iter().map(|real| u64::from(real.weight)).sum();
        let mut pairs = Vec::new();
        for (index, real) in reals.iter().enumerate() {
            let permutation = Permutation::new(real.key, slots);
            for (rank, score) in (0u32..).zip(rank_scores(slots)) {
                let score = scale(*score, (1 << RECIPROCAL_BITS) / u64::from(real.weight));
                pairs.push((pair(score, index as u16), permutation.slot(rank)));
            }
        }
        pairs.sort_unstable();
        let mut ring = vec![u16::MAX; slots as usize];
        let mut held = vec![0; reals.len()];
        for (pair, slot) in pairs {
            let index = real_of(pair);
            let fair = (u64::from(reals[index].weight) * u64::from(slots)).div_ceil(total);
            if ring[slot as usize] == u16::MAX && held[index] < fair + allowance(fair) {
                held[index] += 1;
                ring[slot as usize] = reals[index].position;
            }
        }
        ring
    }

    #[test]
    fn the_fast_algorithm_finds_the_defined_matching() {
        for case in 0..60u64 {
            let count = 1 + mix(case) % 90;
            let reals: Vec<Candidate> = (0..count)
                .map(|i| Candidate {
                    position: i as u16,
                    weight: 1
                        + (mix(case ^ i << 8) % [1, 4, 100, 65_535][case as usize % 4]) as u32,
                    key: mix(case << 32 | i),
                })
                .collect();
            let slots = [256, 1_024, 4_096][case as usize % 3];
            assert_eq!(
                build(slots, &reals),
                by_definition(slots, &reals),
                "case {case}"
            );
        }
    }

    #[test]
    fn scores_are_near_logarithms() {
        let scores = rank_scores(65_536);
        for rank in [0usize, 100, 32_768, 60_000] {
            let exact = -(1.0 - (rank as f64 + 0.5) / 65_536.0).ln() * (1u64 << SCORE_BITS) as f64;
            let ratio = scores[rank] as f64 / exact;
            assert!(
                (ratio - 1.0).abs() < if rank == 0 { 1.01 } else { 0.006 },
                "rank {rank}: {ratio}"
            );
        }
        assert!(scores.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
