//! ICMP errors about a VIP's flows.

use std::vec::Vec;

use super::testbed::*;
use crate::{
    decap::{self, Vips, decapsulate},
    memory::{MemFrame, run, simulate},
    reason::{ChosenBy, Reason, Verdict},
    tables::{real::RESET, ring::Previous, service::TRACK_ALL},
};

/// Errors about a packet that the VIP sent to `port` of the client: fragmentation needed, unreachable, time
/// exceeded, parameter problem; packet too big, unreachable, time exceeded, parameter problem.
fn errors(port: u16) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (v4, v6) = (tcp4(port, ACK), tcp6(port, ACK));
    let four = [(3, 4, 1_400), (3, 1, 0), (11, 0, 0), (12, 0, 0)]
        .map(|(kind, code, mtu)| (v4.clone(), icmp_error4(kind, code, mtu, &answer_to(&v4))));
    let six = [(2, 0, 1_400), (1, 4, 0), (3, 0, 0), (4, 0, 0)]
        .map(|(kind, code, mtu)| (v6.clone(), icmp_error6(kind, code, mtu, &answer_to(&v6))));
    [four, six].concat()
}

/// Services of both families with five reals each, which share the slots.
fn testbed(vips: [&str; 2], reals: &[&str], l2: bool) -> Testbed {
    let mut testbed = Testbed::new();
    for vip in vips {
        let service = testbed.service(vip);
        let reals: Vec<u16> = reals
            .iter()
            .map(|real| match l2 {
                true => testbed.l2_real(service, 1),
                false => testbed.real(service, real, 1),
            })
            .collect();
        for slot in 0..SLOTS {
            let real = reals[slot as usize % reals.len()];
            let slot_record = crate::tables::ring::slot(real, Previous::Settled);
            testbed.tables.set_slot(service * SLOTS + slot, slot_record);
        }
    }
    testbed
}

const VIPS: [&str; 2] = ["10.0.0.1:80/tcp", "[2001:db8::1]:80/tcp"];
const REALS: [&str; 5] = ["10.1.0.2", "10.1.0.3", "fd00::2", "fd00::3", "10.1.0.4"];

#[test]
fn an_error_reaches_the_real_of_its_flow() {
    for l2 in [false, true] {
        let mut seen = std::collections::HashSet::new();
        for port in 1_000..1_100 {
            let mut testbed = testbed(VIPS, &REALS, l2);
            for (flow, error) in errors(port) {
                let owner = testbed.run(&flow).0;
                assert_eq!(owner.reason, Reason::ForwardedTx);
                let (outcome, sent) = testbed.run(&error);
                assert_eq!(
                    (outcome.verdict, outcome.reason, outcome.chosen_by),
                    (Verdict::Tx, Reason::ForwardedTx, ChosenBy::Ring)
                );
                assert_eq!((outcome.service, outcome.real), (owner.service, owner.real));
                seen.insert(outcome.real);
                let counters = testbed.tables.counters();
                assert_eq!(counters.reals[outcome.real as usize].opened, 0);
                if l2 {
                    assert_eq!(sent[12..], error[12..], "only the MAC addresses change");
                } else {
                    assert!(sent.ends_with(&error[14 + 12..]), "it arrives as it came");
                }
            }
        }
        assert_eq!(seen.len(), 10);
    }
}

struct Both;

impl Vips for Both {
    fn has4(&self, address: &[u8; 4]) -> bool {
        *address == [10, 0, 0, 1]
    }

    fn has6(&self, address: &[u8; 16]) -> bool {
        *address == vip6()
    }
}

#[test]
fn a_real_takes_the_error_out_of_its_outer_header() {
    for real in ["10.1.0.2", "fd00::2"] {
        for (_, error) in errors(1_000) {
            let mut testbed = testbed(VIPS, &[real], false);
            let mut frame = MemFrame::new(&error);
            run(&mut testbed.tables, &mut frame);
            let reason = decapsulate(&mut frame, &Both);
            let expected = match (error[12] == 8, real.contains(':')) {
                (true, false) => decap::Reason::Ip4InIp4,
                (true, true) => decap::Reason::Ip4InIp6,
                (false, false) => decap::Reason::Ip6InIp4,
                (false, true) => decap::Reason::Ip6InIp6,
            };
            assert_eq!(reason, expected);
            let payload = if error[12] == 8 { 34 } else { 54 };
            assert_eq!(frame.bytes()[payload..], error[payload..]);
        }
    }
}

