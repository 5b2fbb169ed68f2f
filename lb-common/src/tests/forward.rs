//! The registry of forwarding modes, and that the facts of a mode are what it does.

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::testbed::*;
use crate::{
    decap::{self, Vips, decapsulate},
    forward::{GUE, IPIP, L2, MODES, NAT, mode},
    ip::Family,
    memory::{MemFrame, run},
    reason::Reason,
    tables::ring::Previous,
};

#[test]
fn modes_are_found_by_number() {
    for facts in MODES {
        assert_eq!(mode(facts.number), Some(*facts));
        let same_name = MODES.iter().filter(|other| other.name == facts.name);
        assert_eq!(same_name.count(), 1, "{}", facts.name);
    }
    assert_eq!(mode(0), None);
    assert_eq!(mode(255), None);
}

#[test]
fn numbers_in_records_do_not_change() {
    assert_eq!((L2.number, L2.name), (1, "l2"));
    assert_eq!((IPIP.number, IPIP.name), (2, "ipip"));
    assert_eq!((GUE.number, GUE.name), (3, "gue"));
    assert_eq!((NAT.number, NAT.name), (4, "nat"));
}

#[test]
fn frames_grow_by_what_the_facts_say() {
    for (facts, real, family) in [
        (IPIP, "10.1.0.2", Family::V4),
        (IPIP, "fd00::2", Family::V6),
        (L2, "10.1.0.2", Family::V4),
        (GUE, "10.1.0.2", Family::V4),
        (GUE, "fd00::2", Family::V6),
    ] {
        let mut testbed = Testbed::new();
        let service = testbed.service("10.0.0.1:80/tcp");
        let index = testbed.real(service, real, 1);
        testbed.set_mode(index, facts);
        testbed.slots(service, index, Previous::Settled);
        let frame = tcp4(40_000, ACK);
        let (processed, sent) = testbed.run(&frame);
        assert_eq!(processed.reason, Reason::ForwardedTx);
        let growth = sent.len() - frame.len();
        assert_eq!(growth as u32, facts.overhead(family), "{}", facts.name);
        // TTL 1: the last hop of a mode that counts as one.
        let (processed, _) = testbed.run(&with(frame, &[(22, 1)]));
        assert_eq!(
            processed.reason == Reason::TtlExpired,
            facts.decrements_ttl,
            "{}",
            facts.name
        );
    }
}

#[test]
fn a_record_without_a_known_mode_drops() {
    let mut testbed = two_services();
    testbed.tables.reals[1].flags = 200;
    testbed.tables.reals[1].port = 8_080_u16.to_be_bytes();
    let (processed, _) = testbed.run(&tcp4(40_000, ACK));
    assert_eq!(processed.reason, Reason::BadTables);
}

#[test]
fn modes_without_translation_ignore_the_port() {
    let frame = tcp4(40_000, ACK);
    let mut testbed = two_services();
    let (_, expected) = testbed.run(&frame);
    testbed.tables.reals[1].port = 8_080_u16.to_be_bytes();
    assert_eq!(testbed.run(&frame).1, expected);
}

struct AllVips;

impl Vips for AllVips {
    fn has4(&self, _: &[u8; 4]) -> bool {
        true
    }

    fn has6(&self, _: &[u8; 16]) -> bool {
        true
    }
}

#[test]
fn the_decapsulator_takes_off_what_a_tunnel_puts_on() {
    use decap::Reason::*;
    let v4 = ("10.0.0.1:80/tcp", tcp4(40_000, ACK));
    let v6 = ("[2001:db8::1]:80/tcp", tcp6(40_000, ACK));
    for ((vip, frame), real, mode, reason) in [
        (&v4, "10.1.0.2", IPIP, Ip4InIp4),
        (&v4, "fd00::2", IPIP, Ip4InIp6),
        (&v6, "10.1.0.2", IPIP, Ip6InIp4),
        (&v6, "fd00::2", IPIP, Ip6InIp6),
        (&v4, "10.1.0.2", GUE, Ip4InGue4),
        (&v4, "fd00::2", GUE, Ip4InGue6),
        (&v6, "10.1.0.2", GUE, Ip6InGue4),
        (&v6, "fd00::2", GUE, Ip6InGue6),
    ] {
        let mut testbed = Testbed::new();
        let (_, index) = testbed.served(vip, real, 1);
        testbed.set_mode(index, mode);
        let mut sent = MemFrame::new(frame);
        run(&mut testbed.tables, &mut sent);
        assert_eq!(decapsulate(&mut sent, &AllVips), reason);
        // The MAC addresses are the next hop's; the rest is the client's packet, one hop further.
        let mut expected = frame.clone();
        expected[..12].copy_from_slice(&[HOP_MAC, BALANCER].concat());
        if vip.starts_with('[') {
            expected[21] -= 1;
        } else {
            expected[22] -= 1;
            expected[24..26].copy_from_slice(&sent.bytes()[24..26]);
        }
        assert_eq!(sent.bytes(), expected, "{} {vip} {real}", mode.name);
    }
}

#[test]
fn a_tunnel_of_udp_is_one_that_others_read_too() {
    for (vip, frame, real) in [
        ("10.0.0.1:80/tcp", tcp4(40_000, ACK), "10.1.0.2"),
        ("[2001:db8::1]:80/tcp", tcp6(40_000, ACK), "10.1.0.2"),
        ("10.0.0.1:80/tcp", tcp4(40_000, ACK), "fd00::2"),
        ("[2001:db8::1]:80/tcp", tcp6(40_000, ACK), "fd00::2"),
    ] {
        let mut testbed = Testbed::new();
        let (_, index) = testbed.served(vip, real, 1);
        testbed.set_mode(index, GUE);
        testbed.tables.constants.gue_port = 6_081;
        let (_, sent) = testbed.run(&frame);
        let packet = SlicedPacket::from_ethernet(&sent).unwrap();
        match packet.net.unwrap() {
            NetSlice::Ipv4(outer) => {
                let header = outer.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                assert_eq!(
                    IpAddr::from(header.destination),
                    real.parse::<IpAddr>().unwrap()
                );
                assert_eq!(header.source[..2], [172, 16]);
            }
            NetSlice::Ipv6(outer) => {
                let header = outer.header();
                assert_eq!(
                    IpAddr::from(header.destination()),
                    real.parse::<IpAddr>().unwrap()
                );
            }
            NetSlice::Arp(_) => unreachable!("an IP packet was sent"),
        }
        let Some(TransportSlice::Udp(udp)) = packet.transport else {
            panic!("{real}: no UDP");
        };
        assert_eq!(udp.destination_port(), 6_081);
        assert!(udp.source_port() >= 0xC000);
        assert_eq!((udp.checksum(), udp.payload().len()), (0, frame.len() - 14));
    }
}

#[test]
fn the_source_port_of_a_tunnel_is_the_flows() {
    let mut testbed = Testbed::new();
    let (_, index) = testbed.served("10.0.0.1:80/tcp", "10.1.0.2", 1);
    testbed.set_mode(index, GUE);
    let mut port = |client| {
        let sent = testbed.run(&tcp4(client, ACK)).1;
        [sent[34], sent[35]]
    };
    let ports: std::collections::HashSet<_> = (1_000..2_000).map(&mut port).collect();
    // 1,000 of 16,384 ports: about 30 flows share one with another.
    assert!(ports.len() > 930, "{}", ports.len());
    assert_eq!(port(1_000), port(1_000));
}
