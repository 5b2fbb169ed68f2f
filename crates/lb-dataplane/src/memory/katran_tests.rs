//! A service with Katran's ring: its flows reach the reals that Katran gives them, also after a change from another ring
//! and back.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lb_common::{
    memory::Processed,
    reason::{ChosenBy, Reason},
    tables::service::{HASH_KATRAN, HASH_MASK, Service},
};
use lb_model::{
    options::{Hash, Track},
    ring::{Algorithm, default_slots},
};
use lb_steering::ring::build_shared;

use super::testbed::{Testbed, address};
use crate::{
    Dataplane as _, Terms, backend::TableBackend as _, error::DataplaneError, options::Options,
    resolver::AllNeighbours,
};

const REALS: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];

/// A service whose reals have weight 1, with this ring.
fn testbed(algorithm: Algorithm, track: Track) -> Testbed {
    let mut bed = Testbed::new(Terms::default(), &REALS);
    let vip = bed.spec.vip;
    bed.plane.remove_service(&vip).unwrap();
    bed.pass(100);
    bed.spec.vip = "192.0.2.10:80/tcp".parse().unwrap();
    bed.spec.track = track;
    bed.choose(algorithm);
    bed
}

type Tcp = etherparse::PacketBuilderStep<etherparse::TcpHeader>;

impl Testbed {
    /// Gives the service another ring.
    fn choose(&mut self, algorithm: Algorithm) {
        let slots = algorithm.fixed_slots();
        let slots = slots.unwrap_or_else(|| default_slots(REALS.len()));
        let weights = REALS.map(|real| (address(real), 1));
        self.spec.ring = build_shared(algorithm, 7, slots, &weights);
        self.spec.terms.ring = algorithm;
        self.set();
    }

    fn segment(&mut self, client: [u8; 4], port: u16, flags: fn(Tcp) -> Tcp) -> Processed {
        let builder =
            etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(client, [192, 0, 2, 10], 64);
        let mut frame = Vec::new();
        flags(builder.tcp(port, 80, 1, 1_024))
            .write(&mut frame, b"data")
            .unwrap();
        self.plane.forward(&frame).0
    }

    /// The real of a running flow of 172.16.0.1, by its place in [`REALS`].
    fn real_of(&mut self, port: u16) -> (usize, ChosenBy) {
        let seen = self.segment([172, 16, 0, 1], port, |tcp| tcp.ack(1));
        assert_eq!(seen.reason, Reason::ForwardedTx);
        let place = REALS
            .iter()
            .position(|real| self.index(real) == Some(seen.real));
        (place.unwrap(), seen.chosen_by)
    }

    /// The record of the one service that has slots.
    fn record(&self) -> Service {
        let backend = self.plane.engine.backend();
        let mut records = (1..backend.sizes().services).map(|index| backend.service(index));
        records.find(|record| record.ring != 0).unwrap()
    }

    /// Slots of the service in the tables.
    fn slots(&self) -> u32 {
        (self.record().ring >> 32) as u32
    }

    fn pass(&mut self, ticks: u32) {
        self.plane.pass_time(ticks);
        self.plane.tick().unwrap();
    }

    fn unsettled(&self) -> u64 {
        self.plane.status().slots.unsettled()
    }
}

/// The flow of which is known where Katran sends it: to 10.0.0.2.
const PORT: u16 = 31_337;

#[test]
fn flows_reach_the_reals_that_katran_gives_them() {
    let mut bed = testbed(Algorithm::MaglevKatran, Track::Exceptions);
    assert_eq!(bed.real_of(PORT), (1, ChosenBy::Ring));
    assert_eq!((bed.slots(), bed.unsettled()), (65_537, 0));
    // Whatever the order of its reals is.
    bed.spec.reals.reverse();
    bed.spec.ring = bed.spec.ring.iter().map(|position| 2 - position).collect();
    bed.set();
    assert_eq!(bed.real_of(PORT), (1, ChosenBy::Ring));
    assert_eq!(bed.unsettled(), 0);
    // Another agent takes it as it is.
    let mut bed = bed.restart();
    bed.set();
    assert_eq!(bed.real_of(PORT), (1, ChosenBy::Ring));
    assert_eq!((bed.slots(), bed.unsettled()), (65_537, 0));
    // A second one has its own slots behind, and shares none.
    let first = bed.spec.clone();
    bed.spec.vip = "192.0.2.11:80/tcp".parse().unwrap();
    bed.choose(Algorithm::Rendezvous);
    bed.spec = first;
    assert_eq!(bed.real_of(PORT), (1, ChosenBy::Ring));
}

#[test]
fn flows_of_ipv6_have_katrans_slots() {
    let mut bed = testbed(Algorithm::MaglevKatran, Track::Exceptions);
    bed.spec.vip = "[2001:db8::10]:80/tcp".parse().unwrap();
    bed.set();
    // The slots are from a second implementation, in another language.
    for (client, slot) in [("fc00:2::1", 37_505), ("2001:db8::7", 48_442)] {
        let client: std::net::Ipv6Addr = client.parse().unwrap();
        let vip: std::net::Ipv6Addr = "2001:db8::10".parse().unwrap();
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6(client.octets(), vip.octets(), 64)
            .tcp(PORT, 80, 1, 1_024)
            .ack(1)
            .write(&mut frame, b"data")
            .unwrap();
        let seen = bed.plane.forward(&frame).0;
        let expected = REALS[usize::from(bed.spec.ring[slot])];
        assert_eq!(Some(seen.real), bed.index(expected), "{client}");
    }
}

