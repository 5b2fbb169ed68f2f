//! What the modes that put a packet into an outer header have in common: writing that header.

use super::{ForwardedPacket, set_macs};
use crate::{
    checksum,
    frame::Fields as _,
    headers::{INNER_OFFSET_V4, INNER_OFFSET_V6, IP, ethernet, ipv4, ipv6},
    tables::{
        next_hop::NextHop,
        real::{OUTER_TTL, Real},
    },
};

/// The bits of the outer source that vary by flow, in network order: bits that the slot does not depend on, so that the
/// flows of a real vary.
#[inline(always)]
pub(super) const fn vary(packet: &ForwardedPacket, real: &Real) -> u32 {
    (packet.hash as u32).to_be() & u32::from_ne_bytes(real.source_mask)
}

/// An outer IPv4 header.
pub(super) struct Outer4 {
    /// That of the inner packet, for ECN (RFC 6040 section 4.1).
    pub tos: u8,
    /// Identification and flags, as they lie in the header.
    pub identity: u32,
    /// What comes behind the header.
    pub protocol: u8,
    /// Bytes of the outer packet; at most 65,535.
    pub length: u32,
    /// See [`vary`].
    pub vary: u32,
}

impl Outer4 {
    /// Writes the Ethernet and the outer header.
    #[inline(always)]
    pub fn write(&self, window: &mut [u8; INNER_OFFSET_V4], real: &Real, hop: &NextHop) {
        let total = (self.length as u16).to_be();
        let ttl = u16::from_ne_bytes([OUTER_TTL, self.protocol]);
        let first = u16::from_ne_bytes([ipv4::VERSION_AND_LENGTH, self.tos]);
        let [a, b, c, d, ..] = real.source;
        let source = u32::from_ne_bytes([a, b, c, d]) | self.vary;
        let [a, b, c, d, ..] = real.address;
        let destination = u32::from_ne_bytes([a, b, c, d]);
        // The words that `outer_checksum` leaves out.
        let sum = real.checksum as u64
            + word(0, total) as u64
            + u16::from_ne_bytes([0, self.tos]) as u64
            + self.identity as u64
            + u16::from_ne_bytes([0, self.protocol]) as u64
            + self.vary as u64;
        set_macs(window, hop);
        window.set_u16_at::<{ ethernet::TYPE }>(ethernet::TYPE_IPV4);
        window.set_u32_at::<{ IP + ipv4::VERSION }>(word(first, total));
        window.set_u32_at::<{ IP + ipv4::IDENTIFICATION }>(self.identity);
        window.set_u32_at::<{ IP + ipv4::TTL }>(word(ttl, !checksum::fold(sum)));
        window.set_u32_at::<{ IP + ipv4::SOURCE }>(source);
        window.set_u32_at::<{ IP + ipv4::DESTINATION }>(destination);
    }
}

/// An outer IPv6 header.
pub(super) struct Outer6 {
    /// The traffic class of the inner packet.
    pub class: u8,
    /// What comes behind the header.
    pub protocol: u8,
    /// Bytes behind the header; at most 65,535.
    pub length: u32,
    /// Its low 20 bits are the flow label (RFC 6438), so that routers spread flows too.
    pub label: u32,
    /// See [`vary`].
    pub vary: u32,
}

impl Outer6 {
    /// Writes the Ethernet and the outer header.
    #[inline(always)]
    pub fn write(&self, window: &mut [u8; INNER_OFFSET_V6], real: &Real, hop: &NextHop) {
        const SOURCE: usize = IP + ipv6::SOURCE;
        const DESTINATION: usize = IP + ipv6::DESTINATION;
        let first = 6 << 28 | (self.class as u32) << 20 | (self.label & 0xF_FFFF);
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = real.source;
        set_macs(window, hop);
        window.set_u16_at::<{ ethernet::TYPE }>(ethernet::TYPE_IPV6);
        window.set_u32_at::<{ IP + ipv6::VERSION }>(first.to_be());
        window.set_u32_at::<{ IP + ipv6::PAYLOAD_LENGTH }>(word(
            (self.length as u16).to_be(),
            u16::from_ne_bytes([self.protocol, OUTER_TTL]),
        ));
        window.set_u64_at::<SOURCE>(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
        window.set_u32_at::<{ SOURCE + 8 }>(u32::from_ne_bytes([i, j, k, l]));
        window.set_u32_at::<{ SOURCE + 12 }>(u32::from_ne_bytes([m, n, o, p]) | self.vary);
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = real.address;
        window.set_u64_at::<DESTINATION>(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
        window.set_u64_at::<{ DESTINATION + 8 }>(u64::from_ne_bytes([i, j, k, l, m, n, o, p]));
    }
}

/// Two 16-bit fields in the order they lie in memory.
#[inline(always)]
pub(super) const fn word(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// The traffic class in the first two bytes of an IPv6 header.
#[inline(always)]
pub(super) const fn traffic_class(first: u16) -> u8 {
    (u16::from_be(first) >> 4) as u8
}
