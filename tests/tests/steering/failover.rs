//! A broker dies: its clients are told and connect anew.

use std::time::{Duration, Instant};

use lb_tests::{
    client::{Load, MqttPlan, mqtt_load},
    wait_for,
};

use crate::fixture::{MQTT, PATIENCE, Stand, devices};

const BROKERS: usize = 4;
const CLIENTS: usize = 200;
/// Patient enough that no broker is taken for dead because this machine is busy.
const CHECK: &str = "mqtt interval=2s fast_interval=500ms timeout=2s";
/// Clients are on all of them from the start.
const STEERING: &str = "static slow_start=0s";

/// Brokers behind a VIP, and clients that are connected to them.
fn serving() -> (Stand, Load) {
    let stand = Stand::new(BROKERS, &[MQTT]);
    let reals: Vec<_> = stand.reals.iter().collect();
    stand.serve(
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
    );
    for real in &stand.reals {
        stand.wait_healthy(MQTT, &real.address());
    }
    let began = Instant::now();
    let load = mqtt_load(
        &stand.client,
        MqttPlan {
            pause: Duration::from_millis(500),
            ..devices(CLIENTS)
        },
    );
    wait_heard(&load, began);
    assert_eq!(load.report().failed, 0, "{:?}", load.report().errors);
    (stand, load)
}

/// Waits until every client has had an answer to something that it asked later than that.
fn wait_heard(load: &Load, since: Instant) {
    wait_for("every client to be answered", PATIENCE, || {
        Ok((load.heard_since(since) == CLIENTS).then_some(()))
    })
    .unwrap();
}

/// Clients that are on a broker.
fn held(stand: &Stand, broker: usize) -> u64 {
    let why = stand.why(MQTT, &stand.reals[broker].address());
    assert_eq!(why["real"]["flows_exact"], true, "{why:#}");
    why["real"]["flows"].as_u64().unwrap()
}

#[test]
fn clients_of_a_host_that_is_cut_off_are_told_and_no_others() {
    let (stand, load) = serving();
    let held = held(&stand, 0);
    assert!(held > 0, "some clients are on each broker");
    let dead = &stand.reals[0];

    // Nobody on its side can tell the clients.
    let began = Instant::now();
    dead.host.sh("ip link set eth0 down").unwrap();
    stand.wait_state(MQTT, &dead.address(), "down");
    let found = began.elapsed();
    wait_heard(&load, began);
    println!(
        "found after {found:?}, the last of {held} clients was served again {:?} after the cut",
        began.elapsed()
    );
    let report = load.report();
    assert_eq!(
        (report.failed, report.connections),
        (held, CLIENTS as u64 + held),
        "each of its clients was told once, and connected at once: {:?}",
        report.errors
    );
    let told = report.errors.iter().all(|error| error.contains("reset"));
    assert!(told, "{:?}", report.errors);
}

#[test]
fn clients_of_a_killed_broker_are_on_others() {
    let (mut stand, load) = serving();
    let held = held(&stand, 0);
    assert!(held > 0, "some clients are on each broker");

    // Its host ends the connections, and refuses new ones until the balancer knows.
    let began = Instant::now();
    stand.reals[0].mosquitto.kill().unwrap();
    let address = stand.reals[0].address();
    stand.wait_state(MQTT, &address, "down");
    let found = began.elapsed();
    wait_heard(&load, began);
    println!(
        "found after {found:?}, the last of {held} clients was served again {:?} after the kill",
        began.elapsed()
    );
    assert_eq!(load.report().connections, CLIENTS as u64 + held);
    load.wait_requests(3 * CLIENTS as u64, PATIENCE).unwrap();
    assert_eq!(load.report().connections, CLIENTS as u64 + held);
}
