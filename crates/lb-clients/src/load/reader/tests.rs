//! Readers and bad peers on loopback: each ends in a report with the reason, in time.

mod settings;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use lb_model::peer::Tls;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use super::*;
use crate::load::reading::{Quantity, ReadError};

/// Timeout of events that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

fn subject() -> Subject {
    Subject {
        vip: "192.0.2.1:1883/tcp".parse().unwrap(),
        real: "127.0.0.1".parse().unwrap(),
    }
}

/// Starts a peer that serves each connection with `serve`.
async fn peer<F, W>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Starts a peer that answers each request with these bytes.
async fn answering(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes: Vec<u8> = bytes.into();
    peer(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(&bytes).await;
        }
    })
    .await
}

fn source(kind: &str, address: SocketAddr) -> LoadSource {
    let more = match kind {
        "prometheus" => "values = { utilisation = 'busy' }",
        "http-json" => "path = '/load'\nvalues = { utilisation = '/cpu' }",
        "mqtt-topic" => "topic = 'load'\nvalues = { utilisation = '.' }",
        "agent-check" => "send = 'state'",
        _ => "",
    };
    let text = format!(
        "kind = '{kind}'\nport = {}\ninterval = '500ms'\ntimeout = '500ms'\n{more}",
        address.port()
    );
    let mut source = normalize(&toml::from_str(&text).unwrap()).unwrap();
    // An immediate answer must not be late because this machine is busy.
    source.timeout = Some(PATIENCE);
    source
}

/// Returns the same source with a short timeout, for peers that do not answer.
fn impatient(kind: &str, address: SocketAddr) -> LoadSource {
    let mut source = source(kind, address);
    source.timeout = Some(Duration::from_millis(300));
    source
}

struct Running {
    reports: mpsc::Receiver<Report>,
    _handle: Handle,
}

fn run(source: &LoadSource) -> Running {
    let (sender, reports) = mpsc::channel(16);
    Running {
        reports,
        _handle: start(source, subject(), sender),
    }
}

impl Running {
    async fn report(&mut self) -> Report {
        timeout(PATIENCE, self.reports.recv())
            .await
            .expect("a reader reports in time")
            .expect("a reader lives as long as its handle")
    }

    async fn error(&mut self) -> ReadError {
        self.report()
            .await
            .outcome
            .expect_err("the source cannot be read")
    }
}

const HTTP: [&str; 7] = [
    "prometheus",
    "http-json",
    "mosquitto-http",
    "vernemq",
    "emqx",
    "rabbitmq",
    "node-exporter",
];
const MQTT: [&str; 3] = ["mosquitto", "flashmq", "mqtt-topic"];

async fn all_report(address: SocketAddr, kinds: &[&str], part: &str) {
    for kind in kinds {
        reports(kind, &source(kind, address), part).await;
    }
}

async fn all_time_out(address: SocketAddr, kinds: &[&str]) {
    for kind in kinds {
        reports(kind, &impatient(kind, address), "timed out after 300ms").await;
    }
}

async fn reports(kind: &str, source: &LoadSource, part: &str) {
    let error = run(source).error().await.to_string();
    assert!(error.contains(part), "{kind}: {error}");
    assert!(error.contains("127.0.0.1"), "{kind}: {error}");
}

fn every() -> Vec<&'static str> {
    HTTP.into_iter()
        .chain(MQTT)
        .chain(["agent-check"])
        .collect()
}

#[tokio::test]
async fn refused() {
    // No test listens on a port this low.
    let unused = "127.0.0.1:1".parse().unwrap();
    all_report(unused, &every(), "connection refused").await;
}

