//! Frames that are sent on, and how they look then.

use std::{collections::HashSet, vec::Vec};

use etherparse::{
    Ipv4Header, LaxPacketHeaders, NetHeaders, NetSlice, SlicedPacket, TransportHeader,
};

use super::testbed::*;
use crate::{
    reason::{ChosenBy, Reason, Verdict},
    tables::ring::Previous,
};

#[test]
fn every_form_of_a_vips_packet_is_forwarded() {
    let padded = |mut frame: Vec<u8>| {
        frame.resize(100, 0);
        frame
    };
    let hop_by_hop = [6, 0, 1, 4, 0, 0, 0, 0];
    let hop_by_hop_to = |next| [next, 0, 1, 4, 0, 0, 0, 0];
    // RFC 6946: offset 0 and no more fragments.
    let atomic = [6, 0, 0, 0, 0, 0, 0, 9];
    let routing = [6, 0, 2, 0, 0, 0, 0, 0];
    let three = [
        43, 0, 1, 4, 0, 0, 0, 0, 60, 0, 2, 0, 0, 0, 0, 0, 6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0,
    ];
    for (description, frame, grown) in [
        ("IPv4", tcp4(40_000, ACK), 20),
        ("IPv4, padded", padded(tcp4(40_000, ACK)), 20),
        ("IPv4, one word of options", options4(1), 20),
        ("IPv4, ten words of options", options4(10), 20),
        ("IPv6", tcp6(40_000, ACK), 40),
        ("IPv6, padded", padded(tcp6(40_000, ACK)), 40),
        ("IPv6, hop-by-hop options", extended(0, &hop_by_hop), 40),
        ("IPv6, destination options", extended(60, &hop_by_hop), 40),
        ("IPv6, routing header", extended(43, &routing), 40),
        ("IPv6, three extension headers", extended(0, &three), 40),
        ("IPv6, atomic fragment", extended(44, &atomic), 40),
        (
            "IPv6, atomic fragment with reserved bits",
            extended(44, &[6, 0xFF, 0, 6, 0, 0, 0, 9]),
            40,
        ),
        (
            "IPv6, atomic fragment behind options",
            extended(60, &[hop_by_hop_to(44), atomic].concat()),
            40,
        ),
    ] {
        let (outcome, after) = two_services().run(&frame);
        assert_eq!(outcome.reason, Reason::ForwardedTx, "{description}");
        assert_eq!(outcome.chosen_by, ChosenBy::Ring, "{description}");
        assert_eq!(after.len(), frame.len() + grown, "{description}");
        // Behind the outer header stands the packet, but for its TTL and checksum.
        let inner = &after[14 + grown..];
        let (ttl, checksum) = if grown == 20 { (8, 10..12) } else { (7, 0..0) };
        let mut expected = frame[14..].to_vec();
        expected[ttl] -= 1;
        expected[checksum.clone()].copy_from_slice(&inner[checksum]);
        assert_eq!(inner, expected, "{description}");
        assert_well_formed(&after, description);
    }
}

/// Checks the outer and the inner headers of a forwarded frame.
pub fn assert_well_formed(frame: &[u8], description: &str) {
    let outer = SlicedPacket::from_ethernet(frame).unwrap_or_else(|e| panic!("{description}: {e}"));
    let inner = match outer.net.unwrap() {
        NetSlice::Ipv4(outer) => {
            let header = outer.header().to_header();
            assert_eq!(
                header.header_checksum,
                header.calc_header_checksum(),
                "{description}"
            );
            assert_eq!(header.time_to_live, 64, "{description}");
            outer.payload().payload.to_vec()
        }
        NetSlice::Ipv6(outer) => {
            assert_eq!(outer.header().hop_limit(), 64, "{description}");
            outer.payload().payload.to_vec()
        }
        NetSlice::Arp(_) => panic!("{description}: ARP"),
    };
    let inner = LaxPacketHeaders::from_ip(&inner).unwrap();
    assert_eq!(inner.stop_err, None, "{description}");
    if let Some(NetHeaders::Ipv4(header, _)) = &inner.net {
        assert_eq!(
            header.header_checksum,
            header.calc_header_checksum(),
            "{description}"
        );
    }
    assert!(
        matches!(
            inner.transport,
            Some(
                TransportHeader::Tcp(_)
                    | TransportHeader::Udp(_)
                    | TransportHeader::Icmpv4(_)
                    | TransportHeader::Icmpv6(_)
            )
        ),
        "{description}"
    );
}

