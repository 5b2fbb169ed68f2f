//! Translating a packet into the other address family: the header translation of RFC 7915, without options, extension
//! headers and fragments.

use super::{Arrived, set_macs};
use crate::{
    checksum::fold,
    codegen::{OrRare as _, rare},
    frame::{Fields as _, Frame},
    headers::{IP, ethernet, ipv4, ipv6, udp},
    parse::FRAGMENT,
    reason::Reason,
    tables::nat::{NatEntry, is_v6, narrowed},
};

/// What an IPv4 header becomes longer by.
const GROWTH: usize = ipv6::LENGTH - ipv4::LENGTH;
/// An IPv4 packet up to this length may be fragmented: its sender takes no link to be narrower than 1,280 bytes (RFC 7915
/// section 5.1).
const MAY_FRAGMENT: u32 = 1_260;

/// Replaces the IP header of a packet that can cross.
///
/// # Errors
/// [`Reason::NoHeadroom`]; [`Reason::BadTables`] if the frame is shorter than it was when it was parsed.
#[inline(always)]
pub(super) fn replace_header<F: Frame>(
    frame: &mut F,
    arrived: &Arrived,
    entry: &NatEntry,
    hop: [u64; 2],
    now: u32,
) -> Result<(), Reason> {
    // Few packets of one host are fragmented at once, and most in no tick.
    let identity = now ^ entry.ports;
    if is_v6(entry.kind) {
        to_v6(frame, arrived, entry, hop)
    } else {
        to_v4(frame, arrived, entry, hop, identity)
    }
}

/// Whether a packet of one family can become one of the other.
#[inline(always)]
pub(super) fn can_cross<F: Frame>(frame: &mut F, arrived: &Arrived) -> bool {
    let from_v6 = is_v6(arrived.key.kind);
    let header = if from_v6 { ipv6::LENGTH } else { ipv4::LENGTH };
    if arrived.transport.offset as usize != IP + header || arrived.transport.flags & FRAGMENT != 0 {
        return false;
    }
    if from_v6 {
        // The length of an IPv4 packet includes its header.
        return arrived.length <= u32::from(u16::MAX) + GROWTH as u32;
    }
    // UDP over IPv6 needs a checksum, which covers all of the packet (RFC 7915 section 4.5).
    arrived.transport.is_tcp()
        || frame
            .window::<{ udp::LENGTH }>(IP + ipv4::LENGTH)
            .is_some_and(|header| header.u16_at::<{ udp::CHECKSUM }>() != 0)
}

#[inline(always)]
fn to_v4<F: Frame>(
    frame: &mut F,
    arrived: &Arrived,
    entry: &NatEntry,
    hop: [u64; 2],
    identity: u32,
) -> Result<(), Reason> {
    let header = frame
        .window::<{ IP + ipv6::LENGTH }>(0)
        .or_rare(Reason::BadTables)?;
    let class = (u16::from_be(header.u16_at::<{ IP + ipv6::VERSION }>()) >> 4) as u8;
    if !frame.pull(GROWTH) {
        return Err(rare(Reason::BadTables));
    }
    let window = frame
        .window::<{ IP + ipv4::LENGTH }>(0)
        .or_rare(Reason::BadTables)?;
    let total = arrived.length.wrapping_sub(GROWTH as u32);
    let [high, low] = (total as u16).to_be_bytes();
    let first = u32::from_ne_bytes([ipv4::VERSION_AND_LENGTH, class, high, low]);
    let [a, b, ..] = identity.to_ne_bytes();
    let second = if total > MAY_FRAGMENT {
        let [c, d] = ipv4::DONT_FRAGMENT.to_ne_bytes();
        u32::from_ne_bytes([0, 0, c, d])
    } else {
        u32::from_ne_bytes([a, b, 0, 0])
    };
    let ttl = arrived.ttl.wrapping_sub(1) as u8;
    let third = u32::from_ne_bytes([ttl, arrived.transport.protocol as u8, 0, 0]);
    let (source, destination) = (narrowed(entry.source), narrowed(entry.destination));
    let sum = u64::from(first)
        + u64::from(second)
        + u64::from(third)
        + u64::from(source)
        + u64::from(destination);
    set_macs(window, hop);
    window.set_u16_at::<{ ethernet::TYPE }>(ethernet::TYPE_IPV4);
    window.set_u32_at::<{ IP + ipv4::VERSION }>(first);
    window.set_u32_at::<{ IP + ipv4::IDENTIFICATION }>(second);
    window.set_u32_at::<{ IP + ipv4::TTL }>(third);
    window.set_u16_at::<{ IP + ipv4::CHECKSUM }>(!fold(sum));
    window.set_u32_at::<{ IP + ipv4::SOURCE }>(source);
    window.set_u32_at::<{ IP + ipv4::DESTINATION }>(destination);
    Ok(())
}

#[inline(always)]
fn to_v6<F: Frame>(
    frame: &mut F,
    arrived: &Arrived,
    entry: &NatEntry,
    hop: [u64; 2],
) -> Result<(), Reason> {
    const SOURCE: usize = IP + ipv6::SOURCE;
    const DESTINATION: usize = IP + ipv6::DESTINATION;
    let header = frame
        .window::<{ IP + ipv4::LENGTH }>(0)
        .or_rare(Reason::BadTables)?;
    let tos = header.u8_at::<{ IP + ipv4::TOS }>();
    if !frame.push(GROWTH) {
        return Err(rare(Reason::NoHeadroom));
    }
    let window = frame
        .window::<{ IP + ipv6::LENGTH }>(0)
        .or_rare(Reason::BadTables)?;
    let payload = arrived.length.wrapping_sub(ipv4::LENGTH as u32) as u16;
    let [high, low] = payload.to_be_bytes();
    let hops = arrived.ttl.wrapping_sub(1) as u8;
    let second = u32::from_ne_bytes([high, low, arrived.transport.protocol as u8, hops]);
    set_macs(window, hop);
    window.set_u16_at::<{ ethernet::TYPE }>(ethernet::TYPE_IPV6);
    window.set_u32_at::<{ IP + ipv6::VERSION }>((6 << 28 | u32::from(tos) << 20).to_be());
    window.set_u32_at::<{ IP + ipv6::PAYLOAD_LENGTH }>(second);
    window.set_u64_at::<SOURCE>(entry.source[0]);
    window.set_u64_at::<{ SOURCE + 8 }>(entry.source[1]);
    window.set_u64_at::<DESTINATION>(entry.destination[0]);
    window.set_u64_at::<{ DESTINATION + 8 }>(entry.destination[1]);
    Ok(())
}
