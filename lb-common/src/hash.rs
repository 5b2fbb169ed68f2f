//! The two hashes: the ring's, the same on every balancer of a fleet, and the flow table's, keyed with a
//! secret of this host.
//!
//! Both are multiply and xor-shift mixers over whole words. Addresses and ports come as they lie in the
//! packet and are taken as little-endian numbers, so that the result does not depend on the machine.

use crate::{
    codegen::{apart, opaque},
    katran,
    tables::{
        nat::widened,
        service::{HASH_MASK, HASH_OF_DESTINATION, HASH_OF_KATRAN, HASH_OF_PORT, HASH_OF_SOURCE},
    },
};

/// Addresses of an IPv4 packet, as they lie in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(8))]
pub struct Addresses4 {
    /// Source.
    pub source: u32,
    /// Destination: the VIP's.
    pub destination: u32,
}

/// Addresses of an IPv6 packet, as they lie in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses6 {
    /// Source.
    pub source: [u64; 2],
    /// Destination: the VIP's.
    pub destination: [u64; 2],
}

/// The hashes of a packet, by its addresses.
pub trait Addresses: Copy {
    /// The bits of source and destination that these masks have.
    #[must_use]
    fn masked(&self, source: u64, destination: u64) -> Self;
    /// The part of the source that these masks have, those of IPv4 and of the first half of IPv6, and no destination.
    #[must_use]
    fn source_prefix(&self, mask4: u32, mask6: u64) -> Self;
    /// Source and destination as they lie in the packet, each with room for an address of either family: IPv4 is in the
    /// first four bytes.
    fn wide(&self) -> [[u64; 2]; 2];
    /// Whether source and destination are the same.
    fn are_one(&self) -> bool;
    /// Hash for the ring. The high half chooses the slot; every bit is usable.
    fn ring_hash(&self, seed: u64, ports: u32, protocol: u32) -> u64;
    /// Hash for a ring of Katran's: of the source and the ports. `other` is another hash of the flow, of which it has
    /// what does not choose the slot.
    fn katran_hash(&self, ports: u32, other: u64) -> u64;
    /// Hash for the flow table: it identifies the flow within its service.
    fn flow_hash(&self, secret: [u64; 2], ports: u32, service: u32) -> u64;
}

// Odd constants without structure: fractional parts of the golden ratio and of square roots.
const K0: u64 = 0x9E37_79B9_7F4A_7C15;
const K1: u64 = 0xD6E8_FEB8_6659_FD93;
const K2: u64 = 0xBB67_AE85_84CA_A73B;
const K3: u64 = 0x3C6E_F372_FE94_F82B;

/// One round: multiply, then fold the well mixed high bits down.
#[inline(always)]
const fn round(value: u64, factor: u64) -> u64 {
    let product = value.wrapping_mul(factor);
    product ^ product >> 32
}

/// `ports` and another number in one word.
#[inline(always)]
const fn beside(ports: u32, number: u32) -> u64 {
    u32::from_le(ports) as u64 | (number as u64) << 32
}

/// The ring hash of a flow of a service with these flags.
///
/// What does not count is masked and not chosen by branches, of which the kernel's verifier would follow each.
#[inline(always)]
pub fn of_flow<A: Addresses>(
    seed: u64,
    service_flags: u32,
    addresses: &A,
    ports: u32,
    protocol: u32,
) -> u64 {
    let hash = service_flags & HASH_MASK;
    if hash == 0 {
        return addresses.ring_hash(seed, ports, protocol);
    }
    apart();
    let has = |bit: u32| ((hash & bit != 0) as u64).wrapping_neg();
    let ports_count =
        0xFFFF_0000_u32.to_le() & has(HASH_OF_PORT) as u32 | has(HASH_OF_KATRAN) as u32;
    let made = addresses
        .masked(has(HASH_OF_SOURCE), has(HASH_OF_DESTINATION))
        .ring_hash(
            seed,
            ports & ports_count,
            protocol & has(HASH_OF_DESTINATION) as u32,
        );
    if hash & HASH_OF_KATRAN == 0 {
        return made;
    }
    addresses.katran_hash(ports, made)
}

impl Addresses for Addresses4 {
    #[inline(always)]
    fn masked(&self, source: u64, destination: u64) -> Self {
        Addresses4 {
            source: self.source & source as u32,
            destination: self.destination & destination as u32,
        }
    }

    #[inline(always)]
    fn source_prefix(&self, mask4: u32, _mask6: u64) -> Self {
        Addresses4 {
            source: self.source & mask4,
            destination: 0,
        }
    }

