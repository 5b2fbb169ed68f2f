//! Opens connections to instances.

use std::{future::poll_fn, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use lb_clients::peer::{Deadline, TlsClient};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::SharedStream;
use crate::{
    config::{Protocol, ServiceSettings},
    http::body::RequestBody,
    net::Stream,
    patience::{Waited, patiently},
    proxy_protocol,
    service::Instance,
    trouble::{Kind, Troubles},
};

/// Bytes that an instance may send on one HTTP/2 stream, and on one connection, before they are read.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of an answer over HTTP/1.1 that are read ahead of a slow client, and the most that the head of an answer may have.
/// hyper's own limit is 400 KiB, for each of thousands of clients.
const BUFFER: usize = 128 << 10;
/// Bytes of the head of an answer over HTTP/2.
const MAX_HEADER_LIST: u32 = 64 << 10;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It took too long.
    #[error("connecting to {0} took longer than {1:?}")]
    TimedOut(SocketAddr, Duration),
    /// The system, or the instance, refused it.
    #[error("connecting to {0}: {1}")]
    Refused(SocketAddr, io::Error),
    /// TLS failed.
    #[error("connecting to {0} with TLS: {1}")]
    Tls(SocketAddr, String),
    /// The instance does not speak the protocol.
    #[error("connecting to {0} over HTTP: {1}")]
    Http(SocketAddr, hyper::Error),
    /// This host could not do it, which says nothing about the instance.
    #[error("connecting to {0}: {2}")]
    Own(SocketAddr, Kind, String),
}

impl ConnectError {
    /// The meaning of an error of a socket.
    fn io(address: SocketAddr, error: io::Error) -> Self {
        match Kind::of(&error) {
            Some(kind) => ConnectError::Own(address, kind, error.to_string()),
            None => ConnectError::Refused(address, error),
        }
    }

    /// Counts and says it if it is this host's own trouble. Returns whether it is.
    pub fn is_own(&self, troubles: &Troubles) -> bool {
        let ConnectError::Own(_, kind, _) = self else {
            return false;
        };
        troubles.observe(*kind, self);
        true
    }
}

/// A connection that a request can be sent on.
#[derive(Debug)]
pub enum Connection {
    /// HTTP/1.1: it carries one request at a time.
    Http1 {
        /// Sends the request.
        sender: http1::SendRequest<RequestBody>,
        /// Whether it carried requests before, so that the instance may just be closing it.
        is_reused: bool,
    },
    /// A stream of an HTTP/2 connection.
    Http2 {
        /// Sends the request.
        sender: http2::SendRequest<RequestBody>,
        /// The stream.
        stream: SharedStream,
    },
}

/// The way to the instances of a service.
#[derive(Debug)]
pub struct Connector {
    protocol: Protocol,
    tls: Option<Arc<tokio::sync::Mutex<TlsClient>>>,
    timeout: Duration,
    sends_proxy: bool,
}

impl Connector {
    /// The way that the settings describe.
    #[must_use]
    pub fn new(settings: &ServiceSettings) -> Self {
        let protocols: &[&str] = match settings.protocol {
            Protocol::Http1 => &["http/1.1"],
            Protocol::Http2 => &["h2"],
        };
        Connector {
            protocol: settings.protocol,
            tls: TlsClient::of(settings.tls.as_ref(), protocols)
                .map(|client| Arc::new(tokio::sync::Mutex::new(client))),
            timeout: settings.connect_timeout,
            sends_proxy: settings.send_proxy,
        }
    }

    /// The way that the settings describe, with the files of TLS that `before` has read: the settings of TLS are the same.
    #[must_use]
    pub fn following(settings: &ServiceSettings, before: &Connector) -> Self {
        Connector {
            tls: before.tls.clone(),
            ..Connector::new(settings)
        }
    }

    /// Returns whether requests go over TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the protocol that instances speak.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns whether each client has connections of its own.
    #[must_use]
    pub const fn sends_proxy(&self) -> bool {
        self.sends_proxy
    }

