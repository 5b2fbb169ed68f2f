//! A small HTTP/1.1 server for pages that anyone who can connect may read.
//!
//! Its limits: [`MAX_CONNECTIONS`](crate::MAX_CONNECTIONS), [`MAX_PAGES`] at once, [`MAX_HEAD`] bytes for the head of a request,
//! [`HEAD_TIMEOUT`] for its arrival, [`MAX_BODY`] bytes for the body of a POST, [`PAGE_TIMEOUT`] for its arrival and the page, and [`DRAIN`] for open answers at the end.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, VARY},
    request::Parts,
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::{Body, Frame, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore, watch::Receiver},
    task::JoinSet,
};

use crate::stopped;

/// How long the head of a request may take to arrive, which is also how long an idle connection is kept.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
/// The most bytes that the head of a request may have.
pub const MAX_HEAD: usize = 16 << 10;
/// The most bytes that the body of a request may have.
pub const MAX_BODY: usize = 64 << 10;
/// Pages that exist at once; a request for another one waits. A page may have megabytes, and is kept until the client has
/// read it (or has lost its connection, because it does not read).
pub const MAX_PAGES: usize = 8;
/// How long the creation of a page may take, the wait for its turn included.
pub const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long answers may take to be sent when the server ends.
pub const DRAIN: Duration = Duration::from_secs(3);

const PLAIN: &str = "text/plain; charset=utf-8";

/// A page, or why it is unavailable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// The page exists.
    Found {
        /// Value of the header `Content-Type`.
        media_type: &'static str,
        /// The content.
        body: Bytes,
    },
    /// The page cannot be created now. The text has the reason and ends with a newline.
    Unavailable(String),
    /// The request asks for what is not done. The text has the reason and ends with a newline.
    Refused(String),
}

/// The pages of a server.
pub trait Site: Send + Sync + 'static {
    /// Paths of the pages.
    const PATHS: &'static [&'static str];
    /// The answer to requests for other paths: a list of the pages. It ends with a newline.
    const INDEX: &'static str;

    /// Beginnings of the paths of further pages.
    const PREFIXES: &'static [&'static str] = &[];
    /// Paths at which something is done by POST.
    const ACTIONS: &'static [&'static str] = &[];

    /// Does what a POST with this body to a URI in [`ACTIONS`](Self::ACTIONS) asks for.
    fn act(&self, uri: &Uri, _body: Bytes) -> impl Future<Output = Page> + Send {
        let page = Page::Refused(format!("{uri}: nothing is done here\n"));
        async move { page }
    }

    /// Creates the page of a path in [`PATHS`](Self::PATHS) for a request with these headers.
    fn page(&self, path: &str, headers: &HeaderMap) -> impl Future<Output = Page> + Send;
}

/// Serves a site on these connections until `stopping` becomes true; then open answers have [`DRAIN`] to be sent.
pub async fn serve<S: Site, C>(
    incoming: impl Stream<Item = io::Result<C>>,
    site: S,
    mut stopping: Receiver<bool>,
) where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let site = Arc::new(site);
    let pages = Arc::new(Semaphore::new(MAX_PAGES));
    let mut incoming = std::pin::pin!(incoming);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(Ok(stream)) = incoming.next() => {
                connections.spawn(serve_connection(stream, Arc::clone(&site), Arc::clone(&pages), stopping.clone()));
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

async fn serve_connection<S: Site, C>(
    stream: C,
    site: Arc<S>,
    pages: Arc<Semaphore>,
    mut stopping: Receiver<bool>,
) where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (site, pages) = (Arc::clone(&site), Arc::clone(&pages));
        async move {
            let (head, body) = request.into_parts();
            Ok::<_, Infallible>(answer(&*site, &pages, &head, body, PAGE_TIMEOUT).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
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

/// The content of an answer, and the page's turn, which lasts until the content is dropped.
#[derive(Debug)]
struct Content {
    page: Full<Bytes>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.page).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.page.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.page.size_hint()
    }
}

/// Answers a request.
async fn answer<S: Site>(
    site: &S,
    pages: &Arc<Semaphore>,
    request: &Parts,
    body: impl Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>,
    timeout: Duration,
) -> Response<Content> {
    let path = request.uri.path();
    let is_action = S::ACTIONS.contains(&path);
    let is_page =
        S::PATHS.contains(&path) || S::PREFIXES.iter().any(|prefix| path.starts_with(prefix));
    if !is_action && !is_page {
        return respond(StatusCode::NOT_FOUND, PLAIN, S::INDEX.into());
    }
    let is_allowed = match request.method {
        Method::POST => is_action,
        Method::GET | Method::HEAD => is_page,
        _ => false,
    };
    if !is_allowed {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, Bytes::new());
        let allowed = if is_action { "POST" } else { "GET, HEAD" };
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allowed));
        return response;
    }
    let page = async {
        // The semaphore is never closed.
        let turn = Arc::clone(pages).acquire_owned().await.ok();
        let page = match is_action {
            true => match Limited::new(body, MAX_BODY).collect().await {
                Ok(body) => site.act(&request.uri, body.to_bytes()).await,
                Err(error) => Page::Refused(format!("reading the body of the request: {error}\n")),
            },
            false => site.page(path, &request.headers).await,
        };
        (turn, page)
    };
    match tokio::time::timeout(timeout, page).await {
        Ok((turn, Page::Found { media_type, body })) => respond(StatusCode::OK, media_type, body)
            .map(|content| Content {
                _turn: turn,
                ..content
            }),
        Ok((_, Page::Unavailable(why))) => {
            respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, why.into())
        }
        Ok((_, Page::Refused(why))) => respond(StatusCode::BAD_REQUEST, PLAIN, why.into()),
        Err(_) => {
            let why = format!("the page took longer than {timeout:?}; try again\n");
            respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, why.into())
        }
    }
}

