//! The shared cache of static answers (RFC 9111): what may be stored and when it is fresh is decided by
//! `http-cache-semantics`; what is here is the store, one fetch per key, stale answers, ranges and invalidation.

mod directives;
mod object;
mod select;
mod store;

use std::{
    sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri,
    header::{
        CONTENT_LENGTH, CONTENT_LOCATION, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
        IF_RANGE, IF_UNMODIFIED_SINCE, LOCATION, RANGE,
    },
    request::Parts,
};
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use crate::{
    config::CacheSettings,
    http::{Exchange, Failure, Notes, body::Body, fetch, validate::Target},
};
use object::{KeyedRequest, Object, Rules};
use store::{Flight, Key, Store, Turn};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Headers of a client by which it asks for a part of an answer, or only if it has changed.
const CONDITIONS: [HeaderName; 6] = [
    RANGE,
    IF_RANGE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
];
/// How often a request waits for others that fetch the same, at most.
const WAITS: usize = 3;

/// What requests got from a cache.
#[derive(Debug, Default)]
pub struct Results {
    /// A stored answer.
    pub hits: AtomicU64,
    /// An answer of an instance.
    pub misses: AtomicU64,
    /// A stored answer that an instance had confirmed.
    pub validated: AtomicU64,
    /// A stored answer that was stale.
    pub stale: AtomicU64,
}

/// The cache of a service.
#[derive(Debug)]
pub struct Cache {
    store: Arc<Store>,
    settings: CacheSettings,
    /// What requests got.
    pub results: Results,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: &CacheSettings) -> Self {
        Cache {
            store: Arc::new(Store::new(settings)),
            settings: settings.clone(),
            results: Results::default(),
        }
    }

    /// Removes the answers of a URI without its query's other forms, such as `http://a.test/x?y`. Returns their number.
    pub fn purge(&self, key: &str) -> usize {
        self.store.purge(key)
    }

    /// Removes all answers whose URI begins so. Returns their number.
    pub fn purge_prefix(&self, prefix: &str) -> usize {
        self.store.purge_if(|key, _| key.starts_with(prefix))
    }

    /// Removes what has expired.
    pub fn sweep(&self) {
        self.store.sweep();
    }

    /// Returns how often expired answers are removed.
    #[must_use]
    pub const fn sweep_interval(&self) -> Duration {
        self.settings.sweep
    }

    /// Returns the number of stored answers, and the bytes that they take.
    #[must_use]
    pub fn used(&self) -> (u64, u64) {
        self.store.used()
    }

    /// Returns the totals of the store.
    #[must_use]
    pub fn totals(&self) -> &store::Totals {
        &self.store.totals
    }

    /// Removes what a successful unsafe request has changed (RFC 9111 section 4.4).
    pub fn invalidate(&self, changed: &Changed, answer: &Response<Body>) {
        if !answer.status().is_success() && !answer.status().is_redirection() {
            return;
        }
        self.store.purge(&changed.uri.to_string());
        for name in [LOCATION, CONTENT_LOCATION] {
            let Some(other) = answer
                .headers()
                .get(&name)
                .and_then(|value| value.to_str().ok())
            else {
                continue;
            };
            if let Some(key) = changed.beside(other) {
                self.store.purge(&key);
            }
        }
    }
}

/// The URI that an unsafe request may change.
#[derive(Debug)]
pub struct Changed {
    uri: Uri,
}

impl Changed {
    /// Returns what a request may change, if it may.
    #[must_use]
    pub fn by(head: &Parts, target: &Target, scheme: &str) -> Option<Self> {
        if head.method.is_safe() {
            return None;
        }
        uri_of(head, target, scheme).map(|uri| Changed { uri })
    }