#[test]
fn an_error_about_an_exception_reaches_the_flow_tables_real() {
    let mut testbed = Testbed::new();
    let service = testbed.service("10.0.0.1:80/tcp");
    let (old, new) = (
        testbed.real(service, "10.1.0.2", 1),
        testbed.real(service, "10.1.0.3", 1),
    );
    testbed.slots(service, new, Previous::Real(old));
    let flow = tcp4(7, ACK);
    let error = icmp_error4(3, 4, 1_400, &answer_to(&flow));
    // A flow that no packet was seen of belongs to the previous real, and an error makes no entry.
    let outcome = testbed.run(&error).0;
    assert_eq!((outcome.real, outcome.chosen_by), (old, ChosenBy::Previous));
    assert_eq!(testbed.tables.live_flows().count(), 0);
    assert_eq!(testbed.run(&flow).0.real, old);
    let entry: Vec<_> = testbed.tables.live_flows().collect();
    let counted = testbed.tables.counters().flows;
    testbed.tables.now += WINDOW / 2;
    testbed.slots(service, new, EXCEPTIONS);
    let outcome = testbed.run(&error).0;
    assert_eq!((outcome.real, outcome.chosen_by), (old, ChosenBy::Flow));
    // It keeps no flow alive, and nobody counts it as one of the flow's packets.
    assert_eq!(testbed.tables.live_flows().collect::<Vec<_>>(), entry);
    assert_eq!(testbed.tables.counters().flows, counted);
    // A dead real's flows: there is no reset to an error.
    testbed.tables.reals[old as usize].flags |= RESET;
    assert_eq!(testbed.run(&error).0.reason, Reason::ForwardedTx);
    testbed.tables.services[service as usize].flags = TRACK_ALL;
    assert_eq!(testbed.run(&error).0.reason, Reason::ForwardedTx);
    testbed.slots(service, 0, Previous::Settled);
    testbed.tables.services[service as usize].flags = 0;
    let (outcome, after) = testbed.run(&error);
    assert_eq!((outcome.reason, after), (Reason::NoReal, error));
    let dropped = testbed.tables.counters().services[service as usize].dropped_packets;
    assert_eq!(dropped, 1);
}

#[test]
fn udp_and_ports_of_any_number_are_found() {
    let mut testbed = Testbed::new();
    let (udp, _) = testbed.served("10.0.0.1:53/udp", "10.1.0.2", 1);
    let (any, _) = testbed.served("10.0.0.1:0/tcp", "10.1.0.3", 2);
    let error = |frame: &[u8]| icmp_error4(3, 3, 0, &answer_to(frame));
    assert_eq!(testbed.run(&error(&udp4(9))).0.service, udp);
    let outcome = testbed.run(&error(&tcp4(9, ACK))).0;
    assert_eq!((outcome.service, outcome.verdict), (any, Verdict::Redirect));
    assert_eq!(outcome.interface, OTHER);
}

