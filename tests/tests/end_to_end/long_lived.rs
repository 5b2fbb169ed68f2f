//! Persistent connections: neither changes to other reals nor restarts of the agent affect them.

use std::time::Duration;

use lb_tests::{
    AgentOptions,
    client::{Connections, MqttPlan, get, http_load, mqtt_load},
    wait_for,
};

use crate::fixture::{
    Backend, HTTP_V4, MQTT_V4, PATIENCE, Testbed, assert_no_failure, endless, serve, target,
};

/// Requests that must have been answered at each stage.
const SOME: u64 = 150;

/// Connections of each kind. The probability that one of three reals has none of them is 10^-10.
const CONNECTIONS: usize = 60;

pub fn connections_whose_real_lives_survive_everything() {
    let vips = [HTTP_V4, MQTT_V4];
    let mut testbed = Testbed::new(3, &vips, AgentOptions::default()).unwrap();
    for vip in vips {
        serve(&testbed, vip, "--forward ipip", false, &[100]);
    }
    let pause = Duration::from_millis(5);
    let kept = [
        http_load(
            &testbed.client,
            endless(HTTP_V4, Connections::Kept, CONNECTIONS, pause),
        ),
        mqtt_load(
            &testbed.client,
            MqttPlan {
                target: target(MQTT_V4),
                clients: CONNECTIONS,
                messages: None,
                payload: 50,
                pause,
            },
        ),
    ];
    let under_load = || {
        for load in &kept {
            load.wait_requests(SOME, PATIENCE).unwrap();
        }
    };
    under_load();
    wait_for("connections on every real", PATIENCE, || {
        Ok((kept[0].report().servers.len() == 3).then_some(()))
    })
    .unwrap();

    // A real is added and takes new connections.
    let fourth = Backend::start(testbed.network.real().unwrap(), &vips).unwrap();
    let address = fourth.address();
    for vip in vips {
        testbed
            .agent
            .ctl(&format!("add-real {vip} {address} --weight 1000"))
            .unwrap();
    }
    wait_for("an answer of the added real", PATIENCE, || {
        Ok((get(&testbed.client, target(HTTP_V4), "/")?.0 == "real4").then_some(()))
    })
    .unwrap();
    under_load();

    testbed.agent.kill().unwrap();
    under_load();
    testbed.agent.run().unwrap();
    under_load();
    let status = testbed.agent.ctl_json("status").unwrap();
    assert_eq!(status["adopted"], true, "{status:#}");
    testbed.agent.stop().unwrap();
    under_load();
    testbed.agent.run().unwrap();

    for weight in [0, 65_535, 100] {
        for vip in vips {
            for real in &testbed.backends {
                testbed
                    .agent
                    .ctl(&format!(
                        "set-real {vip} {} --weight {weight}",
                        real.address()
                    ))
                    .unwrap();
            }
        }
        under_load();
    }

    // The fourth host dies, and its real is deleted only then.
    drop(fourth);
    under_load();
    for vip in vips {
        testbed
            .agent
            .ctl(&format!("del-real {vip} {address}"))
            .unwrap();
    }
    under_load();
    // The agent is killed right after a change, which the next agent must find.
    testbed.agent.kill().unwrap();
    under_load();
    testbed.agent.run().unwrap();
    under_load();
    let list = testbed.agent.ctl_json(&format!("list {HTTP_V4}")).unwrap();
    assert_eq!(list[0]["reals"].as_array().unwrap().len(), 3, "{list:#}");

    for load in kept {
        let report = load.stop().unwrap();
        assert_no_failure(&report);
        assert_eq!(
            report.connections, CONNECTIONS as u64,
            "no connection was lost: {report:?}"
        );
    }
}
