//! Who is at the other end of a connection, as far as the connection itself tells.

use std::{fmt, net::SocketAddr, sync::Arc};

use tokio::net::{TcpStream, UnixStream};

use crate::Counted;

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine, by a Unix socket. The kernel says whose it was when it connected.
    Unix {
        /// The user.
        user: u32,
        /// The process, if that is known.
        process: Option<i32>,
    },
    /// Somebody, by TCP.
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The names of the certificate by which the client proved who it is: checked against the authorities that the
        /// server trusts.
        names: Arc<[String]>,
    },
    /// It was gone before anybody could look.
    Unknown,
}

impl Peer {
    /// Whether it is a process of this machine: by a Unix socket, or from a loopback address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Peer::Unix { .. } => true,
            Peer::Tcp { address, .. } => address.ip().to_canonical().is_loopback(),
            Peer::Unknown => false,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Unix { user, process } => {
                write!(f, "unix:user={user}")?;
                match process {
                    Some(process) => write!(f, ",process={process}"),
                    None => Ok(()),
                }
            }
            Peer::Tcp { address, .. } => address.fmt(f),
            Peer::Unknown => f.write_str("unknown"),
        }
    }
}

/// A connection that knows its other end.
pub trait HasPeer {
    /// The other end.
    fn peer(&self) -> Peer;
}

impl HasPeer for TcpStream {
    fn peer(&self) -> Peer {
        match self.peer_addr() {
            Ok(address) => Peer::Tcp {
                address,
                names: Arc::default(),
            },
            Err(_) => Peer::Unknown,
        }
    }
}

impl HasPeer for UnixStream {
    fn peer(&self) -> Peer {
        match self.peer_cred() {
            Ok(credentials) => Peer::Unix {
                user: credentials.uid(),
                process: credentials.pid(),
            },
            Err(_) => Peer::Unknown,
        }
    }
}

impl<S: HasPeer> HasPeer for Counted<S> {
    fn peer(&self) -> Peer {
        self.get_ref().peer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_says_who_connected() {
        let (one, _other) = UnixStream::pair().unwrap();
        let Peer::Unix { user, process } = one.peer() else {
            panic!("no credentials");
        };
        assert_eq!(user, nix::unistd::geteuid().as_raw());
        assert_eq!(process, i32::try_from(std::process::id()).ok());
        assert!(one.peer().is_local());
    }

    #[test]
    fn loopback_addresses_are_local() {
        for (address, is_local) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[2001:db8::1]:1", false),
        ] {
            let peer = Peer::Tcp {
                address: address.parse().unwrap(),
                names: Arc::default(),
            };
            assert_eq!(peer.is_local(), is_local, "{address}");
        }
    }
}
