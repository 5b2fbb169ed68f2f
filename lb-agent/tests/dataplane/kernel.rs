//! Attaching, adopting, growing, next hops.

use std::collections::HashSet;

use lb_common::reason::{ChosenBy, Reason, Verdict};
use lb_dataplane::{Dataplane as _, WhenEmpty, detach, options::Options};
use lb_model::options::{OnDown, Track};

use crate::bench::{Bench, frame, ip, service, simulate_until, tick_until};

const VIP: &str = "192.0.2.1:80/tcp";
const REALS: [&str; 3] = ["10.7.0.2", "10.7.0.3", "10.8.0.4"];

pub fn a_service_forwards_and_detach_ends_it() {
    let bench = Bench::new();
    let mut plane = bench.start();
    let status = plane.status();
    assert!(
        status.interfaces.iter().all(|interface| interface.native),
        "{status:?}"
    );
    assert!(!status.adopted);
    assert!(bench.pinned("balancer") && bench.pinned("links/front") && bench.pinned("links/back"));
    let memory: u64 = status.tables.iter().map(|table| table.bytes).sum();
    assert!(memory > 0 && memory <= 8 << 20, "{memory} bytes idle");

    plane.set_service(&service(VIP, &REALS, 4_096)).unwrap();
    assert_eq!(plane.services(), [VIP.parse().unwrap()]);
    let mut verdicts = HashSet::new();
    let mut reals = HashSet::new();
    for port in 1..200 {
        let frame = frame("198.51.100.7", port, VIP, true);
        let seen = simulate_until(&mut plane, &frame, |seen| seen.reason != Reason::NoNextHop);
        assert_eq!(seen.vip, Some(VIP.parse().unwrap()));
        assert_eq!(seen.chosen_by, ChosenBy::Ring);
        assert_eq!(seen.packet.len(), frame.len() + 20);
        let tx = seen.real.unwrap().to_string().starts_with("10.7.");
        assert_eq!(
            seen.verdict,
            if tx { Verdict::Tx } else { Verdict::Redirect }
        );
        verdicts.insert(seen.reason.name());
        reals.insert(seen.real.unwrap());
    }
    assert_eq!((verdicts.len(), reals.len()), (2, 3));
    let other = plane
        .simulate(None, &frame("198.51.100.7", 1, "192.0.2.1:81/tcp", true))
        .unwrap();
    assert_eq!(
        (other.verdict, other.reason),
        (Verdict::Pass, Reason::NotVip)
    );

    plane.remove_service(&VIP.parse().unwrap()).unwrap();
    let gone = plane
        .simulate(None, &frame("198.51.100.7", 1, VIP, true))
        .unwrap();
    assert_eq!(gone.reason, Reason::NotVip);
    drop(plane);
    assert_eq!(detach(&bench.pins, false).unwrap(), ["back", "front"]);
    assert!(!bench.pins.exists());
}

