//! Sessions with a broker on the loopback that follows a script.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::peer::{Deadline, PeerError, Target};

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
/// For what must happen; not a measure of time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a broker that reads one packet before each answer, and ends with all bytes that it read.
async fn broker(answers: Vec<Vec<u8>>) -> (Target, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let broker = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        for answer in answers {
            read.extend(packet(&mut stream).await);
            stream.write_all(&answer).await.unwrap();
        }
        // Until the client goes.
        stream.read_to_end(&mut read).await.unwrap();
        read
    });
    let target = Target {
        address,
        mark: None,
    };
    (target, broker)
}

/// A packet of up to 127 bytes.
async fn packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet).await.unwrap();
    packet.resize(2 + usize::from(packet[1]), 0);
    stream.read_exact(&mut packet[2..]).await.unwrap();
    packet
}

fn connect(version: Version) -> Connect {
    Connect {
        version,
        client_id: "lbtest".to_owned(),
        keep_alive: PATIENCE * 2,
        login: None,
        will: None,
    }
}

fn deadline() -> Deadline {
    Deadline::after(PATIENCE)
}

async fn open(target: &Target, connect: &Connect) -> Session {
    Session::open(target, None, connect, &deadline())
        .await
        .unwrap()
        .unwrap()
}

/// A packet of this type; `properties` is the length of 5.0's properties, which 3.1.1 has not.
fn with_properties(version: Version, first: u8, head: &[u8], rest: &[u8]) -> Vec<u8> {
    let properties: &[u8] = match version {
        Version::V311 => &[],
        Version::V5 => &[0],
    };
    let body = [head, properties, rest].concat();
    [&[first, body.len() as u8], &body[..]].concat()
}

fn accepted(version: Version) -> Vec<u8> {
    with_properties(version, 0x20, &[0, 0], &[])
}

fn message(version: Version, retain: bool, topic: &str, payload: &str) -> Vec<u8> {
    let head = [&[0, topic.len() as u8], topic.as_bytes()].concat();
    with_properties(version, 0x30 | u8::from(retain), &head, payload.as_bytes())
}

#[tokio::test]
async fn retained_messages_may_precede_the_acknowledgement_of_a_subscription() {
    for version in VERSIONS {
        let granted = with_properties(version, 0x90, &[0, 1], &[0]);
        let (target, broker) = broker(vec![
            accepted(version),
            [
                message(version, true, "a/b", "old"),
                granted,
                message(version, false, "a/c", "new"),
            ]
            .concat(),
        ])
        .await;
        let mut session = open(&target, &connect(version)).await;
        assert!(session.subscribe("a/#", &deadline()).await.unwrap());
        for (topic, payload, retained) in [("a/b", "old", true), ("a/c", "new", false)] {
            assert_eq!(
                session.receive().await.unwrap(),
                Message {
                    topic: topic.to_owned(),
                    payload: Bytes::from(payload),
                    retained,
                }
            );
        }
        session.disconnect(&deadline()).await.unwrap();
        let read = broker.await.unwrap();
        assert!(read.ends_with(&[0xe0, 0]), "{read:?}");
    }
}

#[tokio::test]
async fn a_subscription_can_be_refused() {
    for (version, code) in [(Version::V311, 0x80), (Version::V5, 0x87)] {
        let refused = with_properties(version, 0x90, &[0, 1], &[code]);
        let (target, _broker) = broker(vec![accepted(version), refused]).await;
        let mut session = open(&target, &connect(version)).await;
        assert!(!session.subscribe("a", &deadline()).await.unwrap());
    }
}

#[tokio::test]
async fn a_message_is_acknowledged() {
    for version in VERSIONS {
        let acknowledged = |id| vec![0x40, 2, 0, id];
        let (target, broker) =
            broker(vec![accepted(version), acknowledged(1), acknowledged(2)]).await;
        let with_will = Connect {
            will: Some(Will {
                topic: "w".to_owned(),
                payload: Bytes::new(),
            }),
            ..connect(version)
        };
        let mut session = open(&target, &with_will).await;
        for payload in ["one", ""] {
            session
                .publish("t", Bytes::from(payload), true, &deadline())
                .await
                .unwrap();
        }
        drop(session);
        let read = broker.await.unwrap();
        // Clean session, a will of QoS 1 that is retained.
        assert_eq!(read[9], 0b0010_1110, "{read:?}");
        // Retained and of QoS 1.
        let last = with_properties(version, 0x33, &[0, 1, b't', 0, 2], &[]);
        assert!(read.ends_with(&last), "{read:?}");
    }
}

#[tokio::test]
async fn a_message_can_be_refused() {
    let (target, _broker) = broker(vec![accepted(Version::V5), vec![0x40, 4, 0, 1, 0x87, 0]]).await;
    let mut session = open(&target, &connect(Version::V5)).await;
    let error = session
        .publish("t", Bytes::from("x"), false, &deadline())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        PeerError::Protocol("the broker refuses a message on t: not authorized".to_owned())
    );
}

#[tokio::test]
async fn the_broker_can_end_a_session() {
    let (target, _broker) = broker(vec![
        [accepted(Version::V5), vec![0xe0, 2, 0x8b, 0]].concat(),
    ])
    .await;
    let mut session = open(&target, &connect(Version::V5)).await;
    let error = session.receive().await.unwrap_err().to_string();
    assert!(error.contains("server shutting down"), "{error}");
}

#[tokio::test]
async fn a_session_keeps_itself_alive() {
    for version in VERSIONS {
        let pong = || vec![0xd0, 0];
        let (target, broker) = broker(vec![
            accepted(version),
            pong(),
            pong(),
            pong(),
            pong(),
            [pong(), message(version, false, "t", "x")].concat(),
        ])
        .await;
        let hasty = Connect {
            keep_alive: Duration::from_millis(20),
            ..connect(version)
        };
        let mut session = open(&target, &hasty).await;
        // More pings than may be unanswered.
        assert_eq!(session.receive().await.unwrap().topic, "t");
        drop(session);
        let read = broker.await.unwrap();
        assert!(read.ends_with(&[0xc0, 0].repeat(5)), "{read:?}");
    }
}

#[tokio::test]
async fn a_broker_that_answers_no_ping_is_left() {
    for version in VERSIONS {
        let (target, _broker) = broker(vec![accepted(version)]).await;
        let hasty = Connect {
            keep_alive: Duration::from_millis(20),
            ..connect(version)
        };
        let mut session = open(&target, &hasty).await;
        let error = session.receive().await.unwrap_err();
        assert_eq!(
            error,
            PeerError::Unresponsive {
                after: Duration::from_millis(30)
            }
        );
    }
}

/// A reader drops `receive` whenever something else is due.
#[tokio::test]
async fn a_receive_that_is_dropped_loses_nothing() {
    for version in VERSIONS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target {
            address: listener.local_addr().unwrap(),
            mark: None,
        };
        let broker = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            packet(&mut stream).await;
            stream.write_all(&accepted(version)).await.unwrap();
            for number in 0..20 {
                for byte in message(version, false, "t", &number.to_string()) {
                    stream.write_all(&[byte]).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            stream
        });
        let mut session = open(&target, &connect(version)).await;
        let mut messages = Vec::new();
        while messages.len() < 20 {
            let pause = Duration::from_millis(2);
            if let Ok(message) = tokio::time::timeout(pause, session.receive()).await {
                messages.push(message.unwrap().payload);
            }
        }
        let expected: Vec<_> = (0..20).map(|number| number.to_string()).collect();
        assert_eq!(messages, expected);
        broker.await.unwrap();
    }
}
