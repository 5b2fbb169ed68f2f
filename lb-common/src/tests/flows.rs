//! Slots, windows and the flow table.

use proptest::prelude::*;

use super::testbed::*;
use crate::{
    hash::{Addresses as _, Addresses4},
    limits::{CLOSING_TICKS, FLOWS_PER_BUCKET, STAMP_TICKS},
    memory::{MemFrame, simulate},
    reason::{ChosenBy, Reason, Verdict},
    tables::{
        flow::{CLOSING, RING_BITS},
        real::DOWN,
        ring::{Classes, Previous, class_of},
        service::TRACK_ALL,
    },
};

const TCP_VIP: &str = "10.0.0.1:80/tcp";

/// A service with three reals.
fn testbed() -> (Testbed, u32, [u16; 3]) {
    let mut testbed = Testbed::new();
    let service = testbed.service(TCP_VIP);
    let reals =
        ["10.1.0.1", "10.1.0.2", "10.1.0.3"].map(|address| testbed.real(service, address, 1));
    (testbed, service, reals)
}

/// What chose the real of a segment, and which.
fn segment(testbed: &mut Testbed, port: u16, flags: u8) -> (ChosenBy, u16) {
    let outcome = testbed.run(&tcp4(port, flags)).0;
    assert_eq!(outcome.reason, Reason::ForwardedTx);
    (outcome.chosen_by, outcome.real)
}

#[test]
fn a_settled_slot_touches_no_flow() {
    let (mut testbed, service, [a, ..]) = testbed();
    testbed.slots(service, a, Previous::Settled);
    for port in 1..100 {
        assert_eq!(segment(&mut testbed, port, SYN), (ChosenBy::Ring, a));
        assert_eq!(segment(&mut testbed, port, ACK), (ChosenBy::Ring, a));
        assert_eq!(segment(&mut testbed, port, FIN | ACK), (ChosenBy::Ring, a));
    }
    let counters = testbed.tables.counters();
    assert_eq!(counters.flows, Default::default());
    assert_eq!(testbed.tables.live_flows().count(), 0);
    let real = counters.reals[a as usize];
    assert_eq!((real.packets, real.opened, real.closed), (297, 99, 99));
    assert_eq!(real.bytes, 297 * (tcp4(1, ACK).len() as u64 - 14));
}

#[test]
fn in_the_window_running_flows_stay_and_new_ones_move() {
    let (mut testbed, service, [a, b, c]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Previous, a));
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, a));
    assert_eq!(segment(&mut testbed, 2, SYN), (ChosenBy::NewFlow, b));
    assert_eq!(segment(&mut testbed, 2, ACK), (ChosenBy::Flow, b));
    // The slot changes again, its previous real stays.
    testbed.slots(service, c, Previous::Real(a));
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, a));
    assert_eq!(segment(&mut testbed, 2, ACK), (ChosenBy::Flow, b));
    assert_eq!(segment(&mut testbed, 3, SYN), (ChosenBy::NewFlow, c));
    // A SYN chooses again once its flow has ended.
    assert_eq!(segment(&mut testbed, 1, FIN | ACK), (ChosenBy::Flow, a));
    assert_eq!(segment(&mut testbed, 1, SYN), (ChosenBy::NewFlow, c));
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, c));
    // After the window the exceptions stay, what is unknown is the ring's.
    testbed.slots(service, c, EXCEPTIONS);
    assert_eq!(segment(&mut testbed, 2, ACK), (ChosenBy::Flow, b));
    assert_eq!(segment(&mut testbed, 4, ACK), (ChosenBy::Ring, c));
    assert_eq!(segment(&mut testbed, 4, ACK), (ChosenBy::Ring, c));
    assert_eq!(segment(&mut testbed, 5, SYN), (ChosenBy::NewFlow, c));
    assert_eq!(testbed.tables.live_flows().count(), 3);
    assert_eq!(testbed.tables.counters().flows.evicted, 0);
}

