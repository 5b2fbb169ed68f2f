//! Forwarding under changes: numbered packets through the wire, each of which must come back once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lb_dataplane::{Dataplane as _, KernelDataplane};
use lb_tests::PacketSocket;

use crate::bench::{Bench, frame, service, simulate_until};

/// A packet socket on the neighbour's `far`.
pub struct Wire(PacketSocket);

impl Wire {
    pub fn of(bench: &Bench) -> Wire {
        let socket = bench.neighbour.enter(|| PacketSocket::open("far"));
        Wire(socket.unwrap().unwrap())
    }
}

/// The outer header of a forwarded packet, over IPv4.
#[derive(Clone, Copy)]
pub enum Outer {
    Ip4,
    /// With this destination port.
    Udp(u16),
}

impl Outer {
    fn is_of(self, frame: &[u8]) -> bool {
        frame.len() > 42
            && frame[12..14] == [8, 0]
            && match self {
                Outer::Ip4 => frame[23] == 4,
                Outer::Udp(port) => frame[23] == 17 && frame[36..38] == port.to_be_bytes(),
            }
    }
}

/// Sends packets of a client to the VIP over the wire until one comes back in an outer header; each is
/// given a second, the first may meet an interface that is not up yet.
pub fn packet_comes_back(bench: &Bench, wire: &Wire, vip: &str, header: Outer) {
    const ATTEMPTS: u32 = 10;
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let mut buffer = [0; 2_048];
    for _ in 0..ATTEMPTS {
        // A number of its own: an earlier packet that comes late is not taken for this one.
        let number = (NUMBER.fetch_add(1, Ordering::Relaxed) as u32 | 0x8000_0000).to_be_bytes();
        let mut bytes = frame("198.51.100.7", 1_000, vip, false);
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&number);
        wire.0.send(&bytes).unwrap();
        let give_up = Instant::now() + Duration::from_secs(1);
        while Instant::now() < give_up {
            let Some(length) = wire.0.receive(&mut buffer).unwrap() else {
                continue;
            };
            if header.is_of(&buffer[..length]) && buffer[length - 4..length] == number {
                return;
            }
        }
    }
    panic!("no packet came back with pins in {}", bench.pins.display());
}

/// Clients' ports, each of which is a flow.
const FLOWS: u16 = 64;
/// The first of them.
const FIRST_PORT: u16 = 1_000;
/// A packet that has not come back by then is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the sender saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets sent.
    pub sent: u64,
    /// Packets that came back in an outer header.
    pub returned: u64,
    /// Packets that came back once more, or too late.
    pub unexpected: u64,
    /// Packets that went to another real than the packet before them of the same flow.
    pub moved: u64,
}

impl Traffic {
    /// Panics unless each packet came back once, to its flow's real.
    pub fn assert_complete(&self) {
        eprintln!("{self:?}");
        let expected = Traffic {
            sent: self.sent,
            returned: self.sent,
            ..Traffic::default()
        };
        assert_eq!(*self, expected);
    }
}

/// Sends numbered packets of [`FLOWS`] flows to a VIP, one at a time, from the neighbour's namespace.
pub struct Sender<'scope> {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<std::thread::ScopedJoinHandle<'scope, Traffic>>,
}

