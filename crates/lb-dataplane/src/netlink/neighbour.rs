//! MAC addresses of neighbours.

use std::{io, net::IpAddr};

use rtnetlink::{
    packet_core::NLM_F_CREATE,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
        },
    },
};

use super::socket::Requests;

/// State of a neighbour in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Neighbour {
    /// Its MAC address, confirmed a short time ago or about to be.
    Known([u8; 6]),
    /// Its MAC address, not confirmed for a while.
    Stale([u8; 6]),
    /// It did not answer.
    Failed,
    /// It was not solicited yet, or its answer is awaited.
    Unknown,
}

fn message(interface: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = interface;
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message
        .attributes
        .push(NeighbourAttribute::Destination(match address {
            IpAddr::V4(a) => NeighbourAddress::Inet(a),
            IpAddr::V6(a) => NeighbourAddress::Inet6(a),
        }));
    message
}

/// Looks a neighbour up in the kernel's cache (Linux 5.0).
pub(crate) fn look_up(
    requests: &mut Requests,
    interface: u32,
    address: IpAddr,
) -> io::Result<Neighbour> {
    let question = RouteNetlinkMessage::GetNeighbour(message(interface, address));
    match requests.request(question, 0) {
        Ok(Some(RouteNetlinkMessage::NewNeighbour(neighbour))) => Ok(read(&neighbour)),
        Ok(_) => Ok(Neighbour::Unknown),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Neighbour::Unknown),
        Err(error) => Err(error),
    }
}

/// The address that a notification about a neighbour names.
pub(crate) fn address(neighbour: &NeighbourMessage) -> Option<IpAddr> {
    neighbour
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => Some(IpAddr::V4(*a)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
            _ => None,
        })
}

fn read(neighbour: &NeighbourMessage) -> Neighbour {
    let mac = neighbour
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                <[u8; 6]>::try_from(bytes.as_slice()).ok()
            }
            _ => None,
        });
    match (neighbour.header.state, mac) {
        (NeighbourState::Failed, _) => Neighbour::Failed,
        (NeighbourState::Stale, Some(mac)) => Neighbour::Stale(mac),
        (
            NeighbourState::Reachable
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp,
            Some(mac),
        ) => Neighbour::Known(mac),
        _ => Neighbour::Unknown,
    }
}

/// Makes the kernel solicit a neighbour, as if a packet were to be sent to it.
pub(crate) fn solicit(requests: &mut Requests, interface: u32, address: IpAddr) -> io::Result<()> {
    let mut solicitation = message(interface, address);
    solicitation.header.flags = NeighbourFlags::Use;
    requests.change(
        RouteNetlinkMessage::NewNeighbour(solicitation),
        NLM_F_CREATE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read() {
        let mac = [2, 0, 0, 0, 0, 1];
        for (state, with_mac, expected) in [
            (NeighbourState::Reachable, true, Neighbour::Known(mac)),
            (NeighbourState::Permanent, true, Neighbour::Known(mac)),
            (NeighbourState::Probe, true, Neighbour::Known(mac)),
            (NeighbourState::Stale, true, Neighbour::Stale(mac)),
            (NeighbourState::Incomplete, false, Neighbour::Unknown),
            (NeighbourState::Reachable, false, Neighbour::Unknown),
            (NeighbourState::Failed, true, Neighbour::Failed),
        ] {
            let mut neighbour = message(3, "10.0.0.1".parse().unwrap());
            neighbour.header.state = state;
            if with_mac {
                neighbour
                    .attributes
                    .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
            }
            assert_eq!(read(&neighbour), expected, "{state:?}");
        }
    }
}
