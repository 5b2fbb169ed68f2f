//! What the ring hash of a service's flows is made of.

use std::collections::HashSet;

use super::testbed::*;
use crate::{
    reason::Reason,
    tables::{
        ring::{Previous, slot},
        service::{HASH_DESTINATION, HASH_KATRAN, HASH_SOURCE, HASH_SOURCE_GROUP},
    },
};

/// A testbed whose services have 16 reals each, with the same slots.
fn testbed(vips: &[&str], flags: u32) -> Testbed {
    let mut testbed = Testbed::new();
    for vip in vips {
        let service = testbed.service(vip);
        testbed.tables.services[service as usize].flags = flags;
        let reals: [u16; 16] =
            std::array::from_fn(|n| testbed.real(service, &std::format!("10.1.0.{n}"), 1));
        for at in 0..SLOTS {
            let real = reals[at as usize % reals.len()];
            testbed
                .tables
                .set_slot(service * SLOTS + at, slot(real, Previous::Settled));
        }
    }
    testbed
}

/// The real of a frame, counted from its service's first.
fn real(testbed: &mut Testbed, frame: &[u8]) -> u16 {
    let outcome = testbed.run(frame).0;
    assert_eq!(outcome.reason, Reason::ForwardedTx);
    (outcome.real - 1) % 16
}

const VIPS: [&str; 2] = ["10.0.0.1:0/tcp", "[2001:db8::1]:0/tcp"];

/// Frames of many clients' ports, of many clients, and to many ports.
fn frames(v6: bool) -> [[std::vec::Vec<u8>; 64]; 3] {
    let frame = |port| if v6 { tcp6(port, ACK) } else { tcp4(port, ACK) };
    let (client, port) = if v6 { (37, 56) } else { (29, 36) };
    [
        std::array::from_fn(|n| frame(40_000 + n as u16)),
        std::array::from_fn(|n| with(frame(40_000), &[(client, n as u8)])),
        std::array::from_fn(|n| with(frame(40_000), &[(port, n as u8)])),
    ]
}

#[test]
fn a_hash_is_made_of_what_the_service_says() {
    for v6 in [false, true] {
        for (flags, ports, clients, destinations) in [
            (0, true, true, true),
            (HASH_SOURCE, false, true, false),
            (HASH_SOURCE_GROUP, false, true, false),
            (HASH_DESTINATION, false, false, true),
            (HASH_KATRAN, true, true, true),
        ] {
            let mut testbed = testbed(&VIPS, flags);
            let many = frames(v6).map(|frames| {
                let reals: HashSet<u16> = frames
                    .iter()
                    .map(|frame| real(&mut testbed, frame))
                    .collect();
                reals.len()
            });
            let expected = [ports, clients, destinations];
            for (many, expected) in many.into_iter().zip(expected) {
                // 64 flows over 16 reals leave one out in one of four cases, and four nearly never.
                assert!(if expected { many > 11 } else { many == 1 }, "{flags:#x}");
            }
        }
    }
}

#[test]
fn services_of_a_group_have_one_real_for_a_client() {
    let vips = ["10.0.0.1:80/tcp", "10.0.0.2:53/udp", "10.0.0.1:0/sctp"];
    let mut testbed = testbed(&vips, HASH_SOURCE_GROUP);
    let mut seen = HashSet::new();
    for client in 0..64 {
        let of = |frame: std::vec::Vec<u8>| with(frame, &[(29, client)]);
        let mut udp = of(udp4(1));
        udp[33] = 2;
        let reals =
            [of(tcp4(1, ACK)), udp, of(sctp4(9, 1))].map(|frame| real(&mut testbed, &frame));
        assert_eq!(reals, [reals[0]; 3]);
        seen.insert(reals[0]);
    }
    assert!(seen.len() > 11);
}

#[test]
fn neither_destination_nor_protocol_count_for_katran() {
    let mut testbed = testbed(
        &["10.0.0.1:80/tcp", "10.0.0.2:80/tcp", "10.0.0.1:80/udp"],
        HASH_KATRAN,
    );
    let mut seen = HashSet::new();
    for port in 40_000..40_064 {
        let tcp = tcp4(port, ACK);
        let other = with(tcp.clone(), &[(33, 2)]);
        let udp = with(udp4(port), &[(36, 0), (37, 80)]);
        let reals = [tcp, other, udp].map(|frame| real(&mut testbed, &frame));
        assert_eq!(reals, [reals[0]; 3]);
        seen.insert(reals[0]);
    }
    assert!(seen.len() > 11);
}

#[test]
fn an_error_finds_the_real_of_its_flow_by_the_services_hash() {
    for flags in [
        HASH_SOURCE,
        HASH_SOURCE_GROUP,
        HASH_DESTINATION,
        HASH_KATRAN,
    ] {
        let mut testbed = testbed(&["10.0.0.1:80/tcp"], flags);
        for client in 0..32 {
            let frame = with(tcp4(40_000, ACK), &[(29, client)]);
            let expected = real(&mut testbed, &frame);
            let error = icmp_error4(3, 4, 1_400, &answer_to(&frame));
            assert_eq!(real(&mut testbed, &error), expected);
        }
    }
}