    #[inline(always)]
    fn wide(&self) -> [[u64; 2]; 2] {
        [widened(self.source), widened(self.destination)]
    }

    #[inline(always)]
    fn are_one(&self) -> bool {
        self.source == self.destination
    }

    #[inline(always)]
    fn ring_hash(&self, seed: u64, ports: u32, protocol: u32) -> u64 {
        let addresses = beside(self.source, u32::from_le(self.destination));
        let hash = round(addresses ^ seed, K0);
        let hash = round(hash ^ beside(ports, protocol), K1);
        opaque(round(hash, K2))
    }

    #[inline(always)]
    fn katran_hash(&self, ports: u32, other: u64) -> u64 {
        katran::of_flow4(self.source, ports, other)
    }

    #[inline(always)]
    fn flow_hash(&self, secret: [u64; 2], ports: u32, service: u32) -> u64 {
        let flow = beside(ports, u32::from_le(self.source));
        let hash = round(flow ^ secret[0], K0 ^ (secret[1] & !1));
        let hash = round(hash ^ service as u64 ^ secret[1], K1);
        round(hash ^ secret[0] >> 7, K2)
    }
}

impl Addresses for Addresses6 {
    #[inline(always)]
    fn masked(&self, source: u64, destination: u64) -> Self {
        Addresses6 {
            source: self.source.map(|half| half & source),
            destination: self.destination.map(|half| half & destination),
        }
    }

    #[inline(always)]
    fn source_prefix(&self, _mask4: u32, mask6: u64) -> Self {
        Addresses6 {
            source: [self.source[0] & mask6, 0],
            destination: [0, 0],
        }
    }

    #[inline(always)]
    fn wide(&self) -> [[u64; 2]; 2] {
        [self.source, self.destination]
    }

    #[inline(always)]
    fn are_one(&self) -> bool {
        (self.source[0] ^ self.destination[0]) | (self.source[1] ^ self.destination[1]) == 0
    }

    #[inline(always)]
    fn ring_hash(&self, seed: u64, ports: u32, protocol: u32) -> u64 {
        let destination = self.destination;
        let source = [u64::from_le(self.source[0]), u64::from_le(self.source[1])];
        // The two halves do not wait for each other.
        let prefix = round(source[0] ^ seed, K0).wrapping_add(u64::from_le(destination[0]));
        let host =
            round(source[1] ^ seed.rotate_left(32), K3).wrapping_add(u64::from_le(destination[1]));
        let hash = round(prefix, K3) ^ round(host, K0).rotate_left(23);
        let hash = round(hash ^ beside(ports, protocol), K1);
        opaque(round(hash, K2))
    }

    #[inline(always)]
    fn katran_hash(&self, ports: u32, other: u64) -> u64 {
        let [first, second] = self.source;
        katran::of_flow6(first, second, ports, other)
    }

    #[inline(always)]
    fn flow_hash(&self, secret: [u64; 2], ports: u32, service: u32) -> u64 {
        let source = [u64::from_le(self.source[0]), u64::from_le(self.source[1])];
        let prefix = round(source[0] ^ secret[0], K0 ^ (secret[1] & !1));
        let host = round(source[1] ^ secret[1], K3 ^ (secret[0] & !1));
        let hash = round(
            prefix.rotate_left(23) ^ host ^ beside(ports, service),
            K1 ^ (secret[1] & !1),
        );
        round(hash ^ secret[0] >> 7, K2)
    }
}

/// The slot of a ring of `slots` that a hash leads to: the hash's high half, scaled.
#[must_use]
#[inline(always)]
pub const fn slot_index(hash: u64, slots: u32) -> u32 {
    (((hash >> 32) * slots as u64) >> 32) as u32
}

/// The two buckets of the flow table that a flow may be in, and its tag there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketPair {
    /// 48 bits, never 0.
    pub tag: u64,
    /// The bucket in which the flow is looked for first.
    pub first: u32,
    /// The other bucket.
    pub second: u32,
}

impl BucketPair {
    /// The buckets of a flow with this [`Addresses::flow_hash`] in a table of `mask` + 1 buckets.
    #[must_use]
    #[inline(always)]
    pub const fn new(hash: u64, mask: u32) -> BucketPair {
        // The tag takes all but 16 bits of the hash itself, so the buckets come from another product: a flow
        // is taken for another one only if both tag and bucket agree.
        let buckets = hash.wrapping_mul(K3);
        let first = (buckets >> 32) as u32 & mask;
        let tag = hash >> 16;
        BucketPair {
            tag: if tag == 0 { 1 } else { tag },
            first,
            second: (first ^ (buckets as u32 >> 3 | 1)) & mask,
        }
    }
}
