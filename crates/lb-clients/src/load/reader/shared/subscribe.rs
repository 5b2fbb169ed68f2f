//! What is read over MQTT: one connection with one subscription, held as long as it goes.
//!
//! The packets are rumqttc's codec over a [`Stream`]: its client would bring a TLS of its own and keep what
//! nobody takes. Bounded are the packets, the time to connect, and what [`TopicReader`] keeps.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::{
    Connect, ConnectReturnCode, Packet, QoS, Subscribe, SubscribeReasonCode,
    mqttbytes::Error as CodecError,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time,
};

use super::super::kind::SourceTarget;
use super::{
    task::{Task, chance},
    topics::{Message, Received, TopicReader},
};
use crate::load::{combine::fresh_for, reading::ReadError};
use crate::peer::{Deadline, PeerError, Stream, Target, TlsClient, http::Authorization};

/// Bytes of a packet that are read at most; `$SYS` messages are far below 1 KiB, and a job's JSON is not long.
const MAX_PACKET: usize = 64 << 10;
/// Room that is made for reading.
const CHUNK: usize = 4 << 10;
/// How long a broker waits for us, and we for it.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Values are published one after the other: so long after a heartbeat they are taken together.
const SETTLE: Duration = Duration::from_millis(250);
/// Between two attempts to connect.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// At most.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
const SUBSCRIPTION: u16 = 1;

/// A broker, and the user of the subscription.
#[derive(Debug)]
pub(in super::super) struct BrokerEndpoint {
    target: Target,
    tls: Option<TlsClient>,
    login: Option<Authorization>,
}

impl BrokerEndpoint {
    /// The broker of a source.
    pub(in super::super) fn new(target: &SourceTarget<'_>) -> Self {
        BrokerEndpoint {
            target: Target {
                address: target.address,
                mark: None,
            },
            // The name that IANA gave MQTT (ALPN).
            tls: target.tls_client(&["mqtt"]),
            login: target.authorization(),
        }
    }
}

/// Connects, reads, and connects again, until nobody listens any more.
pub(in super::super) async fn run(
    mut task: Task,
    mut broker: BrokerEndpoint,
    mut topics: Box<dyn TopicReader>,
) {
    let mut backoff = MIN_BACKOFF;
    // Not all at once after a start.
    time::sleep(MIN_BACKOFF.mul_f64(chance())).await;
    loop {
        let started = Instant::now();
        let reason = match open(&mut broker, topics.filter(), task.timeout).await {
            Ok(connection) => match follow(&mut task, connection, topics.as_mut()).await {
                Some(reason) => reason,
                None => return,
            },
            Err(error) => error.to_string(),
        };
        let trouble = ReadError::Failed(format!("{}: {reason}", broker.target.address));
        if !task.report(Err(trouble)).await {
            return;
        }
        if started.elapsed() > MAX_BACKOFF {
            backoff = MIN_BACKOFF;
        }
        time::sleep(backoff.mul_f64(0.5 + chance())).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
    }
}

/// A connection with what was read of the next packet.
#[derive(Debug)]
struct Connection {
    stream: Stream,
    input: BytesMut,
}

impl Connection {
    async fn send(&mut self, packet: Packet) -> Result<(), PeerError> {
        let mut bytes = BytesMut::new();
        packet
            .write(&mut bytes, MAX_PACKET)
            .map_err(|error| PeerError::Request(error.to_string()))?;
        self.stream
            .write_all(&bytes)
            .await
            .map_err(|error| PeerError::io("sending", &error))
    }

    /// The next packet. Dropped in the middle, it loses nothing.
    async fn receive(&mut self) -> Result<Packet, PeerError> {
        loop {
            if let Some(packet) = next(&mut self.input)? {
                return Ok(packet);
            }
            self.input.reserve(CHUNK);
            let read = self
                .stream
                .read_buf(&mut self.input)
                .await
                .map_err(|error| PeerError::io("waiting for a message", &error))?;
            if read == 0 {
                return Err(PeerError::Closed("waiting for a message"));
            }
        }
    }
}

/// The first packet of these bytes, if it is whole.
fn next(input: &mut BytesMut) -> Result<Option<Packet>, PeerError> {
    match Packet::read(input, MAX_PACKET) {
        Ok(packet) => Ok(Some(packet)),
        Err(CodecError::InsufficientBytes(_)) => Ok(None),
        Err(CodecError::PayloadSizeLimitExceeded(_)) => {
            Err(PeerError::TooLong { limit: MAX_PACKET })
        }
        Err(error) => Err(PeerError::Protocol(format!("no MQTT 3.1.1 ({error})"))),
    }
}