    /// The key of another URI if it is of the same host.
    fn beside(&self, other: &str) -> Option<String> {
        let (scheme, authority) = (self.uri.scheme_str()?, self.uri.authority()?);
        let other: Uri = other.parse().ok()?;
        let path = other.path_and_query()?;
        match other.authority() {
            Some(named) if !named.as_str().eq_ignore_ascii_case(authority.as_str()) => None,
            _ => Some(format!("{scheme}://{authority}{path}")),
        }
    }
}

/// Whether a stored answer may serve a request at all.
#[must_use]
pub fn is_candidate(head: &Parts, body: &Incoming) -> bool {
    matches!(head.method, Method::GET | Method::HEAD) && body.is_end_stream()
}

/// Returns the key of a request: what its answer is stored under.
#[must_use]
pub fn key(head: &Parts, target: &Target, scheme: &str) -> Option<String> {
    uri_of(head, target, scheme).map(|uri| uri.to_string())
}

/// The absolute URI of a request, which is the key.
fn uri_of(head: &Parts, target: &Target, scheme: &str) -> Option<Uri> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    Uri::builder()
        .scheme(scheme)
        .authority(target.authority.as_str())
        .path_and_query(path)
        .build()
        .ok()
}

/// What the cache says of an answer (RFC 9211).
fn note(answer: &mut Response<Body>, status: &str) {
    if let Ok(value) = HeaderValue::try_from(format!("lb-proxy; {status}")) {
        answer.headers_mut().append(CACHE_STATUS, value);
    }
}

/// Answers a request without a body from the cache, or from an instance.
///
/// # Errors
/// The answer of the proxy itself.
pub async fn serve(
    cache: &Arc<Cache>,
    exchange: &mut Exchange<'_>,
    mut head: Parts,
) -> Result<Response<Body>, Failure> {
    let Some(uri) = uri_of(&head, exchange.target, exchange.scheme) else {
        return Ok(fetch(exchange, head).await?.map(Body::from));
    };
    // The host is in the URI, in one form.
    head.headers.remove(HOST);
    let key: Key = uri.to_string().into();
    if directives::has(&head.headers, "no-store") {
        return pass(cache, exchange, head).await;
    }
    for _ in 0..WAITS {
        let keyed = KeyedRequest {
            uri: &uri,
            headers: &head.headers,
        };
        let now = SystemTime::now();
        let found = cache.store.find(&key, &keyed);
        if let Some(object) = &found {
            if let Some(stored) = object.fresh(&keyed, now) {
                cache.results.hits.fetch_add(1, Relaxed);
                exchange.notes.cache = Some("hit");
                let mut answer =
                    select::select(&head.method, &head.headers, stored, &object.content);
                let ttl = object.time_to_live(now).as_secs();
                note(&mut answer, &format!("hit; ttl={ttl}"));
                return Ok(answer);
            }
            if let Some(stored) = object.while_revalidating(&keyed, now) {
                refresh(cache, exchange, &head, &uri, object);
                return Ok(stale(cache, exchange, &head, stored, &object.content));
            }
        }
        if directives::has(&head.headers, "only-if-cached") {
            let why = "the answer is not in the cache, and the request asks for no other";
            return Err(Failure::new(StatusCode::GATEWAY_TIMEOUT, why));
        }
        // A part of an answer is not stored, so nobody need wait for it.
        let is_part = head.headers.contains_key(RANGE) && found.is_none();
        if head.method == Method::HEAD && found.is_none() || is_part {
            return pass(cache, exchange, head).await;
        }
        match cache.store.turn(&key) {
            Turn::Fetch(flight) => {
                return fill(cache, exchange, head, &uri, found, Some(flight)).await;
            }
            Turn::Pass => return fill(cache, exchange, head, &uri, found, None).await,
            Turn::Wait(mut landed) => {
                // Ends with an error when the flight is dropped, which is what is waited for.
                let waited = timeout(cache.settings.fetch_wait, landed.changed()).await;
                if waited.is_err() {
                    break;
                }
            }
        }
    }
    fill(cache, exchange, head, &uri, None, None).await
}

