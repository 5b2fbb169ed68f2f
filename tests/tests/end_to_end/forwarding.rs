//! Every forwarding mode and pair of families, with HTTP, MQTT and UDP.

use std::time::Duration;

use lb_tests::{
    AgentOptions, Host, XdpMode,
    client::{MqttPlan, download, mqtt_load, udp_exchange},
    server::{BIG_FILE, UdpEcho},
};

use crate::fixture::{
    HTTP_V4, HTTP_V6, MQTT_V4, MQTT_V6, PATIENCE, Testbed, assert_no_failure, every_real_answers,
    serve, target,
};

/// Sends HTTP and MQTT through a pair of VIPs. `v6_reals` selects the family of the reals' addresses.
fn http_and_mqtt(vips: [&'static str; 2], forward: &str, v6_reals: bool, mode: XdpMode) -> Testbed {
    let testbed = Testbed::new(
        3,
        &vips,
        AgentOptions {
            mode,
            ..AgentOptions::default()
        },
    )
    .unwrap();
    let options = format!("--forward {forward}");
    for vip in vips {
        serve(&testbed, vip, &options, v6_reals, &[100]);
    }
    let [http, mqtt] = vips;
    every_real_answers(&testbed.client, http, &testbed.names());

    let load = mqtt_load(
        &testbed.client,
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
    assert_no_failure(&report);
    assert!(report.connections > 9, "{report:?}");

    // The agent's counts agree with those of the clients.
    for vip in vips {
        let stats = testbed.stats(vip).unwrap();
        let reals = stats["reals"].as_array().unwrap();
        assert_eq!(reals.len(), 3);
        let sum: u64 = reals
            .iter()
            .map(|real| real["packets"].as_u64().unwrap())
            .sum();
        assert_eq!(stats["packets"].as_u64().unwrap(), sum, "{stats:#}");
        assert_eq!(stats["dropped_packets"], 0, "{stats:#}");
    }
    assert!(testbed.stats(mqtt).unwrap()["opened"].as_u64().unwrap() >= report.connections);
    testbed
}

pub fn v4_in_v4() {
    http_and_mqtt([HTTP_V4, MQTT_V4], "ipip", false, XdpMode::Native);
}

pub fn v6_in_v6() {
    http_and_mqtt([HTTP_V6, MQTT_V6], "ipip", true, XdpMode::Native);
}

pub fn v4_in_v6() {
    http_and_mqtt([HTTP_V4, MQTT_V4], "ipip", true, XdpMode::Native);
}

pub fn v6_in_v4() {
    http_and_mqtt([HTTP_V6, MQTT_V6], "ipip", false, XdpMode::Native);
}

pub fn v4_in_udp() {
    http_and_mqtt([HTTP_V4, MQTT_V4], "gue", false, XdpMode::Native);
}

pub fn v6_in_udp_over_v4() {
    http_and_mqtt([HTTP_V6, MQTT_V6], "gue", false, XdpMode::Native);
}

pub fn v4_in_udp_over_v6() {
    http_and_mqtt([HTTP_V4, MQTT_V4], "gue", true, XdpMode::Native);
}

pub fn v4_by_mac() {
    http_and_mqtt([HTTP_V4, MQTT_V4], "l2", false, XdpMode::Native);
}

pub fn v6_by_mac() {
    http_and_mqtt([HTTP_V6, MQTT_V6], "l2", true, XdpMode::Native);
}

pub fn generic_mode() {
    let testbed = http_and_mqtt([HTTP_V4, MQTT_V4], "ipip", false, XdpMode::Generic);
    let status = testbed.agent.ctl_json("status").unwrap();
    assert_eq!(status["interfaces"][0]["xdp_mode"], "generic", "{status:#}");
}

pub fn large_downloads_arrive_whole() {
    let testbed = Testbed::new(1, &[HTTP_V4, HTTP_V6], AgentOptions::default()).unwrap();
    testbed.backends[0]
        .server
        .nginx
        .as_ref()
        .unwrap()
        .add_big_file()
        .unwrap();
    for (vip, options, v6_reals) in [
        (HTTP_V4, "--forward ipip", false),
        (HTTP_V6, "--forward ipip", true),
    ] {
        serve(&testbed, vip, options, v6_reals, &[100]);
        assert_eq!(
            download(&testbed.client, target(vip)).unwrap(),
            BIG_FILE,
            "{vip}"
        );
    }
    for (vip, v6_reals) in [(HTTP_V4, true), (HTTP_V6, false)] {
        testbed.agent.ctl(&format!("del-vip {vip}")).unwrap();
        serve(&testbed, vip, "--forward ipip", v6_reals, &[100]);
        assert_eq!(
            download(&testbed.client, target(vip)).unwrap(),
            BIG_FILE,
            "{vip} on the other family"
        );
    }
    for (vip, v6_reals) in [(HTTP_V4, false), (HTTP_V6, true)] {
        testbed.agent.ctl(&format!("del-vip {vip}")).unwrap();
        serve(&testbed, vip, "--forward l2", v6_reals, &[100]);
        assert_eq!(
            download(&testbed.client, target(vip)).unwrap(),
            BIG_FILE,
            "{vip} by MAC"
        );
    }
}

pub fn udp_flows_stay_on_one_real() {
    const UDP_V4: &str = "192.0.2.30:7/udp";
    const UDP_V6: &str = "[2001:db8::30]:7/udp";
    let testbed = Testbed::new(3, &[UDP_V4, UDP_V6], AgentOptions::default()).unwrap();
    for (vip, v6_reals) in [(UDP_V4, false), (UDP_V6, true)] {
        let target = target(vip);
        let _echoes: Vec<UdpEcho> = testbed
            .backends
            .iter()
            .map(|real| UdpEcho::start(&real.host, target).unwrap())
            .collect();
        // A datagram does not show whether its flow is new. A new VIP spreads flows from the start nevertheless.
        serve(&testbed, vip, "--forward ipip", v6_reals, &[100]);
        let mut seen = std::collections::BTreeSet::new();
        for port in 20_000..20_060 {
            let answers: Vec<String> = (0..3)
                .map(|number| {
                    let payload = format!("{number}");
                    let answer =
                        udp_exchange(&testbed.client, port, target, payload.as_bytes()).unwrap();
                    let answer = String::from_utf8(answer).unwrap();
                    let mut words = answer.split_whitespace();
                    let server = words.next().unwrap().to_owned();
                    let source: std::net::SocketAddr = words.next().unwrap().parse().unwrap();
                    assert_eq!(
                        (source.ip(), source.port()),
                        (testbed.client.address_like(target.ip()), port)
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
        assert_eq!(seen, testbed.names());
    }
}

/// Makes a client send no packet larger than this to VIPs: room for a tunnel's header is left.
fn narrow_routes(client: &Host, mtu: u32) {
    for (family, vips) in [("-4", "192.0.2.0/24"), ("-6", "2001:db8::/64")] {
        let routes = client
            .sh(&format!("ip {family} route show {vips}"))
            .unwrap();
        let route = routes.lines().next().unwrap();
        let line = format!("ip {family} route replace {route} mtu {mtu}");
        client.sh(&line).unwrap();
    }
}

pub fn datagrams_in_fragments_reach_the_real_of_their_flow() {
    const UDP_V4: &str = "192.0.2.30:7/udp";
    const UDP_V6: &str = "[2001:db8::30]:7/udp";
    let mut testbed = Testbed::new(3, &[UDP_V4, UDP_V6], AgentOptions::default()).unwrap();
    narrow_routes(&testbed.client, 1_400);
    let payload = vec![b'x'; 5_000];
    for (vip, v6_reals) in [(UDP_V4, false), (UDP_V6, true)] {
        let target = target(vip);
        let _echoes: Vec<UdpEcho> = testbed
            .backends
            .iter()
            .map(|real| UdpEcho::start(&real.host, target).unwrap())
            .collect();
        for mode in ["ipip", "gue", "l2"] {
            serve(
                &testbed,
                vip,
                &format!("--forward {mode}"),
                v6_reals,
                &[100],
            );
            let mut seen = std::collections::BTreeSet::new();
            for port in 20_000..20_030 {
                let server = |payload: &[u8]| {
                    let answer = udp_exchange(&testbed.client, port, target, payload).unwrap();
                    let answer = String::from_utf8(answer).unwrap();
                    let mut words = answer.split_whitespace().map(str::to_owned);
                    let server = words.next().unwrap();
                    assert_eq!(words.nth(1).unwrap().as_bytes(), payload);
                    server
                };
                let small = server(b"small");
                assert_eq!(server(&payload), small, "{vip} {mode}, port {port}");
                seen.insert(small);
            }
            assert_eq!(seen, testbed.names(), "{vip} {mode}");
            testbed.agent.ctl(&format!("del-vip {vip}")).unwrap();
        }
    }
    testbed.check().unwrap();
}
