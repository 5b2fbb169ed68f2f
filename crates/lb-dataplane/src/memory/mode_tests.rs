//! Reals of one service that are reached in forwarding modes of their own: on the tables in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use etherparse::{Ethernet2Slice, IpNumber, PacketBuilder, SlicedPacket, TransportSlice};
use lb_common::{
    limits::NAT_TRANSITORY_TICKS,
    memory::Processed,
    reason::{ChosenBy, Reason},
};
use lb_model::{
    options::{Forward, Track},
    vip::RealId,
};

use super::{INTERFACE_INDEX, MemoryDataplane};
use crate::{
    Dataplane as _, ServiceSpec, Terms,
    options::{NatOptions, Options},
    resolver::{ResolvedHop, Resolver},
};

const CLIENT: [u8; 4] = [198, 51, 100, 7];
const VIP: [u8; 4] = [10, 0, 0, 1];
/// The address from which mode `nat` reaches reals.
const SOURCE: [u8; 4] = [10, 1, 0, 100];
const ROUTER: u8 = 200;
const SLOTS: u16 = 256;
/// Ticks of a minute, in which the tables are swept.
const MINUTE: u32 = 600;

/// Reals up to 10.1.0.99 are neighbours, others are behind a router.
struct Network;

impl Resolver for Network {
    fn resolve(&self, address: IpAddr) -> Option<ResolvedHop> {
        let last = last_byte(address);
        let direct = last < 100;
        Some(ResolvedHop {
            interface: INTERFACE_INDEX,
            source_mac: [2, 0, 0, 0, 0, 0xFF],
            dest_mac: mac(if direct { last } else { ROUTER }),
            direct,
            mtu: 1_500,
        })
    }

    fn add(&self, _address: IpAddr) {}

    fn remove(&self, _address: IpAddr) {}

    fn unresolved_reason(&self, _address: IpAddr) -> Option<String> {
        None
    }
}

fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}

const fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

fn options() -> Options {
    let mut options = Options::new(Vec::new());
    options.nat = NatOptions {
        source4: vec![SOURCE.into()],
        ..NatOptions::default()
    };
    options
}

/// The four reals, in the order of their modes.
const MODES: [(u8, Forward); 4] = [
    (1, Forward::L2),
    (2, Forward::Ipip),
    (3, Forward::Gue),
    (4, Forward::Nat),
];

fn real(last: u8) -> RealId {
    IpAddr::from([10, 1, 0, last]).into()
}

/// A VIP of mode `l2` with these reals, which share the ring.
fn spec(reals: &[(u8, Forward)]) -> ServiceSpec {
    let modes = reals.iter().filter(|(_, mode)| *mode != Forward::L2);
    ServiceSpec {
        vip: "10.0.0.1:80/tcp".parse().unwrap(),
        forward: Forward::L2,
        terms: Terms {
            modes: modes.map(|(last, mode)| (real(*last), *mode)).collect(),
            ..Terms::default()
        },
        track: Track::Exceptions,
        window: Duration::from_secs(60),
        reals: reals.iter().map(|(last, _)| real(*last)).collect(),
        down: BTreeMap::new(),
        ring: (0..SLOTS).map(|slot| slot % reals.len() as u16).collect(),
    }
}

fn plane(spec: &ServiceSpec) -> MemoryDataplane {
    let mut plane = MemoryDataplane::new(&options(), Box::new(Network)).unwrap();
    plane.set_service(spec).unwrap();
    plane
}

/// A segment of a client's flow.
fn segment(port: u16, syn: bool) -> Vec<u8> {
    let tcp = PacketBuilder::ethernet2([4; 6], [2; 6])
        .ipv4(CLIENT, VIP, 64)
        .tcp(port, 80, 1, 1_024);
    let tcp = if syn { tcp.syn() } else { tcp.ack(1) };
    let mut frame = Vec::new();
    tcp.write(&mut frame, b"").unwrap();
    frame
}

/// In what form a packet left, with the number of the real that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    L2(u8),
    Ipip(u8),
    Gue(u8),
    Nat(u8),
}

