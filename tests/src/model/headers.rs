//! Headers of generated frames.

use std::net::{IpAddr, Ipv4Addr};

use super::{checksum, random::Random};

const MACS: [[u8; 6]; 2] = [[0x02, 0, 0, 0, 0, 0x01], [0x02, 0, 0, 0, 0, 0x02]];

pub(super) fn ethernet(kind: u16) -> Vec<u8> {
    let mut header = [MACS[0], MACS[1]].concat();
    header.extend(kind.to_be_bytes());
    header
}

/// Returns an IPv4 header without lengths, TTL, protocol and checksum.
pub(super) fn ip4(
    random: &mut Random,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    plain: bool,
) -> Vec<u8> {
    let words = if plain || random.chance(70) {
        5
    } else {
        5 + random.below(11)
    };
    let mut header = vec![0; 4 * words];
    header[0] = 0x40 | words as u8;
    header[4] = random.byte();
    header[5] = random.byte();
    header[6] = match random.below(100) {
        _ if plain => 0x40,
        0..5 => 0x20,
        5..8 => random.byte(),
        8..10 => 0x80,
        10..55 => 0,
        _ => 0x40,
    };
    if header[6] & 0x20 != 0 {
        header[7] = random.byte();
    }
    // Some fragments belong together: few identifications, and many that are the first ones.
    if header[6] & 0x3F != 0 && random.chance(80) {
        header[4..6].copy_from_slice(&[0, random.byte() & 1]);
        if random.chance(50) {
            header[6..8].copy_from_slice(&[0x20, 0]);
        }
    }
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    for option in &mut header[20..] {
        *option = if random.chance(70) { 1 } else { random.byte() };
    }
    header
}

/// Returns the number of the first extension header, and no, some or too many IPv6 extension headers.
pub(super) fn extension_headers(random: &mut Random, protocol: u8) -> (u8, Vec<u8>) {
    let count = match random.below(10) {
        0..6 => 0,
        6..8 => 1,
        8 => 1 + random.below(3),
        _ => 1 + random.below(9),
    };
    let kinds: Vec<u8> = (0..count)
        .map(|i| match random.below(12) {
            0 | 1 if i == 0 => 0,
            0 => 44,
            1 => 0,
            2..=5 => 43,
            _ => 60,
        })
        .collect();
    let mut bytes = Vec::new();
    for (i, kind) in kinds.iter().enumerate() {
        let next = *kinds.get(i + 1).unwrap_or(&protocol);
        let longer = if random.chance(70) || *kind == 44 {
            0
        } else {
            random.below(4)
        };
        let mut header = random.bytes(8 * (longer + 1));
        header[0] = next;
        header[1] = longer as u8;
        if *kind == 43 && random.chance(80) {
            header[3] = 0;
        }
        if *kind == 44 && random.chance(60) {
            // No fragment at all.
            header[2] = 0;
            header[3] &= 0x06;
        } else if *kind == 44 && random.chance(80) {
            header[4..8].copy_from_slice(&[0, 0, 0, random.byte() & 1]);
            if random.chance(50) {
                // The first one.
                header[2] = 0;
                header[3] = 1;
            }
        }
        bytes.extend(header);
    }
    (*kinds.first().unwrap_or(&protocol), bytes)
}

/// Returns a TCP segment without checksum. `words` is the length of its header.
pub(super) fn tcp(ports: (u16, u16), words: u8, flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let mut segment = ports.0.to_be_bytes().to_vec();
    segment.extend(ports.1.to_be_bytes());
    segment.extend([
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        2,
        words << 4,
        flags,
        0x20,
        0,
        0,
        0,
        0,
        0,
    ]);
    segment.extend(options);
    segment.extend(data);
    segment
}

/// Returns a packet of SCTP whose first chunk is of this type.
pub(super) fn sctp((source, destination): (u16, u16), chunk: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = [source, destination].map(u16::to_be_bytes).concat();
    packet.extend([7; 8]);
    packet.extend([chunk, 0, 0, 4]);
    packet.extend(data);
    packet
}

/// Returns a UDP datagram without checksum.
pub(super) fn udp(ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let mut datagram = ports.0.to_be_bytes().to_vec();
    datagram.extend(ports.1.to_be_bytes());
    datagram.extend((8 + data.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    datagram
}

/// Sets the checksum at `sum` of a message to `target`, and adjusts the word at `word` so that a correct checksum
/// stays correct.
pub(super) fn aim(message: &mut [u8], word: usize, sum: usize, target: u16) {
    let number = |at: usize| u32::from(message[at]) << 8 | u32::from(message[at + 1]);
    let mut changed = number(word) + number(sum) + u32::from(!target);
    while changed > 0xFFFF {
        changed = (changed & 0xFFFF) + (changed >> 16);
    }
    message[word..word + 2].copy_from_slice(&(changed as u16).to_be_bytes());
    message[sum..sum + 2].copy_from_slice(&target.to_be_bytes());
}

/// Fills in the checksum of TCP, UDP, ICMP or ICMPv6.
pub(super) fn fill_checksum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &mut [u8]) {
    let at = match protocol {
        6 => 16,
        17 => 6,
        1 | 58 => 2,
        _ => return,
    };
    if segment.len() < at + 2 {
        return;
    }
    let mut covered = Vec::new();
    if protocol != 1 {
        match (source, destination) {
            (IpAddr::V4(a), IpAddr::V4(b)) => covered.extend([a.octets(), b.octets()].concat()),
            (IpAddr::V6(a), IpAddr::V6(b)) => covered.extend([a.octets(), b.octets()].concat()),
            _ => unreachable!("client and VIP are of one family"),
        }
        covered.extend((segment.len() as u32).to_be_bytes());
        covered.extend([0, 0, 0, protocol]);
    }
    segment[at..at + 2].fill(0);
    covered.extend_from_slice(segment);
    let sum = match checksum::checksum(&covered) {
        // In UDP, a sum of zero is sent as 0xFFFF (RFC 768).
        0 if protocol == 17 => 0xFFFF,
        sum => sum,
    };
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
