//! The IP headers of packets that the programs make themselves: answers from a VIP to a client.

use crate::{
    checksum::fold,
    frame::Fields as _,
    headers::{IP, ipv4, ipv6},
};

/// TTL and hop limit of an answer.
pub const TTL: u8 = 64;

/// Writes the IPv4 header of an answer, without options, behind the Ethernet header. `total` is the length of the packet;
/// the addresses are as they lie in a packet.
#[inline(always)]
pub fn set_header4<const N: usize>(
    window: &mut [u8; N],
    (tos, total, protocol): (u8, u16, u32),
    source: u32,
    destination: u32,
) {
    let [high, low] = total.to_be_bytes();
    let first = u32::from_ne_bytes([ipv4::VERSION_AND_LENGTH, tos, high, low]);
    // Never fragmented, so its identification says nothing (RFC 6864 section 4.1).
    let second = u32::from_ne_bytes([0, 0, 0x40, 0]);
    let third = u32::from_ne_bytes([TTL, protocol as u8, 0, 0]);
    let sum = u64::from(first)
        + u64::from(second)
        + u64::from(third)
        + u64::from(source)
        + u64::from(destination);
    window.set_u32_at::<{ IP + ipv4::VERSION }>(first);
    window.set_u32_at::<{ IP + ipv4::IDENTIFICATION }>(second);
    window.set_u32_at::<{ IP + ipv4::TTL }>(third);
    window.set_u16_at::<{ IP + ipv4::CHECKSUM }>(!fold(sum));
    window.set_u32_at::<{ IP + ipv4::SOURCE }>(source);
    window.set_u32_at::<{ IP + ipv4::DESTINATION }>(destination);
}

/// Writes the IPv6 header of an answer behind the Ethernet header. `payload` is the length of what follows it.
#[inline(always)]
pub fn set_header6<const N: usize>(
    window: &mut [u8; N],
    (payload, protocol): (u16, u32),
    source: [u64; 2],
    destination: [u64; 2],
) {
    const SOURCE: usize = IP + ipv6::SOURCE;
    const DESTINATION: usize = IP + ipv6::DESTINATION;
    let [high, low] = payload.to_be_bytes();
    let second = u32::from_ne_bytes([high, low, protocol as u8, TTL]);
    window.set_u32_at::<{ IP + ipv6::VERSION }>(u32::from_ne_bytes([0x60, 0, 0, 0]));
    window.set_u32_at::<{ IP + ipv6::PAYLOAD_LENGTH }>(second);
    window.set_u64_at::<SOURCE>(source[0]);
    window.set_u64_at::<{ SOURCE + 8 }>(source[1]);
    window.set_u64_at::<DESTINATION>(destination[0]);
    window.set_u64_at::<{ DESTINATION + 8 }>(destination[1]);
}

/// The sum of two IPv6 addresses, for a checksum.
#[inline(always)]
#[must_use]
pub const fn address_sum6(one: [u64; 2], other: [u64; 2]) -> u64 {
    halves(one[0]) + halves(one[1]) + halves(other[0]) + halves(other[1])
}

/// The sum of the two words of a long.
#[inline(always)]
const fn halves(long: u64) -> u64 {
    (long & 0xFFFF_FFFF) + (long >> 32)
}
