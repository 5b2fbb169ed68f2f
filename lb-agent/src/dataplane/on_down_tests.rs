//! Reals that die and come back, and flows that are shed: on the tables in memory.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use lb_common::{
    limits::ticks_from_millis,
    memory::Processed,
    reason::{ChosenBy, Reason},
};

use super::{
    Dataplane as _, DataplaneError, Forward, MemoryDataplane, NO_REAL, OnDown, Track,
    WantedService, WhenEmpty, hops::Neighbours, options::Options,
};

const SLOTS: u16 = 256;
const WINDOW: Duration = Duration::from_secs(60);
const REALS: [&str; 3] = ["10.1.0.1", "10.1.0.2", "10.1.0.3"];
/// Flows: each has a port.
const FLOWS: u16 = 300;

fn address(real: usize) -> IpAddr {
    REALS[real].parse().unwrap()
}

/// A plane with one service of three reals.
struct Stand {
    plane: MemoryDataplane,
    wanted: WantedService,
}

impl Stand {
    fn new(vip: &str) -> Stand {
        let plane = MemoryDataplane::new(&Options::new(Vec::new()), Box::new(Neighbours)).unwrap();
        let mut stand = Stand {
            plane,
            wanted: WantedService {
                vip: vip.parse().unwrap(),
                forward: Forward::Ipip,
                track: Track::Exceptions,
                window: WINDOW,
                reals: (0..REALS.len()).map(address).collect(),
                down: BTreeMap::new(),
                ring: Vec::new().into(),
                when_empty: WhenEmpty::Drop,
            },
        };
        stand.set(&[]);
        stand
    }

