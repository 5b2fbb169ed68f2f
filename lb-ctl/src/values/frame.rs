//! Builds the Ethernet frame of a flow's packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;
use lb_model::vip::Protocol;

use super::flow::Flow;

/// Flags of a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TcpFlag {
    /// No more data from the sender.
    Fin,
    /// A new connection.
    Syn,
    /// The connection is reset.
    Rst,
    /// Deliver at once.
    Psh,
    /// The acknowledgement number is valid.
    Ack,
    /// The urgent pointer is valid.
    Urg,
}

impl TcpFlag {
    /// Returns the flag's bit in the 14th byte of the header (RFC 9293 section 3.1).
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A locally administered address, which no vendor assigns.
const DESTINATION_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
const SOURCE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// TTL and hop limit of common hosts.
const HOP_LIMIT: u8 = 64;
const WINDOW: u16 = 64_240;

/// Builds the frame of a packet without payload, with these flags for TCP, and with correct checksums.
#[must_use]
pub fn build(flow: &Flow, flags: &[TcpFlag]) -> Vec<u8> {
    let (source, destination) = (flow.source.ip(), flow.destination.ip());
    let mut segment = match flow.protocol {
        Protocol::Udp => udp(flow),
        Protocol::Sctp => sctp(flow),
        // A flow is of one protocol.
        Protocol::Tcp | Protocol::TcpUdp => tcp(flow, flags),
    };
    let number = flow.protocol.numbers()[0];
    let checksum_at = match flow.protocol {
        Protocol::Udp => Some(6),
        // The balancer does not look at SCTP's checksum.
        Protocol::Sctp => None,
        Protocol::Tcp | Protocol::TcpUdp => Some(16),
    };
    if let Some(at) = checksum_at {
        let sum = transport_checksum(source, destination, number, &segment);
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    let mut frame = Vec::with_capacity(14 + 40 + segment.len());
    frame.extend(DESTINATION_MAC);
    frame.extend(SOURCE_MAC);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend(ETHERTYPE_IPV4.to_be_bytes());
            frame.extend(ipv4(source, destination, number, segment.len()));
        }
        (source, destination) => {
            frame.extend(ETHERTYPE_IPV6.to_be_bytes());
            frame.extend(ipv6(v6(source), v6(destination), number, segment.len()));
        }
    }
    frame.extend(segment);
    frame
}

/// Converts an address of an IPv6 flow. Both ends have the same family, so no IPv4 address is mapped.
fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn tcp(flow: &Flow, flags: &[TcpFlag]) -> Vec<u8> {
    let bits = flags.iter().fold(0, |bits, flag| bits | flag.bit());
    let acknowledges = flags.contains(&TcpFlag::Ack);
    let mut header = Vec::with_capacity(20);
    header.extend(flow.source.port().to_be_bytes());
    header.extend(flow.destination.port().to_be_bytes());
    header.extend(1_u32.to_be_bytes());
    header.extend(u32::from(acknowledges).to_be_bytes());
    // The header has 5 words.
    header.extend([5 << 4, bits]);
    header.extend(WINDOW.to_be_bytes());
    // The checksum, which is filled in later, and the urgent pointer.
    header.extend([0; 4]);
    header
}

fn udp(flow: &Flow) -> Vec<u8> {
    let mut header = Vec::with_capacity(8);
    header.extend(flow.source.port().to_be_bytes());
    header.extend(flow.destination.port().to_be_bytes());
    header.extend(8_u16.to_be_bytes());
    header.extend([0; 2]);
    header
}