#[test]
fn only_flows_of_a_slots_classes_look_for_exceptions() {
    let (mut testbed, service, [a, b, _]) = testbed();
    testbed.tables.flows.resize_with(1_024, Default::default);
    let ring_hash = |port: u16| {
        let addresses = Addresses4 {
            source: u32::from_ne_bytes([198, 51, 100, 7]),
            destination: u32::from_ne_bytes([10, 0, 0, 1]),
        };
        let ([high, low], vip) = (port.to_be_bytes(), 80_u16.to_be_bytes());
        let ports = u32::from_ne_bytes([high, low, vip[0], vip[1]]);
        addresses.ring_hash(testbed.tables.constants.ring_seed, ports, 6)
    };
    let classes: std::vec::Vec<u32> = (0..200).map(|port| class_of(ring_hash(port))).collect();
    testbed.slots(service, b, Previous::Real(a));
    for port in 1..200 {
        assert_eq!(segment(&mut testbed, port, ACK).1, a);
    }
    for stamp in testbed.tables.live_flows().map(|flow| flow.stamp) {
        assert!(classes.contains(&class_of(stamp)));
    }
    let some = Classes::only(3).or(Classes::only(14));
    testbed.slots(service, b, Previous::Exceptions(some));
    let looked_up = |testbed: &Testbed| {
        let lookups = testbed.tables.counters().lookups[service as usize];
        let flows = testbed.tables.counters().flows;
        assert_eq!((lookups.hits, lookups.misses), (flows.hits, flows.misses));
        lookups.hits + lookups.misses
    };
    for port in 1..200 {
        let before = looked_up(&testbed);
        let is_exception = some.contains(classes[port as usize]);
        let expected = if is_exception {
            (ChosenBy::Flow, a)
        } else {
            (ChosenBy::Ring, b)
        };
        assert_eq!(segment(&mut testbed, port, ACK), expected, "port {port}");
        assert_eq!(looked_up(&testbed) - before, u64::from(is_exception));
    }
    // Every flow is looked up where all are tracked.
    testbed.tables.services[service as usize].flags = TRACK_ALL;
    assert_eq!(segment(&mut testbed, 1, ACK).0, ChosenBy::Flow);
    // Without a real of its own, the slot has none for other flows.
    testbed.tables.services[service as usize].flags = 0;
    testbed.slots(service, 0, Previous::Exceptions(some));
    let (of_some, others): (std::vec::Vec<u16>, std::vec::Vec<u16>) =
        (2..200).partition(|port| some.contains(classes[*port as usize]));
    assert_eq!(segment(&mut testbed, of_some[0], ACK).1, a);
    assert_eq!(testbed.run(&tcp4(others[0], SYN)).0.reason, Reason::NoReal);
}

#[test]
fn a_program_stamps_the_class_that_an_earlier_one_left_out() {
    let (mut testbed, service, [a, b, _]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    segment(&mut testbed, 1, ACK);
    let entry = |testbed: &Testbed| testbed.tables.live_flows().next().unwrap().stamp;
    let whole = entry(&testbed) & RING_BITS;
    let flows = testbed.tables.flows.iter().flat_map(|bucket| &bucket.flows);
    for flow in flows.filter(|flow| flow.owner.load() != 0) {
        flow.stamp.store(flow.stamp.load() & !(0xF << 44));
    }
    testbed.tables.now += STAMP_TICKS + 1;
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, a));
    assert_eq!(entry(&testbed) & RING_BITS, whole);
}

#[test]
fn a_syn_ack_is_no_new_flow() {
    let (mut testbed, service, [a, b, _]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    assert_eq!(segment(&mut testbed, 1, SYN | ACK), (ChosenBy::Previous, a));
}

#[test]
fn an_entry_lives_its_window_after_its_last_packet() {
    let (mut testbed, service, [a, b, _]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Previous, a));
    testbed.slots(service, b, EXCEPTIONS);
    for _ in 0..5 {
        testbed.tables.now += WINDOW;
        assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, a));
    }
    testbed.tables.now += WINDOW + 1;
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Ring, b));
    // Nor does it come back to life.
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, b));
}

#[test]
fn a_stamp_is_renewed_once_a_second_at_most() {
    let (mut testbed, service, [a, b, _]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    for _ in 0..2 {
        segment(&mut testbed, 1, ACK);
    }
    let stamp = |testbed: &Testbed| testbed.tables.live_flows().next().unwrap().stamp;
    let first = stamp(&testbed);
    testbed.tables.now += STAMP_TICKS;
    segment(&mut testbed, 1, ACK);
    assert_eq!(stamp(&testbed), first);
    testbed.tables.now += 1;
    segment(&mut testbed, 1, ACK);
    assert_eq!(stamp(&testbed) as u32, testbed.tables.now);
    assert_eq!(stamp(&testbed) >> 48, first >> 48);
}

#[test]
fn the_clock_wraps_and_may_lag() {
    let (mut testbed, service, [a, b, _]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    testbed.tables.now = u32::MAX - 10;
    segment(&mut testbed, 1, ACK);
    testbed.slots(service, b, EXCEPTIONS);
    testbed.tables.now = testbed.tables.now.wrapping_sub(3);
    assert_eq!(
        segment(&mut testbed, 1, ACK),
        (ChosenBy::Flow, a),
        "stamped by a CPU that is ahead"
    );
    testbed.tables.now = 20;
    assert_eq!(
        segment(&mut testbed, 1, ACK),
        (ChosenBy::Flow, a),
        "the clock wrapped"
    );
}

#[test]
fn fin_and_rst_shorten_an_entrys_life() {
    for flags in [FIN | ACK, RST, RST | ACK] {
        let (mut testbed, service, [a, b, _]) = testbed();
        testbed.tables.services[service as usize].window = 10 * CLOSING_TICKS;
        testbed.slots(service, b, Previous::Real(a));
        segment(&mut testbed, 1, ACK);
        testbed.slots(service, b, EXCEPTIONS);
        assert_eq!(segment(&mut testbed, 1, flags), (ChosenBy::Flow, a));
        assert_ne!(
            testbed.tables.live_flows().next().unwrap().stamp & CLOSING,
            0
        );
        testbed.tables.now += CLOSING_TICKS;
        assert_eq!(
            segment(&mut testbed, 1, ACK),
            (ChosenBy::Flow, a),
            "the last ACK"
        );
        testbed.tables.now += CLOSING_TICKS + 1;
        assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Ring, b));
    }
}