/// Passes a request on whose answer is not stored.
async fn pass(
    cache: &Cache,
    exchange: &mut Exchange<'_>,
    head: Parts,
) -> Result<Response<Body>, Failure> {
    cache.results.misses.fetch_add(1, Relaxed);
    exchange.notes.cache = Some("miss");
    let mut answer = fetch(exchange, head).await?.map(Body::from);
    note(&mut answer, "fwd=uri-miss");
    Ok(answer)
}

fn stale(
    cache: &Cache,
    exchange: &mut Exchange<'_>,
    head: &Parts,
    stored: http::response::Parts,
    content: &Bytes,
) -> Response<Body> {
    cache.results.stale.fetch_add(1, Relaxed);
    exchange.notes.cache = Some("stale");
    let mut answer = select::select(&head.method, &head.headers, stored, content);
    note(&mut answer, "hit; fwd=stale");
    answer
}

/// Fetches an answer, or asks whether the stored one has changed, and stores what comes.
async fn fill(
    cache: &Arc<Cache>,
    exchange: &mut Exchange<'_>,
    head: Parts,
    uri: &Uri,
    found: Option<Arc<Object>>,
    flight: Option<Flight>,
) -> Result<Response<Body>, Failure> {
    let original = (head.method.clone(), head.headers.clone());
    let keyed = KeyedRequest {
        uri,
        headers: &original.1,
    };
    let mut request = head;
    let validates = found.filter(|object| !object.validators().is_empty());
    if let Some(object) = &validates {
        for name in &CONDITIONS {
            request.headers.remove(name);
        }
        request.method = Method::GET;
        let headers = object.validators();
        if let Some(etag) = headers.get(http::header::ETAG) {
            request.headers.insert(IF_NONE_MATCH, etag.clone());
        }
        if let Some(modified) = headers.get(http::header::LAST_MODIFIED) {
            request.headers.insert(IF_MODIFIED_SINCE, modified.clone());
        }
    }
    let key: Key = uri.to_string().into();
    let fetched = fetch(exchange, request).await;
    let now = SystemTime::now();
    let failed = match &fetched {
        Err(failure) => failure.status.is_server_error(),
        Ok(answer) => answer.status().is_server_error(),
    };
    if failed {
        let old = cache.store.find(&key, &keyed);
        if let Some(old) = old
            && let Some(stored) = old.on_error(&keyed, now)
        {
            let head = parts(&original.0, &original.1);
            return Ok(stale(cache, exchange, &head, stored, &old.content));
        }
    }
    let answer = fetched?;
    if answer.status() == StatusCode::NOT_MODIFIED
        && let Some(object) = &validates
    {
        let (response, _) = answer.into_parts();
        if let Some(fresh) = object.revalidated(&keyed, &response) {
            cache.results.validated.fetch_add(1, Relaxed);
            exchange.notes.cache = Some("validated");
            if let Some(stored) = fresh.validated(&keyed, now) {
                let content = fresh.content.clone();
                cache.store.insert(&key, &keyed, fresh);
                let mut answer = select::select(&original.0, &original.1, stored, &content);
                note(&mut answer, "hit; fwd=stale; fwd-status=304");
                return Ok(answer);
            }
        }
        // The rules do not take it for the stored one: without conditions.
        let mut head = parts(&original.0, &original.1);
        head.uri = uri.clone();
        return Ok(fetch(exchange, head).await?.map(Body::from));
    }
    cache.results.misses.fetch_add(1, Relaxed);
    exchange.notes.cache = Some("miss");
    let is_get = original.0 == Method::GET;
    let (response, mut body) = answer.into_parts();
    let declared: Option<u64> = response
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let fits = declared.is_none_or(|length| length <= cache.settings.max_object);
    let is_answer = response.status != StatusCode::NOT_MODIFIED;
    let rules = (is_get && is_answer && fits)
        .then(|| Rules::of(&keyed, &response, &cache.settings))
        .flatten();
    let is_stored = rules.is_some();
    match rules {
        Some(rules) => body.fill(Filling {
            cache: Arc::clone(cache),
            key: Arc::clone(&key),
            uri: uri.clone(),
            headers: original.1,
            rules: Some(rules),
            content: Vec::with_capacity(declared.unwrap_or(0) as usize),
            declared,
            flight,
        }),
        None if flight.is_some() && is_get && is_answer => cache.store.note_uncacheable(&key),
        None => {}
    }
    // A validated HEAD was sent as GET: its body is not for the client.
    let body = match original.0 == Method::HEAD {
        true => Body::none(),
        false => Body::from(body),
    };
    let mut answer = Response::from_parts(response, body);
    let why = if validates.is_some() {
        "stale"
    } else {
        "uri-miss"
    };
    let end = if is_stored { "; stored" } else { "" };
    note(&mut answer, &format!("fwd={why}{end}"));
    Ok(answer)
}

