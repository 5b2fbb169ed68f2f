//! ICMP errors: those about a VIP's flow, and those that the VIP sends itself. Written from RFC 792, 1191, 1812 and
//! 4443.

use std::net::IpAddr;

use lb_common::reason::Reason;

use super::{
    checksum,
    parse::{self, ETHERNET, Packet, Part, Payload},
};

/// Bytes of the longest "fragmentation needed" (RFC 1812 section 4.3.2.3).
const LONGEST_V4: usize = 576;
/// Bytes of "packet too big": the least MTU of IPv6.
const LONGEST_V6: usize = 1_280;
/// TTL and hop limit.
const TTL: u8 = 64;

/// The packet as its client would send it whose answer an error quotes.
pub fn quoted(error: &Packet, frame: &[u8]) -> Option<Packet> {
    let Payload::IcmpError { offset } = error.payload else {
        return None;
    };
    let quote = frame[..ETHERNET + error.length].get(offset + 8..)?;
    let (from, to, protocol, ports) = match error.destination {
        IpAddr::V4(_) => quoted4(quote)?,
        IpAddr::V6(_) => quoted6(quote)?,
    };
    let ports = ports.get(..4)?;
    let ports = (
        u16::from_be_bytes([ports[2], ports[3]]),
        u16::from_be_bytes([ports[0], ports[1]]),
    );
    let payload = match protocol {
        // As the last packet of a flow, which is not answered.
        6 => Payload::Tcp {
            ports,
            flags: 0x04,
            numbers: (0, 0),
            data: 0,
            offset,
        },
        17 => Payload::Udp { ports },
        // Likewise.
        132 => Payload::Sctp { ports, chunk: 6 },
        _ => return None,
    };
    (from == error.destination).then_some(Packet {
        source: to,
        destination: from,
        protocol,
        payload,
        ..error.clone()
    })
}

type Quoted<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn quoted4(packet: &[u8]) -> Option<Quoted<'_>> {
    let header = packet.get(..20)?;
    let size = usize::from(header[0] & 0xF) * 4;
    let offset = u16::from_be_bytes([header[6], header[7]]) & 0x1FFF;
    if header[0] >> 4 != 4 || size < 20 || offset != 0 {
        return None;
    }
    let (source, destination) = parse::addresses4(header);
    Some((source, destination, header[9], packet.get(size..)?))
}

fn quoted6(packet: &[u8]) -> Option<Quoted<'_>> {
    let header = packet.get(..40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let (source, destination) = parse::addresses6(header);
    let (mut next, mut rest) = (header[6], &packet[40..]);
    for _ in 0..2 {
        let size = match next {
            44 if u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]) & 0xFFF8 != 0 => return None,
            44 => 8,
            0 | 43 | 60 => 8 * (usize::from(*rest.get(1)?) + 1),
            _ => break,
        };
        rest.get(..8)?;
        next = rest[0];
        rest = rest.get(size..)?;
    }
    Some((source, destination, next, rest))
}

/// Why a packet may not be answered; `None` if it may.
pub fn refusal(packet: &Packet, frame: &[u8]) -> Option<Reason> {
    let martian = match packet.source {
        IpAddr::V4(source) => {
            source.octets()[0] == 0
                || source.is_loopback()
                || source.is_link_local()
                || source.is_multicast()
                || source.octets()[0] >= 240
        }
        IpAddr::V6(source) => {
            source.segments()[..4] == [0; 4]
                || source.is_unicast_link_local()
                || source.is_multicast()
        }
    };
    if martian || packet.source == packet.destination {
        return Some(Reason::Martian);
    }
    if packet.source.is_ipv4() {
        let header = usize::from(frame[ETHERNET] & 0xF) * 4;
        if !checksum::is_right(&frame[ETHERNET..ETHERNET + header]) {
            return Some(Reason::BadChecksum);
        }
    }
    None
}

/// Why a packet is answered with an error.
#[derive(Clone, Copy, Debug)]
pub enum Cause {
    /// The way to its real takes packets of this length; 0: not known.
    TooLarge(u32),
    /// It has no hop left.
    TimeExceeded,
    /// Nothing serves its port.
    PortUnreachable,
}

/// The error that answers a packet; `None` if it is dropped.
pub fn answer(packet: &Packet, cause: Cause, headroom: usize, frame: &[u8]) -> Option<Vec<u8>> {
    // Of a packet in fragments only the first one is answered (RFC 1122 section 3.2.2). The fragment header of IPv6 is looked
    // for in the first place only.
    let is_later = matches!(packet.part, Part::Later(_))
        && (packet.source.is_ipv4() || frame[ETHERNET + 6] == 44);
    if is_later || matches!(cause, Cause::TooLarge(0)) || refusal(packet, frame).is_some() {
        return None;
    }
    let quote = &frame[ETHERNET..ETHERNET + packet.length];
    // The longest of these that the packet fills: all that an error has room for, a header with options, the least.
    let quoted = |lengths: [usize; 3]| lengths.into_iter().find(|length| quote.len() >= *length);
    let (added, mut message) = match packet.source {
        IpAddr::V4(_) => {
            let may_be_fragmented = frame[ETHERNET + 6] & 0x40 == 0;
            let (kind, code, mtu) = match cause {
                Cause::TooLarge(_) if may_be_fragmented => return None,
                Cause::TooLarge(largest) => (3, 4, largest as u16),
                Cause::TimeExceeded => (11, 0, 0),
                Cause::PortUnreachable => (3, 3, 0),
            };
            let quoted = quoted([LONGEST_V4 - 28, 120, 28])?;
            let head = [[kind, code], [0; 2], [0; 2], mtu.to_be_bytes()].concat();
            (28, [&head, &quote[..quoted]].concat())
        }
        IpAddr::V6(_) => {
            let (kind, code, mtu) = match cause {
                Cause::TooLarge(_) if quote.len() <= LONGEST_V6 => return None,
                Cause::TooLarge(largest) => (2, 0, largest.max(LONGEST_V6 as u32)),
                Cause::TimeExceeded => (3, 0, 0),
                Cause::PortUnreachable => (1, 4, 0),
            };
            let quoted = quoted([LONGEST_V6 - 48, 100, 48])?;
            let mtu = mtu.to_be_bytes();
            (
                48,
                [&[kind, code, 0, 0], &mtu[..], &quote[..quoted]].concat(),
            )
        }
    };
    if headroom < added {
        return None;
    }
    let length = message.len() as u16;
    let header = match (packet.destination, packet.source) {
        (IpAddr::V4(vip), IpAddr::V4(client)) => {
            let sum = checksum::checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut header = vec![0x45, 0xC0];
            header.extend((length + 20).to_be_bytes());
            header.extend([0, 0, 0x40, 0, TTL, 1, 0, 0]);
            header.extend(vip.octets());
            header.extend(client.octets());
            let sum = checksum::checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        (IpAddr::V6(vip), IpAddr::V6(client)) => {
            let mut pseudo = [vip.octets(), client.octets()].concat();
            pseudo.extend(u32::from(length).to_be_bytes());
            pseudo.extend([0, 0, 0, 58]);
            pseudo.extend(&message);
            let sum = checksum::checksum(&pseudo);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length.to_be_bytes());
            header.extend([58, TTL]);
            header.extend(vip.octets());
            header.extend(client.octets());
            header
        }
        _ => unreachable!("a packet has addresses of one family"),
    };
    Some(
        [
            &frame[6..12],
            &frame[..6],
            &frame[12..ETHERNET],
            &header,
            &message,
        ]
        .concat(),
    )
}
