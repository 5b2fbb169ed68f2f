//! Requests: from the head that a client sent to the answer that it gets.

pub mod body;
mod forward;
pub mod headers;
mod upgrade;
pub mod validate;

use std::{
    convert::Infallible,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use futures::FutureExt as _;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION},
    request::Parts,
};
use hyper::body::{Body as _, Incoming};

use crate::{
    cache,
    config::{HashKey, ListenerSettings},
    log::{self, Line, Log},
    proxy::Shared,
    routes::Route,
};
use body::Body;
use upgrade::Upgrade;
use validate::Target;

/// A connection of a client.
#[derive(Debug)]
pub struct Client {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The listener's settings.
    pub listener: Arc<ListenerSettings>,
    /// The address at the other end: the client, or a proxy in front of this one.
    pub peer: SocketAddr,
    /// Its address as a header.
    pub peer_text: HeaderValue,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Requests that came on it.
    requests: AtomicU64,
    /// Requests whose answers are not complete.
    open: AtomicU64,
}

impl Client {
    /// Returns the number of requests that came on it.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Returns whether all requests are answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open.load(Relaxed) == 0
    }

    /// A connection from `peer` to `local`.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        listener: Arc<ListenerSettings>,
        peer: SocketAddr,
        local: SocketAddr,
        scheme: &'static str,
    ) -> Self {
        let address = peer.ip().to_canonical();
        Client {
            shared,
            listener,
            peer: SocketAddr::new(address, peer.port()),
            // An address is visible ASCII.
            peer_text: HeaderValue::try_from(address.to_string())
                .unwrap_or(HeaderValue::from_static("unknown")),
            local,
            scheme,
            requests: AtomicU64::new(0),
            open: AtomicU64::new(0),
        }
    }
}

/// A request of a client, open until its answer is complete.
#[derive(Debug)]
pub struct OpenRequest(Arc<Client>);

