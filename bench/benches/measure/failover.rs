//! How soon MQTT clients reconnect after their broker died, with `on-down = "reset"`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use comfy_table::Table;
use lb_bench::statistics::median;
use lb_tests::{
    Testbed,
    client::{Load, MqttPlan, mqtt_load},
    server::{Mosquitto, StandardServer},
    wait_for,
};
use serde::Serialize;

use crate::testbed::{self, PATIENCE, Service as _};

/// The failover of clients whose brokers died in one way.
#[derive(Debug, Serialize)]
pub struct FailoverFigure {
    /// How the brokers died.
    pub death: &'static str,
    /// Number of deaths, one after the other.
    pub deaths: usize,
    /// Clients that were connected to a broker that died, over all deaths.
    pub clients: u64,
    /// Median of the seconds until the balancer reported the broker as down.
    pub detected_median: f64,
    /// The greatest of these.
    pub detected_most: f64,
    /// Median of the seconds until another broker had answered the last client.
    pub served_median: f64,
    /// The greatest of these.
    pub served_most: f64,
}

const BROKERS: usize = 4;
const CLIENTS: usize = 200;
/// Pause of each client after its publish with QoS 1 is acknowledged.
const PAUSE: Duration = Duration::from_millis(500);
/// A health check that detects a dead broker within 1.25 s.
const CHECK: &str = "mqtt interval=500ms fast_interval=250ms timeout=250ms";
/// Every broker gets clients at once, whatever happened before.
const STEERING: &str = "static slow_start=0s flap_hold=0s";
/// How often each broker dies in each way.
const ROUNDS: usize = 5;

/// How a broker dies.
#[derive(Clone, Copy)]
enum Death {
    /// Its link goes down: only the balancer can reset its clients' connections.
    Cut,
    /// It is killed: its kernel resets the connections and refuses new ones.
    Killed,
}

impl Death {
    const ALL: [Death; 2] = [Death::Cut, Death::Killed];

    fn name(self) -> &'static str {
        match self {
            Death::Cut => "link down",
            Death::Killed => "SIGKILL",
        }
    }
}

/// Measures and prints.
pub fn measure() -> anyhow::Result<Vec<FailoverFigure>> {
    let figures = Death::ALL
        .into_iter()
        .map(|death| die(death).with_context(|| format!("brokers that die by {}", death.name())))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut table = Table::new();
    table.set_header([
        "broker dies by",
        "times",
        "clients on it",
        "detected, s",
        "most",
        "last client served again, s",
        "most",
    ]);
    for figure in &figures {
        table.add_row([
            figure.death.to_owned(),
            figure.deaths.to_string(),
            figure.clients.to_string(),
            format!("{:.2}", figure.detected_median),
            format!("{:.2}", figure.detected_most),
            format!("{:.2}", figure.served_median),
            format!("{:.2}", figure.served_most),
        ]);
    }
    println!(
        "\n{CLIENTS} MQTT clients on {BROKERS} brokers, each publishes every {} ms; check: {CHECK}\n{table}",
        PAUSE.as_millis()
    );
    Ok(figures)
}

fn die(death: Death) -> anyhow::Result<FailoverFigure> {
    let mut testbed: Testbed<Mosquitto> = testbed::build(
        BROKERS,
        &[
            "--on-down",
            "reset",
            "--check",
            CHECK,
            "--steering",
            STEERING,
        ],
    )?;
    let (mut clients, mut detected, mut served) = (0, Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for broker in 0..BROKERS {
            // New clients for each death, which spread over all brokers.
            let began = Instant::now();
            let load = mqtt_load(
                &testbed.client,
                MqttPlan {
                    target: Mosquitto::target()?,
                    clients: CLIENTS,
                    messages: None,
                    payload: 50,
                    pause: PAUSE,
                },
            );
            wait_answered(&load, began)?;
            let address = testbed.backends[broker].address();
            let before = load.report();

            let began = Instant::now();
            match death {
                Death::Cut => drop(testbed.backends[broker].host.sh("ip link set eth0 down")?),
                Death::Killed => testbed.backends[broker].server.kill()?,
            }
            testbed.wait_state(Mosquitto::VIP, &address, "down")?;
            detected.push(began.elapsed().as_secs_f64());
            wait_answered(&load, began)?;
            served.push(began.elapsed().as_secs_f64());
            let again = load.report().connections - before.connections;
            ensure!(again > 0, "no client was connected to {address}");
            clients += again;

            match death {
                Death::Cut => drop(testbed.backends[broker].host.sh("ip link set eth0 up")?),
                Death::Killed => {
                    let host = testbed.backends[broker].host.clone();
                    testbed.backends[broker].server = StandardServer::start(&host)?;
                }
            }
            testbed.wait_serving(Mosquitto::VIP, &address)?;
        }
    }
    let most = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
    Ok(FailoverFigure {
        death: death.name(),
        deaths: served.len(),
        clients,
        detected_median: median(&detected),
        detected_most: most(&detected),
        served_median: median(&served),
        served_most: most(&served),
    })
}

/// Waits until every client has received an answer to a request that it made after `since`.
fn wait_answered(load: &Load, since: Instant) -> anyhow::Result<()> {
    wait_for("every client to be answered", PATIENCE, || {
        Ok((load.answered_since(since) == CLIENTS).then_some(()))
    })
    .with_context(|| format!("{:?}", load.report()))
}
