//! Packets that are answered with an ICMP error: too large for the way to their real, without a hop left, for no real.

use std::vec::Vec;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use super::testbed::*;
use crate::{
    forward::{GUE, IPIP},
    limits::ERROR_BUCKETS,
    memory::{MemFrame, run, simulate},
    reason::{Reason, Verdict},
    tables::{real::SHED, ring::Previous, service::RESET_EMPTY},
};

/// A UDP datagram whose IP packet has this length.
fn datagram4(client: [u8; 4], length: usize, fixed: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(ROUTER, BALANCER)
        .ipv4(client, [10, 0, 0, 1], 61)
        .udp(40_000, 53)
        .write(
            &mut frame,
            &(0..length - 28).map(|at| at as u8).collect::<Vec<u8>>(),
        )
        .unwrap();
    frame[20] = if fixed { 0x40 } else { 0 };
    frame[24..26].fill(0);
    let sum = checksum_of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn datagram6(length: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(ROUTER, BALANCER)
        .ipv6(client6(), vip6(), 61)
        .udp(40_000, 53)
        .write(
            &mut frame,
            &(0..length - 48).map(|at| at as u8).collect::<Vec<u8>>(),
        )
        .unwrap();
    frame
}

const CLIENT: [u8; 4] = [198, 51, 100, 7];

fn testbed(real: &str, largest: u32) -> Testbed {
    let mut testbed = Testbed::new();
    for vip in ["10.0.0.1:53/udp", "[2001:db8::1]:53/udp"] {
        let (_, real) = testbed.served(vip, real, 1);
        testbed.tables.reals[real as usize].largest = largest;
    }
    testbed
}

/// The MTU that an error about a size tells.
fn told(request: &[u8], reply: &[u8], what: &str) -> u32 {
    let (kind, code, number) = error(request, reply, what);
    if request[12] == 8 {
        assert_eq!((kind, code), (3, 4), "{what}");
    } else {
        assert_eq!((kind, code), (2, 0), "{what}");
    }
    number
}

/// Type, code and second word of an error. Everything else about it is checked.
fn error(request: &[u8], reply: &[u8], what: &str) -> (u8, u8, u32) {
    assert_eq!(
        (&reply[..6], &reply[6..12]),
        (&ROUTER[..], &BALANCER[..]),
        "{what}"
    );
    let (asked, said) = (
        SlicedPacket::from_ethernet(request).unwrap(),
        SlicedPacket::from_ethernet(reply).unwrap(),
    );
    match (
        asked.net.unwrap(),
        said.net.unwrap(),
        said.transport.unwrap(),
    ) {
        (NetSlice::Ipv4(asked), NetSlice::Ipv4(said), TransportSlice::Icmpv4(icmp)) => {
            let header = said.header();
            assert_eq!(header.source(), asked.header().destination(), "{what}");
            assert_eq!(header.destination(), asked.header().source(), "{what}");
            assert_eq!(
                (header.ttl(), header.slice()[1], header.ihl()),
                (64, 0xC0, 5),
                "{what}"
            );
            assert_eq!(
                header.to_header().calc_header_checksum(),
                header.header_checksum()
            );
            assert_eq!(usize::from(header.total_len()), reply.len() - 14, "{what}");
            assert!(reply.len() - 14 <= 576, "{what}");
            assert_eq!(checksum_of(icmp.slice()), 0, "{what}");
            let quoted = &icmp.slice()[8..];
            assert!(quoted.len() >= 28, "{what}");
            assert_eq!(*quoted, request[14..14 + quoted.len()], "{what}");
            let number = u32::from_be_bytes(icmp.slice()[4..8].try_into().unwrap());
            (icmp.type_u8(), icmp.code_u8(), number)
        }
        (NetSlice::Ipv6(asked), NetSlice::Ipv6(said), TransportSlice::Icmpv6(icmp)) => {
            let header = said.header();
            assert_eq!(header.source(), asked.header().destination(), "{what}");
            assert_eq!(header.destination(), asked.header().source(), "{what}");
            assert_eq!(header.hop_limit(), 64, "{what}");
            assert!(
                request.len() < 1_300 || reply.len() - 14 == 1_280,
                "{what}: as much as the least MTU carries"
            );
            assert!(
                icmp.is_checksum_valid(header.source(), header.destination()),
                "{what}"
            );
            let quoted = &icmp.slice()[8..];
            assert_eq!(*quoted, request[14..14 + quoted.len()], "{what}");
            assert!(quoted.len() >= 48, "{what}");
            let number = u32::from_be_bytes(icmp.slice()[4..8].try_into().unwrap());
            (icmp.type_u8(), icmp.code_u8(), number)
        }
        _ => panic!("{what}: another protocol"),
    }
}

#[test]
fn senders_are_told_which_size_fits() {
    // MTUs of 1500, 1400 and 9000 of the way, with either outer header.
    for (real, largest) in [
        ("10.1.0.2", 1_480),
        ("fd00::2", 1_460),
        ("10.1.0.2", 1_380),
        ("fd00::2", 8_960),
        ("10.1.0.2", 1_279),
        ("10.1.0.2", 556),
        ("10.1.0.2", 130),
        ("10.1.0.2", 40),
    ] {
        let size = largest as usize;
        let what = std::format!("{real}, {largest}");
        let large = datagram4(CLIENT, size + 1, true);
        let (outcome, reply) = testbed(real, largest).run(&large);
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Tx, Reason::TooLargeAnswered),
            "{what}"
        );
        assert_eq!(told(&large, &reply, &what), largest, "{what}");
        let fits = datagram4(CLIENT, size, true);
        assert_eq!(
            testbed(real, largest).run(&fits).0.reason,
            Reason::ForwardedTx,
            "{what}"
        );
        if size > 1_279 {
            let large = datagram6(size + 1);
            let (outcome, reply) = testbed(real, largest).run(&large);
            assert_eq!(outcome.reason, Reason::TooLargeAnswered, "{what}");
            assert_eq!(told(&large, &reply, &what), largest, "{what}");
            let fits = datagram6(size);
            assert_eq!(
                testbed(real, largest).run(&fits).0.reason,
                Reason::ForwardedTx,
                "{what}"
            );
        }
    }
    // No sender of IPv6 heeds less than every link carries.
    let large = datagram6(1_281);
    let (_, reply) = testbed("10.1.0.2", 1_200).run(&large);
    assert_eq!(told(&large, &reply, "a narrow way"), 1_280);
}

