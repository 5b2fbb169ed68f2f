//! Changes of VIPs and reals under load.

use std::time::Duration;

use lb_tests::{
    AgentOptions,
    client::{Connections, MqttPlan, get, http_load, mqtt_load},
    wait_for,
};

use crate::fixture::{
    Backend, HTTP_V4, MQTT_V4, PATIENCE, Testbed, assert_no_failure, endless, serve, target,
};

/// Requests that must have been answered after each change.
const SOME: u64 = 200;

pub fn no_request_fails_while_reals_come_change_and_go() {
    let mut testbed = Testbed::new(3, &[HTTP_V4, MQTT_V4], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    serve(&testbed, MQTT_V4, "--forward ipip", false, &[100]);
    let pause = Duration::from_millis(2);
    let kept = http_load(
        &testbed.client,
        endless(HTTP_V4, Connections::Kept, 24, pause),
    );
    let new = http_load(
        &testbed.client,
        endless(HTTP_V4, Connections::New, 4, pause),
    );
    let mqtt = mqtt_load(
        &testbed.client,
        MqttPlan {
            target: target(MQTT_V4),
            clients: 24,
            messages: None,
            payload: 50,
            pause,
        },
    );
    let under_load = || {
        for load in [&kept, &new, &mqtt] {
            load.wait_requests(SOME, PATIENCE).unwrap();
        }
    };
    under_load();

    let fourth = Backend::start(testbed.network.real().unwrap(), &[HTTP_V4, MQTT_V4]).unwrap();
    let address = fourth.address();
    testbed.backends.push(fourth);
    for vip in [HTTP_V4, MQTT_V4] {
        testbed
            .agent
            .ctl(&format!("add-real {vip} {address} --weight 400"))
            .unwrap();
    }
    under_load();
    for weight in [0, 50, 65_535, 100] {
        for (vip, real) in [HTTP_V4, MQTT_V4].into_iter().zip(&testbed.backends) {
            testbed
                .agent
                .ctl(&format!(
                    "set-real {vip} {} --weight {weight}",
                    real.address()
                ))
                .unwrap();
        }
        under_load();
    }
    // Deleting a real breaks its connections, so it is drained first, and requests under way may end. (The persistent
    // connections were opened before the real was added.)
    for verb in ["drain", "del-real"] {
        for vip in [HTTP_V4, MQTT_V4] {
            testbed
                .agent
                .ctl(&format!("{verb} {vip} {address}"))
                .unwrap();
        }
        new.wait_begun(PATIENCE).unwrap();
    }
    under_load();

    for load in [kept, mqtt] {
        let report = load.stop().unwrap();
        assert_no_failure(&report);
        assert_eq!(report.connections, 24, "no connection was lost: {report:?}");
    }
    let report = new.stop().unwrap();
    assert_no_failure(&report);
    assert!(
        report.servers.contains_key("real4"),
        "the added real took connections: {:?}",
        report.servers
    );
}

pub fn a_drained_real_keeps_its_connections_and_takes_no_new_ones() {
    /// The probability that all of them are on one of two reals is 10^-11.
    const CONNECTIONS: usize = 40;
    let testbed = Testbed::new(2, &[HTTP_V4], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    let kept = http_load(
        &testbed.client,
        endless(
            HTTP_V4,
            Connections::Kept,
            CONNECTIONS,
            Duration::from_millis(5),
        ),
    );
    wait_for("connections on both reals", PATIENCE, || {
        Ok((kept.report().servers.len() == 2).then_some(()))
    })
    .unwrap();
    let real = testbed.backends[0].address();
    testbed
        .agent
        .ctl(&format!("drain {HTTP_V4} {real}"))
        .unwrap();
    for _ in 0..100 {
        assert_eq!(
            get(&testbed.client, target(HTTP_V4), "/").unwrap().0,
            "real2"
        );
    }
    kept.wait_requests(100, PATIENCE).unwrap();
    testbed
        .agent
        .ctl(&format!("undrain {HTTP_V4} {real}"))
        .unwrap();
    wait_for("the real to take connections again", PATIENCE, || {
        Ok((get(&testbed.client, target(HTTP_V4), "/")?.0 == "real1").then_some(()))
    })
    .unwrap();
    let report = kept.stop().unwrap();
    assert_no_failure(&report);
    assert_eq!(
        report.connections, CONNECTIONS as u64,
        "no connection was lost: {report:?}"
    );
}
