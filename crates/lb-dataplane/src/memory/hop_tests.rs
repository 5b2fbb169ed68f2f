//! Next hops that change while no agent runs: on the tables in memory.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use lb_common::reason::Reason;
use lb_model::options::{Forward, Track};

use super::{INTERFACE_INDEX, MemoryDataplane};
use crate::{
    Dataplane as _, ServiceSpec, Terms,
    options::Options,
    resolver::{ResolvedHop, Resolver},
};

/// What is known of every address.
#[derive(Clone, Copy)]
enum Way {
    /// It is a neighbour with this MAC address.
    Known([u8; 6]),
    /// Its MAC address was asked for.
    Awaited,
    /// There is no route.
    None,
}

#[derive(Clone)]
struct Network(Arc<Mutex<Way>>);

impl Network {
    fn set(&self, way: Way) {
        *self.0.lock().unwrap() = way;
    }
}

impl Resolver for Network {
    fn resolve(&self, _address: IpAddr) -> Option<ResolvedHop> {
        let Way::Known(dest_mac) = *self.0.lock().unwrap() else {
            return None;
        };
        Some(ResolvedHop {
            interface: INTERFACE_INDEX,
            source_mac: [2; 6],
            dest_mac,
            direct: true,
            mtu: 1_500,
        })
    }

    fn add(&self, _address: IpAddr) {}

    fn remove(&self, _address: IpAddr) {}

    fn unresolved_reason(&self, _address: IpAddr) -> Option<String> {
        None
    }

    fn is_awaited(&self, _address: IpAddr) -> bool {
        matches!(*self.0.lock().unwrap(), Way::Awaited)
    }
}

/// Where a packet for the VIP is sent; `None` if there is no next hop.
fn sent_to(plane: &mut MemoryDataplane) -> Option<[u8; 6]> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([198, 51, 100, 7], [10, 0, 0, 1], 64)
        .udp(1_000, 53)
        .write(&mut frame, &[0; 8])
        .unwrap();
    let (processed, sent) = plane.forward(&frame);
    match processed.reason {
        Reason::ForwardedTx => Some(sent[..6].try_into().unwrap()),
        Reason::NoNextHop => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn next_hops_that_changed_while_no_agent_ran_are_followed() {
    let options = Options::new(Vec::new());
    let network = Network(Arc::new(Mutex::new(Way::Awaited)));
    let resolver = || Box::new(network.clone());
    let mut plane = MemoryDataplane::new(&options, resolver()).unwrap();
    let spec = ServiceSpec {
        vip: "10.0.0.1:53/udp".parse().unwrap(),
        forward: Forward::Ipip,
        terms: Terms::default(),
        track: Track::Exceptions,
        window: Duration::from_secs(60),
        reals: vec!["10.1.0.1".parse().unwrap()],
        down: BTreeMap::new(),
        ring: vec![0; 256].into(),
    };
    plane.set_service(&spec).unwrap();
    assert_eq!(sent_to(&mut plane), None);
    let (first, second) = ([4; 6], [6; 6]);
    for (way, expected) in [
        // It answered.
        (Way::Known(first), Some(first)),
        // Another router has taken over.
        (Way::Known(second), Some(second)),
        // The kernel has forgotten it, and it did not answer yet: packets flow on.
        (Way::Awaited, Some(second)),
        (Way::None, None),
        (Way::Known(first), Some(first)),
    ] {
        network.set(way);
        plane = plane.restart(&options, resolver(), true).unwrap();
        plane.refresh_next_hops().unwrap();
        plane.set_service(&spec).unwrap();
        assert_eq!(sent_to(&mut plane), expected);
    }
    // The same without a restart.
    network.set(Way::Awaited);
    plane.refresh_next_hops().unwrap();
    assert_eq!(sent_to(&mut plane), Some(first));
    network.set(Way::None);
    plane.refresh_next_hops().unwrap();
    assert_eq!(sent_to(&mut plane), None);
}
