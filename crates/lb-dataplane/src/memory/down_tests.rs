//! Reals that die and come back, and flows that are shed: on the tables in memory.

use std::{collections::BTreeMap, time::Duration};

use lb_common::limits::ticks_from_millis;
use lb_common::memory::Processed;
use lb_common::reason::{ChosenBy, Reason};

use lb_model::{
    options::{Forward, OnDown, Track},
    ring::NO_REAL,
    vip::RealId,
};

use super::MemoryDataplane;
use crate::{
    Dataplane as _, DataplaneError, ServiceSpec, Terms, WhenEmpty, options::Options,
    resolver::AllNeighbours,
};

const SLOTS: u16 = 256;
const WINDOW: Duration = Duration::from_secs(60);
const REALS: [&str; 3] = ["10.1.0.1", "10.1.0.2", "10.1.0.3"];
/// Flows: each has a port.
const FLOWS: u16 = 300;

fn address(real: usize) -> RealId {
    REALS[real].parse().unwrap()
}

/// A plane with one service of three reals.
struct Testbed {
    plane: MemoryDataplane,
    spec: ServiceSpec,
}

impl Testbed {
    fn new(vip: &str) -> Testbed {
        let plane =
            MemoryDataplane::new(&Options::new(Vec::new()), Box::new(AllNeighbours)).unwrap();
        let mut bed = Testbed {
            plane,
            spec: ServiceSpec {
                vip: vip.parse().unwrap(),
                forward: Forward::Ipip,
                terms: Terms::default(),
                track: Track::Exceptions,
                window: WINDOW,
                reals: (0..REALS.len()).map(address).collect(),
                down: BTreeMap::new(),
                ring: Vec::new().into(),
            },
        };
        bed.set(&[]);
        bed
    }

    /// Sets the service with these reals dead; a dead real's slots go to the next one that lives.
    fn set(&mut self, down: &[(usize, OnDown)]) {
        let dead = |real: usize| down.iter().any(|(of, _)| *of == real);
        self.spec.ring = (0..usize::from(SLOTS))
            .map(|slot| {
                (0..REALS.len())
                    .map(|i| (slot + i) % REALS.len())
                    .find(|real| !dead(*real))
                    .map_or(NO_REAL, |real| real as u16)
            })
            .collect();
        self.spec.down = down
            .iter()
            .map(|(real, policy)| (address(*real), *policy))
            .collect();
        self.plane.set_service(&self.spec).unwrap();
    }

    fn send(&mut self, port: u16, flags: fn(Tcp) -> Tcp) -> Processed {
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([198, 51, 100, 7], [10, 0, 0, 1], 64)
            .tcp(1_000 + port, 80, 1, 1_024);
        let mut frame = Vec::new();
        flags(builder).write(&mut frame, b"data").unwrap();
        self.plane.forward(&frame).0
    }

    fn data(&mut self, port: u16) -> Processed {
        self.send(port, |tcp| tcp.ack(1).psh())
    }

    /// Opens every flow; returns the index in the tables of each flow's real.
    fn open(&mut self) -> Vec<u16> {
        (0..FLOWS)
            .map(|port| self.send(port, Tcp::syn).real)
            .collect()
    }

    /// The index of a real in the tables, found by a mark.
    fn index(&self, real: usize) -> u16 {
        let mark = self
            .plane
            .mark_of(&self.spec.vip, address(real))
            .expect("the service has the real");
        mark as u16
    }

    /// Live flows of a real.
    fn live(&self, real: usize) -> u64 {
        let flows = self.plane.flows().unwrap();
        let of = flows.iter().find(|flows| flows.real == address(real));
        of.expect("the service has the real").flows
    }

    /// Lets the window pass while running flows send.
    fn pass_window(&mut self, running: impl Fn(u16) -> bool) {
        for _ in 0..4 {
            self.plane
                .pass_time(ticks_from_millis(WINDOW.as_millis() as u64) / 3);
            for port in (0..FLOWS).filter(|port| running(*port)) {
                self.data(port);
            }
            self.plane.tick().unwrap();
        }
    }
}

type Tcp = etherparse::PacketBuilderStep<etherparse::TcpHeader>;

