//! The agent may die; packets do not notice.

use std::time::Duration;

use lb_tests::{
    AgentOptions,
    client::{Connections, MqttPlan, get, http_load, mqtt_load, unanswered},
};
use serde_json::Value;

use crate::fixture::{HTTP_V4, HTTP_V6, MQTT_V4, PATIENCE, Stand, assert_whole, endless, target};

/// Requests that must have gone through at each stage.
const SOME: u64 = 300;

/// What an operator configured, without what changes by itself.
fn intent(stand: &Stand) -> Vec<Value> {
    let mut list = stand
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

fn checksums(stand: &Stand) -> Vec<Value> {
    stand
        .vips
        .iter()
        .map(|vip| stand.agent.ctl_json(&format!("ring {vip}")).unwrap()["checksum"].clone())
        .collect()
}

#[test]
fn a_killed_agent_and_its_successor_lose_nothing() {
    let mut stand = Stand::new(3, &[HTTP_V4, HTTP_V6, MQTT_V4], AgentOptions::default());
    stand.serve(HTTP_V4, "--forward ipip", false, &[100, 200, 300]);
    stand.serve(HTTP_V6, "--forward ipip --ring maglev", true, &[100]);
    stand.serve(MQTT_V4, "--forward ipip --track all", false, &[100]);
    let (before, rings) = (intent(&stand), checksums(&stand));

    let pause = Duration::from_millis(2);
    let loads = [
        http_load(&stand.client, endless(HTTP_V4, Connections::Kept, 8, pause)),
        http_load(&stand.client, endless(HTTP_V4, Connections::New, 4, pause)),
        http_load(&stand.client, endless(HTTP_V6, Connections::New, 4, pause)),
        mqtt_load(
            &stand.client,
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
    stand.agent.kill().unwrap();
    under_load();
    stand.agent.run().unwrap();
    under_load();
    assert_eq!(intent(&stand), before);
    assert_eq!(checksums(&stand), rings);
    let status = stand.agent.ctl_json("status").unwrap();
    assert_eq!(status["adopted"], true, "{status:#}");

    // Ended as an operator would, it leaves the packets flowing as well.
    stand.agent.stop().unwrap();
    under_load();
    stand.agent.run().unwrap();
    // And what it adopted it can change.
    let real = stand.reals[0].address(false);
    stand
        .agent
        .ctl(&format!("set-real {HTTP_V4} {real} --weight 150"))
        .unwrap();
    under_load();
    for load in loads {
        assert_whole(&load.stop().unwrap());
    }
}

#[test]
fn detach_ends_forwarding() {
    let mut stand = Stand::new(1, &[HTTP_V4], AgentOptions::default());
    stand.serve(HTTP_V4, "--forward ipip", false, &[100]);
    get(&stand.client, target(HTTP_V4), "/").unwrap();
    stand.agent.stop().unwrap();
    get(&stand.client, target(HTTP_V4), "/").unwrap();
    stand.agent.detach().unwrap();
    let link = stand
        .site
        .balancer
        .sh("ip -details link show eth0")
        .unwrap();
    assert!(!link.contains("xdp"), "{link}");
    unanswered(&stand.client, target(HTTP_V4)).unwrap();
    // The intent is still there: the next agent forwards again.
    stand.agent.run().unwrap();
    get(&stand.client, target(HTTP_V4), "/").unwrap();
}
