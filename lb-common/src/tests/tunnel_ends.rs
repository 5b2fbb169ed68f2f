//! Packets that reach the balancer in a tunnel.

use std::{net::IpAddr, vec::Vec};

use super::testbed::*;
use crate::{
    forward::{Facts, GUE, IPIP},
    memory::{MemFrame, run},
    reason::{Reason, Verdict},
    tables::vip::{ECHO_SERVICE, TUNNEL_END, Vip4Key, Vip6Key},
};

/// A balancer at which tunnels to these addresses end.
fn testbed() -> Testbed {
    let mut testbed = two_services();
    testbed.tables.constants.ends_tunnels = true;
    let four = Vip4Key {
        address: [10, 9, 0, 1],
        port: [0; 2],
        protocol: TUNNEL_END,
    };
    let six = Vip6Key {
        address: "fd09::1".parse::<std::net::Ipv6Addr>().unwrap().octets(),
        port: [0; 2],
        protocol: TUNNEL_END,
    };
    testbed.tables.insert_vip4(&four, ECHO_SERVICE).unwrap();
    testbed.tables.insert_vip6(&six, ECHO_SERVICE).unwrap();
    testbed
}

/// The frame in a tunnel to an address.
fn in_tunnel(frame: &[u8], mode: &Facts, end: IpAddr) -> Vec<u8> {
    let mut other = Testbed::new();
    let vip = if frame[12] == 8 {
        "10.0.0.1:0/tcp"
    } else {
        "[2001:db8::1]:0/tcp"
    };
    let (_, real) = other.served(vip, &std::format!("{end}"), 1);
    other.set_mode(real, mode);
    let mut sent = MemFrame::new(frame);
    let outcome = run(&mut other.tables, &mut sent);
    assert_eq!(outcome.reason, Reason::ForwardedTx);
    let mut bytes = sent.bytes().to_vec();
    bytes[..6].copy_from_slice(&BALANCER);
    bytes
}

#[test]
fn what_comes_out_of_a_tunnel_is_balanced_or_passed() {
    for mode in [IPIP, GUE] {
        for end in ["10.9.0.1", "fd09::1"] {
            let end: IpAddr = end.parse().unwrap();
            for frame in [tcp4(40_000, ACK), tcp6(40_000, ACK)] {
                let mut testbed = testbed();
                let what = std::format!("{} to {end}", mode.name);
                let inside = in_tunnel(&frame, mode, end);
                let (outcome, sent) = testbed.run(&inside);
                assert_eq!(outcome.reason, Reason::ForwardedTx, "{what}");
                // The same as without the tunnel, but for the hop that entering it was.
                let plain = testbed.run(&frame).1;
                assert_eq!(sent.len(), plain.len(), "{what}");
                assert_eq!(testbed.tables.counters().decapsulated, 1, "{what}");
                let port = if frame[12] == 8 { 37 } else { 57 };
                let host = in_tunnel(&with(frame, &[(port, 22)]), mode, end);
                let (outcome, passed) = testbed.run(&host);
                assert_eq!(
                    (outcome.verdict, outcome.reason),
                    (Verdict::Pass, Reason::NotVip),
                    "{what}"
                );
                assert!(passed.len() < host.len(), "{what}");
                assert_eq!(testbed.tables.counters().decapsulated, 2, "{what}");
            }
        }
    }
}

#[test]
fn other_tunnels_pass_untouched() {
    let mut testbed = testbed();
    for end in ["10.9.0.2", "fd09::2"] {
        let frame = in_tunnel(&tcp4(1, ACK), IPIP, end.parse().unwrap());
        let (outcome, after) = testbed.run(&frame);
        assert_eq!((outcome.verdict, after), (Verdict::Pass, frame));
    }
    let mut foreign = in_tunnel(&tcp4(1, ACK), IPIP, "10.9.0.1".parse().unwrap());
    foreign[..6].copy_from_slice(&OTHER_MAC);
    let (outcome, after) = testbed.run(&foreign);
    assert_eq!((outcome.reason, after), (Reason::OtherStation, foreign));
    testbed.tables.constants.ends_tunnels = false;
    let frame = in_tunnel(&tcp4(1, ACK), IPIP, "10.9.0.1".parse().unwrap());
    assert_eq!(testbed.run(&frame).0.reason, Reason::OtherProtocol);
    assert_eq!(testbed.tables.counters().decapsulated, 0);
}

#[test]
fn congestion_that_the_inner_packet_cannot_carry_drops_it() {
    let mut frame = in_tunnel(&tcp4(1, ACK), IPIP, "10.9.0.1".parse().unwrap());
    frame[15] |= 3;
    assert_eq!(testbed().run(&frame).0.reason, Reason::Congestion);
}
