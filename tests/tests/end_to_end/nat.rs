//! Mode `nat`: reals that know nothing of the balancer.

use std::{collections::BTreeSet, fs, net::SocketAddr, time::Duration};

use lb_tests::{
    Agent, AgentOptions, Host, Network, RoutedNetwork,
    client::{Connections, MqttPlan, download, get, http_load, mqtt_load, udp_exchange},
    server::{BIG_FILE, Nginx, StandardServer as _, UdpEcho, WebAndBroker},
    wait_for,
};
use tempfile::TempDir;

use crate::fixture::{
    HTTP_V4, HTTP_V6, MQTT_V4, MQTT_V6, PATIENCE, assert_no_failure, endless, target,
};

const UDP_V4: &str = "192.0.2.30:7/udp";
const UDP_V6: &str = "[2001:db8::30]:7/udp";

/// Starts an agent whose source addresses are those of the balancer's host.
fn agent_of(balancer: &Host, interfaces: &[&str]) -> Agent {
    agent_with_file(balancer, interfaces).0
}

/// The same with the folder of its configuration file, without which it cannot start again.
pub fn agent_with_file(balancer: &Host, interfaces: &[&str]) -> (Agent, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lb.toml");
    let sources = format!(
        "nat_source_v4 = [\"{}\"]\nnat_source_v6 = [\"{}\"]\n",
        balancer.v4, balancer.v6
    );
    fs::write(&file, sources).unwrap();
    let options = AgentOptions {
        interfaces: interfaces.iter().map(ToString::to_string).collect(),
        arguments: vec!["--config".to_owned(), file.display().to_string()],
        ..AgentOptions::default()
    };
    (Agent::start(balancer, options).unwrap(), folder)
}

/// Adds a VIP of mode `nat` with these reals, and waits until their next hops are known.
fn serve(agent: &Agent, vip: &str, options: &[&str], reals: &[String]) {
    let words = [&["add-vip", vip, "--forward", "nat"], options].concat();
    agent.lbctl(&words).unwrap();
    for real in reals {
        agent.lbctl(["add-real", vip, real]).unwrap();
    }
    wait_for("next hops to the reals", PATIENCE, || {
        let list = agent.ctl_json(&format!("list {vip}"))?;
        let reals = list[0]["reals"].as_array().unwrap();
        Ok(reals
            .iter()
            .all(|real| real["state"] != "unreachable")
            .then_some(()))
    })
    .unwrap();
}

fn address_of(host: &Host, like: &str) -> String {
    if like.starts_with('[') {
        host.v6.to_string()
    } else {
        host.v4.to_string()
    }
}

/// Makes requests until every host has answered; each must have seen this source.
fn every_host_answers(client: &Host, vip: &str, hosts: &[&Host], source: &str) {
    let names: BTreeSet<String> = hosts.iter().map(|host| host.label().to_owned()).collect();
    let mut seen = BTreeSet::new();
    for _ in 0..300 {
        let (server, body) = get(client, target(vip), "/").unwrap();
        assert_eq!(body.split_whitespace().nth(1), Some(source), "{vip}");
        seen.insert(server);
        if seen == names {
            return;
        }
    }
    panic!("only {seen:?} of {names:?} answered");
}

