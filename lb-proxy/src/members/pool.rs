//! Instances of a pool, from a WebSocket.
//!
//! Messages are JSON texts. Two forms are understood:
//! - a list of instances: all that there are (what a deployment agent sends whenever its queue changes);
//! - an object with `type`: `snapshot` (`revision`, `instances`) has all instances, `change` (`revision`, `instances`,
//!   `removed`) those that changed by name, `resync` announces that a snapshot follows.
//!
//! An instance has an address (`address`, with its port or without; or `host` or `ip`, and `port`), and may have `name` or
//! `id`, `weight` or `score`, and `state` or `status`. After a break the stream is asked for what came since the last
//! revision (`since`).
//!
//! To a stream of the second form the proxy reports once a second what it has counted: `{"type": "report", "requests",
//! "pending"}`, the requests since the last report and the open ones by the instance's name. A pool is scaled by them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, header::AUTHORIZATION};
use lb_clients::{
    backoff::Backoff,
    peer::{Deadline, Secret, secret},
};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::{MissedTickBehavior, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::WebSocketConfig},
};

use super::{FIRST_PAUSE, LONGEST_PAUSE, file::address_of};
use crate::{
    config::{PoolStream, StreamPlace},
    service::{Entry, Member, Service, State},
};

/// The longest time for connecting and for the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream that is silent for this long is pinged; one that is silent for twice as long is dead.
const SILENCE: Duration = Duration::from_secs(15);
/// How often the proxy reports.
const REPORT: Duration = Duration::from_secs(1);
/// Bytes of a message.
const MOST: usize = 8 << 20;
/// Bytes of what cannot be read that are shown.
const MOST_QUOTED: usize = 200;
/// The weight of an instance without weight and score.
const WEIGHT: f64 = 100.0;

/// What a stream is read from.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<C: AsyncRead + AsyncWrite + Send + Unpin> Connection for C {}

/// Connects, and makes the handshake.
async fn open(
    place: &StreamPlace,
    url: String,
    token: Option<&Secret>,
) -> Result<WebSocketStream<Box<dyn Connection>>, String> {
    let stream: Box<dyn Connection> = match place {
        StreamPlace::Tcp(address) => {
            let stream = TcpStream::connect(address).await;
            Box::new(stream.map_err(|error| error.to_string())?)
        }
        StreamPlace::Unix(socket) => {
            let stream = UnixStream::connect(socket).await;
            Box::new(stream.map_err(|error| error.to_string())?)
        }
    };
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MOST))
        .max_frame_size(Some(MOST));
    let mut request = url
        .into_client_request()
        .map_err(|error| error.to_string())?;
    if let Some(token) = token {
        let content = secret::read(token, &Deadline::after(CONNECT_TIMEOUT)).await;
        let content = content.map_err(|error| error.to_string())?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", content.expose()))
            .map_err(|_| format!("{token} holds characters that no header can carry"))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let opened = client_async_with_config(request, stream, Some(limits)).await;
    opened
        .map(|(stream, _)| stream)
        .map_err(|error| error.to_string())
}

/// Keeps a service's instances those of a pool.
pub async fn follow(
    at: &PoolStream,
    token: Option<&Secret>,
    port: Option<u16>,
    service: &Arc<Service>,
) -> ! {
    let mut table = Table::new(port);
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let error = match watch(at, token, &mut table, service, &mut backoff).await {
            Ok(()) => "the stream ended".to_owned(),
            Err(error) => error,
        };
        let why = format!("pool {at}: {error}");
        service.source.lost(&why);
        tracing::warn!(
            "service {}: {why}; the instances stay as they are",
            service.name
        );
        backoff.wait().await;
    }
}

async fn watch(
    at: &PoolStream,
    token: Option<&Secret>,
    table: &mut Table,
    service: &Arc<Service>,
    backoff: &mut Backoff,
) -> Result<(), String> {
    let plain = at.url.clone();
    let request = match table.revision {
        0 => plain,
        revision => {
            let mark = if plain.contains('?') { '&' } else { '?' };
            format!("{plain}{mark}since={revision}")
        }
    };
    let mut stream = timeout(CONNECT_TIMEOUT, open(&at.place, request, token))
        .await
        .map_err(|_| format!("connecting took longer than {CONNECT_TIMEOUT:?}"))??;
    if table.revision != 0 {
        // Only changes since then come, if there are any.
        service.source.followed(table.unreadable.clone());
    }
    let mut was_pinged = false;
    let mut counted = service.counted();
    let mut reports = tokio::time::interval(REPORT);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let silence = SILENCE.saturating_sub(heard.elapsed());
        let next = tokio::select! {
            next = timeout(silence, stream.next()) => next,
            _ = reports.tick(), if table.is_reported => {
                let before = std::mem::replace(&mut counted, service.counted());
                let report = table.report(service, counted - before);
                let sent = stream.send(Message::text(report.to_string())).await;
                sent.map_err(|error| error.to_string())?;
                continue;
            }
        };
        let message = match next {
            Ok(None) => return Ok(()),
            Ok(Some(message)) => message.map_err(|error| error.to_string())?,
            Err(_) if was_pinged => return Err("the stream is silent".to_owned()),
            Err(_) => {
                was_pinged = true;
                heard = Instant::now();
                let ping = stream.send(Message::Ping(bytes::Bytes::new())).await;
                ping.map_err(|error| error.to_string())?;
                continue;
            }
        };
        was_pinged = false;
        heard = Instant::now();
        let text = match &message {
            Message::Text(text) => text.as_str(),
            Message::Binary(bytes) => {
                std::str::from_utf8(bytes).map_err(|_| "a message is no text".to_owned())?
            }
            _ => continue,
        };
        if table.apply(text)? {
            backoff.reset();
            service.update(table.members());
            let partly = table.unreadable.clone();
            if service.source.followed(partly.clone())
                && let Some(what) = partly
            {
                tracing::warn!("service {}: pool {at}: {what}", service.name);
            }
        }
    }
}

