//! Generic UDP encapsulation, variant 1: the client's packet behind an outer IP and a UDP header, without a header of
//! its own (draft-ietf-intarea-gue-09 section 4). Routers and NICs spread it by the UDP source port, which is the
//! flow's.

use super::{
    Facts, ForwardedPacket, decrement_ttl,
    tunnel::{self, Outer4, Outer6, traffic_class, word},
};
use crate::{
    codegen::{OrRare as _, apart, rare},
    frame::{Fields as _, Frame},
    headers::{INNER_OFFSET_V4, INNER_OFFSET_V6, IPPROTO_UDP, ipv4, ipv6, udp},
    ip::Family,
    reason::Reason,
    tables::{next_hop::NextHop, real::Real},
};

/// The mode.
pub const FACTS: Facts = Facts {
    number: 3,
    name: "gue",
    needs_direct_neighbour: false,
    decrements_ttl: true,
    overhead_v4: (ipv4::LENGTH + udp::LENGTH) as u32,
    overhead_v6: (ipv6::LENGTH + udp::LENGTH) as u32,
    families_may_differ: true,
    translates_ports: false,
};

/// What the outer header takes from the inner packet.
struct Inner {
    /// TOS or traffic class.
    class: u8,
    /// Identification and "don't fragment" of an IPv4 packet; for IPv6 "don't fragment" alone.
    identity: u32,
}

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
    apart();
    // Entering the tunnel is a hop (RFC 2003 section 3.1, RFC 2473 section 3.1).
    if packet.ttl <= 1 {
        return Err(rare(Reason::TtlExpired));
    }
    let vary = tunnel::vary(packet, real);
    let length = packet.length + udp::LENGTH as u32;
    if !real.has_ipv6_address() {
        if length > u16::MAX as u32 - ipv4::LENGTH as u32 {
            return Err(rare(Reason::TooLarge));
        }
        if !frame.push(ipv4::LENGTH + udp::LENGTH) {
            return Err(rare(Reason::NoHeadroom));
        }
        let inner = enter::<F, { INNER_OFFSET_V4 + udp::LENGTH }>(frame, packet.family)?;
        let window = frame
            .window::<{ INNER_OFFSET_V4 + udp::LENGTH }>(0)
            .or_rare(Reason::BadTables)?;
        window.set_u64_at::<INNER_OFFSET_V4>(udp_header(packet, length));
        let outer = Outer4 {
            tos: inner.class,
            identity: inner.identity,
            protocol: IPPROTO_UDP as u8,
            length: length + ipv4::LENGTH as u32,
            vary,
        };
        outer.write(
            window.first_chunk_mut().or_rare(Reason::BadTables)?,
            real,
            hop,
        );
    } else {
        if length > u16::MAX as u32 {
            return Err(rare(Reason::TooLarge));
        }
        if !frame.push(ipv6::LENGTH + udp::LENGTH) {
            return Err(rare(Reason::NoHeadroom));
        }
        let inner = enter::<F, { INNER_OFFSET_V6 + udp::LENGTH }>(frame, packet.family)?;
        let window = frame
            .window::<{ INNER_OFFSET_V6 + udp::LENGTH }>(0)
            .or_rare(Reason::BadTables)?;
        window.set_u64_at::<INNER_OFFSET_V6>(udp_header(packet, length));
        let outer = Outer6 {
            class: inner.class,
            protocol: IPPROTO_UDP as u8,
            length,
            label: packet.hash as u32,
            vary,
        };
        outer.write(
            window.first_chunk_mut().or_rare(Reason::BadTables)?,
            real,
            hop,
        );
    }
    Ok(())
}

/// Takes one off the TTL of the packet at `AT`, and reads what the outer header takes from it.
#[inline(always)]
fn enter<F: Frame, const AT: usize>(frame: &mut F, family: Family) -> Result<Inner, Reason> {
    match family {
        Family::V4 => {
            let window = frame
                .window::<{ ipv4::LENGTH }>(AT)
                .or_rare(Reason::BadTables)?;
            // Identification, and of the flags "don't fragment" (the outer packet of a fragment is whole).
            let kept = word(u16::MAX, ipv4::DONT_FRAGMENT);
            let inner = Inner {
                class: window.u8_at::<{ ipv4::TOS }>(),
                identity: window.u32_at::<{ ipv4::IDENTIFICATION }>() & kept,
            };
            decrement_ttl(window);
            Ok(inner)
        }
        Family::V6 => {
            let window = frame
                .window::<{ ipv6::LENGTH }>(AT)
                .or_rare(Reason::BadTables)?;
            let hops = window.u8_at::<{ ipv6::HOP_LIMIT }>();
            window.set_u8_at::<{ ipv6::HOP_LIMIT }>(hops.wrapping_sub(1));
            Ok(Inner {
                class: traffic_class(window.u16_at::<{ ipv6::VERSION }>()),
                identity: word(0, ipv4::DONT_FRAGMENT),
            })
        }
    }
}

/// The UDP header, as it lies in the packet. Its checksum is 0, which is none: the inner packet has its own, and a
/// tunnel of IPv6 may do without as well (RFC 6935 section 5).
#[inline(always)]
fn udp_header(packet: &ForwardedPacket, length: u32) -> u64 {
    let [a, b] = source_port(packet.hash).to_be_bytes();
    let [c, d] = packet.gue_port.to_be_bytes();
    let [e, f] = (length as u16).to_be_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
}

/// The source port of a flow: one of 16,384 from 49,152 up, the dynamic ports (RFC 6335 section 6), as
/// draft-ietf-intarea-gue-09 section 5.11.1 asks. Bits that neither the slot nor the outer source depends on.
#[inline(always)]
const fn source_port(hash: u64) -> u16 {
    0xC000 | (hash >> 16) as u16 & 0x3FFF
}