impl OpenRequest {
    fn new(client: Arc<Client>) -> Self {
        client.requests.fetch_add(1, Relaxed);
        client.open.fetch_add(1, Relaxed);
        OpenRequest(client)
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// What was found out about a request on its way.
#[derive(Debug, Default)]
pub struct Notes {
    /// The instance that answered.
    pub instance: Option<SocketAddr>,
    /// How often the request was offered to another instance.
    pub retries: u32,
    /// What the cache did.
    pub cache: Option<&'static str>,
}

/// A request that a service is to answer.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// The connection that it came on.
    pub client: &'a Arc<Client>,
    /// Its route.
    pub route: &'a Arc<Route>,
    /// What it is for.
    pub target: &'a Target,
    /// The address of the client, behind trusted proxies.
    pub address: IpAddr,
    /// Whether the peer is a proxy whose words count.
    pub is_trusted: bool,
    /// `http` or `https`: what the client speaks, perhaps with a trusted proxy.
    pub scheme: &'static str,
    /// What was found out about it.
    pub notes: &'a mut Notes,
}

/// An answer of the proxy itself.
#[derive(Debug)]
pub struct Failure {
    /// Its status.
    pub status: StatusCode,
    /// Why, in words for the client.
    pub why: &'static str,
}

impl Failure {
    /// A failure with this status.
    #[must_use]
    pub const fn new(status: StatusCode, why: &'static str) -> Self {
        Failure { status, why }
    }
}

/// Answers a request. One that panics ends nothing but itself.
///
/// # Errors
/// Never.
pub async fn serve(
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let shared = Arc::clone(&client.shared);
    guarded(shared, serve_request(client, request)).await
}

async fn serve_request(
    client: Arc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let started = Instant::now();
    let request_is_open = OpenRequest::new(Arc::clone(&client));
    let shared = Arc::clone(&client.shared);
    if let Some(path) = &client.listener.health_path
        && request.uri().path() == path
    {
        let mut answer = health(&shared, request.method(), request.version());
        answer.body_mut().hold(request_is_open);
        return Ok(answer);
    }
    let running = shared.running.load_full();
    shared.totals.open.fetch_add(1, Relaxed);
    let _open = Open(&shared);
    let version = request.version();
    let upgrade = upgrade::client_side(&mut request, &client);
    let (head, body) = request.into_parts();
    let trusted = &running.config.proxy.trusted_proxies;
    let is_trusted = headers::is_trusted(trusted, client.peer.ip());
    let address = match is_trusted {
        true => headers::client(&head.headers, client.peer.ip(), trusted),
        false => client.peer.ip(),
    };
    let is_logged = !matches!(
        running.config.proxy.access_log,
        crate::config::AccessLog::Off
    );
    let logged = is_logged.then(|| {
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        (log::time(), head.method.to_string(), path.to_owned())
    });
    let is_grpc = is_grpc(&head.headers);
    let mut notes = Notes::default();
    let target = validate::check(&head);
    let route = target
        .as_ref()
        .ok()
        .filter(|_| client.listener.routes)
        .and_then(|target| running.routes.find(target.host(), head.uri.path()))
        .cloned();
    let answer = match &target {
        Err(refusal) => Err(Failure::new(refusal.status, refusal.why)),
        Ok(target) => {
            let trust = (address, is_trusted);
            let message = (head, body, upgrade);
            answer(&client, target, route.as_ref(), trust, message, &mut notes).await
        }
    };
    let mut answer = answer.unwrap_or_else(|failure| respond(&failure, is_grpc));
    let status = answer.status().as_u16();
    if version >= Version::HTTP_2 {
        // HTTP/2 has no such header.
        answer.headers_mut().remove(CONNECTION);
    } else if shared.is_draining() && status != 101 {
        answer
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    shared.totals.count(status);
    if let Some((time, method, path)) = logged
        && Log::wants(&running.config.proxy, status)
    {
        let line = Line {
            time,
            client: address,
            method,
            host: target.map(|target| target.authority).unwrap_or_default(),
            path,
            status,
            bytes: 0,
            seconds: 0.0,
            service: route.map(|route| route.service.name.clone()),
            instance: notes.instance,
            retries: notes.retries,
            cache: notes.cache,
            cut: None,
        };
        answer.body_mut().record(shared.log.record(line, started));
    }
    answer.body_mut().hold(request_is_open);
    Ok(answer)
}

/// The answer to a request for the listener's `health_path`: nothing else counts, logs or sees it.
fn health(shared: &Shared, method: &Method, version: Version) -> Response<Body> {
    shared.totals.health_answers.fetch_add(1, Relaxed);
    let is_draining = shared.is_draining();
    let (status, text) = match *method {
        Method::GET | Method::HEAD => match shared.unready() {
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            None => (StatusCode::OK, "ok\n".to_owned()),
        },
        _ => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    };
    let mut answer = plain(status, text);
    if *method == Method::HEAD {
        *answer.body_mut() = Body::none();
    }
    let headers = answer.headers_mut();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if is_draining && version < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Serves a request whose panic, which is a fault of this program, ends nothing but itself: the client gets a 500, and the
/// hook of panics has counted and said it.
async fn guarded(
    shared: Arc<Shared>,
    served: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    match AssertUnwindSafe(served).catch_unwind().await {
        Ok(served) => served,
        Err(_) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            shared.totals.count(status.as_u16());
            let failure = Failure::new(status, "a fault of this proxy");
            Ok(respond(&failure, false))
        }
    }
}

/// Counts a request as open until its head was answered.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.totals.open.fetch_sub(1, Relaxed);
    }
}

type Message = (Parts, Incoming, Option<Upgrade>);

async fn answer(
    client: &Arc<Client>,
    target: &Target,
    route: Option<&Arc<Route>>,
    (address, is_trusted): (IpAddr, bool),
    (head, body, upgrade): Message,
    notes: &mut Notes,
) -> Result<Response<Body>, Failure> {
    if head.method == Method::OPTIONS && head.uri.path() == "*" {
        let mut answer = Response::new(Body::none());
        let methods = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(methods));
        return Ok(answer);
    }
    if let Some(port) = client.listener.redirect_https {
        return redirect(target, &head, port);
    }
    let Some(route) = route else {
        return Err(Failure::new(
            StatusCode::NOT_FOUND,
            "no service has this host and path",
        ));
    };
    let most = route.settings.max_body.unwrap_or(client.listener.max_body);
    if most != 0 && body.size_hint().lower() > most {
        return Err(Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is too large",
        ));
    }
    let scheme = match head.headers.get(headers::X_FORWARDED_PROTO) {
        Some(scheme) if is_trusted && scheme == "https" => "https",
        Some(scheme) if is_trusted && scheme == "http" => "http",
        _ => client.scheme,
    };
    // An instance may answer for the host that a trusted proxy names, which is not in the cache's key.
    let is_renamed = is_trusted
        && head
            .headers
            .get(headers::X_FORWARDED_HOST)
            .is_some_and(|host| *host != target.authority);
    let mut exchange = Exchange {
        client,
        route,
        target,
        address,
        is_trusted,
        scheme,
        notes,
    };
    let cache = route.service.cache.load_full();
    let mut answer = match cache {
        Some(cache) if !is_renamed && upgrade.is_none() && cache::is_candidate(&head, &body) => {
            cache::serve(&cache, &mut exchange, head).await?
        }
        Some(cache) => {
            let changed = cache::Changed::by(&head, target, scheme);
            let answer = forward::forward(&mut exchange, head, body, upgrade).await?;
            if let Some(changed) = changed {
                cache.invalidate(&changed, &answer);
            }
            answer
        }
        None => forward::forward(&mut exchange, head, body, upgrade).await?,
    };
    let settings = &route.settings;
    headers::edit(
        answer.headers_mut(),
        &settings.remove_response_headers,
        &settings.set_response_headers,
    );
    Ok(answer)
}