/// The form of a frame, whose every part has to be right.
fn form(frame: &[u8]) -> Form {
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).unwrap();
    let to = ethernet.destination()[5];
    assert_eq!(ethernet.destination(), mac(to));
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else {
        panic!("{packet:?}");
    };
    let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
    let real = Ipv4Addr::new(10, 1, 0, destination.octets()[3]);
    let is_inner = |inner: &[u8]| {
        let inner = SlicedPacket::from_ip(inner).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = &inner.net else {
            panic!("{inner:?}");
        };
        ip.header().source() == CLIENT && ip.header().destination() == VIP
    };
    match (ip.payload_ip_number(), &packet.transport) {
        (IpNumber::IPV4, _) => {
            assert_eq!(destination, real);
            assert!(is_inner(ip.payload().payload));
            Form::Ipip(real.octets()[3])
        }
        (_, Some(TransportSlice::Udp(udp))) => {
            assert_eq!((destination, udp.destination_port()), (real, 6_080));
            assert!(is_inner(udp.payload()));
            Form::Gue(real.octets()[3])
        }
        (_, Some(TransportSlice::Tcp(tcp))) if destination == Ipv4Addr::from(VIP) => {
            assert_eq!((source, tcp.destination_port()), (CLIENT.into(), 80));
            Form::L2(to)
        }
        (_, Some(TransportSlice::Tcp(tcp))) => {
            assert_eq!((source, destination), (SOURCE.into(), real));
            assert_eq!(tcp.destination_port(), 80);
            Form::Nat(real.octets()[3])
        }
        other => panic!("{other:?}"),
    }
}

fn sent(plane: &mut MemoryDataplane, port: u16, syn: bool) -> (Processed, Form) {
    let (processed, frame) = plane.forward(&segment(port, syn));
    assert_eq!(processed.reason, Reason::ForwardedTx, "port {port}");
    (processed, form(&frame))
}

/// The forms in which packets of many new flows leave.
fn forms(plane: &mut MemoryDataplane) -> BTreeSet<Form> {
    (20_000..20_200)
        .map(|port| sent(plane, port, true).1)
        .collect()
}

fn all_forms() -> BTreeSet<Form> {
    [Form::L2(1), Form::Ipip(2), Form::Gue(3), Form::Nat(4)].into()
}

fn index(plane: &MemoryDataplane, spec: &ServiceSpec, last: u8) -> u16 {
    plane.mark_of(&spec.vip, real(last)).unwrap() as u16
}

#[test]
fn each_real_gets_its_packets_in_its_own_mode() {
    let spec = spec(&MODES);
    let mut plane = plane(&spec);
    assert_eq!(forms(&mut plane), all_forms());
    // The next agent finds the modes in the tables, before and after it is told them again.
    let indices: Vec<u16> = (1..5).map(|last| index(&plane, &spec, last)).collect();
    plane = plane.restart(&options(), Box::new(Network), true).unwrap();
    assert_eq!(forms(&mut plane), all_forms());
    plane.refresh_next_hops().unwrap();
    assert_eq!(forms(&mut plane), all_forms());
    plane.set_service(&spec).unwrap();
    assert_eq!(forms(&mut plane), all_forms());
    let after: Vec<u16> = (1..5).map(|last| index(&plane, &spec, last)).collect();
    assert_eq!(after, indices);
}

#[test]
fn a_real_keeps_its_flows_when_its_mode_changes() {
    for (before, after) in [
        (Forward::L2, Forward::Ipip),
        (Forward::Ipip, Forward::Gue),
        (Forward::Gue, Forward::L2),
    ] {
        let in_mode = |mode, last| match mode {
            Forward::L2 => Form::L2(last),
            Forward::Ipip => Form::Ipip(last),
            Forward::Gue => Form::Gue(last),
            Forward::Nat => Form::Nat(last),
        };
        let mut wanted = spec(&[(1, before), (2, before)]);
        let mut plane = plane(&wanted);
        // Both reals have flows, and some of them are exceptions: the ring gives all new ones to the second.
        let ports = 30_000..30_050;
        let of: BTreeMap<u16, u16> = ports
            .map(|port| {
                let opened = sent(&mut plane, port, true).0.real;
                (port, opened)
            })
            .collect();
        let first = index(&plane, &wanted, 1);
        assert!(of.values().any(|real| *real == first));
        assert!(of.values().any(|real| *real != first));
        wanted.ring = vec![1; SLOTS.into()].into();
        plane.set_service(&wanted).unwrap();
        for (port, real) in &of {
            assert_eq!(sent(&mut plane, *port, false).0.real, *real);
        }

        let new = spec(&[(1, after), (2, before)]);
        wanted.terms = new.terms;
        plane.set_service(&wanted).unwrap();
        assert_eq!(index(&plane, &wanted, 1), first);
        for (port, real) in &of {
            let (processed, form) = sent(&mut plane, *port, false);
            let expected = if *real == first {
                in_mode(after, 1)
            } else {
                in_mode(before, 2)
            };
            assert_eq!(
                (processed.real, form),
                (*real, expected),
                "{before} {after}"
            );
        }
    }
}

