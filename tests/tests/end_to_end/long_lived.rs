//! Connections that stay: no change to others and no end of the agent is seen on them.

use std::time::Duration;

use lb_tests::{
    AgentOptions,
    client::{Connections, MqttPlan, get, http_load, mqtt_load},
    wait_for,
};

use crate::fixture::{Behind, HTTP_V4, MQTT_V4, PATIENCE, Stand, assert_whole, endless, target};

/// Requests that must have gone through at each stage.
const SOME: u64 = 150;

/// Of each kind. They go where the client's ports lead them: that one of three reals has none of them happens
/// once in 10^10.
const CONNECTIONS: usize = 60;

#[test]
fn connections_whose_real_lives_survive_everything() {
    let vips = [HTTP_V4, MQTT_V4];
    let mut stand = Stand::new(3, &vips, AgentOptions::default());
    for vip in vips {
        stand.serve(vip, "--forward ipip", false, &[100]);
    }
    let pause = Duration::from_millis(5);
    let kept = [
        http_load(
            &stand.client,
            endless(HTTP_V4, Connections::Kept, CONNECTIONS, pause),
        ),
        mqtt_load(
            &stand.client,
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

    // A real comes and takes connections of others than ours.
    let fourth = Behind::new(stand.site.real().unwrap(), &vips);
    let address = fourth.address(false);
    for vip in vips {
        stand
            .agent
            .ctl(&format!("add-real {vip} {address} --weight 1000"))
            .unwrap();
    }
    wait_for("an answer of the added real", PATIENCE, || {
        Ok((get(&stand.client, target(HTTP_V4), "/")?.0 == "real4").then_some(()))
    })
    .unwrap();
    under_load();

    stand.agent.kill().unwrap();
    under_load();
    stand.agent.run().unwrap();
    under_load();
    let status = stand.agent.ctl_json("status").unwrap();
    assert_eq!(status["adopted"], true, "{status:#}");
    stand.agent.stop().unwrap();
    under_load();
    stand.agent.run().unwrap();

    for weight in [0, 65_535, 100] {
        for vip in vips {
            for real in &stand.reals {
                stand
                    .agent
                    .ctl(&format!(
                        "set-real {vip} {} --weight {weight}",
                        real.address(false)
                    ))
                    .unwrap();
            }
        }
        under_load();
    }

    // The fourth host dies with what is on it, and only then is it deleted.
    drop(fourth);
    under_load();
    for vip in vips {
        stand
            .agent
            .ctl(&format!("del-real {vip} {address}"))
            .unwrap();
    }
    under_load();
    // Killed right after a change: the next agent finds it done.
    stand.agent.kill().unwrap();
    under_load();
    stand.agent.run().unwrap();
    under_load();
    let list = stand.agent.ctl_json(&format!("list {HTTP_V4}")).unwrap();
    assert_eq!(list[0]["reals"].as_array().unwrap().len(), 3, "{list:#}");

    for load in kept {
        let report = load.stop().unwrap();
        assert_whole(&report);
        assert_eq!(
            report.connections, CONNECTIONS as u64,
            "no connection was lost: {report:?}"
        );
    }
}
