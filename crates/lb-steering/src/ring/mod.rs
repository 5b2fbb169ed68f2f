//! Rings: the look-up tables that map a flow's hash to a real.
//!
//! A ring is a pure function of (seed, slots, set of (address, weight)): the order in which reals are listed, the
//! machine and the history have no influence, so two balancers with the same input build the same bytes. All
//! arithmetic is on integers for that reason.
//!
//! - [`Algorithm::Rendezvous`] (default): weighted rendezvous hashing with a cap, see `rendezvous`. It moves the
//!   fewest flows when a weight changes.
//! - [`Algorithm::Maglev`]: see `maglev`. It is the most even one, and moves more.
//! - [`Algorithm::MaglevKatran`]: see `maglev_katran`. It is that of Katran, whatever the seed and the ports of reals.

mod endpoint_hash;
mod maglev;
mod maglev_katran;
mod permutation;
mod rendezvous;

use std::{net::IpAddr, sync::Arc};

use lb_common::limits::{MAX_RING_SLOTS, MIN_RING_SLOTS};
pub use lb_model::ring::{Algorithm, NO_REAL, default_slots};
use lb_model::vip::RealId;

/// A real that takes flows.
#[derive(Clone, Copy)]
struct Candidate {
    /// Position in the caller's list.
    position: u16,
    /// Greater than 0.
    weight: u32,
    /// Hash of the seed and the address; in a ring of Katran's, of the address alone.
    key: u64,
}

/// Builds a ring: for each slot the position in `reals` of the real that takes its flows, or [`NO_REAL`] everywhere
/// if no real has a weight above 0. Weights above 65,535 count as 65,535. Addresses should be distinct; of several
/// entries with one address only one is used.
///
/// # Panics
/// If `slots` is not a power of two from 256 to 65,536, or not the number that the algorithm has, or if `reals` has
/// 65,535 entries or more. Callers validate both.
#[must_use]
pub fn build<R: Copy + Into<RealId>>(
    algorithm: Algorithm,
    seed: u64,
    slots: u32,
    reals: &[(R, u32)],
) -> Vec<u16> {
    match algorithm.fixed_slots() {
        Some(fixed) => assert_eq!(slots, fixed, "slots of a ring {algorithm}"),
        None => assert!(
            slots.is_power_of_two() && (MIN_RING_SLOTS..=MAX_RING_SLOTS).contains(&slots),
            "a ring has a power of two of slots, {MIN_RING_SLOTS} to {MAX_RING_SLOTS}; not {slots}"
        ),
    }
    assert!(
        reals.len() < usize::from(NO_REAL),
        "a ring names fewer than {NO_REAL} reals"
    );
    let candidates = candidates(algorithm, seed, reals);
    if candidates.is_empty() {
        return vec![NO_REAL; slots as usize];
    }
    match algorithm {
        Algorithm::Rendezvous => rendezvous::build(slots, &candidates),
        Algorithm::Maglev => maglev::build(slots, &candidates),
        Algorithm::MaglevKatran => maglev_katran::build(&candidates),
    }
}

/// [`build`], as the shared slice that the data plane takes.
#[must_use]
pub fn build_shared<R: Copy + Into<RealId>>(
    algorithm: Algorithm,
    seed: u64,
    slots: u32,
    reals: &[(R, u32)],
) -> Arc<[u16]> {
    build(algorithm, seed, slots, reals).into()
}

/// Returns the reals that take flows, in an order that depends on their addresses only.
fn candidates<R: Copy + Into<RealId>>(
    algorithm: Algorithm,
    seed: u64,
    reals: &[(R, u32)],
) -> Vec<Candidate> {
    let key = |real: RealId| match algorithm {
        Algorithm::Rendezvous | Algorithm::Maglev => permutation::key(seed, real),
        Algorithm::MaglevKatran => endpoint_hash::of_address(real.address),
    };
    let mut order: Vec<(RealId, u32, u16)> = (0u16..)
        .zip(reals)
        .filter(|(_, (_, weight))| *weight > 0)
        .map(|(position, (real, weight))| {
            (
                (*real).into(),
                (*weight).min(lb_common::limits::MAX_WEIGHT),
                position,
            )
        })
        .collect();
    // The weight is part of the key so that even a duplicate address gives the same ring in any order.
    order.sort_unstable();
    order.dedup_by_key(|entry| entry.0);
    order
        .into_iter()
        .map(|(address, weight, position)| Candidate {
            position,
            weight,
            key: key(address),
        })
        .collect()
}

