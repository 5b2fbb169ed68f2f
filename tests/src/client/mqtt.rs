//! MQTT clients that connect, publish with QoS 1 and wait for each acknowledgement.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use futures::future::join_all;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, NetworkOptions, QoS};
use tokio::time::{sleep, timeout};

use super::{
    REQUEST_TIMEOUT,
    load::{Load, Record},
};
use crate::Namespace;

/// Pause of a client between a failure and its next connection.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What an MQTT load does.
#[derive(Clone, Debug)]
pub struct MqttPlan {
    /// Address and port of the service.
    pub target: SocketAddr,
    /// Number of clients.
    pub clients: usize,
    /// Messages that a client publishes before it reconnects; `None` if it stays connected.
    pub messages: Option<u64>,
    /// Payload of each message, in bytes.
    pub payload: usize,
    /// Pause of a client after each acknowledgement.
    pub pause: Duration,
}

/// Starts a load in `namespace`. A request is a connect or a publish.
pub fn mqtt_load(namespace: &Namespace, plan: MqttPlan) -> Load {
    let label = namespace.label().to_owned();
    Load::start(namespace, move |record| async move {
        join_all(
            (0..plan.clients)
                .map(|number| client(&plan, number, format!("{label}-{number}"), &record)),
        )
        .await;
    })
}

async fn client(plan: &MqttPlan, number: usize, id: String, record: &Arc<Record>) {
    while !record.stopped() {
        if let Err(error) = session(plan, number, &id, record).await {
            record.failed(&error);
            sleep(RETRY_PAUSE).await;
        }
    }
}

async fn session(
    plan: &MqttPlan,
    number: usize,
    id: &str,
    record: &Arc<Record>,
) -> anyhow::Result<()> {
    let mut options = MqttOptions::new(id, plan.target.ip().to_string(), plan.target.port());
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut events) = AsyncClient::new(options, 4);
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(REQUEST_TIMEOUT.as_secs());
    network.set_tcp_nodelay(true);
    events.set_network_options(network);

    let begin = Instant::now();
    expect(
        &mut events,
        "the broker to accept the connection",
        |packet| matches!(packet, Incoming::ConnAck(_)),
    )
    .await
    .with_context(|| format!("connecting to {}", plan.target))?;
    record.connected(None);
    record.answered(number, begin);

    let mut sent = 0;
    while !record.stopped() && plan.messages.is_none_or(|limit| sent < limit) {
        let begin = Instant::now();
        client
            .publish(
                format!("lb/{id}"),
                QoS::AtLeastOnce,
                false,
                vec![b'x'; plan.payload],
            )
            .await?;
        expect(&mut events, "an acknowledgement", |packet| {
            matches!(packet, Incoming::PubAck(_))
        })
        .await
        .with_context(|| format!("publishing through {}", plan.target))?;
        record.answered(number, begin);
        sent += 1;
        if !plan.pause.is_zero() {
            sleep(plan.pause).await;
        }
    }
    client.disconnect().await?;
    // Waits until the packet has been sent, after which the broker closes the connection.
    while let Ok(Ok(event)) = timeout(REQUEST_TIMEOUT, events.poll()).await {
        if event == Event::Outgoing(rumqttc::Outgoing::Disconnect) {
            break;
        }
    }
    Ok(())
}

async fn expect(
    events: &mut EventLoop,
    what: &str,
    is_expected: impl Fn(&Incoming) -> bool,
) -> anyhow::Result<()> {
    let waiting = async {
        loop {
            if let Event::Incoming(packet) = events.poll().await?
                && is_expected(&packet)
            {
                return anyhow::Ok(());
            }
        }
    };
    match timeout(REQUEST_TIMEOUT, waiting).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("waited {REQUEST_TIMEOUT:?} for {what}"),
    }
}
