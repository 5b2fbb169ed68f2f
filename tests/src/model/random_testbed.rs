//! A testbed with everything that tables can contain: all forwarding modes and families, all states of a slot, reals that
//! are down, deleted or without a next hop, and services without reals.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::tables::{
    next_hop::NextHop,
    ring::{CLASSES, Classes, Previous},
};

use super::{
    named::Ids,
    random::Random,
    sources,
    testbed::{Hash, Mode, Real, Service, Testbed, VipName},
};

/// Slots of each service's ring.
pub const RING_SLOTS: u32 = 256;
/// Reals of each service; one of them is in no slot (drained).
pub const REALS_PER_SERVICE: usize = 5;
/// Window of every service, in ticks: long enough that nothing ends while a test runs.
pub const WINDOW: u32 = 20_000;
/// The interface that frames arrive on.
pub const INTERFACE: u32 = 7;
/// Another interface.
pub const OTHER_INTERFACE: u32 = 9;

/// Bytes of the largest packets that the ways to reals take: not known, and shorter than some frames.
const LARGEST: [u32; 4] = [0, 0, 400, 1_300];
/// The MAC addresses of the interface that frames come in by.
pub const STATIONS: [[u8; 6]; 3] = [
    [0x02, 0, 0, 0, 0, 0x01],
    [0x02, 0, 0, 0, 0, 0x03],
    [0x00, 0, 0x5E, 0, 1, 7],
];

/// How the reals of a service are reached, and whether their addresses are IPv4. With `L2` they have the VIP's family.
const MODES: [(Mode, bool); 5] = [
    (Mode::Ipip, true),
    (Mode::Ipip, false),
    (Mode::L2, true),
    (Mode::Gue, true),
    (Mode::Gue, false),
];

/// Returns the testbed of this seed, and its VIPs.
#[must_use]
pub fn random_testbed(seed: u64) -> (Testbed, Vec<VipName>) {
    let mut random = Random::new(seed);
    let mut testbed = Testbed {
        any_port_v4: true,
        any_port_v6: true,
        services: vec![Service::default()],
        reals: vec![None],
        next_hops: vec![None],
        interface: INTERFACE,
        stations: STATIONS.to_vec(),
        ring_seed: random.number(),
        flow_secret: [random.number(), random.number()],
        gue_port: super::validate::GUE_PORTS.start + random.below(100) as u16,
        ..Testbed::default()
    };
    for interface in [INTERFACE, INTERFACE, OTHER_INTERFACE] {
        let mac = |random: &mut Random| {
            [
                2,
                1,
                random.byte(),
                random.byte(),
                random.byte(),
                random.byte(),
            ]
        };
        testbed.next_hops.push(Some(NextHop {
            destination: mac(&mut random),
            source: mac(&mut random),
            interface,
        }));
    }
    let mut names = Vec::new();
    for v4 in [true, false] {
        for protocol in [6, 17, 132] {
            for (mode, reals_v4) in MODES {
                for (port, track_all) in [(80, false), (443, true), (0, false)] {
                    let address = address(v4, names.len());
                    let name = VipName {
                        address,
                        port,
                        protocol,
                    };
                    add_service(
                        &mut testbed,
                        &mut random,
                        name,
                        &[(mode, reals_v4)],
                        track_all,
                    );
                    names.push(name);
                }
            }
            // Reals of one service with modes of their own.
            for (port, track_all) in [(80, false), (443, true), (0, false)] {
                let address = address(v4, names.len());
                let name = VipName {
                    address,
                    port,
                    protocol,
                };
                add_service(&mut testbed, &mut random, name, &MODES, track_all);
                names.push(name);
            }
        }
    }
    // These are a service whose ring has not been built, and one whose only real has no next hop.
    for slots in [0, RING_SLOTS] {
        let name = VipName {
            address: address(true, 900),
            port: 80 + slots as u16,
            protocol: 6,
        };
        add_service(
            &mut testbed,
            &mut random,
            name,
            &[(Mode::Ipip, true)],
            false,
        );
        let service = testbed.services.last_mut().expect("just added");
        service.slots = slots;
        let first_real = testbed.reals.len() - REALS_PER_SERVICE;
        for real in testbed.reals[first_real..].iter_mut().flatten() {
            real.next_hop = 0;
        }
        names.push(name);
    }
    (testbed, names)
}

/// Returns a VIP's address. Three consecutive services share an address.
fn address(v4: bool, number: usize) -> IpAddr {
    let number = (number / 3 + 1) as u32;
    if v4 {
        Ipv4Addr::from(0x0A00_0000 + number).into()
    } else {
        Ipv6Addr::from((0x2001_0DB8_000A_u128 << 80) + u128::from(number)).into()
    }
}