pub fn a_new_agent_adopts_what_the_last_one_left() {
    let bench = Bench::new();
    let mut plane = bench.start();
    let first = service(VIP, &REALS, 4_096);
    plane.set_service(&first).unwrap();
    plane
        .set_service(&service("[fd00::1]:0/udp", &["fd07::2"], 256))
        .unwrap();
    // Half the slots of the second real go to the third: unsettled slots.
    let mut changed = first.clone();
    changed.ring = first
        .ring
        .iter()
        .enumerate()
        .map(|(i, &r)| if i % 2 == 0 && r == 1 { 2 } else { r })
        .collect();
    plane.set_service(&changed).unwrap();
    let before = plane.status();
    // The new service of UDP tracks its flows at first: all its 256 slots are unsettled.
    let changed_slots = before.slots.unsettled() - 256;
    assert!(changed_slots > 600 && changed_slots < 700, "{before:?}");
    let frames: Vec<_> = (1..100)
        .map(|port| frame("198.51.100.7", port, VIP, false))
        .collect();
    let chosen = |plane: &mut lb_dataplane::KernelDataplane| {
        frames
            .iter()
            .map(|frame| {
                let seen = plane.simulate(None, frame).unwrap();
                (seen.real, seen.chosen_by)
            })
            .collect::<Vec<_>>()
    };
    let by_first = chosen(&mut plane);
    assert!(by_first.iter().any(|(_, by)| *by == ChosenBy::Previous));
    drop(plane);

    let mut plane = bench.start();
    let after = plane.status();
    assert!(after.adopted);
    assert_eq!(
        (after.slots.unsettled(), after.slots.total()),
        (before.slots.unsettled(), before.slots.total())
    );
    assert_eq!(plane.services().len(), 2);
    assert_eq!(chosen(&mut plane), by_first);
    // The same intent changes nothing.
    plane.set_service(&changed).unwrap();
    assert_eq!(plane.status().slots.unsettled(), before.slots.unsettled());
    assert_eq!(chosen(&mut plane), by_first);
    let any_port = plane
        .simulate(None, &frame("fd00::7", 9, "[fd00::1]:12345/udp", false))
        .unwrap();
    assert_eq!(any_port.real, Some("fd07::2".parse().unwrap()));
}

/// A new service of UDP tracks its flows for its first window, so an added real takes new flows at once. An
/// agent that starts in that window knows it.
pub fn a_new_agent_knows_the_first_window() {
    const UDP: &str = "192.0.2.9:53/udp";
    let bench = Bench::new();
    let mut plane = bench.start();
    plane
        .set_service(&service(UDP, &["10.7.0.2"], 256))
        .unwrap();
    drop(plane);
    let mut plane = bench.start();
    assert!(plane.status().adopted);
    plane
        .set_service(&service(UDP, &["10.7.0.2", "10.7.0.3"], 256))
        .unwrap();
    let added = "10.7.0.3".parse().unwrap();
    let mut taken = 0;
    for port in 1..100 {
        let seen = plane
            .simulate(None, &frame("198.51.100.7", port, UDP, false))
            .unwrap();
        assert_ne!(seen.chosen_by, ChosenBy::Previous, "{seen:?}");
        taken += u32::from(seen.real == Some(added));
    }
    assert!(taken > 20, "{taken} of 99 flows");
}

pub fn a_new_agent_adopts_the_dead_too() {
    let bench = Bench::new();
    let mut plane = bench.start();
    let mut wanted = service(VIP, &REALS, 256);
    wanted.terms.when_empty = WhenEmpty::Reset;
    plane.set_service(&wanted).unwrap();
    let vip = wanted.vip;
    plane.shed(&vip, wanted.reals[2], 5).unwrap();
    // The first dies, the second is as if it had never been.
    for (real, fate) in [(0, OnDown::Reset), (1, OnDown::Rehash)] {
        wanted.down.insert(wanted.reals[real], fate);
    }
    wanted.ring = vec![2; 256].into();
    plane.set_service(&wanted).unwrap();
    let seen = |plane: &mut lb_dataplane::KernelDataplane| {
        let frames = (1..100).map(|port| frame("198.51.100.7", port, VIP, false));
        frames
            .map(|frame| {
                let seen = plane.simulate(None, &frame).unwrap();
                // Whether the next hop of a live real is known by now is of no interest here.
                (seen.reason == Reason::ResetDownReal, seen.real)
            })
            .collect::<Vec<_>>()
    };
    let before = seen(&mut plane);
    let reset = (true, Some(wanted.reals[0]));
    let resets = before.iter().filter(|seen| **seen == reset).count();
    assert!(resets > 10 && resets < 60, "{before:?}");
    assert!(
        before
            .iter()
            .all(|(_, real)| *real != Some(wanted.reals[1]))
    );
    let unsettled = plane.status().slots.unsettled();
    drop(plane);

    let mut plane = bench.start();
    assert!(plane.status().adopted);
    assert_eq!(seen(&mut plane), before);
    plane.set_service(&wanted).unwrap();
    assert_eq!(seen(&mut plane), before);
    assert_eq!(plane.status().slots.unsettled(), unsettled);
    assert_eq!(plane.shed(&vip, wanted.reals[2], 0).unwrap(), 5);
    // The last one dies as well.
    wanted.down.insert(wanted.reals[2], OnDown::Rehash);
    wanted.ring = Vec::new().into();
    plane.set_service(&wanted).unwrap();
    let syn = plane
        .simulate(None, &frame("198.51.100.7", 1, VIP, true))
        .unwrap();
    assert_eq!(
        (syn.verdict, syn.reason),
        (Verdict::Tx, Reason::ResetNoReal)
    );
}

