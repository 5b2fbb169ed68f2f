//! From a frame to addresses and ports.
//!
//! Checks come in this order, and the first that fails is the reason to pass the frame: Ethernet type,
//! lengths of the IP header, fragment, protocol, lengths of the transport header. Header checksums are
//! not verified: changes are incremental, so a wrong one stays wrong for the real to see.

use crate::{
    frame::{Fields as _, Frame},
    hash::{Addresses4, Addresses6},
    limits::MAX_EXTENSION_HEADERS,
    reason::Reason,
};

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options.
pub const IP4: usize = 20;
/// Bytes of an IPv6 header.
pub const IP6: usize = 40;
/// Ethernet type of IPv4, as it lies in a frame.
pub const TYPE_IP4: u16 = 0x0800_u16.to_be();
/// Ethernet type of IPv6, as it lies in a frame.
pub const TYPE_IP6: u16 = 0x86DD_u16.to_be();

/// Protocol number of ICMP.
pub const ICMP: u32 = 1;
/// Protocol number of TCP.
pub const TCP: u32 = 6;
/// Protocol number of UDP.
pub const UDP: u32 = 17;
/// Protocol number of ICMPv6.
pub const ICMP6: u32 = 58;
const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const DESTINATION: u32 = 60;

/// TCP's flag "no more data".
pub const FIN: u32 = 0x01;
/// TCP's flag "synchronise": a connection begins.
pub const SYN: u32 = 0x02;
/// TCP's flag "reset".
pub const RST: u32 = 0x04;
/// TCP's flag "acknowledgment".
pub const ACK: u32 = 0x10;

/// What matters of the header behind the IP header.
///
/// Aligned, because a structure that is copied on the stack is copied in words that must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(8))]
pub struct Transport {
    /// Source and destination port, as they lie in the packet.
    pub ports: u32,
    /// 6 or 17; 1 or 58 for an echo request.
    pub protocol: u32,
    /// TCP's flags; else 0.
    pub flags: u32,
    /// Offset of its header in the frame.
    pub offset: u32,
}

impl Transport {
    /// The destination port, as it lies in the packet.
    #[must_use]
    #[inline(always)]
    pub const fn destination(&self) -> u16 {
        (u32::from_le(self.ports) >> 16) as u16
    }

    /// Whether a TCP connection begins: SYN without ACK.
    #[must_use]
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    /// Whether a TCP connection ends: FIN or RST.
    #[must_use]
    #[inline(always)]
    pub const fn closes(&self) -> bool {
        self.flags & (FIN | RST) != 0
    }

    /// Whether it can be answered with a reset: TCP, and no reset itself.
    #[must_use]
    #[inline(always)]
    pub const fn can_be_reset(&self) -> bool {
        self.is_tcp() && self.flags & RST == 0
    }

    /// TCP, else UDP.
    #[must_use]
    #[inline(always)]
    pub const fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }
}

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(8))]
pub struct Packet<A> {
    /// Its addresses.
    pub addresses: A,
    /// Its length in bytes, IP header included.
    pub length: u32,
    /// TTL or hop limit.
    pub ttl: u32,
    /// What it carries.
    pub transport: Transport,
}

/// Reads an IPv4 packet.
///
/// # Errors
/// Why the frame is passed.
#[inline(always)]
pub fn packet4<F: Frame>(frame: &mut F) -> Result<Packet<Addresses4>, Reason> {
    let room = frame.length() - ETHERNET;
    let header = frame
        .window::<{ ETHERNET + IP4 }>(0)
        .ok_or(Reason::Malformed)?;
    let first = header.byte::<14>();
    let length = u16::from_be(header.half::<16>()) as usize;
    let flags = header.half::<20>();
    let ttl = u32::from(header.byte::<22>());
    let protocol = u32::from(header.byte::<23>());
    let addresses = Addresses4 {
        source: header.word::<26>(),
        destination: header.word::<30>(),
    };
    if length > room {
        return Err(Reason::Malformed);
    }
    // More fragments, or an offset.
    let fragment = flags & 0x3FFF_u16.to_be() != 0;
    let transport = if first == 0x45 {
        if length < IP4 {
            return Err(Reason::Malformed);
        }
        if fragment {
            return Err(Reason::Fragment);
        }
        payload(frame, ETHERNET + IP4, length - IP4, protocol, ICMP)?
    } else {
        let size = (first & 0xF) as usize * 4;
        if first >> 4 != 4 || size < IP4 || length < size {
            return Err(Reason::Malformed);
        }
        if fragment {
            return Err(Reason::Fragment);
        }
        payload(frame, ETHERNET + size, length - size, protocol, ICMP)?
    };
    Ok(Packet {
        addresses,
        length: length as u32,
        ttl,
        transport,
    })
}

