//! A connection, with or without TLS.

use std::{
    io,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

use super::{Closing, Deadline, PeerError, Target, TlsClient, connect};

/// A connection to a peer.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
    /// A Unix socket of this machine.
    Unix(UnixStream),
}

impl Stream {
    /// Connects, and performs the TLS handshake if there is a TLS client.
    ///
    /// # Errors
    /// As [`connect`] and [`TlsClient::wrap`].
    pub async fn open(
        target: &Target,
        tls: Option<&mut TlsClient>,
        deadline: &Deadline,
    ) -> Result<Self, PeerError> {
        Self::open_until(target, tls, Closing::Orderly, deadline).await
    }

    /// As [`open`](Self::open), and says how the connection ends when it is dropped.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_until(
        target: &Target,
        tls: Option<&mut TlsClient>,
        closing: Closing,
        deadline: &Deadline,
    ) -> Result<Self, PeerError> {
        match tls {
            None => connect(target, closing, deadline).await.map(Stream::Plain),
            Some(tls) => {
                // Files are read first, so that the peer does not see a connection that ends without a handshake.
                tls.refresh(deadline).await?;
                let stream = connect(target, closing, deadline).await?;
                tls.wrap(stream, target.address.ip(), deadline).await
            }
        }
    }

    /// Connects to a Unix socket of this machine.
    ///
    /// # Errors
    /// Refused, timed out, or no socket that this user may use.
    pub async fn open_unix(path: &Path, deadline: &Deadline) -> Result<Self, PeerError> {
        const CONNECTING: &str = "connecting to the socket";
        deadline
            .bound(CONNECTING, async {
                UnixStream::connect(path)
                    .await
                    .map(Stream::Unix)
                    .map_err(|error| PeerError::io(CONNECTING, &error))
            })
            .await
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
