//! The testbed itself: without a balancer clients reach servers, and nothing is left behind.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use lb_tests::{
    Namespace, Network, RoutedNetwork,
    client::{
        Connections, DevicePlan, Devices, HttpPlan, MqttPlan, download, get, http_load, mqtt_load,
        udp_exchange,
    },
    harness::{
        Harness,
        Requirement::{Program, Root},
    },
    server::{BIG_FILE, Mosquitto, Nginx, UdpEcho},
    tests, wait_for,
};

/// Limit for what takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    Harness::new(&[
        Root,
        Program("ip"),
        Program("ethtool"),
        Program("nginx"),
        Program("mosquitto"),
    ])
    .tests(tests![
        clients_reach_servers_on_one_network,
        a_load_counts_failures,
        a_load_pauses_and_goes_on,
        devices_know_which_broker_disconnected_them_and_reconnect,
        the_router_reaches_both_sides,
        processes_in_a_namespace_end_with_it,
    ])
    .run()
}

fn plan(target: SocketAddr, connections: Connections, requests: u64) -> HttpPlan {
    HttpPlan {
        target,
        workers: 4,
        connections,
        pause: Duration::ZERO,
        requests: Some(requests),
    }
}

fn clients_reach_servers_on_one_network() {
    let network = Network::new().unwrap();
    let client = network.client().unwrap();
    let real = network.real().unwrap();
    let nginx = Nginx::start(&real, 80).unwrap();
    nginx.add_big_file().unwrap();
    let _broker = Mosquitto::start(&real, 1883).unwrap();
    for address in [real.v4, real.v6] {
        let (server, body) = get(&client, SocketAddr::new(address, 80), "/").unwrap();
        assert_eq!(server, "real1");
        let seen = body
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<IpAddr>()
            .unwrap();
        assert_eq!(seen, client.address_like(address));

        let kept = http_load(
            &client,
            plan(SocketAddr::new(address, 80), Connections::Kept, 400),
        )
        .finish()
        .unwrap();
        assert_eq!(
            (kept.requests, kept.failed, kept.connections),
            (400, 0, 4),
            "{:?}",
            kept.errors
        );
        let new = http_load(
            &client,
            plan(SocketAddr::new(address, 80), Connections::New, 100),
        )
        .finish()
        .unwrap();
        assert_eq!(
            (new.requests, new.failed, new.connections),
            (100, 0, 100),
            "{:?}",
            new.errors
        );
        assert_eq!(new.servers.get("real1"), Some(&100));

        let mqtt = mqtt_load(
            &client,
            MqttPlan {
                target: SocketAddr::new(address, 1883),
                clients: 3,
                messages: Some(5),
                payload: 100,
                pause: Duration::ZERO,
            },
        );
        mqtt.wait_requests(50, PATIENCE).unwrap();
        let mqtt = mqtt.stop().unwrap();
        assert_eq!(mqtt.failed, 0, "{:?}", mqtt.errors);
        assert!(mqtt.connections > 3);

        let _echo = UdpEcho::start(&real, SocketAddr::new(address, 7)).unwrap();
        let answer = udp_exchange(&client, 0, SocketAddr::new(address, 7), b"hello").unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with("real1 ") && answer.ends_with(" hello"),
            "{answer}"
        );
    }
    assert_eq!(
        download(&client, SocketAddr::new(real.v4, 80)).unwrap(),
        BIG_FILE
    );
}

fn a_load_counts_failures() {
    let network = Network::new().unwrap();
    let client = network.client().unwrap();
    let real = network.real().unwrap();
    let mut load = http_load(
        &client,
        plan(SocketAddr::new(real.v4, 80), Connections::New, 10),
    );
    load.wait_end().unwrap();
    let failures = load.take_failures();
    assert_eq!(failures.len(), 10);
    assert!(failures[9].why.contains("refused"), "{failures:?}");
    assert!(load.take_failures().is_empty(), "each is reported once");
    let load = load.report();
    assert_eq!((load.requests, load.failed, load.connections), (10, 10, 0));
    assert!(load.errors[0].contains("refused"), "{:?}", load.errors);
}