fn parts(method: &Method, headers: &HeaderMap) -> Parts {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = method.clone();
    parts.headers = headers.clone();
    parts
}

/// Refreshes an object beside the request that found it stale.
fn refresh(
    cache: &Arc<Cache>,
    exchange: &Exchange<'_>,
    head: &Parts,
    uri: &Uri,
    object: &Arc<Object>,
) {
    let Some(guard) = object::refresh(object) else {
        return;
    };
    let (cache, object, uri) = (Arc::clone(cache), Arc::clone(object), uri.clone());
    let (client, route) = (Arc::clone(exchange.client), Arc::clone(exchange.route));
    let (target, address, is_trusted, scheme) = (
        exchange.target.clone(),
        exchange.address,
        exchange.is_trusted,
        exchange.scheme,
    );
    let mut head = head.clone();
    head.method = Method::GET;
    for name in &CONDITIONS {
        head.headers.remove(name);
    }
    tokio::spawn(async move {
        let mut notes = Notes::default();
        let mut exchange = Exchange {
            client: &client,
            route: &route,
            target: &target,
            address,
            is_trusted,
            scheme,
            notes: &mut notes,
        };
        if let Ok(answer) = fill(&cache, &mut exchange, head, &uri, Some(object), None).await {
            // Reading it to its end stores it.
            let mut body = std::pin::pin!(answer.into_body());
            while let Some(Ok(_)) =
                std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
            {
            }
        }
        drop(guard);
    });
}

/// An answer that is being stored while a client gets it. Without its end, nothing is stored.
#[derive(Debug)]
pub struct Filling {
    cache: Arc<Cache>,
    key: Key,
    uri: Uri,
    headers: HeaderMap,
    /// `None` if it has become too large.
    rules: Option<Rules>,
    content: Vec<u8>,
    declared: Option<u64>,
    flight: Option<Flight>,
}

impl Filling {
    /// Takes a part of the body.
    pub fn push(&mut self, data: &Bytes) {
        if self.rules.is_none() {
            return;
        }
        if self.content.len() + data.len() > self.cache.settings.max_object as usize {
            self.rules = None;
            self.content = Vec::new();
            self.cache.store.note_uncacheable(&self.key);
            self.flight = None;
            return;
        }
        self.content.extend_from_slice(data);
    }

    /// The body is complete.
    pub fn finish(&mut self) {
        let Some(rules) = self.rules.take() else {
            return;
        };
        let length = self.content.len() as u64;
        if self.declared.is_some_and(|declared| declared != length) {
            return;
        }
        let content = std::mem::take(&mut self.content).into_boxed_slice();
        let object = rules.into_object(content.into());
        let keyed = KeyedRequest {
            uri: &self.uri,
            headers: &self.headers,
        };
        self.cache.store.insert(&self.key, &keyed, object);
    }
}
