//! The newest report over HTTP: `/load` as JSON, `/metrics` as Prometheus text.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch::Receiver,
    task::JoinSet,
};

use lb_report::{Newest, Sample};

use super::metrics;
use lb_serve::stopped;

/// How long the head of a request may take, which is also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
/// Bytes of the head of a request.
const MAX_HEAD: usize = 16 << 10;
/// How long answers may take to go out when the reporter ends.
const DRAIN: Duration = Duration::from_secs(3);

const NO_REPORT: &str = "no report was taken yet; ask again in a second\n";
const PAGES: &str = "/load is the report as JSON, /metrics as Prometheus text\n";

/// Serves the connections that come in until `stopping` becomes true.
pub async fn serve<C>(
    incoming: impl Stream<Item = std::io::Result<C>>,
    newest: Newest,
    mut stopping: Receiver<bool>,
) where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut incoming = std::pin::pin!(incoming);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(Ok(stream)) = incoming.next() => {
                connections.spawn(talk(stream, newest.clone(), stopping.clone()));
            }
            Some(_) = connections.join_next() => {}
            () = stopped(&mut stopping) => break,
        }
    }
    // Those that then are not done are ended with the set.
    let _ = tokio::time::timeout(DRAIN, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

async fn talk<C>(stream: C, newest: Newest, mut stopping: Receiver<bool>)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
        let newest = newest.borrow().clone();
        let response = answer(request.method(), request.uri().path(), newest.as_deref());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), answer);
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

/// What a request gets.
fn answer(method: &Method, path: &str, newest: Option<&Sample>) -> Response<Full<Bytes>> {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    let (status, kind, body) = match (method, path, newest) {
        (&Method::GET | &Method::HEAD, "/load" | "/metrics", None) => (
            StatusCode::SERVICE_UNAVAILABLE,
            plain,
            Bytes::from_static(NO_REPORT.as_bytes()),
        ),
        (&Method::GET | &Method::HEAD, "/load", Some(sample)) => (
            StatusCode::OK,
            HeaderValue::from_static("application/json"),
            json(sample),
        ),
        (&Method::GET | &Method::HEAD, "/metrics", Some(sample)) => (
            StatusCode::OK,
            HeaderValue::from_static(metrics::CONTENT_TYPE),
            metrics::text(sample).into(),
        ),
        (_, "/load" | "/metrics", _) => (StatusCode::METHOD_NOT_ALLOWED, plain, Bytes::new()),
        _ => (
            StatusCode::NOT_FOUND,
            plain,
            Bytes::from_static(PAGES.as_bytes()),
        ),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// The report as it is served and published.
pub(super) fn json(sample: &Sample) -> Bytes {
    // Numbers, texts and lists of texts: nothing that cannot be written.
    serde_json::to_vec(sample).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_report::example;

    #[test]
    fn each_page_is_answered() {
        let sample = example();
        for (method, path, newest, status) in [
            (Method::GET, "/load", Some(&sample), StatusCode::OK),
            (Method::HEAD, "/metrics", Some(&sample), StatusCode::OK),
            (Method::GET, "/load", None, StatusCode::SERVICE_UNAVAILABLE),
            (
                Method::POST,
                "/load",
                Some(&sample),
                StatusCode::METHOD_NOT_ALLOWED,
            ),
            (Method::GET, "/", Some(&sample), StatusCode::NOT_FOUND),
        ] {
            let response = answer(&method, path, newest);
            assert_eq!(response.status(), status, "{method} {path}");
        }
        let response = answer(&Method::GET, "/load", Some(&sample));
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    }
}
