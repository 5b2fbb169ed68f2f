//! Waiting until a drained real serves nobody.

use std::{process::Stdio, time::Duration};

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
    assert!(said.contains("serves "), "{said}");
    let report = load.stop().unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.errors);

    let output = drain("180s");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((&last["flows"], &last["exact"]), (&0.into(), &true.into()));
}

#[test]
fn a_wait_goes_on_where_the_last_one_ended() {
    let stand = Stand::new(2, &[HTTP]);
    let reals: Vec<_> = stand.reals.iter().collect();
    stand.serve(HTTP, &["--window", "20s"], &reals);
    let address = stand.reals[0].address();
    let drain = |wait: &str| {
        let output = stand
            .agent
            .lbctl_command(["-o", "json", "drain", HTTP, &address, "--wait", wait])
            .unwrap()
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    // Nobody talks to it, but a flow that is silent is not known before the window is over.
    let (status, said) = drain("1s");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the VIP's window"), "{said}");
    // Each call is shorter than the window: only what went before lets the last of them end.
    wait_for("the window to be over", PATIENCE, || {
        let (status, said) = drain("5s");
        anyhow::ensure!(matches!(status, Some(0 | 1)), "{said}");
        Ok((status == Some(0)).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_wait_ends_when_somebody_undrains_it() {
    let stand = Stand::new(2, &[HTTP]);
    let reals: Vec<_> = stand.reals.iter().collect();
    stand.serve(HTTP, &[], &reals);
    let address = stand.reals[0].address();
    let waiting = stand
        .agent
        .lbctl_command(["drain", HTTP, &address, "--wait", "180s"])
        .unwrap()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    stand.wait_state(HTTP, &address, "draining");
    stand.ctl(&["undrain", HTTP, &address]);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("undrained it"), "{said}");
}
