//! Frames for other stations.

use std::{vec, vec::Vec};

use super::testbed::*;
use crate::{
    reason::{Reason, Verdict},
    station::pack,
    tables::ring::Previous,
};

/// The frame with another destination.
fn to(mac: [u8; 6], mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&mac);
    frame
}

const BRIDGE: [u8; 6] = [2, 0xAA, 0, 0, 0, 2];
const VRRP: [u8; 6] = [0, 0, 0x5E, 0, 1, 7];

#[test]
fn only_frames_for_the_interface_are_balanced() {
    let mut echo = Vec::new();
    etherparse::PacketBuilder::ethernet2(ROUTER, BALANCER)
        .ipv4([198, 51, 100, 7], [10, 0, 0, 1], 61)
        .icmpv4_echo_request(1, 2)
        .write(&mut echo, b"x")
        .unwrap();
    let error = icmp_error4(3, 4, 1_400, &answer_to(&tcp4(1, ACK)));
    for (description, mac, own) in [
        ("its own", BALANCER, true),
        ("a bridge's that it belongs to", BRIDGE, true),
        ("a macvlan's on top of it", VRRP, true),
        ("another station's", [2, 0, 0, 0, 0, 3], false),
        (
            "its own with another last byte",
            [2, 0, 0, 0, 0, 0xFF],
            false,
        ),
        ("nobody's", [0; 6], false),
        ("all stations'", [0xFF; 6], false),
        ("a group's", [1, 0, 0x5E, 0, 0, 1], false),
        ("an IPv6 group's", [0x33, 0x33, 0, 0, 0, 1], false),
        ("its own as a group's", [3, 0, 0, 0, 0, 2], false),
    ] {
        for frame in [tcp4(1, ACK), tcp6(1, SYN), echo.clone(), error.clone()] {
            let mut testbed = two_services();
            let others = &testbed.tables.state.station.others;
            others[0].store(pack(BRIDGE));
            others[6].store(pack(VRRP));
            let frame = to(mac, frame);
            let (outcome, after) = testbed.run(&frame);
            if own {
                assert_eq!(outcome.verdict, Verdict::Tx, "{description}");
            } else {
                assert_eq!(
                    (outcome.verdict, outcome.reason),
                    (Verdict::Pass, Reason::OtherStation),
                    "{description}"
                );
                assert_eq!(after, frame, "{description}");
                assert_eq!(outcome.service, 0, "{description}");
            }
        }
        let arp = with(to(mac, tcp4(1, ACK)), &[(13, 6)]);
        assert_eq!(two_services().run(&arp).0.reason, Reason::NotIp);
    }
}

/// Two balancers in mode l2 on a network that floods: the second one sees what the first one sends.
#[test]
fn a_frame_on_its_way_to_a_real_is_not_balanced_again() {
    let balancer = |mac| {
        let mut testbed = Testbed::new();
        let service = testbed.service("10.0.0.1:80/tcp");
        let real = testbed.l2_real(service, 1);
        testbed.slots(service, real, Previous::Settled);
        testbed.tables.state.station.own.store(pack(mac));
        testbed
    };
    let mut first = balancer(BALANCER);
    let mut second = balancer([2, 0, 0, 0, 0, 9]);
    let syn = tcp4(1, SYN);
    let (outcome, sent) = first.run(&syn);
    assert_eq!(outcome.reason, Reason::ForwardedTx);
    for frame in [syn, sent.clone()] {
        assert_eq!(second.run(&frame).0.reason, Reason::OtherStation);
    }
    assert_eq!(first.run(&sent).0.reason, Reason::OtherStation);
}

/// An interface without an Ethernet address, and a simulated frame: any station will do, but no group of them.
#[test]
fn an_unknown_station_takes_all_but_groups() {
    let testbed = || {
        let testbed = two_services();
        testbed.tables.state.station.own.store(0);
        testbed
    };
    for mac in [BALANCER, [0; 6], [2, 0, 0, 0, 0, 3]] {
        let (outcome, _) = testbed().run(&to(mac, tcp4(1, ACK)));
        assert_eq!(outcome.reason, Reason::ForwardedTx, "{mac:x?}");
    }
    for mac in [[0xFF; 6], [1, 0, 0x5E, 0, 0, 1]] {
        let (outcome, _) = testbed().run(&to(mac, tcp4(1, ACK)));
        assert_eq!(outcome.reason, Reason::OtherStation, "{mac:x?}");
    }
    // A new address counts from the next frame on.
    let mut bed = testbed();
    bed.tables.state.station.own.store(pack(BRIDGE));
    let reasons: Vec<Reason> = [BALANCER, BRIDGE]
        .map(|mac| bed.run(&to(mac, tcp4(1, ACK))).0.reason)
        .to_vec();
    assert_eq!(reasons, vec![Reason::OtherStation, Reason::ForwardedTx]);
}
