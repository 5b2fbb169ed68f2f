//! Every forwarding mode and pair of families, with HTTP, MQTT and UDP.

use std::time::Duration;

use lb_tests::{
    AgentOptions, XdpMode,
    client::{MqttPlan, download, mqtt_load, udp_exchange},
    server::{BIG_FILE, UdpEcho},
};

use crate::fixture::{
    HTTP_V4, HTTP_V6, MQTT_V4, MQTT_V6, PATIENCE, Stand, assert_whole, every_real_answers, target,
};

/// HTTP and MQTT through one pair of VIPs; `v6_reals` says how the reals are addressed.
fn http_and_mqtt(vips: [&'static str; 2], forward: &str, v6_reals: bool, mode: XdpMode) -> Stand {
    let stand = Stand::new(
        3,
        &vips,
        AgentOptions {
            mode,
            ..AgentOptions::default()
        },
    );
    let options = format!("--forward {forward}");
    for vip in vips {
        stand.serve(vip, &options, v6_reals, &[100]);
    }
    let [http, mqtt] = vips;
    every_real_answers(&stand.client, http, &stand.names());

    let load = mqtt_load(
        &stand.client,
        MqttPlan {
            target: target(mqtt),
            clients: 9,
            messages: Some(10),
            payload: 200,
            pause: Duration::ZERO,
        },
    );
    load.wait_requests(500, PATIENCE).unwrap();
    let report = load.stop().unwrap();
    assert_whole(&report);
    assert!(report.connections > 9, "{report:?}");

    // What the clients saw is what the agent counts.
    for vip in vips {
        let stats = stand.stats(vip);
        let reals = stats["reals"].as_array().unwrap();
        assert_eq!(reals.len(), 3);
        let sum: u64 = reals
            .iter()
            .map(|real| real["packets"].as_u64().unwrap())
            .sum();
        assert_eq!(stats["packets"].as_u64().unwrap(), sum, "{stats:#}");
        assert_eq!(stats["dropped_packets"], 0, "{stats:#}");
    }
    assert!(stand.stats(mqtt)["opened"].as_u64().unwrap() >= report.connections);
    stand
}

#[test]
fn v4_in_v4() {
    http_and_mqtt([HTTP_V4, MQTT_V4], "ipip", false, XdpMode::Native);
}

#[test]
fn v6_in_v6() {
    http_and_mqtt([HTTP_V6, MQTT_V6], "ipip", true, XdpMode::Native);
}

#[test]
fn v4_in_v6() {
    http_and_mqtt([HTTP_V4, MQTT_V4], "ipip", true, XdpMode::Native);
}

#[test]
fn v6_in_v4() {
    http_and_mqtt([HTTP_V6, MQTT_V6], "ipip", false, XdpMode::Native);
}

#[test]
fn v4_by_mac() {
    http_and_mqtt([HTTP_V4, MQTT_V4], "l2", false, XdpMode::Native);
}

#[test]
fn v6_by_mac() {
    http_and_mqtt([HTTP_V6, MQTT_V6], "l2", true, XdpMode::Native);
}

#[test]
fn generic_mode() {
    let stand = http_and_mqtt([HTTP_V4, MQTT_V4], "ipip", false, XdpMode::Generic);
    let status = stand.agent.ctl_json("status").unwrap();
    assert_eq!(status["interfaces"][0]["xdp_mode"], "generic", "{status:#}");
}

#[test]
fn large_downloads_come_whole() {
    let stand = Stand::new(1, &[HTTP_V4, HTTP_V6], AgentOptions::default());
    stand.reals[0].nginx.add_big_file().unwrap();
    for (vip, options, v6_reals) in [
        (HTTP_V4, "--forward ipip", false),
        (HTTP_V6, "--forward ipip", true),
    ] {
        stand.serve(vip, options, v6_reals, &[100]);
        assert_eq!(
            download(&stand.client, target(vip)).unwrap(),
            BIG_FILE,
            "{vip}"
        );
    }
    for (vip, v6_reals) in [(HTTP_V4, true), (HTTP_V6, false)] {
        stand.agent.ctl(&format!("del-vip {vip}")).unwrap();
        stand.serve(vip, "--forward ipip", v6_reals, &[100]);
        assert_eq!(
            download(&stand.client, target(vip)).unwrap(),
            BIG_FILE,
            "{vip} on the other family"
        );
    }
    for (vip, v6_reals) in [(HTTP_V4, false), (HTTP_V6, true)] {
        stand.agent.ctl(&format!("del-vip {vip}")).unwrap();
        stand.serve(vip, "--forward l2", v6_reals, &[100]);
        assert_eq!(
            download(&stand.client, target(vip)).unwrap(),
            BIG_FILE,
            "{vip} by MAC"
        );
    }
}

#[test]
fn udp_flows_stay_on_one_real() {
    const UDP_V4: &str = "192.0.2.30:7/udp";
    const UDP_V6: &str = "[2001:db8::30]:7/udp";
    let stand = Stand::new(3, &[UDP_V4, UDP_V6], AgentOptions::default());
    for (vip, v6_reals) in [(UDP_V4, false), (UDP_V6, true)] {
        let target = target(vip);
        let _echoes: Vec<UdpEcho> = stand
            .reals
            .iter()
            .map(|real| UdpEcho::start(&real.host, target).unwrap())
            .collect();
        // A datagram does not tell whether its flow is new; a new VIP spreads flows from the start all the same.
        stand.serve(vip, "--forward ipip", v6_reals, &[100]);
        let mut seen = std::collections::BTreeSet::new();
        for port in 20_000..20_060 {
            let answers: Vec<String> = (0..3)
                .map(|number| {
                    let payload = format!("{number}");
                    let answer =
                        udp_exchange(&stand.client, port, target, payload.as_bytes()).unwrap();
                    let answer = String::from_utf8(answer).unwrap();
                    let mut words = answer.split_whitespace();
                    let server = words.next().unwrap().to_owned();
                    let source: std::net::SocketAddr = words.next().unwrap().parse().unwrap();
                    assert_eq!(
                        (source.ip(), source.port()),
                        (stand.client.address_like(target.ip()), port)
                    );
                    assert_eq!(words.next(), Some(payload.as_str()));
                    server
                })
                .collect();
            assert!(
                answers.iter().all(|server| *server == answers[0]),
                "port {port}: {answers:?}"
            );
            seen.extend(answers);
        }
        assert_eq!(seen, stand.names());
    }
}
