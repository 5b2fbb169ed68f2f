//! A stored answer: its rules, its headers and its content.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{
        AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED, PRAGMA,
        SET_COOKIE, VARY,
    },
    response::Parts,
};
use http_cache_semantics::{
    AfterResponse, BeforeRequest, CacheOptions, CachePolicy, RequestLike, ResponseLike,
};

use super::directives;
use crate::config::CacheSettings;

/// What an answer costs besides its content and its headers: maps, rules and keys. Measured by the memory of a full cache.
const OVERHEAD: usize = 2 << 10;
/// How long a stale answer with a validator is kept: asking whether it changed is cheaper than fetching it again.
const KEPT_FOR_VALIDATION: Duration = Duration::from_secs(600);

/// A request as the rules see it: HEAD is like GET, and the host is part of the URI.
#[derive(Debug)]
pub struct KeyedRequest<'a> {
    /// The absolute URI.
    pub uri: &'a Uri,
    /// Its headers, without `Host`.
    pub headers: &'a HeaderMap,
}

impl RequestLike for KeyedRequest<'_> {
    fn uri(&self) -> Uri {
        self.uri.clone()
    }

    fn is_same_uri(&self, other: &Uri) -> bool {
        self.uri == other
    }

    fn method(&self) -> &Method {
        &Method::GET
    }

    fn headers(&self) -> &HeaderMap {
        self.headers
    }
}

/// An answer as the rules see it.
struct StoredResponse<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
}

impl ResponseLike for StoredResponse<'_> {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn headers(&self) -> &HeaderMap {
        self.headers
    }
}

/// The rules of an answer that may be stored.
#[derive(Debug)]
pub struct Rules {
    policy: CachePolicy,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
    validators: HeaderMap,
    /// Status and headers of the answer, for those that must be validated at each use.
    status: StatusCode,
    headers: HeaderMap,
    size: usize,
}

/// A stored answer.
#[derive(Debug)]
pub struct Object {
    rules: Rules,
    /// Its content.
    pub content: Bytes,
    /// Whether somebody asked for it since the clock's hand passed.
    pub is_used: AtomicBool,
    is_refreshing: AtomicBool,
}

/// The one refresh of an object, until it is dropped.
#[derive(Debug)]
pub struct Refresh(std::sync::Arc<Object>);

impl Drop for Refresh {
    fn drop(&mut self) {
        self.0.is_refreshing.store(false, Relaxed);
    }
}

/// Copies headers into memory of their own: a value is a slice of the buffer it was read into, which it would keep.
fn own(headers: &HeaderMap) -> HeaderMap {
    let size = headers.values().map(HeaderValue::len).sum();
    let mut buffer = BytesMut::with_capacity(size);
    for value in headers.values() {
        buffer.extend_from_slice(value.as_bytes());
    }
    let mut buffer = buffer.freeze();
    let mut owned = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let bytes = buffer.split_to(value.len());
        if let Ok(value) = HeaderValue::from_maybe_shared(bytes) {
            // Unknown names are slices of the buffer, too.
            let name = HeaderName::from_bytes(name.as_str().as_bytes());
            owned.append(name.unwrap_or(PRAGMA), value);
        }
    }
    owned
}

fn size_of(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 64)
        .sum()
}

/// Types of static content, for answers without a lifetime of their own.
fn is_static(headers: &HeaderMap) -> bool {
    const TYPES: [&str; 9] = [
        "image/",
        "font/",
        "audio/",
        "video/",
        "text/css",
        "text/javascript",
        "application/javascript",
        "application/wasm",
        "application/font",
    ];
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            let value = value.to_ascii_lowercase();
            TYPES.iter().any(|kind| value.starts_with(kind))
        })
}

