//! The registry of forwarding modes, and that the facts of a mode are what it does.

use super::testbed::*;
use crate::{
    decap::{self, Vips, decapsulate},
    forward::{IPIP, L2, MODES, mode},
    ip::Family,
    memory::{MemFrame, run},
    reason::Reason,
    tables::ring::Previous,
};

#[test]
fn modes_are_found_by_number() {
    for facts in MODES {
        assert_eq!(mode(facts.number), Some(*facts));
        let same_name = MODES.iter().filter(|other| other.name == facts.name);
        assert_eq!(same_name.count(), 1, "{}", facts.name);
    }
    assert_eq!(mode(0), None);
    assert_eq!(mode(255), None);
}

#[test]
fn numbers_in_records_do_not_change() {
    assert_eq!((L2.number, L2.name), (1, "l2"));
    assert_eq!((IPIP.number, IPIP.name), (2, "ipip"));
}

#[test]
fn frames_grow_by_what_the_facts_say() {
    for (facts, real, family) in [
        (IPIP, "10.1.0.2", Family::V4),
        (IPIP, "fd00::2", Family::V6),
        (L2, "10.1.0.2", Family::V4),
    ] {
        let mut testbed = Testbed::new();
        let service = testbed.service("10.0.0.1:80/tcp");
        let index = if facts == L2 {
            testbed.l2_real(service, 1)
        } else {
            testbed.real(service, real, 1)
        };
        testbed.slots(service, index, Previous::Settled);
        let frame = tcp4(40_000, ACK);
        let (processed, sent) = testbed.run(&frame);
        assert_eq!(processed.reason, Reason::ForwardedTx);
        let growth = sent.len() - frame.len();
        assert_eq!(growth as u32, facts.overhead(family), "{}", facts.name);
        // TTL 1: the last hop of a mode that counts as one.
        let (processed, _) = testbed.run(&with(frame, &[(22, 1)]));
        assert_eq!(
            processed.reason == Reason::TtlExpired,
            facts.decrements_ttl,
            "{}",
            facts.name
        );
    }
}

#[test]
fn a_record_without_a_known_mode_drops() {
    let mut testbed = two_services();
    testbed.tables.reals[1].flags = 200;
    testbed.tables.reals[1].port = 8_080_u16.to_be_bytes();
    let (processed, _) = testbed.run(&tcp4(40_000, ACK));
    assert_eq!(processed.reason, Reason::BadTables);
}

#[test]
fn modes_without_translation_ignore_the_port() {
    let frame = tcp4(40_000, ACK);
    let mut testbed = two_services();
    let (_, expected) = testbed.run(&frame);
    testbed.tables.reals[1].port = 8_080_u16.to_be_bytes();
    assert_eq!(testbed.run(&frame).1, expected);
}

struct AllVips;

impl Vips for AllVips {
    fn has4(&self, _: &[u8; 4]) -> bool {
        true
    }

    fn has6(&self, _: &[u8; 16]) -> bool {
        true
    }
}

#[test]
fn the_decapsulator_takes_off_what_ipip_puts_on() {
    for (vip, frame, real, reason) in [
        (
            "10.0.0.1:80/tcp",
            tcp4(40_000, ACK),
            "10.1.0.2",
            decap::Reason::Ip4InIp4,
        ),
        (
            "10.0.0.1:80/tcp",
            tcp4(40_000, ACK),
            "fd00::2",
            decap::Reason::Ip4InIp6,
        ),
        (
            "[2001:db8::1]:80/tcp",
            tcp6(40_000, ACK),
            "10.1.0.2",
            decap::Reason::Ip6InIp4,
        ),
        (
            "[2001:db8::1]:80/tcp",
            tcp6(40_000, ACK),
            "fd00::2",
            decap::Reason::Ip6InIp6,
        ),
    ] {
        let mut testbed = Testbed::new();
        testbed.served(vip, real, 1);
        let mut sent = MemFrame::new(&frame);
        run(&mut testbed.tables, &mut sent);
        assert_eq!(decapsulate(&mut sent, &AllVips), reason);
        // The MAC addresses are the next hop's; the rest is the client's packet, one hop further.
        let mut expected = frame;
        expected[..12].copy_from_slice(&[HOP_MAC, BALANCER].concat());
        if vip.starts_with('[') {
            expected[21] -= 1;
        } else {
            expected[22] -= 1;
            expected[24..26].copy_from_slice(&sent.bytes()[24..26]);
        }
        assert_eq!(sent.bytes(), expected);
    }
}
