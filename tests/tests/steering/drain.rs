//! `lbctl drain --wait`, which waits until a drained real has no flows.

use std::{process::Stdio, time::Duration};

use lb_tests::{
    client::{Connections, HttpPlan, http_load},
    wait_for,
};

use crate::fixture::{HTTP, PATIENCE, new_testbed, target};

pub fn a_drain_ends_with_the_last_connection() {
    let testbed = new_testbed(2, &[HTTP]);
    let reals: Vec<_> = testbed.backends.iter().collect();
    testbed
        .add_service(HTTP, &["--track", "all"], &reals)
        .unwrap();
    let load = http_load(
        &testbed.client,
        HttpPlan {
            target: target(HTTP),
            workers: 40,
            connections: Connections::Kept,
            pause: Duration::from_millis(20),
            requests: None,
        },
    );
    wait_for("connections on both reals", PATIENCE, || {
        Ok((load.report().servers.len() == 2).then_some(()))
    })
    .unwrap();
    let address = testbed.backends[0].address();
    let drain = |wait: &str| {
        testbed
            .agent
            .lbctl_command(["-o", "json", "drain", HTTP, &address, "--wait", wait])
            .unwrap()
            .output()
            .unwrap()
    };
    // Its connections stay, so the wait times out with exit status 1.
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

pub fn a_wait_continues_where_the_last_one_ended() {
    let testbed = new_testbed(2, &[HTTP]);
    let reals: Vec<_> = testbed.backends.iter().collect();
    testbed
        .add_service(HTTP, &["--window", "20s"], &reals)
        .unwrap();
    let address = testbed.backends[0].address();
    let drain = |wait: &str| {
        let output = testbed
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
    // There is no traffic, but silent flows are unknown until the window is over.
    let (status, said) = drain("1s");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the VIP's window"), "{said}");
    // Each call is shorter than the window, so only the time of earlier calls lets the last one succeed.
    wait_for("the window to be over", PATIENCE, || {
        let (status, said) = drain("5s");
        anyhow::ensure!(matches!(status, Some(0 | 1)), "{said}");
        Ok((status == Some(0)).then_some(()))
    })
    .unwrap();
}

pub fn a_wait_ends_when_the_real_is_undrained() {
    let testbed = new_testbed(2, &[HTTP]);
    let reals: Vec<_> = testbed.backends.iter().collect();
    testbed.add_service(HTTP, &[], &reals).unwrap();
    let address = testbed.backends[0].address();
    let waiting = testbed
        .agent
        .lbctl_command(["drain", HTTP, &address, "--wait", "180s"])
        .unwrap()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    testbed.wait_state(HTTP, &address, "draining").unwrap();
    testbed.lbctl(&["undrain", HTTP, &address]).unwrap();
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no longer drained"), "{said}");
}
