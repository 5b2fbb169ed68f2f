//! Waiting until a drained real serves nobody.

use std::time::Duration;

use lb_tests::{
    client::{Connections, HttpPlan, http_load},
    wait_for,
};

use crate::fixture::{HTTP, PATIENCE, Stand, target};

#[test]
fn a_drain_ends_with_the_last_connection() {
    let stand = Stand::new(2, &[HTTP]);
    let reals: Vec<_> = stand.reals.iter().collect();
    stand.serve(HTTP, &["--track", "all"], &reals);
    let load = http_load(
        &stand.client,
        HttpPlan {
            target: target(HTTP),
            workers: 40,
            connections: Connections::Kept,
            pause: Duration::from_millis(20),
            requests: None,
        },
    );
    wait_for("connections on both", PATIENCE, || {
        Ok((load.report().servers.len() == 2).then_some(()))
    })
    .unwrap();
    let address = stand.reals[0].address();
    let drain = |wait: &str| {
        stand
            .agent
            .lbctl_command(["-o", "json", "drain", HTTP, &address, "--wait", wait])
            .unwrap()
            .output()
            .unwrap()
    };
    // Its connections stay, so it is not empty, and the exit status says so.
    let output = drain("1s");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("still serves"), "{said}");
    let report = load.stop().unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.errors);

    let output = drain("60s");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((&last["flows"], &last["exact"]), (&0.into(), &true.into()));
}
