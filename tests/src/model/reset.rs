//! The reset that answers a segment, from RFC 9293 section 3.10.7.1 and RFC 791, 8200.

use std::net::IpAddr;

use super::{
    checksum,
    parse::{ETHERNET, Packet, Payload},
};

const TTL: u8 = 64;
/// The length to which the reset of a frame that is at least as long is padded.
const SHORTEST_FRAME: usize = 60;

/// Returns the frame that is sent back.
pub fn reset(packet: &Packet, frame: &[u8]) -> Vec<u8> {
    let Payload::Tcp {
        ports,
        flags,
        numbers: (sequence, acknowledgment),
        data,
        ..
    } = packet.payload
    else {
        unreachable!("only TCP is reset");
    };
    let (syn, fin, ack) = (flags & 0x02, flags & 0x01, flags & 0x10);
    let (seq, next, control) = if ack != 0 {
        (acknowledgment, 0, 0x04)
    } else {
        let length = data as u32 + u32::from(syn != 0) + u32::from(fin != 0);
        (0, sequence.wrapping_add(length), 0x14)
    };
    let mut segment = Vec::new();
    segment.extend(ports.1.to_be_bytes());
    segment.extend(ports.0.to_be_bytes());
    segment.extend(seq.to_be_bytes());
    segment.extend(next.to_be_bytes());
    segment.extend([5 << 4, control]);
    segment.extend([0; 6]);
    // The reset goes from the VIP to the client.
    let ends = (packet.destination, packet.source);
    let sum = checksum::checksum(&[pseudo_header(ends, segment.len()), segment.clone()].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut answer = [&frame[6..12], &frame[..6], &frame[12..ETHERNET]].concat();
    answer.extend(header(ends, segment.len()));
    answer.extend(segment);
    if answer.len() < SHORTEST_FRAME && frame.len() >= SHORTEST_FRAME {
        answer.resize(SHORTEST_FRAME, 0);
    }
    answer
}

/// Returns the bytes that the checksum covers besides the segment (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn pseudo_header(ends: (IpAddr, IpAddr), length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    match ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend([0, 6]);
            bytes.extend((length as u16).to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend((length as u32).to_be_bytes());
            bytes.extend([0, 0, 0, 6]);
        }
        _ => unreachable!("a packet has addresses of one family"),
    }
    bytes
}

fn header(ends: (IpAddr, IpAddr), length: usize) -> Vec<u8> {
    match ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0];
            header.extend((20 + length as u16).to_be_bytes());
            // There is no identification, and "don't fragment" is set.
            header.extend([0, 0, 0x40, 0, TTL, 6, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = checksum::checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend((length as u16).to_be_bytes());
            header.extend([6, TTL]);
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        _ => unreachable!("a packet has addresses of one family"),
    }
}
