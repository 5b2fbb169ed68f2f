//! Floods of forged packets: what has a confirmed entry keeps it, and new flows still get one.

use std::{vec, vec::Vec};

use super::testbed::*;
use crate::{
    limits::{CLOSING_TICKS, FLOWS_PER_BUCKET, UDP_CONFIRM_TICKS},
    memory::{MemFrame, Processed, run},
    reason::{ChosenBy, Reason},
    tables::{
        counters::FlowEvictions,
        flow::{CLOSING, HALF_OPEN, OPENING, PROVISIONAL},
        ring::Previous,
        service::TRACK_ALL,
    },
};

const VIP: &str = "10.0.0.1:80/tcp";
/// Buckets of the flow table.
const BUCKETS: usize = 1 << 12;
const ENTRIES: u32 = (BUCKETS * FLOWS_PER_BUCKET) as u32;
/// Established connections.
const CLIENTS: u16 = 200;
/// Forged packets between two packets of a client: what 100,000 a second make of 5 ms.
const PER_ROUND_TRIP: u32 = 500;

/// A service with two reals, in a table that takes a while to fill.
fn testbed() -> (Testbed, u32, [u16; 2]) {
    let mut testbed = Testbed::new();
    testbed.tables.flows = (0..BUCKETS).map(|_| Default::default()).collect();
    let service = testbed.service(VIP);
    let reals = ["10.1.0.1", "10.1.0.2"].map(|address| testbed.real(service, address, 1));
    (testbed, service, reals)
}

/// What chose the real of a segment, and which.
fn segment(testbed: &mut Testbed, port: u16, flags: u8) -> (ChosenBy, u16) {
    let outcome = testbed.run(&tcp4(port, flags)).0;
    assert_eq!(outcome.reason, Reason::ForwardedTx);
    (outcome.chosen_by, outcome.real)
}

/// A sender of packets with forged sources, no two of them the same.
struct Flood {
    frame: Vec<u8>,
    /// Offset of the source's last four bytes.
    source: usize,
    sent: u32,
}

impl Flood {
    fn v4(frame: Vec<u8>) -> Flood {
        Flood {
            frame,
            source: 26,
            sent: 0,
        }
    }

    fn v6(frame: Vec<u8>) -> Flood {
        Flood {
            frame,
            source: 34,
            sent: 0,
        }
    }

    fn packet(&mut self, testbed: &mut Testbed) -> Processed {
        self.sent += 1;
        let source = 0x0B00_0000 + self.sent;
        self.frame[self.source..self.source + 4].copy_from_slice(&source.to_be_bytes());
        run(&mut testbed.tables, &mut MemFrame::new(&self.frame))
    }

    fn packets(&mut self, testbed: &mut Testbed, number: u32) {
        for _ in 0..number {
            self.packet(testbed);
        }
    }
}

/// Opens the clients' connections; their reals.
fn establish(testbed: &mut Testbed) -> Vec<u16> {
    (1..=CLIENTS)
        .map(|port| {
            let real = segment(testbed, port, SYN).1;
            assert_eq!(segment(testbed, port, ACK).1, real);
            real
        })
        .collect()
}

/// Asserts that each client's next segment goes to the real that its connection is on.
fn assert_kept(testbed: &mut Testbed, reals: &[u16], what: &str) {
    for (port, &real) in (1..).zip(reals) {
        assert_eq!(
            segment(testbed, port, ACK),
            (ChosenBy::Flow, real),
            "{what}: port {port}"
        );
    }
}

fn evictions(testbed: &Testbed) -> FlowEvictions {
    testbed.tables.read_counters(|counters| counters.evictions)
}

/// The floods, each from another kind of packet.
fn floods() -> Vec<(&'static str, Flood)> {
    vec![
        ("SYN", Flood::v4(tcp4(1, SYN))),
        ("ACK", Flood::v4(tcp4(1, ACK))),
        ("FIN", Flood::v4(tcp4(1, FIN | ACK))),
        ("RST", Flood::v4(tcp4(1, RST))),
    ]
}