impl Rules {
    /// Returns the rules of an answer if it may be stored: a whole one, for everybody, with a lifetime or a validator.
    #[must_use]
    pub fn of(keyed: &KeyedRequest<'_>, head: &Parts, settings: &CacheSettings) -> Option<Self> {
        if matches!(
            head.status,
            StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        ) || head.status.is_server_error()
            || head.headers.contains_key(SET_COOKIE)
        {
            return None;
        }
        let vary = vary(&head.headers)?;
        // Cookies and other headers of the client do not belong into the cache.
        let mut request = HeaderMap::new();
        for name in vary.iter().chain(&[AUTHORIZATION, CACHE_CONTROL, PRAGMA]) {
            for value in keyed.headers.get_all(name) {
                request.append(name, value.clone());
            }
        }
        let request = own(&request);
        let mut headers = own(&head.headers);
        let has_lifetime = headers.contains_key(CACHE_CONTROL)
            || headers.contains_key(EXPIRES)
            || headers.contains_key(PRAGMA);
        let ttl = settings.default_ttl;
        let is_default = !has_lifetime && !ttl.is_zero() && is_static(&headers);
        let original = headers.clone();
        if is_default
            && let Ok(value) = HeaderValue::try_from(format!("max-age={}", ttl.as_secs().max(1)))
        {
            headers.insert(CACHE_CONTROL, value);
        }
        let policy = CachePolicy::new_options(
            &KeyedRequest {
                uri: keyed.uri,
                headers: &request,
            },
            &StoredResponse {
                status: head.status,
                headers: &headers,
            },
            SystemTime::now(),
            CacheOptions::default(),
        );
        let mut validators = HeaderMap::new();
        for name in [ETAG, LAST_MODIFIED] {
            if let Some(value) = headers.get(&name) {
                validators.insert(name, value.clone());
            }
        }
        let lifetime = policy.time_to_live(SystemTime::UNIX_EPOCH);
        if !policy.is_storable() || (lifetime.is_zero() && validators.is_empty()) {
            return None;
        }
        let of = |name| directives::seconds(&original, name);
        Some(Rules {
            stale_while_revalidate: of("stale-while-revalidate").unwrap_or_default(),
            stale_if_error: of("stale-if-error").unwrap_or(settings.stale_if_error),
            // The policy has the headers, too.
            size: 2 * size_of(&headers) + size_of(&request),
            status: head.status,
            headers: match lifetime.is_zero() {
                true => original,
                false => HeaderMap::new(),
            },
            validators,
            policy,
        })
    }

    /// Makes an object of the rules and the content.
    #[must_use]
    pub fn into_object(self, content: Bytes) -> Object {
        Object {
            rules: self,
            content,
            is_used: AtomicBool::new(false),
            is_refreshing: AtomicBool::new(false),
        }
    }
}

/// The names in `Vary`, or `None` if no request is like another one (`*`).
fn vary(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for value in headers.get_all(VARY) {
        for name in value.to_str().ok()?.split(',').map(str::trim) {
            match name {
                "" => {}
                "*" => return None,
                name => names.push(name.parse().ok()?),
            }
        }
    }
    Some(names)
}

