//! Readers of load and health checks against real peers: Mosquitto, RabbitMQ, a node exporter and nginx, each in a
//! namespace of its own.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod collectd;
mod exporter;
mod rabbitmq;
mod secure;

use std::{fs, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use lb_clients::health::{Outcome, probe::Prober};
use lb_clients::load::{
    reader,
    reading::{Quantity, ReadError, Readings, Report, Subject},
};
use lb_clients::peer::Target;
use lb_model::{check::Check, component::Component, load::LoadSource};
use lb_tests::{
    Namespace, Process,
    harness::{
        Harness,
        Requirement::{Program, Root},
    },
    server::{Mosquitto, Nginx, RabbitMq},
    tests,
};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    sync::mpsc::{self, Receiver},
    time::timeout,
};

/// Limit for what must happen; no statement about how long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    Harness::new(&[Root, Program("ip")])
        .tests_with(
            &[Program("mosquitto"), Program("mosquitto_pub")],
            tests![
                a_frozen_mosquitto_is_stale_though_it_accepts_connections,
                a_topic_with_the_load_of_a_host_is_read,
            ],
        )
        .tests_with(
            &[Program("nginx")],
            tests![a_web_server_that_is_no_exporter_is_named_as_such],
        )
        .tests_with(
            &[Program("prometheus-node-exporter")],
            tests![exporter::a_node_exporter_is_read],
        )
        .tests_with(&[Program("collectd")], tests![collectd::collectd_is_read])
        .tests_with(
            &[Program(RabbitMq::PROGRAM)],
            tests![rabbitmq::rabbitmq_is_probed_and_read],
        )
        .tests_with(
            &[Program("nginx"), Program("mosquitto")],
            tests![
                secure::nginx_is_probed_and_read_over_https_with_a_login,
                secure::mosquitto_is_probed_and_read_over_tls_with_a_login,
            ],
        )
        .run()
}

fn subject() -> Subject {
    Subject {
        vip: "192.0.2.1:1883/tcp".parse().unwrap(),
        real: "127.0.0.1".parse().unwrap(),
    }
}

/// Probes once.
async fn ask(probe: Component, port: u16) -> Outcome {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut check = Check::new(probe);
    check.interval = PATIENCE;
    check.timeout = Some(PATIENCE);
    let target = Target {
        address,
        mark: None,
    };
    let vip = subject().vip;
    Prober::new(&check, vip, address.ip().into())
        .run(&target)
        .await
}

/// Waits for a report in which `find` finds something, and returns that.
async fn find<T>(
    reports: &mut Receiver<Report>,
    expected: &str,
    find: impl Fn(&Report) -> Option<T>,
) -> anyhow::Result<T> {
    timeout(PATIENCE, async {
        loop {
            let report = reports.recv().await.context("the reader ended")?;
            if let Some(found) = find(&report) {
                return Ok(found);
            }
        }
    })
    .await
    .with_context(|| format!("no report with {expected} arrived"))?
}

fn read(report: &Report) -> Option<Readings> {
    report.outcome.clone().ok()
}

fn value(readings: &Readings, quantity: Quantity) -> Option<f64> {
    readings
        .readings
        .iter()
        .find(|reading| reading.quantity == quantity)
        .map(|reading| reading.value)
}

/// Starts a Mosquitto that publishes its statistics every second.
fn publishing(namespace: &Namespace, folder: &TempDir) -> anyhow::Result<Process> {
    let configuration = folder.path().join("mosquitto.conf");
    fs::write(
        &configuration,
        "user root\nlistener 1883\nallow_anonymous true\npersistence false\nsys_interval 1\nlog_dest stderr\n",
    )?;
    namespace.start(
        "mosquitto",
        "mosquitto",
        ["-c", &configuration.to_string_lossy()],
    )
}

