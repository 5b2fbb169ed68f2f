//! Publishes each report to an MQTT topic, retained, as JSON.
//!
//! When the reporter ends, or the broker finds its connection dead (the will), an empty retained message takes
//! the report's place: a subscriber that comes later is told nothing rather than something old.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use bytes::Bytes;
use tokio::sync::watch::Receiver;

use super::http::json;
use lb_clients::{
    backoff::Backoff,
    peer::{
        Deadline, PeerError, Secret, Stream, Target, Tls, TlsClient,
        mqtt::{Connect, Login, Session, Version, Will, random_client_id},
    },
};
use lb_report::{MAX_INTERVAL, Newest};
use lb_serve::stopped;

/// How long connecting, and each message until it is acknowledged, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after the first failure.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A report is published each interval, so the broker hears nothing for longer than this only if the reporter is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(90);
const _: () = assert!(KEEP_ALIVE.as_secs() > MAX_INTERVAL.as_secs());
/// A topic's length is two bytes (MQTT 3.1.1, 1.5.3).
const MAX_TOPIC: usize = u16::MAX as usize;

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

/// Publishes until `stopping` becomes true. What fails is tried again after a pause that grows.
pub async fn publish(publication: Publication, mut newest: Newest, mut stopping: Receiver<bool>) {
    let mut backoff = Backoff::new(MIN_BACKOFF, MAX_BACKOFF);
    let mut last_error = None;
    loop {
        let opened = tokio::select! {
            opened = open(&publication) => opened,
            () = stopped(&mut stopping) => return,
        };
        let error = match opened {
            Ok(session) => {
                tracing::info!("publishing to {publication}");
                backoff.reset();
                last_error = None;
                match follow(session, &publication.topic, &mut newest, &mut stopping).await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        // A line per change, not per attempt.
        if last_error.as_ref() != Some(&error) {
            tracing::warn!("publishing to {publication}: {error}; it is tried again");
            last_error = Some(error);
        }
        tokio::select! {
            () = backoff.wait() => {}
            () = stopped(&mut stopping) => return,
        }
    }
}

async fn open(publication: &Publication) -> Result<Session, PeerError> {
    let deadline = Deadline::after(PATIENCE);
    let connect = Connect {
        version: Version::V311,
        client_id: random_client_id("lbreport"),
        keep_alive: KEEP_ALIVE,
        login: publication.username.clone().map(|username| Login {
            username,
            password: publication.password.clone(),
        }),
        will: Some(Will {
            topic: publication.topic.0.clone(),
            payload: Bytes::new(),
        }),
    };
    let stream = open_stream(publication, &deadline).await?;
    Session::over(stream, &connect, &deadline)
        .await?
        .map_err(|refusal| {
            PeerError::Protocol(format!("the broker refuses the connection: {refusal}"))
        })
}

/// Publishes each new report until `stopping` becomes true, then an empty message in the report's place.
async fn follow(
    mut session: Session,
    topic: &Topic,
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
                    let deadline = Deadline::after(PATIENCE);
                    session.publish(&topic.0, json(&sample), true, &deadline).await?;
                }
            }
            // The reporter subscribes to nothing: only the end of the session comes here, and no message.
            message = session.receive() => {
                let message = message?;
                return Err(PeerError::Protocol(format!(
                    "the broker sent a message on {}, which the reporter does not subscribe to",
                    message.topic
                )));
            }
        }
    }
    let deadline = Deadline::after(PATIENCE);
    session
        .publish(&topic.0, Bytes::new(), true, &deadline)
        .await?;
    session.disconnect(&deadline).await
}

/// Connects to the first of the broker's addresses that answers.
async fn open_stream(publication: &Publication, deadline: &Deadline) -> Result<Stream, PeerError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers() {
        for (text, expected) in [
            ("mqtt://broker", "mqtt://broker:1883"),
            ("mqtt://10.0.0.1:2000/", "mqtt://10.0.0.1:2000"),
            ("mqtts://broker.example", "mqtts://broker.example:8883"),
            ("mqtt://[::1]:1883", "mqtt://[::1]:1883"),
        ] {
            let broker: Broker = text.parse().expect(text);
            assert_eq!(broker.to_string(), expected);
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
}
