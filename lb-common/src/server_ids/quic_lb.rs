//! Server ids in connection ids as of draft-ietf-quic-load-balancers-21.

use super::quic::ConnectionId;
use crate::{
    aes,
    codegen::read_again,
    frame::{Fields as _, Frame},
    lookup::Tables,
    tables::server_id::{
        CONFIG_BITS, MAX_ID_AND_NONCE, NO_CONFIG, PLAIN, QuicLb, SINGLE_PASS, quic_lb_key,
    },
};

/// Bytes behind the first octet that are read, whatever the configuration. Every packet of QUIC has as many: a packet
/// with a short header has 20 bytes behind its connection id at least (RFC 9001 section 5.4.2), and one with a long
/// header, which also has its sender's connection id, no fewer.
const READ: usize = MAX_ID_AND_NONCE as usize;
/// Most bytes of one half.
const HALF: usize = READ.div_ceil(2);

/// The server id in a connection id of this service.
#[inline(always)]
pub(super) fn id<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    connection: &ConnectionId,
    service: u32,
) -> Option<[u64; 2]> {
    if connection.left < 1 + READ {
        return None;
    }
    let first = frame.window::<{ 1 + READ }>(connection.at)?.u8_at::<0>();
    let config = u32::from(first) >> (8 - CONFIG_BITS);
    if config == NO_CONFIG {
        return None;
    }
    let config = tables.quic_lb(quic_lb_key(service, config))?;
    if connection.length <= config.length as usize {
        return None;
    }
    let at = connection.at + 1;
    let window = frame.window::<READ>(at)?;
    let block = [
        u64::from_be(window.u64_at::<0>()),
        u64::from_be(window.u64_at::<8>()),
    ];
    let plain = match config.mode {
        PLAIN => block,
        SINGLE_PASS => aes::decrypt(&config.keys, block),
        _ => {
            let middle = ((config.length / 2) & 0xF) as usize;
            let window = frame.window::<HALF>(at + middle)?;
            let right = [
                u64::from_be(window.u64_at::<0>()),
                u64::from(u16::from_be(window.u16_at::<8>())) << 48,
            ];
            decrypted(config, block, right)
        }
    };
    Some(shifted(plain, config.behind))
}

/// Id and nonce from both halves, in which bits of the other half are as yet.
#[inline(always)]
fn decrypted(config: &QuicLb, left: [u64; 2], right: [u64; 2]) -> [u64; 2] {
    // The half whose pass is undone, and the other one, which was encrypted into it: they take turns.
    let (mut one, mut other) = (and(left, config.left), and(right, config.right));
    let last = 5 - u64::from(config.passes);
    let mut pass = 4;
    loop {
        read_again();
        one = undone(config, one, other, pass);
        // The verifier does not know that the last pass is one of these.
        if pass == 1 || pass == last {
            break;
        }
        (one, other) = (other, one);
        pass -= 1;
    }
    let (left, right) = if changes_left(pass) {
        (one, other)
    } else {
        (other, one)
    };
    // In an odd number of bytes both halves have four bits of the one in the middle.
    let right = shifted(right, config.length / 2 * 8);
    [left[0] | right[0], left[1] | right[1]]
}

/// Whether a pass changes the left half.
#[inline(always)]
const fn changes_left(pass: u64) -> bool {
    pass & 1 == 0
}

/// A half before this pass, in which the other half was encrypted into it.
#[inline(always)]
fn undone(config: &QuicLb, half: [u64; 2], other: [u64; 2], pass: u64) -> [u64; 2] {
    let mask = if changes_left(pass) {
        config.left
    } else {
        config.right
    };
    let expanded = [other[0], other[1] | u64::from(config.length) << 8 | pass];
    let encrypted = and(aes::encrypt(&config.keys, expanded), mask);
    [half[0] ^ encrypted[0], half[1] ^ encrypted[1]]
}

#[inline(always)]
const fn and(block: [u64; 2], mask: [u64; 2]) -> [u64; 2] {
    [block[0] & mask[0], block[1] & mask[1]]
}

/// A block, shifted right by fewer than 128 bits: 128-bit numbers would be shifted by a function that no program has.
#[inline(always)]
const fn shifted([high, low]: [u64; 2], bits: u32) -> [u64; 2] {
    let within = bits & 63;
    if bits < 64 {
        [high >> within, low >> within | high << 1 << (63 - within)]
    } else {
        [0, high >> within]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_that_of_the_whole_number() {
        let number = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128;
        for bits in 0..128 {
            let halves = crate::tables::server_id::halves;
            assert_eq!(shifted(halves(number), bits), halves(number >> bits));
        }
    }
}
