//! `/v1/pools/NAME/stream`: a snapshot of a pool's instances with a revision, then changes; in both directions.
//!
//! A reader that was away gives `since=REVISION`. A revision counts changes of what readers see of the pool; it begins with
//! the time at which the process started, so none is used twice. The controller keeps no old states: if nothing has changed
//! since, nothing is sent; else the stream begins with `resync` and a snapshot, and the reader has lost nothing that is still
//! so. Slow readers get fewer changes: each is the difference to what they got last.
//!
//! A reader may send `{"type": "ack", "revision": N}`, `{"type": "filter", "states": ["LU", "MU"]}` to narrow what it gets,
//! and `{"type": "report", …}` with what it has counted, as `/v1/pools/NAME/demand` takes it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{SinkExt as _, StreamExt as _};
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use lb_model::{
    pool::PoolName,
    settings::{Map, Value},
};
use lb_serve::stopped;
use serde_json::json;
use tokio::sync::watch;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{Body, MAX_STREAMS, Site, empty, routes};
use crate::{
    access::{Caller, Named, verbs},
    pool::InstanceView,
    worker::PoolView,
};

/// How often a reader is pinged; one that does not answer in twice the time is gone.
const PING: Duration = Duration::from_secs(15);
/// The most bytes that a reader sends in a message.
const MAX_MESSAGE: usize = 64 << 10;
/// How long a message may take to be taken.
const SEND: Duration = Duration::from_secs(30);
/// Changes that come within this time are one.
const COALESCE: Duration = Duration::from_millis(20);

/// Answers the handshake (RFC 6455), and starts the stream.
pub fn upgrade(
    site: &Site,
    name: PoolName,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Response<Body>> {
    let mut followers = site.controller.followers();
    let Some(view) = followers.remove(&name) else {
        return Err(routes::problem(
            StatusCode::NOT_FOUND,
            &format!("there is no pool {name}"),
        ));
    };
    let headers = request.headers();
    let has = |name, word: &str| {
        let value = headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok());
        value.is_some_and(|value| {
            value
                .split(',')
                .any(|part| part.trim().eq_ignore_ascii_case(word))
        })
    };
    let key = headers.get(SEC_WEBSOCKET_KEY).cloned();
    let (Some(key), true, true, true) = (
        key,
        has(CONNECTION, "upgrade"),
        has(UPGRADE, "websocket"),
        has(SEC_WEBSOCKET_VERSION, "13"),
    ) else {
        let mut response = routes::problem(
            StatusCode::UPGRADE_REQUIRED,
            "this path is a WebSocket (RFC 6455, version 13)",
        );
        response
            .headers_mut()
            .insert(UPGRADE, HeaderValue::from_static("websocket"));
        return Err(response);
    };
    // Browsers do not ask before a WebSocket: pages of other sites are refused here.
    if headers.contains_key(http::header::ORIGIN) && site.allowed(headers).is_none() {
        return Err(routes::problem(
            StatusCode::FORBIDDEN,
            "this origin is not allowed; see --http-origin",
        ));
    }
    let Ok(room) = Arc::clone(&site.streams).try_acquire_owned() else {
        return Err(routes::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("{MAX_STREAMS} streams are open, which is the most; end some of them"),
        ));
    };
    let since = routes::query(request.uri(), "since");
    let caller = super::guard::caller(&request);
    let upgrading = hyper::upgrade::on(&mut request);
    let site = site.clone();
    tokio::spawn(async move {
        let _room = room;
        match upgrading.await {
            Ok(upgraded) => {
                let mut stopping = site.stopping.clone();
                tokio::select! {
                    _ = follow(&site, &caller, &name, view, upgraded, since) => {}
                    () = stopped(&mut stopping) => {}
                }
            }
            Err(error) => tracing::debug!("a WebSocket was not opened: {error}"),
        }
    });
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    // Base64.
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(response)
}

/// What a reader sees of an instance.
fn instance(view: &InstanceView) -> Value {
    let (name, endpoint, state, overall) = view.seen();
    let mut map = json!({
        "name": name,
        "address": endpoint.map(|endpoint| endpoint.to_string()),
        "state": state.name(),
    });
    if let Some(overall) = overall {
        map["overall"] = (f64::from(overall) / 100.0).into();
    }
    map
}

