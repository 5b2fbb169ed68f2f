//! The clients of a dead broker are reset and reconnect.

use std::time::{Duration, Instant};

use lb_tests::{
    client::{Load, MqttPlan, mqtt_load},
    wait_for,
};

use crate::fixture::{MQTT, PATIENCE, Testbed, devices, new_testbed};

const BROKERS: usize = 4;
const CLIENTS: usize = 200;
/// Timeouts long enough that no live broker is considered dead on a busy machine.
const CHECK: &str = "mqtt interval=2s fast_interval=500ms timeout=2s";
/// Without slow start all brokers get clients at once.
const STEERING: &str = "static slow_start=0s";

/// Starts brokers behind a VIP, and connects clients to them.
fn serving() -> (Testbed, Load) {
    let testbed = new_testbed(BROKERS, &[MQTT]);
    let reals: Vec<_> = testbed.backends.iter().collect();
    testbed
        .add_service(
            MQTT,
            &[
                "--on-down",
                "reset",
                "--track",
                "all",
                "--check",
                CHECK,
                "--steering",
                STEERING,
            ],
            &reals,
        )
        .unwrap();
    for real in &testbed.backends {
        testbed.wait_healthy(MQTT, &real.address()).unwrap();
    }
    let began = Instant::now();
    let load = mqtt_load(
        &testbed.client,
        MqttPlan {
            pause: Duration::from_millis(500),
            ..devices(CLIENTS)
        },
    );
    wait_answered(&load, began);
    assert_eq!(load.report().failed, 0, "{:?}", load.report().errors);
    (testbed, load)
}

/// Waits until every client has received an answer to a request that it made after `since`.
fn wait_answered(load: &Load, since: Instant) {
    wait_for("every client to be answered", PATIENCE, || {
        Ok((load.answered_since(since) == CLIENTS).then_some(()))
    })
    .unwrap();
}

/// Returns the number of clients on a broker.
fn held(testbed: &Testbed, broker: usize) -> u64 {
    let why = testbed
        .why(MQTT, &testbed.backends[broker].address())
        .unwrap();
    assert_eq!(why["real"]["flows_exact"], true, "{why:#}");
    why["real"]["flows"].as_u64().unwrap()
}

pub fn only_clients_of_a_disconnected_host_are_reset() {
    let (testbed, load) = serving();
    let held = held(&testbed, 0);
    assert!(held > 0, "each broker has clients");
    let dead = &testbed.backends[0];

    // The link goes down, so that only the balancer can reset the connections.
    let began = Instant::now();
    dead.host.sh("ip link set eth0 down").unwrap();
    testbed.wait_state(MQTT, &dead.address(), "down").unwrap();
    let detected = began.elapsed();
    wait_answered(&load, began);
    println!(
        "detected after {detected:?}, the last of {held} clients was served again {:?} after the link went down",
        began.elapsed()
    );
    let report = load.report();
    assert_eq!(
        (report.failed, report.connections),
        (held, CLIENTS as u64 + held),
        "each of its clients was reset once, and reconnected at once: {:?}",
        report.errors
    );
    let all_reset = report.errors.iter().all(|error| error.contains("reset"));
    assert!(all_reset, "{:?}", report.errors);
}

pub fn clients_of_a_killed_broker_move_to_others() {
    let (mut testbed, load) = serving();
    let held = held(&testbed, 0);
    assert!(held > 0, "each broker has clients");

    // The host's kernel resets the connections, and refuses new ones until the balancer has detected the death.
    let began = Instant::now();
    testbed.backends[0].server.mosquitto.kill().unwrap();
    let address = testbed.backends[0].address();
    testbed.wait_state(MQTT, &address, "down").unwrap();
    let detected = began.elapsed();
    wait_answered(&load, began);
    println!(
        "detected after {detected:?}, the last of {held} clients was served again {:?} after the kill",
        began.elapsed()
    );
    assert_eq!(load.report().connections, CLIENTS as u64 + held);
    load.wait_requests(3 * CLIENTS as u64, PATIENCE).unwrap();
    assert_eq!(load.report().connections, CLIENTS as u64 + held);
}
