//! Closed UDP ports of a host whose kernel limits how often it refuses.

use std::collections::HashMap;

use lb_clients::health::probe::udp::{Octets, Udp};

use super::*;

const REAL: &str = "198.18.7.2";
const FIRST: u16 = 5_000;
/// Ports that nobody listens on.
const CLOSED: u16 = 6;
/// Probes of each port that are looked at.
const PROBES: u32 = 40;

/// Six closed ports and one on which a server receives and never answers, each probed five times a second. The kernel of
/// the real refuses once a second.
pub fn closed_ports_stay_down_though_the_host_seldom_refuses() {
    let (prober, real) = (
        Namespace::new("prober").unwrap(),
        Namespace::new("real").unwrap(),
    );
    let peer = real.path();
    let link = format!(
        "ip link add eth0 type veth peer name eth0 netns {}",
        peer.display()
    );
    prober.sh(&link).unwrap();
    for (namespace, address) in [(&prober, "198.18.7.1/24"), (&real, "198.18.7.2/24")] {
        namespace
            .run(["ip", "address", "add", address, "dev", "eth0"])
            .unwrap();
        namespace.run(["ip", "link", "set", "eth0", "up"]).unwrap();
    }
    let _silent = real
        .enter(|| std::net::UdpSocket::bind((REAL, FIRST + CLOSED)))
        .unwrap()
        .unwrap();
    let seen = in_runtime(&prober, async {
        let (sender, mut reports) = mpsc::channel(64);
        let runners: Vec<_> = (FIRST..=FIRST + CLOSED)
            .map(|port| start(port, sender.clone()))
            .collect();
        let mut seen: HashMap<u16, Vec<State>> = HashMap::new();
        while seen.len() < runners.len()
            || seen.values().any(|states| states.len() < PROBES as usize)
        {
            let report = tokio::time::timeout(Duration::from_secs(60), reports.recv())
                .await
                .expect("a report comes")
                .expect("the runners run");
            seen.entry(report.vip.port).or_default().push(report.state);
        }
        seen
    });
    for (port, states) in seen {
        if port == FIRST + CLOSED {
            assert!(states.iter().all(|state| *state == State::Up), "{states:?}");
            continue;
        }
        // Before its first refusal nothing is known of a port.
        let down = states
            .iter()
            .position(|state| *state == State::Down)
            .unwrap_or_else(|| panic!("port {port} was never down: {states:?}"));
        assert!(
            states[down..].iter().all(|state| *state == State::Down),
            "port {port}: {states:?}"
        );
    }
}

fn start(port: u16, reports: mpsc::Sender<Report>) -> Runner {
    let probe = Component::new(
        "udp",
        &Udp {
            payload: Octets(b"ping".to_vec()),
            silence_is_alive: true,
            ..Udp::default()
        },
    );
    let mut check = Check::new(probe);
    check.interval = Duration::from_millis(200);
    check.fast_interval = Some(check.interval);
    check.timeout = Some(Duration::from_millis(100));
    let target = Target {
        address: SocketAddr::new(REAL.parse().unwrap(), port),
        mark: None,
    };
    Runner::start(
        format!("10.0.0.1:{port}/udp").parse().unwrap(),
        target.address.ip(),
        ProbeConfig { check, target },
        Health::new(Instant::now()),
        FirstProbe::Spread,
        Arc::new(Semaphore::new(8)),
        reports,
    )
}