/// Returns the share of the slots, 0.0 to 1.0, of each of `reals` positions, in order.
#[must_use]
pub fn shares(ring: &[u16], reals: usize) -> Vec<f64> {
    let mut counts = vec![0u32; reals];
    for &position in ring {
        if let Some(count) = counts.get_mut(usize::from(position)) {
            *count += 1;
        }
    }
    let slots = ring.len().max(1) as f64;
    counts
        .into_iter()
        .map(|count| f64::from(count) / slots)
        .collect()
}

/// Returns the share of the hash space, 0.0 to 1.0, whose real differs between two rings. Each ring comes with the
/// addresses of its positions. Rings of different sizes can be compared: a flow's slot is its hash scaled to the
/// size, so a slot of the smaller ring covers several of the larger.
#[must_use]
pub fn moved<R: Copy + PartialEq>(before: (&[u16], &[R]), after: (&[u16], &[R])) -> f64 {
    let slots = before.0.len().max(after.0.len());
    if before.0.is_empty() || after.0.is_empty() {
        return if slots == 0 { 0.0 } else { 1.0 };
    }
    let address = |ring: (&[u16], &[R]), slot: usize| {
        ring.1
            .get(usize::from(ring.0[slot * ring.0.len() / slots]))
            .copied()
    };
    let changed = (0..slots)
        .filter(|&slot| address(before, slot) != address(after, slot))
        .count();
    changed as f64 / slots as f64
}

/// Returns the share of the flows, 0.0 to 1.0, whose real differs between two rings with different hashes of flows: a
/// flow's slot in one says nothing of its slot in the other. The rings are as [`moved`] takes them.
#[must_use]
pub fn moved_by_hash<R: Copy + PartialEq>(before: (&[u16], &[R]), after: (&[u16], &[R])) -> f64 {
    let [were, are] = [before, after].map(|(ring, reals)| shares(ring, reals.len()));
    let stays = before.1.iter().zip(were).map(|(real, share)| {
        let same = after.1.iter().position(|other| other == real);
        share * same.map_or(0.0, |position| are[position])
    });
    1.0 - stays.sum::<f64>()
}

/// Returns the checksum of a ring, 16 hexadecimal digits. It covers the addresses slot by slot, so it is the same on
/// every balancer whose ring sends every flow to the same real.
///
/// The checksum is 64-bit FNV-1a over, for each slot, the real's address as 16 bytes in network order (IPv4 as
/// IPv4-mapped, `::ffff:a.b.c.d`) and, if the real is named with one, its port as two bytes; 16 zero bytes for a slot
/// without a real.
#[must_use]
pub fn checksum<R: Copy + Into<RealId>>(ring: &[u16], reals: &[R]) -> String {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes: Vec<Vec<u8>> = reals
        .iter()
        .map(|real| name_bytes((*real).into()))
        .collect();
    let none = vec![0; 16];
    let mut hash = OFFSET_BASIS;
    for &position in ring {
        for byte in bytes.get(usize::from(position)).unwrap_or(&none) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
    format!("{hash:016x}")
}

/// Returns the bytes of a real's name.
fn name_bytes(real: RealId) -> Vec<u8> {
    let port = real.port.map(|port| port.get().to_be_bytes());
    [
        &mapped(real.address)[..],
        port.as_ref().map_or(&[], |port| port),
    ]
    .concat()
}

/// Returns the address as 16 bytes, IPv4 as IPv4-mapped.
fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

#[cfg(test)]
mod tests;
