//! gRPC over a connection of its own.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use http::Uri;
use hyper::{body::Incoming, client::conn::http2, rt::Executor};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::AbortHandle;
use tonic::body::Body;
use tower::Service;

use super::{Deadline, PeerError, Stream};

/// Bytes of a response's head that are read at most.
const MAX_HEAD: u32 = 16 << 10;
/// Bytes that a peer may send before they are read: the default window of HTTP/2 (RFC 9113 section 6.9.2).
const WINDOW: u32 = 65_535;
const ANSWER: &str = "waiting for the answer";

/// A connection on which a generated client can call: `HealthClient::with_origin(channel, origin)`.
#[derive(Clone, Debug)]
pub struct Channel(http2::SendRequest<Body>);

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Calls over `stream`: `call` gets the connection and the origin its requests name (`authority` is
/// `HOST:PORT`). The connection ends with it.
///
/// # Errors
/// Timed out, closed, reset, or no HTTP/2. A status that the peer answered is `Ok(Err(status))`.
pub async fn exchange<T, F>(
    stream: Stream,
    authority: &str,
    deadline: &Deadline,
    call: impl FnOnce(Channel, Uri) -> F,
) -> Result<Result<T, tonic::Status>, PeerError>
where
    F: Future<Output = Result<T, tonic::Status>>,
{
    let scheme = match stream {
        Stream::Plain(_) | Stream::Unix(_) => "http",
        Stream::Tls(_) => "https",
    };
    let origin = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query("/")
        .build()
        .map_err(|error| PeerError::Request(error.to_string()))?;
    let tasks = Tasks::default();
    let _end = EndOf(&tasks);
    let talk = async {
        let (sender, connection) = http2::Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failure(&error))?;
        let mut connection = pin!(connection);
        let mut call = pin!(call(Channel(sender), origin));
        let ended = tokio::select! {
            biased;
            result = &mut call => return answered(result),
            ended = &mut connection => ended,
        };
        // An answer may be ready although the connection has ended.
        match (answered(call.await), ended) {
            (Err(_), Err(error)) => Err(failure(&error)),
            (answer, _) => answer,
        }
    };
    deadline.bound(ANSWER, talk).await
}

/// Turns a status that tonic made of a broken connection into an error: the peer did not answer.
fn answered<T>(result: Result<T, tonic::Status>) -> Result<Result<T, tonic::Status>, PeerError> {
    let Err(status) = &result else {
        return Ok(result);
    };
    let mut cause = std::error::Error::source(status);
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<hyper::Error>() {
            return Err(failure(error));
        }
        cause = inner.source();
    }
    Ok(result)
}

fn failure(error: &hyper::Error) -> PeerError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref() {
            return PeerError::io(ANSWER, io);
        }
        last = inner.to_string();
        cause = inner.source();
    }
    if error.is_closed() || error.is_canceled() {
        return PeerError::Closed(ANSWER);
    }
    PeerError::Protocol(format!("no HTTP/2 ({last})"))
}

/// The tasks that hyper runs beside a connection. They end with the exchange, even if the peer delays them.
#[derive(Clone, Debug, Default)]
struct Tasks(Arc<Mutex<Vec<AbortHandle>>>);

/// Ends the tasks when the exchange ends or is dropped.
struct EndOf<'a>(&'a Tasks);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        let mut tasks = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        for task in tasks.drain(..) {
            task.abort();
        }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, future: F) {
        let task = tokio::spawn(future).abort_handle();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(task);
    }
}
