//! Parsing of frames. Ethernet type, IP header, fragment, protocol and transport header are checked in this order. The
//! first failed check is the reason to pass the frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::{limits::MAX_EXTENSION_HEADERS, reason::Reason};

use super::fragments;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// The transport header of a packet.
#[derive(Clone, Copy, Debug)]
pub enum Payload {
    /// TCP: source and destination port, flags.
    Tcp {
        /// Source and destination.
        ports: (u16, u16),
        /// The byte of flags.
        flags: u8,
        /// Sequence and acknowledgment number.
        numbers: (u32, u32),
        /// Bytes of data.
        data: usize,
        /// Offset of its header in the IP packet.
        offset: usize,
    },
    /// UDP.
    Udp {
        /// Source and destination.
        ports: (u16, u16),
    },
    /// SCTP.
    Sctp {
        /// Source and destination.
        ports: (u16, u16),
        /// Type of the first chunk.
        chunk: u8,
    },
    /// An echo request.
    Echo {
        /// Offset of its ICMP header in the frame.
        offset: usize,
    },
    /// An ICMP error about a packet.
    IcmpError {
        /// Where its ICMP header begins in the frame.
        offset: usize,
    },
}

impl Payload {
    /// Returns whether the packet opens a connection of TCP or an association of SCTP.
    pub fn opens(self) -> bool {
        // INIT of SCTP (RFC 9260 section 3.3.2).
        matches!(self, Payload::Sctp { chunk: 1, .. })
            || matches!(self, Payload::Tcp { flags, .. } if flags & 0x12 == 0x02)
    }

    /// Returns whether the packet closes one.
    pub fn closes(self) -> bool {
        // ABORT and SHUTDOWN COMPLETE.
        matches!(self, Payload::Sctp { chunk: 6 | 14, .. })
            || matches!(self, Payload::Tcp { flags, .. } if flags & 0x05 != 0)
    }

    /// Returns whether the packet is a reset, or an abort of SCTP.
    pub fn resets(self) -> bool {
        matches!(self, Payload::Sctp { chunk: 6, .. })
            || matches!(self, Payload::Tcp { flags, .. } if flags & 0x04 != 0)
    }

    /// Returns whether the packet is UDP.
    pub fn is_udp(self) -> bool {
        matches!(self, Payload::Udp { .. })
    }
}

/// A packet that may be for a VIP.
#[derive(Clone, Debug)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TCP, UDP, SCTP, ICMP or ICMPv6.
    pub protocol: u8,
    /// Length of the IP packet with its header.
    pub length: usize,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub service_class: u8,
    pub payload: Payload,
    pub part: Part,
}

impl Packet {
    /// Returns whether the packet may be answered with a reset: it is TCP and not a reset itself (RFC 9293 section
    /// 3.10.7.1), and its header is in this fragment.
    pub fn can_be_reset(&self) -> bool {
        matches!(self.payload, Payload::Tcp { flags, .. } if flags & 0x04 == 0)
            && !matches!(self.part, Part::Later(_))
    }
}

/// Which part of its packet a frame has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first fragment.
    First(fragments::Name),
    /// A fragment behind it.
    Later(fragments::Name),
}

/// Reads a frame.
pub fn parse(frame: &[u8]) -> Result<Packet, Reason> {
    let ethernet = frame.get(..ETHERNET).ok_or(Reason::Malformed)?;
    let packet = &frame[ETHERNET..];
    match [ethernet[12], ethernet[13]] {
        [0x08, 0x00] => ip4(packet),
        [0x86, 0xDD] => ip6(packet),
        _ => Err(Reason::NotIp),
    }
}

pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}

/// Source and destination of an IPv4 header.
pub(super) fn addresses4(header: &[u8]) -> (IpAddr, IpAddr) {
    let address =
        |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    (address(12).into(), address(16).into())
}

/// The same of an IPv6 header.
pub(super) fn addresses6(header: &[u8]) -> (IpAddr, IpAddr) {
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&header[at..at + 16]);
        Ipv6Addr::from(octets)
    };
    (address(8).into(), address(24).into())
}

/// The ports of a transport header.
pub(super) fn ports(payload: Payload) -> (u16, u16) {
    match payload {
        Payload::Tcp { ports, .. } | Payload::Udp { ports } | Payload::Sctp { ports, .. } => ports,
        Payload::Echo { .. } | Payload::IcmpError { .. } => (0, 0),
    }
}