#[test]
fn flows_of_a_dead_real_move_at_once_and_are_no_exceptions() {
    let mut bed = Testbed::new("10.0.0.1:80/tcp");
    let before = bed.open();
    let dead = bed.index(1);
    bed.set(&[(1, OnDown::Rehash)]);
    assert_eq!(bed.plane.status().slots.unsettled(), 0);
    for port in 0..FLOWS {
        let now = bed.data(port);
        assert_eq!(now.chosen_by, ChosenBy::Ring);
        assert_ne!(now.real, dead);
        if before[usize::from(port)] != dead {
            assert_eq!(now.real, before[usize::from(port)]);
        }
    }
}

#[test]
fn a_rehashed_exception_moves_too_and_does_not_come_back() {
    let mut bed = Testbed::new("10.0.0.1:80/tcp");
    let before = bed.open();
    let dead = bed.index(1);
    // Its flows become exceptions of other slots, then it dies.
    bed.set(&[(1, OnDown::Keep)]);
    for port in 0..FLOWS {
        assert_eq!(bed.data(port).real, before[usize::from(port)]);
    }
    bed.set(&[(1, OnDown::Rehash)]);
    let moved: Vec<u16> = (0..FLOWS).map(|port| bed.data(port).real).collect();
    assert!(moved.iter().all(|real| *real != dead));
    // It lives again: its slots return to it, what moved stays where it is.
    bed.set(&[]);
    for port in 0..FLOWS {
        assert_eq!(bed.data(port).real, moved[usize::from(port)]);
    }
}

#[test]
fn a_dead_real_may_keep_its_flows() {
    let mut bed = Testbed::new("10.0.0.1:80/tcp");
    let before = bed.open();
    let dead = bed.index(1);
    bed.set(&[(1, OnDown::Keep)]);
    bed.pass_window(|_| true);
    for port in 0..FLOWS {
        assert_eq!(bed.data(port).real, before[usize::from(port)]);
        assert_ne!(bed.send(1_000 + port, Tcp::syn).real, dead);
    }
}

/// Flows of a dead real are reset in the window and, where the table knows them, after it. New flows and those of
/// other reals never are, and no flow is when the real is back.
#[test]
fn flows_of_a_dead_real_are_reset_and_only_those() {
    for (track, window_passes) in [
        (Track::Exceptions, false),
        (Track::Exceptions, true),
        (Track::All, false),
        (Track::All, true),
    ] {
        let what = format!("{track:?}, after the window: {window_passes}");
        let mut bed = Testbed::new("10.0.0.1:80/tcp");
        bed.spec.track = track;
        bed.set(&[]);
        let before = bed.open();
        let dead = bed.index(1);
        let was_dead = |port: u16| before[usize::from(port)] == dead;
        // The table knows its flows, as it does after a change of weights.
        bed.set(&[(1, OnDown::Keep)]);
        for port in 0..FLOWS {
            assert_eq!(bed.data(port).real, before[usize::from(port)], "{what}");
        }
        bed.set(&[(1, OnDown::Reset)]);
        if window_passes {
            bed.pass_window(|port| !was_dead(port));
            // Back and dead again: no table knows any more which flows were its own.
            bed.set(&[]);
            bed.set(&[(1, OnDown::Reset)]);
        }
        let mut reset = 0;
        for port in 0..FLOWS {
            let now = bed.data(port);
            if !was_dead(port) {
                assert_eq!(now.reason, Reason::ForwardedTx, "{what}");
                assert_eq!(now.real, before[usize::from(port)], "{what}");
            } else if window_passes {
                assert_eq!(now.reason, Reason::ForwardedTx, "{what}");
            } else {
                assert_eq!(now.reason, Reason::ResetDownReal, "{what}");
                // A packet under way is reset again, and the client's reset goes to no other real.
                assert_eq!(bed.data(port).reason, Reason::ResetDownReal, "{what}");
                assert_eq!(bed.send(port, Tcp::rst).real, dead, "{what}");
            }
            reset += u16::from(now.reason == Reason::ResetDownReal);
        }
        assert!(window_passes || reset > FLOWS / 5, "{what}: {reset}");
        // The client reconnects, by the same port or another one.
        let again: Vec<u16> = (0..FLOWS)
            .map(|port| bed.send(port, Tcp::syn).real)
            .collect();
        assert!(again.iter().all(|real| *real != dead), "{what}");
        for port in 0..FLOWS {
            let now = bed.data(port);
            assert_eq!(
                (now.reason, now.real),
                (Reason::ForwardedTx, again[usize::from(port)]),
                "{what}"
            );
        }
        // It is back, with its slots.
        bed.set(&[]);
        for port in 0..FLOWS {
            let now = bed.data(port);
            assert_eq!(
                (now.reason, now.real),
                (Reason::ForwardedTx, again[usize::from(port)]),
                "{what}"
            );
        }
        bed.pass_window(|_| true);
        for port in 0..FLOWS {
            assert_eq!(bed.data(port).real, again[usize::from(port)], "{what}");
        }
        let served = (0..FLOWS).any(|port| bed.send(2_000 + port, Tcp::syn).real == dead);
        assert!(served, "{what}: it takes new flows");
    }
}

