//! Tables change their layout, there and back, while packets flow.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use aya::maps::{Array, Map, MapData};
use lb_common::tables::{
    meta::{FILTERS, LAYOUT_VERSION, Meta},
    names,
    ring::{Chunk, Classes, Previous, previous_of},
    v2,
};
use lb_dataplane::{
    Dataplane as _, KernelDataplane, Migration, ServiceSpec, Simulation, WhenEmpty, migrate,
    options::Options,
};
use lb_model::options::{Forward, OnDown, Track};

use crate::bench::{Bench, frame, service};
use crate::traffic::{Outer, Sender, Wire, packet_comes_back, reals_are_reachable};

const PREVIOUS: u32 = v2::LAYOUT_VERSION;
const VIP: &str = "192.0.2.1:9000/udp";

/// Interfaces in the order of the options.
fn interfaces() -> [String; 2] {
    ["front", "back"].map(str::to_owned)
}

/// The options of a configuration that names no interface.
fn unordered(bench: &Bench) -> Options {
    Options {
        interfaces: Vec::new(),
        ..bench.options()
    }
}

fn migration(from: u32, to: u32) -> Option<Migration> {
    Some(Migration {
        from,
        to,
        interfaces: interfaces().to_vec(),
    })
}

/// The only folder of tables.
fn folder(bench: &Bench) -> PathBuf {
    let entries = std::fs::read_dir(&bench.pins).unwrap();
    let mut folders: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("maps-")
        })
        .collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders.remove(0)
}

/// A pinned table of records of this size.
fn table<const SIZE: usize>(bench: &Bench, name: &str) -> Array<MapData, [u8; SIZE]> {
    let map = MapData::from_pin(folder(bench).join(name)).unwrap();
    Map::from_map_data(map).unwrap().try_into().unwrap()
}

const LAYOUT_WORD: std::ops::Range<usize> = {
    let offset = std::mem::offset_of!(Meta, layout);
    offset..offset + 4
};

/// The layout of the only folder of tables, with its marks.
fn pinned_layout(bench: &Bench) -> u32 {
    let record = table::<{ size_of::<Meta>() }>(bench, names::META)
        .get(&0, 0)
        .unwrap();
    u32::from_ne_bytes(record[LAYOUT_WORD].try_into().unwrap())
}

/// The states of the first 256 slots.
fn pinned_states(bench: &Bench) -> Vec<Previous> {
    let rings = table::<{ size_of::<Chunk>() }>(bench, names::RINGS);
    (0..16)
        .flat_map(|chunk| rings.get(&chunk, 0).unwrap().as_chunks().0.to_vec())
        .map(|slot| previous_of(u32::from_ne_bytes(slot)))
        .collect()
}

pub fn no_packet_is_lost_or_moved_while_tables_change_their_layout() {
    let bench = Bench::new();
    let _passing = bench.start_passing();
    let mut plane = bench.start();
    let spec = service(VIP, &["10.7.0.2", "10.7.0.3"], 256);
    plane.set_service(&spec).unwrap();
    reals_are_reachable(&mut plane, VIP);
    std::thread::scope(|scope| {
        let sender = Sender::start(scope, &bench, VIP);
        // Every flow becomes an exception: only the flow table knows its real.
        let turned = spec.ring.iter().map(|real| 1 - real).collect();
        let mut spec = spec.clone();
        spec.ring = turned;
        plane.set_service(&spec).unwrap();
        sender.wait_sent(200);
        for _ in 0..3 {
            let counted = plane.stats().unwrap().services[0].total.packets;
            let entries: u64 = plane.flows().unwrap().iter().map(|real| real.entries).sum();
            assert_eq!(entries, 64);
            drop(plane);
            assert_eq!(
                migrate(&bench.options(), PREVIOUS).unwrap(),
                migration(LAYOUT_VERSION, PREVIOUS)
            );
            assert_eq!(pinned_layout(&bench), PREVIOUS);
            sender.wait_sent(200);
            plane = bench.start();
            assert_eq!(pinned_layout(&bench), LAYOUT_VERSION);
            let status = plane.status();
            assert!(
                status.adopted && status.layout == LAYOUT_VERSION,
                "{status:?}"
            );
            sender.wait_sent(200);
            let now = plane.stats().unwrap().services[0].total.packets;
            assert!(now >= counted + 400, "{now} packets, before {counted}");
            let entries_now: u64 = plane.flows().unwrap().iter().map(|real| real.entries).sum();
            assert_eq!(entries_now, entries);
        }
        sender.stop().assert_complete();
    });
}

