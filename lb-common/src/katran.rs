//! The flow hash of Katran, for services whose flows shall have the reals that a Katran beside the balancer gives them
//! (`ring = "maglev-katran"`).
//!
//! Katran takes the kernel's `jhash`, which is Bob Jenkins' lookup3, of the client's address and both ports, and of that
//! the remainder by the number of slots. Destination and protocol do not count.
//!
//! The tables know nothing of this: they have a ring hash of 64 bits whose high half is scaled to the number of slots
//! ([`crate::hash::slot_index`]), and whose high 20 bits name slot and class in the stamp of a flow
//! ([`crate::tables::flow::RING_BITS`]). So [`ring_hash`] makes one that leads to Katran's slot in both ways.

use crate::limits::KATRAN_RING_SLOTS;

/// The number that `jhash` begins with.
const JHASH_INITVAL: u32 = 0xDEAD_BEEF;
/// Katran's seed for the words of a flow: 512 times the slots of its ring.
const FLOW_SEED: u32 = 512 * KATRAN_RING_SLOTS;
/// Its seed for the 16 bytes of an IPv6 address.
const ADDRESS_SEED: u32 = 512;

/// The last steps of lookup3; the result is the last word.
#[inline(always)]
const fn finish([mut a, mut b, mut c]: [u32; 3]) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