/// Reads an IPv6 packet.
///
/// # Errors
/// Why the frame is passed.
#[inline(always)]
pub fn packet6<F: Frame>(frame: &mut F) -> Result<Packet<Addresses6>, Reason> {
    let room = frame.length() - ETHERNET;
    let header = frame
        .window::<{ ETHERNET + IP6 }>(0)
        .ok_or(Reason::Malformed)?;
    let first = header.byte::<14>();
    let length = IP6 + u16::from_be(header.half::<18>()) as usize;
    let protocol = u32::from(header.byte::<20>());
    let ttl = u32::from(header.byte::<21>());
    let addresses = Addresses6 {
        source: [header.long::<22>(), header.long::<30>()],
        destination: [header.long::<38>(), header.long::<46>()],
    };
    if first >> 4 != 6 || length > room {
        return Err(Reason::Malformed);
    }
    let transport = if protocol == TCP || protocol == UDP {
        payload(frame, ETHERNET + IP6, length - IP6, protocol, ICMP6)?
    } else {
        extended(frame, length, protocol)?
    };
    Ok(Packet {
        addresses,
        length: length as u32,
        ttl,
        transport,
    })
}

/// Walks extension headers (RFC 8200 section 4) to the payload; `length` is the packet's.
#[inline(always)]
fn extended<F: Frame>(frame: &mut F, length: usize, first: u32) -> Result<Transport, Reason> {
    let mut protocol = first;
    let mut at = IP6;
    for walked in 0..MAX_EXTENSION_HEADERS {
        if protocol != HOP_BY_HOP && protocol != ROUTING && protocol != DESTINATION {
            break;
        }
        // Hop-by-hop options stand right behind the IPv6 header or nowhere (RFC 8200 section 4.1).
        if protocol == HOP_BY_HOP && walked > 0 {
            return Err(Reason::Malformed);
        }
        let header = frame.window::<8>(ETHERNET + at).ok_or(Reason::Malformed)?;
        let segments_left = protocol == ROUTING && header.byte::<3>() != 0;
        protocol = u32::from(header.byte::<0>());
        at += (header.byte::<1>() as usize + 1) * 8;
        if at > length {
            return Err(Reason::Malformed);
        }
        // A packet that has segments left is to go on from its destination (section 4.4), so what it
        // carries is not for a VIP.
        if segments_left {
            return Err(Reason::OtherProtocol);
        }
    }
    match protocol {
        HOP_BY_HOP => Err(Reason::Malformed),
        ROUTING | DESTINATION => Err(Reason::TooManyHeaders),
        FRAGMENT => Err(Reason::Fragment),
        _ => payload(frame, ETHERNET + at, length - at, protocol, ICMP6),
    }
}

/// Reads the header at `offset`, of which the packet has `length` bytes.
#[inline(always)]
fn payload<F: Frame>(
    frame: &mut F,
    offset: usize,
    length: usize,
    protocol: u32,
    icmp: u32,
) -> Result<Transport, Reason> {
    let (ports, flags) = if protocol == TCP {
        let header = frame.window::<20>(offset).ok_or(Reason::Malformed)?;
        let size = (header.byte::<12>() >> 4) as usize * 4;
        if size < 20 || length < size {
            return Err(Reason::Malformed);
        }
        (header.word::<0>(), u32::from(header.byte::<13>()))
    } else if protocol == UDP {
        let header = frame.window::<8>(offset).ok_or(Reason::Malformed)?;
        let size = u16::from_be(header.half::<4>()) as usize;
        if size < 8 || length < size {
            return Err(Reason::Malformed);
        }
        (header.word::<0>(), 0)
    } else if protocol == icmp {
        let header = frame.window::<8>(offset).ok_or(Reason::Malformed)?;
        if length < 8 {
            return Err(Reason::Malformed);
        }
        let request = if icmp == ICMP { 8 } else { 128 };
        if header.byte::<0>() != request || header.byte::<1>() != 0 {
            return Err(Reason::OtherProtocol);
        }
        (0, 0)
    } else {
        return Err(Reason::OtherProtocol);
    };
    Ok(Transport {
        ports,
        protocol,
        flags,
        offset: offset as u32,
    })
}
