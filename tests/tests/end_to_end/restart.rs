//! Restarts and crashes of the agent do not affect packets.

use std::time::Duration;

use lb_tests::{
    AgentOptions,
    client::{Connections, MqttPlan, get, http_load, mqtt_load, unanswered},
};
use serde_json::Value;

use crate::fixture::{
    HTTP_V4, HTTP_V6, MQTT_V4, PATIENCE, Testbed, assert_no_failure, endless, serve, target,
};

/// VIPs of the test with every kind of ring and tracking.
const VIPS: [&str; 3] = [HTTP_V4, HTTP_V6, MQTT_V4];

/// Requests that must have been answered at each stage.
const SOME: u64 = 300;

/// Returns the operator's configuration, without fields that change by themselves.
fn intent(testbed: &Testbed) -> Vec<Value> {
    let mut list = testbed
        .agent
        .ctl_json("list")
        .unwrap()
        .as_array()
        .unwrap()
        .clone();
    for vip in &mut list {
        for real in vip["reals"].as_array_mut().unwrap() {
            real["flows"] = Value::Null;
            real["state"] = Value::Null;
        }
    }
    list
}

fn checksums(testbed: &Testbed) -> Vec<Value> {
    VIPS.iter()
        .map(|vip| testbed.agent.ctl_json(&format!("ring {vip}")).unwrap()["checksum"].clone())
        .collect()
}

pub fn a_killed_agent_and_its_successor_lose_nothing() {
    let mut testbed = Testbed::new(3, &VIPS, AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100, 200, 300]);
    serve(
        &testbed,
        HTTP_V6,
        "--forward ipip --ring maglev",
        true,
        &[100],
    );
    serve(
        &testbed,
        MQTT_V4,
        "--forward ipip --track all",
        false,
        &[100],
    );
    let (before, rings) = (intent(&testbed), checksums(&testbed));

    let pause = Duration::from_millis(2);
    let loads = [
        http_load(
            &testbed.client,
            endless(HTTP_V4, Connections::Kept, 8, pause),
        ),
        http_load(
            &testbed.client,
            endless(HTTP_V4, Connections::New, 4, pause),
        ),
        http_load(
            &testbed.client,
            endless(HTTP_V6, Connections::New, 4, pause),
        ),
        mqtt_load(
            &testbed.client,
            MqttPlan {
                target: target(MQTT_V4),
                clients: 10,
                messages: Some(50),
                payload: 50,
                pause,
            },
        ),
    ];
    let under_load = || {
        for load in &loads {
            load.wait_requests(SOME, PATIENCE).unwrap();
        }
    };
    under_load();
    testbed.agent.kill().unwrap();
    under_load();
    testbed.agent.run().unwrap();
    under_load();
    assert_eq!(intent(&testbed), before);
    assert_eq!(checksums(&testbed), rings);
    let status = testbed.agent.ctl_json("status").unwrap();
    assert_eq!(status["adopted"], true, "{status:#}");

    // Stopped as an operator does it, the agent leaves packets flowing as well.
    testbed.agent.stop().unwrap();
    under_load();
    testbed.agent.run().unwrap();
    // The agent can change what it has adopted.
    let real = testbed.backends[0].address();
    testbed
        .agent
        .ctl(&format!("set-real {HTTP_V4} {real} --weight 150"))
        .unwrap();
    under_load();
    for load in loads {
        assert_no_failure(&load.stop().unwrap());
    }
}

pub fn detach_ends_forwarding() {
    let mut testbed = Testbed::new(1, &[HTTP_V4], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    get(&testbed.client, target(HTTP_V4), "/").unwrap();
    testbed.agent.stop().unwrap();
    get(&testbed.client, target(HTTP_V4), "/").unwrap();
    testbed.agent.detach().unwrap();
    let link = testbed
        .network
        .balancer
        .sh("ip -details link show eth0")
        .unwrap();
    assert!(!link.contains("xdp"), "{link}");
    unanswered(&testbed.client, target(HTTP_V4)).unwrap();
    // The configuration is stored, so the next agent forwards again.
    testbed.agent.run().unwrap();
    get(&testbed.client, target(HTTP_V4), "/").unwrap();
}
