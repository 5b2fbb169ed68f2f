//! A pool of MQTT brokers behind a VIP: their clients stay connected while it grows and shrinks.

use std::{collections::VecDeque, fs, time::Duration};

use anyhow::{Context as _, ensure};
use lb_tests::{
    Agent, AgentOptions, Network,
    client::{Failure, Load, MqttPlan, mqtt_load},
    vip_target, wait_for,
};

use crate::fixture::{Controller, PATIENCE};

const VIP: &str = "192.0.2.20:1883/tcp";
/// Clients that stay, and clients that leave together.
const STAY: usize = 100;
const LEAVE: usize = 300;
/// Connections that a broker accepts; the pool keeps them at 65 % of it.
const ROOM: usize = 100;
/// Connections that may be ended in a second, while the pool grows and while it shrinks.
const GROWING_RATE: usize = 40;
const SHRINKING_RATE: usize = 5;
const CONFIGURATION: &str = "user root\nlistener 1883\nallow_anonymous true\npersistence false\nsys_interval 1\nset_tcp_nodelay true\n";

pub fn a_pool_of_brokers_grows_and_shrinks_and_cuts_nobody_off() -> anyhow::Result<()> {
    let network = Network::new()?;
    let clients = network.client()?;
    let host = network.real()?;
    host.bridge()?;
    let agent = Agent::start(&network.balancer, AgentOptions::default())?;
    let steering =
        |rate: usize| format!("least-connections period=1s slow_start=2s shed_rate={rate}");
    agent.lbctl([
        "add-vip",
        VIP,
        "--track",
        "all",
        "--steering",
        &steering(GROWING_RATE),
    ])?;
    let controller =
        Controller::start_in(host.namespace(), "brokers", &["--agent", &agent.endpoint()])?;
    let configuration = controller.folder().join("mosquitto.conf");
    fs::write(&configuration, CONFIGURATION)?;
    let arguments = format!(
        "template.arguments=['-c', '{}']",
        configuration.to_string_lossy()
    );
    controller.pool(&[
        "add",
        "brokers",
        "driver.kind=process",
        "network.port=1883",
        "network.bridge=br0",
        "network.range=10.10.60.11-10.10.60.30/16",
        "template.program=/usr/sbin/mosquitto",
        &arguments,
        "check.kind=mqtt",
        "check.interval=1s",
        "check.fast_interval=200ms",
        // A machine that tests keep busy is no reason to relaunch a broker: its clients would be cut off.
        "check.unhealthy_threshold=30",
        &format!("load=[{{kind='mosquitto', interval='1s', connection_limit={ROOM}}}]"),
        &format!("vips=['{VIP}']"),
        "scaling.min=2",
        "scaling.max=6",
        "scaling.policies=['connections']",
        "scaling.period=1s",
        "scaling.load_over=5s",
        "scaling.surge_over=2s",
        "scaling.in_after=10s",
        "scaling.in_every=1s",
        "scaling.in_step=0.3",
        "scaling.start_up=1s",
        "scaling.drain_natural=1s",
        "scaling.drain_deadline=5m",
    ])?;
    controller.wait_serving("brokers", 2)?;
    let plan = |clients| MqttPlan {
        target: vip_target(VIP).unwrap(),
        clients,
        messages: None,
        payload: 16,
        pause: Duration::from_millis(500),
    };
    let staying = mqtt_load(clients.namespace(), plan(STAY));
    staying.wait_begun(PATIENCE)?;
    let other = network.client()?;
    let leaving = mqtt_load(other.namespace(), plan(LEAVE));
    controller
        .wait_serving("brokers", 6)
        .with_context(|| failures(&[&staying, &leaving]))?;
    let connections = || -> anyhow::Result<Vec<f64>> {
        let stats = agent.ctl_json(&format!("stats {VIP}"))?;
        let reals = stats["vips"][0]["reals"].as_array();
        let reals = reals.context("the VIP has no reals")?.iter();
        Ok(reals
            .map(|real| real["flows"].as_f64().unwrap_or(0.0))
            .collect())
    };
    // A client that has to go to another broker is ended at the rate of the VIP, and comes back at once.
    wait_for("the clients to be spread over all", PATIENCE, || {
        let counts = connections()?;
        let all: f64 = counts.iter().sum();
        let even = counts.iter().all(|count| *count < 1.3 * all / 6.0);
        ensure!(
            counts.len() == 6 && even && all >= 0.9 * (STAY + LEAVE) as f64,
            "{counts:?}"
        );
        Ok(Some(()))
    })
    .with_context(|| controller.output())?;
    let grown = [staying.take_failures(), leaving.take_failures()].concat();
    ensure_rate("while it grew", grown, GROWING_RATE)?;

    agent.lbctl(["set-vip", VIP, "--steering", &steering(SHRINKING_RATE)])?;
    leaving.stop()?;
    staying.take_failures();
    controller.wait_serving("brokers", 2)?;
    let report = staying.report();
    ensure_rate("while it shrank", staying.take_failures(), SHRINKING_RATE)?;
    println!(
        "{} requests of those who stayed, {} connections",
        report.requests, report.connections
    );
    // All of them are there, and are served. The two brokers may still exchange some, at the rate of the VIP.
    staying.wait_requests(2 * STAY as u64, PATIENCE)?;
    ensure_rate("afterwards", staying.take_failures(), SHRINKING_RATE)?;
    staying.stop()?;
    Ok(())
}

/// Nobody is cut off at once with many others: a broker that is stopped with its clients would do that.
fn ensure_rate(when: &str, mut failures: Vec<Failure>, rate: usize) -> anyhow::Result<()> {
    failures.sort_by_key(|failure| failure.at);
    let mut second = VecDeque::new();
    let mut most = 0;
    for failure in &failures {
        second.push_back(failure.at);
        while second
            .front()
            .is_some_and(|first| failure.at - *first > Duration::from_secs(1))
        {
            second.pop_front();
        }
        most = most.max(second.len());
    }
    println!("{when}: {} ended, {most} in a second", failures.len());
    // Two seconds' parts meet in one second of the clients, which send twice a second.
    ensure!(
        most <= 2 * rate + 1,
        "{when}: {most} in one second: {:?}",
        failures.first()
    );
    Ok(())
}

fn failures(loads: &[&Load]) -> String {
    let reports: Vec<_> = loads.iter().map(|load| load.report()).collect();
    format!("{reports:?}")
}