#[test]
fn a_flood_takes_no_established_connection_where_every_flow_is_tracked() {
    for (what, mut flood) in floods() {
        let (mut testbed, service, [a, b]) = testbed();
        testbed.tables.services[service as usize].flags = TRACK_ALL;
        testbed.slots(service, a, EXCEPTIONS);
        let reals = establish(&mut testbed);
        flood.packets(&mut testbed, 8 * ENTRIES);
        testbed.slots(service, b, EXCEPTIONS);
        assert_kept(&mut testbed, &reals, what);
        let counters = testbed.tables.counters();
        assert_eq!(
            counters.flows.evicted,
            counters.evictions.opening + counters.evictions.running,
            "{what}"
        );
        assert_eq!(counters.evictions.refused, 0, "{what}");
    }
}

/// A fresh VIP's first window, and any other: new flows are remembered with the new real, running ones with the
/// previous one.
#[test]
fn a_flood_takes_no_established_connection_in_a_window() {
    for (what, mut flood) in floods() {
        let (mut testbed, service, [a, b]) = testbed();
        testbed.slots(service, b, Previous::Real(a));
        let mut reals = establish(&mut testbed);
        assert!(reals.iter().all(|&real| real == b));
        // These ran before the window began.
        for port in CLIENTS + 1..2 * CLIENTS {
            for _ in 0..2 {
                assert_eq!(segment(&mut testbed, port, ACK).1, a);
            }
            reals.push(a);
        }
        flood.packets(&mut testbed, 8 * ENTRIES);
        assert_kept(&mut testbed, &reals, what);
        testbed.slots(service, a, EXCEPTIONS);
        assert_kept(&mut testbed, &reals, what);
    }
}

#[test]
fn a_flood_takes_no_flow_of_a_drained_real_of_another_vip() {
    for (what, mut flood) in floods() {
        let (mut testbed, service, [drained, other]) = testbed();
        testbed.slots(service, other, Previous::Real(drained));
        for port in 1..=CLIENTS {
            for _ in 0..2 {
                assert_eq!(segment(&mut testbed, port, ACK).1, drained);
            }
        }
        testbed.slots(service, other, EXCEPTIONS);
        let flooded = testbed.service("10.0.0.9:80/tcp");
        let (a, b) = (
            testbed.real(flooded, "10.2.0.1", 1),
            testbed.real(flooded, "10.2.0.2", 1),
        );
        testbed.slots(flooded, b, Previous::Real(a));
        testbed.tables.services[flooded as usize].flags = TRACK_ALL;
        flood.frame[33] = 9;
        flood.packets(&mut testbed, 8 * ENTRIES);
        assert_kept(&mut testbed, &[drained; CLIENTS as usize], what);
    }
}

