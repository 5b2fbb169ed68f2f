//! The hashes by which Katran places a real in its ring: of the real's address, and of that hash the start and the step
//! of its walk over the slots.
//!
//! Only inputs of 16 bytes are needed of SpookyHash and of MurmurHash3, which are both in the public domain, so that is
//! all there is of them.

use std::net::IpAddr;

use lb_common::limits::KATRAN_RING_SLOTS;

/// Families, as a part of the hash of an address: the numbers that Linux has for them.
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;

/// Returns the hash of a real's address.
pub(super) fn of_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => pair(AF_INET, fnv32(address.octets()).into()),
        IpAddr::V6(address) => {
            let [first, second] = spooky128(address.octets());
            pair(AF_INET6, pair(first, second))
        }
    }
}

/// Returns the first slot and the step of the walk of a real with this hash, over a ring of [`KATRAN_RING_SLOTS`].
pub(super) fn walk(hash: u64) -> (u32, u32) {
    /// What is hashed beside the real's hash, and the seed.
    const START: (u64, u64) = (42, 0);
    const STEP: (u64, u64) = (2_718_281_828, 2_307);
    let below = |most: u32, (word, seed)| (murmur128(hash, word, seed) % u64::from(most)) as u32;
    (
        below(KATRAN_RING_SLOTS, START),
        below(KATRAN_RING_SLOTS - 1, STEP) + 1,
    )
}

/// CityHash's hash of two words.
fn pair(upper: u64, lower: u64) -> u64 {
    const FACTOR: u64 = 0x9DDF_EA08_EB38_2D69;
    let round = |value: u64| {
        let product = value.wrapping_mul(FACTOR);
        product ^ product >> 47
    };
    round(upper ^ round(lower ^ upper)).wrapping_mul(FACTOR)
}

/// FNV-1 of 32 bits, for which bytes are signed.
fn fnv32(bytes: [u8; 4]) -> u32 {
    bytes.iter().fold(2_166_136_261, |hash: u32, byte| {
        hash.wrapping_mul(16_777_619) ^ i32::from(*byte as i8) as u32
    })
}

/// SpookyHash V2 of 16 bytes, with both seeds 0.
fn spooky128(bytes: [u8; 16]) -> [u64; 2] {
    const CONSTANT: u64 = 0xDEAD_BEEF_DEAD_BEEF;
    const MIX: [u32; 12] = [50, 52, 30, 41, 54, 48, 38, 37, 62, 34, 5, 36];
    const END: [u32; 11] = [15, 52, 26, 51, 28, 9, 47, 54, 32, 25, 63];
    let number = u128::from_le_bytes(bytes);
    let mut h = [
        0,
        0,
        CONSTANT.wrapping_add(number as u64),
        CONSTANT.wrapping_add((number >> 64) as u64),
    ];
    for (step, rotation) in MIX.into_iter().enumerate() {
        let (at, next, opposite) = ((step + 2) % 4, (step + 3) % 4, step % 4);
        h[at] = h[at].rotate_left(rotation).wrapping_add(h[next]);
        h[opposite] ^= h[at];
    }
    // The length is in the highest byte; no bytes are left over.
    h[3] = h[3].wrapping_add(16 << 56).wrapping_add(CONSTANT);
    h[2] = h[2].wrapping_add(CONSTANT);
    for (step, rotation) in END.into_iter().enumerate() {
        let (at, before) = ((step + 3) % 4, (step + 2) % 4);
        h[at] ^= h[before];
        h[before] = h[before].rotate_left(rotation);
        h[at] = h[at].wrapping_add(h[before]);
    }
    [h[0], h[1]]
}

/// The first 64 bits of MurmurHash3 (x64, 128 bits) of two words.
fn murmur128(first: u64, second: u64, seed: u64) -> u64 {
    const C1: u64 = 0x87C3_7B91_1142_53D5;
    const C2: u64 = 0x4CF5_AD43_2745_937F;
    const LENGTH: u64 = 16;
    let finish = |value: u64| {
        let value = (value ^ value >> 33).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        let value = (value ^ value >> 33).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        value ^ value >> 33
    };
    let mut h1 = seed ^ first.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    h1 = h1.rotate_left(27).wrapping_add(seed);
    h1 = h1.wrapping_mul(5).wrapping_add(0x52DC_E729);
    let mut h2 = seed ^ second.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    h2 = h2.rotate_left(31).wrapping_add(h1);
    h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5AB5);
    (h1, h2) = (h1 ^ LENGTH, h2 ^ LENGTH);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    finish(h1).wrapping_add(finish(h2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_katrans_hashes_and_walks() {
        for (address, hash, expected) in [
            ("10.0.0.1", 0xD671_359D_BAA1_5954, Some((4_577, 18_292))),
            ("fc00::1", 0x64E7_4A25_B986_D744, Some((7_827, 60_497))),
            // Bytes above 127 are negative.
            ("200.255.128.7", 0xA33B_5DB6_05DE_CF97, None),
        ] {
            let found = of_address(address.parse().unwrap());
            assert_eq!(found, hash, "{address}");
            assert!(
                expected.is_none_or(|expected| walk(hash) == expected),
                "{address}"
            );
        }
    }
}
