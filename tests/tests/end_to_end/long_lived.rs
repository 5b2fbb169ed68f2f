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

/// The state of a VIP's slots (settled, in their window, with exceptions), and the packets that consulted the flow table
/// and all.
fn slots(testbed: &Testbed, vip: &str) -> anyhow::Result<([u64; 3], [u64; 2])> {
    let stats = testbed.agent.ctl_json(&format!("stats {vip}"))?;
    let vip = &stats["vips"][0];
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
    let states = ["settled", "in_window", "exceptions"].map(|state| number(&vip["slots"][state]));
    let lookups = number(&vip["table_hits"]) + number(&vip["table_misses"]);
    Ok((states, [lookups, number(&vip["packets"])]))
}

pub fn a_new_vip_is_settled_before_its_first_packet() {
    let vips = [HTTP_V4, "192.0.2.99:5353/udp"];
    let testbed = Testbed::new(1, &[HTTP_V4], AgentOptions::default()).unwrap();
    for vip in vips {
        let reals: Vec<(String, u16)> = (1..=20)
            .map(|host| (format!("10.9.9.{host}"), 100))
            .collect();
        testbed.agent.add_service(vip, "", &reals).unwrap();
    }
    for vip in vips {
        wait_for("the slots of a new VIP to settle", PATIENCE, || {
            let ([settled, in_window, exceptions], _) = slots(&testbed, vip)?;
            Ok((settled > 0 && in_window + exceptions == 0).then_some(()))
        })
        .unwrap();
    }
}

pub fn a_vip_whose_reals_come_up_one_by_one_consults_no_flow_table() {
    const KEPT: usize = 60;
    let mut testbed = Testbed::new(3, &[HTTP_V4], AgentOptions::default()).unwrap();
    let vip = testbed.lbctl(&[
        "add-vip",
        HTTP_V4,
        "--check",
        "http interval=1s",
        "--steering",
        "static period=500ms",
    ]);
    vip.unwrap();
    for (real, weight) in testbed.backends.iter().zip(["100", "200", "300"]) {
        let words = ["add-real", HTTP_V4, &real.address(), "--weight", weight];
        testbed.lbctl(&words).unwrap();
    }
    for real in &testbed.backends {
        testbed.wait_healthy(HTTP_V4, &real.address()).unwrap();
    }
    wait_for("the slots of a new VIP to settle", PATIENCE, || {
        let ([_, in_window, exceptions], _) = slots(&testbed, HTTP_V4)?;
        Ok((in_window + exceptions == 0).then_some(()))
    })
    .unwrap();
    let loads = [Connections::Kept, Connections::New].map(|connections| {
        let plan = endless(HTTP_V4, connections, KEPT, Duration::from_millis(20));
        http_load(&testbed.client, plan)
    });
    // For some periods of the slow start of all reals, in which the agent dies.
    for load in &loads {
        load.wait_requests(40 * SOME, PATIENCE).unwrap();
    }
    testbed.agent.kill().unwrap();
    for load in &loads {
        load.wait_requests(SOME, PATIENCE).unwrap();
    }
    testbed.agent.run().unwrap();
    for load in &loads {
        load.wait_requests(40 * SOME, PATIENCE).unwrap();
    }
    let (states, [lookups, packets]) = slots(&testbed, HTTP_V4).unwrap();
    println!("{states:?}, {lookups} of {packets} packets looked up");
    assert!(
        lookups * 100 <= packets,
        "{states:?}, {lookups} of {packets} packets looked up"
    );
    for (load, kept) in loads.into_iter().zip([true, false]) {
        let report = load.stop().unwrap();
        assert_no_failure(&report);
        assert!(!kept || report.connections == KEPT as u64, "{report:?}");
    }
}

pub fn connections_stay_while_slots_settle_and_agents_die() {
    const WINDOW: Duration = Duration::from_secs(4);
    const CONNECTIONS: usize = 1_000;
    // Each sends several times within a window.
    const PAUSE: Duration = Duration::from_secs(1);
    let mut testbed = Testbed::new(3, &[HTTP_V4], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--window 4s", false, &[100]);
    let load = http_load(
        &testbed.client,
        endless(HTTP_V4, Connections::Kept, CONNECTIONS, PAUSE),
    );
    load.wait_requests(CONNECTIONS as u64, PATIENCE).unwrap();
    let mut classes_helped = 0;
    for round in 0..12_u32 {
        for (number, real) in (0..).zip(&testbed.backends) {
            let weight = 100 + 20 * ((round + number) % 3);
            let address = real.address();
            testbed
                .agent
                .ctl(&format!("set-real {HTTP_V4} {address} --weight {weight}"))
                .unwrap();
        }
        match round % 4 {
            // At any moment of a window, of its end, and of the sweeps after it.
            1 => {
                std::thread::sleep(Duration::from_millis(137 * u64::from(round)));
                testbed.agent.kill().unwrap();
                load.wait_requests(SOME, PATIENCE).unwrap();
                testbed.agent.run().unwrap();
            }
            3 => {
                // Nothing changes until only exceptions are left.
                wait_for("the windows to end", PATIENCE, || {
                    let ([_, in_window, _], _) = slots(&testbed, HTTP_V4)?;
                    Ok((in_window == 0).then_some(()))
                })
                .unwrap();
                std::thread::sleep(WINDOW / 2);
                let ([_, _, exceptions], before) = slots(&testbed, HTTP_V4).unwrap();
                std::thread::sleep(WINDOW / 2);
                let (_, after) = slots(&testbed, HTTP_V4).unwrap();
                let [lookups, packets] = [0, 1].map(|at| after[at] - before[at]);
                println!(
                    "{exceptions} slots have exceptions, {lookups} of {packets} packets looked up"
                );
                classes_helped += u64::from(exceptions > 0 && lookups < packets);
            }
            _ => load.wait_requests(SOME, PATIENCE).unwrap(),
        }
    }
    assert!(classes_helped > 0);
    let report = load.stop().unwrap();
    assert_no_failure(&report);
    assert_eq!(
        report.connections, CONNECTIONS as u64,
        "no connection was lost: {report:?}"
    );
}
