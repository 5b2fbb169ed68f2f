//! A connection over HTTP/1.1 or HTTP/2, from its first byte to its end.

use std::{
    future::Future,
    io::{Error, Result},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Phase, draining,
    head::{HeadLimited, PARK, Seat},
};
use crate::{
    http::{self, Client},
    net::Stream,
};

/// How HTTP/2 begins (RFC 9113 section 3.4): these bytes begin no request of HTTP/1.1.
const PREFACE: [u8; 4] = *b"PRI ";
/// How long to wait for the rest of a preface: what has come stays readable, so waiting for readiness would not wait.
const PART: Duration = Duration::from_millis(2);
/// How long a connection over HTTP/1.1 is kept when the proxy ends, so that a request that is on its way is answered.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes that a client may send on one HTTP/2 stream, and on one connection, before they are read.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The smallest limit of hyper's buffer.
const LEAST_BUFFER: usize = 8_192;

/// Serves a connection. `is_http2` is what TLS has agreed on; without TLS the first bytes tell.
pub async fn serve(
    stream: Stream,
    client: Arc<Client>,
    is_http2: Option<bool>,
    phase: watch::Receiver<Phase>,
) -> Result<()> {
    let is_http2 = match (is_http2, &stream) {
        (Some(agreed), _) => agreed,
        (None, Stream::Plain(stream)) if client.listener.http2 => {
            let begun = begins_http2(stream);
            match timeout(client.listener.head_timeout, begun).await {
                Ok(Some(begins)) => begins,
                Ok(None) | Err(_) => return Ok(()),
            }
        }
        (None, _) => false,
    };
    if is_http2 {
        serve_http2(stream, client, phase).await
    } else {
        serve_http1(stream, client, phase).await
    }
}

/// Looks at the first bytes. Returns `None` if the client closed.
async fn begins_http2(stream: &TcpStream) -> Option<bool> {
    let mut begun = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut begun).await {
            Ok(0) | Err(_) => return None,
            Ok(length) if begun[..length] != PREFACE[..length] => return Some(false),
            Ok(length) if length == PREFACE.len() => return Some(true),
            Ok(_) => sleep(PART).await,
        }
    }
}

async fn serve_http1(
    mut stream: Stream,
    client: Arc<Client>,
    mut phase: watch::Receiver<Phase>,
) -> Result<()> {
    loop {
        // In a box, whose memory is free while the connection is parked.
        let (ended, parked) = Box::pin(serve_until_idle(stream, &client, &mut phase)).await;
        let Some(parked) = parked else {
            return ended;
        };
        let idle = client.listener.idle_timeout.saturating_sub(PARK);
        let wakes = tokio::select! {
            wakes = timeout(idle, parked.readable()) => wakes,
            // A request may be on its way.
            () = draining(&mut phase) => timeout(LINGER - PARK, parked.readable()).await,
        };
        match wakes {
            Ok(readable) => readable?,
            Err(_) => return Ok(()),
        }
        stream = parked;
    }
}

/// Serves a connection over HTTP/1.1 until it ends, or has been idle for a while: then it is returned.
async fn serve_until_idle(
    stream: Stream,
    client: &Arc<Client>,
    phase: &mut watch::Receiver<Phase>,
) -> (Result<()>, Option<Stream>) {
    let listener = Arc::clone(&client.listener);
    let own = Arc::clone(client);
    let service = service_fn(move |request| {
        let served = http::serve(Arc::clone(&own), request);
        Box::pin(http::guarded(Arc::clone(&own.shared), served))
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `HeadLimited` has the limits, and answers.
        .header_read_timeout(None)
        .max_header_size(listener.max_head as usize)
        .max_buf_size(
            (listener.max_head as usize + 1_024)
                .max(64 << 10)
                .max(LEAST_BUFFER),
        )
        .half_close(false);
    // Any other number costs memory of its own for each request.
    if listener.max_headers != 100 {
        builder.max_headers(listener.max_headers as usize);
    }
    let seat = Seat::default();
    let io = TokioIo::new(HeadLimited::new(stream, Arc::clone(client), seat.clone()));
    let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = draining(phase) => {
            // A request that is on its way gets its answer, which closes the connection.
            match timeout(LINGER, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    (ended.map_err(Error::other), seat.take())
}

async fn serve_http2(
    stream: Stream,
    client: Arc<Client>,
    mut phase: watch::Receiver<Phase>,
) -> Result<()> {
    let listener = Arc::clone(&client.listener);
    let own = Arc::clone(&client);
    let service = service_fn(move |request| {
        let served = http::serve(Arc::clone(&own), request);
        Box::pin(http::guarded(Arc::clone(&own.shared), served))
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(listener.max_streams)
        .max_header_list_size(listener.max_head)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(listener.idle_timeout)
        .keep_alive_timeout(listener.head_timeout);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => return ended.map_err(Error::other),
        () = idle(&client, listener.idle_timeout) => true,
        () = draining(&mut phase) => false,
    };
    connection.as_mut().graceful_shutdown();
    if ended {
        // One that is still in its handshake would never end.
        return match timeout(listener.head_timeout, connection).await {
            Ok(ended) => ended.map_err(Error::other),
            Err(_) => Ok(()),
        };
    }
    finish(connection, &client, listener.idle_timeout).await
}

/// Waits for the end of a connection that has requests, but not for one that has none.
async fn finish(
    mut connection: Pin<&mut impl Future<Output = hyper::Result<()>>>,
    client: &Client,
    pause: Duration,
) -> Result<()> {
    tokio::select! {
        ended = connection.as_mut() => ended.map_err(Error::other),
        () = idle(client, pause) => Ok(()),
    }
}

/// Returns when a client has had no request for `time`.
async fn idle(client: &Client, time: Duration) {
    loop {
        let before = client.requests();
        sleep(time).await;
        if client.is_idle() && client.requests() == before {
            return;
        }
    }
}