#[test]
fn a_mode_has_its_next_hop_and_its_size_at_once() {
    // Behind a router.
    let far = 150;
    let mut plane = plane(&spec(&[(far, Forward::L2)]));
    let reason = |plane: &mut MemoryDataplane| plane.forward(&segment(40_000, true)).0.reason;
    assert_eq!(reason(&mut plane), Reason::NoNextHop);
    plane.set_service(&spec(&[(far, Forward::Ipip)])).unwrap();
    assert_eq!(sent(&mut plane, 40_000, true).1, Form::Ipip(far));
    plane.set_service(&spec(&[(far, Forward::L2)])).unwrap();
    assert_eq!(reason(&mut plane), Reason::NoNextHop);
    // The next agent takes the mode from the record: the router is no next hop.
    plane = plane.restart(&options(), Box::new(Network), true).unwrap();
    plane.refresh_next_hops().unwrap();
    assert_eq!(reason(&mut plane), Reason::NoNextHop);
    plane.set_service(&spec(&[(far, Forward::Gue)])).unwrap();
    assert_eq!(sent(&mut plane, 40_000, true).1, Form::Gue(far));
    // Another real of the VIP has another size.
    let advertised = |plane: &mut MemoryDataplane, port: u16| {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([4; 6], [2; 6])
            .ipv4(CLIENT, VIP, 64)
            .tcp(port, 80, 1, 1_024)
            .syn()
            .write(&mut frame, &[0; 3_000])
            .unwrap();
        // One answer in each tick.
        plane.pass_time(1);
        let (processed, answer) = plane.forward(&frame);
        assert_eq!(processed.reason, Reason::TooLargeAnswered);
        u16::from_be_bytes([answer[40], answer[41]])
    };
    plane
        .set_service(&spec(&[(1, Forward::L2), (far, Forward::Ipip)]))
        .unwrap();
    let sizes: BTreeSet<u16> = (41_000..41_050)
        .map(|port| advertised(&mut plane, port))
        .collect();
    assert_eq!(sizes, [1_480, 1_500].into());
}

#[test]
fn connections_of_mode_nat_do_not_outlive_it() {
    let mut wanted = spec(&[(1, Forward::Nat), (2, Forward::L2)]);
    wanted.ring = vec![0; SLOTS.into()].into();
    let mut plane = plane(&wanted);
    let (_, frame) = plane.forward(&segment(50_000, true));
    assert_eq!(form(&frame), Form::Nat(1));
    let translated = u16::from_be_bytes([frame[34], frame[35]]);
    let mut answer = Vec::new();
    PacketBuilder::ethernet2(mac(1), [2, 0, 0, 0, 0, 0xFF])
        .ipv4([10, 1, 0, 1], SOURCE, 64)
        .tcp(80, translated, 1, 1_024)
        .syn()
        .ack(2)
        .write(&mut answer, b"")
        .unwrap();
    let answered = |plane: &mut MemoryDataplane| plane.forward(&answer).0.reason;
    assert_eq!(answered(&mut plane), Reason::NatAnswerTx);

    // Under the next agent, too.
    plane = plane.restart(&options(), Box::new(Network), true).unwrap();
    assert_eq!(answered(&mut plane), Reason::NatAnswerTx);

    // The flow stays on the real, which does not know the client; what the real had sent still arrives.
    let spec = |mode| {
        let mut spec = spec(&[(1, mode), (2, Forward::L2)]);
        spec.ring = vec![0; SLOTS.into()].into();
        spec
    };
    plane.set_service(&spec(Forward::L2)).unwrap();
    assert_eq!(sent(&mut plane, 50_000, false).1, Form::L2(1));
    assert_eq!(answered(&mut plane), Reason::NatAnswerTx);
    plane.tick().unwrap();
    assert_eq!(answered(&mut plane), Reason::NatAnswerTx);
    // Nobody looks among the answers once the connections have timed out.
    plane.pass_time(NAT_TRANSITORY_TICKS + 2 * MINUTE);
    plane.tick().unwrap();
    plane.pass_time(2 * MINUTE);
    plane.tick().unwrap();
    assert_eq!(answered(&mut plane), Reason::NotVip);

    // A flow that runs when its real gets the mode is translated from then on: the real answers with a reset.
    let (opened, _) = sent(&mut plane, 50_001, true);
    plane.set_service(&spec(Forward::Nat)).unwrap();
    let (processed, form) = sent(&mut plane, 50_001, false);
    assert_eq!((processed.real, form), (opened.real, Form::Nat(1)));
    assert_eq!(processed.chosen_by, ChosenBy::Ring);
}