/// Services of both modes and families, with a dead real, a drained one and one whose flows are shed.
fn services() -> Vec<ServiceSpec> {
    let mut tcp = service(
        "192.0.2.1:80/tcp",
        &["10.7.0.2", "10.7.0.3", "10.8.0.4"],
        256,
    );
    tcp.down.insert(tcp.reals[1], OnDown::Reset);
    tcp.ring = (0..256)
        .map(|slot| if slot % 3 == 0 { 0 } else { 2 })
        .collect();
    tcp.terms.when_empty = WhenEmpty::Reset;
    let mut v6 = service("[fd00::1]:443/tcp", &["fd07::2", "10.7.0.2"], 256);
    v6.track = Track::All;
    let mut v6_in_v4 = service("192.0.2.3:80/tcp", &["fd07::2"], 256);
    v6_in_v4.window = Duration::from_secs(5);
    let l2 = |vip, real| ServiceSpec {
        forward: Forward::L2,
        ..service(vip, &[real], 256)
    };
    vec![
        tcp,
        v6,
        v6_in_v4,
        l2("192.0.2.4:0/udp", "10.7.0.5"),
        l2("[fd00::2]:53/udp", "fd07::2"),
    ]
}

fn simulated(plane: &mut KernelDataplane) -> Vec<Simulation> {
    let clients = [
        ("192.0.2.1:80/tcp", "198.51.100.7"),
        ("[fd00::1]:443/tcp", "fd00::7"),
        ("192.0.2.3:80/tcp", "198.51.100.7"),
        ("192.0.2.4:99/udp", "198.51.100.7"),
        ("[fd00::2]:53/udp", "fd00::7"),
    ];
    clients
        .iter()
        .flat_map(|(vip, client)| (1..60).map(move |port| frame(client, port, vip, port % 2 == 0)))
        .map(|frame| Simulation {
            // It tells times, which pass.
            slot: None,
            ..plane.simulate(None, &frame).unwrap()
        })
        .collect()
}

/// Waits until the next hop of every real is known.
fn wait_reachable(plane: &mut KernelDataplane) {
    let give_up = Instant::now() + Duration::from_secs(30);
    while !plane.flows().unwrap().iter().all(|real| real.reachable) {
        assert!(Instant::now() < give_up, "{:?}", plane.status().warnings);
        std::thread::sleep(Duration::from_millis(20));
        plane.refresh_next_hops().unwrap();
    }
}

fn first_difference(before: &[Simulation], after: &[Simulation]) -> String {
    let pair = before
        .iter()
        .zip(after)
        .find(|(before, after)| before != after);
    pair.map_or_else(
        || "their numbers differ".to_owned(),
        |(before, after)| format!("{before:?} became {after:?}"),
    )
}

