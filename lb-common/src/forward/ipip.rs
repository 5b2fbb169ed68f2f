//! IP in IP: the client's packet in an outer header of the real's address family (RFC 2003, RFC 2473).

use super::{Facts, ForwardedPacket, decrement_ttl, set_macs};
use crate::{
    checksum,
    codegen::{OrRare as _, rare},
    frame::{Fields as _, Frame},
    headers::{
        INNER_OFFSET_V4, INNER_OFFSET_V6, IP, IPPROTO_IPIP, IPPROTO_IPV6, ethernet, ipv4, ipv6,
    },
    ip::Family,
    reason::Reason,
    tables::{
        next_hop::NextHop,
        real::{OUTER_TTL, Real},
    },
};

/// The mode.
pub const FACTS: Facts = Facts {
    number: 2,
    name: "ipip",
    needs_direct_neighbour: false,
    decrements_ttl: true,
    overhead_v4: ipv4::LENGTH as u32,
    overhead_v6: ipv6::LENGTH as u32,
    families_may_differ: true,
};

/// Puts the packet into an outer header.
///
/// # Errors
/// The reason to drop the frame, which is unchanged.
#[inline(always)]
pub fn forward<F: Frame>(
    frame: &mut F,
    packet: &ForwardedPacket,
    real: &Real,
    hop: &NextHop,
) -> Result<(), Reason> {
    // Entering the tunnel is a hop (RFC 2003 section 3.1, RFC 2473 section 3.1).
    if packet.ttl <= 1 {
        return Err(rare(Reason::TtlExpired));
    }
    // Bits that the slot does not depend on, so that the flows of a real vary.
    let vary = (packet.hash as u32).to_be() & u32::from_ne_bytes(real.source_mask);
    if !real.has_ipv6_address() {
        if packet.length > u16::MAX as u32 - ipv4::LENGTH as u32 {
            return Err(rare(Reason::TooLarge));
        }
        if !frame.push(ipv4::LENGTH) {
            return Err(rare(Reason::NoHeadroom));
        }
        outer4(frame, packet, real, hop, vary)
    } else {
        // The outer header does not count in its own length.
        if packet.length > u16::MAX as u32 {
            return Err(rare(Reason::TooLarge));
        }
        if !frame.push(ipv6::LENGTH) {
            return Err(rare(Reason::NoHeadroom));
        }
        outer6(frame, packet, real, hop, vary)
    }
}

/// Writes Ethernet and outer IPv4 header in front of the packet.
#[inline(always)]
fn outer4<F: Frame>(
    frame: &mut F,
    packet: &ForwardedPacket,
    real: &Real,
    hop: &NextHop,
    vary: u32,
) -> Result<(), Reason> {
    let (tos, identity, protocol);
    // One window per case, so that everything lies at a constant place behind one check.
    let window: &mut [u8; INNER_OFFSET_V4] = match packet.family {
        Family::V4 => {
            let window = frame
                .window::<{ INNER_OFFSET_V4 + ipv4::LENGTH }>(0)
                .or_rare(Reason::BadTables)?;
            tos = window.u8_at::<{ INNER_OFFSET_V4 + ipv4::TOS }>();
            // Identification, and of the flags "don't fragment" (fragments are not forwarded).
            let kept = word(u16::MAX, ipv4::DONT_FRAGMENT);
            identity = window.u32_at::<{ INNER_OFFSET_V4 + ipv4::IDENTIFICATION }>() & kept;
            protocol = IPPROTO_IPIP as u8;
            let (outer, inner) = window.split_at_mut(INNER_OFFSET_V4);
            decrement_ttl(inner.as_mut_array().or_rare(Reason::BadTables)?);
            outer.as_mut_array().or_rare(Reason::BadTables)?
        }
        Family::V6 => {
            const HOP_LIMIT: usize = INNER_OFFSET_V4 + ipv6::HOP_LIMIT;
            let window = frame
                .window::<{ INNER_OFFSET_V4 + ipv6::LENGTH }>(0)
                .or_rare(Reason::BadTables)?;
            tos = traffic_class(window.u16_at::<{ INNER_OFFSET_V4 + ipv6::VERSION }>());
            identity = word(0, ipv4::DONT_FRAGMENT);
            protocol = IPPROTO_IPV6 as u8;
            let hops = window.u8_at::<HOP_LIMIT>();
            window.set_u8_at::<HOP_LIMIT>(hops.wrapping_sub(1));
            window.first_chunk_mut().or_rare(Reason::BadTables)?
        }
    };
    let total = ((packet.length + ipv4::LENGTH as u32) as u16).to_be();
    let ttl = u16::from_ne_bytes([OUTER_TTL, protocol]);
    let first = u16::from_ne_bytes([ipv4::VERSION_AND_LENGTH, tos]);
    let [a, b, c, d, ..] = real.source;
    let source = u32::from_ne_bytes([a, b, c, d]) | vary;
    let [a, b, c, d, ..] = real.address;
    let destination = u32::from_ne_bytes([a, b, c, d]);
    // The words that `outer_checksum` leaves out.
    let sum = real.checksum as u64
        + word(0, total) as u64
        + u16::from_ne_bytes([0, tos]) as u64
        + identity as u64
        + u16::from_ne_bytes([0, protocol]) as u64
        + vary as u64;
    set_macs(window, hop);
    window.set_u16_at::<{ ethernet::TYPE }>(ethernet::TYPE_IPV4);
    window.set_u32_at::<{ IP + ipv4::VERSION }>(word(first, total));
    window.set_u32_at::<{ IP + ipv4::IDENTIFICATION }>(identity);
    window.set_u32_at::<{ IP + ipv4::TTL }>(word(ttl, !checksum::fold(sum)));
    window.set_u32_at::<{ IP + ipv4::SOURCE }>(source);
    window.set_u32_at::<{ IP + ipv4::DESTINATION }>(destination);
    Ok(())
}

