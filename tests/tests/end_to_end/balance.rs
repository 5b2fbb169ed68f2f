//! How connections spread over reals.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use lb_tests::{
    AgentOptions,
    client::{Connections, HttpPlan, http_load},
};

use crate::fixture::{HTTP_V4, Stand, assert_whole, target};

/// Connections of one client.
const CONNECTIONS: u64 = 10_000;

/// Clients, each with an address of its own: with so many connections chance alone deviates by 1 % of the
/// smallest expectation (its standard deviation), so 3 % is a statement about the balancer.
const CLIENTS: usize = 6;

#[test]
fn ten_thousand_connections_of_each_client_spread_by_weight() {
    let stand = Stand::new(3, &[HTTP_V4], AgentOptions::default());
    stand.serve(
        HTTP_V4,
        "--forward ipip --slots 65536",
        false,
        &[100, 200, 300],
    );
    let mut clients = vec![stand.client.clone()];
    clients.extend((1..CLIENTS).map(|_| stand.site.client().unwrap()));
    let mut servers: BTreeMap<String, u64> = BTreeMap::new();
    for client in &clients {
        let load = http_load(
            client,
            HttpPlan {
                target: target(HTTP_V4),
                workers: 16,
                // The same flows each time, of a ring with the same seed: what comes out is a property of hash
                // and ring, not of chance.
                connections: Connections::NewFrom(SocketAddr::new(client.v4, 20_000)),
                pause: Duration::ZERO,
                requests: Some(CONNECTIONS),
            },
        );
        let report = load.finish().unwrap();
        assert_whole(&report);
        assert_eq!(
            (report.requests, report.connections),
            (CONNECTIONS, CONNECTIONS)
        );
        println!("{}: {:?}", client.v4, report.servers);
        for (server, connections) in report.servers {
            *servers.entry(server).or_default() += connections;
        }
    }
    let all = CONNECTIONS * CLIENTS as u64;
    for (real, weight) in stand.reals.iter().zip([1, 2, 3]) {
        let expected = all as f64 * f64::from(weight) / 6.0;
        let got = servers.get(real.host.label()).copied().unwrap_or_default() as f64;
        assert!(
            (got - expected).abs() <= 0.03 * expected,
            "{} got {got} connections, expected {expected:.0}: {servers:?}",
            real.host.label(),
        );
    }
    // The agent's own count agrees: one new flow for each connection.
    assert_eq!(stand.stats(HTTP_V4)["opened"], all);
}
