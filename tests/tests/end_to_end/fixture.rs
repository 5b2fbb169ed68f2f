//! What the tests have in common.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use lb_tests::{
    Host, Network, Real,
    client::{Connections, HttpPlan, LoadReport, get},
    server::{Arrivals, UdpSink, WebAndBroker},
    vip_target, wait_for,
};

/// VIPs of both families, for HTTP and for MQTT.
pub const HTTP_V4: &str = "192.0.2.10:80/tcp";
pub const HTTP_V6: &str = "[2001:db8::10]:80/tcp";
pub const MQTT_V4: &str = "192.0.2.20:1883/tcp";
pub const MQTT_V6: &str = "[2001:db8::20]:1883/tcp";

/// Limit for what takes milliseconds on an idle machine. A request that hangs fails earlier.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A network with an agent, a client, and backends with nginx and Mosquitto.
pub type Testbed = lb_tests::Testbed<WebAndBroker>;
/// A backend with nginx and Mosquitto.
pub type Backend = lb_tests::Backend<WebAndBroker>;

/// Adds a VIP with all backends at these weights (the last one repeats), by addresses of one family, and waits until
/// the agent knows the next hops to them.
pub fn serve(testbed: &Testbed, vip: &str, options: &str, v6_reals: bool, weights: &[u16]) {
    let last = *weights.last().unwrap();
    let weights = weights.iter().copied().chain(std::iter::repeat(last));
    let reals: Vec<(String, u16)> = testbed
        .backends
        .iter()
        .map(|backend| address_of(backend, v6_reals))
        .zip(weights)
        .collect();
    testbed.agent.add_service(vip, options, &reals).unwrap();
    wait_for("next hops to the reals", PATIENCE, || {
        let list = testbed.agent.ctl_json(&format!("list {vip}"))?;
        let reals = list[0]["reals"].as_array().context("a list of reals")?;
        Ok(reals
            .iter()
            .all(|real| real["state"] != "unreachable")
            .then_some(()))
    })
    .unwrap();
}

/// Returns the address of a backend in one family, as `lbctl` takes it.
pub fn address_of(backend: &Backend, v6: bool) -> String {
    if v6 {
        backend.address_v6()
    } else {
        backend.address()
    }
}

/// Returns the address and port of a VIP.
pub fn target(vip: &str) -> SocketAddr {
    vip_target(vip).unwrap()
}

/// Makes requests on new connections until every backend has answered. Each must have seen the client's own address.
pub fn every_real_answers(client: &Host, vip: &str, names: &BTreeSet<String>) {
    let target = target(vip);
    let mut seen = BTreeSet::new();
    // The probability that one of three equal reals gets none of these is 10^-50.
    for _ in 0..300 {
        let (server, body) = get(client, target, "/").unwrap();
        let source: IpAddr = body.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(
            source,
            client.address_like(target.ip()),
            "{server} saw another client"
        );
        assert!(names.contains(&server), "{server} is none of {names:?}");
        seen.insert(server);
        if seen == *names {
            return;
        }
    }
    panic!("only {seen:?} of {names:?} answered");
}

/// Returns the plan of a load that runs until it is stopped.
pub fn endless(vip: &str, connections: Connections, workers: usize, pause: Duration) -> HttpPlan {
    HttpPlan {
        target: target(vip),
        workers,
        connections,
        pause,
        requests: None,
    }
}

/// Asserts that there were requests and none of them failed.
pub fn assert_no_failure(report: &LoadReport) {
    assert_eq!(
        report.failed, 0,
        "of {} requests: {:?}",
        report.requests, report.errors
    );
    assert!(report.requests > 0);
}

/// A real that records numbers. Fields are dropped in this order.
pub struct Sink {
    _sink: UdpSink,
    _real: Real,
    pub host: Host,
}

impl Sink {
    /// Makes a new host of `network` a real of `vip`.
    pub fn new(network: &Network, vip: &str, arrivals: &Arc<Arrivals>) -> Self {
        let host = network.real().unwrap();
        let real = Real::start(&host, "eth0", &[vip]).unwrap();
        let sink = UdpSink::start(&host, target(vip), arrivals).unwrap();
        Self {
            _sink: sink,
            _real: real,
            host,
        }
    }
}