#[test]
fn dead_reals_lose_their_flows() {
    let (mut testbed, service, [a, b, c]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    segment(&mut testbed, 1, ACK);
    testbed.tables.reals[a as usize].flags |= DOWN;
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::NewFlow, b));
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, b));
    assert_eq!(segment(&mut testbed, 2, ACK), (ChosenBy::NewFlow, b));
    // An index that was given to another service's real is not this flow's either.
    testbed.slots(service, c, EXCEPTIONS);
    testbed.tables.reals[b as usize].service = service + 1;
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Ring, c));
}

#[test]
fn a_drained_slot_keeps_its_flows_and_takes_no_new_ones() {
    let (mut testbed, service, [a, ..]) = testbed();
    testbed.slots(service, 0, Previous::Real(a));
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Previous, a));
    let refused = testbed.run(&tcp4(2, SYN)).0;
    assert_eq!(
        (refused.verdict, refused.reason),
        (Verdict::Drop, Reason::NoReal)
    );
    testbed.slots(service, 0, EXCEPTIONS);
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, a));
    assert_eq!(testbed.run(&tcp4(3, ACK)).0.reason, Reason::NoReal);
}

#[test]
fn a_tracked_service_remembers_every_flow() {
    let (mut testbed, service, [a, b, _]) = testbed();
    testbed.tables.services[service as usize].flags = TRACK_ALL;
    testbed.slots(service, a, Previous::Settled);
    assert_eq!(segment(&mut testbed, 1, SYN), (ChosenBy::Ring, a));
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, a));
    assert_eq!(segment(&mut testbed, 2, ACK), (ChosenBy::Ring, a));
    testbed.slots(service, b, EXCEPTIONS);
    assert_eq!(segment(&mut testbed, 1, ACK), (ChosenBy::Flow, a));
    assert_eq!(segment(&mut testbed, 3, SYN), (ChosenBy::NewFlow, b));
    assert_eq!(segment(&mut testbed, 3, ACK), (ChosenBy::Flow, b));
    assert_eq!(testbed.tables.live_flows().count(), 3);
}

#[test]
fn udp_flows_open_with_their_entry() {
    let mut testbed = Testbed::new();
    let service = testbed.service("10.0.0.1:53/udp");
    let (a, b) = (
        testbed.real(service, "10.1.0.1", 1),
        testbed.real(service, "10.1.0.2", 1),
    );
    testbed.slots(service, a, Previous::Settled);
    testbed.run(&udp4(1));
    testbed.slots(service, b, Previous::Real(a));
    for _ in 0..3 {
        assert_eq!(testbed.run(&udp4(1)).0.real, a);
    }
    let counters = testbed.tables.counters();
    assert_eq!(
        (
            counters.reals[a as usize].packets,
            counters.reals[a as usize].opened
        ),
        (4, 1)
    );
}

#[test]
fn a_full_table_gives_up_the_oldest() {
    let (mut testbed, service, [a, b, _]) = testbed();
    testbed.tables.flows.truncate(1);
    testbed.slots(service, b, Previous::Real(a));
    for port in 1..=FLOWS_PER_BUCKET as u16 {
        testbed.tables.now += 1;
        segment(&mut testbed, port, SYN);
    }
    // Of one bucket the second one is the first.
    assert_eq!(testbed.tables.counters().flows.inserted, 4);
    testbed.tables.now += STAMP_TICKS + 1;
    segment(&mut testbed, 1, ACK);
    segment(&mut testbed, 5, SYN);
    let flows = testbed.tables.counters().flows;
    assert_eq!((flows.inserted, flows.evicted), (5, 1));
    testbed.slots(service, a, EXCEPTIONS);
    for (port, expected) in [(1, b), (3, b), (4, b), (5, b), (2, a)] {
        assert_eq!(segment(&mut testbed, port, ACK).1, expected, "port {port}");
    }
    // An entry past its window is overwritten without counting as evicted.
    testbed.slots(service, b, Previous::Real(a));
    testbed.tables.now += WINDOW + 1;
    segment(&mut testbed, 6, SYN);
    assert_eq!(testbed.tables.counters().flows.evicted, 1);
}