/// The instances of a pool, from the messages of a stream.
#[derive(Debug)]
struct Table {
    port: Option<u16>,
    revision: u64,
    instances: BTreeMap<String, Member>,
    /// What could not be read of the last message with instances.
    unreadable: Option<String>,
    /// Whether the pool takes reports: it speaks the second form.
    is_reported: bool,
}

impl Table {
    const fn new(port: Option<u16>) -> Self {
        Table {
            port,
            revision: 0,
            instances: BTreeMap::new(),
            unreadable: None,
            is_reported: false,
        }
    }

    /// What the service has counted.
    fn report(&self, service: &Service, requests: u64) -> Value {
        let entries = service.entries();
        let pending: Map<String, Value> = self
            .instances
            .iter()
            .filter_map(|(name, member)| {
                let is_it = |entry: &&Entry| entry.member.address == member.address;
                let entry = entries.iter().find(is_it)?;
                Some((name.clone(), entry.instance.pending().into()))
            })
            .collect();
        json!({ "type": "report", "requests": requests, "pending": pending })
    }

    fn members(&self) -> Vec<Member> {
        self.instances.values().copied().collect()
    }

    /// Takes a message. Returns whether the instances may have changed.
    fn apply(&mut self, text: &str) -> Result<bool, String> {
        let message: Value =
            serde_json::from_str(text).map_err(|error| format!("a message is no JSON: {error}"))?;
        match &message {
            Value::Array(instances) => {
                self.instances = self.read(instances);
                Ok(true)
            }
            Value::Object(object) => self.apply_object(object),
            _ => Err("a message is neither a list nor an object".to_owned()),
        }
    }

    fn apply_object(&mut self, object: &Map<String, Value>) -> Result<bool, String> {
        let kind = object
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let empty = Vec::new();
        let list = |name: &str| match object.get(name) {
            None | Some(Value::Null) => Ok(&empty),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(format!("`{name}` is no list")),
        };
        match kind {
            "snapshot" => self.instances = self.read(list("instances")?),
            "change" => {
                let changed = self.read(list("instances")?);
                self.instances.extend(changed);
                for name in list("removed")? {
                    self.instances.remove(name.as_str().unwrap_or_default());
                }
            }
            "resync" => {
                // What comes next is a snapshot; until then the table stays.
                self.revision = 0;
                return Ok(false);
            }
            // Others, such as statistics, are for other readers.
            _ => return Ok(false),
        }
        if let Some(revision) = object.get("revision").and_then(Value::as_u64) {
            self.revision = revision;
            self.is_reported = true;
        }
        Ok(true)
    }

    /// Reads a list. An instance that cannot be read is lost alone; if its name is known, it keeps its address.
    fn read(&mut self, instances: &[Value]) -> BTreeMap<String, Member> {
        let mut lost = 0;
        let mut first = None;
        let mut found = BTreeMap::new();
        for instance in instances {
            let read = instance.as_object();
            match read.and_then(|object| self.instance(object)) {
                Some((name, member)) => drop(found.insert(name, member)),
                None => {
                    lost += 1;
                    first = first.or(Some(instance));
                }
            }
        }
        self.unreadable = first.map(|instance| {
            let all = instances.len();
            let mut text = instance.to_string();
            text.truncate(text.floor_char_boundary(MOST_QUOTED));
            format!("{lost} of {all} instances have no address and are left out: {text}")
        });
        found
    }

