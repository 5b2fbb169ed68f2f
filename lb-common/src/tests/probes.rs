//! Packets of this host that are for a certain real.

use super::testbed::*;
use crate::{
    memory::MemFrame,
    probe::{real_of, send},
    reason::Reason,
    tables::{
        PROBE_MARK,
        real::{DELETED, DOWN, RESET},
        ring::Previous,
    },
};

#[test]
fn a_probe_is_sent_as_a_clients_packet_is() {
    let mut testbed = Testbed::new();
    let (service, four) = testbed.served("10.0.0.1:80/tcp", "10.1.0.2", 1);
    let six = testbed.real(service, "fd00::3", 2);
    let l2 = testbed.l2_real(service, 1);
    let service6 = testbed.service("[2001:db8::1]:80/tcp");
    let reals6 = [
        testbed.real(service6, "10.1.0.2", 1),
        testbed.real(service6, "fd00::3", 2),
    ];
    for (service, real, frame) in [
        (service, four, tcp4(1, SYN)),
        (service, six, tcp4(2, ACK)),
        (service, l2, tcp4(3, ACK)),
        (service6, reals6[0], tcp6(4, SYN)),
        (service6, reals6[1], tcp6(5, SYN)),
    ] {
        testbed.slots(service, real, Previous::Settled);
        let (outcome, as_client) = testbed.run(&frame);
        let mut probe = MemFrame::new(&frame);
        let interface = send(&mut probe, &testbed.tables, real).unwrap();
        let expected = match outcome.reason {
            Reason::ForwardedTx => INTERFACE,
            _ => outcome.interface,
        };
        assert_eq!(interface, expected);
        assert_eq!(probe.bytes(), as_client, "real {real}");
    }
    // The dead are probed too: how else should they be found alive?
    for flag in [DOWN, RESET] {
        testbed.tables.reals[four as usize].flags |= flag;
        let mut probe = MemFrame::new(&tcp4(1, SYN));
        assert_eq!(send(&mut probe, &testbed.tables, four), Ok(INTERFACE));
    }
}

#[test]
fn what_cannot_be_sent_is_told() {
    let mut testbed = Testbed::new();
    let (service, real) = testbed.served("10.0.0.1:80/tcp", "10.1.0.2", 1);
    let far = testbed.real(service, "10.1.0.3", 0);
    let gone = testbed.real(service, "10.1.0.4", 1);
    testbed.tables.reals[gone as usize].flags |= DOWN | DELETED;
    let arp = with(tcp4(1, SYN), &[(13, 6)]);
    for (frame, real, reason) in [
        (arp, real, Reason::NotIp),
        (tcp4(1, SYN), far, Reason::NoNextHop),
        (tcp4(1, SYN), gone, Reason::NoReal),
        (tcp4(1, SYN), 60, Reason::NoReal),
        (tcp4(1, SYN), 60_000, Reason::NoReal),
        (with(tcp4(1, SYN), &[(20, 0x20)]), real, Reason::Fragment),
    ] {
        let mut probe = MemFrame::new(&frame);
        assert_eq!(send(&mut probe, &testbed.tables, real), Err(reason));
        assert_eq!(probe.bytes(), frame);
    }
}

#[test]
fn a_mark_names_a_real() {
    assert_eq!(real_of(PROBE_MARK | 7), Some(7));
    for other in [0, 7, !0, PROBE_MARK ^ 0x1_0000] {
        assert_eq!(real_of(other), None);
    }
}