    /// Opens a connection over TCP, with TLS and the PROXY header if the service has them. `ends` are the addresses of the
    /// client and of the listener.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn open(
        &self,
        instance: &Instance,
        ends: (SocketAddr, SocketAddr),
        troubles: &Troubles,
    ) -> Result<Stream, ConnectError> {
        let address = instance.address;
        let opening = self.open_in_time(address, ends, troubles);
        let stream = self.in_time(address, opening).await??;
        instance
            .totals
            .connections
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(stream)
    }

    /// Waits as long as connecting may take.
    async fn in_time<T>(
        &self,
        address: SocketAddr,
        work: impl Future<Output = T>,
    ) -> Result<T, ConnectError> {
        match patiently(self.timeout, work).await {
            Waited::Done(done) => Ok(done),
            Waited::Over => Err(ConnectError::TimedOut(address, self.timeout)),
            Waited::Late(late) => {
                let reason = format!("woke up {late:?} late");
                Err(ConnectError::Own(address, Kind::Late, reason))
            }
        }
    }

    async fn open_in_time(
        &self,
        address: SocketAddr,
        (client, local): (SocketAddr, SocketAddr),
        troubles: &Troubles,
    ) -> Result<Stream, ConnectError> {
        let refused = |error| ConnectError::io(address, error);
        // Files are read first, so that the instance sees no connection without a handshake.
        let tls = match &self.tls {
            Some(tls) => {
                let mut tls = tls.lock().await;
                let unusable = |reason: String| ConnectError::Own(address, Kind::TlsFiles, reason);
                let deadline = Deadline::after(self.timeout);
                let refreshed = tls.refresh(&deadline).await;
                match (refreshed, tls.connector(address.ip())) {
                    (Ok(()), Ok(ready)) => Some(ready),
                    // What was read before is still good.
                    (Err(error), Ok(ready)) => {
                        let _ = unusable(error.to_string()).is_own(troubles);
                        Some(ready)
                    }
                    (Err(error), Err(_)) | (Ok(()), Err(error)) => {
                        return Err(unusable(error.to_string()));
                    }
                }
            }
            None => None,
        };
        let mut stream = TcpStream::connect(address).await.map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        if self.sends_proxy {
            let header = proxy_protocol::header(client, local);
            stream.write_all(&header).await.map_err(refused)?;
        }
        match tls {
            None => Ok(Stream::Plain(stream)),
            Some((connector, name)) => connector
                .connect(name, stream)
                .await
                .map(|stream| Stream::Tls(Box::new(stream.into())))
                .map_err(|error| ConnectError::Tls(address, error.to_string())),
        }
    }

    /// Returns a connection for a request: an idle one, or a new one. With `is_new` always a new one, over HTTP/1.1.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connection(
        &self,
        instance: &Arc<Instance>,
        ends: (SocketAddr, SocketAddr),
        is_new: bool,
        troubles: &Troubles,
    ) -> Result<Connection, ConnectError> {
        match self.protocol {
            Protocol::Http1 => {
                if !is_new && !self.sends_proxy {
                    while let Some(mut sender) = instance.pool.take() {
                        // The connection's task may not have noticed the end of the last answer yet.
                        if poll_fn(|context| sender.poll_ready(context)).await.is_ok() {
                            return Ok(Connection::Http1 {
                                sender,
                                is_reused: true,
                            });
                        }
                    }
                }
                self.http1(instance, ends, troubles).await
            }
            Protocol::Http2 if self.sends_proxy => self.http2(instance, ends, troubles).await,
            Protocol::Http2 => {
                if let Some((sender, stream)) = instance.pool.stream() {
                    return Ok(Connection::Http2 { sender, stream });
                }
                let opening = instance.pool.opening();
                let _turn = opening.lock().await;
                // Somebody else may have opened one meanwhile.
                if let Some((sender, stream)) = instance.pool.stream() {
                    return Ok(Connection::Http2 { sender, stream });
                }
                self.http2(instance, ends, troubles).await
            }
        }
    }

    async fn http1(
        &self,
        instance: &Arc<Instance>,
        ends: (SocketAddr, SocketAddr),
        troubles: &Troubles,
    ) -> Result<Connection, ConnectError> {
        let stream = self.open(instance, ends, troubles).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Http(instance.address, error))?;
        // An error of the connection is also the error of its request.
        tokio::spawn(connection.with_upgrades());
        Ok(Connection::Http1 {
            sender,
            is_reused: false,
        })
    }

    async fn http2(
        &self,
        instance: &Arc<Instance>,
        ends: (SocketAddr, SocketAddr),
        troubles: &Troubles,
    ) -> Result<Connection, ConnectError> {
        let stream = self.open(instance, ends, troubles).await?;
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADER_LIST)
            .keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .handshake(TokioIo::new(stream));
        let shaken = self.in_time(instance.address, handshake).await?;
        let (sender, connection) =
            shaken.map_err(|error| ConnectError::Http(instance.address, error))?;
        tokio::spawn(connection);
        let stream = match self.sends_proxy {
            true => SharedStream::alone(),
            false => instance.pool.share(&sender),
        };
        Ok(Connection::Http2 { sender, stream })
    }
}