pub fn tables_grow_with_their_content() {
    let bench = Bench::new();
    let mut plane = bench.start();
    for number in 0..300_u32 {
        let vip = format!("192.0.{}.{}:80/tcp", 2 + number / 200, 1 + number % 200);
        let reals: Vec<String> = (2..=8).map(|host| format!("10.7.0.{host}")).collect();
        let reals: Vec<&str> = reals.iter().map(String::as_str).collect();
        plane.set_service(&service(&vip, &reals, 1_024)).unwrap();
    }
    let status = plane.status();
    assert!(status.generation >= 3, "{status:?}");
    let seen = |plane: &mut lb_dataplane::KernelDataplane| {
        for vip in ["192.0.2.1:80/tcp", "192.0.3.100:80/tcp"] {
            let frame = frame("198.51.100.7", 7, vip, true);
            let seen = simulate_until(plane, &frame, |seen| seen.reason == Reason::ForwardedTx);
            assert_eq!(seen.vip, Some(vip.parse().unwrap()));
        }
    };
    seen(&mut plane);
    drop(plane);
    let mut plane = bench.start();
    assert_eq!(plane.services().len(), 300);
    seen(&mut plane);
}

pub fn a_changed_neighbour_is_followed() {
    let bench = Bench::new();
    let mut plane = bench.start();
    plane
        .set_service(&service(VIP, &["10.7.0.2"], 256))
        .unwrap();
    let packet = frame("198.51.100.7", 1, VIP, true);
    simulate_until(&mut plane, &packet, |seen| seen.verdict == Verdict::Tx);
    ip(&bench.neighbour, "link set far address 02:11:22:33:44:55");
    ip(
        &bench.balancer,
        "neigh replace 10.7.0.2 lladdr 02:11:22:33:44:55 dev front nud reachable",
    );
    simulate_until(&mut plane, &packet, |seen| {
        seen.packet[..6] == [2, 0x11, 0x22, 0x33, 0x44, 0x55]
    });
    // The way leads out of the other interface now.
    ip(
        &bench.balancer,
        "route add 10.7.0.2/32 via 10.8.0.2 dev back",
    );
    let moved = simulate_until(&mut plane, &packet, |seen| {
        seen.verdict == Verdict::Redirect
    });
    assert_eq!(moved.real, Some("10.7.0.2".parse().unwrap()));
    ip(&bench.balancer, "route replace unreachable 10.7.0.2/32");
    simulate_until(&mut plane, &packet, |seen| seen.reason == Reason::NoNextHop);
    let warnings = plane.status().warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("10.7.0.2 is unreachable")),
        "{warnings:?}"
    );
}

