//! The connections of a listener, bounded in number.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tonic::transport::server::Connected;

use crate::{HasPeer, Peer};

/// Connections to one listener at once. The clients are balancers and monitoring servers, not the public.
pub const MAX_CONNECTIONS: usize = 256;
/// How long to wait when the system has no file descriptor for another connection.
const BACKOFF: Duration = Duration::from_millis(100);
/// The time in milliseconds after which a client that reads nothing loses its connection (`TCP_USER_TIMEOUT`, tcp(7)).
/// Without it, clients that never read could occupy all connections.
const UNREAD_TIMEOUT: u32 = 30_000;

/// A connection that counts as one of [`MAX_CONNECTIONS`] until it is dropped.
#[derive(Debug)]
pub struct Counted<T> {
    stream: T,
    _permit: OwnedSemaphorePermit,
}

impl<T> Counted<T> {
    /// The connection itself.
    pub const fn get_ref(&self) -> &T {
        &self.stream
    }
}

/// A listener.
pub trait Accept: Send {
    /// The type of its connections.
    type Connection: Send;
    /// Waits for the next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Accept for TcpListener {
    type Connection = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        // An answer is a small segment that must not wait for an acknowledgement.
        stream.set_nodelay(true)?;
        setsockopt(&stream, TcpUserTimeout, &UNREAD_TIMEOUT)?;
        Ok(stream)
    }
}

impl Accept for UnixListener {
    type Connection = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Returns the connections of a listener. A connection above [`MAX_CONNECTIONS`] is closed at once, because it might
/// have to wait long for the end of another one.
pub fn incoming<L: Accept>(
    listener: L,
) -> impl Stream<Item = io::Result<Counted<L::Connection>>> + Send {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    stream::unfold((listener, room), |(listener, room)| async move {
        loop {
            let stream = match listener.next().await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!("accepting a connection: {error}");
                    tokio::time::sleep(BACKOFF).await;
                    continue;
                }
            };
            if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
                let counted = Counted {
                    stream,
                    _permit: permit,
                };
                return Some((Ok(counted), (listener, room)));
            }
            tracing::debug!("{MAX_CONNECTIONS} connections are open; another one is closed");
        }
    })
}

/// Requests of gRPC have the other end, a [`Peer`], among their extensions.
impl<T: HasPeer> Connected for Counted<T> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn one_too_many_is_closed_and_the_next_finds_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = Box::pin(incoming(listener));
        let mut open = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            clients.push(TcpStream::connect(address).await.unwrap());
            open.push(incoming.next().await.unwrap().unwrap());
        }
        let mut refused = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        // The stream yields nothing; polling it closes the connection.
        tokio::select! {
            _ = incoming.next() => panic!("there is no room"),
            read = refused.read(&mut byte) => assert_eq!(read.unwrap_or(0), 0),
        }
        open.pop();
        let _next = TcpStream::connect(address).await.unwrap();
        incoming.next().await.unwrap().unwrap();
    }
}
