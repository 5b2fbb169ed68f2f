//! Closed UDP ports of a host whose kernel limits how often it refuses.

use std::collections::HashMap;

use lb_clients::health::probe::udp::{Octets, Udp};

use super::*;

const REAL: &str = "198.18.7.2";
const FIRST: u16 = 5_000;
/// Ports that nobody listens on.
const CLOSED: u16 = 6;
/// Probes of the open port that are looked at, and of each closed one after its first refusal.
const PROBES: usize = 30;
/// The kernel refuses one of the six closed ports a second, whichever is probed then: one that was left out so far is left out
/// in each further second with a probability of 5/6, so in all of these in 1 of 10^9 runs.
const PATIENCE: Duration = Duration::from_secs(120);

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
        let gathering = async {
            while seen.len() < runners.len()
                || !seen.iter().all(|(port, states)| has_enough(*port, states))
            {
                let report = reports.recv().await.expect("the runners run");
                seen.entry(report.vip.port).or_default().push(report.state);
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, gathering).await;
        assert!(in_time.is_ok(), "{seen:?}");
        seen
    });
    for (port, states) in seen {
        if port == FIRST + CLOSED {
            assert!(states.iter().all(|state| *state == State::Up), "{states:?}");
            continue;
        }
        // Before its first refusal nothing is known of a port.
        let down = first_refusal(&states).expect("gathered until it was refused");
        assert!(
            states[down..].iter().all(|state| *state == State::Down),
            "port {port}: {states:?}"
        );
    }
}

fn first_refusal(states: &[State]) -> Option<usize> {
    states.iter().position(|state| *state == State::Down)
}

/// Whether a port was looked at for long enough.
fn has_enough(port: u16, states: &[State]) -> bool {
    let from = if port == FIRST + CLOSED {
        Some(0)
    } else {
        first_refusal(states)
    };
    from.is_some_and(|from| states.len() - from >= PROBES)
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
        target.address.ip().into(),
        ProbeConfig { check, target },
        Health::new(Instant::now()),
        FirstProbe::Spread,
        Arc::new(Semaphore::new(8)),
        reports,
    )
}