#[test]
fn what_is_not_answered_is_dropped_and_counted() {
    let bad = |mut frame: Vec<u8>, at: usize| {
        frame[at] ^= 1;
        frame
    };
    for (description, frame, largest) in [
        ("may be fragmented", datagram4(CLIENT, 1_481, false), 1_480),
        ("a martian", datagram4([127, 0, 0, 1], 1_481, true), 1_480),
        (
            "a wrong checksum",
            bad(datagram4(CLIENT, 1_481, true), 25),
            1_480,
        ),
        ("IPv6 that every link carries", datagram6(1_280), 1_279),
    ] {
        let mut testbed = testbed("10.1.0.2", largest);
        for real in &mut testbed.tables.reals[1..3] {
            real.flags |= SHED;
        }
        let (outcome, after) = testbed.run(&frame);
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Drop, Reason::TooLarge),
            "{description}"
        );
        assert_eq!(after, frame, "{description}");
        let counters = testbed.tables.counters();
        let service = outcome.service as usize;
        assert_eq!(
            counters.services[service].dropped_packets, 1,
            "{description}"
        );
        assert_eq!(
            counters.reals[outcome.real as usize].packets, 0,
            "{description}"
        );
    }
}

#[test]
fn an_unknown_size_limits_nothing() {
    let large = datagram4(CLIENT, 9_000, true);
    assert_eq!(
        testbed("10.1.0.2", 0).run(&large).0.reason,
        Reason::ForwardedTx
    );
}

#[test]
fn a_way_by_mac_address_has_a_size_too() {
    let mut testbed = Testbed::new();
    let service = testbed.service("10.0.0.1:53/udp");
    let real = testbed.l2_real(service, 2);
    testbed.slots(service, real, Previous::Settled);
    testbed.tables.reals[real as usize].largest = 1_400;
    let large = datagram4(CLIENT, 1_401, true);
    let (outcome, reply) = testbed.run(&large);
    assert_eq!(outcome.reason, Reason::TooLargeAnswered);
    assert_eq!(told(&large, &reply, "l2"), 1_400);
    assert_eq!(
        testbed.run(&datagram4(CLIENT, 1_400, true)).0.reason,
        Reason::ForwardedRedirect
    );
}

/// An ICMP error is never answered with one (RFC 1812 section 4.3.2.7).
#[test]
fn an_error_that_is_too_large_is_dropped() {
    let mut testbed = Testbed::new();
    let (_, real) = testbed.served("10.0.0.1:80/tcp", "10.1.0.2", 1);
    testbed.tables.reals[real as usize].largest = 200;
    let mut quoted = answer_to(&tcp4(1, ACK));
    quoted.resize(500, 0);
    let error = icmp_error4(3, 4, 1_400, &quoted);
    let (outcome, after) = testbed.run(&error);
    assert_eq!((outcome.reason, after), (Reason::TooLarge, error));
}