    fn instance(&self, object: &Map<String, Value>) -> Option<(String, Member)> {
        let text = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| object.get(*name))
                .and_then(Value::as_str)
        };
        let number = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| object.get(*name))
                .and_then(Value::as_f64)
        };
        let own_port = number(&["port"]).and_then(|port| u16::try_from(port as i64).ok());
        let name = text(&["name", "id"]);
        let address: SocketAddr = text(&["address", "host", "ip"])
            .and_then(|text| address_of(text, own_port.or(self.port)))
            .or_else(|| Some(self.instances.get(name?)?.address))?;
        let weight = match (number(&["weight"]), number(&["score"])) {
            (Some(weight), _) => weight,
            // A score is a fraction of the best one.
            (None, Some(score)) if score <= 1.0 => score * WEIGHT,
            (None, score) => score.unwrap_or(WEIGHT),
        };
        let state = match text(&["state", "status", "category"])
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_str()
        {
            "sundown" | "draining" => State::Draining,
            "init" | "spare" | "down" | "failed" | "unhealthy" => State::Down,
            _ => State::Up,
        };
        let name = name.map_or_else(|| address.to_string(), str::to_owned);
        let member = Member {
            address,
            weight: weight.clamp(0.0, 65_535.0).round() as u32,
            state,
        };
        Some((name, member))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::texts, *};

    #[test]
    fn a_list_is_all_there_is() {
        let mut table = Table::new(Some(3000));
        let list = r#"[{"id":"a","ip":"10.0.0.1","score":0.5},{"id":"b","address":"10.0.0.2:80","weight":7,"status":"SUNDOWN"}]"#;
        assert_eq!(table.apply(list), Ok(true));
        assert_eq!(
            texts(&table.members()),
            ["10.0.0.1:3000 50 up", "10.0.0.2:80 7 draining"]
        );
        assert_eq!(table.apply("[]"), Ok(true));
        assert!(table.members().is_empty());
    }

    #[test]
    fn a_snapshot_is_followed_by_changes() {
        let mut table = Table::new(None);
        let instance = |name: &str, state: &str| {
            format!(r#"{{"name":"{name}","address":"10.0.0.{name}:80","state":"{state}"}}"#)
        };
        let snapshot = format!(
            r#"{{"type":"snapshot","revision":4,"instances":[{},{}]}}"#,
            instance("1", "LU"),
            instance("2", "INIT")
        );
        assert_eq!(table.apply(&snapshot), Ok(true));
        assert_eq!(
            texts(&table.members()),
            ["10.0.0.1:80 100 up", "10.0.0.2:80 100 down"]
        );
        let change = format!(
            r#"{{"type":"change","revision":5,"instances":[{}],"removed":["1"]}}"#,
            instance("2", "MU")
        );
        assert_eq!(table.apply(&change), Ok(true));
        assert_eq!(texts(&table.members()), ["10.0.0.2:80 100 up"]);
        assert_eq!(table.revision, 5);
        assert!(table.is_reported);
        let change = format!(
            r#"{{"type":"change","revision":6,"instances":[{}]}}"#,
            instance("3", "SPARE")
        );
        assert_eq!(table.apply(&change), Ok(true));
        assert_eq!(texts(&table.members())[1], "10.0.0.3:80 100 down");
        let change = r#"{"type":"change","revision":7,"removed":["3"]}"#;
        assert_eq!(table.apply(change), Ok(true));
        assert_eq!(table.apply(r#"{"type":"resync"}"#), Ok(false));
        assert_eq!((table.revision, table.members().len()), (0, 1));
        assert_eq!(table.apply(r#"{"type":"stats"}"#), Ok(false));
    }

    #[test]
    fn what_is_no_message_is_refused_and_changes_nothing() {
        let mut table = Table::new(None);
        assert_eq!(table.apply(r#"[{"address":"10.0.0.1:80"}]"#), Ok(true));
        for text in ["", "7", r#"{"type":"snapshot","instances":7}"#] {
            assert!(table.apply(text).is_err(), "{text}");
        }
        assert_eq!(table.members().len(), 1);
    }

    #[test]
    fn an_instance_that_cannot_be_read_is_lost_alone() {
        let mut table = Table::new(None);
        let list =
            r#"[7,{"name":"a"},{"name":"b","address":"10.0.0.2:80"},{"address":"10.0.0.1"}]"#;
        assert_eq!(table.apply(list), Ok(true));
        assert_eq!(texts(&table.members()), ["10.0.0.2:80 100 up"]);
        assert_eq!(
            table.unreadable.take().unwrap(),
            "3 of 4 instances have no address and are left out: 7"
        );
        // One whose address was known keeps it, with what else is said of it.
        let snapshot = r#"{"type":"snapshot","revision":1,"instances":[{"name":"b","state":"INIT"},
            {"name":"c","address":"10.0.0.3:80"}]}"#;
        assert_eq!(table.apply(snapshot), Ok(true));
        assert_eq!(
            texts(&table.members()),
            ["10.0.0.2:80 100 down", "10.0.0.3:80 100 up"]
        );
        assert_eq!(table.unreadable, None);
        let change = r#"{"type":"change","revision":2,"instances":[{"name":"d"}]}"#;
        assert_eq!(table.apply(change), Ok(true));
        assert_eq!(table.members().len(), 2);
        assert!(table.unreadable.is_some());
    }
}
