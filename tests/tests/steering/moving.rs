//! Weights that change all the time: set by the operator, and requested by agents of the reals.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use lb_tests::{
    client::{Connections, HttpPlan, http_load},
    server::Weigher,
    wait_for,
};

use crate::fixture::{HTTP, PATIENCE, new_testbed, target};

const CONNECTIONS: usize = 1_000;
/// Number of changes by the operator.
const CHANGES: usize = 240;
/// The operator's weights, in turn.
const WEIGHTS: [u16; 7] = [100, 7, 900, 0, 45, 300, 1];
/// After this many changes ...
const BUNDLE: usize = 4;
/// ... this many requests must be answered. Each connection makes one per second, all at about the same time.
const BETWEEN: u64 = 10;
/// The changes at which the agent is stopped, and killed.
const STOPPED: usize = 80;
const KILLED: usize = 160;

const AGENT_PORT: u16 = 8_079;

pub fn a_thousand_connections_survive_weights_that_always_move() {
    let mut testbed = new_testbed(3, &[HTTP]);
    let _weighers: Vec<Weigher> = testbed
        .backends
        .iter()
        .map(|real| Weigher::start(&real.host, AGENT_PORT).unwrap())
        .collect();
    let reals: Vec<_> = testbed.backends.iter().collect();
    testbed
        .add_service(
            HTTP,
            &[
                "--load",
                &format!("agent-check port={AGENT_PORT} interval=500ms timeout=400ms"),
                "--steering",
                "agent-check period=500ms slow_start=0s",
            ],
            &reals,
        )
        .unwrap();
    let addresses: Vec<String> = testbed.backends.iter().map(|real| real.address()).collect();
    let load = http_load(
        &testbed.client,
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
            Ok((load.answered_since(since) == CONNECTIONS).then_some(()))
        })
        .unwrap();
    };
    served_since(Instant::now());
    assert_eq!(load.report().servers.len(), 3, "{:?}", load.report());

    let began = Instant::now();
    let mut shares = BTreeSet::new();
    for change in 0..CHANGES {
        // With seven weights for three reals, a real gets another weight each time, and never do all have weight 0.
        let (real, weight) = (change % addresses.len(), WEIGHTS[change % WEIGHTS.len()]);
        let weight = weight.to_string();
        testbed
            .lbctl(&["set-real", HTTP, &addresses[real], "--weight", &weight])
            .unwrap();
        let share = &testbed.why(HTTP, &addresses[real]).unwrap()["real"]["share"];
        shares.insert(share.to_string());
        if change % BUNDLE == 0 {
            load.wait_requests(BETWEEN, PATIENCE).unwrap();
        }
        if change == STOPPED {
            testbed.agent.stop().unwrap();
            testbed.agent.run().unwrap();
        }
        if change == KILLED {
            testbed.agent.kill().unwrap();
            testbed.agent.run().unwrap();
        }
    }
    println!(
        "{CHANGES} changes and the requests of the agents resulted in {} different shares in {:?}",
        shares.len(),
        began.elapsed()
    );
    // Without the agents the ring has 7^3 states, of which these changes reach 21.
    assert!(shares.len() > 21, "the agents changed nothing: {shares:?}");
    served_since(Instant::now());
    let report = load.stop().unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
    assert_eq!(
        report.connections, CONNECTIONS as u64,
        "no connection was reopened: {report:?}"
    );
}
