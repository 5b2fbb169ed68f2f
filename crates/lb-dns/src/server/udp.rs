//! Answers by UDP.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd as _,
    sync::Arc,
    time::Instant,
};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Protocol, Type};
use tokio::{io::Interest, net::UdpSocket, sync::watch};

use super::{ServeError, Shared, failures::Failures, new_socket, stopped};
use crate::{
    answer::{Responder, Transport},
    limiter::{Limiter, Verdict},
};

/// The longest query that is read. Longer ones are cut, and cannot be read then.
const MAX_QUERY: usize = 4_096;

/// Binds a socket. One for all addresses of the host learns to which of them each query was sent.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    if address.ip().is_unspecified() {
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Answers queries one by one: an answer takes microseconds.
pub(super) async fn serve(
    address: SocketAddr,
    socket: UdpSocket,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let mut limiter = Limiter::new(shared.queries_per_second, Instant::now());
    let mut buffer = vec![0; MAX_QUERY];
    let mut failures = Failures::new(address, "UDP");
    loop {
        let received = tokio::select! {
            biased;
            () = stopped(&mut stopping) => return Ok(()),
            received = receive(&socket, &mut buffer) => received,
        };
        let (length, client, local) = match received {
            Ok(received) => received,
            // The kernel may also report what became of an earlier answer.
            Err(error) => {
                failures.wait(error).await?;
                continue;
            }
        };
        failures.end();
        shared.counters.udp_messages.count();
        // Nobody has port 0.
        if client.port() == 0 {
            shared.counters.ignored.count();
            continue;
        }
        let answers = {
            let zone = shared.zone.load();
            let responder = Responder {
                zone: &zone,
                counters: &shared.counters,
                transfer: &shared.transfer,
            };
            let query = &buffer[..length];
            match limiter.query(client.ip(), Instant::now()) {
                Verdict::Answer => responder.respond(query, client.ip(), Transport::Udp),
                verdict => {
                    shared.counters.limited.count();
                    if verdict == Verdict::Truncate {
                        responder.truncated(query)
                    } else {
                        Vec::new()
                    }
                }
            }
        };
        for answer in &answers {
            // A client that cannot be reached now asks again.
            if send(&socket, answer, client, local.as_ref()).await.is_err() {
                shared.counters.unsent.count();
            }
        }
    }
}

/// Receives a message: its length, its sender, and the address it was sent to if the socket is for all of them.
async fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr, Option<ControlMessageOwned>)> {
    socket
        .async_io(Interest::READABLE, || {
            let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo);
            let mut parts = [IoSliceMut::new(buffer)];
            let message = recvmsg::<SockaddrStorage>(
                socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::empty(),
            )?;
            let client = message
                .address
                .as_ref()
                .and_then(socket_address)
                .ok_or(io::ErrorKind::InvalidData)?;
            Ok((message.bytes, client, message.cmsgs()?.next()))
        })
        .await
}

/// Sends a message from the address that the query was sent to: a client believes no answer from another one.
async fn send(
    socket: &UdpSocket,
    answer: &[u8],
    client: SocketAddr,
    local: Option<&ControlMessageOwned>,
) -> io::Result<usize> {
    let client = SockaddrStorage::from(client);
    let send = |control: &[ControlMessage<'_>]| {
        let parts = [IoSlice::new(answer)];
        sendmsg(
            socket.as_raw_fd(),
            &parts,
            control,
            MsgFlags::empty(),
            Some(&client),
        )
        .map_err(io::Error::from)
    };
    socket
        .async_io(Interest::WRITABLE, || match local {
            Some(ControlMessageOwned::Ipv4PacketInfo(info)) => {
                let mut info = *info;
                // The route decides the interface, not the query's.
                info.ipi_ifindex = 0;
                send(&[ControlMessage::Ipv4PacketInfo(&info)])
            }
            Some(ControlMessageOwned::Ipv6PacketInfo(info)) => {
                let mut info = *info;
                let link_local = info.ipi6_addr.s6_addr[0] == 0xfe;
                if !link_local {
                    info.ipi6_ifindex = 0;
                }
                send(&[ControlMessage::Ipv6PacketInfo(&info)])
            }
            _ => send(&[]),
        })
        .await
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    let v6 = storage.as_sockaddr_in6()?;
    Some(SocketAddrV6::from(*v6).into())
}