/// The ends of a dead real's flows are not all seen; when it is back it must not count as busy with them.
#[test]
fn a_real_that_came_back_has_only_the_flows_that_were_heard_of_since() {
    for track in [Track::All, Track::Exceptions] {
        for policy in [OnDown::Rehash, OnDown::Reset, OnDown::Keep] {
            let what = format!("{track:?}, {policy:?}");
            let mut bed = Testbed::new("10.0.0.1:80/tcp");
            bed.spec.track = track;
            bed.set(&[]);
            let before = bed.open();
            let dead = bed.index(1);
            let had = before.iter().filter(|real| **real == dead).count() as u64;
            assert_eq!(bed.live(1), had, "{what}");
            bed.set(&[(1, policy)]);
            let kept = if policy == OnDown::Keep { had } else { 0 };
            assert_eq!(bed.live(1), kept, "{what}: dead");
            bed.plane.pass_time(1);
            bed.set(&[]);
            assert_eq!(bed.live(1), kept, "{what}: back");
            let counters = |bed: &Testbed| bed.plane.stats().unwrap().services[0].reals[1].counters;
            assert_eq!(counters(&bed).open(), kept, "{what}");
            let young = (0..FLOWS)
                .filter(|port| bed.send(5_000 + port, Tcp::syn).real == dead)
                .count() as u64;
            assert!(young > 0, "{what}");
            assert_eq!(bed.live(1), kept + young, "{what}: at work");
            assert_eq!(counters(&bed).open(), kept + young, "{what}");
        }
    }
}

#[test]
fn reals_that_die_one_after_the_other_are_distinguished() {
    let mut bed = Testbed::new("10.0.0.1:80/tcp");
    let before = bed.open();
    let (first, second) = (bed.index(1), bed.index(2));
    bed.set(&[(1, OnDown::Reset)]);
    // Opened while the first is dead, in slots that remember it.
    let between: Vec<u16> = (0..FLOWS)
        .map(|port| bed.send(3_000 + port, Tcp::syn).real)
        .collect();
    bed.set(&[(1, OnDown::Reset), (2, OnDown::Reset)]);
    for port in 0..FLOWS {
        let old = before[usize::from(port)];
        let dead = old == first || old == second;
        assert_eq!(
            bed.data(port).reason == Reason::ResetDownReal,
            dead,
            "{old}"
        );
        let young = between[usize::from(port)];
        let now = bed.data(3_000 + port);
        assert_eq!(now.real, young);
        assert_eq!(now.reason == Reason::ResetDownReal, young == second);
    }
    // One policy becomes another.
    bed.set(&[(1, OnDown::Rehash), (2, OnDown::Keep)]);
    for port in 0..FLOWS {
        let now = bed.data(port);
        assert_eq!(now.reason, Reason::ForwardedTx);
        assert_ne!(now.real, first);
    }
}