async fn open(
    broker: &mut BrokerEndpoint,
    filter: &str,
    timeout: Duration,
) -> Result<Connection, PeerError> {
    let deadline = Deadline::after(timeout);
    let mut connect = Connect::new(format!("lb-{:016x}", (chance() * u64::MAX as f64) as u64));
    connect.keep_alive = KEEP_ALIVE.as_secs() as u16;
    if let Some(Authorization::Basic { username, password }) = &broker.login {
        let password = password.read(&deadline).await?;
        connect.set_login(username, password.expose());
    }
    let stream = Stream::open(&broker.target, broker.tls.as_mut(), &deadline).await?;
    let mut connection = Connection {
        stream,
        input: BytesMut::new(),
    };
    deadline
        .bound("logging in to the broker", async {
            connection.send(Packet::Connect(connect)).await?;
            match connection.receive().await? {
                Packet::ConnAck(answer) => accepted(answer.code),
                _ => Err(PeerError::Protocol("no CONNACK came first".to_owned())),
            }
        })
        .await?;
    deadline
        .bound("subscribing", async {
            let mut subscribe = Subscribe::new(filter, QoS::AtMostOnce);
            subscribe.pkid = SUBSCRIPTION;
            connection.send(Packet::Subscribe(subscribe)).await?;
            match connection.receive().await? {
                Packet::SubAck(answer)
                    if answer
                        .return_codes
                        .contains(&SubscribeReasonCode::Failure) =>
                {
                    Err(PeerError::Protocol(format!(
                        "the broker refuses the subscription to {filter}; allow it to the source's user"
                    )))
                }
                Packet::SubAck(_) => Ok(()),
                _ => Err(PeerError::Protocol("no SUBACK came".to_owned())),
            }
        })
        .await?;
    Ok(connection)
}

fn accepted(code: ConnectReturnCode) -> Result<(), PeerError> {
    let reason = match code {
        ConnectReturnCode::Success => return Ok(()),
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
        ConnectReturnCode::BadClientId => "it refuses the client's name",
        ConnectReturnCode::ServiceUnavailable => "it says that it is not available",
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            "give the source a username and password that the broker knows"
        }
    };
    Err(PeerError::Protocol(format!(
        "the broker refuses the login: {reason}"
    )))
}

/// Reads until the connection ends, and says why; none: nobody listens any more.
async fn follow(
    task: &mut Task,
    mut connection: Connection,
    topics: &mut dyn TopicReader,
) -> Option<String> {
    let patience = fresh_for(task.interval);
    let mut last_heartbeat = Instant::now();
    let mut last_packet = Instant::now();
    let mut settled: Option<time::Instant> = None;
    let mut stale_at = time::Instant::now() + patience;
    let mut ping_at = time::Instant::now() + KEEP_ALIVE / 2;
    loop {
        let settle_at = settled.unwrap_or(stale_at);
        tokio::select! {
            packet = connection.receive() => {
                let packet = match packet {
                    Ok(packet) => packet,
                    Err(error) => return Some(error.to_string()),
                };
                last_packet = Instant::now();
                let Packet::Publish(publish) = packet else {
                    continue;
                };
                let received = topics.receive(&Message {
                    topic: &publish.topic,
                    payload: &publish.payload,
                    retained: publish.retain,
                });
                match received {
                    Received::Stored => {}
                    Received::Heartbeat => {
                        last_heartbeat = Instant::now();
                        stale_at = time::Instant::now() + patience;
                        settled.get_or_insert_with(|| time::Instant::now() + SETTLE);
                    }
                    Received::Unreadable(reason) => {
                        if !task.report(Err(ReadError::Failed(reason))).await {
                            return None;
                        }
                    }
                }
            }
            () = time::sleep_until(settle_at), if settled.is_some() => {
                settled = None;
                let answer = topics.answer(Instant::now()).map_err(ReadError::Failed);
                if !task.report(answer).await {
                    return None;
                }
            }
            () = time::sleep_until(stale_at) => {
                stale_at = time::Instant::now() + task.interval;
                let trouble = ReadError::Stale(format!(
                    "connected, but nothing new for {} s: {}",
                    last_heartbeat.elapsed().as_secs(),
                    topics.advice(),
                ));
                if !task.report(Err(trouble)).await {
                    return None;
                }
            }
            () = time::sleep_until(ping_at) => {
                ping_at = time::Instant::now() + KEEP_ALIVE / 2;
                if last_packet.elapsed() > KEEP_ALIVE + KEEP_ALIVE / 2 {
                    return Some(format!(
                        "the broker says nothing for {} s, though asked",
                        last_packet.elapsed().as_secs()
                    ));
                }
                // A broker that takes nothing must not hold the reader up.
                match time::timeout(task.timeout, connection.send(Packet::PingReq)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Some(error.to_string()),
                    Err(_) => return Some("the broker takes nothing any more".to_owned()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_packets_are_refused_before_they_are_read() {
        // A PUBLISH of 256 MB.
        let mut input = BytesMut::from(&[0x30, 0xff, 0xff, 0xff, 0x7f][..]);
        assert_eq!(
            next(&mut input).unwrap_err(),
            PeerError::TooLong { limit: MAX_PACKET }
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), kind in 0u8..16, flags in 0u8..16) {
            let mut input = BytesMut::from(&bytes[..]);
            let _ = next(&mut input);
            let length = bytes.len() as u8;
            let mut input = BytesMut::from(&[kind << 4 | flags, length][..]);
            input.extend_from_slice(&bytes);
            let _ = next(&mut input);
        }
    }
}