/// The steps of lookup3 between words.
#[inline(always)]
const fn mix([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    [a, b, c]
}

/// `jhash` of two words.
#[inline(always)]
const fn of_two_words(a: u32, b: u32, seed: u32) -> u32 {
    let start = seed.wrapping_add(JHASH_INITVAL + (2 << 2));
    finish([start.wrapping_add(a), start.wrapping_add(b), start])
}

/// `jhash` of 16 bytes, which are two words of eight, lowest byte first.
#[inline(always)]
const fn of_address([first, second]: [u64; 2], seed: u32) -> u32 {
    let start = seed.wrapping_add(JHASH_INITVAL + 16);
    let [a, b, c] = mix([
        start.wrapping_add(first as u32),
        start.wrapping_add((first >> 32) as u32),
        start.wrapping_add(second as u32),
    ]);
    finish([a.wrapping_add((second >> 32) as u32), b, c])
}

/// Classes of flows that a slot can have: parts of the ring hash's high 20 bits that lie in one slot as a whole.
const PARTS: u64 = 15;
/// Bits of the ring hash below those.
const PART_SHIFT: u32 = 44;

/// A ring hash that leads to this slot of [`KATRAN_RING_SLOTS`]. What else it says comes from `other`, another hash of
/// the flow.
///
/// A slot has the numbers from 65,535 · slot + 1 to 65,535 · (slot + 1) of the hash's high half, since 65,537 · 65,535 is
/// 2^32 - 1. These are not a multiple of 2^12, but 15 stretches of 2^12 whose high 20 bits are the same lie among them:
/// `other` chooses one.
#[must_use]
#[inline(always)]
pub const fn ring_hash(slot: u32, other: u64) -> u64 {
    let part = ((other >> 32) * PARTS) >> 32;
    let first = (slot as u64 * (KATRAN_RING_SLOTS as u64 - 2) + (1 << 12)) >> 12;
    (first + part) << PART_SHIFT | other & ((1 << PART_SHIFT) - 1)
}

/// The ring hash of a flow of IPv4, whose source and ports are as they lie in the packet; see [`ring_hash`].
///
/// A function of its own, likewise [`of_flow6`]: its words take no registers of packets of other services.
#[must_use]
#[inline(never)]
pub fn of_flow4(source: u32, ports: u32, other: u64) -> u64 {
    let hash = of_two_words(u32::from_le(source), u32::from_le(ports), FLOW_SEED);
    ring_hash(hash % KATRAN_RING_SLOTS, other)
}

/// The ring hash of a flow of IPv6.
#[must_use]
#[inline(never)]
pub fn of_flow6(first: u64, second: u64, ports: u32, other: u64) -> u64 {
    let source = of_address([u64::from_le(first), u64::from_le(second)], ADDRESS_SEED);
    let hash = of_two_words(source, u32::from_le(ports), FLOW_SEED);
    ring_hash(hash % KATRAN_RING_SLOTS, other)
}

const _: () = assert!(KATRAN_RING_SLOTS as u64 * (KATRAN_RING_SLOTS as u64 - 2) == u32::MAX as u64);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{
        hash::slot_index,
        tables::{
            flow::ring_bits,
            ring::{CLASSES, class_of},
        },
    };

    fn ports(source: u16, destination: u16) -> u32 {
        let ([a, b], [c, d]) = (source.to_be_bytes(), destination.to_be_bytes());
        u32::from_ne_bytes([a, b, c, d])
    }

    fn slot4(source: [u8; 4], source_port: u16) -> u32 {
        let hash = of_flow4(u32::from_ne_bytes(source), ports(source_port, 80), 0);
        slot_index(hash, KATRAN_RING_SLOTS)
    }

    #[test]
    fn flows_have_katrans_slots() {
        assert_eq!(slot4([172, 16, 0, 1], 31_337), 43_349);
        assert_eq!(
            of_two_words(
                u32::from_le_bytes([172, 16, 0, 1]),
                u32::from_le_bytes([0x7A, 0x69, 0, 80]),
                FLOW_SEED
            ),
            0x718E_1AE2
        );
        // From a second implementation, in another language, which gives lookup3's published results.
        let address = |text: &str| {
            let octets = text.parse::<std::net::Ipv6Addr>().unwrap().octets();
            let half = |at: usize| u64::from_ne_bytes(octets[at..at + 8].try_into().unwrap());
            [half(0), half(8)]
        };
        for (text, slot) in [("fc00:2::1", 37_505), ("2001:db8::7", 48_442)] {
            let [first, second] = address(text);
            let hash = of_flow6(first, second, ports(31_337, 80), 0);
            assert_eq!(slot_index(hash, KATRAN_RING_SLOTS), slot, "{text}");
        }
    }

    #[test]
    fn each_slot_has_hashes_of_its_own_whatever_the_other_hash_is() {
        let mut classes = [0_u32; CLASSES as usize];
        let mut seen = HashSet::new();
        for slot in 0..KATRAN_RING_SLOTS {
            for part in 0..PARTS {
                for rest in [0, 0xFFFF_FFFF] {
                    // The high half of the other hash chooses the part.
                    let least = (part << 32).div_ceil(PARTS) << 32;
                    let hash = ring_hash(slot, least | rest);
                    assert_eq!(slot_index(hash, KATRAN_RING_SLOTS), slot);
                    let bits = u64::from(ring_bits(hash));
                    assert_eq!((bits * u64::from(KATRAN_RING_SLOTS)) >> 20, slot.into());
                    seen.insert(bits);
                    classes[class_of(hash) as usize] += 1;
                }
            }
        }
        assert_eq!(seen.len(), KATRAN_RING_SLOTS as usize * PARTS as usize);
        // One class has twice the flows of the others, as with other rings.
        let all = 2 * KATRAN_RING_SLOTS * PARTS as u32;
        assert!(classes.iter().all(|count| *count > all / 17), "{classes:?}");
        assert_eq!(slot_index(ring_hash(0, u64::MAX), KATRAN_RING_SLOTS), 0);
        let last = KATRAN_RING_SLOTS - 1;
        assert_eq!(
            slot_index(ring_hash(last, u64::MAX), KATRAN_RING_SLOTS),
            last
        );
    }

    #[test]
    fn the_rest_of_the_hash_is_that_of_the_other_one() {
        let other = 0x0123_4567_89AB_CDEF;
        let hash = of_flow4(1, 2, other);
        assert_eq!(hash & 0xFFF_FFFF_FFFF, other & 0xFFF_FFFF_FFFF);
        assert_ne!(of_flow4(1, 2, !other) >> 44, hash >> 44);
    }
}