/// Parses IPv4 (RFC 791 section 3.1).
fn ip4(packet: &[u8]) -> Result<Packet, Reason> {
    let header = packet.get(..20).ok_or(Reason::Malformed)?;
    let header_length = usize::from(header[0] & 0x0F) * 4;
    let length = usize::from(be16(header, 2));
    if header[0] >> 4 != 4 || header_length < 20 || length < header_length || length > packet.len()
    {
        return Err(Reason::Malformed);
    }
    // The flag "more fragments" or an offset is set.
    if be16(header, 6) & 0x3FFF != 0 {
        return Err(Reason::Fragment);
    }
    let protocol = header[9];
    let payload = match protocol {
        1 => icmp(packet, header_length, length, 8, &[3, 11, 12])?,
        6 | 17 | 132 => transport(protocol, &packet[..length], header_length, true)?,
        _ => return Err(Reason::OtherProtocol),
    };
    let (source, destination) = addresses4(header);
    Ok(Packet {
        source,
        destination,
        protocol,
        length,
        ttl: header[8],
        service_class: header[1],
        payload,
        part: Part::Whole,
    })
}

/// Parses IPv6 (RFC 8200 sections 3 and 4).
fn ip6(packet: &[u8]) -> Result<Packet, Reason> {
    let header = packet.get(..40).ok_or(Reason::Malformed)?;
    let length = 40 + usize::from(be16(header, 4));
    if header[0] >> 4 != 6 || length > packet.len() {
        return Err(Reason::Malformed);
    }
    let packet = &packet[..length];
    let mut next = header[6];
    let mut at = 40;
    let mut walked = 0;
    let payload = loop {
        match next {
            // Hop-by-hop options are only allowed directly after the IPv6 header (section 4.1).
            0 if walked > 0 => return Err(Reason::Malformed),
            0 | 43 | 60 => {
                if walked == MAX_EXTENSION_HEADERS {
                    return Err(Reason::TooManyHeaders);
                }
                let extension = packet.get(at..at + 8).ok_or(Reason::Malformed)?;
                let segments_left = next == 43 && extension[3] != 0;
                next = extension[0];
                at += 8 * (usize::from(extension[1]) + 1);
                if at > length {
                    return Err(Reason::Malformed);
                }
                // This is not the packet's last destination (section 4.4), so its payload is for another host.
                if segments_left {
                    return Err(Reason::OtherProtocol);
                }
                walked += 1;
            }
            44 if walked == MAX_EXTENSION_HEADERS => return Err(Reason::TooManyHeaders),
            44 => {
                let header = packet.get(at..at + 8).ok_or(Reason::Malformed)?;
                // RFC 6946: without an offset and without more fragments it is a whole packet.
                if be16(header, 2) & 0xFFF9 != 0 {
                    return Err(Reason::Fragment);
                }
                next = header[0];
                at += 8;
                walked += 1;
            }
            58 => break icmp(packet, at, length, 128, &[1, 2, 3, 4])?,
            6 | 17 | 132 => break transport(next, packet, at, true)?,
            _ => return Err(Reason::OtherProtocol),
        }
    };
    let (source, destination) = addresses6(header);
    Ok(Packet {
        source,
        destination,
        protocol: next,
        length,
        ttl: header[7],
        service_class: header[0] << 4 | header[1] >> 4,
        payload,
        part: Part::Whole,
    })
}

/// Parses an echo request (RFC 792, RFC 4443 section 4.1: a header of eight bytes, with code 0), or an error of one of
/// these types.
fn icmp(
    packet: &[u8],
    at: usize,
    end: usize,
    request: u8,
    errors: &[u8],
) -> Result<Payload, Reason> {
    let header = packet[..end].get(at..at + 8).ok_or(Reason::Malformed)?;
    let offset = ETHERNET + at;
    if header[0] == request && header[1] == 0 {
        Ok(Payload::Echo { offset })
    } else if errors.contains(&header[0]) {
        Ok(Payload::IcmpError { offset })
    } else {
        Err(Reason::OtherProtocol)
    }
}

/// Parses TCP (RFC 9293 section 3.1) or UDP (RFC 768). The header must be complete, and the length of a whole one must fit.
pub(super) fn transport(
    protocol: u8,
    packet: &[u8],
    offset: usize,
    is_whole: bool,
) -> Result<Payload, Reason> {
    let segment = &packet[offset..];
    let least = match protocol {
        6 => 20,
        // Common header and the head of a chunk (RFC 9260 section 3).
        132 => 16,
        _ => 8,
    };
    if segment.len() < least {
        return Err(Reason::Malformed);
    }
    let ports = (be16(segment, 0), be16(segment, 2));
    if protocol == 6 {
        let header_length = usize::from(segment[12] >> 4) * 4;
        if header_length < 20 || header_length > segment.len() {
            return Err(Reason::Malformed);
        }
        return Ok(Payload::Tcp {
            ports,
            flags: segment[13],
            numbers: (be32(segment, 4), be32(segment, 8)),
            data: segment.len() - header_length,
            offset,
        });
    }
    if protocol == 132 {
        let chunk = segment[12];
        return Ok(Payload::Sctp { ports, chunk });
    }
    let length = usize::from(be16(segment, 4));
    if length < 8 || is_whole && length > segment.len() {
        return Err(Reason::Malformed);
    }
    Ok(Payload::Udp { ports })
}