#[test]
fn a_ring_of_another_hash_keeps_what_the_flow_table_knows() {
    let mut bed = testbed(Algorithm::Rendezvous, Track::All);
    let ports = 40_000..40_064;
    for port in ports.clone() {
        bed.segment([172, 16, 0, 1], port, Tcp::syn);
    }
    let before: Vec<usize> = ports.clone().map(|port| bed.real_of(port).0).collect();
    for (algorithm, slots) in [
        (Algorithm::MaglevKatran, 65_537),
        (Algorithm::Maglev, 4_096),
    ] {
        bed.choose(algorithm);
        assert_eq!(bed.slots(), slots);
        for (port, real) in ports.clone().zip(&before) {
            assert_eq!(bed.real_of(port), (*real, ChosenBy::Flow));
        }
    }
}

#[test]
fn a_changed_hash_settles_when_all_flows_are_stamped_with_it() {
    let mut bed = testbed(Algorithm::Rendezvous, Track::Exceptions);
    let window = bed.spec.window_ticks();
    // A flow that is with 10.0.0.1 or 10.0.0.3, whatever the ring says by now.
    let ring = bed.spec.ring.clone();
    bed.spec.ring = vec![0; ring.len()].into();
    bed.set();
    bed.segment([172, 16, 0, 1], PORT, Tcp::syn);
    bed.spec.ring = vec![2; ring.len()].into();
    bed.set();
    assert_eq!(bed.real_of(PORT).0, 0);
    bed.choose(Algorithm::MaglevKatran);
    assert_eq!(bed.record().flags & HASH_MASK, HASH_KATRAN);
    assert_eq!(bed.unsettled(), 65_537);
    // While it is silent, it is stamped with the old hash, and nobody knows which slot has it.
    bed.pass(window / 2);
    bed.pass(window / 4);
    assert_eq!(bed.unsettled(), 65_537);
    assert_eq!(bed.real_of(PORT), (0, ChosenBy::Flow));
    bed.pass(window / 4 - 1);
    assert_eq!(bed.unsettled(), 65_537);
    bed.pass(window / 4);
    assert_eq!(bed.unsettled(), 1);
    assert_eq!(bed.real_of(PORT), (0, ChosenBy::Flow));
    // When it is over, the flow has the real that Katran gives it.
    bed.pass(window);
    bed.pass(window / 2);
    assert_eq!(bed.unsettled(), 0);
    assert_eq!(bed.real_of(PORT), (1, ChosenBy::Ring));
}

#[test]
fn an_agent_may_die_while_the_hash_changes() {
    let mut deaths = 0;
    for stores in [0, 1, 2, 1_000, 65_536, 65_537, 65_538, 65_539, 65_540] {
        let mut bed = testbed(Algorithm::Rendezvous, Track::All);
        bed.segment([172, 16, 0, 1], PORT, Tcp::syn);
        let real = bed.real_of(PORT).0;
        bed.pass(100);
        bed.plane.engine.backend_mut().die_after(Some(stores));
        let died = catch_unwind(AssertUnwindSafe(|| bed.choose(Algorithm::MaglevKatran)));
        bed.plane.engine.backend_mut().die_after(None);
        deaths += u32::from(died.is_err());
        let options = Options::new(Vec::new());
        let plane = bed.plane.restart(&options, Box::new(AllNeighbours), true);
        let mut bed = Testbed {
            plane: plane.unwrap(),
            spec: bed.spec,
        };
        bed.choose(Algorithm::MaglevKatran);
        assert_eq!(bed.record().flags & HASH_MASK, HASH_KATRAN, "{stores}");
        assert_eq!((bed.slots(), bed.unsettled()), (65_537, 65_537), "{stores}");
        assert_eq!(bed.real_of(PORT), (real, ChosenBy::Flow), "{stores}");
    }
    assert!(deaths > 4, "{deaths}");
}

#[test]
fn a_service_that_carries_nothing_settles_at_once_with_another_hash() {
    let mut bed = testbed(Algorithm::Rendezvous, Track::Exceptions);
    bed.choose(Algorithm::MaglevKatran);
    assert_eq!(bed.unsettled(), 65_537);
    bed.plane.pass_time(10);
    bed.plane.settle_unused().unwrap();
    assert_eq!(bed.unsettled(), 0);
    assert_eq!(bed.real_of(PORT), (1, ChosenBy::Ring));
    bed.spec.terms.hash = Hash::Source;
    bed.choose(Algorithm::Maglev);
    assert_eq!((bed.slots(), bed.unsettled()), (4_096, 4_096));
}

#[test]
fn a_ring_of_another_size_is_refused() {
    let mut bed = testbed(Algorithm::MaglevKatran, Track::Exceptions);
    bed.spec.ring = vec![0; 65_536].into();
    let refused = bed.plane.set_service(&bed.spec);
    assert!(
        matches!(refused, Err(DataplaneError::System { .. })),
        "{refused:?}"
    );
    assert_eq!(bed.real_of(PORT), (1, ChosenBy::Ring));
}