/// The entries of silent connections are the oldest ones.
#[test]
fn a_connection_may_be_silent_for_nearly_its_window_in_a_flood() {
    let (mut testbed, service, [a, b]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    let reals = establish(&mut testbed);
    let mut flood = Flood::v4(tcp4(1, SYN));
    for _ in 0..4 {
        for _ in 0..WINDOW {
            testbed.tables.now += 1;
            flood.packets(&mut testbed, ENTRIES / 200);
        }
        assert_kept(&mut testbed, &reals, "after a window of silence");
    }
    assert!(evictions(&testbed).opening > ENTRIES.into());
}

#[test]
fn new_connections_get_their_entry_in_a_flood() {
    for (what, mut flood) in floods() {
        let (mut testbed, service, [a, b]) = testbed();
        testbed.slots(service, b, Previous::Real(a));
        flood.packets(&mut testbed, 4 * ENTRIES);
        let ports = 10_000..20_000_u16;
        let mut lost = 0;
        for port in ports.clone() {
            testbed.tables.now += 1;
            assert_eq!(segment(&mut testbed, port, SYN).1, b, "{what}");
            flood.packets(&mut testbed, PER_ROUND_TRIP / 5);
            // Many are under way at once.
            if port >= ports.start + 5 {
                lost += u32::from(segment(&mut testbed, port - 5, ACK).1 != b);
            }
        }
        assert!(lost <= 10, "{what}: {lost} of {} connections", ports.len());
    }
}

/// The same in the middle of a flood of the other kind, and of one for another VIP.
#[test]
fn kinds_and_vips_do_not_take_each_others_provisional_entries() {
    let (mut testbed, service, [a, b]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    // Running flows that sent one packet in the window so far.
    for port in 1..=CLIENTS {
        assert_eq!(segment(&mut testbed, port, ACK).1, a);
    }
    Flood::v4(tcp4(1, SYN)).packets(&mut testbed, 8 * ENTRIES);
    testbed.slots(service, b, EXCEPTIONS);
    assert_kept(&mut testbed, &[a; CLIENTS as usize], "SYNs, running flows");

    let quiet = testbed.service("10.0.0.2:80/tcp");
    let (c, d) = (
        testbed.real(quiet, "10.2.0.1", 1),
        testbed.real(quiet, "10.2.0.2", 1),
    );
    testbed.slots(quiet, d, Previous::Real(c));
    let to_quiet = |port| with(tcp4(port, SYN), &[(33, 2)]);
    for port in 1..=CLIENTS {
        testbed.run(&to_quiet(port));
    }
    testbed.slots(service, b, Previous::Real(a));
    Flood::v4(tcp4(2, SYN)).packets(&mut testbed, 8 * ENTRIES);
    for port in 1..=CLIENTS {
        let outcome = testbed.run(&with(tcp4(port, ACK), &[(33, 2)])).0;
        assert_eq!(outcome.real, d, "SYNs for another VIP: port {port}");
    }
}

#[test]
fn ipv6_and_udp_are_kept_as_well() {
    let (mut testbed, ..) = testbed();
    let six = testbed.service("[2001:db8::1]:80/tcp");
    let udp = testbed.service("10.0.0.1:53/udp");
    let [a, b] = ["fd00::1", "fd00::2"].map(|address| testbed.real(six, address, 1));
    let [c, d] = ["10.3.0.1", "10.3.0.2"].map(|address| testbed.real(udp, address, 1));
    testbed.slots(six, b, Previous::Real(a));
    testbed.tables.services[udp as usize].flags = TRACK_ALL;
    testbed.slots(udp, d, EXCEPTIONS);
    for port in 1..=CLIENTS {
        for flags in [SYN, ACK] {
            assert_eq!(testbed.run(&tcp6(port, flags)).0.real, b);
        }
        assert_eq!(testbed.run(&udp4(port)).0.real, d);
    }
    testbed.tables.now += UDP_CONFIRM_TICKS;
    for port in 1..=CLIENTS {
        testbed.run(&udp4(port));
    }
    let mut floods = [
        Flood::v6(tcp6(1, SYN)),
        Flood::v6(tcp6(1, ACK)),
        Flood::v4(udp4(1)),
    ];
    for _ in 0..4 * ENTRIES {
        for flood in &mut floods {
            flood.packet(&mut testbed);
        }
    }
    testbed.slots(six, a, EXCEPTIONS);
    testbed.slots(udp, c, EXCEPTIONS);
    for port in 1..=CLIENTS {
        assert_eq!(testbed.run(&tcp6(port, ACK)).0.real, b, "IPv6 port {port}");
        assert_eq!(testbed.run(&udp4(port)).0.real, d, "UDP port {port}");
    }
}

fn marks(testbed: &Testbed) -> u64 {
    testbed.tables.live_flows().next().unwrap().stamp
        & (CLOSING | PROVISIONAL | OPENING | HALF_OPEN)
}

#[test]
fn the_next_packet_confirms_an_entry() {
    let (mut testbed, service, [a, b]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    testbed.tables.services[service as usize].window = 10 * CLOSING_TICKS;
    let half_open = PROVISIONAL | OPENING | HALF_OPEN;
    segment(&mut testbed, 1, SYN);
    assert_eq!(marks(&testbed), half_open);
    for _ in 0..3 {
        testbed.tables.now += CLOSING_TICKS;
        assert_eq!(segment(&mut testbed, 1, SYN), (ChosenBy::NewFlow, b));
        assert_eq!(marks(&testbed), half_open, "sent again");
    }
    testbed.tables.now += CLOSING_TICKS;
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, b));
    assert_eq!(marks(&testbed), 0);
    segment(&mut testbed, 2, SYN);
    testbed.tables.now += CLOSING_TICKS + 1;
    assert_eq!(
        segment(&mut testbed, 2, ACK),
        (ChosenBy::Previous, a),
        "too late"
    );
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, b));

    let (mut testbed, service, [a, b]) = self::testbed();
    testbed.slots(service, b, Previous::Real(a));
    segment(&mut testbed, 1, ACK);
    assert_eq!(marks(&testbed), PROVISIONAL, "a running flow");
    segment(&mut testbed, 1, ACK);
    assert_eq!(marks(&testbed), 0);
}

