//! The packets: what the measuring program writes before each run.

use std::net::{Ipv4Addr, Ipv6Addr};

use lb_common::tables::bench::TEMPLATE;

/// The VIP that packets are for, port 80.
pub const VIP4: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
/// See [`VIP4`].
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xc8, 0, 0, 0, 0, 0, 1);
/// Nobody's VIP.
pub const OTHER4: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 9);
/// See [`OTHER4`].
pub const OTHER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xc9, 0, 0, 0, 0, 0, 9);
/// Where packets come from; the lower 16 bits are filled in per flow.
const CLIENT4: Ipv4Addr = Ipv4Addr::new(10, 100, 0, 0);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x64, 0, 0, 0, 0, 0, 0);

const TCP: u8 = 6;
/// TCP flag.
pub const SYN: u8 = 0x02;
/// TCP flag.
pub const ACK: u8 = 0x10;

/// A TCP segment in a frame, source port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    bytes: [u8; TEMPLATE],
    length: usize,
}

impl Packet {
    /// Over IPv4: 64 bytes in all.
    pub fn v4(destination: Ipv4Addr, flags: u8) -> Packet {
        const LENGTH: usize = 64;
        let mut bytes = frame(0x0800);
        let ip = &mut bytes[14..34];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&(LENGTH as u16 - 14).to_be_bytes());
        ip[4..8].copy_from_slice(&[0x12, 0x34, 0x40, 0]);
        ip[8] = 63;
        ip[9] = TCP;
        ip[12..16].copy_from_slice(&CLIENT4.octets());
        ip[16..20].copy_from_slice(&destination.octets());
        let checksum = !sum(ip, 0);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        segment(
            &mut bytes[34..LENGTH],
            flags,
            &[&CLIENT4.octets(), &destination.octets()],
        );
        Packet {
            bytes,
            length: LENGTH,
        }
    }

    /// Over IPv6: 80 bytes in all.
    pub fn v6(destination: Ipv6Addr, flags: u8) -> Packet {
        let mut bytes = frame(0x86DD);
        let ip = &mut bytes[14..54];
        ip[0] = 0x60;
        ip[4..6].copy_from_slice(&(TEMPLATE as u16 - 54).to_be_bytes());
        ip[6] = TCP;
        ip[7] = 63;
        ip[8..24].copy_from_slice(&CLIENT6.octets());
        ip[24..40].copy_from_slice(&destination.octets());
        segment(
            &mut bytes[54..],
            flags,
            &[&CLIENT6.octets(), &destination.octets()],
        );
        Packet {
            bytes,
            length: TEMPLATE,
        }
    }

    /// The bytes, as they are sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// As the job's record wants it.
    pub fn words(&self) -> [u64; TEMPLATE / 8] {
        let mut words = [0; TEMPLATE / 8];
        for (word, bytes) in words.iter_mut().zip(self.bytes.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        words
    }
}

/// A frame with its Ethernet header.
fn frame(ether_type: u16) -> [u8; TEMPLATE] {
    let mut bytes = [0; TEMPLATE];
    bytes[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
    bytes
}

/// Writes a TCP header, payload zero.
fn segment(tcp: &mut [u8], flags: u8, addresses: &[&[u8]]) {
    tcp[2..4].copy_from_slice(&80u16.to_be_bytes());
    tcp[4..8].copy_from_slice(&[1, 0, 0, 0]);
    tcp[8..12].copy_from_slice(&[0x10, 0x20, 0x30, 0x40]);
    tcp[12] = 0x50;
    tcp[13] = flags;
    tcp[14..16].copy_from_slice(&[0xFF, 0xFF]);
    let pseudo = addresses
        .iter()
        .fold(u32::from(TCP) + tcp.len() as u32, |total, address| {
            total + u32::from(sum(address, 0))
        });
    let checksum = !sum(tcp, pseudo);
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
}

/// One's complement sum of 16-bit words (RFC 1071), folded.
pub fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut total = start;
    for pair in bytes.chunks(2) {
        total += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while total >> 16 != 0 {
        total = (total & 0xFFFF) + (total >> 16);
    }
    total as u16
}