fn a_frozen_mosquitto_is_stale_though_it_accepts_connections() {
    let namespace = Namespace::new("readers").unwrap();
    let folder = TempDir::with_prefix("lb-readers-").unwrap();
    let broker = publishing(&namespace, &folder).unwrap();
    namespace
        .block_on(async {
            let source = source(json!({"kind": "mosquitto", "interval": "1s"}));
            let (sender, mut reports) = mpsc::channel(16);
            let _reader = reader::start(&source, subject(), sender);
            let first = find(&mut reports, "connections", |report| {
                read(report).filter(|readings| value(readings, Quantity::Connections).is_some())
            })
            .await?;
            // The reader itself is a client.
            assert!(value(&first, Quantity::Connections).unwrap() >= 1.0);
            assert_eq!(value(&first, Quantity::Utilisation), None);
            find(&mut reports, "a rate of messages", |report| {
                value(&read(report)?, Quantity::Messages)
            })
            .await?;

            broker.signal(Signal::SIGSTOP)?;
            let reason = find(&mut reports, "staleness", |report| match &report.outcome {
                Err(ReadError::Stale(reason)) => Some(reason.clone()),
                _ => None,
            })
            .await?;
            assert!(reason.contains("frozen"), "{reason}");
            // A probe that only connects would succeed.
            TcpStream::connect("127.0.0.1:1883").await?;

            broker.signal(Signal::SIGCONT)?;
            find(&mut reports, "readings again", read).await?;
            Ok(())
        })
        .unwrap();
}

fn a_topic_with_the_load_of_a_host_is_read() {
    let namespace = Namespace::new("readers-topic").unwrap();
    let _broker = Mosquitto::start(&namespace, 1883).unwrap();
    namespace
        .block_on(async {
            let source = source(json!({
                "kind": "mqtt-topic",
                "topic": "hosts/{real}/load",
                "values": {"utilisation": "/cpu * 0.01"},
            }));
            let (sender, mut reports) = mpsc::channel(16);
            let _reader = reader::start(&source, subject(), sender);
            let publish = async {
                loop {
                    namespace
                        .command("mosquitto_pub")
                        .args(["-t", "hosts/127.0.0.1/load", "-m", "{\"cpu\": 42}"])
                        .status()
                        .context("running mosquitto_pub")?;
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            };
            let found = find(&mut reports, "a utilisation", |report| {
                value(&read(report)?, Quantity::Utilisation)
            });
            tokio::select! {
                failed = publish => failed,
                found = found => {
                    assert_eq!(found?, 0.42);
                    anyhow::Ok(())
                }
            }
        })
        .unwrap();
}

fn a_web_server_that_is_no_exporter_is_named_as_such() {
    let namespace = Namespace::new("readers-web").unwrap();
    let _nginx = Nginx::start(&namespace, 80).unwrap();
    namespace
        .block_on(async {
            for (settings, part) in [
                (json!({"kind": "node-exporter", "port": 80}), "404"),
                (
                    json!({"kind": "prometheus", "port": 80, "path": "/", "values": {"memory": "x"}}),
                    "not Prometheus text",
                ),
                (
                    json!({"kind": "http-json", "port": 80, "path": "/", "values": {"memory": "."}}),
                    "not JSON",
                ),
                (json!({"kind": "mosquitto", "port": 80}), "127.0.0.1:80: "),
            ] {
                let (sender, mut reports) = mpsc::channel(16);
                let _reader = reader::start(&source(settings), subject(), sender);
                find(&mut reports, part, |report| {
                    let reason = report.outcome.as_ref().err()?.to_string();
                    reason.contains(part).then_some(())
                })
                .await?;
            }
            Ok(())
        })
        .unwrap();
}

/// Reads a source until it reports a utilisation. That and the memory must be fractions.
async fn utilisation_and_memory(settings: &serde_json::Value) -> anyhow::Result<Readings> {
    let (sender, mut reports) = mpsc::channel(16);
    let _reader = reader::start(&source(settings.clone()), subject(), sender);
    let readings: Readings = find(&mut reports, "a utilisation", |report| {
        read(report).filter(|readings| value(readings, Quantity::Utilisation).is_some())
    })
    .await?;
    for quantity in [Quantity::Utilisation, Quantity::Memory] {
        let fraction = value(&readings, quantity);
        assert!(
            fraction.is_some_and(|fraction| (0.0..=1.0).contains(&fraction)),
            "{settings}: {readings:?}"
        );
    }
    Ok(readings)
}

fn source(settings: serde_json::Value) -> LoadSource {
    reader::normalize(&serde_json::from_value(settings).unwrap()).unwrap()
}
