//! Publishes each report to an MQTT topic, retained, as JSON.
//!
//! When the reporter ends, or the broker finds its connection dead (the will), an empty retained message takes
//! the report's place: a subscriber that comes later is told nothing rather than something old.

use std::{
    fmt,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::{
    Error, QoS,
    v4::{Connect, ConnectReturnCode, Disconnect, LastWill, Packet, Publish},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch::Receiver,
};

use super::http::json;
use lb_clients::peer::{Deadline, PeerError, Secret, Stream, Target, Tls, TlsClient};
use lb_report::{MAX_INTERVAL, Newest};
use lb_serve::stopped;

/// How long connecting, and each message until it is acknowledged, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first rest after a failure; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// A report that is published each interval is a sign of life; the broker hears nothing for longer than this
/// only if the reporter is dead.
const KEEP_ALIVE: u16 = 90;
const _: () = assert!(KEEP_ALIVE as u64 > MAX_INTERVAL.as_secs());
/// Acknowledgements are a few bytes. Nothing is subscribed to.
const MAX_PACKET: usize = 1 << 10;
/// A topic's length is two bytes (MQTT 3.1.1, 1.5.3).
const MAX_TOPIC: usize = u16::MAX as usize;
const RECEIVING: &str = "waiting for the broker";

/// A broker: `mqtt://HOST[:1883]`, or `mqtts://HOST[:8883]` over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    host: String,
    port: u16,
    tls: bool,
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Broker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // It may hold a password, so it is not repeated.
        let wrong = || "write mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS".to_owned();
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("mqtt") => false,
            Some("mqtts") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err(
                "a login in the URL would be seen in the list of processes; give --username and \
                 --password-file"
                    .to_owned(),
            );
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("{}; the topic is --topic", wrong()));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            host,
            port: authority
                .port_u16()
                .unwrap_or(if tls { 8883 } else { 1883 }),
            tls,
        })
    }
}

/// A topic that can be published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic(String);

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_TOPIC {
            return Err(format!("a topic has 1 to {MAX_TOPIC} bytes"));
        }
        if text.contains(['+', '#', '\0']) {
            return Err("a topic to publish to has no wildcards (+, #)".to_owned());
        }
        if text.starts_with('$') {
            return Err("topics that begin with $ belong to the broker".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

/// Where reports are published, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The broker.
    pub broker: Broker,
    /// The topic.
    pub topic: Topic,
    /// The login's name.
    pub username: Option<String>,
    /// The login's password; read at each connection.
    pub password: Option<Secret>,
    /// Certificate authorities (PEM) instead of the system's, for `mqtts`.
    pub ca: Option<PathBuf>,
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.broker, self.topic)
    }
}

/// Publishes until `stopping` becomes true. What fails is tried again, with rests that grow.
pub async fn publish(publication: Publication, mut newest: Newest, mut stopping: Receiver<bool>) {
    let mut rest = FIRST_REST;
    let mut said = None;
    loop {
        let opened = tokio::select! {
            opened = Session::open(&publication) => opened,
            () = stopped(&mut stopping) => return,
        };
        let error = match opened {
            Ok(mut session) => {
                tracing::info!("publishing to {publication}");
                rest = FIRST_REST;
                said = None;
                match session.run(&mut newest, &mut stopping).await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        // A line per change, not per try.
        if said.as_ref() != Some(&error) {
            tracing::warn!("publishing to {publication}: {error}; it is tried again");
            said = Some(error);
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(rest)) => {}
            () = stopped(&mut stopping) => return,
        }
        rest = (rest * 2).min(LONGEST_REST);
    }
}

/// A connection that the broker has accepted.
struct Session<'a> {
    topic: &'a Topic,
    stream: Stream,
    read: BytesMut,
    /// Of the last message.
    id: u16,
}

impl<'a> Session<'a> {
    async fn open(publication: &'a Publication) -> Result<Self, PeerError> {
        let deadline = Deadline::after(PATIENCE);
        let stream = connect(publication, &deadline).await?;
        let mut session = Self {
            topic: &publication.topic,
            stream,
            read: BytesMut::new(),
            id: 0,
        };
        let mut connect = Connect::new(client_id());
        connect.keep_alive = KEEP_ALIVE;
        connect.last_will = Some(LastWill::new(
            &publication.topic.0,
            Vec::new(),
            QoS::AtLeastOnce,
            true,
        ));
        if let Some(username) = &publication.username {
            let password = match &publication.password {
                Some(secret) => Some(secret.read(&deadline).await?),
                None => None,
            };
            connect.set_login(
                username,
                password.as_ref().map_or("", |content| content.expose()),
            );
        }
        session
            .write(&deadline, |buffer| connect.write(buffer))
            .await?;
        match session.packet(&deadline).await? {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => Ok(session),
            Packet::ConnAck(ack) => Err(PeerError::Protocol(format!(
                "the broker refuses the connection: {:?}",
                ack.code
            ))),
            other => Err(unexpected(&other)),
        }
    }

