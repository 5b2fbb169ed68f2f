//! The destination of a connection.

use std::{net::SocketAddr, os::fd::AsRawFd as _};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, setsockopt, socket,
        sockopt,
    },
};
use tokio::net::TcpStream;

use super::{Deadline, PeerError, descriptors};

const CONNECTING: &str = "connecting";

/// The destination of a connection, and the way its packets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    /// `SO_MARK` of the socket. Packets of a socket with a real's mark are forwarded to that real as clients' packets
    /// are; `address` is the VIP's own then.
    pub mark: Option<u32>,
}

impl Target {
    /// Marks a socket that sends to this target.
    ///
    /// # Errors
    /// The process lacks `CAP_NET_ADMIN`.
    pub fn set_mark(&self, socket: &impl std::os::fd::AsFd) -> Result<(), PeerError> {
        let Some(mark) = self.mark else {
            return Ok(());
        };
        setsockopt(socket, sockopt::Mark, &mark).map_err(|error| PeerError::Local {
            doing: "marking the socket for the tunnel (the agent needs CAP_NET_ADMIN)",
            reason: error.to_string(),
        })
    }
}

/// How a connection ends when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Both ends say goodbye. Of the two, the one that does so first keeps the port for a minute (TIME_WAIT).
    Orderly,
    /// With a reset, which leaves nothing behind: for the short connections of probes. Thousands of them a minute to
    /// one address, a VIP's, would use up the ports of this host.
    Reset,
}

/// Connects over TCP.
///
/// # Errors
/// Refused, unreachable, timed out, or refused by the operating system.
pub async fn connect(
    target: &Target,
    closing: Closing,
    deadline: &Deadline,
) -> Result<TcpStream, PeerError> {
    let stream = begin(target, closing)?;
    deadline
        .bound(CONNECTING, async {
            let failed = |error: std::io::Error| PeerError::io(CONNECTING, &error);
            stream.writable().await.map_err(failed)?;
            match stream.take_error().map_err(failed)? {
                Some(error) => Err(failed(error)),
                None => Ok(()),
            }
        })
        .await?;
    Ok(stream)
}

/// Begins to connect. What fails here is this host's own trouble, save for a refusal: no packet of a peer has come yet. So
/// a missing route is told from a router that knows none.
fn begin(target: &Target, closing: Closing) -> Result<TcpStream, PeerError> {
    let local = |doing| move |errno: Errno| PeerError::local(doing, &errno.into());
    let family = match target.address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket =
        descriptors::open(|| Ok(socket(family, SockType::Stream, flags, SockProtocol::Tcp)?))
            .map_err(|error| PeerError::local("opening a socket", &error))?;
    target.set_mark(&socket)?;
    // A request is one small segment that should not wait for another.
    setsockopt(&socket, sockopt::TcpNoDelay, &true).map_err(local("setting TCP_NODELAY"))?;
    if closing == Closing::Reset {
        let at_once = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&socket, sockopt::Linger, &at_once).map_err(local("setting SO_LINGER"))?;
    }
    let address = SockaddrStorage::from(target.address);
    match nix::sys::socket::connect(socket.as_raw_fd(), &address) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(Errno::ECONNREFUSED) => return Err(PeerError::Refused),
        Err(errno @ (Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES)) => {
            return Err(local("finding a route")(errno));
        }
        Err(errno) => return Err(local(CONNECTING)(errno)),
    }
    TcpStream::from_std(socket.into())
        .map_err(|error| PeerError::local("waiting for a connection", &error))
}
