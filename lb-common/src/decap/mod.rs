//! Decapsulation on a real: takes the balancer's outer header off a packet for one of the real's VIPs.
//!
//! IPv4 and IPv6 in either, behind an IP header or an IP and a UDP header (generic UDP encapsulation, variant 1).
//! Everything but that for a VIP passes untouched: other traffic, tunnels with
//! another destination inside, fragments and options in the outer header (the balancer sends neither). Only
//! the inner packet's IP header is checked here; the host's stack checks the rest.

use crate::{
    checksum,
    frame::{Aligned, Fields as _, Frame},
    headers::{
        INNER_OFFSET_V4, INNER_OFFSET_V6, IP, IPPROTO_DSTOPTS, IPPROTO_FRAGMENT, IPPROTO_HOPOPTS,
        IPPROTO_IPIP, IPPROTO_IPV6, IPPROTO_ROUTING, IPPROTO_UDP, ethernet, ipv4, ipv6, udp,
    },
    ip::Family,
    reason::reasons,
};

/// Names of the maps, as they stand in the program.
pub mod names {
    /// Hash: IPv4 address in network order → `u32` (1).
    pub const VIPS4: &str = "VIPS4";
    /// Hash: IPv6 address in network order → `u32` (1).
    pub const VIPS6: &str = "VIPS6";
    /// Per-CPU array by [`super::Reason`]: `u64` frames.
    pub const REASONS: &str = "REASONS";
    /// Array by [`crate::ip::Family`]: the largest TCP segment to announce, `u32`; 0 is no limit.
    pub const SEGMENTS: &str = "SEGMENTS";
    /// Constant, `u16`: the UDP port of generic UDP encapsulation.
    pub const GUE_PORT: &str = "GUE_PORT";
}

pub mod segment;

/// Addresses of each family that a real can have.
pub const MAX_VIPS: u32 = 4_096;
/// Counters of reasons.
pub const REASON_SLOTS: u32 = 32;

const _: () = assert!(Reason::ALL.len() <= REASON_SLOTS as usize);

reasons! {
    /// An exit of the decapsulator. Per CPU, their counters add up to the frames received.
    pub enum Reason;

    /// IPv4 taken out of IPv4.
    Ip4InIp4 = 0, "ip4_in_ip4", Pass;
    /// IPv6 taken out of IPv4.
    Ip6InIp4 = 1, "ip6_in_ip4", Pass;
    /// IPv4 taken out of IPv6.
    Ip4InIp6 = 2, "ip4_in_ip6", Pass;
    /// IPv6 taken out of IPv6.
    Ip6InIp6 = 3, "ip6_in_ip6", Pass;
    /// Neither IPv4 nor IPv6.
    NotIp = 4, "not_ip", Pass;
    /// No IP in IP.
    NotTunnel = 5, "not_tunnel", Pass;
    /// IP in IP whose inner destination is no VIP of this real.
    NotVip = 6, "not_vip", Pass;
    /// The outer packet is a fragment.
    Fragment = 7, "fragment", Pass;
    /// The outer header has options or extension headers.
    Options = 8, "options", Pass;
    /// Too short or contradicting itself.
    Malformed = 9, "malformed", Pass;
    /// Congestion was marked on the outer header, but the inner packet cannot carry the mark: RFC 6040
    /// section 4.2 says to drop it.
    Congestion = 10, "congestion", Drop;
    /// The driver refused to move the start of the frame.
    NotMoved = 11, "not_moved", Pass;
    /// IPv4 taken out of UDP over IPv4.
    Ip4InGue4 = 12, "ip4_in_gue4", Pass;
    /// IPv6 taken out of UDP over IPv4.
    Ip6InGue4 = 13, "ip6_in_gue4", Pass;
    /// IPv4 taken out of UDP over IPv6.
    Ip4InGue6 = 14, "ip4_in_gue6", Pass;
    /// IPv6 taken out of UDP over IPv6.
    Ip6InGue6 = 15, "ip6_in_gue6", Pass;
}

/// The addresses that decapsulation is for: on a real its VIPs, inside the tunnel; on a balancer the ends of tunnels.
pub trait Vips {
    /// Whether a packet to this outer IPv4 address (network order) is looked into.
    #[inline(always)]
    fn ends4(&self, _outer: &[u8; 4]) -> bool {
        true
    }
    /// Whether a packet to this outer IPv6 address (network order) is looked into.
    #[inline(always)]
    fn ends6(&self, _outer: &[u8; 16]) -> bool {
        true
    }
    /// Whether this IPv4 address (network order) is one.
    fn has4(&self, address: &[u8; 4]) -> bool;
    /// Whether this IPv6 address (network order) is one.
    fn has6(&self, address: &[u8; 16]) -> bool;
    /// The UDP port of generic UDP encapsulation.
    #[inline(always)]
    fn gue_port(&self) -> u16 {
        udp::GUE_PORT
    }
}

