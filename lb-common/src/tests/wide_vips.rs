//! VIPs that are prefixes or ranges of ports.

use std::vec::Vec;

use super::testbed::*;
use crate::{
    ip::Family,
    memory::Processed,
    reason::Reason,
    tables::{
        config::{WIDE_V4, WIDE_V6},
        vip::ECHO_SERVICE,
        wide::{FIXED_BITS, PortSet, WideKey, range},
    },
};

/// Gives a prefix these ranges of ports.
fn prefix(testbed: &mut Testbed, address: &str, bits: u32, protocol: u8, ranges: &[u64]) {
    let address: std::net::IpAddr = address.parse().unwrap();
    let mut octets = [0; 16];
    let family = match address {
        std::net::IpAddr::V4(address) => {
            octets[..4].copy_from_slice(&address.octets());
            Family::V4
        }
        std::net::IpAddr::V6(address) => {
            octets = address.octets();
            Family::V6
        }
    };
    let key = WideKey {
        bits: FIXED_BITS + bits,
        family: family as u8,
        protocol,
        pad: [0; 2],
        address: octets,
    };
    let mut set = PortSet::default();
    set.ranges[..ranges.len()].copy_from_slice(ranges);
    let tables = &mut testbed.tables;
    let index = tables.port_sets.len() as u32;
    tables.port_sets.push(set);
    let bits = FIXED_BITS + bits;
    tables.wide.insert((bits, key.first_bits(bits)), index);
    tables.config.flags |= match family {
        Family::V4 => WIDE_V4,
        Family::V6 => WIDE_V6,
    };
}

/// A service with one real and no key that leads to it.
fn hidden(testbed: &mut Testbed, name: &str) -> u32 {
    testbed.served(name, "10.1.0.2", 1).0
}

fn to4(address: [u8; 4], port: u16) -> Vec<u8> {
    let mut frame = tcp4(40_000, ACK);
    frame[30..34].copy_from_slice(&address);
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    frame
}

fn to6(address: [u8; 2], port: u16) -> Vec<u8> {
    let mut frame = tcp6(40_000, ACK);
    frame[52..54].copy_from_slice(&address);
    frame[56..58].copy_from_slice(&port.to_be_bytes());
    frame
}

fn service(outcome: Processed) -> Option<u32> {
    match outcome.reason {
        Reason::ForwardedTx => Some(outcome.service),
        Reason::NotVip => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_longest_prefix_with_the_port_wins_after_single_vips() {
    let mut testbed = Testbed::new();
    let single = hidden(&mut testbed, "10.0.0.1:80/tcp");
    let [net, range_, host, six] = [
        "192.0.2.1:1/tcp",
        "192.0.2.1:2/tcp",
        "192.0.2.1:3/tcp",
        "[fd00::1]:4/tcp",
    ]
    .map(|name| hidden(&mut testbed, name));
    let all = range(0, 65_535, net);
    let some = range(1_000, 2_000, range_);
    let one = range(443, 443, host);
    prefix(&mut testbed, "10.0.0.0", 24, 6, &[some, all]);
    // As the agent writes it: with the ranges of the prefix around it.
    prefix(&mut testbed, "10.0.0.1", 32, 6, &[one, some, all]);
    prefix(&mut testbed, "2001:db8::", 112, 6, &[range(80, 81, six)]);
    for (frame, expected) in [
        (to4([10, 0, 0, 1], 80), Some(single)),
        (to4([10, 0, 0, 1], 443), Some(host)),
        (to4([10, 0, 0, 1], 444), Some(net)),
        (to4([10, 0, 0, 1], 1_000), Some(range_)),
        (to4([10, 0, 0, 2], 443), Some(net)),
        (to4([10, 0, 0, 2], 2_000), Some(range_)),
        (to4([10, 0, 0, 255], 2_001), Some(net)),
        (to4([10, 0, 1, 0], 80), None),
        (to4([9, 255, 255, 255], 80), None),
        (to6([0, 1], 80), Some(six)),
        (to6([0xFF, 0xFF], 81), Some(six)),
        (to6([0xFF, 0xFF], 82), None),
        (to6([0, 0], 79), None),
    ] {
        assert_eq!(service(testbed.run(&frame).0), expected, "{frame:?}");
    }
    // Another protocol has prefixes of its own.
    assert_eq!(testbed.run(&udp4(1)).0.reason, Reason::NotVip);
}

#[test]
fn addresses_of_a_prefix_answer_echo_requests_and_take_errors() {
    let mut testbed = Testbed::new();
    let net = hidden(&mut testbed, "192.0.2.1:1/tcp");
    prefix(&mut testbed, "10.0.0.0", 24, 6, &[range(0, 65_535, net)]);
    prefix(
        &mut testbed,
        "10.0.0.0",
        24,
        1,
        &[range(0, 65_535, ECHO_SERVICE)],
    );
    let mut request = Vec::new();
    etherparse::PacketBuilder::ethernet2(ROUTER, BALANCER)
        .ipv4([198, 51, 100, 7], [10, 0, 0, 77], 61)
        .icmpv4_echo_request(1, 2)
        .write(&mut request, b"hello")
        .unwrap();
    assert_eq!(testbed.run(&request).0.reason, Reason::EchoReply);
    let flow = to4([10, 0, 0, 1], 4_000);
    let error = icmp_error4(3, 4, 1_400, &answer_to(&flow));
    assert_eq!(service(testbed.run(&error).0), Some(net));
}