pub fn everything_is_as_before_after_a_way_there_and_back() {
    let bench = Bench::new();
    let mut plane = bench.start();
    let specs = services();
    for spec in &specs {
        // Another ring first, so that there are windows.
        let mut before = spec.clone();
        before.ring = vec![0; 256].into();
        before.down.clear();
        plane.set_service(&before).unwrap();
        plane.set_service(spec).unwrap();
    }
    plane
        .shed(&specs[0].vip, "10.8.0.4".parse().unwrap(), 5)
        .unwrap();
    wait_reachable(&mut plane);
    let (before, flows) = (simulated(&mut plane), plane.flows().unwrap());
    let (slots, unsettled) = (
        plane.status().slots.total(),
        plane.status().slots.unsettled(),
    );
    assert!(unsettled > 0);
    drop(plane);
    migrate(&unordered(&bench), PREVIOUS).unwrap();
    // Again: nothing is left to do, and it does no harm.
    assert_eq!(
        migrate(&bench.options(), PREVIOUS).unwrap(),
        migration(PREVIOUS, PREVIOUS)
    );
    migrate(&bench.options(), LAYOUT_VERSION).unwrap();
    let mut plane = bench.start();
    let status = plane.status();
    assert!(status.adopted);
    assert_eq!(
        (status.slots.total(), status.slots.unsettled()),
        (slots, unsettled)
    );
    let after = simulated(&mut plane);
    assert!(after == before, "{}", first_difference(&before, &after));
    // The same intent changes nothing.
    for spec in &specs {
        plane.set_service(spec).unwrap();
    }
    let after = simulated(&mut plane);
    assert!(after == before, "{}", first_difference(&before, &after));
    assert_eq!(plane.flows().unwrap(), flows);
    let left = plane.shed(&specs[0].vip, "10.8.0.4".parse().unwrap(), 0);
    assert_eq!(left.unwrap(), 5);
}

pub fn a_migration_that_is_killed_is_finished_by_the_next() {
    let bench = Bench::new();
    let _passing = bench.start_passing();
    let mut plane = bench.start();
    plane
        .set_service(&service(VIP, &["10.7.0.2"], 256))
        .unwrap();
    reals_are_reachable(&mut plane, VIP);
    drop(plane);
    let wire = Wire::of(&bench);
    for round in 0..8_u32 {
        let layout = if round % 2 == 0 {
            PREVIOUS
        } else {
            LAYOUT_VERSION
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb-agent"));
        command
            .args([
                "migrate",
                "--layout",
                &layout.to_string(),
                "--iface",
                "front",
                "back",
            ])
            .arg("--pins")
            .arg(&bench.pins)
            .stdout(Stdio::null());
        let mut child = bench
            .balancer
            .enter(move || command.spawn().unwrap())
            .unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(20 + 60 * round)));
        child.kill().unwrap();
        child.wait().unwrap();
        packet_comes_back(&bench, &wire, VIP, Outer::Ip4);
        if round % 4 < 2 {
            let migrated = migrate(&bench.options(), layout).unwrap().unwrap();
            assert_eq!(migrated.to, layout);
            assert_eq!(pinned_layout(&bench), layout);
        } else {
            let plane = bench.start();
            assert!(plane.status().adopted);
            assert_eq!(pinned_layout(&bench), LAYOUT_VERSION);
        }
        packet_comes_back(&bench, &wire, VIP, Outer::Ip4);
    }
}