#[tokio::test]
async fn silent() {
    let address = peer(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    all_time_out(address, &every()).await;
}

#[tokio::test]
async fn a_byte_at_a_time() {
    let address = peer(|mut stream| async move {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
        for byte in answer {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    all_time_out(address, &HTTP).await;
    all_time_out(address, &["agent-check"]).await;
}

#[tokio::test]
async fn endless() {
    let address = peer(|mut stream| async move {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
        if stream.write_all(head).await.is_ok() {
            while stream.write_all(&[b' '; 65_536]).await.is_ok() {}
        }
    })
    .await;
    for kind in HTTP {
        let mut source = source(kind, address);
        // Long enough to read the most that is read, however busy the machine is.
        source.timeout = Some(PATIENCE);
        let Ok((Reader::Poll(mut poll), _)) = open(&source, subject().real.address) else {
            panic!("{kind} does not poll");
        };
        let error = poll.poll(&Deadline::after(PATIENCE)).await.unwrap_err();
        assert!(
            error.contains("longer than 1048576 bytes"),
            "{kind}: {error}"
        );
    }
    let address =
        peer(|mut stream| async move { while stream.write_all(&[b'u'; 65_536]).await.is_ok() {} })
            .await;
    all_report(address, &["agent-check"], "longer than 1024 bytes").await;
}

#[tokio::test]
async fn garbage() {
    let address = answering([0xff; 2_000]).await;
    all_report(address, &HTTP, "protocol: ").await;
    all_report(address, &MQTT, "protocol: ").await;
    all_report(address, &["agent-check"], "longer than 1024 bytes").await;
    let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>").await;
    for kind in HTTP {
        run(&source(kind, address)).error().await;
    }
}

#[tokio::test]
async fn another_protocol() {
    // An MQTT broker's answer to a login.
    let address = answering([0x20, 0x02, 0x00, 0x05]).await;
    all_report(address, &HTTP, ": ").await;
    all_report(address, &["agent-check"], "agent-check protocol").await;
    all_report(address, &MQTT, "give the source a username and password").await;
    let page = format!("HTTP/1.1 400 Bad Request\r\n\r\n{}", "x".repeat(200));
    all_report(answering(page).await, &MQTT, "protocol: ").await;
}

#[tokio::test]
async fn redirects_and_refusals_are_answers() {
    for (status, part) in [
        ("302 Found\r\nlocation: /load", "redirects are not followed"),
        ("401 Unauthorized", "check the username"),
        ("404 Not Found", "check the source's path"),
        ("503 Service Unavailable", "answered 503"),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        all_report(answering(answer).await, &HTTP, part).await;
    }
}

#[tokio::test]
async fn tls_with_a_peer_that_has_none() {
    let address = answering("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    for kind in ["prometheus", "mosquitto"] {
        let mut source = source(kind, address);
        source.tls = Some(Tls {
            verify: false,
            ..Tls::default()
        });
        let error = run(&source).error().await.to_string();
        assert!(error.contains("TLS"), "{kind}: {error}");
    }
}

#[tokio::test]
async fn a_poller_goes_on_and_ends_with_its_handle() {
    let body = "{\"cpu\": 0.25}";
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut running = run(&source("http-json", answering(answer).await));
    for _ in 0..3 {
        let report = running.report().await;
        assert_eq!(report.subject, subject());
        let readings = report.outcome.unwrap().readings;
        assert_eq!(readings[0].quantity, Quantity::Utilisation);
        assert_eq!(readings[0].value, 0.25);
        assert_eq!(&*readings[0].source, "http-json");
        assert!(readings[0].at <= Instant::now());
    }
    let Running {
        mut reports,
        _handle,
    } = running;
    drop(_handle);
    // The task has ended, which drops its sender.
    timeout(PATIENCE, async { while reports.recv().await.is_some() {} })
        .await
        .unwrap();
}

/// Starts a broker that accepts every client and publishes these packets.
async fn broker(packets: Vec<Vec<u8>>) -> SocketAddr {
    peer(move |mut stream| {
        let packets = packets.clone();
        async move {
            let _ = stream.read(&mut [0; 1_024]).await;
            let _ = stream.write_all(&[0x20, 2, 0, 0]).await;
            let _ = stream.read(&mut [0; 1_024]).await;
            let _ = stream.write_all(&[0x90, 3, 0, 1, 0]).await;
            for packet in packets {
                let _ = stream.write_all(&packet).await;
            }
            // Until the reader disconnects.
            while stream
                .read(&mut [0; 1_024])
                .await
                .is_ok_and(|read| read > 0)
            {}
        }
    })
    .await
}

fn publish(topic: &str, payload: &str, retained: bool) -> Vec<u8> {
    let mut packet = vec![0x30 | u8::from(retained)];
    packet.push((2 + topic.len() + payload.len()) as u8);
    packet.extend([0, topic.len() as u8]);
    packet.extend(topic.bytes());
    packet.extend(payload.bytes());
    packet
}

#[tokio::test]
async fn a_broker_that_publishes_and_falls_silent() {
    let address = broker(vec![
        publish("$SYS/broker/clients/connected", "7", true),
        publish("$SYS/broker/uptime", "22 seconds", true),
        publish("$SYS/broker/uptime", "33 seconds", false),
        publish("$SYS/broker/heap/current", "1024", false),
    ])
    .await;
    let mut running = run(&source("mosquitto", address));
    let readings = running.report().await.outcome.unwrap();
    let value = |quantity| {
        readings
            .readings
            .iter()
            .find(|reading| reading.quantity == quantity)
            .map(|reading| reading.value)
    };
    assert_eq!(value(Quantity::Connections), Some(7.0));
    assert_eq!(value(Quantity::MemoryBytes), Some(1_024.0));
    assert_eq!(value(Quantity::Utilisation), None);
    for _ in 0..2 {
        let error = running.error().await;
        assert!(
            matches!(&error, ReadError::Stale(reason) if reason.contains("sys_interval")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_broker_with_only_retained_values_is_stale() {
    let address = broker(vec![publish("$SYS/broker/uptime", "22 seconds", true)]).await;
    let error = run(&source("mosquitto", address)).error().await;
    assert!(matches!(error, ReadError::Stale(_)), "{error}");
}

#[tokio::test]
async fn a_broker_that_refuses_the_subscription() {
    let address = peer(|mut stream| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
        let _ = stream.write_all(&[0x20, 2, 0, 0]).await;
        let _ = stream.read(&mut [0; 1_024]).await;
        let _ = stream.write_all(&[0x90, 3, 0, 1, 0x80]).await;
    })
    .await;
    all_report(address, &MQTT, "refuses the subscription").await;
}

#[tokio::test]
async fn a_broker_that_publishes_too_much() {
    // A message of 256 MB begins.
    let address = broker(vec![vec![0x30, 0xff, 0xff, 0xff, 0x7f]]).await;
    all_report(address, &MQTT, "longer than 65536 bytes").await;
}
