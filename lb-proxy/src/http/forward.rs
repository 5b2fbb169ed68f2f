//! A request on its way to an instance, and its answer on the way back.
//!
//! What may be sent again: a request of which nothing was written, whatever its method; and one without a body whose method
//! is idempotent, if the connection broke before the answer. Never a request whose body was touched, never after an answer
//! that is no HTTP. An idle connection that broke is replaced by a new one to the same instance; everything else goes to
//! another instance, within the budget.

use std::{
    error::Error as _,
    future::Future,
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{HOST, UPGRADE},
    request::Parts,
    uri::{PathAndQuery, Scheme},
};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::TrySendError,
};

use super::{
    Exchange, Failure,
    body::{AnswerBody, Body, Carrier, Progress, RequestBody, Stage},
    hash_key, headers,
    upgrade::{self, Upgrade},
};
use crate::{
    config::{Protocol, ServiceSettings},
    patience::{Waited, patiently},
    proxy::Shared,
    service::{Fault, Lease, Service},
    trouble::Kind,
    upstream::{ConnectError, Connection, Connector},
};

/// Sends a request to an instance of its service, and returns the answer.
///
/// # Errors
/// The answer of the proxy itself.
pub async fn forward(
    exchange: &mut Exchange<'_>,
    head: Parts,
    body: Incoming,
    upgrade: Option<Upgrade>,
) -> Result<Response<Body>, Failure> {
    let (body, progress) = if body.is_end_stream() {
        (RequestBody::none(), None)
    } else {
        let listener = &exchange.client.listener;
        let most = exchange
            .route
            .settings
            .max_body
            .unwrap_or(listener.max_body);
        let (body, progress) = RequestBody::streaming(body, listener.body_timeout, most);
        (body, Some(progress))
    };
    match send(exchange, head, body, progress, upgrade).await? {
        Sent::Answer(answer) => Ok(answer.map(Body::from)),
        Sent::Switched(answer) => Ok(answer),
    }
}

/// Sends a request without a body, for the cache.
///
/// # Errors
/// The answer of the proxy itself.
pub async fn fetch(
    exchange: &mut Exchange<'_>,
    head: Parts,
) -> Result<Response<AnswerBody>, Failure> {
    match send(exchange, head, RequestBody::none(), None, None).await? {
        Sent::Answer(answer) => Ok(answer),
        Sent::Switched(_) => Err(BROKEN),
    }
}

const BROKEN: Failure = Failure::new(
    StatusCode::BAD_GATEWAY,
    "the instance did not answer the request",
);
const LATE: Failure = Failure::new(
    StatusCode::GATEWAY_TIMEOUT,
    "the instance took too long to answer",
);
/// Nothing was sent.
const OWN: Failure = Failure::new(
    StatusCode::SERVICE_UNAVAILABLE,
    "this proxy lacks what it needs to connect to an instance",
);
/// An instance that ends, or has enough to do, says so.
const REFUSED: Failure = Failure::new(
    StatusCode::SERVICE_UNAVAILABLE,
    "the instance takes no request at the moment",
);
/// It was sent, and this process slept while the instance may have answered.
const SLEPT: Failure = Failure::new(
    StatusCode::GATEWAY_TIMEOUT,
    "this proxy was stopped while the instance may have answered",
);
const NOBODY: Failure = Failure::new(
    StatusCode::SERVICE_UNAVAILABLE,
    "no instance of the service can take the request",
);

/// What came of a request.
enum Sent {
    /// An answer.
    Answer(Response<AnswerBody>),
    /// The connection was upgraded.
    Switched(Response<Body>),
}

/// A request that got no answer.
struct Lost {
    failure: Failure,
    /// What the instance did wrong, if it did.
    fault: Option<Fault>,
    /// The request, if it may be sent to another instance.
    request: Option<Request<RequestBody>>,
}

/// What all attempts have in common.
struct Sending {
    service: Arc<Service>,
    settings: Arc<ServiceSettings>,
    connector: Arc<Connector>,
    shared: Arc<Shared>,
    progress: Option<Arc<Progress>>,
    answer_timeout: Duration,
    /// Whether the request may be sent again although the first one may have arrived.
    may_repeat: bool,
    ends: (std::net::SocketAddr, std::net::SocketAddr),
}