pub use forward::fetch;

fn redirect(target: &Target, head: &Parts, port: u16) -> Result<Response<Body>, Failure> {
    if target.host().is_empty() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "no Host"));
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let host = target.host();
    let location = match port {
        443 => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    };
    let mut answer = Response::new(Body::none());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let location = HeaderValue::try_from(location)
        .map_err(|_| Failure::new(StatusCode::BAD_REQUEST, "Host is not a host"))?;
    answer.headers_mut().insert(LOCATION, location);
    Ok(answer)
}

/// The number that a consistent choice depends on.
fn hash_key(exchange: &Exchange<'_>, headers: &HeaderMap, on: &HashKey) -> u64 {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let found = match on {
        HashKey::Source => None,
        HashKey::Header(name) => headers.get(name).map(HeaderValue::as_bytes),
        HashKey::Cookie(name) => headers
            .get_all(COOKIE)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
            .find_map(|cookie| {
                let rest = cookie.trim_ascii().strip_prefix(name.as_bytes())?;
                rest.strip_prefix(b"=")
            }),
    };
    match found {
        Some(bytes) => hasher.hash_one(bytes),
        // Clients without the header or cookie stay at one instance each, too.
        None => source_key(exchange.address),
    }
}

/// The number that a consistent choice by address depends on.
#[must_use]
pub fn source_key(address: IpAddr) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(address)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A text that nobody keeps.
fn plain(status: StatusCode, text: String) -> Response<Body> {
    let length = text.len();
    let mut answer = Response::new(Body::whole(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// An answer of the proxy itself. A gRPC client gets a status of gRPC.
fn respond(failure: &Failure, is_grpc: bool) -> Response<Body> {
    if is_grpc {
        return respond_grpc(failure);
    }
    let text = format!("{}: {}\n", failure.status, failure.why);
    let mut answer = plain(failure.status, text);
    let headers = answer.headers_mut();
    // What is left of the request's body is not read.
    if matches!(
        failure.status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::BAD_REQUEST
    ) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if failure.status == StatusCode::METHOD_NOT_ALLOWED {
        let methods = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    answer
}

fn respond_grpc(failure: &Failure) -> Response<Body> {
    // The mapping of gRPC's document "HTTP to gRPC Status Code Mapping"; a deadline of the proxy is DEADLINE_EXCEEDED.
    let code = match failure.status.as_u16() {
        400 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        504 => "4",
        429 | 502 | 503 => "14",
        _ => "2",
    };
    let mut answer = Response::new(Body::none());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(code));
    headers.insert("grpc-message", HeaderValue::from_static(failure.why));
    answer
}

#[cfg(test)]
mod tests {
    use crate::{config::Config, trouble};

    use super::*;

    #[tokio::test]
    async fn a_request_that_panics_gets_an_answer_and_is_counted() {
        let shared = Arc::new(Shared::new(Config::default(), 1).unwrap());
        trouble::count_panics(&shared);
        let served = guarded(Arc::clone(&shared), async {
            let name = "it";
            assert!(name.is_empty(), "{name} broke in a test");
            Ok(Response::new(Body::none()))
        });
        assert_eq!(served.await.unwrap().status(), 500);
        assert_eq!(shared.totals.answers[4].load(Relaxed), 1);
        // Other tests may panic as well.
        assert!(shared.troubles.count(trouble::Kind::Panic) >= 1);
        let warnings = shared.troubles.warnings();
        assert!(
            warnings
                .iter()
                .any(|text| text.contains("fault of this program")),
            "{warnings:?}"
        );
    }
}
