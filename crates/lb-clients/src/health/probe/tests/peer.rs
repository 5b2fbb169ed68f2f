//! Peers.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Serves each connection by `behave`, as long as the test runs.
pub async fn serve<F>(behave: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behave(stream));
        }
    });
    address
}

/// An address where nobody listens: no test is given such a port.
pub fn nobody() -> SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}

/// Reads the request and sends this.
pub async fn says(bytes: &'static [u8]) -> SocketAddr {
    serve(move |mut stream| async move {
        read_some(&mut stream).await;
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        read_all(&mut stream).await;
    })
    .await
}

/// Sends `start`, and `then` for ever, a piece each `pause`.
pub async fn goes_on(
    start: &'static [u8],
    then: &'static [u8],
    pause: Option<Duration>,
) -> SocketAddr {
    serve(move |mut stream| async move {
        read_some(&mut stream).await;
        let mut sent = stream.write_all(start).await;
        while sent.is_ok() {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            sent = stream.write_all(then).await;
        }
    })
    .await
}

/// Counts the requests it answers with this.
pub async fn counts(bytes: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let address = serve(move |mut stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            read_some(&mut stream).await;
            let _ = stream.write_all(bytes).await;
            read_all(&mut stream).await;
        }
    })
    .await;
    (address, count)
}

pub async fn read_some(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 4_096];
    let length = stream.read(&mut bytes).await.unwrap_or(0);
    bytes.truncate(length);
    bytes
}

pub async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}
