//! A broker that accepts TCP and says nothing.

use lb_tests::{client::mqtt_load, wait_for};

use crate::fixture::{MQTT, PATIENCE, Stand, devices};

/// Patient enough that no broker is taken for dead because this machine is busy.
const CHECK: &str = "interval=1s fast_interval=500ms timeout=1s";
const DEVICES: usize = 60;

#[test]
fn a_frozen_broker_is_found_and_its_clients_connect_anew() {
    let stand = Stand::new(3, &[MQTT]);
    let check = format!("mqtt {CHECK}");
    let reals: Vec<_> = stand.reals.iter().collect();
    stand.serve(
        MQTT,
        &["--on-down", "reset", "--track", "all", "--check", &check],
        &reals,
    );
    for real in &stand.reals {
        stand.wait_healthy(MQTT, &real.address());
    }
    let load = mqtt_load(&stand.client, devices(DEVICES));
    wait_for("every device to be connected", PATIENCE, || {
        Ok((load.report().connections >= DEVICES as u64).then_some(()))
    })
    .unwrap();
    let frozen = &stand.reals[0];
    let address = frozen.address();
    let flows = |address: &str| {
        stand.why(MQTT, address)["real"]["flows"]
            .as_u64()
            .unwrap_or_default()
    };
    let held = flows(&address);
    assert!(held > 0, "some devices are on each broker");
    assert_eq!(load.report().failed, 0, "{:?}", load.report().errors);

    let before = load.report().connections;
    frozen.mosquitto.freeze().unwrap();
    stand.wait_state(MQTT, &address, "down");
    let why = stand.why(MQTT, &address);
    assert_eq!(why["probe"]["verdict"], "unhealthy", "{why:#}");
    assert_eq!(why["real"]["share"], 0.0, "{why:#}");
    // Each of its devices was told and is on another broker.
    wait_for("its devices to be connected again", PATIENCE, || {
        Ok((load.report().connections >= before + held).then_some(()))
    })
    .unwrap();
    load.wait_requests(5 * DEVICES as u64, PATIENCE).unwrap();
    let reasons = stand.ctl(&["-o", "json", "stats"]);
    assert!(reasons.contains("reset_down_real"), "{reasons}");

    frozen.mosquitto.thaw().unwrap();
    stand.wait_healthy(MQTT, &address);
    // What was taken from others is not given back by breaking connections.
    let failed = load.report().failed;
    load.wait_requests(5 * DEVICES as u64, PATIENCE).unwrap();
    assert_eq!(
        load.report().failed,
        failed,
        "nothing breaks when it is back: {:?}",
        load.report().errors
    );
}

#[test]
fn a_handshake_is_not_enough_to_find_it() {
    let stand = Stand::new(1, &[MQTT]);
    let real = &stand.reals[0];
    stand.serve(MQTT, &["--check", &format!("tcp {CHECK}")], &[real]);
    stand.wait_healthy(MQTT, &real.address());
    real.mosquitto.freeze().unwrap();
    // The same real asked for the answer of a broker.
    stand.ctl(&["set-vip", MQTT, "--check", &format!("mqtt {CHECK}")]);
    stand.wait_state(MQTT, &real.address(), "down");
    stand.ctl(&["set-vip", MQTT, "--check", &format!("tcp {CHECK}")]);
    stand.wait_healthy(MQTT, &real.address());
    real.mosquitto.thaw().unwrap();
}