/// The common header and the head of a chunk that begins an association (RFC 9260 section 3).
fn sctp(flow: &Flow) -> Vec<u8> {
    let mut packet = Vec::with_capacity(16);
    packet.extend(flow.source.port().to_be_bytes());
    packet.extend(flow.destination.port().to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 4]);
    packet
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: usize) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&length(20 + payload));
    // "Don't fragment", as path MTU discovery sets it.
    header[6] = 0x40;
    header[8] = HOP_LIMIT;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let sum = !fold(sum(&header));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, payload: usize) -> [u8; 40] {
    let mut header = [0; 40];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&length(payload));
    header[6] = protocol;
    header[7] = HOP_LIMIT;
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&destination.octets());
    header
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes)
        .expect("a packet without payload is short")
        .to_be_bytes()
}

/// Computes the checksum over the pseudo header and the segment, whose checksum field is 0 (RFC 9293 section 3.1,
/// RFC 8200 section 8.1).
fn transport_checksum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    let total = address(source)
        + address(destination)
        + u32::from(protocol)
        + sum(&length(segment.len()))
        + sum(segment);
    match !fold(total) {
        // In UDP, 0 would mean that there is no checksum (RFC 768). In TCP, 0 and 0xffff are equivalent.
        0 => 0xffff,
        checksum => checksum,
    }
}

/// Sums 16-bit words. The number of bytes must be even, and small enough for a sum of 32 bits.
fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flow: &str, flags: &[TcpFlag]) -> String {
        ::hex::encode(build(&flow.parse().unwrap(), flags))
    }

    /// Other software computed these checksums.
    #[test]
    fn frames_are_what_the_rfcs_say() {
        const V4: &str = "0200000000020200000000010800";
        const V6: &str = "02000000000202000000000186dd";
        for (flow, flags, ethernet, ip, segment) in [
            (
                "tcp 198.51.100.7:40000 -> 10.0.0.1:80",
                vec![TcpFlag::Syn],
                V4,
                "450000280000400040060695c63364070a000001",
                "9c40005000000001000000005002faf0e4240000",
            ),
            (
                "tcp 198.51.100.7:40000 -> 10.0.0.1:80",
                vec![TcpFlag::Ack],
                V4,
                "450000280000400040060695c63364070a000001",
                "9c40005000000001000000015010faf0e4150000",
            ),
            (
                "udp 198.51.100.7:5000 -> 10.0.0.1:53",
                vec![],
                V4,
                "4500001c0000400040110696c63364070a000001",
                "138800350008b7e5",
            ),
            // The sum is 0, which UDP writes as ffff.
            (
                "udp 198.51.100.7:52077 -> 10.0.0.1:53",
                vec![],
                V4,
                "4500001c0000400040110696c63364070a000001",
                "cb6d00350008ffff",
            ),
            (
                "tcp [2001:db8::7]:40000 -> [2001:db8::1]:443",
                vec![TcpFlag::Syn],
                V6,
                "600000000014064020010db800000000000000000000000720010db8000000000000000000000001",
                "9c4001bb00000001000000005002faf0bb7b0000",
            ),
            (
                "udp [2001:db8::7]:5000 -> [2001:db8::1]:53",
                vec![],
                V6,
                "600000000008114020010db800000000000000000000000720010db8000000000000000000000001",
                "13880035000890a7",
            ),
        ] {
            assert_eq!(
                frame(flow, &flags),
                format!("{ethernet}{ip}{segment}"),
                "{flow}"
            );
        }
    }

    #[test]
    fn flags_have_the_bits_of_the_header() {
        let bits = |flags: &[TcpFlag]| {
            build(&"tcp 198.51.100.7:1 -> 10.0.0.1:80".parse().unwrap(), flags)[14 + 20 + 13]
        };
        for (flag, bit) in [
            (TcpFlag::Fin, 0x01),
            (TcpFlag::Syn, 0x02),
            (TcpFlag::Rst, 0x04),
            (TcpFlag::Psh, 0x08),
            (TcpFlag::Ack, 0x10),
            (TcpFlag::Urg, 0x20),
        ] {
            assert_eq!(bits(&[flag]), bit);
        }
        assert_eq!(bits(&[TcpFlag::Syn, TcpFlag::Ack]), 0x12);
        assert_eq!(bits(&[]), 0);
    }
}
