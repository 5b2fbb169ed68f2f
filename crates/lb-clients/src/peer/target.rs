//! The destination of a connection.

use std::net::SocketAddr;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpSocket, TcpStream};

use super::{Deadline, PeerError};

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

/// Connects over TCP.
///
/// # Errors
/// Refused, unreachable, timed out, or refused by the operating system.
pub async fn connect(target: &Target, deadline: &Deadline) -> Result<TcpStream, PeerError> {
    let socket = match target.address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(|error| PeerError::io("opening a socket", &error))?;
    target.set_mark(&socket)?;
    // A request is one small segment that should not wait for another.
    socket
        .set_nodelay(true)
        .map_err(|error| PeerError::io("setting TCP_NODELAY", &error))?;
    deadline
        .bound(CONNECTING, async {
            socket
                .connect(target.address)
                .await
                .map_err(|error| PeerError::io(CONNECTING, &error))
        })
        .await
}
