//! The bytes of a frame that is sent.

use std::net::IpAddr;

use lb_common::{
    reason::Reason,
    tables::{next_hop::NextHop, real::OUTER_TTL},
};

use super::{
    checksum,
    parse::{ETHERNET, Packet, Payload},
    testbed::{Mode, Real, Testbed},
};

/// TTL and hop limit of an answer to an echo request.
const ECHO_TTL: u8 = 64;

/// A frame that is sent.
pub struct Sent {
    pub frame: Vec<u8>,
    pub interface: u32,
}

/// Sends a packet to a real; `hash` is that of its flow.
pub fn send(
    testbed: &Testbed,
    packet: &Packet,
    hash: u32,
    real: u16,
    headroom: usize,
    frame: &[u8],
) -> Result<Sent, Reason> {
    let real = testbed
        .reals
        .get(usize::from(real))
        .and_then(Option::as_ref)
        .ok_or(Reason::BadTables)?;
    let hop = testbed
        .next_hops
        .get(real.next_hop as usize)
        .and_then(Option::as_ref)
        .ok_or(Reason::NoNextHop)?;
    if real.largest != 0 && packet.length > real.largest as usize {
        return Err(Reason::TooLarge);
    }
    let frame = match real.mode {
        Mode::L2 => ethernet(hop, [frame[12], frame[13]], &frame[ETHERNET..]),
        Mode::Ipip | Mode::Gue => {
            // A packet without a hop left is not forwarded (RFC 2003 section 3.1, RFC 2473 section 3.1).
            if packet.ttl <= 1 {
                return Err(Reason::TtlExpired);
            }
            let inner = decrement_ttl(&frame[ETHERNET..]);
            let shim = match real.mode {
                Mode::Gue => udp(testbed.gue_port, hash, packet.length)?,
                _ => Vec::new(),
            };
            let content = Content {
                protocol: match real.mode {
                    Mode::Gue => 17,
                    _ => inner_protocol(packet),
                },
                length: packet.length + shim.len(),
            };
            let (kind, mut outer) = match (real.source, real.address) {
                (IpAddr::V4(_), IpAddr::V4(_)) => {
                    ([0x08, 0x00], outer4(real, packet, &content, &inner, hash)?)
                }
                (IpAddr::V6(_), IpAddr::V6(_)) => {
                    ([0x86, 0xDD], outer6(real, packet, &content, hash)?)
                }
                _ => unreachable!("a real's source and address are of one family"),
            };
            outer.extend(shim);
            if headroom < outer.len() {
                return Err(Reason::NoHeadroom);
            }
            ethernet(hop, kind, &[outer, inner].concat())
        }
    };
    Ok(Sent {
        frame,
        interface: hop.interface,
    })
}

fn ethernet(hop: &NextHop, kind: [u8; 2], rest: &[u8]) -> Vec<u8> {
    [&hop.destination[..], &hop.source[..], &kind[..], rest].concat()
}

/// Returns the packet with its TTL or hop limit decremented.
fn decrement_ttl(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
        return packet;
    }
    let header = usize::from(packet[0] & 0x0F) * 4;
    set_ttl(&mut packet[..header], |ttl| ttl - 1);
    packet
}