/// Writes Ethernet and outer IPv6 header in front of the packet.
#[inline(always)]
fn outer6<F: Frame>(
    frame: &mut F,
    packet: &ForwardedPacket,
    real: &Real,
    hop: &NextHop,
    vary: u32,
) -> Result<(), Reason> {
    const SOURCE: usize = IP + ipv6::SOURCE;
    const DESTINATION: usize = IP + ipv6::DESTINATION;
    let (class, protocol);
    let window: &mut [u8; INNER_OFFSET_V6] = match packet.family {
        Family::V4 => {
            let window = frame
                .window::<{ INNER_OFFSET_V6 + ipv4::LENGTH }>(0)
                .or_rare(Reason::BadTables)?;
            class = window.u8_at::<{ INNER_OFFSET_V6 + ipv4::TOS }>();
            protocol = IPPROTO_IPIP as u8;
            let (outer, inner) = window.split_at_mut(INNER_OFFSET_V6);
            decrement_ttl(inner.as_mut_array().or_rare(Reason::BadTables)?);
            outer.as_mut_array().or_rare(Reason::BadTables)?
        }
        Family::V6 => {
            const HOP_LIMIT: usize = INNER_OFFSET_V6 + ipv6::HOP_LIMIT;
            let window = frame
                .window::<{ INNER_OFFSET_V6 + ipv6::LENGTH }>(0)
                .or_rare(Reason::BadTables)?;
            class = traffic_class(window.u16_at::<{ INNER_OFFSET_V6 + ipv6::VERSION }>());
            protocol = IPPROTO_IPV6 as u8;
            let hops = window.u8_at::<HOP_LIMIT>();
            window.set_u8_at::<HOP_LIMIT>(hops.wrapping_sub(1));
            window.first_chunk_mut().or_rare(Reason::BadTables)?
        }
    };
    // Version, class, and a flow label of the hash (RFC 6438), so that routers spread flows too.
    let first = 6 << 28 | (class as u32) << 20 | (packet.hash as u32 & 0xF_FFFF);
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = real.source;
    set_macs(window, hop);
    window.set_u16_at::<{ ethernet::TYPE }>(ethernet::TYPE_IPV6);
    window.set_u32_at::<{ IP + ipv6::VERSION }>(first.to_be());
    window.set_u32_at::<{ IP + ipv6::PAYLOAD_LENGTH }>(word(
        (packet.length as u16).to_be(),
        u16::from_ne_bytes([protocol, OUTER_TTL]),
    ));
    window.set_u64_at::<SOURCE>(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    window.set_u32_at::<{ SOURCE + 8 }>(u32::from_ne_bytes([i, j, k, l]));
    window.set_u32_at::<{ SOURCE + 12 }>(u32::from_ne_bytes([m, n, o, p]) | vary);
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = real.address;
    window.set_u64_at::<DESTINATION>(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    window.set_u64_at::<{ DESTINATION + 8 }>(u64::from_ne_bytes([i, j, k, l, m, n, o, p]));
    Ok(())
}

/// Two 16-bit fields in the order they lie in memory.
#[inline(always)]
const fn word(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// The traffic class in the first two bytes of an IPv6 header.
#[inline(always)]
const fn traffic_class(first: u16) -> u8 {
    (u16::from_be(first) >> 4) as u8
}
