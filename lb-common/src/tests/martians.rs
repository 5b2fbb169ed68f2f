//! Sources that are not answered, and headers that are wrong.

use std::{net::Ipv6Addr, vec::Vec};

use etherparse::{Ipv4Header, PacketBuilder};

use super::testbed::*;
use crate::{
    reason::{Reason, Verdict},
    tables::{ring::Previous, service::RESET_EMPTY},
};

/// Services without reals, which answer with a reset, and with reals that take only small packets.
fn empty() -> Testbed {
    let mut testbed = two_services();
    for service in [1, 2] {
        testbed.slots(service, 0, Previous::Settled);
        testbed.tables.services[service as usize].flags = RESET_EMPTY;
    }
    testbed
}

fn echo4(source: [u8; 4]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(ROUTER, BALANCER)
        .ipv4(source, [10, 0, 0, 1], 61)
        .icmpv4_echo_request(1, 2)
        .write(&mut frame, b"x")
        .unwrap();
    frame
}

fn echo6(source: [u8; 16]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(ROUTER, BALANCER)
        .ipv6(source, vip6(), 61)
        .icmpv6_echo_request(1, 2)
        .write(&mut frame, b"x")
        .unwrap();
    frame
}

/// The IPv4 frame with another source and a right header checksum; that of TCP is left wrong.
fn from4(mut frame: Vec<u8>, source: [u8; 4]) -> Vec<u8> {
    frame[26..30].copy_from_slice(&source);
    let header = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
    frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    frame
}

#[test]
fn martians_are_not_answered() {
    for (source, martian) in [
        ([0, 0, 0, 0], true),
        ([0, 1, 2, 3], true),
        ([127, 0, 0, 1], true),
        ([127, 255, 255, 254], true),
        ([169, 254, 1, 1], true),
        ([224, 0, 0, 1], true),
        ([239, 255, 255, 255], true),
        ([240, 0, 0, 1], true),
        ([255, 255, 255, 255], true),
        // The VIP itself.
        ([10, 0, 0, 1], true),
        ([1, 0, 0, 1], false),
        ([126, 255, 255, 255], false),
        ([128, 0, 0, 1], false),
        ([169, 253, 1, 1], false),
        ([169, 255, 1, 1], false),
        ([223, 255, 255, 254], false),
    ] {
        for (frame, reason) in [
            (echo4(source), Reason::EchoReply),
            (from4(tcp4(1, ACK), source), Reason::ResetNoReal),
        ] {
            check(
                &frame,
                martian,
                Reason::Martian,
                reason,
                &std::format!("{source:?}"),
            );
        }
    }
    for (source, martian) in [
        ("::", true),
        ("::1", true),
        ("::ffff:192.0.2.1", true),
        ("fe80::1", true),
        ("febf::1", true),
        ("ff02::1", true),
        ("2001:db8::1", true),
        ("fec0::1", false),
        ("fe7f::1", false),
        ("fd00::1", false),
        ("64:ff9b::c000:201", false),
        ("2001:db8::2", false),
    ] {
        let address: Ipv6Addr = source.parse().unwrap();
        let mut segment = tcp6(1, ACK);
        segment[22..38].copy_from_slice(&address.octets());
        for (frame, reason) in [
            (echo6(address.octets()), Reason::EchoReply),
            (segment, Reason::ResetNoReal),
        ] {
            check(&frame, martian, Reason::Martian, reason, source);
        }
    }
}

#[test]
fn a_wrong_header_checksum_is_not_answered() {
    let options = |words| {
        let mut frame = options4(words);
        frame[26..30].copy_from_slice(&[198, 51, 100, 7]);
        frame
    };
    for (frame, reason) in [
        (echo4([198, 51, 100, 7]), Reason::EchoReply),
        (tcp4(1, ACK), Reason::ResetNoReal),
        (options(1), Reason::ResetNoReal),
        (options(10), Reason::ResetNoReal),
    ] {
        check(&frame, false, Reason::BadChecksum, reason, "right");
        let headers = usize::from(frame[14] & 0xF) * 4;
        for at in 15..14 + headers {
            // Lengths, fragments and protocol tell another packet.
            if matches!(at, 16 | 17 | 20 | 21 | 23) || (30..34).contains(&at) {
                continue;
            }
            let wrong = with(frame.clone(), &[(at, frame[at] ^ 4)]);
            check(
                &wrong,
                true,
                Reason::BadChecksum,
                reason,
                &std::format!("byte {at}"),
            );
        }
    }
}

/// Runs a frame that is answered unless it is refused.
fn check(frame: &[u8], refused: bool, refusal: Reason, answer: Reason, what: &str) {
    let mut testbed = empty();
    let (outcome, after) = testbed.run(frame);
    if !refused {
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Tx, answer),
            "{what}"
        );
        return;
    }
    assert_eq!(
        (outcome.verdict, outcome.reason),
        (Verdict::Drop, refusal),
        "{what}"
    );
    assert_eq!(after, frame, "{what}");
    let counters = testbed.tables.counters();
    let dropped = u64::from(answer == Reason::ResetNoReal);
    assert_eq!(
        counters
            .services
            .iter()
            .map(|one| one.dropped_packets)
            .sum::<u64>(),
        dropped
    );
    assert_eq!(counters.reasons[refusal as usize], 1, "{what}");
}

/// What is sent on is as it came: the real's stack checks it.
#[test]
fn martians_are_sent_on() {
    let (outcome, _) = two_services().run(&from4(tcp4(1, ACK), [127, 0, 0, 1]));
    assert_eq!(outcome.reason, Reason::ForwardedTx);
}