#[test]
fn without_a_real_packets_are_dropped_or_reset() {
    let mut bed = Testbed::new("10.0.0.1:80/tcp");
    bed.open();
    let all = |policy| [(0, policy), (1, policy), (2, policy)];
    bed.set(&all(OnDown::Rehash));
    assert_eq!(bed.data(1).reason, Reason::NoReal);
    assert_eq!(bed.send(1, Tcp::syn).reason, Reason::NoReal);
    bed.spec.terms.when_empty = WhenEmpty::Reset;
    bed.set(&all(OnDown::Rehash));
    assert_eq!(bed.data(1).reason, Reason::ResetNoReal);
    assert_eq!(bed.send(1, Tcp::syn).reason, Reason::ResetNoReal);
    assert_eq!(bed.send(1, Tcp::rst).reason, Reason::NoReal);
    bed.spec.terms.when_empty = WhenEmpty::Drop;
    bed.set(&[]);
    bed.open();
    bed.set(&all(OnDown::Reset));
    assert_eq!(bed.data(1).reason, Reason::ResetDownReal);
    assert_eq!(bed.send(1, Tcp::syn).reason, Reason::NoReal);
    bed.set(&[(0, OnDown::Rehash)]);
    assert_eq!(bed.send(1, Tcp::syn).reason, Reason::ForwardedTx);
}

#[test]
fn a_spec_that_contradicts_itself_is_rejected() {
    let mut bed = Testbed::new("10.0.0.1:80/tcp");
    let mut spec = bed.spec.clone();
    spec.down.insert(address(1), OnDown::Reset);
    let error = bed.plane.set_service(&spec).unwrap_err();
    assert!(format!("{error}").contains("down"), "{error}");
    let mut spec = bed.spec.clone();
    spec.down.insert("10.9.9.9".parse().unwrap(), OnDown::Keep);
    let error = bed.plane.set_service(&spec).unwrap_err();
    assert!(format!("{error}").contains("10.9.9.9"), "{error}");
}

#[test]
fn exactly_as_many_flows_are_shed_as_asked_for() {
    let mut bed = Testbed::new("10.0.0.1:80/tcp");
    let before = bed.open();
    let real = bed.index(1);
    let vip = bed.spec.vip;
    assert_eq!(bed.plane.shed(&vip, address(1), 10).unwrap(), 0);
    let closed = |bed: &Testbed| {
        let stats = bed.plane.stats().unwrap();
        let of = |at: usize| stats.services[0].reals[at].counters.closed;
        (of(0) + of(2), of(1))
    };
    for _ in 0..3 {
        for port in 0..FLOWS {
            let now = bed.data(port);
            assert_eq!(now.reason, Reason::ForwardedTx);
            assert_eq!(now.real, before[usize::from(port)]);
        }
        assert_eq!(closed(&bed), (0, 10));
        bed.plane.tick().unwrap();
    }
    // The next budget: some of it is cancelled.
    bed.plane.shed(&vip, address(1), 7).unwrap();
    let mut own = (0..FLOWS).filter(|port| before[usize::from(*port)] == real);
    let port = own.nth(20).unwrap();
    bed.data(port);
    assert_eq!(bed.plane.shed(&vip, address(1), 0).unwrap(), 6);
    for port in 0..FLOWS {
        bed.data(port);
    }
    assert_eq!(closed(&bed), (0, 11));
    // A service that is changed goes on shedding.
    bed.plane.shed(&vip, address(1), 5).unwrap();
    bed.set(&[(2, OnDown::Rehash)]);
    for port in 0..FLOWS {
        bed.data(port);
    }
    assert_eq!(closed(&bed).1, 16);
}

#[test]
fn shedding_fails_with_the_reason() {
    let mut bed = Testbed::new("10.0.0.1:80/tcp");
    let vip = bed.spec.vip;
    for (vip, real, word) in [
        ("10.0.0.1:80/tcp", "10.1.0.9", "real"),
        ("10.0.0.1:81/tcp", "10.1.0.1", "VIP"),
        ("10.0.0.1:80/udp", "10.1.0.1", "TCP"),
    ] {
        let error = bed
            .plane
            .shed(&vip.parse().unwrap(), real.parse().unwrap(), 1)
            .unwrap_err();
        assert!(
            matches!(error, DataplaneError::CannotShed { .. }) && error.to_string().contains(word),
            "{error}"
        );
    }
    bed.plane.shed(&vip, address(0), 1).unwrap();
}
