//! Fragments (RFC 791 section 3.2, RFC 8200 section 4.5): those behind the first one have its ports.

use std::net::IpAddr;

use lb_common::{
    limits::{FRAGMENT_TICKS, MAX_EXTENSION_HEADERS},
    reason::Reason,
};

use super::{
    Model, VipName,
    parse::{self, ETHERNET, Packet, Part, Payload},
};

/// What all fragments of a packet have in common. The protocol is part of it in IPv4 only.
pub type Name = (IpAddr, IpAddr, u32, Option<u8>);

/// What the first fragment said.
#[derive(Clone, Copy, Debug)]
pub struct First {
    protocol: u8,
    ports: (u16, u16),
    /// The real that it named.
    pub named: Option<u16>,
    seen: u32,
}

/// A fragment as its headers say it.
struct Piece {
    name: Name,
    /// The protocol that it says.
    protocol: u8,
    offset: usize,
    /// Where its part of the payload is in the IP packet.
    at: usize,
}

impl Model {
    /// The packet of a frame with a fragment, with the ports of its first one.
    pub(super) fn fragment(&mut self, frame: &[u8]) -> Result<Packet, Reason> {
        let ip = &frame[ETHERNET..];
        let piece = if ip[0] >> 4 == 4 {
            piece4(ip)
        } else {
            piece6(ip)
        };
        let Some(piece) = piece else {
            return Err(Reason::Fragment);
        };
        let (source, destination, ..) = piece.name;
        let is_transport = matches!(piece.protocol, 6 | 17 | 132);
        let (protocol, payload, part) = if piece.offset == 0 {
            if !is_transport || !self.has_vip(destination) {
                return Err(Reason::Fragment);
            }
            let Ok(payload) = parse::transport(piece.protocol, ip_packet(ip), piece.at, false)
            else {
                return Err(Reason::Fragment);
            };
            let first = First {
                protocol: piece.protocol,
                ports: parse::ports(payload),
                named: None,
                seen: self.now,
            };
            self.fragments.insert(piece.name, first);
            (piece.protocol, payload, Part::First(piece.name))
        } else {
            let first = self.fragments.get(&piece.name);
            let first = first.filter(|first| self.now.wrapping_sub(first.seen) <= FRAGMENT_TICKS);
            // RFC 3128: one that begins within the fixed part of a header that is not UDP's.
            if first.is_some_and(|first| piece.offset < least(first.protocol)) {
                return Err(Reason::FragmentUnknown);
            }
            let Some(First {
                protocol, ports, ..
            }) = first.copied()
            else {
                let is_lost = is_transport && self.has_vip(destination);
                return Err(if is_lost {
                    Reason::FragmentUnknown
                } else {
                    Reason::Fragment
                });
            };
            let payload = match protocol {
                // As a segment of a connection that runs.
                6 => Payload::Tcp {
                    ports,
                    flags: 0x10,
                    numbers: (0, 0),
                    data: 0,
                    offset: 0,
                },
                17 => Payload::Udp { ports },
                _ => Payload::Sctp { ports, chunk: 0 },
            };
            (protocol, payload, Part::Later(piece.name))
        };
        Ok(Packet {
            source,
            destination,
            protocol,
            length: ip_packet(ip).len(),
            ttl: if source.is_ipv4() { ip[8] } else { ip[7] },
            service_class: if source.is_ipv4() {
                ip[1]
            } else {
                ip[0] << 4 | ip[1] >> 4
            },
            payload,
            part,
        })
    }

    /// Whether an address is that of some VIP.
    fn has_vip(&self, address: IpAddr) -> bool {
        let protocol = if address.is_ipv4() { 1 } else { 58 };
        let name = VipName {
            address,
            port: 0,
            protocol,
        };
        self.testbed.vips.contains_key(&name)
    }
}

/// The IP packet without what is behind it.
fn ip_packet(ip: &[u8]) -> &[u8] {
    let length = if ip[0] >> 4 == 4 {
        parse::be16(ip, 2).into()
    } else {
        40 + usize::from(parse::be16(ip, 4))
    };
    &ip[..length]
}

/// Bytes of a header that a first fragment has.
fn least(protocol: u8) -> usize {
    match protocol {
        6 => 20,
        132 => 16,
        _ => 0,
    }
}

fn piece4(ip: &[u8]) -> Option<Piece> {
    let protocol = ip[9];
    let (source, destination) = parse::addresses4(ip);
    Some(Piece {
        name: (
            source,
            destination,
            parse::be16(ip, 4).into(),
            Some(protocol),
        ),
        protocol,
        offset: usize::from(parse::be16(ip, 6) & 0x1FFF) * 8,
        at: usize::from(ip[0] & 0xF) * 4,
    })
}

/// Headers behind that of the fragment are not walked.
fn piece6(ip: &[u8]) -> Option<Piece> {
    let packet = ip_packet(ip);
    let (source, destination) = parse::addresses6(ip);
    let (mut next, mut at) = (ip[6], 40);
    for _ in 0..MAX_EXTENSION_HEADERS {
        let header = packet.get(at..at + 8)?;
        if next == 44 {
            return Some(Piece {
                name: (source, destination, parse::be32(header, 4), None),
                protocol: header[0],
                offset: usize::from(parse::be16(header, 2) & 0xFFF8),
                at: at + 8,
            });
        }
        next = header[0];
        at += 8 * (usize::from(header[1]) + 1);
    }
    None
}
