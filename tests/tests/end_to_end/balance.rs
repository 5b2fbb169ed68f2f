//! The distribution of connections over reals.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use lb_common::hash::{Addresses as _, Addresses4, slot_index};
use lb_common::headers::IPPROTO_TCP;
use lb_model::ring::Algorithm;
use lb_steering::ring::{self};
use lb_tests::{
    AgentOptions, Host,
    client::{Connections, HttpPlan, LoadReport, http_load},
};

use crate::fixture::{HTTP_V4, Testbed, assert_no_failure, serve, target};

/// Connections of one client, from consecutive ports. The smallest of the three reals gets 1,667 of them with a standard
/// deviation of 37 (2.2 %), so a tolerance of 3 % of its expectation would not test the balancer; 3 % of all
/// connections does.
const CONNECTIONS: u16 = 10_000;

/// The first of these ports.
const FIRST_PORT: u16 = 20_000;

/// Clients, each with an address of its own. Over all their connections the standard deviation of the smallest real is
/// 0.9 %, so a tolerance of 3 % of each expectation tests the balancer.
const CLIENTS: usize = 6;

/// Tolerance, as a fraction of an expectation or of all connections.
const TOLERANCE: f64 = 0.03;

const SLOTS: u32 = 65_536;

const WEIGHTS: [u16; 3] = [100, 200, 300];

/// The agent's default seed.
const SEED: u64 = 0;

/// Connections per real, in the order of [`WEIGHTS`].
type Counts = [u64; WEIGHTS.len()];

fn ring(reals: &[IpAddr]) -> Vec<u16> {
    let reals: Vec<(IpAddr, u32)> = reals.iter().copied().zip(WEIGHTS.map(u32::from)).collect();
    ring::build(Algorithm::Rendezvous, SEED, SLOTS, &reals)
}

/// Predicts where the connections of one client go, from hash and ring.
fn predicted(ring: &[u16], client: Ipv4Addr, vip: SocketAddr) -> Counts {
    let IpAddr::V4(address) = vip.ip() else {
        panic!("{vip} is no IPv4 address");
    };
    let addresses = Addresses4 {
        source: u32::from_ne_bytes(client.octets()),
        destination: u32::from_ne_bytes(address.octets()),
    };
    let [c, d] = vip.port().to_be_bytes();
    let mut counts = Counts::default();
    for port in FIRST_PORT..FIRST_PORT + CONNECTIONS {
        let [a, b] = port.to_be_bytes();
        let hash = addresses.ring_hash(SEED, u32::from_ne_bytes([a, b, c, d]), IPPROTO_TCP);
        counts[usize::from(ring[slot_index(hash, SLOTS) as usize])] += 1;
    }
    counts
}

/// Opens the connections of one client.
fn connect(client: &Host) -> LoadReport {
    let load = http_load(
        client,
        HttpPlan {
            target: target(HTTP_V4),
            workers: 16,
            connections: Connections::NewFrom(SocketAddr::new(client.v4, FIRST_PORT)),
            pause: Duration::ZERO,
            requests: Some(u64::from(CONNECTIONS)),
        },
    );
    let report = load.finish().unwrap();
    assert_no_failure(&report);
    let all = u64::from(CONNECTIONS);
    assert_eq!((report.requests, report.connections), (all, all));
    report
}

/// Returns the SYNs that a host has retransmitted because the answer took more than a second, as on an overloaded
/// machine.
fn repeated_syns(host: &Host) -> u64 {
    let text = host.sh("cat /proc/net/netstat").unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("TcpExt:"))
        .collect();
    let [names, values] = lines[..] else {
        panic!("no TcpExt in {text}");
    };
    let mut both = names.split(' ').zip(values.split(' '));
    let (_, value) = both.find(|(name, _)| *name == "TCPSynRetrans").unwrap();
    value.parse().unwrap()
}

pub fn connections_spread_by_weight() {
    let testbed = Testbed::new(3, &[HTTP_V4], AgentOptions::default()).unwrap();
    let options = format!("--forward ipip --slots {SLOTS}");
    serve(&testbed, HTTP_V4, &options, false, &WEIGHTS);
    let reals: Vec<IpAddr> = testbed.backends.iter().map(|real| real.host.v4).collect();
    let ring = ring(&reals);
    let shown = testbed.agent.ctl_json(&format!("ring {HTTP_V4}")).unwrap();
    assert_eq!(
        shown["checksum"],
        ring::checksum(&ring, &reals),
        "{shown:#}"
    );
    let shares = ring::shares(&ring, reals.len());

    let mut clients = vec![testbed.client.clone()];
    clients.extend((1..CLIENTS).map(|_| testbed.network.client().unwrap()));
    let mut sum = BTreeMap::new();
    for client in &clients {
        let IpAddr::V4(address) = client.v4 else {
            panic!("{} is no IPv4 address", client.v4);
        };
        let servers = connect(client).servers;
        let predicted = predicted(&ring, address, target(HTTP_V4));
        for ((real, predicted), share) in testbed.backends.iter().zip(predicted).zip(&shares) {
            let name = real.host.label();
            let got = servers.get(name).copied().unwrap_or_default();
            assert_eq!(got, predicted, "of {address} {name} got {servers:?}");
            let all = f64::from(CONNECTIONS);
            assert!(
                (got as f64 - all * share).abs() <= TOLERANCE * all,
                "of {address} {name} got {servers:?}"
            );
            *sum.entry(name).or_insert(0) += got;
        }
    }
    let all = u64::from(CONNECTIONS) * CLIENTS as u64;
    for (real, weight) in testbed.backends.iter().zip([1.0, 2.0, 3.0]) {
        let expected = all as f64 * weight / 6.0;
        let got = sum[real.host.label()] as f64;
        assert!(
            (got - expected).abs() <= TOLERANCE * expected,
            "{} got {got} connections, expected {expected:.0}: {sum:?}",
            real.host.label(),
        );
    }
    // The agent counts one new flow for each SYN.
    let repeated: u64 = clients.iter().map(repeated_syns).sum();
    assert_eq!(testbed.stats(HTTP_V4).unwrap()["opened"], all + repeated);
}

/// The distribution of one client's connections is binomial: the hashes of consecutive ports neither cluster nor spread
/// too evenly.
pub fn connections_of_one_client_spread_as_by_chance() {
    const ADDRESSES: u16 = 1_000;
    let reals: Vec<IpAddr> = (1..=3).map(|host| [10, 10, 30, host].into()).collect();
    let ring = ring(&reals);
    let shares = ring::shares(&ring, reals.len());
    let all = f64::from(CONNECTIONS);
    // For a binomial distribution the mean of deviation² ÷ variance is 1, with a standard deviation of 0.045 here.
    let mut squares = [0.0; WEIGHTS.len()];
    for number in 0..ADDRESSES {
        let [high, low] = number.to_be_bytes();
        let client = Ipv4Addr::new(10, 10, 20 + high, low);
        let counts = predicted(&ring, client, target(HTTP_V4));
        for ((square, count), share) in squares.iter_mut().zip(counts).zip(&shares) {
            let deviation = count as f64 - all * share;
            *square += deviation * deviation / (all * share * (1.0 - share));
            assert!(deviation.abs() <= TOLERANCE * all, "{client}: {counts:?}");
        }
    }
    for square in squares {
        let ratio = square / f64::from(ADDRESSES);
        assert!((0.85..1.15).contains(&ratio), "{ratio}: {squares:?}");
    }
}