/// Changes the TTL of an IPv4 header. A correct checksum stays correct, and a wrong one is wrong by the same amount.
fn set_ttl(header: &mut [u8], change: impl Fn(u8) -> u8) {
    let old = u16::from_be_bytes([header[8], header[9]]);
    let was_right = checksum::is_right(header);
    header[8] = change(header[8]);
    let new = u16::from_be_bytes([header[8], header[9]]);
    let sum = if was_right {
        header[10..12].fill(0);
        checksum::checksum(header)
    } else {
        checksum::update(u16::from_be_bytes([header[10], header[11]]), old, new)
    };
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// What is behind an outer IP header.
struct Content {
    protocol: u8,
    length: usize,
}

/// Returns the UDP header of generic UDP encapsulation, variant 1 (draft-ietf-intarea-gue-09): without a checksum, its
/// source port one of the dynamic ones, of the flow's hash.
fn udp(port: u16, hash: u32, inner: usize) -> Result<Vec<u8>, Reason> {
    let length = u16::try_from(8 + inner).map_err(|_| Reason::TooLarge)?;
    let source = 49_152 + (hash >> 16) % 16_384;
    Ok([source as u16, port, length, 0]
        .map(u16::to_be_bytes)
        .concat())
}

/// Returns the protocol number of the outer header.
fn inner_protocol(packet: &Packet) -> u8 {
    if packet.destination.is_ipv4() { 4 } else { 41 }
}

/// Returns an outer IPv4 header (RFC 2003 section 3.1). TOS with its ECN bits is that of the inner header (RFC 6040, normal
/// mode), and so are identification and "don't fragment" of an inner IPv4 packet. An IPv6 packet may not be fragmented
/// on its way.
fn outer4(
    real: &Real,
    packet: &Packet,
    content: &Content,
    inner: &[u8],
    hash: u32,
) -> Result<Vec<u8>, Reason> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (real.source, real.address) else {
        return Err(Reason::BadTables);
    };
    let length = u16::try_from(20 + content.length).map_err(|_| Reason::TooLarge)?;
    let (identification, dont_fragment) = if packet.destination.is_ipv4() {
        (
            u16::from_be_bytes([inner[4], inner[5]]),
            inner[6] & 0x40 != 0,
        )
    } else {
        (0, true)
    };
    let source = u32::from(source) | hash & real.source_mask;
    let mut header = vec![0x45, packet.service_class];
    header.extend(length.to_be_bytes());
    header.extend(identification.to_be_bytes());
    header.extend(if dont_fragment { [0x40, 0] } else { [0, 0] });
    header.extend([OUTER_TTL, content.protocol, 0, 0]);
    header.extend(source.to_be_bytes());
    header.extend(destination.octets());
    let sum = checksum::checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Ok(header)
}

/// Returns an outer IPv6 header (RFC 2473 section 5.1), with a flow label from the flow's hash (RFC 6438).
fn outer6(real: &Real, packet: &Packet, content: &Content, hash: u32) -> Result<Vec<u8>, Reason> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (real.source, real.address) else {
        return Err(Reason::BadTables);
    };
    let length = u16::try_from(content.length).map_err(|_| Reason::TooLarge)?;
    let source = u128::from(source) | u128::from(hash & real.source_mask);
    let first = 6 << 28 | u32::from(packet.service_class) << 20 | hash & 0xF_FFFF;
    let mut header = first.to_be_bytes().to_vec();
    header.extend(length.to_be_bytes());
    header.extend([content.protocol, OUTER_TTL]);
    header.extend(source.to_be_bytes());
    header.extend(destination.octets());
    Ok(header)
}

/// Returns the answer to an echo request, with swapped addresses and the type of an answer (RFC 792; RFC 4443 section
/// 4.2).
pub fn echo_reply(packet: &Packet, request: &[u8]) -> Vec<u8> {
    let Payload::Echo { offset } = packet.payload else {
        unreachable!("only echo requests are answered");
    };
    let mut frame = request.to_vec();
    frame[..6].copy_from_slice(&request[6..12]);
    frame[6..12].copy_from_slice(&request[..6]);
    let (addresses, size, answer) = if packet.destination.is_ipv4() {
        (ETHERNET + 12, 4, 0)
    } else {
        (ETHERNET + 8, 16, 129)
    };
    frame[addresses..addresses + size]
        .copy_from_slice(&request[addresses + size..addresses + 2 * size]);
    frame[addresses + size..addresses + 2 * size]
        .copy_from_slice(&request[addresses..addresses + size]);
    if packet.destination.is_ipv4() {
        let end = ETHERNET + usize::from(request[ETHERNET] & 0x0F) * 4;
        set_ttl(&mut frame[ETHERNET..end], |_| ECHO_TTL);
    } else {
        frame[ETHERNET + 7] = ECHO_TTL;
    }
    let old = u16::from_be_bytes([frame[offset], frame[offset + 1]]);
    frame[offset] = answer;
    let new = u16::from_be_bytes([frame[offset], frame[offset + 1]]);
    let sum = checksum::update(
        u16::from_be_bytes([frame[offset + 2], frame[offset + 3]]),
        old,
        new,
    );
    // A sum of zeroes: its checksum is 0xFFFF (RFC 1071 section 1: +0 and -0).
    let zeroes = packet.destination.is_ipv4() && frame[offset + 4..offset + 8] == [0; 4];
    let sum = if sum == 0 && zeroes { 0xFFFF } else { sum };
    frame[offset + 2..offset + 4].copy_from_slice(&sum.to_be_bytes());
    frame
}