async fn send(
    exchange: &mut Exchange<'_>,
    head: Parts,
    body: RequestBody,
    progress: Option<Arc<Progress>>,
    mut upgrade: Option<Upgrade>,
) -> Result<Sent, Failure> {
    let service = Arc::clone(&exchange.route.service);
    let settings = service.settings.load_full();
    let key = hash_key(exchange, &head.headers, &settings.hash_on);
    let client = std::net::SocketAddr::new(exchange.address, exchange.client.peer.port());
    let sending = Sending {
        connector: service.connector.load_full(),
        answer_timeout: exchange
            .route
            .settings
            .answer_timeout
            .unwrap_or(settings.answer_timeout),
        may_repeat: is_idempotent(&head.method) && progress.is_none() && upgrade.is_none(),
        ends: (client, exchange.client.local),
        shared: Arc::clone(&exchange.client.shared),
        progress,
        settings,
        service,
    };
    let head = prepare(exchange, &sending.connector, head, upgrade.is_some())?;
    let mut request = Request::from_parts(head, body);
    let service = &sending.service;
    service.count_request();
    let mut tried = Vec::new();
    // The lease exists before the first wait: a request that is dropped later is not counted for ever.
    let Some(mut lease) = service.choose(key, &tried) else {
        service.unserved.fetch_add(1, Relaxed);
        return Err(NOBODY);
    };
    loop {
        let instance = Arc::clone(lease.instance());
        exchange.notes.instance = Some(instance.address);
        let lost = match attempt(&sending, lease, request, &mut upgrade).await {
            Ok(sent) => return Ok(sent),
            Err(lost) => lost,
        };
        if let Some(fault) = lost.fault {
            service.note_failure(&instance, fault);
        }
        tried.push(instance.id);
        let again = lost
            .request
            .filter(|_| tried.len() <= sending.settings.retries as usize);
        let another = again.as_ref().and_then(|_| service.choose(key, &tried));
        match (again, another) {
            (Some(again), Some(another)) if service.may_retry() => {
                request = again;
                lease = another;
                exchange.notes.retries += 1;
            }
            _ => return Err(lost.failure),
        }
    }
}

/// Offers the request to one instance.
async fn attempt(
    sending: &Sending,
    lease: Lease,
    mut request: Request<RequestBody>,
    upgrade: &mut Option<Upgrade>,
) -> Result<Sent, Lost> {
    let instance = Arc::clone(lease.instance());
    instance.count_request();
    if request.headers().get(HOST).is_none()
        && sending.connector.protocol() == Protocol::Http1
        && let Ok(host) = HeaderValue::try_from(instance.address.to_string())
    {
        request.headers_mut().insert(HOST, host);
    }
    let mut is_new = false;
    loop {
        let connected =
            sending
                .connector
                .connection(&instance, sending.ends, is_new, &sending.shared.troubles);
        let connection = match connected.await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!("service {}: {error}", sending.service.name);
                let is_own = error.is_own(&sending.shared.troubles);
                return Err(Lost {
                    failure: match error {
                        _ if is_own => OWN,
                        ConnectError::TimedOut(..) => LATE,
                        _ => BROKEN,
                    },
                    fault: (!is_own).then_some(Fault::Connect),
                    // Another instance may have an idle connection, or ports that are free.
                    request: Some(request),
                });
            }
        };
        // What a peer over HTTP/2 says that it did not process may be sent again, whatever it is.
        let is_http2 = matches!(connection, Connection::Http2 { .. });
        let may_copy = sending.may_repeat || is_http2 && sending.progress.is_none();
        let copy = may_copy.then(|| copy_of(&request));
        let started = Instant::now();
        let (sent, carrier, is_reused) = match connection {
            Connection::Http1 {
                mut sender,
                is_reused,
            } => {
                let sent = sender.try_send_request(request);
                let sent = in_time(sent, sending).await;
                let carrier = match sending.connector.sends_proxy() {
                    true => Carrier::Single,
                    false => Carrier::Http1(sender),
                };
                (sent, carrier, is_reused)
            }
            Connection::Http2 { mut sender, stream } => {
                let sent = in_time(sender.try_send_request(request), sending).await;
                (sent, Carrier::Http2(stream, sender), true)
            }
        };
        let error = match sent {
            Waited::Done(Ok(answer)) => {
                instance.answered(started.elapsed());
                return accept(sending, lease, answer, carrier, upgrade).ok_or(Lost {
                    failure: BROKEN,
                    fault: Some(Fault::Broken),
                    request: None,
                });
            }
            Waited::Done(Err(error)) => error,
            Waited::Late(late) => {
                let address = instance.address;
                sending.shared.troubles.observe(
                    Kind::Late,
                    format_args!("waiting for the answer of {address}: woke up {late:?} late"),
                );
                return Err(clients_fault(sending).unwrap_or(Lost {
                    failure: SLEPT,
                    fault: None,
                    request: None,
                }));
            }
            Waited::Over => {
                return Err(clients_fault(sending).unwrap_or(Lost {
                    failure: LATE,
                    fault: Some(Fault::TimedOut),
                    request: None,
                }));
            }
        };
        let (back, error) = taken(error);
        let refused = Refused::of(&error);
        if let Carrier::Http2(stream, _) = &carrier
            && refused != Some(Refused::Stream)
        {
            instance.pool.retire(stream);
        }
        let is_lost = is_lost(&error);
        let back = back.or(copy.filter(|_| refused.is_some() || sending.may_repeat && is_lost));
        let is_stale = is_lost || refused == Some(Refused::Connection);
        match back {
            Some(back) if is_reused && !is_new && is_stale => {
                request = back;
                is_new = true;
            }
            back => {
                if let Some(lost) = clients_fault(sending) {
                    return Err(lost);
                }
                tracing::debug!(
                    "service {}: instance {}: {error}",
                    sending.service.name,
                    instance.address
                );
                let own = socket_error(&error).and_then(Kind::of);
                if let Some(kind) = own {
                    sending.shared.troubles.observe(kind, &error);
                }
                return Err(Lost {
                    failure: match (own, refused) {
                        (Some(_), _) => OWN,
                        (None, Some(_)) => REFUSED,
                        (None, None) => BROKEN,
                    },
                    fault: (own.is_none() && refused.is_none()).then_some(Fault::Broken),
                    request: back,
                });
            }
        }
    }
}