impl<'scope> Sender<'scope> {
    /// Starts it and waits for the first packets to return.
    pub fn start<'env: 'scope>(
        scope: &'scope std::thread::Scope<'scope, 'env>,
        bench: &'env Bench,
        vip: &'static str,
    ) -> Sender<'scope> {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let neighbour = &bench.neighbour;
        let thread = scope.spawn(move || {
            neighbour
                .enter(move || send(vip, &stopped, &counter))
                .unwrap()
        });
        let sender = Sender {
            stop,
            sent,
            thread: Some(thread),
        };
        sender.wait_sent(100);
        sender
    }

    /// Packets that have returned at least.
    pub fn returned(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Waits until so many further packets were sent.
    pub fn wait_sent(&self, count: u64) {
        let goal = self.returned() + count;
        let give_up = Instant::now() + 6 * PATIENCE;
        while self.returned() < goal {
            assert!(Instant::now() < give_up, "the sender stands still");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it.
    pub fn stop(mut self) -> Traffic {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Sender<'_> {
    /// Ends the sender however its test ends.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn send(vip: &str, stop: &AtomicBool, done: &AtomicU64) -> Traffic {
    let socket = PacketSocket::open("far").unwrap();
    let mut traffic = Traffic::default();
    let mut reals = vec![None; usize::from(FLOWS)];
    let mut buffer = [0; 2_048];
    while !stop.load(Ordering::Relaxed) {
        let flow = (traffic.sent % u64::from(FLOWS)) as u16;
        let number = (traffic.sent as u32).to_be_bytes();
        let mut bytes = frame("198.51.100.7", FIRST_PORT + flow, vip, false);
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&number);
        socket.send(&bytes).unwrap();
        traffic.sent += 1;
        let give_up = Instant::now() + PATIENCE;
        let mut back = false;
        while !back && Instant::now() < give_up {
            let Some(length) = socket.receive(&mut buffer).unwrap() else {
                continue;
            };
            // The balancer's packets have an outer IPv4 header.
            if length > 34 && buffer[12..14] == [8, 0] && buffer[23] == 4 {
                if buffer[length - 4..length] == number {
                    back = true;
                    let real: [u8; 4] = buffer[30..34].try_into().unwrap();
                    let before = reals[usize::from(flow)].replace(real);
                    traffic.moved += u64::from(before.is_some_and(|before| before != real));
                } else {
                    traffic.unexpected += 1;
                }
            }
        }
        traffic.returned += u64::from(back);
        done.store(traffic.returned, Ordering::SeqCst);
    }
    traffic
}

pub fn no_packet_is_lost_while_tables_grow_and_agents_change() {
    const VIP: &str = "192.0.2.1:9000/udp";
    let bench = Bench::new();
    let _passing = bench.start_passing();
    let mut plane = bench.start();
    plane
        .set_service(&service(VIP, &["10.7.0.2", "10.7.0.3"], 256))
        .unwrap();
    reals_are_reachable(&mut plane, VIP);
    std::thread::scope(|scope| {
        let sender = Sender::start(scope, &bench, VIP);
        // Growth of every table that grows, then two new agents.
        let generation = plane.status().generation;
        for number in 0..300_u32 {
            let vip = format!("192.0.{}.{}:80/tcp", 3 + number / 200, 1 + number % 200);
            plane
                .set_service(&service(
                    &vip,
                    &["10.7.0.2", "10.7.0.3", "10.7.0.4", "10.7.0.5"],
                    1_024,
                ))
                .unwrap();
        }
        assert!(plane.status().generation > generation);
        // Counters go over to the larger tables.
        let at_least = sender.returned();
        let stats = plane.stats().unwrap();
        let name = VIP.parse().unwrap();
        let counted = stats
            .services
            .iter()
            .find(|of| of.vip == name)
            .unwrap()
            .total
            .packets;
        assert!(
            counted >= at_least,
            "{counted} counted, {at_least} came back"
        );
        for _ in 0..2 {
            drop(plane);
            plane = bench.start();
            assert!(plane.status().adopted);
            plane.tick().unwrap();
        }
        sender.stop().assert_complete();
    });
}

/// Waits until every flow of the sender reaches a real.
pub fn reals_are_reachable(plane: &mut KernelDataplane, vip: &str) {
    for port in 0..FLOWS {
        let frame = frame("198.51.100.7", FIRST_PORT + port, vip, false);
        simulate_until(plane, &frame, |seen| {
            seen.packet.len() > 60 && seen.real.is_some()
        });
    }
}