#[test]
fn udp_is_confirmed_by_a_later_packet() {
    let (mut testbed, ..) = testbed();
    let udp = testbed.service("10.0.0.1:53/udp");
    let [a, b] = ["10.3.0.1", "10.3.0.2"].map(|address| testbed.real(udp, address, 1));
    testbed.tables.services[udp as usize].flags = TRACK_ALL;
    testbed.slots(udp, a, EXCEPTIONS);
    for _ in 0..3 {
        testbed.run(&udp4(1));
    }
    testbed.tables.now += UDP_CONFIRM_TICKS - 1;
    testbed.run(&udp4(1));
    assert_eq!(
        marks(&testbed),
        PROVISIONAL | OPENING,
        "a client's first burst"
    );
    testbed.tables.now += 1;
    testbed.run(&udp4(1));
    assert_eq!(marks(&testbed), 0);
    // What may be of a running flow does not open one.
    testbed.tables.flows = vec![Default::default()];
    testbed.slots(udp, b, Previous::Real(a));
    testbed.run(&udp4(2));
    assert_eq!(marks(&testbed), PROVISIONAL);
}

/// A forged SYN with the addresses and ports of a connection.
#[test]
fn a_syn_does_not_move_a_confirmed_flow() {
    let (mut testbed, service, [a, b]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    for _ in 0..2 {
        segment(&mut testbed, 1, ACK);
    }
    let before: Vec<_> = testbed.tables.live_flows().collect();
    for _ in 0..2 {
        assert_eq!(segment(&mut testbed, 1, SYN), (ChosenBy::Flow, a));
    }
    assert_eq!(testbed.tables.live_flows().collect::<Vec<_>>(), before);
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, a));
    let counters = testbed.tables.counters();
    assert_eq!(counters.reals[a as usize].opened, 0);
    // One that only one packet speaks for, which may be forged as well, is moved.
    segment(&mut testbed, 2, ACK);
    assert_eq!(segment(&mut testbed, 2, SYN), (ChosenBy::NewFlow, b));
}

