//! IP in IP: the client's packet in an outer header of the real's address family (RFC 2003, RFC 2473).

use super::{
    Facts, ForwardedPacket, decrement_ttl,
    tunnel::{self, Outer4, Outer6, traffic_class, word},
};
use crate::{
    codegen::{OrRare as _, rare},
    frame::{Fields as _, Frame},
    headers::{INNER_OFFSET_V4, INNER_OFFSET_V6, IPPROTO_IPIP, IPPROTO_IPV6, ipv4, ipv6},
    ip::Family,
    reason::Reason,
    tables::{next_hop::NextHop, real::Real},
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
    translates_ports: false,
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
    let vary = tunnel::vary(packet, real);
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
            // Identification, and of the flags "don't fragment" (the outer packet of a fragment is whole).
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
    let outer = Outer4 {
        tos,
        identity,
        protocol,
        length: packet.length + ipv4::LENGTH as u32,
        vary,
    };
    outer.write(window, real, hop);
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
    let outer = Outer6 {
        class,
        protocol,
        length: packet.length,
        label: packet.hash as u32,
        vary,
    };
    outer.write(window, real, hop);
    Ok(())
}