impl Object {
    /// Returns what the object takes of the cache.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.content.len() + self.rules.size + OVERHEAD
    }

    /// Returns the head of the answer if the request may have it without asking an instance.
    #[must_use]
    pub fn fresh(&self, keyed: &KeyedRequest<'_>, now: SystemTime) -> Option<Parts> {
        match self.rules.policy.before_request(keyed, now) {
            BeforeRequest::Fresh(head) => Some(head),
            BeforeRequest::Stale { .. } => None,
        }
    }

    /// Returns whether it is the answer to this request, as far as `Vary` goes.
    #[must_use]
    pub fn matches(&self, keyed: &KeyedRequest<'_>) -> bool {
        matches!(
            self.rules.policy.before_request(keyed, SystemTime::now()),
            BeforeRequest::Fresh(_) | BeforeRequest::Stale { matches: true, .. }
        )
    }

    /// How long it has been stale.
    fn staleness(&self, now: SystemTime) -> Duration {
        let policy = &self.rules.policy;
        // At that time nothing had aged.
        let start = SystemTime::UNIX_EPOCH;
        let lifetime = policy.age(start) + policy.time_to_live(start);
        policy.age(now).saturating_sub(lifetime)
    }

    /// Returns the head of the answer if it may be used although it is stale, within `limit`. The request must not insist
    /// on a fresh one, and the answer must not forbid it.
    fn stale(&self, keyed: &KeyedRequest<'_>, now: SystemTime, limit: Duration) -> Option<Parts> {
        let insists = ["no-cache", "max-age", "min-fresh", "no-store"]
            .iter()
            .any(|name| directives::has(keyed.headers, name));
        if insists || keyed.headers.contains_key(PRAGMA) || self.staleness(now) >= limit {
            return None;
        }
        let mut headers = keyed.headers.clone();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-stale"));
        self.fresh(
            &KeyedRequest {
                uri: keyed.uri,
                headers: &headers,
            },
            now,
        )
    }

    /// Returns the head of the answer if it may be used while it is refreshed.
    #[must_use]
    pub fn while_revalidating(&self, keyed: &KeyedRequest<'_>, now: SystemTime) -> Option<Parts> {
        self.stale(keyed, now, self.rules.stale_while_revalidate)
    }

    /// Returns the head of the answer if it may be used because no instance answers.
    #[must_use]
    pub fn on_error(&self, keyed: &KeyedRequest<'_>, now: SystemTime) -> Option<Parts> {
        self.stale(keyed, now, self.rules.stale_if_error)
    }

    /// Returns the head of the answer that an instance has just confirmed: whatever freshness the request insists on, it
    /// cannot get a fresher one.
    #[must_use]
    pub fn validated(&self, keyed: &KeyedRequest<'_>, now: SystemTime) -> Option<Parts> {
        let mut headers = keyed.headers.clone();
        headers.remove(CACHE_CONTROL);
        headers.remove(PRAGMA);
        let plain = KeyedRequest {
            uri: keyed.uri,
            headers: &headers,
        };
        // `no-cache` and a lifetime of 0 make it stale at once.
        self.fresh(&plain, now).or_else(|| {
            let (mut head, ()) = http::Response::new(()).into_parts();
            head.status = self.rules.status;
            head.headers = self.rules.headers.clone();
            Some(head)
        })
    }

    /// Returns the headers by which an instance can tell whether it changed.
    #[must_use]
    pub const fn validators(&self) -> &HeaderMap {
        &self.rules.validators
    }

    /// Returns the object after an instance said that it has not changed.
    #[must_use]
    pub fn revalidated(&self, keyed: &KeyedRequest<'_>, head: &Parts) -> Option<Object> {
        let response = StoredResponse {
            status: head.status,
            headers: &own(&head.headers),
        };
        let after = self
            .rules
            .policy
            .after_response(keyed, &response, SystemTime::now());
        let AfterResponse::NotModified(policy, updated) = after else {
            return None;
        };
        let lifetime = policy.time_to_live(SystemTime::UNIX_EPOCH);
        let rules = Rules {
            policy,
            stale_while_revalidate: self.rules.stale_while_revalidate,
            stale_if_error: self.rules.stale_if_error,
            validators: self.rules.validators.clone(),
            status: self.rules.status,
            headers: match lifetime.is_zero() {
                true => updated.headers,
                false => HeaderMap::new(),
            },
            size: self.rules.size,
        };
        Some(rules.into_object(self.content.clone()))
    }

    /// Returns how long it is fresh from now on.
    #[must_use]
    pub fn time_to_live(&self, now: SystemTime) -> Duration {
        self.rules.policy.time_to_live(now)
    }

    /// Returns whether it can be of no use any more.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        let validated = match self.rules.validators.is_empty() {
            true => Duration::ZERO,
            false => KEPT_FOR_VALIDATION,
        };
        let kept = self
            .rules
            .stale_while_revalidate
            .max(self.rules.stale_if_error)
            .max(validated);
        self.rules.policy.is_stale(now) && self.staleness(now) >= kept
    }
}

/// Begins to refresh an object, if nobody does.
#[must_use]
pub fn refresh(object: &std::sync::Arc<Object>) -> Option<Refresh> {
    let was_refreshing = object.is_refreshing.swap(true, Relaxed);
    (!was_refreshing).then(|| Refresh(std::sync::Arc::clone(object)))
}
