//! Echo requests.

use std::vec::Vec;

use etherparse::PacketBuilder;

use super::testbed::*;
use crate::reason::{Reason, Verdict};

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
