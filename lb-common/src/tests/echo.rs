//! Echo requests.

use std::vec::Vec;

use etherparse::PacketBuilder;

use super::testbed::*;
use crate::reason::{Reason, Verdict};

/// The checksum of zeroes is 0xFFFF. RFC 1624's sum cannot tell them from a sum of 0xFFFF, and Linux drops the
/// answer if its checksum is zero. Requests without data and without numbers are scapy's default.
#[test]
fn an_answer_of_zeroes_has_a_checksum() {
    for payload in [&[][..], &[0], &[0; 8], &[0; 56]] {
        let mut request = Vec::new();
        PacketBuilder::ethernet2(ROUTER, BALANCER)
            .ipv4([198, 51, 100, 7], [10, 0, 0, 1], 64)
            .icmpv4_echo_request(0, 0)
            .write(&mut request, payload)
            .unwrap();
        assert_eq!(request[36..38], [0xF7, 0xFF]);
        let (outcome, after) = two_services().run(&request);
        assert_eq!(outcome.reason, Reason::EchoReply);
        assert_eq!(after[36..38], [0xFF, 0xFF], "{} bytes", payload.len());
        assert_eq!(checksum_of(&after[34..]), 0, "a receiver takes it");
    }
}

/// Whatever the message is, a receiver takes the checksum of its answer: every sum, also those next to a carry.
#[test]
fn an_answer_is_taken_whatever_its_sum_is() {
    for word in 0..=u16::MAX {
        let mut request = Vec::new();
        PacketBuilder::ethernet2(ROUTER, BALANCER)
            .ipv4([198, 51, 100, 7], [10, 0, 0, 1], 64)
            .icmpv4_echo_request(0, 0)
            .write(&mut request, &word.to_be_bytes())
            .unwrap();
        let (_, after) = two_services().run(&request);
        assert_eq!(checksum_of(&after[34..]), 0, "{word:#x}");
        // Not 0 but 0xFFFF, which the sum of anything but zeroes is.
        assert_ne!(after[36..38], [0, 0], "{word:#x}");
    }
}

#[test]
fn echo_requests_to_a_vip_are_answered() {
    for (id, sequence) in [
        (0, 0),
        (1, 2),
        (0xFFFF, 0xF7FF),
        (0xF7FF, 0),
        (0x0800, 0xFFFF),
    ] {
        let description = std::format!("id {id}, sequence {sequence}");
        let mut request = Vec::new();
        PacketBuilder::ethernet2(ROUTER, BALANCER)
            .ipv4([198, 51, 100, 7], [10, 0, 0, 1], 3)
            .icmpv4_echo_request(id, sequence)
            .write(&mut request, b"payload")
            .unwrap();
        let (outcome, after) = two_services().run(&request);
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Tx, Reason::EchoReply)
        );
        let mut reply = Vec::new();
        PacketBuilder::ethernet2(BALANCER, ROUTER)
            .ipv4([10, 0, 0, 1], [198, 51, 100, 7], 64)
            .icmpv4_echo_reply(id, sequence)
            .write(&mut reply, b"payload")
            .unwrap();
        assert_eq!(after, reply, "{description}");

        let mut request = Vec::new();
        PacketBuilder::ethernet2(ROUTER, BALANCER)
            .ipv6(client6(), vip6(), 3)
            .icmpv6_echo_request(id, sequence)
            .write(&mut request, b"payload")
            .unwrap();
        let (outcome, after) = two_services().run(&request);
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Tx, Reason::EchoReply)
        );
        let mut reply = Vec::new();
        PacketBuilder::ethernet2(BALANCER, ROUTER)
            .ipv6(vip6(), client6(), 64)
            .icmpv6_echo_reply(id, sequence)
            .write(&mut reply, b"payload")
            .unwrap();
        assert_eq!(after, reply, "{description}");
    }
}
