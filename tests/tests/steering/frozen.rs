//! A broker that accepts TCP connections and does not answer.

use lb_tests::{client::mqtt_load, wait_for};

use crate::fixture::{MQTT, PATIENCE, devices, new_testbed};

/// Timeouts long enough that no live broker is considered dead on a busy machine.
const CHECK: &str = "interval=1s fast_interval=500ms timeout=1s";
const DEVICES: usize = 60;

pub fn a_frozen_broker_is_detected_and_its_clients_reconnect() {
    let testbed = new_testbed(3, &[MQTT]);
    let check = format!("mqtt {CHECK}");
    let reals: Vec<_> = testbed.backends.iter().collect();
    testbed
        .add_service(
            MQTT,
            &["--on-down", "reset", "--track", "all", "--check", &check],
            &reals,
        )
        .unwrap();
    for real in &testbed.backends {
        testbed.wait_healthy(MQTT, &real.address()).unwrap();
    }
    let load = mqtt_load(&testbed.client, devices(DEVICES));
    wait_for("every device to be connected", PATIENCE, || {
        Ok((load.report().connections >= DEVICES as u64).then_some(()))
    })
    .unwrap();
    let frozen = &testbed.backends[0];
    let address = frozen.address();
    let flows = |address: &str| {
        testbed.why(MQTT, address).unwrap()["real"]["flows"]
            .as_u64()
            .unwrap_or_default()
    };
    let held = flows(&address);
    assert!(held > 0, "each broker has devices");
    assert_eq!(load.report().failed, 0, "{:?}", load.report().errors);

    let before = load.report().connections;
    frozen.server.mosquitto.freeze().unwrap();
    testbed.wait_state(MQTT, &address, "down").unwrap();
    let why = testbed.why(MQTT, &address).unwrap();
    assert_eq!(why["probe"]["verdict"], "unhealthy", "{why:#}");
    assert_eq!(why["real"]["share"], 0.0, "{why:#}");
    // Each of its devices was reset and is on another broker.
    wait_for("its devices to be connected again", PATIENCE, || {
        Ok((load.report().connections >= before + held).then_some(()))
    })
    .unwrap();
    load.wait_requests(5 * DEVICES as u64, PATIENCE).unwrap();
    let reasons = testbed.lbctl(&["-o", "json", "stats"]).unwrap();
    assert!(reasons.contains("reset_down_real"), "{reasons}");

    frozen.server.mosquitto.thaw().unwrap();
    testbed.wait_healthy(MQTT, &address).unwrap();
    // Rebalancing after the return breaks no connections.
    let failed = load.report().failed;
    load.wait_requests(5 * DEVICES as u64, PATIENCE).unwrap();
    assert_eq!(
        load.report().failed,
        failed,
        "nothing breaks when it is back: {:?}",
        load.report().errors
    );
}

pub fn a_handshake_does_not_detect_it() {
    let testbed = new_testbed(1, &[MQTT]);
    let real = &testbed.backends[0];
    testbed
        .add_service(MQTT, &["--check", &format!("tcp {CHECK}")], &[real])
        .unwrap();
    testbed.wait_healthy(MQTT, &real.address()).unwrap();
    real.server.mosquitto.freeze().unwrap();
    // The same real with a check that expects an answer of MQTT.
    testbed
        .lbctl(&["set-vip", MQTT, "--check", &format!("mqtt {CHECK}")])
        .unwrap();
    testbed.wait_state(MQTT, &real.address(), "down").unwrap();
    testbed
        .lbctl(&["set-vip", MQTT, "--check", &format!("tcp {CHECK}")])
        .unwrap();
    testbed.wait_healthy(MQTT, &real.address()).unwrap();
    real.server.mosquitto.thaw().unwrap();
}