/// Offset of the inner packet behind an outer IPv4 and a UDP header.
const GUE_OFFSET_V4: usize = INNER_OFFSET_V4 + udp::LENGTH;
/// Offset of the inner packet behind an outer IPv6 and a UDP header.
const GUE_OFFSET_V6: usize = INNER_OFFSET_V6 + udp::LENGTH;

/// ECN's two bits (RFC 3168 section 5): capable, in two forms, and congestion experienced.
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// Takes the outer header off, if the frame is for a VIP of this real.
#[inline(always)]
pub fn decapsulate<F: Frame, V: Vips>(frame: &mut F, vips: &V) -> Reason {
    let Some(header) = frame.window::<{ ethernet::LENGTH }>(0) else {
        return Reason::Malformed;
    };
    let decapsulated = match header.u16_at::<{ ethernet::TYPE }>() {
        ethernet::TYPE_IPV4 => outer4(frame, vips),
        ethernet::TYPE_IPV6 => outer6(frame, vips),
        _ => return Reason::NotIp,
    };
    match decapsulated {
        Ok(reason) | Err(reason) => reason,
    }
}

/// The facts of the outer header.
struct Outer {
    /// Bytes behind the outer header.
    length: usize,
    /// Congestion bits.
    ecn: u8,
}

/// # Errors
/// The reason why the frame was not decapsulated.
#[inline(always)]
fn outer4<F: Frame, V: Vips>(frame: &mut F, vips: &V) -> Result<Reason, Reason> {
    let room = frame.length();
    let header = frame
        .window::<INNER_OFFSET_V4>(0)
        .ok_or(Reason::Malformed)?;
    let protocol = u32::from(header.u8_at::<{ IP + ipv4::PROTOCOL }>());
    if protocol != IPPROTO_IPIP && protocol != IPPROTO_IPV6 && protocol != IPPROTO_UDP {
        return Err(Reason::NotTunnel);
    }
    let mut end = Aligned([0; 4]);
    end.0
        .set_u32_at::<0>(header.u32_at::<{ IP + ipv4::DESTINATION }>());
    let first = header.u8_at::<{ IP + ipv4::VERSION }>();
    if first != ipv4::VERSION_AND_LENGTH {
        return Err(if first >> 4 == 4 && first & 0xF > 5 {
            Reason::Options
        } else {
            Reason::Malformed
        });
    }
    let length = u16::from_be(header.u16_at::<{ IP + ipv4::TOTAL_LENGTH }>()) as usize;
    let ecn = header.u8_at::<{ IP + ipv4::TOS }>() & CE;
    if header.u16_at::<{ IP + ipv4::FRAGMENT }>() & ipv4::FRAGMENTED != 0 {
        return Err(Reason::Fragment);
    }
    if length < ipv4::LENGTH || IP + length > room {
        return Err(Reason::Malformed);
    }
    if !vips.ends4(&end.0) {
        return Err(Reason::NotTunnel);
    }
    let outer = Outer {
        length: length - ipv4::LENGTH,
        ecn,
    };
    if protocol == IPPROTO_UDP {
        let (outer, family) = gue::<F, V, INNER_OFFSET_V4, GUE_OFFSET_V4>(frame, vips, &outer)?;
        match family {
            Family::V4 => inner4::<F, V, GUE_OFFSET_V4>(frame, vips, &outer)?,
            Family::V6 => inner6::<F, V, GUE_OFFSET_V4>(frame, vips, &outer)?,
        }
        return Ok(match family {
            Family::V4 => Reason::Ip4InGue4,
            Family::V6 => Reason::Ip6InGue4,
        });
    }
    if protocol == IPPROTO_IPIP {
        inner4::<F, V, INNER_OFFSET_V4>(frame, vips, &outer)?;
        Ok(Reason::Ip4InIp4)
    } else {
        inner6::<F, V, INNER_OFFSET_V4>(frame, vips, &outer)?;
        Ok(Reason::Ip6InIp4)
    }
}

