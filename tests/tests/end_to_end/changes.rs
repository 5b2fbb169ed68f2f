//! Changes under load.

use std::time::Duration;

use lb_tests::{
    AgentOptions,
    client::{Connections, MqttPlan, get, http_load, mqtt_load},
    wait_for,
};

use crate::fixture::{Behind, HTTP_V4, MQTT_V4, PATIENCE, Stand, assert_whole, endless, target};

/// Requests that must have gone through after each change.
const SOME: u64 = 200;

#[test]
fn no_request_fails_while_reals_come_change_and_go() {
    let mut stand = Stand::new(3, &[HTTP_V4, MQTT_V4], AgentOptions::default());
    stand.serve(HTTP_V4, "--forward ipip", false, &[100]);
    stand.serve(MQTT_V4, "--forward ipip", false, &[100]);
    let pause = Duration::from_millis(2);
    let kept = http_load(
        &stand.client,
        endless(HTTP_V4, Connections::Kept, 24, pause),
    );
    let new = http_load(&stand.client, endless(HTTP_V4, Connections::New, 4, pause));
    let mqtt = mqtt_load(
        &stand.client,
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

    let fourth = Behind::new(stand.site.real().unwrap(), &[HTTP_V4, MQTT_V4]);
    let address = fourth.address(false);
    stand.reals.push(fourth);
    for vip in [HTTP_V4, MQTT_V4] {
        stand
            .agent
            .ctl(&format!("add-real {vip} {address} --weight 400"))
            .unwrap();
    }
    under_load();
    for weight in [0, 50, 65_535, 100] {
        for (vip, real) in [HTTP_V4, MQTT_V4].into_iter().zip(&stand.reals) {
            stand
                .agent
                .ctl(&format!(
                    "set-real {vip} {} --weight {weight}",
                    real.address(false)
                ))
                .unwrap();
        }
        under_load();
    }
    // To delete a real is to end its connections: as an operator would, it is drained first, and what has begun
    // may end. (The connections that stay began before it came.)
    for verb in ["drain", "del-real"] {
        for vip in [HTTP_V4, MQTT_V4] {
            stand.agent.ctl(&format!("{verb} {vip} {address}")).unwrap();
        }
        new.wait_begun(PATIENCE).unwrap();
    }
    under_load();

    for load in [kept, mqtt] {
        let report = load.stop().unwrap();
        assert_whole(&report);
        assert_eq!(report.connections, 24, "no connection was lost: {report:?}");
    }
    let report = new.stop().unwrap();
    assert_whole(&report);
    assert!(
        report.servers.contains_key("real4"),
        "the added real took connections: {:?}",
        report.servers
    );
}

#[test]
fn a_drained_real_keeps_what_it_has_and_takes_nothing_new() {
    /// That all of them are on one of two reals happens once in 10^11.
    const CONNECTIONS: usize = 40;
    let stand = Stand::new(2, &[HTTP_V4], AgentOptions::default());
    stand.serve(HTTP_V4, "--forward ipip", false, &[100]);
    let kept = http_load(
        &stand.client,
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
    let real = stand.reals[0].address(false);
    stand.agent.ctl(&format!("drain {HTTP_V4} {real}")).unwrap();
    for _ in 0..100 {
        assert_eq!(get(&stand.client, target(HTTP_V4), "/").unwrap().0, "real2");
    }
    kept.wait_requests(100, PATIENCE).unwrap();
    stand
        .agent
        .ctl(&format!("undrain {HTTP_V4} {real}"))
        .unwrap();
    wait_for("the real to take connections again", PATIENCE, || {
        Ok((get(&stand.client, target(HTTP_V4), "/")?.0 == "real1").then_some(()))
    })
    .unwrap();
    let report = kept.stop().unwrap();
    assert_whole(&report);
    assert_eq!(
        report.connections, CONNECTIONS as u64,
        "no connection was lost: {report:?}"
    );
}
