//! A UDP client of an echo server.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use anyhow::Context as _;

use super::REQUEST_TIMEOUT;
use crate::{Namespace, wait_for};

/// Sends `payload` from this port (0 for any) and returns the answer. The socket is connected, so datagrams from other
/// addresses than `target` are not received.
///
/// # Errors
/// Fails if no answer arrives in time.
pub fn udp_exchange(
    namespace: &Namespace,
    source_port: u16,
    target: SocketAddr,
    payload: &[u8],
) -> anyhow::Result<Vec<u8>> {
    let any = if target.is_ipv4() {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let exchange = namespace.enter(|| -> anyhow::Result<Vec<u8>> {
        let socket = bind((any, source_port).into())?;
        socket.set_read_timeout(Some(REQUEST_TIMEOUT))?;
        socket.connect(target)?;
        socket.send(payload).context("sending")?;
        let mut answer = vec![0; 65_536];
        let length = socket.recv(&mut answer).context("waiting for an answer")?;
        answer.truncate(length);
        Ok(answer)
    })?;
    exchange.with_context(|| format!("sending to {target}/udp in {}", namespace.label()))
}

/// Binds a socket. The port of a socket that was just closed may be in use for a moment: a process that another test is
/// starting holds a copy of it until it executes its program.
fn bind(address: SocketAddr) -> anyhow::Result<UdpSocket> {
    wait_for(
        "the port to be free",
        REQUEST_TIMEOUT,
        || match UdpSocket::bind(address) {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error).with_context(|| format!("binding {address}")),
        },
    )
}
