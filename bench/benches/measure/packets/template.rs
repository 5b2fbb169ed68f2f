//! The packets that the measuring program writes before each run.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::ensure;
use etherparse::{
    Ethernet2Header, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header,
    PacketBuilder, TcpHeader,
};
use lb_common::tables::bench::TEMPLATE;

/// The VIP that packets are for, port 80.
pub const VIP4: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
/// See [`VIP4`].
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xc8, 0, 0, 0, 0, 0, 1);
/// An address that is no VIP.
pub const OTHER4: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 9);
/// See [`OTHER4`].
pub const OTHER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xc9, 0, 0, 0, 0, 0, 9);
/// Source of the packets; the measuring program fills in the lower 16 bits per flow.
const CLIENT4: Ipv4Addr = Ipv4Addr::new(10, 100, 0, 0);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x64, 0, 0, 0, 0, 0, 0);

/// Length of the TCP payload, which brings IPv4 frames to 64 bytes.
const PAYLOAD_V4: usize = 10;
/// Length of the TCP payload in IPv6 frames, which brings them to 80 bytes.
const PAYLOAD_V6: usize = 6;
/// Hop limit; the balancer decrements it.
const HOP_LIMIT: u8 = 63;

/// The kind of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The first segment of a connection.
    Syn,
    /// A segment of an established connection.
    Ack,
}

/// A TCP segment in an Ethernet frame, with source port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    bytes: [u8; TEMPLATE],
    length: usize,
}

impl Packet {
    /// Builds an IPv4 packet of 64 bytes with its Ethernet header.
    pub fn v4(destination: Ipv4Addr, segment: Segment) -> Packet {
        let addresses = (CLIENT4.octets(), destination.octets());
        let length = (TcpHeader::MIN_LEN + PAYLOAD_V4) as u16;
        let mut ip = Ipv4Header::new(length, HOP_LIMIT, IpNumber::TCP, addresses.0, addresses.1)
            .expect("the packet is far below 64 KiB");
        ip.identification = 0x1234;
        build(
            IpHeaders::Ipv4(ip, Ipv4Extensions::default()),
            segment,
            &[0; PAYLOAD_V4],
        )
    }

    /// Builds an IPv6 packet of 80 bytes with its Ethernet header.
    pub fn v6(destination: Ipv6Addr, segment: Segment) -> Packet {
        let ip = Ipv6Header {
            payload_length: (TcpHeader::MIN_LEN + PAYLOAD_V6) as u16,
            next_header: IpNumber::TCP,
            hop_limit: HOP_LIMIT,
            source: CLIENT6.octets(),
            destination: destination.octets(),
            ..Ipv6Header::default()
        };
        build(
            IpHeaders::Ipv6(ip, Ipv6Extensions::default()),
            segment,
            &[0; PAYLOAD_V6],
        )
    }

    /// Returns the frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Returns the frame as the job's record holds it.
    pub fn words(&self) -> [u64; TEMPLATE / 8] {
        let mut words = [0; TEMPLATE / 8];
        for (word, bytes) in words.iter_mut().zip(self.bytes.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        words
    }
}

fn build(ip: IpHeaders, segment: Segment, payload: &[u8]) -> Packet {
    let mut tcp = TcpHeader::new(0, 80, 0x0100_0000, 0xFFFF);
    tcp.acknowledgment_number = 0x1020_3040;
    match segment {
        Segment::Syn => tcp.syn = true,
        Segment::Ack => tcp.ack = true,
    }
    let mut frame = Vec::with_capacity(TEMPLATE);
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
        .ip(ip)
        .tcp_header(tcp)
        .write(&mut frame, payload)
        .expect("a vector takes any number of bytes");
    let mut bytes = [0; TEMPLATE];
    bytes[..frame.len()].copy_from_slice(&frame);
    Packet {
        bytes,
        length: frame.len(),
    }
}

/// Fails unless `frame` holds an IPv4 packet within another one, both with a correct header checksum.
pub fn check_tunnel_v4(frame: &[u8]) -> anyhow::Result<()> {
    let (_, rest) = Ethernet2Header::from_slice(frame)?;
    let (outer, rest) = Ipv4Header::from_slice(rest)?;
    let (inner, _) = Ipv4Header::from_slice(rest)?;
    for (name, header) in [("outer", outer), ("inner", inner)] {
        ensure!(
            header.header_checksum == header.calc_header_checksum(),
            "the checksum of the {name} IPv4 header is wrong"
        );
    }
    Ok(())
}
