//! Segments that are answered with a reset.

use std::vec::Vec;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::testbed::*;
use crate::{
    reason::{ChosenBy, Reason, Verdict},
    tables::{
        flow::CLOSING,
        real::RESET,
        ring::Previous,
        service::{RESET_EMPTY, TRACK_ALL},
    },
};

/// Two services whose flows are those of a dead real, whose slots another real has now.
fn dead() -> (Testbed, [u16; 2]) {
    let mut testbed = Testbed::new();
    let mut reals = [0; 2];
    for (real, vip) in reals
        .iter_mut()
        .zip(["10.0.0.1:80/tcp", "[2001:db8::1]:80/tcp"])
    {
        let service = testbed.service(vip);
        *real = testbed.real(service, "10.1.0.2", 1);
        testbed.tables.reals[*real as usize].flags |= RESET;
        let other = testbed.real(service, "10.1.0.3", 1);
        testbed.slots(service, other, Previous::Real(*real));
    }
    (testbed, reals)
}

/// Sets sequence and acknowledgment number of the segment whose header is at `at`.
fn numbered(mut frame: Vec<u8>, at: usize, sequence: u32, acknowledgment: u32) -> Vec<u8> {
    frame[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
    frame[at + 8..at + 12].copy_from_slice(&acknowledgment.to_be_bytes());
    frame
}

/// What a reset says: sequence and acknowledgment number, and whether the latter counts.
fn told(request: &[u8], reply: &[u8], what: &str) -> (u32, u32, bool) {
    assert_eq!(
        (&reply[..6], &reply[6..12]),
        (&request[6..12], &request[..6])
    );
    let (asked, said) = (
        SlicedPacket::from_ethernet(request).unwrap(),
        SlicedPacket::from_ethernet(reply).unwrap(),
    );
    let Some(TransportSlice::Tcp(tcp)) = said.transport else {
        panic!("{what}: no TCP")
    };
    match (asked.net.unwrap(), said.net.unwrap()) {
        (NetSlice::Ipv4(asked), NetSlice::Ipv4(said)) => {
            let (asked, said) = (asked.header(), said.header());
            assert_eq!(
                (said.source(), said.destination()),
                (asked.destination(), asked.source()),
                "{what}"
            );
            assert_eq!((said.ttl(), said.dont_fragment()), (64, true), "{what}");
            assert_eq!((said.ihl(), said.total_len()), (5, 40), "{what}");
            assert_eq!(
                said.to_header().calc_header_checksum(),
                said.header_checksum(),
                "{what}"
            );
            assert_eq!(
                tcp.calc_checksum_ipv4(said.source(), said.destination()),
                Ok(tcp.checksum()),
                "{what}"
            );
        }
        (NetSlice::Ipv6(asked), NetSlice::Ipv6(said)) => {
            let (asked, said) = (asked.header(), said.header());
            assert_eq!(
                (said.source(), said.destination()),
                (asked.destination(), asked.source()),
                "{what}"
            );
            assert_eq!(
                (said.hop_limit(), said.payload_length()),
                (64, 20),
                "{what}"
            );
            assert_eq!(
                tcp.calc_checksum_ipv6(said.source(), said.destination()),
                Ok(tcp.checksum()),
                "{what}"
            );
        }
        _ => panic!("{what}: another family"),
    }
    assert_eq!((tcp.source_port(), tcp.destination_port()), (80, 40_000));
    assert!(
        tcp.rst() && !tcp.syn() && !tcp.fin() && !tcp.psh(),
        "{what}"
    );
    assert_eq!((tcp.window_size(), tcp.data_offset()), (0, 5), "{what}");
    (
        tcp.sequence_number(),
        tcp.acknowledgment_number(),
        tcp.ack(),
    )
}

/// RFC 9293 section 3.10.7.1. Each segment has five bytes of data.
#[test]
fn a_reset_has_the_numbers_that_its_client_expects() {
    const SEQ: u32 = 0xFFFF_FFFD;
    const NEXT: u32 = 0x1234_5678;
    let padded = |mut frame: Vec<u8>| {
        frame.resize(100, 0xEE);
        frame
    };
    let v4 = |flags| numbered(tcp4(40_000, flags), 34, SEQ, NEXT);
    let v6 = |flags| numbered(tcp6(40_000, flags), 54, SEQ, NEXT);
    let options = numbered(options4(3), 34 + 12, SEQ, NEXT);
    let extended = numbered(extended(0, &[6, 0, 1, 4, 0, 0, 0, 0]), 62, SEQ, NEXT);
    for (what, frame, expected, length) in [
        ("data", v4(ACK), (NEXT, 0, false), 54),
        ("data, padded", padded(v4(ACK)), (NEXT, 0, false), 60),
        ("the end", v4(FIN | ACK), (NEXT, 0, false), 54),
        ("options", options, (NEXT, 0, false), 60),
        ("SYN-ACK", v4(SYN | ACK), (NEXT, 0, false), 54),
        ("IPv6", v6(ACK), (NEXT, 0, false), 74),
        ("IPv6, padded", padded(v6(ACK)), (NEXT, 0, false), 74),
        ("IPv6, options", extended, (NEXT, 0, false), 74),
    ] {
        let (mut testbed, [four, six]) = dead();
        let (outcome, reply) = testbed.run(&frame);
        assert_eq!(outcome.reason, Reason::ResetDownReal, "{what}");
        assert_eq!(outcome.verdict, Verdict::Tx, "{what}");
        let real = if frame[12] == 8 { four } else { six };
        assert_eq!(
            (outcome.real, outcome.chosen_by),
            (real, ChosenBy::Previous)
        );
        assert_eq!(reply.len(), length, "{what}");
        assert!(length != 60 || reply[54..] == [0; 6], "{what}: padding");
        assert_eq!(told(&frame, &reply, what), expected, "{what}");
    }
}

#[test]
fn a_reset_is_not_answered_with_a_reset() {
    for flags in [RST, RST | ACK] {
        let (mut testbed, [dead, _]) = dead();
        let outcome = testbed.run(&tcp4(1, flags)).0;
        assert_eq!(outcome.reason, Reason::ForwardedTx);
        assert_eq!(outcome.real, dead);
    }
}

#[test]
fn a_dead_reals_flows_are_reset_and_begin_again_elsewhere() {
    let (mut testbed, [dead, _]) = dead();
    let service = testbed.tables.reals[dead as usize].service;
    let alive = dead + 1;
    // A flow that the table knows, as of a window before.
    testbed.tables.reals[dead as usize].flags &= !RESET;
    assert_eq!(testbed.run(&tcp4(1, ACK)).0.real, dead);
    testbed.tables.reals[dead as usize].flags |= RESET;
    testbed.slots(service, alive, EXCEPTIONS);
    for _ in 0..2 {
        let outcome = testbed.run(&tcp4(1, ACK)).0;
        assert_eq!(
            (outcome.reason, outcome.chosen_by),
            (Reason::ResetDownReal, ChosenBy::Flow)
        );
    }
    // It is no running flow any more.
    let entry = testbed.tables.live_flows().next().unwrap();
    assert_ne!(entry.stamp & CLOSING, 0);
    for flags in [SYN, ACK, ACK | FIN] {
        let outcome = testbed.run(&tcp4(1, flags)).0;
        assert_eq!(
            (outcome.reason, outcome.real),
            (Reason::ForwardedTx, alive),
            "{flags:#x}"
        );
    }
    // The real is back: what was opened elsewhere stays there.
    testbed.tables.reals[dead as usize].flags &= !RESET;
    testbed.slots(service, dead, Previous::Real(alive));
    assert_eq!(testbed.run(&tcp4(1, ACK)).0.real, alive);
    assert_eq!(testbed.run(&tcp4(2, SYN)).0.real, dead);
}

#[test]
fn an_empty_service_resets_if_it_is_told_to() {
    for flags in [0, TRACK_ALL] {
        let mut testbed = Testbed::new();
        let service = testbed.service("10.0.0.1:80/tcp");
        testbed.tables.services[service as usize].flags = flags;
        let syn = numbered(tcp4(40_000, SYN), 34, 7, 0);
        assert_eq!(testbed.run(&syn).0.reason, Reason::NoReal);
        testbed.tables.services[service as usize].flags = flags | RESET_EMPTY;
        let (outcome, reply) = testbed.run(&syn);
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Tx, Reason::ResetNoReal)
        );
        // A SYN counts as one, and this one has five bytes of data.
        assert_eq!(told(&syn, &reply, "SYN"), (0, 13, true));
        assert_eq!(testbed.run(&tcp4(40_000, RST)).0.reason, Reason::NoReal);
        let counters = testbed.tables.counters();
        assert_eq!(counters.services[service as usize].dropped_packets, 3);
        assert_eq!(counters.reasons[Reason::ResetNoReal as usize], 1);
        assert_eq!(testbed.tables.live_flows().count(), 0);
    }
    // A service without slots at all, and one of UDP, which knows no reset: its clients get an ICMP error.
    let mut testbed = Testbed::new();
    let bare = testbed.service("10.0.0.1:80/tcp");
    let udp = testbed.service("10.0.0.1:53/udp");
    testbed.tables.services[bare as usize].ring = 0;
    for service in [bare, udp] {
        testbed.tables.services[service as usize].flags = RESET_EMPTY;
    }
    assert_eq!(testbed.run(&tcp4(1, ACK)).0.reason, Reason::ResetNoReal);
    assert_eq!(testbed.run(&udp4(1)).0.reason, Reason::UnreachableNoReal);
}

#[test]
fn what_is_simulated_is_answered_and_remembered_nowhere() {
    let (mut testbed, [dead, _]) = dead();
    let frame = tcp4(40_000, ACK);
    let mut copy = crate::memory::MemFrame::new(&frame);
    let outcome = crate::memory::simulate(&mut testbed.tables, &mut copy);
    assert_eq!(
        (outcome.reason, outcome.real),
        (Reason::ResetDownReal, dead)
    );
    assert_eq!(copy.bytes(), testbed.run(&frame).1);
    assert_eq!(
        testbed.tables.counters().reasons[Reason::ResetDownReal as usize],
        1
    );
    assert_eq!(testbed.tables.live_flows().count(), 0);
}
