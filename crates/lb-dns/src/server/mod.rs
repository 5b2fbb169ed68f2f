//! The server that answers for the zone.

mod failures;
mod tcp;
mod udp;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use lb_model::dns::DnsSpec;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
    task::JoinSet,
};

use crate::{Counters, Zone};

/// How often another port is tried if the kernel's choice for TCP is taken for UDP.
const PORT_ATTEMPTS: u32 = 16;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// The zone that is answered from. It is swapped as a whole, and an answer is made from one snapshot without a lock.
///
/// One task owns the zone: it changes its copy and publishes a clone, which costs the names of the changed project only.
#[derive(Clone, Debug)]
pub struct SharedZone(Arc<ArcSwap<Zone>>);

impl SharedZone {
    /// Begins with a zone.
    #[must_use]
    pub fn new(zone: Zone) -> Self {
        SharedZone(Arc::new(ArcSwap::from_pointee(zone)))
    }

    /// Makes this the zone of all answers from now on.
    pub fn publish(&self, zone: Zone) {
        self.0.store(Arc::new(zone));
    }

    /// Returns the zone that is answered from.
    #[must_use]
    pub fn load(&self) -> Arc<Zone> {
        self.0.load_full()
    }
}

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error(
        "listening on {address} ({transport}) for DNS failed ({source}); free the port, or give another address in dns.listen"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        transport: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A socket works no more.
    #[error("the DNS server's {transport} socket on {address} works no more ({source})")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        transport: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A task of the server panicked, which is a fault of the program.
    #[error("a task of the DNS server ended by itself: {0}")]
    Task(String),
}

/// What the tasks of a server share.
#[derive(Debug)]
struct Shared {
    zone: SharedZone,
    counters: Arc<Counters>,
    transfer: Vec<IpNet>,
    queries_per_second: u32,
    tcp_connections: usize,
    tcp_idle: Duration,
}

/// A server that has its sockets and does not answer yet.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    sockets: Vec<(SocketAddr, UdpSocket, TcpListener)>,
}

impl Server {
    /// Listens on the addresses of the settings, by UDP and TCP. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// Returns the address that cannot be listened on.
    pub fn bind(spec: &DnsSpec, zone: SharedZone) -> Result<Self, ServeError> {
        Self::bind_to(&spec.listen, spec, zone)
    }

    /// Listens on these addresses. For port 0 the kernel chooses one.
    ///
    /// # Errors
    /// See [`Server::bind`].
    pub fn bind_to(
        listen: &[SocketAddr],
        spec: &DnsSpec,
        zone: SharedZone,
    ) -> Result<Self, ServeError> {
        let shared = Shared {
            zone,
            counters: Arc::default(),
            transfer: spec.transfer.iter().map(|clients| clients.0).collect(),
            queries_per_second: spec.queries_per_second,
            tcp_connections: usize::try_from(spec.tcp_connections).unwrap_or(usize::MAX),
            tcp_idle: spec.tcp_idle,
        };
        let sockets = listen.iter().map(|address| bind_both(*address));
        Ok(Server {
            shared: Arc::new(shared),
            sockets: sockets.collect::<Result<_, _>>()?,
        })
    }

    /// Returns the addresses that are listened on.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(address, ..)| *address).collect()
    }

    /// Returns the counters.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Answers until `stopping` becomes true or its sender is dropped. Then answers that are under way are finished.
    ///
    /// # Errors
    /// Returns why a socket works no more; the other ones are closed then.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) -> Result<(), ServeError> {
        let mut tasks = JoinSet::new();
        for (address, udp, tcp) in self.sockets {
            tasks.spawn(udp::serve(
                address,
                udp,
                Arc::clone(&self.shared),
                stopping.clone(),
            ));
            tasks.spawn(tcp::serve(
                address,
                tcp,
                Arc::clone(&self.shared),
                stopping.clone(),
            ));
        }
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    Some(Ok(result)) => result?,
                    Some(Err(error)) => return Err(ServeError::Task(error.to_string())),
                    None => break,
                },
            }
        }
        // Without an address there is nothing to do but to wait.
        stopped(&mut stopping).await;
        Ok(())
    }
}

/// Waits until the server is to end. A dropped sender also ends it.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Binds an address for both transports, to the same port.
fn bind_both(address: SocketAddr) -> Result<(SocketAddr, UdpSocket, TcpListener), ServeError> {
    let mut attempt = 1;
    loop {
        let error = |transport| {
            move |source| ServeError::Listen {
                address,
                transport,
                source,
            }
        };
        let tcp = bind_tcp(address).map_err(error("TCP"))?;
        let bound = tcp.local_addr().map_err(error("TCP"))?;
        match udp::bind(bound) {
            Ok(udp) => return Ok((bound, udp, tcp)),
            Err(source)
                if address.port() == 0
                    && attempt < PORT_ATTEMPTS
                    && source.kind() == io::ErrorKind::AddrInUse =>
            {
                attempt += 1;
            }
            Err(source) => return Err(error("UDP")(source)),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    // Connections of a server that has ended may linger on the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // So that [::]:53 and 0.0.0.0:53 can both be listened on.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{Shutdown, shutdown};
    use std::os::fd::AsRawFd as _;

    use super::*;
    use crate::{Serial, zone::tests::spec};

    fn server(listen: &[&str]) -> Server {
        let listen: Vec<SocketAddr> = listen.iter().map(|text| text.parse().unwrap()).collect();
        let zone = SharedZone::new(Zone::new(&spec(), Serial::new(1)));
        Server::bind_to(&listen, &spec(), zone).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_is_broken_ends_the_server_with_the_reason() {
        let server = server(&["127.0.0.1:0", "127.0.0.1:0"]);
        let broken = server.addresses()[1];
        shutdown(server.sockets[1].2.as_raw_fd(), Shutdown::Both).unwrap();
        let (_stop, stopping) = watch::channel(false);
        let error = server.run(stopping).await.unwrap_err().to_string();
        let words = format!("the DNS server's TCP socket on {broken} works no more (");
        assert!(error.starts_with(&words), "{error}");
    }

    #[tokio::test]
    async fn a_dropped_sender_ends_the_server_and_so_does_one_without_addresses() {
        for listen in [&["127.0.0.1:0"][..], &[]] {
            let (stop, stopping) = watch::channel(false);
            drop(stop);
            server(listen).run(stopping).await.unwrap();
        }
    }
}
