//! How soon MQTT clients are connected again after their broker died, with `on-down = "reset"`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use comfy_table::Table;
use lb_tests::{
    client::{Load, MqttPlan, mqtt_load},
    server::Mosquitto,
    wait_for,
};
use serde::Serialize;

use crate::{
    field::{Field, PATIENCE, Server as _},
    statistics::median,
};

/// What became of the clients of brokers that died in one way.
#[derive(Debug, Serialize)]
pub struct FailoverFigure {
    /// How they died.
    pub death: &'static str,
    /// Brokers that died, one after the other.
    pub deaths: usize,
    /// Clients that were connected to them when they died, in sum.
    pub clients: u64,
    /// Seconds after which the balancer said that the broker is down: median.
    pub found_median: f64,
    /// The longest.
    pub found_most: f64,
    /// Seconds after which the last client was served by another broker: median.
    pub served_median: f64,
    /// The longest.
    pub served_most: f64,
}

const BROKERS: usize = 4;
const CLIENTS: usize = 200;
/// Each client publishes with QoS 1 and waits so long after the answer.
const PAUSE: Duration = Duration::from_millis(500);
/// A broker that dies is down within 1.25 s.
const CHECK: &str = "mqtt interval=500ms fast_interval=250ms timeout=250ms";
/// Clients are on all of them, whatever was before.
const STEERING: &str = "static slow_start=0s flap_hold=0s";
/// Each broker dies so often in each way.
const ROUNDS: usize = 5;

/// How a broker dies.
#[derive(Clone, Copy)]
enum Death {
    /// Nobody tells its clients but the balancer.
    Cut,
    /// Its kernel ends its connections, and refuses new ones.
    Killed,
}

impl Death {
    const ALL: [Death; 2] = [Death::Cut, Death::Killed];

    fn name(self) -> &'static str {
        match self {
            Death::Cut => "its cable is cut",
            Death::Killed => "SIGKILL",
        }
    }
}

/// Measures and prints.
pub fn measure() -> anyhow::Result<Vec<FailoverFigure>> {
    let figures = Death::ALL
        .into_iter()
        .map(|death| die(death).with_context(|| format!("brokers that die: {}", death.name())))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut table = Table::new();
    table.set_header([
        "broker dies by",
        "times",
        "clients on it",
        "found, s",
        "most",
        "last client served again, s",
        "most",
    ]);
    for figure in &figures {
        table.add_row([
            figure.death.to_owned(),
            figure.deaths.to_string(),
            figure.clients.to_string(),
            format!("{:.2}", figure.found_median),
            format!("{:.2}", figure.found_most),
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
    let mut field: Field<Mosquitto> = Field::new(
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
    let (mut clients, mut found, mut served) = (0, Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for broker in 0..BROKERS {
            // New clients each time: they are spread over all.
            let began = Instant::now();
            let load = mqtt_load(
                &field.client,
                MqttPlan {
                    target: Mosquitto::target()?,
                    clients: CLIENTS,
                    messages: None,
                    payload: 50,
                    pause: PAUSE,
                },
            );
            wait_heard(&load, began)?;
            let address = field.reals[broker].address();
            let before = load.report();

            let began = Instant::now();
            match death {
                Death::Cut => drop(field.reals[broker].host.sh("ip link set eth0 down")?),
                Death::Killed => field.reals[broker].server.kill()?,
            }
            field.wait_state(&address, "down")?;
            found.push(began.elapsed().as_secs_f64());
            wait_heard(&load, began)?;
            served.push(began.elapsed().as_secs_f64());
            let again = load.report().connections - before.connections;
            ensure!(again > 0, "no client was connected to {address}");
            clients += again;

            match death {
                Death::Cut => drop(field.reals[broker].host.sh("ip link set eth0 up")?),
                Death::Killed => {
                    let host = field.reals[broker].host.clone();
                    field.reals[broker].server = Mosquitto::start(&host, 1883)?;
                }
            }
            field.wait_state(&address, "active")?;
        }
    }
    let most = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
    Ok(FailoverFigure {
        death: death.name(),
        deaths: served.len(),
        clients,
        found_median: median(&found),
        found_most: most(&found),
        served_median: median(&served),
        served_most: most(&served),
    })
}

/// Waits until every client has had an answer to something that it asked later than that.
fn wait_heard(load: &Load, since: Instant) -> anyhow::Result<()> {
    wait_for("every client to be answered", PATIENCE, || {
        Ok((load.heard_since(since) == CLIENTS).then_some(()))
    })
    .with_context(|| format!("{:?}", load.report()))
}