/// # Errors
/// The reason why the frame was not decapsulated.
#[inline(always)]
fn outer6<F: Frame, V: Vips>(frame: &mut F, vips: &V) -> Result<Reason, Reason> {
    let room = frame.length();
    let header = frame
        .window::<INNER_OFFSET_V6>(0)
        .ok_or(Reason::Malformed)?;
    let protocol = u32::from(header.u8_at::<{ IP + ipv6::NEXT_HEADER }>());
    if protocol != IPPROTO_IPIP && protocol != IPPROTO_IPV6 && protocol != IPPROTO_UDP {
        return Err(match protocol {
            IPPROTO_FRAGMENT => Reason::Fragment,
            IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS => Reason::Options,
            _ => Reason::NotTunnel,
        });
    }
    let length = u16::from_be(header.u16_at::<{ IP + ipv6::PAYLOAD_LENGTH }>()) as usize;
    let ecn = (header.u8_at::<{ IP + ipv6::CLASS_LOW }>() >> 4) & CE;
    let version = header.u8_at::<{ IP + ipv6::VERSION }>() >> 4;
    if version != 6 || INNER_OFFSET_V6 + length > room {
        return Err(Reason::Malformed);
    }
    let mut end = Aligned([0; 16]);
    end.0
        .set_u64_at::<0>(header.u64_at::<{ IP + ipv6::DESTINATION }>());
    end.0
        .set_u64_at::<8>(header.u64_at::<{ IP + ipv6::DESTINATION + 8 }>());
    if !vips.ends6(&end.0) {
        return Err(Reason::NotTunnel);
    }
    let outer = Outer { length, ecn };
    if protocol == IPPROTO_UDP {
        let (outer, family) = gue::<F, V, INNER_OFFSET_V6, GUE_OFFSET_V6>(frame, vips, &outer)?;
        match family {
            Family::V4 => inner4::<F, V, GUE_OFFSET_V6>(frame, vips, &outer)?,
            Family::V6 => inner6::<F, V, GUE_OFFSET_V6>(frame, vips, &outer)?,
        }
        return Ok(match family {
            Family::V4 => Reason::Ip4InGue6,
            Family::V6 => Reason::Ip6InGue6,
        });
    }
    if protocol == IPPROTO_IPIP {
        inner4::<F, V, INNER_OFFSET_V6>(frame, vips, &outer)?;
        Ok(Reason::Ip4InIp6)
    } else {
        inner6::<F, V, INNER_OFFSET_V6>(frame, vips, &outer)?;
        Ok(Reason::Ip6InIp6)
    }
}

/// Checks the UDP header at `AT`, behind which the packet is at `INNER`; returns what is behind it, and the family of
/// the inner packet.
///
/// # Errors
/// [`Reason::NotTunnel`]: it is UDP of another kind.
#[inline(always)]
fn gue<F: Frame, V: Vips, const AT: usize, const INNER: usize>(
    frame: &mut F,
    vips: &V,
    outer: &Outer,
) -> Result<(Outer, Family), Reason> {
    let header = frame
        .window::<{ udp::LENGTH }>(AT)
        .ok_or(Reason::Malformed)?;
    let [_, _, high, low] = header.u32_at::<{ udp::PORTS }>().to_ne_bytes();
    if u16::from_be_bytes([high, low]) != vips.gue_port() {
        return Err(Reason::NotTunnel);
    }
    let length = u16::from_be(header.u16_at::<{ udp::DATAGRAM_LENGTH }>()) as usize;
    if length < udp::LENGTH || length > outer.length {
        return Err(Reason::Malformed);
    }
    // Variant 1 is an IP packet, whose version begins with the variant's bits.
    let first = frame.window::<1>(INNER).ok_or(Reason::Malformed)?;
    let family = match first.u8_at::<0>() >> 4 {
        4 => Family::V4,
        6 => Family::V6,
        _ => return Err(Reason::NotTunnel),
    };
    let behind = Outer {
        length: length - udp::LENGTH,
        ecn: outer.ecn,
    };
    Ok((behind, family))
}