#[test]
fn the_quoted_packet_may_have_options_and_headers_and_be_cut_off() {
    let options = options4(10);
    let mut quoted = answer_to(&options);
    let ports = [quoted[60], quoted[61], quoted[62], quoted[63]];
    // `answer_to` exchanges what stands behind a header without options.
    quoted[20..24].copy_from_slice(&[1; 4]);
    quoted[60..64].copy_from_slice(&[ports[2], ports[3], ports[0], ports[1]]);
    let v6 = tcp6(40_000, ACK);
    let plain = answer_to(&v6);
    let behind = |next: u8, header: &[u8]| {
        let mut packet = plain.clone();
        packet[6] = next;
        packet.splice(40..40, header.iter().copied());
        packet
    };
    for (description, error) in [
        ("IPv4 options", icmp_error4(3, 4, 1_400, &quoted)),
        (
            "eight bytes",
            icmp_error4(3, 4, 1_400, &answer_to(&tcp4(40_000, ACK))[..28]),
        ),
        (
            "first fragment",
            icmp_error4(
                3,
                4,
                1_400,
                &with(answer_to(&tcp4(40_000, ACK)), &[(6, 0x20)]),
            ),
        ),
        ("IPv6, eight bytes", icmp_error6(2, 0, 1_400, &plain[..48])),
        (
            "IPv6, atomic fragment",
            icmp_error6(2, 0, 1_280, &behind(44, &[6, 0, 0, 0, 0, 0, 0, 1])),
        ),
        (
            "IPv6, options",
            icmp_error6(2, 0, 1_280, &behind(60, &[6, 0, 1, 4, 0, 0, 0, 0])),
        ),
    ] {
        let (outcome, _) = two_services().run(&error);
        assert_eq!(outcome.reason, Reason::ForwardedTx, "{description}");
    }
}

#[test]
fn errors_about_no_flow_of_a_vip_pass_untouched() {
    let v4 = answer_to(&tcp4(1, ACK));
    let v6 = answer_to(&tcp6(1, ACK));
    let four = |quoted: &[u8]| icmp_error4(3, 4, 1_400, quoted);
    let six = |quoted: &[u8]| icmp_error6(2, 0, 1_400, quoted);
    for (description, frame) in [
        ("no VIP is told", with(four(&v4), &[(33, 2)])),
        (
            "another source than the VIP",
            four(&with(v4.clone(), &[(15, 2)])),
        ),
        ("another port", four(&with(v4.clone(), &[(21, 81)]))),
        ("another protocol", four(&with(v4.clone(), &[(9, 47)]))),
        ("later fragment", four(&with(v4.clone(), &[(7, 9)]))),
        ("version", four(&with(v4.clone(), &[(0, 0x65)]))),
        ("IHL 4", four(&with(v4.clone(), &[(0, 0x44)]))),
        ("nothing quoted", four(&[])),
        ("half a header", four(&v4[..19])),
        ("half the ports", four(&v4[..22])),
        ("source quench", icmp_error4(4, 0, 0, &v4)),
        ("redirect", icmp_error4(5, 1, 0, &v4)),
        ("IPv6: another source", six(&with(v6.clone(), &[(23, 2)]))),
        ("IPv6: another port", six(&with(v6.clone(), &[(41, 81)]))),
        ("IPv6: another protocol", six(&with(v6.clone(), &[(6, 47)]))),
        (
            "IPv6: later fragment",
            six(&with(
                [&v6[..40], &[6, 0, 0, 8, 0, 0, 0, 1], &v6[40..]].concat(),
                &[(6, 44)],
            )),
        ),
        ("IPv6: version", six(&with(v6.clone(), &[(0, 0x40)]))),
        ("IPv6: half a header", six(&v6[..39])),
        ("IPv6: half the ports", six(&v6[..43])),
        ("IPv6: an unknown error", icmp_error6(100, 0, 0, &v6)),
        ("IPv6: an ICMPv4 type", icmp_error6(11, 0, 0, &v6)),
    ] {
        let mut testbed = two_services();
        let (outcome, after) = testbed.run(&frame);
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Pass, Reason::OtherProtocol),
            "{description}"
        );
        assert_eq!(after, frame, "{description}");
        assert_eq!((outcome.service, outcome.real), (0, 0), "{description}");
    }
}

#[test]
fn a_simulation_says_the_same() {
    for (_, error) in errors(9) {
        let mut testbed = testbed(VIPS, &REALS, false);
        let mut frame = MemFrame::new(&error);
        let foreseen = simulate(&mut testbed.tables, &mut frame);
        let (outcome, sent) = testbed.run(&error);
        assert_eq!(foreseen, outcome);
        assert_eq!(frame.bytes(), sent);
    }
}