fn a_load_pauses_and_goes_on() {
    let network = Network::new().unwrap();
    let client = network.client().unwrap();
    let real = network.real().unwrap();
    let _nginx = Nginx::start(&real, 80).unwrap();
    let plan = HttpPlan {
        requests: None,
        ..plan(SocketAddr::new(real.v4, 80), Connections::Kept, 0)
    };
    let load = http_load(&client, plan);
    load.wait_requests(10, PATIENCE).unwrap();
    load.pause();
    load.wait_begun(PATIENCE).unwrap();
    let disconnected = || {
        let sockets = real.sh("ss --no-header --tcp state established")?;
        Ok(sockets.trim().is_empty().then_some(()))
    };
    wait_for("the end of the connections", PATIENCE, disconnected).unwrap();
    let paused = load.report().requests;
    load.resume();
    load.wait_requests(10, PATIENCE).unwrap();
    let report = load.stop().unwrap();
    assert!(report.requests >= paused + 10);
    assert_eq!((report.failed, report.connections), (0, 8));
}

fn devices_know_which_broker_disconnected_them_and_reconnect() {
    const DEVICES: u64 = 5;
    let network = Network::new().unwrap();
    let real = network.real().unwrap();
    let mut first = Mosquitto::start_named(&real, 1883, "first").unwrap();
    let devices = Devices::start(
        &network.client().unwrap(),
        DevicePlan {
            target: SocketAddr::new(real.v4, 1883),
            devices: DEVICES as usize,
            stay: None,
            pause: Duration::from_millis(50),
            payload: 100,
        },
    );
    let connected = |broker: &'static str| {
        let devices = &devices;
        move || {
            let seen = devices.report().servers.get(broker).copied();
            Ok((seen == Some(DEVICES)).then_some(()))
        }
    };
    wait_for(
        "all devices on the first broker",
        PATIENCE,
        connected("first"),
    )
    .unwrap();
    // A device whose first attempt failed has had an outage already.
    devices.take_outages();

    first.kill().unwrap();
    wait_for("all devices to be disconnected", PATIENCE, || {
        Ok((devices.take_outages().len() as u64 == DEVICES).then_some(()))
    })
    .unwrap();
    let open = devices.take_outages();
    assert!(
        open.iter()
            .all(|outage| outage.ended.is_none() && outage.from.as_deref() == Some("first")),
        "{open:?}"
    );

    let _second = Mosquitto::start_named(&real, 1883, "second").unwrap();
    wait_for(
        "all devices on the second broker",
        PATIENCE,
        connected("second"),
    )
    .unwrap();
    let over = devices.take_outages();
    assert_eq!(over.len() as u64, DEVICES);
    assert!(over.iter().all(|outage| outage.ended.is_some()), "{over:?}");
    assert!(devices.take_outages().is_empty(), "each is reported once");
    wait_for("messages to be acknowledged", PATIENCE, || {
        Ok((devices.report().requests > 2 * DEVICES).then_some(()))
    })
    .unwrap();
    let report = devices.stop().unwrap();
    assert_eq!(report.failed, 0);
    assert!(report.connections >= 2 * DEVICES, "{}", report.connections);
}

fn the_router_reaches_both_sides() {
    let network = RoutedNetwork::new().unwrap();
    let client = network.client().unwrap();
    let real = network.real().unwrap();
    let _nginx = Nginx::start(&real, 80).unwrap();
    for address in [real.v4, real.v6] {
        let (server, _) = get(&client, SocketAddr::new(address, 80), "/").unwrap();
        assert_eq!(server, "real1");
    }
}

fn processes_in_a_namespace_end_with_it() {
    let namespace = Namespace::new("short").unwrap();
    // Not a `Process` of the testbed, like the worker process of a server.
    let mut child = namespace.command("sleep").arg("1000").spawn().unwrap();
    drop(namespace);
    let status = wait_for("the end of the child", PATIENCE, || Ok(child.try_wait()?)).unwrap();
    assert!(!status.success());
}