/// Checks the IPv4 packet at `AT` and makes it the frame's.
#[inline(always)]
fn inner4<F: Frame, V: Vips, const AT: usize>(
    frame: &mut F,
    vips: &V,
    outer: &Outer,
) -> Result<(), Reason> {
    let header = frame
        .window::<{ ipv4::LENGTH }>(AT)
        .ok_or(Reason::Malformed)?;
    let first = header.u8_at::<{ ipv4::VERSION }>();
    let size = (first & 0xF) as usize * 4;
    let length = u16::from_be(header.u16_at::<{ ipv4::TOTAL_LENGTH }>()) as usize;
    if first >> 4 != 4 || size < ipv4::LENGTH || length < size || length > outer.length {
        return Err(Reason::Malformed);
    }
    // The word of the checksum that holds TOS.
    let old = header.u16_at::<{ ipv4::VERSION }>();
    let ecn = header.u8_at::<{ ipv4::TOS }>() & CE;
    let mut destination = Aligned([0; 4]);
    destination
        .0
        .set_u32_at::<0>(header.u32_at::<{ ipv4::DESTINATION }>());
    if !vips.has4(&destination.0) {
        return Err(Reason::NotVip);
    }
    let mark = combine(ecn, outer.ecn)?;
    uncover::<F, AT>(frame, ethernet::TYPE_IPV4)?;
    if mark != ecn {
        // The inner packet is where the outer one was, and its header was checked to be there.
        let header = frame
            .window::<{ IP + ipv4::LENGTH }>(0)
            .ok_or(Reason::Malformed)?;
        let tos = header.u8_at::<{ IP + ipv4::TOS }>() & !CE | mark;
        header.set_u8_at::<{ IP + ipv4::TOS }>(tos);
        let new = header.u16_at::<{ IP + ipv4::VERSION }>();
        let sum = checksum::update(header.u16_at::<{ IP + ipv4::CHECKSUM }>(), old, new);
        header.set_u16_at::<{ IP + ipv4::CHECKSUM }>(sum);
    }
    Ok(())
}

/// Checks the IPv6 packet at `AT` and makes it the frame's.
#[inline(always)]
fn inner6<F: Frame, V: Vips, const AT: usize>(
    frame: &mut F,
    vips: &V,
    outer: &Outer,
) -> Result<(), Reason> {
    let header = frame
        .window::<{ ipv6::LENGTH }>(AT)
        .ok_or(Reason::Malformed)?;
    let length = ipv6::LENGTH + u16::from_be(header.u16_at::<{ ipv6::PAYLOAD_LENGTH }>()) as usize;
    if header.u8_at::<{ ipv6::VERSION }>() >> 4 != 6 || length > outer.length {
        return Err(Reason::Malformed);
    }
    let ecn = (header.u8_at::<{ ipv6::CLASS_LOW }>() >> 4) & CE;
    let mut destination = Aligned([0; 16]);
    destination
        .0
        .set_u64_at::<0>(header.u64_at::<{ ipv6::DESTINATION }>());
    destination
        .0
        .set_u64_at::<8>(header.u64_at::<{ ipv6::DESTINATION + 8 }>());
    if !vips.has6(&destination.0) {
        return Err(Reason::NotVip);
    }
    let mark = combine(ecn, outer.ecn)?;
    uncover::<F, AT>(frame, ethernet::TYPE_IPV6)?;
    if mark != ecn {
        let header = frame
            .window::<{ IP + ipv6::LENGTH }>(0)
            .ok_or(Reason::Malformed)?;
        let class = header.u8_at::<{ IP + ipv6::CLASS_LOW }>() & !(CE << 4) | mark << 4;
        header.set_u8_at::<{ IP + ipv6::CLASS_LOW }>(class);
    }
    Ok(())
}

/// The inner packet's congestion bits after decapsulation (RFC 6040 section 4.2).
#[inline(always)]
fn combine(inner: u8, outer: u8) -> Result<u8, Reason> {
    match (inner, outer) {
        (0, CE) => Err(Reason::Congestion),
        (0, _) => Ok(0),
        (_, CE) => Ok(CE),
        (ECT_0, ECT_1) => Ok(ECT_1),
        (inner, _) => Ok(inner),
    }
}

/// Moves the Ethernet header to the inner packet at `AT`, with the inner packet's type.
#[inline(always)]
fn uncover<F: Frame, const AT: usize>(frame: &mut F, ether_type: u16) -> Result<(), Reason> {
    const ADDRESSES: usize = ethernet::DESTINATION;
    let header = frame
        .window::<{ ethernet::LENGTH }>(0)
        .ok_or(Reason::Malformed)?;
    let addresses = (
        header.u64_at::<ADDRESSES>(),
        header.u32_at::<{ ADDRESSES + 8 }>(),
    );
    if !frame.pull(AT - IP) {
        return Err(Reason::NotMoved);
    }
    let header = frame
        .window::<{ ethernet::LENGTH }>(0)
        .ok_or(Reason::Malformed)?;
    header.set_u64_at::<ADDRESSES>(addresses.0);
    header.set_u32_at::<{ ADDRESSES + 8 }>(addresses.1);
    header.set_u16_at::<{ ethernet::TYPE }>(ether_type);
    Ok(())
}

#[cfg(test)]
mod tests;
