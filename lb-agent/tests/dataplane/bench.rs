//! A balancer's namespace and a neighbour's, joined by two veth pairs, and a folder of pins.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use lb_dataplane::netlink::NextHops;
use lb_dataplane::{
    Dataplane, DataplaneError, KernelDataplane, ServiceSpec, Simulation, Terms, detach,
    options::{Options, XdpMode},
};
use lb_model::options::{Forward, Track};
use lb_tests::Namespace;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Runs `ip` with these words in a namespace.
pub fn ip(namespace: &Namespace, words: &str) {
    namespace.sh(&format!("ip {words}")).unwrap();
}

/// The test bench.
pub struct Bench {
    pub balancer: Namespace,
    pub neighbour: Namespace,
    pub pins: PathBuf,
}

impl Bench {
    /// `front` (10.7.0.1/24, fd07::1/64) leads to the neighbour's `far` (10.7.0.2 to .9, fd07::2), `back`
    /// (10.8.0.1/24) to its `rear` (10.8.0.2).
    pub fn new() -> Bench {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let pins = PathBuf::from(format!(
            "/sys/fs/bpf/lb-test-{}-{number}",
            std::process::id()
        ));
        // A killed run may have had this number.
        let _ = std::fs::remove_dir_all(&pins);
        let bench = Bench {
            balancer: Namespace::new("balancer").unwrap(),
            neighbour: Namespace::new("neighbour").unwrap(),
            pins,
        };
        for (ours, theirs, net, net6) in [
            ("front", "far", "10.7.0", "fd07"),
            ("back", "rear", "10.8.0", "fd08"),
        ] {
            let (balancer, neighbour) = (&bench.balancer, &bench.neighbour);
            ip(
                balancer,
                &format!(
                    "link add {ours} address 02:00:00:00:00:02 type veth peer name {theirs} netns {}",
                    neighbour.path().display()
                ),
            );
            ip(balancer, &format!("addr add {net}.1/24 dev {ours}"));
            ip(balancer, &format!("addr add {net6}::1/64 dev {ours} nodad"));
            for host in 2..=9 {
                ip(neighbour, &format!("addr add {net}.{host}/24 dev {theirs}"));
            }
            ip(
                neighbour,
                &format!("addr add {net6}::2/64 dev {theirs} nodad"),
            );
            ip(balancer, &format!("link set {ours} up"));
            ip(neighbour, &format!("link set {theirs} up"));
        }
        bench
    }

    pub fn options(&self) -> Options {
        Options {
            pins: self.pins.clone(),
            xdp_mode: XdpMode::Native,
            ..Options::new(vec!["front".to_owned(), "back".to_owned()])
        }
    }

    /// Starts a data plane inside the balancer's namespace.
    pub fn start(&self) -> KernelDataplane {
        self.try_start(self.options()).unwrap()
    }

    pub fn try_start(&self, options: Options) -> Result<KernelDataplane, DataplaneError> {
        self.balancer
            .enter(|| {
                let (hops, _changes) = NextHops::start().unwrap();
                KernelDataplane::start(&options, Box::new(hops))
            })
            .unwrap()
    }

    /// A data plane without VIPs on the neighbour's `far`: it passes everything, and as an XDP program it
    /// makes the veth take frames that XDP sends.
    pub fn start_passing(&self) -> (KernelDataplane, Pinned) {
        let mut pins = self.pins.clone().into_os_string();
        pins.push("-passing");
        let pins = Pinned(pins.into());
        let options = Options {
            pins: pins.0.clone(),
            xdp_mode: XdpMode::Native,
            ..Options::new(vec!["far".to_owned()])
        };
        let plane = self
            .neighbour
            .enter(|| {
                let (hops, _changes) = NextHops::start().unwrap();
                KernelDataplane::start(&options, Box::new(hops)).unwrap()
            })
            .unwrap();
        (plane, pins)
    }

    pub fn pinned(&self, name: &str) -> bool {
        Path::exists(&self.pins.join(name))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // By force: a data plane of a test that failed may still hold the lock.
        if let Err(error) = detach(&self.pins, true) {
            eprintln!("{error}");
        }
    }
}

/// A folder of pins that is removed in the end.
pub struct Pinned(PathBuf);

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.0, true) {
            eprintln!("{error}");
        }
    }
}

/// A service whose reals have equal shares of `slots` slots.
pub fn service(vip: &str, reals: &[&str], slots: u16) -> ServiceSpec {
    let count = reals.len() as u16;
    ServiceSpec {
        vip: vip.parse().unwrap(),
        forward: Forward::Ipip,
        terms: Terms::default(),
        track: Track::Exceptions,
        window: Duration::from_secs(60),
        reals: reals.iter().map(|real| real.parse().unwrap()).collect(),
        down: BTreeMap::new(),
        ring: (0..slots)
            .map(|slot| if count == 0 { 0 } else { slot % count })
            .collect::<Arc<[u16]>>(),
    }
}

/// A UDP or TCP frame from a client.
pub fn frame(source: &str, source_port: u16, vip: &str, syn: bool) -> Vec<u8> {
    let vip: lb_model::vip::VipKey = vip.parse().unwrap();
    let ether = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (source.parse().unwrap(), vip.address) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ether.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ether.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("two families"),
    };
    let mut bytes = Vec::new();
    match vip.protocol {
        lb_model::vip::Protocol::Udp => {
            ip.udp(source_port, vip.port)
                .write(&mut bytes, b"hello")
                .unwrap();
        }
        lb_model::vip::Protocol::Sctp | lb_model::vip::Protocol::TcpUdp => {
            unreachable!("the tests have VIPs of TCP and of UDP")
        }
        lb_model::vip::Protocol::Tcp => {
            let tcp = ip.tcp(source_port, vip.port, 1, 1_000);
            let tcp = if syn { tcp.syn() } else { tcp.ack(1) };
            tcp.write(&mut bytes, b"hello").unwrap();
        }
    }
    bytes
}

/// Simulates until the condition holds: neighbours take a moment to answer.
pub fn simulate_until(
    plane: &mut KernelDataplane,
    frame: &[u8],
    condition: impl Fn(&Simulation) -> bool,
) -> Simulation {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        plane.refresh_next_hops().unwrap();
        let simulation = plane.simulate(None, frame).unwrap();
        if condition(&simulation) {
            return simulation;
        }
        assert!(
            Instant::now() < give_up,
            "{simulation:?} {:?}",
            plane.status()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ticks until the condition holds.
pub fn tick_until(
    plane: &mut KernelDataplane,
    what: &str,
    condition: impl Fn(&KernelDataplane) -> bool,
) {
    // A sweep that took long, as on a busy machine, puts the next one off by much more.
    let give_up = Instant::now() + Duration::from_secs(120);
    while !condition(plane) {
        assert!(Instant::now() < give_up, "{what}: {:?}", plane.status());
        std::thread::sleep(Duration::from_millis(20));
        plane.tick().unwrap();
    }
}