pub fn classes_of_exceptions_are_given_up_for_other_builds() {
    const UNKNOWN: Previous = Previous::Exceptions(Classes::ALL);
    let bench = Bench::new();
    let _passing = bench.start_passing();
    let mut plane = bench.start();
    let mut spec = service(VIP, &["10.7.0.2", "10.7.0.3"], 256);
    spec.window = Duration::from_secs(2);
    plane.set_service(&spec).unwrap();
    reals_are_reachable(&mut plane, VIP);
    std::thread::scope(|scope| {
        let sender = Sender::start(scope, &bench, VIP);
        sender.wait_sent(500);
        spec.ring = spec.ring.iter().map(|real| 1 - real).collect();
        plane.set_service(&spec).unwrap();
        let has_classes = |bench: &Bench| {
            let states = pinned_states(bench);
            let known = |state: &&Previous| matches!(state, Previous::Exceptions(classes) if *classes != Classes::ALL);
            let (known, others) = (
                states.iter().filter(known).count(),
                states.contains(&UNKNOWN),
            );
            known > 20 && !others
        };
        let wait_for_classes = |plane: &mut KernelDataplane| {
            let give_up = Instant::now() + Duration::from_secs(60);
            while !has_classes(&bench) {
                assert!(Instant::now() < give_up, "{:?}", plane.status());
                std::thread::sleep(Duration::from_millis(200));
                plane.tick().unwrap();
            }
        };
        wait_for_classes(&mut plane);
        assert_eq!(pinned_layout(&bench), LAYOUT_VERSION | FILTERS);
        assert_eq!(plane.status().layout, LAYOUT_VERSION);
        let before = plane.stats().unwrap().services[0].clone();
        sender.wait_sent(500);
        let after = plane.stats().unwrap().services[0].clone();
        assert!(
            after.table_hits >= before.table_hits + 400,
            "every flow is an exception"
        );

        // An agent that ends in order leaves tables for any build of its layout.
        drop(plane);
        assert_eq!(pinned_layout(&bench), LAYOUT_VERSION);
        let states = pinned_states(&bench);
        assert!(states.contains(&UNKNOWN), "{states:?}");
        assert!(
            states
                .iter()
                .all(|state| [UNKNOWN, Previous::Settled].contains(state)),
            "{states:?}"
        );

        // One that is killed leaves the mark; a migration takes it away.
        let mut plane = bench.start();
        wait_for_classes(&mut plane);
        let rings = table::<{ size_of::<Chunk>() }>(&bench, names::RINGS);
        let chunks: Vec<_> = (0..16).map(|chunk| rings.get(&chunk, 0).unwrap()).collect();
        drop(plane);
        let mut rings = table::<{ size_of::<Chunk>() }>(&bench, names::RINGS);
        for (chunk, slots) in (0..).zip(chunks) {
            rings.set(chunk, slots, 0).unwrap();
        }
        let mut meta = table::<{ size_of::<Meta>() }>(&bench, names::META);
        let mut record = meta.get(&0, 0).unwrap();
        record[LAYOUT_WORD].copy_from_slice(&(LAYOUT_VERSION | FILTERS).to_ne_bytes());
        meta.set(0, record, 0).unwrap();
        assert!(has_classes(&bench));
        sender.wait_sent(200);
        assert_eq!(
            migrate(&bench.options(), LAYOUT_VERSION).unwrap(),
            migration(LAYOUT_VERSION, LAYOUT_VERSION)
        );
        assert_eq!(pinned_layout(&bench), LAYOUT_VERSION);
        assert!(!has_classes(&bench) && pinned_states(&bench).contains(&UNKNOWN));
        sender.wait_sent(200);
        let mut plane = bench.start();
        wait_for_classes(&mut plane);
        sender.wait_sent(200);
        sender.stop().assert_complete();
    });
}

pub fn only_one_process_has_the_pins() {
    let bench = Bench::new();
    assert_eq!(migrate(&unordered(&bench), PREVIOUS).unwrap(), None);
    let plane = bench.start();
    let error = migrate(&unordered(&bench), PREVIOUS)
        .unwrap_err()
        .to_string();
    let pins = bench.pins.display().to_string();
    for word in ["stop that agent first", &pins] {
        assert!(error.contains(word), "{error}");
    }
    let second = bench.try_start(bench.options()).err().unwrap().to_string();
    assert!(second.contains("stop that agent first"), "{second}");
    drop(plane);
    let error = migrate(&unordered(&bench), LAYOUT_VERSION + 1).unwrap_err();
    assert!(error.to_string().contains("can use layout"), "{error}");
    assert_eq!(pinned_layout(&bench), LAYOUT_VERSION);
}

pub fn migrated_programs_use_the_port_of_the_configuration() {
    let bench = Bench::new();
    let (_passing, _pins) = bench.start_passing();
    let options = Options {
        gue_port: 7_000,
        ..bench.options()
    };
    let vip = "192.0.2.1:80/tcp";
    let wanted = ServiceSpec {
        forward: Forward::Gue,
        ..service(vip, &["10.7.0.2"], 256)
    };
    let mut plane = bench.try_start(options.clone()).unwrap();
    plane.set_service(&wanted).unwrap();
    reals_are_reachable(&mut plane, vip);
    let wire = Wire::of(&bench);
    packet_comes_back(&bench, &wire, vip, Outer::Udp(7_000));
    drop(plane);
    migrate(&options, LAYOUT_VERSION).unwrap();
    packet_comes_back(&bench, &wire, vip, Outer::Udp(7_000));
}