#[test]
fn outer_headers_are_as_the_rfcs_say() {
    // Families, TOS, "don't fragment": what the outer header must say of them.
    for (real, v6, tos, df) in [
        ("10.1.0.2", false, 0, true),
        ("10.1.0.2", false, 0xB9, false),
        ("10.1.0.2", true, 0xB9, true),
        ("fd00::2", false, 0xB9, true),
        ("fd00::2", true, 0x03, true),
    ] {
        let description = std::format!("real {real}, IPv6 client {v6}, TOS {tos}, DF {df}");
        let mut testbed = Testbed::new();
        testbed.served("10.0.0.1:80/tcp", real, 1);
        testbed.served("[2001:db8::1]:80/tcp", real, 1);
        let frame = if v6 {
            with(tcp6(40_000, ACK), &[(14, 0x60 | tos >> 4), (15, tos << 4)])
        } else {
            let mut frame = with(
                tcp4(40_000, ACK),
                &[(15, tos), (18, 0xAB), (20, u8::from(df) << 6)],
            );
            let header = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
            frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
            frame
        };
        let (outcome, after) = testbed.run(&frame);
        assert_eq!(outcome.reason, Reason::ForwardedTx, "{description}");
        assert_well_formed(&after, &description);
        assert_eq!(
            (&after[..6], &after[6..12]),
            (&HOP_MAC[..], &BALANCER[..]),
            "{description}"
        );
        let length = frame.len() - 14;
        match SlicedPacket::from_ethernet(&after).unwrap().net.unwrap() {
            NetSlice::Ipv4(outer) => {
                let header = outer.header();
                assert_eq!(header.total_len() as usize, length + 20, "{description}");
                assert_eq!(
                    header.protocol().0,
                    if v6 { 41 } else { 4 },
                    "{description}"
                );
                assert_eq!(header.slice()[1], tos, "{description}");
                assert_eq!(header.dont_fragment(), df, "{description}");
                let id = if v6 {
                    0
                } else {
                    u16::from_be_bytes([frame[18], frame[19]])
                };
                assert_eq!(header.identification(), id, "{description}");
                assert_eq!(header.destination(), [10, 1, 0, 2], "{description}");
                assert_eq!(header.source()[..2], [172, 16], "{description}");
            }
            NetSlice::Ipv6(outer) => {
                let header = outer.header();
                assert_eq!(header.payload_length() as usize, length, "{description}");
                assert_eq!(
                    header.next_header().0,
                    if v6 { 41 } else { 4 },
                    "{description}"
                );
                assert_eq!(header.traffic_class(), tos, "{description}");
                assert_ne!(header.flow_label().value(), 0, "{description}");
                assert_eq!(header.source()[..2], [0xFD, 0x1F], "{description}");
            }
            NetSlice::Arp(_) => panic!("{description}"),
        }
    }
}

#[test]
fn outer_sources_vary_by_flow_and_stay_in_their_prefix() {
    let mut testbed = two_services();
    let mut sources = HashSet::new();
    for port in 1..=1_000 {
        let (_, after) = testbed.run(&tcp4(port, ACK));
        assert_eq!(after[26..28], [172, 16]);
        sources.insert(after[26..30].to_vec());
        assert_eq!(
            testbed.run(&tcp4(port, ACK)).1,
            after,
            "the same flow has the same source"
        );
    }
    assert!(
        sources.len() > 980,
        "{} sources of 1000 flows",
        sources.len()
    );
}

#[test]
fn checksums_survive_every_ttl_and_identification() {
    let mut testbed = two_services();
    for id in 0..=u16::MAX {
        let mut frame = tcp4(40_000, ACK);
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        frame[22] = (id % 253) as u8 + 2;
        let header = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
        frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
        let (_, after) = testbed.run(&frame);
        for start in [14, 34] {
            let header = Ipv4Header::from_slice(&after[start..]).unwrap().0;
            assert_eq!(
                header.header_checksum,
                header.calc_header_checksum(),
                "id {id}, at {start}"
            );
        }
    }
}

#[test]
fn l2_changes_the_mac_addresses_only() {
    for (next_hop, verdict, mac, interface) in [
        (1, Verdict::Tx, HOP_MAC, 0),
        (2, Verdict::Redirect, OTHER_MAC, OTHER),
    ] {
        let mut testbed = Testbed::new();
        let service = testbed.service("10.0.0.1:80/tcp");
        let real = testbed.l2_real(service, next_hop);
        testbed.slots(service, real, Previous::Settled);
        // A TTL of 1 will do: the balancer is no hop.
        let frame = with(tcp4(40_000, ACK), &[(22, 1)]);
        let (outcome, after) = testbed.run(&frame);
        assert_eq!((outcome.verdict, outcome.interface), (verdict, interface));
        assert_eq!((&after[..6], &after[6..12]), (&mac[..], &BALANCER[..]));
        assert_eq!(after[12..], frame[12..]);
    }
}

#[test]
fn another_way_out_is_a_redirect() {
    let mut testbed = Testbed::new();
    testbed.served("10.0.0.1:80/tcp", "10.1.0.2", 2);
    let (outcome, after) = testbed.run(&tcp4(40_000, ACK));
    assert_eq!(outcome.reason, Reason::ForwardedRedirect);
    assert_eq!(outcome.verdict, Verdict::Redirect);
    assert_eq!(outcome.interface, OTHER);
    assert_eq!(after[..6], OTHER_MAC);
}
