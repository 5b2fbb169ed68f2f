//! Weights move all the time: by hand, and by agents of the reals that are never content.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use lb_tests::{
    client::{Connections, HttpPlan, http_load},
    server::Weigher,
    wait_for,
};

use crate::fixture::{HTTP, PATIENCE, Stand, target};

const CONNECTIONS: usize = 1_000;
/// Weights set by hand.
const ORDERS: usize = 240;
/// The weights, in turn.
const WEIGHTS: [u16; 7] = [100, 7, 900, 0, 45, 300, 1];
/// After so many orders ...
const BUNDLE: usize = 4;
/// ... so many requests are to be answered: each connection makes one a second, all at about the same time.
const BETWEEN: u64 = 10;
/// At these orders the agent is stopped, and killed.
const STOPPED: usize = 80;
const KILLED: usize = 160;

const AGENT_PORT: u16 = 8_079;

#[test]
fn a_thousand_connections_outlive_weights_that_move_all_the_time() {
    let mut stand = Stand::new(3, &[HTTP]);
    let _weighers: Vec<Weigher> = stand
        .reals
        .iter()
        .map(|real| Weigher::start(&real.host, AGENT_PORT).unwrap())
        .collect();
    let reals: Vec<_> = stand.reals.iter().collect();
    stand.serve(
        HTTP,
        &[
            "--load",
            &format!("agent-check port={AGENT_PORT} interval=500ms timeout=400ms"),
            "--steering",
            "agent-check period=500ms slow_start=0s",
        ],
        &reals,
    );
    let addresses: Vec<String> = stand.reals.iter().map(|real| real.address()).collect();
    let load = http_load(
        &stand.client,
        HttpPlan {
            target: target(HTTP),
            workers: CONNECTIONS,
            connections: Connections::Kept,
            pause: Duration::from_secs(1),
            requests: None,
        },
    );
    let served_since = |since: Instant| {
        wait_for("an answer on every connection", PATIENCE, || {
            Ok((load.heard_since(since) == CONNECTIONS).then_some(()))
        })
        .unwrap();
    };
    served_since(Instant::now());
    assert_eq!(load.report().servers.len(), 3, "{:?}", load.report());

    let began = Instant::now();
    let mut shares = BTreeSet::new();
    for order in 0..ORDERS {
        // Seven weights for three reals: each has another one each time, and never do all have none.
        let (real, weight) = (order % addresses.len(), WEIGHTS[order % WEIGHTS.len()]);
        let weight = weight.to_string();
        stand.ctl(&["set-real", HTTP, &addresses[real], "--weight", &weight]);
        let share = &stand.why(HTTP, &addresses[real])["real"]["share"];
        shares.insert(share.to_string());
        if order % BUNDLE == 0 {
            load.wait_requests(BETWEEN, PATIENCE).unwrap();
        }
        if order == STOPPED {
            stand.agent.stop().unwrap();
            stand.agent.run().unwrap();
        }
        if order == KILLED {
            stand.agent.kill().unwrap();
            stand.agent.run().unwrap();
        }
    }
    println!(
        "{ORDERS} orders and what the agents asked for made {} shares in {:?}",
        shares.len(),
        began.elapsed()
    );
    // By hand there are but 7^3 states of the ring, of which these orders reach 21.
    assert!(shares.len() > 21, "the agents moved nothing: {shares:?}");
    served_since(Instant::now());
    let report = load.stop().unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
    assert_eq!(
        report.connections, CONNECTIONS as u64,
        "none was made anew: {report:?}"
    );
}