    /// Publishes what is new until `stopping` becomes true, then nothing in its place.
    async fn run(
        &mut self,
        newest: &mut Newest,
        stopping: &mut Receiver<bool>,
    ) -> Result<(), PeerError> {
        newest.mark_changed();
        loop {
            tokio::select! {
                biased;
                () = stopped(stopping) => break,
                changed = newest.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let sample = newest.borrow_and_update().clone();
                    if let Some(sample) = sample {
                        self.publish(json(&sample)).await?;
                    }
                }
                // Nothing is subscribed to: what comes is the end.
                end = self.receive() => return Err(end.map_or_else(|error| error, |packet| unexpected(&packet))),
            }
        }
        self.publish(Bytes::new()).await?;
        let deadline = Deadline::after(PATIENCE);
        self.write(&deadline, |buffer| Disconnect.write(buffer))
            .await
    }

    /// Publishes, and waits until the broker has it.
    async fn publish(&mut self, payload: Bytes) -> Result<(), PeerError> {
        let deadline = Deadline::after(PATIENCE);
        // 0 is no id (MQTT 3.1.1, 2.3.1).
        self.id = self.id.checked_add(1).unwrap_or(1);
        let mut message = Publish::from_bytes(&self.topic.0, QoS::AtLeastOnce, payload);
        message.retain = true;
        message.pkid = self.id;
        self.write(&deadline, |buffer| message.write(buffer))
            .await?;
        match self.packet(&deadline).await? {
            Packet::PubAck(ack) if ack.pkid == self.id => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn write(
        &mut self,
        deadline: &Deadline,
        write: impl FnOnce(&mut BytesMut) -> Result<usize, Error>,
    ) -> Result<(), PeerError> {
        const SENDING: &str = "sending";
        let mut bytes = BytesMut::new();
        write(&mut bytes).map_err(|error| PeerError::Request(error.to_string()))?;
        deadline
            .bound(SENDING, async {
                self.stream
                    .write_all(&bytes)
                    .await
                    .map_err(|error| PeerError::io(SENDING, &error))?;
                self.stream
                    .flush()
                    .await
                    .map_err(|error| PeerError::io(SENDING, &error))
            })
            .await
    }

    async fn packet(&mut self, deadline: &Deadline) -> Result<Packet, PeerError> {
        deadline.bound(RECEIVING, self.receive()).await
    }

    /// The next packet. May be dropped and called again.
    async fn receive(&mut self) -> Result<Packet, PeerError> {
        loop {
            match Packet::read(&mut self.read, MAX_PACKET) {
                Ok(packet) => return Ok(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(PeerError::Protocol(format!("no MQTT ({error})"))),
            }
            let length = self
                .stream
                .read_buf(&mut self.read)
                .await
                .map_err(|error| PeerError::io(RECEIVING, &error))?;
            if length == 0 {
                return Err(PeerError::Closed(RECEIVING));
            }
        }
    }
}

fn unexpected(packet: &Packet) -> PeerError {
    PeerError::Protocol(format!(
        "the broker sent what was not asked for: {packet:?}"
    ))
}

/// Connects to the first of the broker's addresses that answers.
async fn connect(publication: &Publication, deadline: &Deadline) -> Result<Stream, PeerError> {
    const RESOLVING: &str = "looking up the broker's name";
    let broker = &publication.broker;
    let addresses = deadline
        .bound(RESOLVING, async {
            tokio::net::lookup_host((broker.host.as_str(), broker.port))
                .await
                .map_err(|error| PeerError::Unreachable(format!("{}: {error}", broker.host)))
        })
        .await?;
    let mut tls = broker.tls.then(|| {
        let spec = Tls {
            ca: publication.ca.clone(),
            server_name: Some(broker.host.clone()),
            ..Tls::default()
        };
        TlsClient::new(spec, &[])
    });
    let mut last = PeerError::Unreachable(format!("{} has no address", broker.host));
    for address in addresses {
        let target = Target {
            address,
            mark: None,
        };
        match Stream::open(&target, tls.as_mut(), deadline).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A client id that no other client has; at most 23 letters and digits, which any broker takes (MQTT 3.1.1,
/// 3.1.3.1).
fn client_id() -> String {
    format!("lbreport{:015x}", random() >> 4)
}

/// Between half of it and all of it, so that reporters do not come back to a broker all at once.
fn jittered(rest: Duration) -> Duration {
    const PARTS: u64 = 1 << 16;
    let part = (random() % PARTS) as f64 / PARTS as f64;
    rest.mul_f64(0.5 + part / 2.0)
}

/// The standard library seeds its hashers with random keys of the system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers() {
        for (text, told) in [
            ("mqtt://broker", "mqtt://broker:1883"),
            ("mqtt://10.0.0.1:2000/", "mqtt://10.0.0.1:2000"),
            ("mqtts://broker.example", "mqtts://broker.example:8883"),
            ("mqtt://[::1]:1883", "mqtt://[::1]:1883"),
        ] {
            let broker: Broker = text.parse().expect(text);
            assert_eq!(broker.to_string(), told);
        }
        for (text, why) in [
            ("broker:1883", "mqtt://HOST:PORT"),
            ("http://broker", "mqtt://HOST:PORT"),
            ("mqtt://", "mqtt://HOST:PORT"),
            ("mqtt://broker/topic", "--topic"),
            ("mqtt://a:hunter2@broker", "--password-file"),
        ] {
            let error = text.parse::<Broker>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn topics() {
        assert_eq!("lb/load/a".parse(), Ok(Topic("lb/load/a".to_owned())));
        for text in ["", "a/+", "#", "$SYS/x", &"x".repeat(MAX_TOPIC + 1)] {
            text.parse::<Topic>().expect_err(text);
        }
    }

    #[test]
    fn client_ids_differ_and_fit_any_broker() {
        let (one, other) = (client_id(), client_id());
        assert_ne!(one, other);
        assert_eq!(one.len(), 23);
        assert!(one.chars().all(|letter| letter.is_ascii_alphanumeric()));
    }
}