pub fn reals_without_a_vip_serve_by_their_own_addresses() {
    let network = Network::new().unwrap();
    let client = network.client().unwrap();
    let hosts: Vec<Host> = (0..3).map(|_| network.real().unwrap()).collect();
    let servers: Vec<WebAndBroker> = hosts
        .iter()
        .map(|host| WebAndBroker::start(host).unwrap())
        .collect();
    for server in &servers {
        server.nginx.as_ref().unwrap().add_big_file().unwrap();
    }
    let agent = agent_of(&network.balancer, &["eth0"]);
    for (http, mqtt, udp) in [(HTTP_V4, MQTT_V4, UDP_V4), (HTTP_V6, MQTT_V6, UDP_V6)] {
        let reals: Vec<String> = hosts.iter().map(|host| address_of(host, http)).collect();
        for vip in [http, mqtt, udp] {
            serve(&agent, vip, &[], &reals);
        }
        let source = address_of(&network.balancer, http);
        let references: Vec<&Host> = hosts.iter().collect();
        every_host_answers(&client, http, &references, &source);
        assert_eq!(download(&client, target(http)).unwrap(), BIG_FILE, "{http}");
        let load = mqtt_load(
            &client,
            MqttPlan {
                target: target(mqtt),
                clients: 9,
                messages: Some(10),
                payload: 200,
                pause: Duration::ZERO,
            },
        );
        load.wait_requests(300, PATIENCE).unwrap();
        let report = load.stop().unwrap();
        assert_no_failure(&report);
        let stats = agent.ctl_json(&format!("stats {mqtt}")).unwrap();
        let opened = stats["vips"][0]["opened"].as_u64().unwrap();
        assert!(opened >= report.connections, "{stats:#}");

        let _echoes: Vec<UdpEcho> = hosts
            .iter()
            .map(|host| {
                let own: std::net::IpAddr = address_of(host, udp).parse().unwrap();
                UdpEcho::start(host, (own, target(udp).port()).into()).unwrap()
            })
            .collect();
        let mut answered = BTreeSet::new();
        for port in 20_000..20_040 {
            for number in 0..3 {
                let sent = format!("{number}");
                let answer = udp_exchange(&client, port, target(udp), sent.as_bytes()).unwrap();
                let answer = String::from_utf8(answer).unwrap();
                let words: Vec<&str> = answer.split_whitespace().collect();
                assert!(words[1].contains(&source), "{answer}");
                assert_eq!(words[2], sent);
                answered.insert(words[0].to_owned());
            }
        }
        // In fragments, both ways.
        let large = vec![b'x'; 5_000];
        for port in 21_000..21_010 {
            let answer = udp_exchange(&client, port, target(udp), &large).unwrap();
            assert!(answer.ends_with(&large), "{udp}");
        }
        assert_eq!(answered.len(), hosts.len(), "{answered:?}");
    }
    let stats = agent.ctl_json("stats").unwrap();
    let reasons = stats["interfaces"][0]["reasons"].as_array().unwrap();
    let frames = |name: &str| {
        let reason = reasons.iter().find(|reason| reason["reason"] == name);
        reason.map_or(0, |reason| reason["frames"].as_u64().unwrap())
    };
    assert!(frames("nat_answer_tx") > 1_000, "{stats:#}");
    assert_eq!(frames("nat_no_port") + frames("bad_tables"), 0, "{stats:#}");
}

pub fn flows_of_other_reals_go_on_when_one_dies() {
    let network = Network::new().unwrap();
    let client = network.client().unwrap();
    let hosts: Vec<Host> = (0..2).map(|_| network.real().unwrap()).collect();
    let mut servers: Vec<Nginx> = hosts
        .iter()
        .map(|host| Nginx::start(host, 80).unwrap())
        .collect();
    let agent = agent_of(&network.balancer, &["eth0"]);
    let reals: Vec<String> = hosts.iter().map(|host| address_of(host, HTTP_V4)).collect();
    let check = "tcp interval=200ms timeout=200ms unhealthy_threshold=2 healthy_threshold=1";
    serve(
        &agent,
        HTTP_V4,
        &["--check", check, "--on-down", "reset"],
        &reals,
    );
    let references: Vec<&Host> = hosts.iter().collect();
    every_host_answers(
        &client,
        HTTP_V4,
        &references,
        &address_of(&network.balancer, HTTP_V4),
    );
    // Connections that stay open, on both.
    let plan = endless(HTTP_V4, Connections::Kept, 20, Duration::from_millis(20));
    let load = http_load(&client, plan);
    load.wait_requests(500, PATIENCE).unwrap();
    drop(servers.remove(0));
    wait_for("the real to be down", PATIENCE, || {
        let why = agent.ctl_json(&format!("why {} {HTTP_V4}", reals[0]))?;
        Ok((why[0]["real"]["state"] == "down").then_some(()))
    })
    .unwrap();
    load.wait_requests(1_000, PATIENCE).unwrap();
    let report = load.stop().unwrap();
    // Each client had one connection to the real that lives: from the beginning, or after that to the dead one failed.
    assert_eq!(report.servers[hosts[1].label()], 20, "{report:?}");
    assert!(report.servers[hosts[0].label()] > 0, "{report:?}");
    every_host_answers(
        &client,
        HTTP_V4,
        &references[1..],
        &address_of(&network.balancer, HTTP_V4),
    );
}

