//! RabbitMQ, which requires a login and counts its MQTT clients in its Prometheus plugin.

use std::{
    fs,
    time::{Duration, Instant},
};

use lb_clients::health::{
    Verdict,
    probe::mqtt::{Expect, Mqtt},
};
use lb_clients::load::{
    reader,
    reading::{Quantity, Readings},
};
use lb_clients::peer::{Secret, mqtt::Version};
use lb_model::component::Component;
use lb_tests::{Namespace, server::RabbitMq};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{PATIENCE, ask, find, read, source, subject, value};

const MQTT: u16 = 1883;
const METRICS: u16 = 15_692;
const CLIENTS: usize = 3;

/// One test for everything, since the broker takes seconds to start.
pub fn rabbitmq_is_probed_and_read() {
    let namespace = Namespace::new("rabbitmq").unwrap();
    let _broker = RabbitMq::start(&namespace, MQTT, METRICS).unwrap();
    namespace
        .block_on(async {
            a_login_that_is_required_is_alive().await;
            its_clients_are_counted().await
        })
        .unwrap();
}

async fn a_login_that_is_required_is_alive() {
    let folder = TempDir::with_prefix("lb-login-").unwrap();
    let (user, password) = RabbitMq::LOGIN;
    let file = folder.path().join("password");
    fs::write(&file, password).unwrap();
    let probe = |version, expect, login: bool| {
        Component::new(
            "mqtt",
            &Mqtt {
                version,
                expect,
                username: login.then(|| user.to_owned()),
                password: login.then(|| Secret::File(file.clone())),
                ..Mqtt::default()
            },
        )
    };
    let began = Instant::now();
    let login = loop {
        let login = ask(probe(Version::V311, Expect::Accepted, true), MQTT).await;
        // The ports are open before the broker accepts logins.
        if login.verdict == Verdict::Healthy || began.elapsed() > PATIENCE {
            break login;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(login.verdict, Verdict::Healthy, "{login:?}");
    let any = ask(probe(Version::V311, Expect::Any, false), MQTT).await;
    assert_eq!(any.verdict, Verdict::Healthy, "{any:?}");
    assert!(any.reason.contains("refused"), "{any:?}");
    let accepted = ask(probe(Version::V311, Expect::Accepted, false), MQTT).await;
    assert_eq!(accepted.verdict, Verdict::Unhealthy, "{accepted:?}");
    // RabbitMQ before 3.13 closes the connection at a CONNECT of MQTT 5.0.
    let new = ask(probe(Version::V5, Expect::Accepted, true), MQTT).await;
    let old = new.reason == "closed the connection while waiting for CONNACK";
    assert!(new.verdict == Verdict::Healthy || old, "{new:?}");
}

async fn its_clients_are_counted() -> anyhow::Result<()> {
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(client(number).await?);
    }
    // The connections stay only while their event loops are polled.
    let turning = futures::future::join_all(clients.into_iter().map(
        async |(_client, mut events)| {
            while events.poll().await.is_ok() {}
        },
    ));
    let reading = async {
        let preset = source(json!({"kind": "rabbitmq", "interval": "1s", "timeout": "1s"}));
        let expression = source(json!({
            "kind": "prometheus",
            "port": METRICS,
            "interval": "1s",
            "timeout": "1s",
            "values": {
                "connections": "rabbitmq_connections",
                "file_descriptors": "rabbitmq_process_open_fds / rabbitmq_process_max_fds",
                "messages": "rate(rabbitmq_connections_opened_total)",
            },
        }));
        let counts =
            |readings: &Readings| value(readings, Quantity::Connections) == Some(CLIENTS as f64);
        let (sender, mut reports) = mpsc::channel(16);
        let _reader = reader::start(&preset, subject(), sender);
        let readings = find(&mut reports, "a count of its clients", |report| {
            read(report).filter(counts)
        })
        .await?;
        for quantity in [Quantity::Memory, Quantity::FileDescriptors] {
            let fraction = value(&readings, quantity);
            assert!(
                fraction.is_some_and(|fraction| fraction > 0.0 && fraction < 1.0),
                "{quantity:?}: {readings:?}"
            );
        }
        assert!(
            value(&readings, Quantity::RunQueue).is_some(),
            "{readings:?}"
        );
        assert_eq!(
            value(&readings, Quantity::Utilisation),
            None,
            "{readings:?}"
        );

        let (sender, mut reports) = mpsc::channel(16);
        let _reader = reader::start(&expression, subject(), sender);
        let readings = find(&mut reports, "a rate", |report| {
            read(report).filter(|readings| value(readings, Quantity::Messages).is_some())
        })
        .await?;
        assert!(counts(&readings), "{readings:?}");
        assert_eq!(
            value(&readings, Quantity::Messages),
            Some(0.0),
            "no client was counted: {readings:?}"
        );
        anyhow::Ok(())
    };
    tokio::select! {
        _ = turning => anyhow::bail!("a client lost its connection"),
        outcome = reading => outcome,
    }
}

/// Connects a client.
async fn client(number: usize) -> anyhow::Result<(AsyncClient, EventLoop)> {
    let mut options = MqttOptions::new(format!("client{number}"), "127.0.0.1", MQTT);
    let (user, password) = RabbitMq::LOGIN;
    options.set_credentials(user, password);
    let (client, mut events) = AsyncClient::new(options, 4);
    loop {
        if let Event::Incoming(Incoming::ConnAck(_)) = events.poll().await? {
            return Ok((client, events));
        }
    }
}