#[test]
fn each_entry_is_judged_by_its_own_services_window() {
    let (mut testbed, service, [a, b, _]) = testbed();
    testbed.tables.flows.truncate(1);
    let short = testbed.service("10.0.0.1:53/udp");
    testbed.tables.services[short as usize].window = 10;
    let (c, d) = (
        testbed.real(short, "10.2.0.1", 1),
        testbed.real(short, "10.2.0.2", 1),
    );
    testbed.slots(service, b, Previous::Real(a));
    testbed.slots(short, d, Previous::Real(c));
    testbed.run(&udp4(9));
    for port in 1..=3 {
        segment(&mut testbed, port, ACK);
    }
    // All stamps are alike; only the short service's entry is past its window.
    testbed.tables.now += 11;
    testbed.run(&udp4(8));
    assert_eq!(testbed.tables.counters().flows.evicted, 0);
    testbed.slots(service, b, EXCEPTIONS);
    for port in 1..=3 {
        assert_eq!(segment(&mut testbed, port, ACK), (ChosenBy::Flow, a));
    }
}

#[test]
fn a_simulation_changes_nothing() {
    let (mut testbed, service, [a, b, _]) = testbed();
    testbed.slots(service, b, Previous::Real(a));
    segment(&mut testbed, 1, ACK);
    let flows: std::vec::Vec<_> = testbed.tables.live_flows().collect();
    let counters = testbed.tables.counters();
    testbed.tables.now += STAMP_TICKS + 1;
    for (port, flags, expected) in [
        (1, FIN | ACK, (ChosenBy::Flow, a)),
        (1, SYN, (ChosenBy::NewFlow, b)),
        (2, ACK, (ChosenBy::Previous, a)),
    ] {
        let mut frame = MemFrame::new(&tcp4(port, flags));
        let outcome = simulate(&mut testbed.tables, &mut frame);
        assert_eq!((outcome.chosen_by, outcome.real), expected);
        assert_eq!(frame.bytes().len(), tcp4(port, flags).len() + 20);
    }
    assert_eq!(
        testbed.tables.live_flows().collect::<std::vec::Vec<_>>(),
        flows
    );
    assert_eq!(testbed.tables.counters(), counters);
}

/// What may happen to a service and its flows.
#[derive(Clone, Debug)]
enum Event {
    /// Every slot is given this real; its previous real stays, or is the one it had when settled.
    Ring(usize),
    /// A client ends its connection and opens another one from this port.
    Open(u16),
    /// A client sends on from this port.
    Send(u16),
    /// Time passes.
    Wait(u32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..3_usize).prop_map(Event::Ring),
        (1..20_u16).prop_map(Event::Open),
        (1..20_u16).prop_map(Event::Send),
        (1..WINDOW / 20).prop_map(Event::Wait),
    ]
}

proptest! {
    /// A running flow keeps its real through any number of changes of the ring within the window, and a
    /// new one gets what the ring says.
    #[test]
    fn running_flows_keep_their_reals(events in prop::collection::vec(event(), 1..200)) {
        let (mut testbed, service, reals) = testbed();
        // Room for all flows, so that none is evicted.
        testbed.tables.flows.resize_with(256, Default::default);
        let settled = reals[0];
        let mut ring = settled;
        testbed.slots(service, ring, Previous::Settled);
        // Every flow ran before the first change.
        let mut flows = [settled; 20];
        for event in events {
            match event {
                Event::Ring(real) => {
                    ring = reals[real];
                    testbed.slots(service, ring, Previous::Real(settled));
                }
                Event::Open(port) => {
                    // The client ends what ran on this port.
                    prop_assert_eq!(segment(&mut testbed, port, RST).1, flows[port as usize]);
                    prop_assert_eq!(segment(&mut testbed, port, SYN).1, ring);
                    flows[port as usize] = ring;
                }
                Event::Send(port) => prop_assert_eq!(segment(&mut testbed, port, ACK).1, flows[port as usize]),
                Event::Wait(ticks) => {
                    testbed.tables.now += ticks;
                    // Each flow sends within the window.
                    for port in 1..20 {
                        prop_assert_eq!(segment(&mut testbed, port, ACK).1, flows[port as usize]);
                    }
                }
            }
        }
        prop_assert_eq!(testbed.tables.counters().flows.evicted, 0);
    }
}