    /// Sets the service with these reals dead; a dead real's slots go to the next one that lives.
    fn set(&mut self, down: &[(usize, OnDown)]) {
        let dead = |real: usize| down.iter().any(|(of, _)| *of == real);
        self.wanted.ring = (0..usize::from(SLOTS))
            .map(|slot| {
                (0..REALS.len())
                    .map(|i| (slot + i) % REALS.len())
                    .find(|real| !dead(*real))
                    .map_or(NO_REAL, |real| real as u16)
            })
            .collect();
        self.wanted.down = down
            .iter()
            .map(|(real, fate)| (address(*real), *fate))
            .collect();
        self.plane.set_service(&self.wanted).unwrap();
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

    /// Opens every flow; the real of each by its index in the tables.
    fn open(&mut self) -> Vec<u16> {
        (0..FLOWS)
            .map(|port| self.send(port, Tcp::syn).real)
            .collect()
    }

    /// The index of a real in the tables, found by a mark.
    fn index(&self, real: usize) -> u16 {
        let mark = self
            .plane
            .mark_of(&self.wanted.vip, address(real))
            .expect("the real is there");
        mark as u16
    }

    /// Live flows of a real.
    fn live(&self, real: usize) -> u64 {
        let flows = self.plane.flows().unwrap();
        let of = flows.iter().find(|flows| flows.address == address(real));
        of.expect("the real is there").flows
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
    let mut stand = Stand::new("10.0.0.1:80/tcp");
    let before = stand.open();
    let dead = stand.index(1);
    stand.set(&[(1, OnDown::Rehash)]);
    assert_eq!(stand.plane.status().unsettled_slots, 0);
    for port in 0..FLOWS {
        let now = stand.data(port);
        assert_eq!(now.chosen_by, ChosenBy::Ring);
        assert_ne!(now.real, dead);
        if before[usize::from(port)] != dead {
            assert_eq!(now.real, before[usize::from(port)]);
        }
    }
}

#[test]
fn a_rehashed_exception_moves_too_and_does_not_come_back() {
    let mut stand = Stand::new("10.0.0.1:80/tcp");
    let before = stand.open();
    let dead = stand.index(1);
    // Its flows become exceptions of other slots, then it dies.
    stand.set(&[(1, OnDown::Keep)]);
    for port in 0..FLOWS {
        assert_eq!(stand.data(port).real, before[usize::from(port)]);
    }
    stand.set(&[(1, OnDown::Rehash)]);
    let moved: Vec<u16> = (0..FLOWS).map(|port| stand.data(port).real).collect();
    assert!(moved.iter().all(|real| *real != dead));
    // It lives again: its slots return to it, what moved stays where it is.
    stand.set(&[]);
    for port in 0..FLOWS {
        assert_eq!(stand.data(port).real, moved[usize::from(port)]);
    }
}

#[test]
fn a_dead_real_may_keep_its_flows() {
    let mut stand = Stand::new("10.0.0.1:80/tcp");
    let before = stand.open();
    let dead = stand.index(1);
    stand.set(&[(1, OnDown::Keep)]);
    stand.pass_window(|_| true);
    for port in 0..FLOWS {
        assert_eq!(stand.data(port).real, before[usize::from(port)]);
        assert_ne!(stand.send(1_000 + port, Tcp::syn).real, dead);
    }
}

/// Flows of a dead real are reset in the window and, where the table knows them, after it; new ones, and those
/// of others, never are; and when it is back, nothing is.
#[test]
fn flows_of_a_dead_real_are_reset_and_only_those() {
    for (track, window_passes) in [
        (Track::Exceptions, false),
        (Track::Exceptions, true),
        (Track::All, false),
        (Track::All, true),
    ] {
        let what = format!("{track:?}, after the window: {window_passes}");
        let mut stand = Stand::new("10.0.0.1:80/tcp");
        stand.wanted.track = track;
        stand.set(&[]);
        let before = stand.open();
        let dead = stand.index(1);
        let was_dead = |port: u16| before[usize::from(port)] == dead;
        // The table knows its flows, as it does after a change of weights.
        stand.set(&[(1, OnDown::Keep)]);
        for port in 0..FLOWS {
            assert_eq!(stand.data(port).real, before[usize::from(port)], "{what}");
        }
        stand.set(&[(1, OnDown::Reset)]);
        if window_passes {
            stand.pass_window(|port| !was_dead(port));
            // Back and dead again: whose its old flows are, nobody knows any more.
            stand.set(&[]);
            stand.set(&[(1, OnDown::Reset)]);
        }
        let mut reset = 0;
        for port in 0..FLOWS {
            let now = stand.data(port);
            if !was_dead(port) {
                assert_eq!(now.reason, Reason::ForwardedTx, "{what}");
                assert_eq!(now.real, before[usize::from(port)], "{what}");
            } else if window_passes {
                assert_eq!(now.reason, Reason::ForwardedTx, "{what}");
            } else {
                assert_eq!(now.reason, Reason::ResetDownReal, "{what}");
                // What was under way is reset again, and the reset of the client goes to nobody else.
                assert_eq!(stand.data(port).reason, Reason::ResetDownReal, "{what}");
                assert_eq!(stand.send(port, Tcp::rst).real, dead, "{what}");
            }
            reset += u16::from(now.reason == Reason::ResetDownReal);
        }
        assert!(window_passes || reset > FLOWS / 5, "{what}: {reset}");
        // The client connects anew, by the same port or another one.
        let anew: Vec<u16> = (0..FLOWS)
            .map(|port| stand.send(port, Tcp::syn).real)
            .collect();
        assert!(anew.iter().all(|real| *real != dead), "{what}");
        for port in 0..FLOWS {
            let now = stand.data(port);
            assert_eq!(
                (now.reason, now.real),
                (Reason::ForwardedTx, anew[usize::from(port)]),
                "{what}"
            );
        }
        // It is back, with its slots.
        stand.set(&[]);
        for port in 0..FLOWS {
            let now = stand.data(port);
            assert_eq!(
                (now.reason, now.real),
                (Reason::ForwardedTx, anew[usize::from(port)]),
                "{what}"
            );
        }
        stand.pass_window(|_| true);
        for port in 0..FLOWS {
            assert_eq!(stand.data(port).real, anew[usize::from(port)], "{what}");
        }
        let served = (0..FLOWS).any(|port| stand.send(2_000 + port, Tcp::syn).real == dead);
        assert!(served, "{what}: it takes new flows");
    }
}

/// The ends of a dead real's flows are not all seen; it must not be taken for busy with them when it is back.
#[test]
fn who_came_back_has_only_the_flows_that_were_heard_of_since() {
    for track in [Track::All, Track::Exceptions] {
        for fate in [OnDown::Rehash, OnDown::Reset, OnDown::Keep] {
            let what = format!("{track:?}, {fate:?}");
            let mut stand = Stand::new("10.0.0.1:80/tcp");
            stand.wanted.track = track;
            stand.set(&[]);
            let before = stand.open();
            let dead = stand.index(1);
            let had = before.iter().filter(|real| **real == dead).count() as u64;
            assert_eq!(stand.live(1), had, "{what}");
            stand.set(&[(1, fate)]);
            let kept = if fate == OnDown::Keep { had } else { 0 };
            assert_eq!(stand.live(1), kept, "{what}: dead");
            stand.plane.pass_time(1);
            stand.set(&[]);
            assert_eq!(stand.live(1), kept, "{what}: back");
            let counters = |stand: &Stand| stand.plane.stats().unwrap().services[0].reals[1].1;
            assert_eq!(counters(&stand).open(), kept, "{what}");
            let young = (0..FLOWS)
                .filter(|port| stand.send(5_000 + port, Tcp::syn).real == dead)
                .count() as u64;
            assert!(young > 0, "{what}");
            assert_eq!(stand.live(1), kept + young, "{what}: at work");
            assert_eq!(counters(&stand).open(), kept + young, "{what}");
        }
    }
}

#[test]
fn reals_that_die_one_after_the_other_are_told_apart() {
    let mut stand = Stand::new("10.0.0.1:80/tcp");
    let before = stand.open();
    let (first, second) = (stand.index(1), stand.index(2));
    stand.set(&[(1, OnDown::Reset)]);
    // Opened while the first is dead, in slots that remember it.
    let between: Vec<u16> = (0..FLOWS)
        .map(|port| stand.send(3_000 + port, Tcp::syn).real)
        .collect();
    stand.set(&[(1, OnDown::Reset), (2, OnDown::Reset)]);
    for port in 0..FLOWS {
        let old = before[usize::from(port)];
        let dead = old == first || old == second;
        assert_eq!(
            stand.data(port).reason == Reason::ResetDownReal,
            dead,
            "{old}"
        );
        let young = between[usize::from(port)];
        let now = stand.data(3_000 + port);
        assert_eq!(now.real, young);
        assert_eq!(now.reason == Reason::ResetDownReal, young == second);
    }
    // One fate becomes another.
    stand.set(&[(1, OnDown::Rehash), (2, OnDown::Keep)]);
    for port in 0..FLOWS {
        let now = stand.data(port);
        assert_eq!(now.reason, Reason::ForwardedTx);
        assert_ne!(now.real, first);
    }
}

#[test]
fn without_a_real_packets_are_dropped_or_reset() {
    let mut stand = Stand::new("10.0.0.1:80/tcp");
    stand.open();
    let all = |fate| [(0, fate), (1, fate), (2, fate)];
    stand.set(&all(OnDown::Rehash));
    assert_eq!(stand.data(1).reason, Reason::NoReal);
    assert_eq!(stand.send(1, Tcp::syn).reason, Reason::NoReal);
    stand.wanted.when_empty = WhenEmpty::Reset;
    stand.set(&all(OnDown::Rehash));
    assert_eq!(stand.data(1).reason, Reason::ResetNoReal);
    assert_eq!(stand.send(1, Tcp::syn).reason, Reason::ResetNoReal);
    assert_eq!(stand.send(1, Tcp::rst).reason, Reason::NoReal);
    stand.wanted.when_empty = WhenEmpty::Drop;
    stand.set(&[]);
    stand.open();
    stand.set(&all(OnDown::Reset));
    assert_eq!(stand.data(1).reason, Reason::ResetDownReal);
    assert_eq!(stand.send(1, Tcp::syn).reason, Reason::NoReal);
    stand.set(&[(0, OnDown::Rehash)]);
    assert_eq!(stand.send(1, Tcp::syn).reason, Reason::ForwardedTx);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let mut stand = Stand::new("10.0.0.1:80/tcp");
    let mut wanted = stand.wanted.clone();
    wanted.down.insert(address(1), OnDown::Reset);
    let error = stand.plane.set_service(&wanted).unwrap_err();
    assert!(format!("{error}").contains("down"), "{error}");
    let mut wanted = stand.wanted.clone();
    wanted
        .down
        .insert("10.9.9.9".parse().unwrap(), OnDown::Keep);
    let error = stand.plane.set_service(&wanted).unwrap_err();
    assert!(format!("{error}").contains("10.9.9.9"), "{error}");
}

#[test]
fn so_many_flows_are_shed_and_no_more() {
    let mut stand = Stand::new("10.0.0.1:80/tcp");
    let before = stand.open();
    let real = stand.index(1);
    let vip = stand.wanted.vip;
    assert_eq!(stand.plane.shed(&vip, address(1), 10).unwrap(), 0);
    let closed = |stand: &Stand| {
        let stats = stand.plane.stats().unwrap();
        let of = |at: usize| stats.services[0].reals[at].1.closed;
        (of(0) + of(2), of(1))
    };
    for _ in 0..3 {
        for port in 0..FLOWS {
            let now = stand.data(port);
            assert_eq!(now.reason, Reason::ForwardedTx);
            assert_eq!(now.real, before[usize::from(port)]);
        }
        assert_eq!(closed(&stand), (0, 10));
        stand.plane.tick().unwrap();
    }
    // The next order: some of it is called off.
    stand.plane.shed(&vip, address(1), 7).unwrap();
    let mut own = (0..FLOWS).filter(|port| before[usize::from(*port)] == real);
    let port = own.nth(20).unwrap();
    stand.data(port);
    assert_eq!(stand.plane.shed(&vip, address(1), 0).unwrap(), 6);
    for port in 0..FLOWS {
        stand.data(port);
    }
    assert_eq!(closed(&stand), (0, 11));
    // A service that is set anew sheds on.
    stand.plane.shed(&vip, address(1), 5).unwrap();
    stand.set(&[(2, OnDown::Rehash)]);
    for port in 0..FLOWS {
        stand.data(port);
    }
    assert_eq!(closed(&stand).1, 16);
}

#[test]
fn what_cannot_be_shed_is_told() {
    let mut stand = Stand::new("10.0.0.1:80/tcp");
    let vip = stand.wanted.vip;
    for (vip, real, word) in [
        ("10.0.0.1:80/tcp", "10.1.0.9", "real"),
        ("10.0.0.1:81/tcp", "10.1.0.1", "VIP"),
        ("10.0.0.1:80/udp", "10.1.0.1", "TCP"),
    ] {
        let error = stand
            .plane
            .shed(&vip.parse().unwrap(), real.parse().unwrap(), 1)
            .unwrap_err();
        assert!(
            matches!(error, DataplaneError::CannotShed { .. }) && error.to_string().contains(word),
            "{error}"
        );
    }
    stand.plane.shed(&vip, address(0), 1).unwrap();
}