#[test]
fn a_reset_of_an_unknown_flow_gets_no_entry() {
    let (mut testbed, service, [a, b]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    testbed.tables.services[service as usize].flags = TRACK_ALL;
    assert_eq!(segment(&mut testbed, 1, RST), (ChosenBy::Previous, a));
    assert_eq!(segment(&mut testbed, 1, RST | ACK), (ChosenBy::Previous, a));
    assert_eq!(testbed.tables.live_flows().count(), 0);
}

#[test]
fn flows_that_have_ended_give_way_and_are_no_loss() {
    let (mut testbed, service, [a, b]) = testbed();
    testbed.tables.flows.truncate(1);
    testbed.slots(service, b, Previous::Real(a));
    for port in 1..=FLOWS_PER_BUCKET as u16 {
        for flags in [SYN, ACK] {
            segment(&mut testbed, port, flags);
        }
    }
    segment(&mut testbed, 3, FIN | ACK);
    segment(&mut testbed, 9, SYN);
    for port in [1, 2, 4, 9] {
        assert_eq!(segment(&mut testbed, port, ACK), (ChosenBy::Flow, b));
    }
    let counters = testbed.tables.counters();
    assert_eq!((counters.flows.inserted, counters.flows.evicted), (5, 0));
    assert_eq!(counters.evictions, FlowEvictions::default());
}

#[test]
fn a_table_full_of_confirmed_flows_refuses_others_which_begin_where_they_will_go() {
    let (mut testbed, service, [a, b]) = testbed();
    testbed.tables.flows.truncate(1);
    testbed.slots(service, b, Previous::Real(a));
    for port in 1..=FLOWS_PER_BUCKET as u16 {
        for flags in [SYN, ACK] {
            segment(&mut testbed, port, flags);
        }
    }
    // Without an entry its packets are those of a running flow, which are the previous real's.
    for flags in [SYN, ACK, ACK] {
        assert_eq!(segment(&mut testbed, 9, flags), (ChosenBy::Previous, a));
    }
    assert_eq!(evictions(&testbed).refused, 3);
    for port in 1..=FLOWS_PER_BUCKET as u16 {
        assert_eq!(segment(&mut testbed, port, ACK), (ChosenBy::Flow, b));
    }
    testbed.slots(service, b, EXCEPTIONS);
    for flags in [SYN, ACK] {
        assert_eq!(segment(&mut testbed, 10, flags).1, b);
    }
    assert_eq!(testbed.tables.counters().flows.evicted, 0);
}

/// Half of the table is what `flow_entries` asks for.
#[test]
fn a_table_at_its_rated_number_of_flows_keeps_them_and_takes_new_ones() {
    let (mut testbed, service, [a, b]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    let mut flood = Flood::v4(tcp4(7, SYN));
    let clients = (ENTRIES / 2) as u16;
    let mut lost = 0;
    for port in 1..=clients {
        segment(&mut testbed, port, SYN);
        flood.packets(&mut testbed, 20);
        lost += u32::from(segment(&mut testbed, port, ACK).1 != b);
    }
    assert!(lost <= u32::from(clients) / 1_000, "{lost} of {clients}");
    let counters = testbed.tables.counters();
    assert_eq!(
        counters.flows.evicted, counters.evictions.opening,
        "no other entry gave way"
    );
    testbed.slots(service, a, EXCEPTIONS);
    let kept = (1..=clients)
        .filter(|&port| segment(&mut testbed, port, ACK) == (ChosenBy::Flow, b))
        .count();
    assert_eq!(kept as u32, u32::from(clients) - lost);
}

/// A program of an earlier build writes no marks.
#[test]
fn an_entry_without_marks_is_confirmed() {
    let (mut testbed, service, [a, b]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    for port in 1..=CLIENTS {
        segment(&mut testbed, port, SYN);
    }
    for flow in testbed.tables.flows.iter().flat_map(|bucket| &bucket.flows) {
        flow.stamp
            .store(flow.stamp.load() & !(PROVISIONAL | OPENING | HALF_OPEN));
    }
    Flood::v4(tcp4(1, SYN)).packets(&mut testbed, 8 * ENTRIES);
    testbed.slots(service, a, EXCEPTIONS);
    assert_kept(&mut testbed, &[b; CLIENTS as usize], "an earlier build");
}
