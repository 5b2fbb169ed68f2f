//! Frames that pass or are dropped, as tables.

use std::{vec, vec::Vec};

use etherparse::PacketBuilder;

use super::testbed::*;
use crate::{
    reason::{Reason, Verdict},
    tables::{next_hop::NextHop, real::MODE_MASK, ring::Previous},
};

#[test]
fn what_is_not_for_a_vip_passes_untouched() {
    let long = |n: usize| {
        let mut headers = Vec::new();
        for _ in 1..n {
            headers.extend([60, 0, 1, 4, 0, 0, 0, 0]);
        }
        headers.extend([6, 0, 1, 4, 0, 0, 0, 0]);
        extended(60, &headers)
    };
    let mut vlan = tcp4(1, ACK);
    vlan.splice(12..12, [0x81, 0, 0, 5]);
    let mut echo = Vec::new();
    let ping =
        PacketBuilder::ethernet2(ROUTER, BALANCER).ipv4([198, 51, 100, 7], [10, 0, 0, 2], 61);
    ping.icmpv4_echo_request(1, 2)
        .write(&mut echo, b"x")
        .unwrap();
    for (description, frame, reason) in [
        ("nothing", vec![], Reason::Malformed),
        ("half an Ethernet header", vec![0; 13], Reason::Malformed),
        ("ARP", with(tcp4(1, ACK), &[(13, 6)]), Reason::NotIp),
        ("VLAN-tagged", vlan, Reason::NotIp),
        (
            "another address",
            with(tcp4(1, ACK), &[(33, 2)]),
            Reason::NotVip,
        ),
        (
            "another port",
            with(tcp4(1, ACK), &[(37, 81)]),
            Reason::NotVip,
        ),
        (
            "another IPv6 address",
            with(tcp6(1, ACK), &[(53, 2)]),
            Reason::NotVip,
        ),
        (
            "another IPv6 port",
            with(tcp6(1, ACK), &[(57, 81)]),
            Reason::NotVip,
        ),
        (
            "UDP to a TCP VIP",
            with(udp4(1), &[(37, 80)]),
            Reason::NotVip,
        ),
        ("echo request to no VIP", echo.clone(), Reason::NotVip),
        (
            "ICMP that is no echo request",
            with(echo.clone(), &[(34, 3)]),
            Reason::OtherProtocol,
        ),
        (
            "echo request with a code",
            with(echo, &[(35, 1)]),
            Reason::OtherProtocol,
        ),
        (
            "OSPF",
            with(tcp4(1, ACK), &[(23, 89)]),
            Reason::OtherProtocol,
        ),
        (
            "first fragment, for no VIP",
            with(tcp4(1, ACK), &[(20, 0x20), (33, 2)]),
            Reason::Fragment,
        ),
        (
            "later fragment, for no VIP",
            with(tcp4(1, ACK), &[(21, 9), (33, 2)]),
            Reason::Fragment,
        ),
        (
            "IPv6, first fragment, for no VIP",
            with(extended(44, &[6, 0, 0, 1, 0, 0, 0, 9]), &[(53, 2)]),
            Reason::Fragment,
        ),
        (
            "IPv6, last fragment, for no VIP",
            with(extended(44, &[6, 0, 0, 8, 0, 0, 0, 9]), &[(53, 2)]),
            Reason::Fragment,
        ),
        (
            "IPv6, half a fragment header",
            with(
                extended(44, &[6, 0, 0, 0, 0, 0, 0, 9])[..60].to_vec(),
                &[(19, 6)],
            ),
            Reason::Malformed,
        ),
        (
            "version 6 in an IPv4 frame",
            with(tcp4(1, ACK), &[(14, 0x65)]),
            Reason::Malformed,
        ),
        (
            "IHL 4",
            with(tcp4(1, ACK), &[(14, 0x44)]),
            Reason::Malformed,
        ),
        (
            "IHL beyond the packet",
            with(tcp4(1, ACK), &[(14, 0x4F), (17, 24)]),
            Reason::Malformed,
        ),
        (
            "longer than the frame",
            with(tcp4(1, ACK), &[(17, 200)]),
            Reason::Malformed,
        ),
        (
            "shorter than its header",
            with(tcp4(1, ACK), &[(17, 19)]),
            Reason::Malformed,
        ),
        (
            "half a TCP header",
            with(tcp4(1, ACK), &[(17, 30)]),
            Reason::Malformed,
        ),
        (
            "TCP data offset 4",
            with(tcp4(1, ACK), &[(46, 0x40)]),
            Reason::Malformed,
        ),
        (
            "TCP data offset beyond the packet",
            with(tcp4(1, ACK), &[(46, 0xF0)]),
            Reason::Malformed,
        ),
        ("UDP length 7", with(udp4(1), &[(39, 7)]), Reason::Malformed),
        (
            "UDP length beyond the packet",
            with(udp4(1), &[(39, 99)]),
            Reason::Malformed,
        ),
        (
            "half an IPv4 header",
            tcp4(1, ACK)[..30].to_vec(),
            Reason::Malformed,
        ),
        (
            "half an IPv6 header",
            tcp6(1, ACK)[..50].to_vec(),
            Reason::Malformed,
        ),
        (
            "version 4 in an IPv6 frame",
            with(tcp6(1, ACK), &[(14, 0x40)]),
            Reason::Malformed,
        ),
        (
            "IPv6 longer than the frame",
            with(tcp6(1, ACK), &[(19, 200)]),
            Reason::Malformed,
        ),
        (
            "extension header beyond the packet",
            with(long(1), &[(55, 9)]),
            Reason::Malformed,
        ),
        ("seven extension headers", long(7), Reason::TooManyHeaders),
        (
            "ESP",
            with(tcp6(1, ACK), &[(20, 50)]),
            Reason::OtherProtocol,
        ),
        (
            "no next header",
            with(tcp6(1, ACK), &[(20, 59)]),
            Reason::OtherProtocol,
        ),
        (
            "ICMP in IPv6",
            with(tcp6(1, ACK), &[(20, 1)]),
            Reason::OtherProtocol,
        ),
    ] {
        let mut testbed = two_services();
        let (outcome, after) = testbed.run(&frame);
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Pass, reason),
            "{description}"
        );
        assert_eq!(after, frame, "{description}");
        assert_eq!(
            testbed.tables.counters().reasons[reason as usize],
            1,
            "{description}"
        );
        assert_eq!(
            testbed.tables.counters().reasons.iter().sum::<u64>(),
            1,
            "{description}"
        );
    }
}