#[test]
fn errors_are_limited_by_source_and_in_all() {
    let mut testbed = testbed("10.1.0.2", 1_480);
    let answers = |testbed: &mut Testbed, clients: u8| {
        (0..clients)
            .filter(|client| {
                let large = datagram4([198, 51, 100, *client], 1_481, true);
                testbed.run(&large).0.reason == Reason::TooLargeAnswered
            })
            .count() as u32
    };
    assert_eq!(answers(&mut testbed, 1), 1);
    assert_eq!(
        answers(&mut testbed, 1),
        0,
        "the same source in the same tick"
    );
    testbed.tables.now += 1;
    assert_eq!(answers(&mut testbed, 1), 1);
    testbed.tables.now += 1;
    let crowd = answers(&mut testbed, 255);
    assert!(
        crowd > ERROR_BUCKETS / 2 && crowd <= ERROR_BUCKETS,
        "{crowd}"
    );
    assert_eq!(answers(&mut testbed, 255), 0);
    // What is simulated is answered and takes nothing from others.
    let large = datagram4(CLIENT, 1_481, true);
    let mut frame = MemFrame::new(&large);
    assert_eq!(
        simulate(&mut testbed.tables, &mut frame).reason,
        Reason::TooLargeAnswered
    );
    testbed.tables.now += 1;
    for _ in 0..2 {
        let mut frame = MemFrame::new(&large);
        simulate(&mut testbed.tables, &mut frame);
    }
    let mut frame = MemFrame::new(&large);
    assert_eq!(
        run(&mut testbed.tables, &mut frame).reason,
        Reason::TooLargeAnswered
    );
}

#[test]
fn a_packet_without_a_hop_left_is_answered_and_limited() {
    for mode in [IPIP, GUE] {
        for (what, frame, ttl, kind) in [
            ("IPv4", tcp4(40_000, SYN), 22, 11),
            ("IPv6", tcp6(40_000, SYN), 21, 3),
            ("large IPv4", datagram4(CLIENT, 1_000, true), 22, 11),
            ("large IPv6", datagram6(1_270), 21, 3),
        ] {
            let mut testbed = testbed("10.1.0.2", 0);
            for vip in ["10.0.0.1:80/tcp", "[2001:db8::1]:80/tcp"] {
                testbed.served(vip, "10.1.0.2", 1);
            }
            for real in 1..5 {
                testbed.set_mode(real, mode);
            }
            let frame = hops(frame, ttl, 1);
            let (outcome, reply) = testbed.run(&frame);
            assert_eq!(
                (outcome.verdict, outcome.reason),
                (Verdict::Tx, Reason::TtlExpiredAnswered),
                "{what}"
            );
            assert_eq!(error(&frame, &reply, what), (kind, 0, 0), "{what}");
            let counters = testbed.tables.counters();
            assert_eq!(counters.reals[outcome.real as usize].packets, 0, "{what}");
            let service = outcome.service as usize;
            assert_eq!(counters.services[service].dropped_packets, 1, "{what}");
            let (outcome, after) = testbed.run(&frame);
            assert_eq!(
                (outcome.reason, after),
                (Reason::TtlExpired, frame),
                "{what}: within the same tick"
            );
        }
    }
}

/// Sets the TTL or hop limit, at `at`; the checksum of IPv4 with it.
fn hops(mut frame: Vec<u8>, at: usize, hops: u8) -> Vec<u8> {
    frame[at] = hops;
    if frame[12] == 8 {
        frame[24..26].fill(0);
        let sum = checksum_of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

#[test]
fn an_error_or_a_martian_without_a_hop_left_is_dropped() {
    let mut testbed = testbed("10.1.0.2", 0);
    let martian = hops(datagram4([127, 0, 0, 1], 100, true), 22, 1);
    assert_eq!(testbed.run(&martian).0.reason, Reason::TtlExpired);
    let quoted = answer_to(&datagram4(CLIENT, 100, true));
    let about = hops(icmp_error4(3, 4, 1_400, &quoted), 22, 1);
    assert_eq!(testbed.run(&about).0.reason, Reason::TtlExpired);
}

#[test]
fn udp_without_a_real_is_unreachable_if_the_service_says_so() {
    for (vip, frame, kind, code) in [
        ("10.0.0.1:53/udp", datagram4(CLIENT, 60, false), 3, 3),
        ("[2001:db8::1]:53/udp", datagram6(100), 1, 4),
        ("[2001:db8::1]:53/udp", datagram6(60), 1, 4),
    ] {
        let mut testbed = Testbed::new();
        let service = testbed.service(vip) as usize;
        assert_eq!(testbed.run(&frame).0.reason, Reason::NoReal);
        testbed.tables.services[service].flags = RESET_EMPTY;
        let (outcome, reply) = testbed.run(&frame);
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Tx, Reason::UnreachableNoReal)
        );
        assert_eq!(error(&frame, &reply, vip), (kind, code, 0));
        assert_eq!(
            testbed.run(&frame).0.reason,
            Reason::NoReal,
            "within the same tick"
        );
        let counters = testbed.tables.counters();
        assert_eq!(counters.services[service].dropped_packets, 3);
    }
}
