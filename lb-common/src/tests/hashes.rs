//! Spread of the hashes.

use std::{collections::HashSet, vec};

use crate::hash::{Addresses as _, Addresses4, Addresses6, BucketPair, slot_index};

const SEED: u64 = 0x5EED_5EED_5EED_5EED;
const SECRET: [u64; 2] = [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210];

/// Chi-squared of counts against their mean, divided by its degrees of freedom: about 1 for a good hash.
fn unevenness(counts: &[u32]) -> f64 {
    let mean = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    let sum: f64 = counts
        .iter()
        .map(|&count| (f64::from(count) - mean).powi(2) / mean)
        .sum();
    sum / (counts.len() - 1) as f64
}

fn ports(source: u16) -> u32 {
    let [a, b] = source.to_be_bytes();
    u32::from_ne_bytes([a, b, 0, 80])
}

#[test]
fn slots_are_hit_evenly_by_sequential_flows() {
    let slots = 1_000;
    let mut by_port = vec![0; slots];
    let mut by_address = vec![0; slots];
    let mut by_address6 = vec![0; slots];
    for n in 0..=u16::MAX {
        let client = Addresses4 {
            source: 0x0700_000A,
            destination: 0x0100_000A,
        };
        by_port[slot_index(client.ring_hash(SEED, ports(n), 6), slots as u32) as usize] += 1;
        let client = Addresses4 {
            source: (0x0A00_0000 + u32::from(n)).to_be(),
            ..client
        };
        by_address[slot_index(client.ring_hash(SEED, ports(1), 6), slots as u32) as usize] += 1;
        let client = Addresses6 {
            source: [0xB80D_0120, u64::from(n).to_be()],
            destination: [1, 2],
        };
        by_address6[slot_index(client.ring_hash(SEED, ports(1), 6), slots as u32) as usize] += 1;
    }
    for counts in [by_port, by_address, by_address6] {
        let unevenness = unevenness(&counts);
        assert!((0.8..1.2).contains(&unevenness), "{unevenness}");
    }
}

#[test]
fn every_bit_of_a_flow_changes_half_of_its_hash() {
    let base = Addresses4 {
        source: 0x0733_64C6,
        destination: 0x0100_000A,
    };
    let hash = base.ring_hash(SEED, 0x5000_409C, 6);
    for bit in 0..32 {
        let source = Addresses4 {
            source: base.source ^ 1 << bit,
            ..base
        };
        let destination = Addresses4 {
            destination: base.destination ^ 1 << bit,
            ..base
        };
        for (what, other) in [
            ("source", source.ring_hash(SEED, 0x5000_409C, 6)),
            ("destination", destination.ring_hash(SEED, 0x5000_409C, 6)),
            ("ports", base.ring_hash(SEED, 0x5000_409C ^ 1 << bit, 6)),
        ] {
            let changed = (hash ^ other).count_ones();
            assert!(
                (14..=50).contains(&changed),
                "{what}, bit {bit}: {changed} bits"
            );
        }
    }
    let base = Addresses6 {
        source: [0xB80D_0120, 7],
        destination: [0xB80D_0120, 1],
    };
    let hash = base.ring_hash(SEED, 0x5000_409C, 6);
    for bit in 0..64 {
        for word in 0..2 {
            let (mut source, mut destination) = (base, base);
            source.source[word] ^= 1 << bit;
            destination.destination[word] ^= 1 << bit;
            for other in [source, destination] {
                let changed = (hash ^ other.ring_hash(SEED, 0x5000_409C, 6)).count_ones();
                assert!(
                    (14..=50).contains(&changed),
                    "word {word}, bit {bit}: {changed} bits"
                );
            }
        }
    }
}

#[test]
fn hashes_do_not_change() {
    // A fleet's balancers must agree, so these values are part of the contract.
    let four = Addresses4 {
        source: u32::from_ne_bytes([198, 51, 100, 7]),
        destination: u32::from_ne_bytes([10, 0, 0, 1]),
    };
    let ports = u32::from_ne_bytes([0x9C, 0x40, 0, 80]);
    let six = Addresses6 {
        source: [
            u64::from_ne_bytes([0x20, 1, 0xD, 0xB8, 0, 7, 0, 0]),
            u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 7]),
        ],
        destination: [
            u64::from_ne_bytes([0x20, 1, 0xD, 0xB8, 0, 0, 0, 0]),
            u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 1]),
        ],
    };
    assert_eq!(four.ring_hash(SEED, ports, 6), HASH4);
    assert_eq!(six.ring_hash(SEED, ports, 6), HASH6);
    assert_ne!(
        four.ring_hash(SEED, ports, 6),
        four.ring_hash(SEED, ports, 17)
    );
    assert_ne!(
        four.ring_hash(SEED, ports, 6),
        four.ring_hash(SEED + 1, ports, 6)
    );
}

/// From a second implementation, written in another language.
const HASH4: u64 = 0x4E78_8F15_7419_8297;
/// See [`HASH4`].
const HASH6: u64 = 0x547B_39BA_9960_F5E5;

#[test]
fn places_of_flows_are_distinct_and_depend_on_the_secret() {
    let mask = 1_023;
    let mut tags = HashSet::new();
    let mut first = vec![0; mask as usize + 1];
    let mut second = vec![0; mask as usize + 1];
    let mut moved = 0;
    for n in 0..=u16::MAX {
        let client = Addresses4 {
            source: 0x0700_000A,
            destination: 0x0100_000A,
        };
        let place = BucketPair::new(client.flow_hash(SECRET, ports(n), 1), mask);
        assert_ne!(place.first, place.second);
        assert_ne!(place.tag, 0);
        assert!(place.tag < 1 << 48);
        tags.insert(place.tag);
        first[place.first as usize] += 1;
        second[place.second as usize] += 1;
        let other = BucketPair::new(
            client.flow_hash([SECRET[0] + 1, SECRET[1]], ports(n), 1),
            mask,
        );
        moved += u32::from(other.first != place.first);
        assert_ne!(
            BucketPair::new(client.flow_hash(SECRET, ports(n), 2), mask).tag,
            place.tag
        );
    }
    assert_eq!(tags.len(), 65_536);
    assert!(moved > 65_000, "{moved}");
    for counts in [first, second] {
        let unevenness = unevenness(&counts);
        assert!((0.8..1.2).contains(&unevenness), "{unevenness}");
    }
    assert_eq!(
        BucketPair::new(0, 0),
        BucketPair {
            tag: 1,
            first: 0,
            second: 0
        }
    );
}