fn respond(status: StatusCode, media_type: &'static str, body: Bytes) -> Response<Content> {
    let mut response = Response::new(Content {
        page: Full::new(body),
        _turn: None,
    });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        sync::{Notify, watch},
    };

    use super::*;

    /// A site with pages that are found, unavailable, never ready, and ready on a signal.
    #[derive(Default)]
    struct Example {
        asked: Notify,
        ready: Notify,
        done: AtomicBool,
    }

    impl Site for Arc<Example> {
        const PATHS: &'static [&'static str] = &["/here", "/away", "/never", "/later"];
        const INDEX: &'static str = "/here is here\n";
        const PREFIXES: &'static [&'static str] = &["/any/"];
        const ACTIONS: &'static [&'static str] = &["/act"];

        async fn act(&self, uri: &Uri, body: Bytes) -> Page {
            if body.is_empty() {
                return Page::Refused(format!("{uri}: no body\n"));
            }
            Page::Found {
                media_type: "text/plain",
                body,
            }
        }

        async fn page(&self, path: &str, _: &HeaderMap) -> Page {
            match path {
                "/away" => return Page::Unavailable("not yet\n".to_owned()),
                "/never" => std::future::pending().await,
                "/later" => {
                    self.asked.notify_one();
                    self.ready.notified().await;
                    self.done.store(true, Ordering::Relaxed);
                }
                _ => {}
            }
            Page::Found {
                media_type: "application/json",
                body: Bytes::from_static(b"{}"),
            }
        }
    }

    async fn ask(site: &Arc<Example>, method: Method, path: &str) -> Response<Content> {
        let pages = Arc::new(Semaphore::new(MAX_PAGES));
        let (mut request, ()) = Request::new(()).into_parts();
        request.method = method;
        request.uri = path.parse().unwrap();
        let body = Full::new(Bytes::from_static(b"x"));
        answer(site, &pages, &request, body, Duration::from_millis(20)).await
    }

    #[tokio::test]
    async fn each_request_has_its_answer() {
        let site = Arc::new(Example::default());
        for (method, path, status) in [
            (Method::GET, "/here", StatusCode::OK),
            (Method::HEAD, "/here", StatusCode::OK),
            (Method::GET, "/away", StatusCode::SERVICE_UNAVAILABLE),
            (Method::GET, "/never", StatusCode::SERVICE_UNAVAILABLE),
            (Method::POST, "/here", StatusCode::METHOD_NOT_ALLOWED),
            (Method::GET, "/", StatusCode::NOT_FOUND),
            (Method::POST, "/", StatusCode::NOT_FOUND),
            (Method::GET, "/any/thing", StatusCode::OK),
            (Method::POST, "/any/thing", StatusCode::METHOD_NOT_ALLOWED),
            (Method::POST, "/act?x=1", StatusCode::OK),
            (Method::GET, "/act", StatusCode::METHOD_NOT_ALLOWED),
        ] {
            let response = ask(&site, method, path).await;
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
            let allow = response.headers().contains_key(ALLOW);
            assert_eq!(allow, status == StatusCode::METHOD_NOT_ALLOWED);
        }
        let response = ask(&site, Method::GET, "/here").await;
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    }

    #[tokio::test]
    async fn what_is_posted_is_bounded() {
        let site = Arc::new(Example::default());
        let pages = Arc::new(Semaphore::new(MAX_PAGES));
        let (mut request, ()) = Request::new(()).into_parts();
        (request.method, request.uri) = (Method::POST, "/act".parse().unwrap());
        for (length, status) in [
            (0, StatusCode::BAD_REQUEST),
            (MAX_BODY, StatusCode::OK),
            (MAX_BODY + 1, StatusCode::BAD_REQUEST),
        ] {
            let body = Full::new(Bytes::from(vec![b'x'; length]));
            let response = answer(&site, &pages, &request, body, PAGE_TIMEOUT).await;
            assert_eq!(response.status(), status, "{length}");
        }
    }

    #[tokio::test]
    async fn pages_that_are_not_read_yet_hold_up_others() {
        let site = Arc::new(Example::default());
        let pages = Arc::new(Semaphore::new(1));
        let (mut request, ()) = Request::new(()).into_parts();
        request.uri = "/here".parse().unwrap();
        let body = || Full::new(Bytes::new());
        let ask = || answer(&site, &pages, &request, body(), Duration::from_millis(20));
        let unread = ask().await;
        assert_eq!(unread.status(), StatusCode::OK);
        assert_eq!(ask().await.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(unread);
        assert_eq!(ask().await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn an_open_answer_goes_out_before_the_server_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let site = Arc::new(Example::default());
        let (stop, stopping) = watch::channel(false);
        let server = tokio::spawn(serve(
            crate::incoming(listener),
            Arc::clone(&site),
            stopping,
        ));
        // An idle connection does not keep the server from ending.
        let _idle = TcpStream::connect(address).await.unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        site.asked.notified().await;
        stop.send(true).unwrap();
        assert!(!site.done.load(Ordering::Relaxed));
        site.ready.notify_one();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200") && text.ends_with("{}"),
            "{text}"
        );
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
