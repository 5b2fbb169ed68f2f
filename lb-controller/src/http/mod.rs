//! HTTP/JSON of the same messages, and WebSockets.
//!
//! `docs/pools.md` has tables of the paths and of the limits: no client can take the controller's memory or its files. Each
//! answer has a request id; browsers of configured origins may read (CORS).

#![expect(
    clippy::result_large_err,
    reason = "an error is the other answer to a request, and is moved once or twice"
)]

mod access;
mod envelope;
mod environments;
pub(crate) mod guard;
mod history;
mod hosts;
mod json;
mod nodes;
mod openapi;
mod projects;
mod routes;
mod stream;
mod subnets;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_TYPE, ORIGIN, VARY,
    },
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use lb_serve::{HasPeer, Peer, incoming, stopped, tls::Tls};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch::Receiver},
    task::JoinSet,
};

pub use nodes::serve_nodes;

use crate::{
    access::Directory, clock::unix_now, controller::Controller, environments::Environments,
    history::History, projects::Projects,
};

/// The header with the request's id.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long the head of a request may take, which is also how long an idle connection is kept.
const HEAD: Duration = Duration::from_secs(30);
/// The most bytes of the head of a request.
const MAX_HEAD: usize = 16 << 10;
/// The most bytes of a request's body.
const MAX_BODY: usize = 256 << 10;
/// How long a request's body may take.
const BODY: Duration = Duration::from_secs(10);
/// How long a request may take until its answer. A driver's call has a deadline of its own, as has the store.
const CALL: Duration = Duration::from_secs(120);
/// WebSockets at once; each is a connection, of which there are [`lb_serve::MAX_CONNECTIONS`].
const MAX_STREAMS: usize = 128;
/// How long open answers may take when the controller ends.
const DRAIN: Duration = Duration::from_secs(3);

type Body = Full<Bytes>;

/// What the server needs.
#[derive(Clone, Debug)]
pub struct Site {
    controller: Controller,
    projects: Projects,
    environments: Environments,
    directory: Directory,
    history: History,
    /// Origins whose browsers may read; `*` is any.
    origins: Arc<[String]>,
    stopping: Receiver<bool>,
    /// Room for WebSockets.
    streams: Arc<Semaphore>,
    /// Counts requests, for ids.
    requests: Arc<AtomicU64>,
    /// Begins ids, so that those of two runs differ.
    run: u64,
}

impl Site {
    /// Serves these pools.
    #[must_use]
    pub fn new(
        controller: Controller,
        projects: Projects,
        environments: Environments,
        directory: Directory,
        history: History,
        origins: Vec<String>,
        stopping: Receiver<bool>,
    ) -> Self {
        Site {
            controller,
            projects,
            environments,
            directory,
            history,
            origins: origins.into(),
            stopping,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            requests: Arc::default(),
            run: unix_now().as_secs(),
        }
    }

    /// The origin that may read the answer, if the request's may.
    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        let text = origin.to_str().ok()?;
        let is_allowed = self.origins.iter().any(|one| one == "*" || one == text);
        is_allowed.then(|| origin.clone())
    }

    fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        let is_plain = |id: &&HeaderValue| {
            id.len() <= 64
                && id
                    .as_bytes()
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        headers
            .get(&REQUEST_ID)
            .filter(is_plain)
            .cloned()
            .unwrap_or_else(|| {
                let number = self.requests.fetch_add(1, Ordering::Relaxed);
                // Digits and a hyphen.
                HeaderValue::from_str(&format!("{:x}-{number}", self.run))
                    .unwrap_or(HeaderValue::from_static("0"))
            })
    }

    async fn answer(&self, mut request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let id = self.request_id(request.headers());
        let allowed = self.allowed(request.headers());
        let is_preflight = request.method() == Method::OPTIONS;
        let has_origin = request.headers().contains_key(ORIGIN);
        let mut response = if is_preflight {
            empty(StatusCode::NO_CONTENT)
        } else if has_origin && allowed.is_none() && request.method() != Method::GET {
            // A page of another site must not change anything.
            routes::problem(
                StatusCode::FORBIDDEN,
                "this origin is not allowed; see --http-origin",
            )
        } else {
            match guard::enter(self, &mut request, peer, &id) {
                Ok(attempt) => {
                    let answered = tokio::time::timeout(CALL, routes::route(self, request)).await;
                    let response = answered.unwrap_or_else(|_| {
                        let text = "the controller did not do it in time; look whether it is done";
                        routes::problem(StatusCode::SERVICE_UNAVAILABLE, text)
                    });
                    guard::leave(self, attempt, response).await
                }
                Err(response) => response,
            }
        };
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID.clone(), id);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static("ETag, X-Request-Id"),
            );
            if is_preflight {
                headers.insert(
                    ACCESS_CONTROL_ALLOW_METHODS,
                    HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE"),
                );
                headers.insert(
                    ACCESS_CONTROL_ALLOW_HEADERS,
                    HeaderValue::from_static("Authorization, Content-Type, If-Match, X-Request-Id"),
                );
            }
        }
        response
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn respond(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Every method and path that there is.
#[cfg(test)]
pub(crate) use openapi::paths;

/// Serves until `stopping` becomes true; by TLS, if there is some.
pub async fn serve(site: Site, listener: TcpListener, tls: Option<Tls>) {
    match tls {
        None => serve_connections(site, incoming(listener)).await,
        Some(tls) => serve_connections(site, tls.secured(incoming(listener))).await,
    }
}

async fn serve_connections<C>(site: Site, incoming: impl Stream<Item = std::io::Result<C>>)
where
    C: HasPeer + tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut stopping = site.stopping.clone();
    let mut connections = JoinSet::new();
    let mut incoming = std::pin::pin!(incoming);
    loop {
        tokio::select! {
            Some(Ok(stream)) = incoming.next() => {
                let (site, peer) = (site.clone(), stream.peer());
                connections.spawn(serve_connection(site.stopping.clone(), stream, move |request| {
                    let (site, peer) = (site.clone(), peer.clone());
                    async move { site.answer(request, &peer).await }
                }));
            }
            Some(_) = connections.join_next() => {}
            () = stopped(&mut stopping) => break,
        }
    }
    // Dropping the set ends the connections that are left.
    let _ = tokio::time::timeout(DRAIN, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

/// Serves a connection until it ends or `stopping` becomes true.
async fn serve_connection<C, A, F>(mut stopping: Receiver<bool>, stream: C, answer: A)
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection over HTTP failed: {error}");
    }
}
