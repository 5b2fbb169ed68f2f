//! Probes against peers that do right and, mostly, wrong. Each peer is a real socket on the loopback.

mod answers;
mod bad;
mod peer;
mod secure;
mod settings;

use std::{net::SocketAddr, time::Duration};

use super::{
    grpc::Grpc,
    http::{Http, Json},
    mqtt::Mqtt,
    tcp::Tcp,
    udp::Udp,
    *,
};
use crate::peer::mqtt::Version;

/// How long a probe may take here; those that wait for it have nothing else to wait for.
const TIMEOUT: Duration = Duration::from_millis(400);
/// A probe that has not ended by then never will.
const NEVER: Duration = Duration::from_secs(30);

async fn ask_within(probe: Component, address: SocketAddr, timeout: Duration) -> Outcome {
    let mut check = Check::new(probe);
    check.interval = timeout;
    check.timeout = Some(timeout);
    let target = Target {
        address,
        mark: None,
    };
    let vip = "10.0.0.1:80/tcp".parse().unwrap();
    let mut prober = Prober::new(&check, vip, address.ip().into());
    tokio::time::timeout(NEVER, prober.run(&target))
        .await
        .expect("a probe ends")
}

/// Where the peer answers, or breaks, at once.
async fn ask(probe: Component, address: SocketAddr) -> Outcome {
    ask_within(probe, address, NEVER / 2).await
}

#[track_caller]
fn assert_outcome(outcome: &Outcome, verdict: Verdict, says: &str) {
    assert_eq!(outcome.verdict, verdict, "{outcome:?}");
    assert!(outcome.reason.contains(says), "{outcome:?}, not {says:?}");
}

fn tcp() -> Component {
    Component::new("tcp", &Tcp {})
}

fn http() -> Component {
    Component::new("http", &Http::default())
}

fn with_body(text: &str) -> Component {
    Component::new(
        "http",
        &Http {
            body: Some(text.to_owned()),
            ..Http::default()
        },
    )
}

fn with_json() -> Component {
    Component::new(
        "http",
        &Http {
            json: Some(Json {
                pointer: "/status".to_owned(),
                equals: "UP".into(),
            }),
            ..Http::default()
        },
    )
}

fn mqtt(version: Version) -> Component {
    Component::new(
        "mqtt",
        &Mqtt {
            version,
            ..Mqtt::default()
        },
    )
}

fn grpc() -> Component {
    Component::new("grpc", &Grpc::default())
}

fn udp(expect: &str, silence_is_alive: bool) -> Component {
    Component::new(
        "udp",
        &Udp {
            payload: "ping".parse().unwrap(),
            expect: expect.parse().unwrap(),
            silence_is_alive,
        },
    )
}

/// Those that wait for an answer over TCP.
fn talkers() -> [Component; 4] {
    [http(), mqtt(Version::V311), mqtt(Version::V5), grpc()]
}