fn instances(view: &PoolView, states: Option<&[String]>) -> BTreeMap<String, Value> {
    view.instances
        .iter()
        .filter(|one| one.endpoint.is_some())
        .filter(|one| {
            states.is_none_or(|states| states.iter().any(|state| state == one.state.name()))
        })
        .map(|one| (one.name.clone(), instance(one)))
        .collect()
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

async fn send(socket: &mut Socket, value: &Value) -> Option<()> {
    let message = Message::text(value.to_string());
    tokio::time::timeout(SEND, socket.send(message))
        .await
        .ok()?
        .ok()
}

async fn follow(
    site: &Site,
    caller: &Caller,
    name: &PoolName,
    mut view: watch::Receiver<PoolView>,
    upgraded: Upgraded,
    since: Option<u64>,
) -> Option<()> {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
    let mut states: Option<Vec<String>> = None;
    let (mut revision, now) = {
        let view = view.borrow_and_update();
        (view.revision, instances(&view, None))
    };
    let mut sent = now;
    match since {
        // It has everything.
        Some(since) if since == revision => {}
        Some(_) => {
            send(&mut socket, &json!({ "type": "resync" })).await?;
            send_snapshot(&mut socket, revision, &sent).await?;
        }
        None => send_snapshot(&mut socket, revision, &sent).await?,
    }
    let mut pings = tokio::time::interval(PING);
    pings.reset();
    let mut unanswered = 0;
    loop {
        tokio::select! {
            changed = view.changed() => {
                if changed.is_err() {
                    // The pool is gone.
                    let removed: Vec<&String> = sent.keys().collect();
                    let change = json!({ "type": "change", "revision": revision + 1, "instances": [], "removed": removed });
                    send(&mut socket, &change).await?;
                    let _ = socket.close(None).await;
                    return None;
                }
                tokio::time::sleep(COALESCE).await;
                let now = {
                    let view = view.borrow_and_update();
                    revision = view.revision;
                    instances(&view, states.as_deref())
                };
                send_change(&mut socket, revision, &sent, &now).await?;
                sent = now;
            }
            message = socket.next() => {
                unanswered = 0;
                let message = message?.ok()?;
                let text = match &message {
                    Message::Text(text) => text.as_str(),
                    Message::Close(_) => return None,
                    _ => continue,
                };
                let Ok(Value::Object(map)) = serde_json::from_str(text) else {
                    send(&mut socket, &json!({ "type": "error", "text": "give a JSON object" })).await?;
                    continue;
                };
                match take(site, caller, name, &map).await {
                    Ok(None) => {}
                    Ok(Some(filter)) => {
                        states = Some(filter);
                        let now = instances(&view.borrow(), states.as_deref());
                        send_change(&mut socket, revision, &sent, &now).await?;
                        sent = now;
                    }
                    Err(text) => send(&mut socket, &json!({ "type": "error", "text": text })).await?,
                }
            }
            _ = pings.tick() => {
                if unanswered >= 2 {
                    return None;
                }
                unanswered += 1;
                let ping = socket.send(Message::Ping(bytes::Bytes::new()));
                tokio::time::timeout(SEND, ping).await.ok()?.ok()?;
            }
        }
    }
}

async fn send_snapshot(
    socket: &mut Socket,
    revision: u64,
    instances: &BTreeMap<String, Value>,
) -> Option<()> {
    let list: Vec<&Value> = instances.values().collect();
    let message = json!({ "type": "snapshot", "revision": revision, "instances": list });
    send(socket, &message).await
}

async fn send_change(
    socket: &mut Socket,
    revision: u64,
    before: &BTreeMap<String, Value>,
    now: &BTreeMap<String, Value>,
) -> Option<()> {
    let changed: Vec<&Value> = now
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(value))
        .map(|(_, value)| value)
        .collect();
    let removed: Vec<&String> = before
        .keys()
        .filter(|name| !now.contains_key(*name))
        .collect();
    if changed.is_empty() && removed.is_empty() {
        return Some(());
    }
    let message = json!({
        "type": "change", "revision": revision, "instances": changed, "removed": removed,
    });
    send(socket, &message).await
}

/// Takes a reader's message. Returns the states that it wants to see from now on, if it says so.
async fn take(
    site: &Site,
    caller: &Caller,
    name: &PoolName,
    map: &Map<String, Value>,
) -> Result<Option<Vec<String>>, String> {
    match map.get("type").and_then(Value::as_str) {
        Some("ack") => Ok(None),
        Some("filter") => {
            let states = map.get("states").and_then(Value::as_array);
            let states = states.ok_or("give states, a list such as [\"LU\", \"MU\", \"HU\"]")?;
            let text = |state: &Value| state.as_str().map(str::to_owned);
            let states: Option<Vec<String>> = states.iter().map(text).collect();
            Ok(Some(states.ok_or("states are texts")?))
        }
        Some("report") => {
            let verb = verbs::named(verbs::REPORT).ok_or("reports are not taken")?;
            let access = site.directory.access();
            access
                .check(caller, verb, Named::Nothing)
                .map_err(|denied| denied.to_string())?;
            let report = routes::report(map)
                .ok_or("give requests, and pending by instance; counts are 0 or more")?;
            let reported = site.controller.report(name, report).await;
            reported.map(|()| None).map_err(|error| error.to_string())
        }
        _ => Err("there are messages of the types ack, filter and report".to_owned()),
    }
}
