//! Links, which are the kernel's network interfaces: what is known of one, and the news that one has changed.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::{
    MulticastGroup,
    packet_route::{
        RouteNetlinkMessage,
        link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use tokio::sync::watch;

use super::socket::Requests;

/// Notifications come in bursts: how long to let one pass.
const BURST: Duration = Duration::from_millis(20);
/// How often the thread looks whether anybody still listens.
const ROUND: Duration = Duration::from_secs(1);

/// What the kernel says of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index. A link that is removed and created again has another one.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// Its MTU; 0 if the kernel does not say.
    pub mtu: u32,
    /// Its MAC address; `None` if it has no such address, as a tunnel.
    pub mac: Option<[u8; 6]>,
    /// Ids of the XDP programs on it.
    pub programs: Vec<u32>,
    /// Whether an XDP program runs in its driver.
    pub native: bool,
    /// Whether it is one end of a veth pair.
    pub is_veth: bool,
    /// Index of the other end of a veth pair.
    pub peer: Option<u32>,
    /// The network namespace of the other end, as this namespace numbers it; `None` if it is this namespace.
    pub peer_namespace: Option<i32>,
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            mtu: 0,
            mac: None,
            programs: Vec::new(),
            native: false,
            is_veth: false,
            peer: None,
            peer_namespace: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
                LinkAttribute::Link(index) => link.peer = Some(*index),
                LinkAttribute::LinkNetNsId(id) => link.peer_namespace = Some(*id),
                LinkAttribute::LinkInfo(info) => {
                    link.is_veth = info.contains(&LinkInfo::Kind(InfoKind::Veth));
                }
                LinkAttribute::Xdp(xdp) => {
                    for part in xdp {
                        match part {
                            LinkXdp::Attached(attached) => {
                                link.native = matches!(
                                    attached,
                                    XdpAttached::Driver
                                        | XdpAttached::Hardware
                                        | XdpAttached::Multiple
                                );
                            }
                            LinkXdp::ProgId(id)
                            | LinkXdp::DrvProgId(id)
                            | LinkXdp::SkbProgId(id)
                            | LinkXdp::HwProgId(id)
                                if *id != 0 && !link.programs.contains(id) =>
                            {
                                link.programs.push(*id);
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        link
    }
}

/// The link with this name; `None` if there is none.
pub(crate) fn by_name(requests: &mut Requests, name: &str) -> io::Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    look_up(requests, message)
}

/// The link with this index, in this namespace or in one that this namespace has a number for; `None` if there is
/// none.
pub(crate) fn by_index(
    requests: &mut Requests,
    index: u32,
    namespace: Option<i32>,
) -> io::Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    if let Some(id) = namespace {
        message.attributes.push(LinkAttribute::IfNetnsId(id));
    }
    look_up(requests, message)
}

fn look_up(requests: &mut Requests, message: LinkMessage) -> io::Result<Option<Link>> {
    match requests.request(RouteNetlinkMessage::GetLink(message), 0) {
        Ok(Some(RouteNetlinkMessage::NewLink(link))) => Ok(Some(Link::from(&link))),
        Ok(_) => Err(io::Error::other(
            "the kernel's answer does not describe an interface",
        )),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Listens to the kernel's notifications about links, in the network namespace of the calling thread. The receiver is
/// notified after each burst of them, and closed if the listening thread ends. The thread ends when the last receiver
/// is dropped.
///
/// # Errors
/// If the kernel grants no rtnetlink socket or no thread.
pub fn watch_links() -> io::Result<watch::Receiver<()>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(
        0,
        1_u32 << (MulticastGroup::Link as u32 - 1),
    ))?;
    socket.set_non_blocking(true)?;
    let (changed, receiver) = watch::channel(());
    std::thread::Builder::new()
        .name("links".to_owned())
        .spawn(move || listen(&socket, &changed))?;
    Ok(receiver)
}

fn listen(socket: &Socket, changed: &watch::Sender<()>) {
    let mut buffer = Vec::with_capacity(1 << 16);
    while !changed.is_closed() {
        // SAFETY: the socket is borrowed for as long as this loop runs.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(ROUND).unwrap_or(PollTimeout::NONE);
        if poll(&mut fds, timeout).unwrap_or(0) <= 0 {
            continue;
        }
        std::thread::sleep(BURST);
        loop {
            buffer.clear();
            match socket.recv(&mut buffer, 0) {
                Ok(_) => {}
                // Some notifications were lost; there is one to give all the same.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => break,
            }
        }
        changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read() {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        message.attributes = vec![
            LinkAttribute::IfName("eth7".to_owned()),
            LinkAttribute::Mtu(1_500),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 7]),
            LinkAttribute::Link(9),
            LinkAttribute::LinkNetNsId(3),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
            LinkAttribute::Xdp(vec![
                LinkXdp::Attached(XdpAttached::Driver),
                LinkXdp::ProgId(41),
                LinkXdp::DrvProgId(41),
            ]),
        ];
        let expected = Link {
            index: 7,
            name: "eth7".to_owned(),
            up: true,
            carrier: true,
            mtu: 1_500,
            mac: Some([2, 0, 0, 0, 0, 7]),
            programs: vec![41],
            native: true,
            is_veth: true,
            peer: Some(9),
            peer_namespace: Some(3),
        };
        assert_eq!(Link::from(&message), expected);
        message.header.flags = LinkFlags::empty();
        message.attributes.truncate(1);
        let bare = Link::from(&message);
        assert!(!bare.up && !bare.carrier && bare.programs.is_empty() && bare.mac.is_none());
    }
}
