//! TCP segments that no host sends.

use super::testbed::*;
use crate::reason::{Reason, Verdict};

const PSH: u8 = 0x08;
const URG: u8 = 0x20;

#[test]
fn segments_that_no_host_sends_are_dropped_for_vips_only() {
    for (what, flags, bad) in [
        ("null", 0, true),
        ("FIN", FIN, true),
        ("PSH", PSH, true),
        ("Xmas", FIN | PSH | URG, true),
        ("SYN-FIN", SYN | FIN, true),
        ("SYN-RST", SYN | RST, true),
        ("SYN", SYN, false),
        ("SYN with urgent data", SYN | URG, false),
        ("SYN-ACK", SYN | ACK, false),
        ("RST", RST, false),
        ("RST-ACK", RST | ACK, false),
        ("FIN-ACK", FIN | ACK, false),
        ("data", ACK | PSH, false),
        ("every flag", 0xFF, false),
    ] {
        for (frame, port) in [(tcp4(40_000, flags), 37), (tcp6(40_000, flags), 57)] {
            let mut testbed = two_services();
            let (outcome, after) = testbed.run(&frame);
            if bad {
                assert_eq!(outcome.reason, Reason::BadFlags, "{what}");
                assert_eq!(after, frame, "{what}");
                let counters = testbed.tables.counters();
                let service = outcome.service as usize;
                assert_eq!(counters.services[service].dropped_packets, 1, "{what}");
            } else {
                assert_eq!(outcome.reason, Reason::ForwardedTx, "{what}");
            }
            let other = with(frame, &[(port, 81)]);
            let outcome = testbed.run(&other).0;
            assert_eq!(
                (outcome.verdict, outcome.reason),
                (Verdict::Pass, Reason::NotVip),
                "{what}"
            );
        }
    }
}

#[test]
fn a_syn_from_the_vip_itself_is_dropped() {
    for mut frame in [tcp4(80, SYN), tcp6(80, SYN)] {
        let (source, size) = if frame[12] == 8 { (26, 4) } else { (22, 16) };
        let vip = frame[source + size..source + 2 * size].to_vec();
        frame[source..source + size].copy_from_slice(&vip);
        let mut testbed = two_services();
        let (outcome, after) = testbed.run(&frame);
        assert_eq!((outcome.reason, after), (Reason::Land, frame));
    }
}
