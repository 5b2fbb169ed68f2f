//! Clients: listening sockets, the choice of the protocol, and the life of a connection.

pub mod handover;
mod head;
mod http;
pub mod socket;
mod tcp;
pub mod tls;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::FutureExt as _;
use nix::errno::Errno;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    config::{Clients, ListenerSettings},
    http::Client,
    net::{Stream, limit_unread},
    proxy::Shared,
    proxy_protocol,
    trouble::Kind,
};

/// How long to wait when the system has no file descriptor for another connection.
const BACKOFF: Duration = Duration::from_millis(100);

/// Whether a thread serves or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It accepts connections.
    Serving,
    /// It accepts none, and those that are open end.
    Draining,
}

/// Waits until a thread ends.
pub async fn draining(phase: &mut watch::Receiver<Phase>) {
    // A dropped sender also ends it.
    let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
}

/// A listener as all threads see it. A reload swaps its settings and certificates; new connections get them.
#[derive(Debug)]
pub struct Listener {
    /// The address that is listened on.
    pub address: SocketAddr,
    /// The settings.
    pub settings: ArcSwap<ListenerSettings>,
    /// The certificates.
    pub tls: ArcSwapOption<ServerConfig>,
}

/// Accepts the connections of a socket until the phase changes or `stop` is dropped.
///
/// # Errors
/// The socket is no listening socket any more.
pub async fn accept(
    socket: TcpListener,
    listener: Arc<Listener>,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    mut stop: watch::Receiver<()>,
) -> io::Result<()> {
    let mut ending = phase.clone();
    let serve_one = |room, stream, peer| {
        let (listener, shared, phase) = (Arc::clone(&listener), Arc::clone(&shared), phase.clone());
        tokio::spawn(async move {
            shared.totals.connections.fetch_add(1, Relaxed);
            shared.totals.open_connections.fetch_add(1, Relaxed);
            let _open = Open(&shared);
            if let Err(error) = serve(stream, peer, &listener, &shared, phase).await {
                tracing::debug!("a connection from {peer} failed: {error}");
            }
            drop(room);
        });
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = draining(&mut ending) => break,
            _ = stop.changed() => break,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => match Refusal::of(&error) {
                Refusal::Socket => return Err(error),
                Refusal::Client => {
                    tracing::debug!("accepting a connection on {}: {error}", listener.address);
                    continue;
                }
                Refusal::Host => {
                    let what = format!("accepting on {}: {error}", listener.address);
                    shared.troubles.observe(Kind::Accept, what);
                    sleep(BACKOFF).await;
                    continue;
                }
            },
        };
        // A connection above the limit waits here, and others in the queue of the system. The semaphore is never closed.
        let room = Arc::clone(&shared.room).acquire_owned().await.ok();
        serve_one(room, stream, peer);
    }
    // Those that wait would be reset when the socket is closed.
    while let Some(Ok((stream, peer))) = socket.accept().now_or_never() {
        serve_one(None, stream, peer);
    }
    Ok(())
}

/// Why there is no connection to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The socket is closed, or no socket that listens.
    Socket,
    /// The client's connection failed before it was accepted (accept(2)).
    Client,
    /// The host lacks descriptors or memory. The connection waits.
    Host,
}

impl Refusal {
    fn of(error: &io::Error) -> Self {
        let is = |errno: &Errno| error.raw_os_error() == Some(*errno as i32);
        let of_socket = [Errno::EBADF, Errno::EINVAL, Errno::ENOTSOCK, Errno::EFAULT];
        let of_host = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
        match () {
            () if of_socket.iter().any(is) => Refusal::Socket,
            () if of_host.iter().any(is) => Refusal::Host,
            () => Refusal::Client,
        }
    }
}

struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.totals.open_connections.fetch_sub(1, Relaxed);
    }
}

async fn serve(
    mut stream: TcpStream,
    mut peer: SocketAddr,
    listener: &Listener,
    shared: &Arc<Shared>,
    phase: watch::Receiver<Phase>,
) -> io::Result<()> {
    let settings = listener.settings.load_full();
    stream.set_nodelay(true)?;
    limit_unread(&stream, settings.send_timeout)?;
    let mut local = stream.local_addr()?;
    let failed = |error| {
        shared.totals.failed_connections.fetch_add(1, Relaxed);
        Err(error)
    };
    if settings.proxy_protocol {
        match timeout(settings.head_timeout, proxy_protocol::read(&mut stream)).await {
            Ok(Ok(Some(named))) => (peer, local) = named,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => return failed(error),
            Err(_) => return failed(io::ErrorKind::TimedOut.into()),
        }
    }
    let (stream, is_http2) = match listener.tls.load_full() {
        Some(config) => {
            let accepted = TlsAcceptor::from(config).accept(stream);
            let stream = match timeout(settings.head_timeout, accepted).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return failed(error),
                Err(_) => return failed(io::ErrorKind::TimedOut.into()),
            };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            (Stream::Tls(Box::new(stream.into())), Some(is_http2))
        }
        None => (Stream::Plain(stream), None),
    };
    let scheme = if is_http2.is_some() { "https" } else { "http" };
    let client = Arc::new(Client::new(
        Arc::clone(shared),
        Arc::clone(&settings),
        peer,
        local,
        scheme,
    ));
    match settings.protocol {
        Clients::Tcp => tcp::serve(stream, &client).await,
        Clients::Http => http::serve(stream, client, is_http2, phase).await,
    }
}
