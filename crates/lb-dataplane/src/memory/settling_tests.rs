//! Flows with known reals, through random changes of the ring, deaths of reals and of the agent, and floods: on the
//! tables in memory.
//!
//! After each step the tables must tell the truth about every slot: the flow table has no exception in a settled slot, and
//! elsewhere none of another class than the slot's.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use lb_common::{
    flow_table::{alive, usable},
    limits::ticks_from_millis,
    memory::Processed,
    reason::Reason,
    tables::{
        flow::{real_of as real_of_flow, ring_bits},
        ring::{Previous, class_of, previous_of, real_of},
    },
};
use lb_model::{
    options::{Forward, OnDown, Track},
    ring::{Algorithm, NO_REAL},
    vip::RealId,
};

use super::MemoryDataplane;
use crate::{
    Dataplane as _, ServiceSpec, SlotStates, Terms, backend::TableBackend as _,
    engine::QUIESCENCE_TICKS, options::Options, resolver::AllNeighbours,
};

const SLOTS: u16 = 256;
const WINDOW: Duration = Duration::from_secs(60);
const REALS: u16 = 6;
const FLOWS: usize = 300;

fn ticks(seconds: u64) -> u32 {
    ticks_from_millis(seconds * 1_000)
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

fn address(real: u16) -> RealId {
    IpAddr::from([10, 1, 0, real as u8]).into()
}

/// A flow as its client knows it.
#[derive(Clone, Copy, Debug)]
struct Flow {
    port: u16,
    /// The index of its real in the tables.
    real: u16,
    /// Its last packet.
    sent: u32,
}

struct Testbed {
    plane: Option<MemoryDataplane>,
    options: Options,
    spec: ServiceSpec,
    /// The real of each slot; of a ring of Katran's, of each 256th of the slots.
    ring: Vec<u16>,
    down: BTreeMap<u16, OnDown>,
    flows: Vec<Option<Flow>>,
    next_port: u16,
    now: u32,
    random: Random,
    forged: u32,
    restarts: u32,
    /// Whether agents may die.
    mortal: bool,
}

impl Testbed {
    fn new(vip: &str, algorithm: Algorithm, seed: u64) -> Testbed {
        let options = Options {
            flow_entries: 16_384,
            ..Options::new(Vec::new())
        };
        let plane = MemoryDataplane::new(&options, Box::new(AllNeighbours)).unwrap();
        let mut bed = Testbed {
            plane: Some(plane),
            options,
            spec: ServiceSpec {
                vip: vip.parse().unwrap(),
                forward: Forward::Ipip,
                terms: Terms {
                    ring: algorithm,
                    ..Terms::default()
                },
                track: Track::Exceptions,
                window: WINDOW,
                reals: (0..REALS).map(address).collect(),
                down: BTreeMap::new(),
                ring: Vec::new().into(),
            },
            ring: vec![0; usize::from(SLOTS)],
            down: BTreeMap::new(),
            flows: vec![None; FLOWS],
            next_port: 1_000,
            now: 0,
            random: Random(seed),
            forged: 0,
            restarts: 0,
            mortal: true,
        };
        bed.set();
        bed
    }

    fn plane(&mut self) -> &mut MemoryDataplane {
        self.plane.as_mut().expect("an agent runs")
    }

    fn is_tcp(&self) -> bool {
        self.spec.vip.to_string().ends_with("tcp")
    }

    /// The spec of the ring and the deaths as they are now; a dead real's slots go to the next one that lives.
    fn set(&mut self) {
        let ring = self
            .ring
            .iter()
            .map(|real| {
                (0..REALS)
                    .map(|i| (real + i) % REALS)
                    .find(|real| !self.down.contains_key(real))
                    .unwrap_or(NO_REAL)
            })
            .collect();
        self.spec.ring = self.spread(ring);
        let down = self.down.iter();
        self.spec.down = down
            .map(|(real, policy)| (address(*real), *policy))
            .collect();
        let spec = self.spec.clone();
        self.as_agent(|plane| plane.set_service(&spec).unwrap());
    }

    /// The ring with as many slots as its algorithm wants.
    fn spread(&self, ring: Vec<u16>) -> Arc<[u16]> {
        match self.spec.terms.ring.fixed_slots() {
            None => ring.into(),
            Some(slots) => (0..slots as usize)
                .map(|slot| ring[slot * ring.len() / slots as usize])
                .collect(),
        }
    }

    fn tick(&mut self) {
        self.as_agent(|plane| plane.tick().unwrap());
    }

    fn settle_unused(&mut self) {
        self.as_agent(|plane| plane.settle_unused().unwrap());
    }

    /// Lets the agent do something. Now and then it dies half-way, and another one does it on the tables as they are.
    fn as_agent(&mut self, act: impl Fn(&mut MemoryDataplane)) {
        if !self.mortal || !self.random.one_in(12) {
            return act(self.plane());
        }
        let stores = self.random.below(60) as u32;
        let mut plane = self.plane.take().expect("an agent runs");
        plane.engine.backend_mut().die_after(Some(stores));
        let died = catch_unwind(AssertUnwindSafe(|| act(&mut plane))).is_err();
        plane.engine.backend_mut().die_after(None);
        let killed = died || self.random.one_in(2);
        let plane = plane.restart(&self.options, Box::new(AllNeighbours), killed);
        self.plane = Some(plane.unwrap());
        self.restarts += 1;
        self.check("after a restart");
        let spec = self.spec.clone();
        self.plane().set_service(&spec).unwrap();
        act(self.plane());
    }

    fn index(&mut self, real: u16) -> u16 {
        let vip = self.spec.vip;
        let mark = self.plane().mark_of(&vip, address(real));
        mark.expect("the service has the real") as u16
    }

    fn frame(&mut self, source: [u8; 4], port: u16, flags: fn(Tcp) -> Tcp) -> Processed {
        let builder =
            etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(source, [10, 0, 0, 1], 64);
        let mut frame = Vec::new();
        if self.is_tcp() {
            flags(builder.tcp(port, 80, 1, 1_024))
                .write(&mut frame, b"data")
                .unwrap();
        } else {
            builder.udp(port, 80).write(&mut frame, b"data").unwrap();
        }
        self.plane().forward(&frame).0
    }

    fn send(&mut self, port: u16, flags: fn(Tcp) -> Tcp) -> Processed {
        self.frame([198, 51, 100, 7], port, flags)
    }

    /// A flow begins, from a port of its own or, for TCP, from that of the flow before.
    fn open(&mut self, at: usize) {
        let before = self.flows[at];
        let port = match before {
            Some(flow) if self.is_tcp() => flow.port,
            _ => {
                self.next_port += 1;
                self.next_port
            }
        };
        if before.is_some() {
            self.send(port, |tcp| tcp.ack(1).rst());
        }
        let opened = self.send(port, Tcp::syn);
        assert_eq!(opened.reason, Reason::ForwardedTx);
        let sent = self.now;
        self.flows[at] = Some(Flow {
            port,
            real: opened.real,
            sent,
        });
        if self.is_tcp() {
            self.data(at);
        }
    }

    /// A flow's packet must reach its real.
    fn data(&mut self, at: usize) {
        let Some(flow) = self.flows[at] else {
            return;
        };
        let seen = self.send(flow.port, |tcp| tcp.ack(1).psh());
        assert_eq!(
            (seen.reason, seen.real),
            (Reason::ForwardedTx, flow.real),
            "{flow:?} at {} by {:?}",
            self.now,
            seen.chosen_by
        );
        self.flows[at] = Some(Flow {
            sent: self.now,
            ..flow
        });
    }

    /// Time passes; each flow sends a packet at least twice in a window.
    fn pass(&mut self, ticks: u32) {
        self.now += ticks;
        self.plane().pass_time(ticks);
        let patience = self.spec.window_ticks() / 3;
        for at in 0..FLOWS {
            let silent = self.flows[at].map_or(0, |flow| self.now - flow.sent);
            if silent > patience || self.random.one_in(5) {
                self.data(at);
            }
        }
    }

    /// Forged packets, each of another source.
    fn flood(&mut self, packets: u32, flags: fn(Tcp) -> Tcp) {
        for _ in 0..packets {
            self.forged += 1;
            let [_, a, b, c] = self.forged.to_be_bytes();
            self.frame([203, a, b, c], 4_000, flags);
        }
    }

    /// Whether the tables tell the truth about every slot.
    fn check(&mut self, when: &str) {
        let backend = self.plane().engine.backend();
        let tables = backend.raw_tables();
        let mut slots: HashMap<u32, Vec<u32>> = HashMap::new();
        for flow in tables.live_flows() {
            let real = backend.real(u32::from(real_of_flow(flow.owner)));
            let service = backend.service(real.service);
            if !usable(&real, real.service) || !alive(flow.stamp, backend.now(), service.window) {
                continue;
            }
            let (first, count) = (service.ring as u32, (service.ring >> 32) as u32);
            if count == 0 {
                continue;
            }
            let at = ((u64::from(ring_bits(flow.stamp)) * u64::from(count)) >> 20) as u32;
            let slot = backend.slot(first + at);
            if real_of(slot) == real_of_flow(flow.owner) {
                continue;
            }
            match previous_of(slot) {
                Previous::Real(_) => {}
                state => assert!(
                    state.may_differ(flow.stamp),
                    "{when}: slot {at} is {state:?} and has an exception of class {}",
                    class_of(flow.stamp)
                ),
            }
            slots.entry(at).or_default().push(class_of(flow.stamp));
        }
    }

    fn states(&mut self) -> SlotStates {
        self.plane().status().slots
    }

    /// Forgets the flows of a real.
    fn lose(&mut self, real: u16) {
        for flow in &mut self.flows {
            if flow.is_some_and(|flow| flow.real == real) {
                *flow = None;
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=6 => {
                // Weights move by little, and seldom by much; slots come back, too.
                let slots = if self.random.one_in(6) { 80 } else { 6 };
                for _ in 0..slots {
                    let (slot, real) =
                        (self.random.below(256), self.random.below(u64::from(REALS)));
                    let real = if self.random.one_in(2) {
                        slot % 3
                    } else {
                        real
                    };
                    self.ring[slot as usize] = real as u16;
                }
                self.set();
            }
            7..=11 => {
                for _ in 0..20 {
                    let at = self.random.below(FLOWS as u64) as usize;
                    self.open(at);
                }
            }
            12 => {
                let real = self.random.below(u64::from(REALS)) as u16;
                if self.down.remove(&real).is_none() && self.down.is_empty() {
                    let policy = [OnDown::Rehash, OnDown::Keep, OnDown::Reset];
                    let policy = policy[self.random.below(3) as usize];
                    let index = self.index(real);
                    self.down.insert(real, policy);
                    if policy != OnDown::Keep {
                        self.lose(index);
                    }
                }
                self.set();
            }
            13 => {
                let real = self.random.below(u64::from(REALS)) as u16;
                if !self.down.contains_key(&real) {
                    // It is deleted and added again: another real with the same address.
                    let index = self.index(real);
                    let ring = self.ring.clone();
                    let reals = std::mem::take(&mut self.spec.reals);
                    self.spec.reals = reals
                        .iter()
                        .copied()
                        .filter(|other| *other != address(real))
                        .collect();
                    let names = self.spec.reals.clone();
                    let position = |of: u16| names.iter().position(|name| *name == address(of));
                    let heir = (0..REALS)
                        .find(|other| *other != real && !self.down.contains_key(other))
                        .expect("at most one is down");
                    let ring = ring
                        .iter()
                        .map(|of| {
                            let of = if *of == real || self.down.contains_key(of) {
                                heir
                            } else {
                                *of
                            };
                            position(of).map_or(NO_REAL, |position| position as u16)
                        })
                        .collect();
                    self.spec.ring = self.spread(ring);
                    let spec = self.spec.clone();
                    self.lose(index);
                    self.as_agent(|plane| plane.set_service(&spec).unwrap());
                    self.spec.reals = reals;
                    self.set();
                }
            }
            14 => self.flood(300, Tcp::syn),
            15 => self.flood(100, |tcp| tcp.ack(1)),
            _ => {}
        }
        let pause = self.random.below(u64::from(ticks(8))) as u32;
        self.pass(pause);
        if self.random.one_in(2) {
            self.settle_unused();
        }
        self.tick();
        self.check("after a tick");
    }
}

type Tcp = etherparse::PacketBuilderStep<etherparse::TcpHeader>;

fn play(vip: &str, algorithm: Algorithm, seeds: std::ops::Range<u64>) {
    let (mut restarts, mut settled, mut filtered) = (0, 0, 0);
    for seed in seeds {
        let mut bed = Testbed::new(vip, algorithm, seed);
        bed.pass(10);
        bed.tick();
        for step in 0..150 {
            bed.step();
            if step % 10 == 9 {
                for at in 0..FLOWS {
                    bed.data(at);
                }
                let states = bed.states();
                settled += states.settled;
                let backend = bed.plane().engine.backend();
                filtered += (0..backend.sizes().ring_slots)
                    .filter(|slot| match previous_of(backend.slot(*slot)) {
                        Previous::Exceptions(classes) => classes.share() < 1.0,
                        Previous::Settled | Previous::Real(_) => false,
                    })
                    .count();
            }
        }
        // When nothing changes any more, only what has exceptions is looked up.
        bed.mortal = false;
        for _ in 0..12 {
            bed.pass(ticks(8));
            bed.tick();
        }
        bed.check("at the end");
        let states = bed.states();
        assert_eq!(states.in_window, 0, "seed {seed}: {states:?}");
        bed.flows = vec![None; FLOWS];
        for _ in 0..12 {
            bed.pass(ticks(8));
            bed.tick();
        }
        let states = bed.states();
        assert_eq!(states.unsettled(), 0, "seed {seed}: {states:?}");
        restarts += bed.restarts;
    }
    assert!(
        restarts > 20 && settled > 0 && filtered > 100,
        "{restarts} {settled} {filtered}"
    );
}

#[test]
fn no_tcp_flow_changes_its_real() {
    play("10.0.0.1:80/tcp", Algorithm::Rendezvous, 0..12);
}

#[test]
fn no_flow_of_a_ring_of_katrans_changes_its_real() {
    play("10.0.0.1:80/tcp", Algorithm::MaglevKatran, 200..204);
    play("10.0.0.1:80/udp", Algorithm::MaglevKatran, 300..303);
}

#[test]
fn no_udp_flow_changes_its_real() {
    play("10.0.0.1:80/udp", Algorithm::Rendezvous, 100..110);
}

/// A service whose reals were added one by one, each with an equal share of the ring, before any traffic.
fn built_one_by_one(vip: &str, reals: u16) -> Testbed {
    let mut bed = Testbed::new(vip, Algorithm::Rendezvous, 7);
    bed.mortal = false;
    bed.flows.clear();
    for count in 1..=reals {
        bed.spec.reals = (0..count).map(address).collect();
        bed.spec.ring = (0..4_096)
            .map(|slot| (slot * 31 % usize::from(count)) as u16)
            .collect();
        let spec = bed.spec.clone();
        bed.plane().set_service(&spec).unwrap();
        bed.wait(ticks(1) / 4);
    }
    bed
}

impl Testbed {
    /// Time passes without a packet.
    fn wait(&mut self, ticks: u32) {
        self.now += ticks;
        self.plane().pass_time(ticks);
    }

    /// Seconds pass without a packet.
    fn idle(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.wait(ticks(1));
            self.tick();
        }
    }
}

#[test]
fn a_fresh_vip_of_a_hundred_reals_settles_at_once() {
    for vip in ["10.0.0.1:80/tcp", "10.0.0.1:80/udp"] {
        let mut bed = built_one_by_one(vip, 100);
        assert!(bed.states().unsettled() > 4_000, "{vip}");
        // UDP tracks all flows until nothing has changed for 10 s.
        bed.idle(if bed.is_tcp() { 2 } else { 13 });
        assert_eq!(bed.states().unsettled(), 0, "{vip}");
        for port in 0..500 {
            let seen = bed.send(2_000 + port, Tcp::syn);
            assert_eq!(seen.chosen_by, lb_common::reason::ChosenBy::Ring, "{vip}");
        }
        let stats = bed.plane().stats().unwrap();
        let service = &stats.services[0];
        assert_eq!((service.table_hits, service.table_misses), (0, 0), "{vip}");
        // With traffic, the next change opens windows.
        bed.spec.ring = vec![0; 4_096].into();
        let spec = bed.spec.clone();
        bed.plane().set_service(&spec).unwrap();
        bed.idle(3);
        let used = bed.plane().stats().unwrap().services[0]
            .reals
            .iter()
            .filter(|real| real.counters.packets > 0)
            .count();
        assert!(used > 90, "{vip}: {used}");
        assert!(bed.states().in_window > 3_000, "{vip}");
    }
}

#[test]
fn a_fresh_vip_settles_before_the_next_tick() {
    let mut bed = built_one_by_one("10.0.0.1:80/tcp", 20);
    assert!(bed.plane().awaits_settling());
    // The first call ends windows, the second one settles.
    for unsettled in [true, false] {
        bed.wait(QUIESCENCE_TICKS);
        bed.plane().settle_unused().unwrap();
        assert_eq!(bed.states().unsettled() > 0, unsettled);
        assert_eq!(bed.plane().awaits_settling(), unsettled);
    }
    for port in 0..500 {
        let seen = bed.send(2_000 + port, Tcp::syn);
        assert_eq!(seen.chosen_by, lb_common::reason::ChosenBy::Ring);
    }
    // It carries packets now, so the next change is a matter for the tick.
    bed.spec.ring = vec![0; 4_096].into();
    let spec = bed.spec.clone();
    bed.plane().set_service(&spec).unwrap();
    bed.wait(QUIESCENCE_TICKS);
    bed.plane().settle_unused().unwrap();
    assert!(!bed.plane().awaits_settling());
    assert!(bed.states().in_window > 3_000);
}

#[test]
fn packets_under_way_keep_a_fresh_vip_from_settling() {
    let mut bed = built_one_by_one("10.0.0.1:80/tcp", 4);
    bed.idle(3);
    bed.spec.ring = bed.spec.ring.iter().map(|real| (real + 1) % 4).collect();
    let spec = bed.spec.clone();
    bed.plane().set_service(&spec).unwrap();
    bed.wait(QUIESCENCE_TICKS - 1);
    bed.plane().settle_unused().unwrap();
    assert_eq!(bed.states().in_window, 4_096);
    bed.wait(1);
    bed.plane().settle_unused().unwrap();
    let states = bed.states();
    assert_eq!((states.in_window, states.exceptions), (0, 4_096));
    // Its first flow may have begun in one of the windows.
    bed.flows = vec![None; FLOWS];
    bed.open(0);
    bed.wait(QUIESCENCE_TICKS);
    bed.plane().settle_unused().unwrap();
    assert_eq!(bed.states(), states, "a sweep has to look for exceptions");
    bed.idle(2);
    assert_eq!(bed.states().unsettled(), 0);
    bed.data(0);
}

#[test]
fn no_flow_changes_its_real_while_its_vip_is_built() {
    let mut settled = 0;
    for (seed, vip) in (0..60).zip(
        ["10.0.0.1:80/tcp", "10.0.0.1:80/tcp", "10.0.0.1:80/udp"]
            .iter()
            .cycle(),
    ) {
        let mut bed = Testbed::new(vip, Algorithm::Rendezvous, 1_000 + seed);
        let steps = 3 + bed.random.below(6);
        let first_flows = bed.random.below(steps);
        for step in 0..steps {
            for slot in 0..usize::from(SLOTS) {
                if bed.random.one_in(3) {
                    bed.ring[slot] = bed.random.below((step + 2).min(u64::from(REALS))) as u16;
                }
            }
            bed.set();
            for _ in 0..bed.random.below(5) {
                let pause = bed.random.below(12) as u32;
                bed.pass(pause);
                match bed.random.below(4) {
                    0 => bed.tick(),
                    1 => {}
                    _ => bed.settle_unused(),
                }
                bed.check("while it is built");
                if step >= first_flows {
                    for _ in 0..10 {
                        let at = bed.random.below(FLOWS as u64) as usize;
                        bed.open(at);
                    }
                }
            }
            settled += u64::from(bed.states().unsettled() == 0);
        }
        for _ in 0..20 {
            bed.step();
        }
        for at in 0..FLOWS {
            bed.data(at);
        }
    }
    assert!(settled > 10, "{settled}");
}

#[test]
fn a_udp_flow_that_begins_while_reals_are_added_does_not_go_to_the_first_of_them() {
    let mut bed = built_one_by_one("10.0.0.1:80/udp", 50);
    bed.send(1_999, Tcp::syn);
    bed.idle(20);
    let mut reals: Vec<u16> = (0..500)
        .map(|port| bed.send(2_000 + port, Tcp::syn).real)
        .collect();
    reals.sort_unstable();
    reals.dedup();
    assert!(reals.len() > 40, "{}", reals.len());
    assert_eq!(bed.states().unsettled(), 4_096, "every flow is tracked");
}

#[test]
fn only_the_slots_of_reals_without_a_packet_settle_early() {
    let mut bed = built_one_by_one("10.0.0.1:80/tcp", 4);
    bed.idle(3);
    let index = bed.index(2);
    let ports: Vec<u16> = (2_000..3_000).collect();
    for port in ports {
        // One real stays without a flow, as far as the ring is asked.
        let frame_real = bed.plane.as_mut().map(|plane| {
            let mut frame = Vec::new();
            etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4([198, 51, 100, 7], [10, 0, 0, 1], 64)
                .tcp(port, 80, 1, 1_024)
                .syn()
                .write(&mut frame, b"")
                .unwrap();
            plane.simulate(None, &frame).unwrap().real
        });
        if frame_real != Some(Some(address(2))) {
            bed.send(port, Tcp::syn);
        }
    }
    assert!(index > 0);
    bed.spec.ring = bed.spec.ring.iter().map(|real| (real + 1) % 4).collect();
    let spec = bed.spec.clone();
    bed.plane().set_service(&spec).unwrap();
    assert_eq!(bed.states().in_window, 4_096);
    bed.idle(3);
    let states = bed.states();
    assert_eq!(states.in_window, 3_072, "{states:?}");
    assert_eq!(states.settled, 1_024, "{states:?}");
}

#[test]
fn a_balancer_that_stands_by_keeps_its_windows() {
    let mut bed = built_one_by_one("10.0.0.1:80/tcp", 4);
    bed.idle(90);
    assert_eq!(bed.states().unsettled(), 0);
    bed.spec.ring = vec![1; 4_096].into();
    let spec = bed.spec.clone();
    bed.plane().set_service(&spec).unwrap();
    bed.idle(10);
    assert_eq!(
        bed.states().in_window,
        3_072,
        "another balancer may have flows"
    );
    bed.idle(70);
    assert_eq!(bed.states().unsettled(), 0);
}

#[test]
fn a_restarted_agent_settles_a_fresh_vip_too() {
    let mut bed = built_one_by_one("10.0.0.1:80/tcp", 20);
    let plane = bed.plane.take().unwrap();
    let plane = plane.restart(&bed.options, Box::new(AllNeighbours), true);
    bed.plane = Some(plane.unwrap());
    assert!(bed.states().in_window > 3_000);
    bed.idle(2);
    assert_eq!(bed.states().unsettled(), 0);
}
