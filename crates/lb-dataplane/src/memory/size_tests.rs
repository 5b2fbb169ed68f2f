//! Sizes of the packets that reals take, as the network and the services change: on the tables in memory.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
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

/// Every address is a neighbour on a link with this MTU; `u32::MAX`: none is known.
struct Link(Arc<AtomicU32>);

impl Resolver for Link {
    fn resolve(&self, _address: IpAddr) -> Option<ResolvedHop> {
        let mtu = self.0.load(Ordering::Relaxed);
        (mtu != u32::MAX).then_some(ResolvedHop {
            interface: INTERFACE_INDEX,
            source_mac: [2, 0, 0, 0, 0, 1],
            dest_mac: [2, 0, 0, 0, 0, 2],
            direct: true,
            mtu,
        })
    }

    fn add(&self, _address: IpAddr) {}

    fn remove(&self, _address: IpAddr) {}

    fn unresolved_reason(&self, _address: IpAddr) -> Option<String> {
        None
    }
}

/// The size that a datagram of 9,000 bytes is answered with; `None` if it is forwarded.
fn advertised(plane: &mut MemoryDataplane) -> Option<u16> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([198, 51, 100, 7], [10, 0, 0, 1], 64)
        .udp(1_000, 53)
        .write(&mut frame, &[0; 8_972])
        .unwrap();
    // One answer in each tick.
    plane.pass_time(1);
    let (processed, sent) = plane.forward(&frame);
    match processed.reason {
        Reason::ForwardedTx => None,
        Reason::TooLargeAnswered => Some(u16::from_be_bytes([sent[40], sent[41]])),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sizes_follow_links_and_modes() {
    let mtu = Arc::new(AtomicU32::new(u32::MAX));
    let resolver = Box::new(Link(Arc::clone(&mtu)));
    let mut plane = MemoryDataplane::new(&Options::new(Vec::new()), resolver).unwrap();
    let mut spec = ServiceSpec {
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
    for (link, expected) in [
        (1_500, Some(1_480)),
        (1_400, Some(1_380)),
        (9_000, Some(8_980)),
        (9_020, None),
        // An interface that says nothing limits nothing.
        (0, None),
        (1_500, Some(1_480)),
    ] {
        mtu.store(link, Ordering::Relaxed);
        plane.refresh_next_hops().unwrap();
        assert_eq!(advertised(&mut plane), expected, "{link}");
    }
    // A way that is not known for a while was as wide as before.
    mtu.store(u32::MAX, Ordering::Relaxed);
    plane.set_service(&spec).unwrap();
    assert_eq!(advertised(&mut plane), Some(1_480));
    mtu.store(1_500, Ordering::Relaxed);
    spec.forward = Forward::L2;
    plane.set_service(&spec).unwrap();
    assert_eq!(advertised(&mut plane), Some(1_500), "no outer header");
    // A real whose outer header is of the other family.
    spec.forward = Forward::Ipip;
    spec.reals = vec!["fd00::1".parse().unwrap()];
    plane.set_service(&spec).unwrap();
    assert_eq!(advertised(&mut plane), Some(1_460));
}