#[test]
fn drops_have_reasons_and_are_counted() {
    type Change = fn(&mut Testbed);
    let cases: [(&str, Change, Reason); 7] = [
        ("TTL 1", |_| {}, Reason::TtlExpired),
        (
            "no real",
            |testbed| testbed.slots(1, 0, Previous::Settled),
            Reason::NoReal,
        ),
        (
            "no ring",
            |testbed| testbed.tables.services[1].ring = 0,
            Reason::NoReal,
        ),
        (
            "no next hop",
            |testbed| testbed.tables.reals[1].next_hop = 0,
            Reason::NoNextHop,
        ),
        (
            "an emptied next hop",
            |testbed| testbed.tables.next_hops[1] = NextHop::default(),
            Reason::NoNextHop,
        ),
        (
            "an unknown kind",
            |testbed| testbed.tables.reals[1].flags |= MODE_MASK,
            Reason::BadTables,
        ),
        (
            "a ring that ends early",
            |testbed| testbed.tables.rings.truncate(1),
            Reason::BadTables,
        ),
    ];
    for (description, change, reason) in cases {
        let mut testbed = two_services();
        change(&mut testbed);
        let frame = match reason {
            Reason::TtlExpired => with(tcp4(40_000, ACK), &[(22, 1)]),
            _ => tcp4(40_000, ACK),
        };
        let (outcome, after) = testbed.run(&frame);
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Drop, reason),
            "{description}"
        );
        assert_eq!(after, frame, "{description}");
        let counters = testbed.tables.counters();
        assert_eq!(counters.services[1].dropped_packets, 1, "{description}");
        assert_eq!(
            counters.services[1].dropped_bytes,
            frame.len() as u64 - 14,
            "{description}"
        );
        assert_eq!(counters.reals[1].packets, 0, "{description}");
    }
}

#[test]
fn frames_without_headroom_or_too_large_are_dropped() {
    let mut testbed = two_services();
    let mut frame = crate::memory::MemFrame::with_headroom(&tcp4(1, ACK), 19);
    let outcome = crate::memory::run(&mut testbed.tables, &mut frame);
    assert_eq!(outcome.reason, Reason::NoHeadroom);
    let mut large = tcp4(1, ACK);
    large.resize(14 + 65_516, 0);
    large[16..18].copy_from_slice(&65_516_u16.to_be_bytes());
    assert_eq!(testbed.run(&large).0.reason, Reason::TooLarge);
    large[16..18].copy_from_slice(&65_515_u16.to_be_bytes());
    assert_eq!(testbed.run(&large).0.reason, Reason::ForwardedTx);
}

#[test]
fn port_zero_takes_what_no_exact_port_takes() {
    let mut testbed = Testbed::new();
    let (exact, _) = testbed.served("10.0.0.1:80/tcp", "10.1.0.2", 1);
    let (any, _) = testbed.served("10.0.0.1:0/tcp", "10.1.0.3", 1);
    let (any6, _) = testbed.served("[2001:db8::1]:0/tcp", "fd00::2", 1);
    let port_81 = &[(37, 81)];
    assert_eq!(testbed.run(&tcp4(1, ACK)).0.service, exact);
    assert_eq!(testbed.run(&with(tcp4(1, ACK), port_81)).0.service, any);
    assert_eq!(
        testbed.run(&with(tcp6(1, ACK), &[(57, 81)])).0.service,
        any6
    );
    assert_eq!(testbed.run(&udp4(1)).0.reason, Reason::NotVip);
    testbed.tables.config.flags = 0;
    assert_eq!(
        testbed.run(&with(tcp4(1, ACK), port_81)).0.reason,
        Reason::NotVip
    );
}
