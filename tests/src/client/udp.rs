//! A UDP client that asks an echo server.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use anyhow::Context as _;

use super::REQUEST_TIMEOUT;
use crate::{Namespace, wait_for};

/// Sends `payload` from the given port (0: any) and gives the answer. The socket is connected, so an answer
/// from another address than `target` is not taken for one.
///
/// # Errors
/// When no answer comes in time.
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
    exchange.with_context(|| format!("asking {target}/udp in {}", namespace.label()))
}

/// Binds a socket. The port of one that was just closed may be taken for a moment: a process that another
/// test is starting has a copy of it until it becomes its program.
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