fn taken(
    mut error: TrySendError<Request<RequestBody>>,
) -> (Option<Request<RequestBody>>, hyper::Error) {
    (error.take_message(), error.into_error())
}

/// Returns what the client did wrong with the body of its request, if that is why there is no answer.
fn clients_fault(sending: &Sending) -> Option<Lost> {
    let stage = sending.progress.as_ref().map(|progress| progress.stage())?;
    let failure = match stage {
        Stage::Broken => Failure::new(StatusCode::BAD_REQUEST, "the body is malformed"),
        Stage::TimedOut => {
            Failure::new(StatusCode::REQUEST_TIMEOUT, "the body paused for too long")
        }
        Stage::TooLarge => Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
        Stage::Untouched | Stage::Started | Stage::Finished => return None,
    };
    Some(Lost {
        failure,
        fault: None,
        request: None,
    })
}

/// Waits for the head of the answer. The time counts from when the request's body last moved.
async fn in_time<T>(sent: impl Future<Output = T>, sending: &Sending) -> Waited<T> {
    let mut sent = pin!(sent);
    let most = sending.answer_timeout;
    let mut wait = most;
    loop {
        let waited = patiently(wait, sent.as_mut()).await;
        let Waited::Over = waited else {
            return waited;
        };
        let quiet = sending.progress.as_ref().map(|body| body.quiet_for());
        match quiet.and_then(|quiet| most.checked_sub(quiet)) {
            Some(left) if !left.is_zero() => wait = left,
            _ => return Waited::Over,
        }
    }
}

/// Whether the connection broke without any sign of an answer.
fn is_lost(error: &hyper::Error) -> bool {
    error.is_incomplete_message()
        || error.is_closed()
        || error.is_canceled()
        || socket_error(error).is_some()
}

/// What a peer over HTTP/2 has not processed, as it says (RFC 9113 section 8.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// This stream.
    Stream,
    /// All streams after those that it named as the last one: it closes the connection.
    Connection,
}

impl Refused {
    fn of(error: &hyper::Error) -> Option<Self> {
        let error: &h2::Error = error.source()?.downcast_ref()?;
        if !error.is_remote() {
            return None;
        }
        // A stream gets this error only if it is not among those that the peer may have processed.
        if error.is_go_away() {
            return Some(Refused::Connection);
        }
        (error.reason() == Some(h2::Reason::REFUSED_STREAM)).then_some(Refused::Stream)
    }
}

