//! Frames as a balancer sends them, and as it never would.

extern crate std;

mod model;

use std::vec::Vec;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, PacketBuilder};

use super::*;

const VIP4: [u8; 4] = [192, 0, 2, 1];
const VIP6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// A frame in memory.
#[derive(Clone, Debug, PartialEq)]
struct Memory {
    bytes: Vec<u8>,
    movable: bool,
}

impl Frame for Memory {
    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.bytes.get_mut(offset..offset + N)?.try_into().ok()
    }

    fn push(&mut self, _: usize) -> bool {
        false
    }

    fn pull(&mut self, bytes: usize) -> bool {
        if self.movable {
            self.bytes.drain(..bytes);
        }
        self.movable
    }
}

struct OneVip;

impl Vips for OneVip {
    fn has4(&self, address: &[u8; 4]) -> bool {
        *address == VIP4
    }

    fn has6(&self, address: &[u8; 16]) -> bool {
        *address == VIP6
    }
}

fn run(frame: &[u8]) -> (Reason, Vec<u8>) {
    let mut memory = Memory {
        bytes: frame.to_vec(),
        movable: true,
    };
    let reason = decapsulate(&mut memory, &OneVip);
    (reason, memory.bytes)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Family {
    V4,
    V6,
}

/// An inner packet for the VIP, with these congestion bits.
fn inner(family: Family, ecn: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let udp = match family {
        Family::V4 => {
            let mut header =
                Ipv4Header::new(0, 63, IpNumber::UDP, [198, 51, 100, 7], VIP4).unwrap();
            header.ecn = ecn.try_into().unwrap();
            header.dscp = 46.try_into().unwrap();
            PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
        }
        Family::V6 => {
            let mut source = VIP6;
            source[15] = 9;
            let header = Ipv6Header {
                traffic_class: 46 << 2 | ecn,
                hop_limit: 63,
                source,
                destination: VIP6,
                ..Default::default()
            };
            PacketBuilder::ip(etherparse::IpHeaders::Ipv6(header, Default::default()))
        }
    }
    .udp(40_000, 53);
    udp.write(&mut packet, payload).unwrap();
    packet
}

/// The frame that carries `packet` bare.
fn bare(family: Family, packet: &[u8]) -> Vec<u8> {
    let ether_type = match family {
        Family::V4 => [8, 0],
        Family::V6 => [0x86, 0xDD],
    };
    [&MACS[..], &ether_type, packet].concat()
}

/// The frame that carries `packet` in an outer header.
fn encapsulated(outer: Family, ecn: u8, inner: Family, packet: &[u8]) -> Vec<u8> {
    let protocol = match inner {
        Family::V4 => IpNumber::IPV4,
        Family::V6 => IpNumber::IPV6,
    };
    let mut bytes = Vec::new();
    match outer {
        Family::V4 => {
            let mut header = Ipv4Header::new(
                packet.len() as u16,
                64,
                protocol,
                [10, 0, 0, 1],
                [10, 0, 0, 2],
            )
            .unwrap();
            header.ecn = ecn.try_into().unwrap();
            header.header_checksum = header.calc_header_checksum();
            header.write(&mut bytes).unwrap();
        }
        Family::V6 => Ipv6Header {
            traffic_class: ecn,
            payload_length: packet.len() as u16,
            next_header: protocol,
            hop_limit: 64,
            source: [1; 16],
            destination: [2; 16],
            ..Default::default()
        }
        .write(&mut bytes)
        .unwrap(),
    }
    bytes.extend_from_slice(packet);
    bare(outer, &bytes)
}

const PAIRS: [(Family, Family, Reason); 4] = [
    (Family::V4, Family::V4, Reason::Ip4InIp4),
    (Family::V4, Family::V6, Reason::Ip6InIp4),
    (Family::V6, Family::V4, Reason::Ip4InIp6),
    (Family::V6, Family::V6, Reason::Ip6InIp6),
];

#[test]
fn the_inner_packet_comes_out_whole_in_all_families() {
    for (outer, family, reason) in PAIRS {
        for payload in [&b""[..], b"hello", &[7; 1_400]] {
            let packet = inner(family, 0, payload);
            let frame = encapsulated(outer, 0, family, &packet);
            assert_eq!(
                run(&frame),
                (reason, bare(family, &packet)),
                "{outer:?} {family:?}"
            );
            // Bytes behind the outer packet (a short frame's padding) stay where they are.
            let padded = [&frame[..], &[0; 9]].concat();
            assert_eq!(
                run(&padded),
                (reason, [&bare(family, &packet)[..], &[0; 9]].concat())
            );
        }
    }
}

/// The packet behind a UDP header, as the payload of an outer header.
fn in_udp(port: u16, packet: &[u8]) -> Vec<u8> {
    let length = packet.len() as u16 + 8;
    let header = [40_000, port, length, 0].map(u16::to_be_bytes).concat();
    [&header, packet].concat()
}

/// The frame of generic UDP encapsulation.
fn in_gue(outer: Family, ecn: u8, port: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = encapsulated(outer, ecn, Family::V4, &in_udp(port, packet));
    match outer {
        Family::V4 => {
            frame[23] = 17;
            let (mut header, _) = Ipv4Header::from_slice(&frame[14..]).unwrap();
            header.header_checksum = header.calc_header_checksum();
            frame[14..34].copy_from_slice(&header.to_bytes());
        }
        Family::V6 => frame[20] = 17,
    }
    frame
}

const GUE_PAIRS: [(Family, Family, Reason); 4] = [
    (Family::V4, Family::V4, Reason::Ip4InGue4),
    (Family::V4, Family::V6, Reason::Ip6InGue4),
    (Family::V6, Family::V4, Reason::Ip4InGue6),
    (Family::V6, Family::V6, Reason::Ip6InGue6),
];

#[test]
fn the_inner_packet_comes_out_of_udp() {
    for (outer, family, reason) in GUE_PAIRS {
        for (mark, after) in [(0, 2), (3, 3)] {
            let frame = in_gue(outer, mark, 6_080, &inner(family, 2, b"hello"));
            let wanted = bare(family, &inner(family, after, b"hello"));
            assert_eq!(run(&frame), (reason, wanted), "{outer:?} {family:?}");
        }
    }
}

#[test]
fn udp_of_another_kind_passes_untouched() {
    for (outer, family, _) in GUE_PAIRS {
        let udp = if outer == Family::V4 { 34 } else { 54 };
        let good = in_gue(outer, 0, 6_080, &inner(family, 0, b"hello"));
        let cases: [(&str, usize, u8, Reason); 5] = [
            ("another port", udp + 3, 0xC1, Reason::NotTunnel),
            ("variant 0", udp + 8, 0x05, Reason::NotTunnel),
            ("variant 2", udp + 8, 0x85, Reason::NotTunnel),
            ("shorter than its header", udp + 5, 7, Reason::Malformed),
            ("longer than the packet", udp + 4, 9, Reason::Malformed),
        ];
        for (what, at, value, reason) in cases {
            let mut frame = good.clone();
            frame[at] = value;
            assert_eq!(run(&frame), (reason, frame), "{what}, {outer:?} {family:?}");
        }
        let other = in_gue(outer, 0, 6_080, &inner(family, 0, b"hello"));
        let mut frame = other.clone();
        let destination = udp + 8 + if family == Family::V4 { 19 } else { 39 };
        frame[destination] ^= 1;
        assert_eq!(run(&frame), (Reason::NotVip, frame));
        let mut short = good;
        short.truncate(udp + 8);
        assert_eq!(run(&short), (Reason::Malformed, short));
    }
}

#[test]
fn congestion_marks_follow_rfc_6040() {
    // Rows: inner Not-ECT, ECT(1), ECT(0), CE; columns: the same, outer. The figure of section 4.2.
    const TABLE: [[Option<u8>; 4]; 4] = [
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3), Some(3), Some(3), Some(3)],
    ];
    for (outer, family, reason) in PAIRS {
        for (inner_mark, row) in (0u8..).zip(TABLE) {
            for (outer_mark, wanted) in (0u8..).zip(row) {
                let frame =
                    encapsulated(outer, outer_mark, family, &inner(family, inner_mark, b"x"));
                let wanted = match wanted {
                    None => (Reason::Congestion, frame.clone()),
                    // The builder computes the whole header checksum: the incremental one must agree.
                    Some(mark) => (reason, bare(family, &inner(family, mark, b"x"))),
                };
                assert_eq!(
                    run(&frame),
                    wanted,
                    "{outer:?} {family:?} {inner_mark} in {outer_mark}"
                );
            }
        }
    }
}