fn add_service(
    testbed: &mut Testbed,
    random: &mut Random,
    name: VipName,
    modes: &[(Mode, bool)],
    track_all: bool,
) {
    let service = testbed.services.len() as u32;
    for (mode, reals_v4) in modes.iter().copied().cycle().take(REALS_PER_SERVICE) {
        let reals_v4 = match mode {
            Mode::L2 => name.address.is_ipv4(),
            Mode::Ipip | Mode::Gue => reals_v4,
        };
        let number = testbed.reals.len() as u32;
        let (address, source): (IpAddr, IpAddr) = if reals_v4 {
            (
                Ipv4Addr::from(0x0A01_0000 + number).into(),
                Ipv4Addr::from(0xAC10_0000).into(),
            )
        } else {
            (
                Ipv6Addr::from((0x2001_0DB8_000B_u128 << 80) + u128::from(number)).into(),
                Ipv6Addr::from(0x0100_0000_0000_0000_u128 << 64).into(),
            )
        };
        testbed.reals.push(Some(Real {
            service,
            mode,
            down: false,
            reset: false,
            shed: None,
            next_hop: 1 + random.below(3) as u32,
            address,
            source,
            source_mask: *random.pick(&[0, 0xFFFF, 0x3FF]),
            largest: *random.pick(&LARGEST),
        }));
    }
    testbed.vips.insert(name, service);
    let echo = if name.address.is_ipv4() { 1 } else { 58 };
    testbed.vips.insert(
        VipName {
            port: 0,
            protocol: echo,
            ..name
        },
        0,
    );
    let has_rules = random.below(3) == 0;
    if has_rules {
        let last = testbed.reals.len() as u16;
        let own: Vec<u16> = (last - REALS_PER_SERVICE as u16..last).collect();
        let rules = sources::rules(random, service, name.address.is_ipv4(), &own);
        testbed.source_rules.extend(rules);
    }
    let first_slot = testbed.slots.len() as u32;
    testbed
        .slots
        .extend((0..RING_SLOTS).map(|_| (0, Previous::Settled)));
    testbed.services.push(Service {
        first_slot,
        slots: RING_SLOTS,
        track_all,
        reset_empty: service.is_multiple_of(2),
        hash: *random.pick(&[
            Hash::Flow,
            Hash::Flow,
            Hash::Source,
            Hash::SourceGroup,
            Hash::Destination,
            Hash::Katran,
        ]),
        ids: match name.protocol {
            6 => *random.pick(&[Ids::None, Ids::TcpOption]),
            17 => *random.pick(&[
                Ids::None,
                Ids::QuicLb,
                Ids::QuicLb,
                Ids::QuicKatran,
                Ids::UdpStable,
            ]),
            _ => Ids::None,
        },
        has_rules,
        window: WINDOW,
    });
    // The drained one has an id, too, and one has none.
    let first = (testbed.reals.len() - REALS_PER_SERVICE) as u16;
    for (id, real) in (1..).zip(first + 1..first + REALS_PER_SERVICE as u16) {
        testbed.server_ids.insert((service, id), real);
    }
    for slot in 0..RING_SLOTS {
        set_slot(testbed, random, service, slot);
    }
}

/// Returns a random set of classes, which is not empty.
fn some_classes(random: &mut Random) -> Classes {
    let first = Classes::only(random.below(CLASSES as usize) as u32);
    (0..CLASSES).fold(first, |classes, class| {
        if random.chance(30) {
            classes.or(Classes::only(class))
        } else {
            classes
        }
    })
}

/// Gives one slot of a service another real and state.
pub fn set_slot(testbed: &mut Testbed, random: &mut Random, service: u32, slot: u32) {
    let reals: Vec<u16> = (1..testbed.reals.len() as u16)
        .filter(|real| {
            testbed.reals[usize::from(*real)].is_some_and(|real| real.service == service)
        })
        .collect();
    // The last real is drained: only entries and previous slots name it.
    let current = if random.chance(2) {
        0
    } else {
        *random.pick(&reals[..reals.len() - 1])
    };
    // An index beyond the table is an inconsistency of the tables.
    let current = if random.chance(1) { 60_000 } else { current };
    let previous = match random.below(10) {
        0..4 => Previous::Settled,
        4 => Previous::Exceptions(Classes::ALL),
        5 => Previous::Exceptions(some_classes(random)),
        _ => Previous::Real(*random.pick(&reals)),
    };
    let at = testbed.services[service as usize].first_slot + slot;
    testbed.slots[at as usize] = (current, previous);
}