pub fn the_balancer_may_be_between_clients_and_reals() {
    let network = RoutedNetwork::new().unwrap();
    let client = network.client().unwrap();
    let hosts: Vec<Host> = (0..2).map(|_| network.real().unwrap()).collect();
    let _servers: Vec<Nginx> = hosts
        .iter()
        .map(|host| Nginx::start(host, 80).unwrap())
        .collect();
    let agent = agent_of(&network.balancer, &["eth0", "eth1"]);
    let references: Vec<&Host> = hosts.iter().collect();
    for vip in [HTTP_V4, HTTP_V6] {
        let reals: Vec<String> = hosts.iter().map(|host| address_of(host, vip)).collect();
        serve(&agent, vip, &[], &reals);
        let source = address_of(&network.balancer, vip);
        every_host_answers(&client, vip, &references, &source);
        agent.ctl(&format!("del-vip {vip}")).unwrap();
    }
    // The reals answer clients by way of the balancer.
    for host in &hosts {
        for gateway in [network.balancer.v4, network.balancer.v6] {
            host.sh(&format!("ip route replace default via {gateway}"))
                .unwrap();
        }
    }
    for vip in [HTTP_V4, HTTP_V6] {
        let reals: Vec<String> = hosts.iter().map(|host| address_of(host, vip)).collect();
        serve(&agent, vip, &["--source", "client"], &reals);
        every_host_answers(&client, vip, &references, &address_of(&client, vip));
    }
    let stats = agent.ctl_json("stats").unwrap();
    let redirected: u64 = stats["interfaces"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|interface| interface["reasons"].as_array().unwrap())
        .filter(|reason| reason["reason"] == "nat_answer_redirect")
        .map(|reason| reason["frames"].as_u64().unwrap())
        .sum();
    assert!(redirected > 0, "{stats:#}");
}

pub fn reals_may_have_a_port_and_a_family_of_their_own() {
    let network = Network::new().unwrap();
    let client = network.client().unwrap();
    let host = network.real().unwrap();
    // Several servers at one address.
    let ports = [8_080_u16, 8_081];
    let _servers: Vec<Nginx> = ports
        .iter()
        .map(|port| Nginx::start(&host, *port).unwrap())
        .collect();
    let agent = agent_of(&network.balancer, &["eth0"]);
    for (vip, other) in [(HTTP_V4, HTTP_V6), (HTTP_V6, HTTP_V4)] {
        for like in [vip, other] {
            let address = address_of(&host, like).parse().unwrap();
            let reals = ports.map(|port| SocketAddr::new(address, port).to_string());
            serve(&agent, vip, &[], &reals);
            let source = address_of(&network.balancer, like);
            for _ in 0..100 {
                let (_, body) = get(&client, target(vip), "/").unwrap();
                assert_eq!(body.split_whitespace().nth(1), Some(&*source), "{vip}");
            }
            let stats = agent.ctl_json(&format!("stats {vip}")).unwrap();
            for real in stats["vips"][0]["reals"].as_array().unwrap() {
                assert!(real["opened"].as_u64().unwrap() > 0, "{stats:#}");
            }
            // The weights of one of both, by its name.
            agent.ctl(&format!("drain {vip} {}", reals[0])).unwrap();
            wait_for("the real to be drained", PATIENCE, || {
                let list = agent.ctl_json(&format!("list {vip}"))?;
                let reals = list[0]["reals"].as_array().unwrap();
                Ok((reals[0]["share"] == 0.0).then_some(()))
            })
            .unwrap();
            let opened = |real: usize| {
                let stats = agent.ctl_json(&format!("stats {vip}")).unwrap();
                stats["vips"][0]["reals"][real]["opened"].as_u64().unwrap()
            };
            let before = [opened(0), opened(1)];
            for _ in 0..20 {
                get(&client, target(vip), "/").unwrap();
            }
            assert_eq!(opened(0), before[0], "{vip}");
            assert!(opened(1) >= before[1] + 20, "{vip}");
            agent.ctl(&format!("del-vip {vip}")).unwrap();
        }
    }
}
