//! Listening sockets: one for each thread, so that the kernel spreads connections over the threads.

use std::{io, net::SocketAddr, net::TcpListener, time::Duration};

use nix::sys::socket::{setsockopt, sockopt::TcpNoDelay};
use socket2::{Domain, Protocol, Socket, Type};

use crate::net::limit_unread;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// Binds an address so many times. A port of 0 becomes one that is free.
///
/// # Errors
/// The system's: the address is in use, or is none of this host.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        // Sockets with SO_REUSEPORT would share the port with those of another proxy without an error.
        drop(one(address, false)?);
    }
    let first = one(address, true)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    while sockets.len() < count {
        sockets.push(one(address, true)?);
    }
    for socket in &sockets {
        listen(socket)?;
    }
    Ok(sockets)
}

/// Binds an address that this process or the one before has sockets of, once more.
///
/// # Errors
/// As [`bind`].
pub fn bind_another(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = one(address, true)?;
    listen(&socket)?;
    Ok(socket)
}

fn one(address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Gives a listening socket the options that its connections inherit (Linux): a system call for each less. `send_timeout` is
/// how long a client may read nothing of what was sent.
///
/// # Errors
/// The system's.
pub fn set_options(socket: &TcpListener, send_timeout: Duration) -> io::Result<()> {
    setsockopt(socket, TcpNoDelay, &true)?;
    limit_unread(socket, send_timeout)
}

fn listen(socket: &TcpListener) -> io::Result<()> {
    socket2::SockRef::from(socket).listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use nix::sys::socket::{getsockopt, sockopt::TcpUserTimeout};

    use super::*;

    #[test]
    fn connections_inherit_the_options_of_their_socket() {
        let socket = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        set_options(&socket, Duration::from_secs(7)).unwrap();
        socket.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        let (accepted, _) = socket.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
        assert_eq!(getsockopt(&accepted, TcpUserTimeout).unwrap(), 7_000);
    }

    #[test]
    fn an_address_that_is_served_is_not_shared() {
        let address = "127.0.0.1:0".parse().unwrap();
        let sockets = bind(address, 3).unwrap();
        let bound = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|one| one.local_addr().unwrap() == bound));
        let error = bind(bound, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        bind_another(bound).unwrap();
    }
}