pub fn a_deleted_real_is_forgotten_and_its_index_freed() {
    let bench = Bench::new();
    let mut plane = bench.start();
    let used = |plane: &lb_dataplane::KernelDataplane| {
        plane
            .status()
            .tables
            .iter()
            .find(|table| table.name == "REALS")
            .unwrap()
            .used
    };
    plane.set_service(&service(VIP, &REALS, 256)).unwrap();
    assert_eq!(used(&plane), 3);
    plane.set_service(&service(VIP, &REALS[..2], 256)).unwrap();
    let gone = REALS[2].parse().unwrap();
    for port in 1..300 {
        let seen = plane
            .simulate(None, &frame("198.51.100.7", port, VIP, false))
            .unwrap();
        assert_ne!(seen.real, Some(gone));
    }
    tick_until(&mut plane, "the index is freed", |plane| used(plane) == 2);
    plane.remove_service(&VIP.parse().unwrap()).unwrap();
    tick_until(&mut plane, "everything is freed", |plane| {
        plane.status().tables.iter().all(|table| {
            !matches!(
                table.name,
                "REALS" | "SERVICES" | "VIPS4" | "RINGS" | "NEXT_HOPS"
            ) || table.used == 0
        })
    });
}

pub fn slots_settle_after_their_window() {
    let bench = Bench::new();
    let mut plane = bench.start();
    let mut wanted = service(VIP, &REALS, 1_024);
    wanted.window = std::time::Duration::from_millis(50);
    plane.set_service(&wanted).unwrap();
    wanted.ring = vec![0; 1_024].into();
    plane.set_service(&wanted).unwrap();
    assert!(plane.status().slots.unsettled() > 600);
    tick_until(&mut plane, "slots settle", |plane| {
        plane.status().slots.unsettled() == 0
    });
    wanted.track = Track::All;
    plane.set_service(&wanted).unwrap();
    assert_eq!(plane.status().slots.unsettled(), 1_024);
}

pub fn a_hundred_vips_of_a_hundred_reals_fit_and_change_quickly() {
    let bench = Bench::new();
    let options = Options {
        flow_entries: 1_048_576,
        ..bench.options()
    };
    let mut plane = bench.try_start(options).unwrap();
    let reals: Vec<String> = (0..100)
        .map(|host| format!("10.7.{}.{}", 100 + host / 50, 10 + host % 50))
        .collect();
    let reals: Vec<&str> = reals.iter().map(String::as_str).collect();
    for number in 1..=100 {
        plane
            .set_service(&service(
                &format!("192.0.2.{number}:80/tcp"),
                &reals,
                65_535,
            ))
            .unwrap();
    }
    let status = plane.status();
    let memory: u64 = status.tables.iter().map(|table| table.bytes).sum();
    assert_eq!(status.slots.total(), 100 * 65_536);
    assert!(memory <= 64 << 20, "{memory} bytes");
    // A re-weighting: every second slot has another real.
    let mut changed = service("192.0.2.50:80/tcp", &reals, 65_535);
    changed.ring = (0..65_536_u32)
        .map(|slot| if slot % 2 == 0 { slot as u16 % 100 } else { 7 })
        .collect();
    let began = std::time::Instant::now();
    plane.set_service(&changed).unwrap();
    eprintln!(
        "{memory} bytes; half of 65,536 slots changed in {:?}",
        began.elapsed()
    );
    let began = std::time::Instant::now();
    plane.tick().unwrap();
    eprintln!(
        "a sweep of a table for a million flows took {:?}",
        began.elapsed()
    );
    let began = std::time::Instant::now();
    plane.stats().unwrap();
    eprintln!(
        "counters of 10,000 reals were read in {:?}",
        began.elapsed()
    );
}

pub fn other_terms_are_refused() {
    let bench = Bench::new();
    drop(bench.start());
    let error = bench
        .try_start(Options {
            ring_seed: 7,
            ..bench.options()
        })
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("ring seed") && error.contains("lb-agent detach"),
        "{error}"
    );
    let error = bench
        .try_start(Options {
            interfaces: vec!["nothere".to_owned()],
            strict_interfaces: true,
            ..bench.options()
        })
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("nothere"), "{error}");
    // What was refused changed nothing.
    assert!(bench.start().status().adopted);
}