#[test]
fn what_is_not_for_a_vip_passes_untouched() {
    type Change = fn(&mut Vec<u8>);
    let v4 = encapsulated(Family::V4, 0, Family::V4, &inner(Family::V4, 0, b"data"));
    let v6 = encapsulated(Family::V6, 0, Family::V6, &inner(Family::V6, 0, b"data"));
    let mixed = encapsulated(Family::V4, 0, Family::V6, &inner(Family::V6, 0, b"data"));
    let cases: &[(&str, &[u8], Change, Reason)] = &[
        ("ARP", &v4, |f| f[13] = 6, Reason::NotIp),
        ("a VLAN tag", &v4, |f| f[12] = 0x81, Reason::NotIp),
        ("UDP", &v4, |f| f[23] = 17, Reason::NotTunnel),
        ("GRE in IPv6", &v6, |f| f[20] = 47, Reason::NotTunnel),
        ("another inner address", &v4, |f| f[53] ^= 1, Reason::NotVip),
        (
            "another inner IPv6 address",
            &v6,
            |f| f[93] ^= 1,
            Reason::NotVip,
        ),
        (
            "outer more fragments",
            &v4,
            |f| f[20] |= 0x20,
            Reason::Fragment,
        ),
        (
            "outer fragment offset",
            &v4,
            |f| f[21] = 1,
            Reason::Fragment,
        ),
        (
            "outer fragment header",
            &v6,
            |f| f[20] = 44,
            Reason::Fragment,
        ),
        ("outer options", &v4, |f| f[14] = 0x46, Reason::Options),
        (
            "outer hop-by-hop header",
            &v6,
            |f| f[20] = 0,
            Reason::Options,
        ),
        (
            "outer IHL too small",
            &v4,
            |f| f[14] = 0x44,
            Reason::Malformed,
        ),
        ("outer version", &v4, |f| f[14] = 0x65, Reason::Malformed),
        (
            "outer IPv6 version",
            &v6,
            |f| f[14] = 0x40,
            Reason::Malformed,
        ),
        (
            "outer length beyond the frame",
            &v4,
            |f| f[16] = 0x10,
            Reason::Malformed,
        ),
        (
            "outer length below the header",
            &v4,
            |f| f[17] = 19,
            Reason::Malformed,
        ),
        (
            "outer IPv6 length beyond the frame",
            &v6,
            |f| f[18] = 0x10,
            Reason::Malformed,
        ),
        ("inner version", &v4, |f| f[34] = 0x65, Reason::Malformed),
        (
            "inner IHL too small",
            &v4,
            |f| f[34] = 0x44,
            Reason::Malformed,
        ),
        (
            "inner length beyond the outer",
            &v4,
            |f| f[37] += 1,
            Reason::Malformed,
        ),
        (
            "inner length below its header",
            &v4,
            |f| f[37] = 19,
            Reason::Malformed,
        ),
        (
            "inner IPv6 length beyond the outer",
            &mixed,
            |f| f[39] += 1,
            Reason::Malformed,
        ),
        (
            "inner IPv6 version",
            &mixed,
            |f| f[34] = 0x40,
            Reason::Malformed,
        ),
        (
            "protocol says IPv6, packet says IPv4",
            &v4,
            |f| f[23] = 41,
            Reason::Malformed,
        ),
        (
            "cut in the inner header",
            &v4,
            |f| f.truncate(50),
            Reason::Malformed,
        ),
        (
            "cut in the outer header",
            &v4,
            |f| f.truncate(30),
            Reason::Malformed,
        ),
        (
            "cut in the Ethernet header",
            &v4,
            |f| f.truncate(13),
            Reason::Malformed,
        ),
    ];
    for (what, base, change, reason) in cases {
        let mut frame = base.to_vec();
        change(&mut frame);
        assert_eq!(run(&frame), (*reason, frame), "{what}");
    }
}

#[test]
fn inner_options_and_fragments_are_the_stacks_affair() {
    let mut packet = inner(Family::V4, 0, b"data");
    packet[6] = 0x20;
    let frame = encapsulated(Family::V4, 0, Family::V4, &packet);
    assert_eq!(run(&frame), (Reason::Ip4InIp4, bare(Family::V4, &packet)));
    packet[0] = 0x46;
    let frame = encapsulated(Family::V4, 0, Family::V4, &packet);
    assert_eq!(run(&frame), (Reason::Ip4InIp4, bare(Family::V4, &packet)));
}

#[test]
fn a_frame_that_cannot_be_moved_passes_as_it_was() {
    let bytes = encapsulated(Family::V4, 3, Family::V4, &inner(Family::V4, 2, b"data"));
    let mut frame = Memory {
        bytes: bytes.clone(),
        movable: false,
    };
    assert_eq!(decapsulate(&mut frame, &OneVip), Reason::NotMoved);
    assert_eq!(frame.bytes, bytes);
}

#[test]
fn reasons_are_numbered_in_their_order() {
    for (number, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, number);
    }
}

#[test]
fn an_empty_frame_is_malformed() {
    assert_eq!(run(&[]).0, Reason::Malformed);
}