fn socket_error(error: &hyper::Error) -> Option<&io::Error> {
    error.source()?.downcast_ref()
}

fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
}

fn copy_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::none());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Makes the head of the client's request that of the request to an instance.
fn prepare(
    exchange: &Exchange<'_>,
    connector: &Connector,
    mut head: Parts,
    is_upgrade: bool,
) -> Result<Parts, Failure> {
    let is_http2 = connector.protocol() == Protocol::Http2;
    if is_http2 && is_upgrade {
        return Err(Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            "the instances speak HTTP/2, which has no upgrades",
        ));
    }
    let from_version = head.version;
    let protocol = is_upgrade
        .then(|| head.headers.get(UPGRADE).cloned())
        .flatten();
    headers::clean(&mut head.headers, is_http2);
    if from_version >= Version::HTTP_2 && !is_http2 {
        headers::join_cookies(&mut head.headers);
    }
    headers::name_client(
        &mut head.headers,
        &headers::From {
            peer: exchange.client.peer.ip(),
            peer_text: &exchange.client.peer_text,
            is_trusted: exchange.is_trusted,
            scheme: exchange.client.scheme,
            host: &exchange.target.authority,
        },
    );
    let settings = &exchange.route.settings;
    headers::edit(
        &mut head.headers,
        &settings.remove_request_headers,
        &settings.set_request_headers,
    );
    if let Some(protocol) = protocol {
        upgrade::ask(&mut head.headers, protocol);
    }
    let bad = |_| Failure::new(StatusCode::BAD_REQUEST, "Host is not a host");
    let authority = &exchange.target.authority;
    let path = head
        .uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    head.headers.remove(HOST);
    let mut uri = http::uri::Parts::default();
    if is_http2 {
        head.version = Version::HTTP_2;
        uri.scheme = Some(match connector.is_tls() {
            true => Scheme::HTTPS,
            false => Scheme::HTTP,
        });
        let authority = match authority.as_str() {
            "" => exchange.route.service.name.as_str(),
            authority => authority,
        };
        uri.authority = Some(
            authority
                .parse()
                .map_err(|_| Failure::new(StatusCode::BAD_REQUEST, "Host is not a host"))?,
        );
    } else {
        head.version = Version::HTTP_11;
        if !authority.is_empty() {
            let host = HeaderValue::from_str(authority).map_err(bad)?;
            head.headers.insert(HOST, host);
        }
    }
    uri.path_and_query = Some(path);
    head.uri = Uri::from_parts(uri)
        .map_err(|_| Failure::new(StatusCode::BAD_REQUEST, "the path is malformed"))?;
    Ok(head)
}

/// Takes an answer that an instance sent. `None`: it switches protocols although nobody asked for that, or does not although
/// its client would believe so.
fn accept(
    sending: &Sending,
    lease: Lease,
    mut answer: Response<Incoming>,
    carrier: Carrier,
    upgrade: &mut Option<Upgrade>,
) -> Option<Sent> {
    let status = answer.status();
    let service = &sending.service;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let upgrade = upgrade.take()?;
        lease.instance().succeeded();
        let pause = sending.settings.pause_timeout;
        let status = upgrade.status();
        let headers = upgrade.join(&mut answer, lease, Arc::clone(service), pause)?;
        let mut switched = Response::new(Body::none());
        *switched.status_mut() = status;
        *switched.headers_mut() = headers;
        return Some(Sent::Switched(switched));
    }
    if upgrade
        .as_ref()
        .is_some_and(|upgrade| upgrade.is_opened_by(status))
    {
        return None;
    }
    // 501 says something about the request.
    if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
        service.note_failure(lease.instance(), Fault::Status);
    } else {
        lease.instance().succeeded();
    }
    let (mut head, body) = answer.into_parts();
    headers::clean_length(&mut head.headers);
    headers::clean(&mut head.headers, false);
    // The server writes the version of the client.
    head.version = Version::HTTP_11;
    let body = AnswerBody::new(
        body,
        sending.settings.pause_timeout,
        lease,
        carrier,
        Arc::clone(service),
        sending.progress.clone(),
    );
    Some(Sent::Answer(Response::from_parts(head, body)))
}
