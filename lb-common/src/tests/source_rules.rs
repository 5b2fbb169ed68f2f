//! Rules about the sources of a service's packets.

use std::vec::Vec;

use super::testbed::*;
use crate::{
    memory::{MemFrame, simulate},
    reason::{ChosenBy, Reason},
    tables::{
        real::DOWN,
        ring::Previous,
        service::SOURCE_RULES,
        source_rule::{Rule, SourceKey},
    },
};

struct Bed {
    testbed: Testbed,
    service: u32,
    ringed: u16,
    own: u16,
}

impl Bed {
    /// A service whose ring leads to its first real, while the second one is that of rules.
    fn new(vip: &str) -> Bed {
        let mut testbed = Testbed::new();
        let (service, ringed) = testbed.served(vip, "10.1.0.2", 1);
        let own = testbed.real(service, "10.1.0.3", 1);
        testbed.tables.services[service as usize].flags |= SOURCE_RULES;
        Bed {
            testbed,
            service,
            ringed,
            own,
        }
    }

    fn rule(&mut self, address: &[u8], length: u32, rule: Rule) {
        let mut octets = [0; 16];
        octets[..address.len()].copy_from_slice(address);
        let key = SourceKey::new(self.service, octets, length);
        self.testbed.tables.source_rules.insert(key, rule.number());
    }

    /// Sends a packet of a client; returns the real that got it, and why, or 0 if it was refused.
    fn real(&mut self, frame: &[u8]) -> (u16, ChosenBy) {
        let outcome = self.testbed.run(frame).0;
        if outcome.reason == Reason::SourceDenied {
            return (0, outcome.chosen_by);
        }
        assert_eq!(outcome.reason, Reason::ForwardedTx);
        (outcome.real, outcome.chosen_by)
    }
}

/// A SYN of this client.
fn of(client: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2(ROUTER, BALANCER)
        .ipv4(client, [10, 0, 0, 1], 61)
        .tcp(40_000, 80, 1, 1_000)
        .syn()
        .write(&mut bytes, &[])
        .unwrap();
    bytes
}

#[test]
fn the_longest_prefix_counts() {
    let mut bed = Bed::new("10.0.0.1:80/tcp");
    let ring = (bed.ringed, ChosenBy::Ring);
    let denied = (0, ChosenBy::Nothing);
    bed.rule(&[198, 51, 0, 0], 16, Rule::Deny);
    bed.rule(&[198, 51, 100, 0], 24, Rule::Allow);
    bed.rule(&[198, 51, 100, 64], 26, Rule::Real(bed.own));
    bed.rule(&[198, 51, 100, 77], 32, Rule::Deny);
    let own = (bed.own, ChosenBy::SourceRule);
    for (client, expected) in [
        ([198, 50, 255, 255], ring),
        ([198, 51, 99, 1], denied),
        ([198, 51, 100, 63], ring),
        ([198, 51, 100, 64], own),
        ([198, 51, 100, 76], own),
        ([198, 51, 100, 77], denied),
        ([198, 51, 100, 127], own),
        ([198, 51, 100, 128], ring),
    ] {
        assert_eq!(bed.real(&of(client)), expected, "{client:?}");
    }
    // What no rule is about is served until there is a rule for it.
    bed.rule(&[], 0, Rule::Deny);
    assert_eq!(bed.real(&of([198, 50, 255, 255])), denied);
    assert_eq!(bed.real(&of([198, 51, 100, 63])), ring);
    // Without the flag nobody looks.
    bed.testbed.tables.services[bed.service as usize].flags = 0;
    assert_eq!(bed.real(&of([198, 50, 255, 255])), ring);
}

#[test]
fn rules_are_those_of_one_service() {
    let mut bed = Bed::new("10.0.0.1:80/tcp");
    let other = SourceKey::new(bed.service + 1, [0; 16], 0);
    let rules = &mut bed.testbed.tables.source_rules;
    rules.insert(other, Rule::Deny.number());
    assert_eq!(
        bed.real(&of([198, 51, 100, 7])),
        (bed.ringed, ChosenBy::Ring)
    );
}

#[test]
fn a_real_that_is_dead_or_anothers_is_not_taken() {
    let mut bed = Bed::new("10.0.0.1:80/tcp");
    let (_, foreign) = bed.testbed.served("10.0.0.2:80/tcp", "10.1.0.4", 1);
    let ring = (bed.ringed, ChosenBy::Ring);
    bed.rule(&[198, 51, 100, 0], 24, Rule::Real(bed.own));
    bed.testbed.tables.reals[bed.own as usize].flags |= DOWN;
    assert_eq!(bed.real(&of([198, 51, 100, 7])), ring);
    for real in [foreign, 60, 0] {
        bed.rule(&[198, 51, 100, 0], 24, Rule::Real(real));
        assert_eq!(bed.real(&of([198, 51, 100, 7])), ring, "{real}");
    }
}

#[test]
fn a_real_of_ones_own_counts_for_more_than_the_flow_table() {
    let mut bed = Bed::new("10.0.0.1:80/tcp");
    let (service, ringed) = (bed.service, bed.ringed);
    bed.testbed.slots(service, ringed, Previous::Real(ringed));
    assert_eq!(bed.real(&of([198, 51, 100, 7])).0, ringed);
    bed.rule(&[198, 51, 100, 0], 24, Rule::Real(bed.own));
    assert_eq!(
        bed.real(&of([198, 51, 100, 7])),
        (bed.own, ChosenBy::SourceRule)
    );
}

#[test]
fn ipv6_has_rules_of_any_length() {
    let mut bed = Bed::new("[2001:db8::1]:80/tcp");
    let client = client6();
    for length in [1, 63, 64, 65, 127, 128] {
        bed.testbed.tables.source_rules.clear();
        assert_eq!(bed.real(&tcp6(40_000, 2)).0, bed.ringed);
        bed.rule(&client, length, Rule::Deny);
        assert_eq!(bed.real(&tcp6(40_000, 2)).0, 0, "{length}");
        // The last bit that counts is another one.
        bed.testbed.tables.source_rules.clear();
        let mut other = client;
        other[(length as usize - 1) / 8] ^= 0x80 >> ((length - 1) % 8);
        bed.rule(&other, length, Rule::Deny);
        assert_eq!(bed.real(&tcp6(40_000, 2)).0, bed.ringed, "{length}");
    }
}

#[test]
fn an_error_about_a_flow_goes_where_its_packets_go() {
    let mut bed = Bed::new("10.0.0.1:80/tcp");
    bed.rule(&[198, 51, 100, 0], 24, Rule::Real(bed.own));
    let mut quoted = Vec::new();
    etherparse::PacketBuilder::ethernet2(ROUTER, BALANCER)
        .ipv4([10, 0, 0, 1], [198, 51, 100, 7], 61)
        .tcp(80, 40_000, 1, 1_000)
        .write(&mut quoted, &[0; 8])
        .unwrap();
    let outcome = bed.testbed.run(&icmp_error4(3, 4, 1_400, &quoted[14..])).0;
    assert_eq!(outcome.reason, Reason::ForwardedTx);
    assert_eq!(
        (outcome.real, outcome.chosen_by),
        (bed.own, ChosenBy::SourceRule)
    );
}

#[test]
fn a_simulation_finds_the_same() {
    let mut bed = Bed::new("10.0.0.1:80/tcp");
    bed.rule(&[198, 51, 100, 7], 32, Rule::Deny);
    let mut frame = MemFrame::new(&of([198, 51, 100, 7]));
    let seen = simulate(&mut bed.testbed.tables, &mut frame);
    assert_eq!(seen.reason, Reason::SourceDenied);
}
