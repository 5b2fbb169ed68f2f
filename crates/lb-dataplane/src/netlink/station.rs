//! The MAC addresses by which frames are for this host on an interface.

use std::io;

use lb_common::station::MAX_OTHERS;
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

use super::socket::Requests;

/// Interfaces above each other that are followed: a bond in a bridge, and some more.
const MAX_DEPTH: usize = 4;

/// What matters of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    index: u32,
    mac: Option<[u8; 6]>,
    /// The bridge or bond that it belongs to.
    master: Option<u32>,
    /// The interface of this network namespace that it is on top of.
    lower: Option<u32>,
    kind: Option<InfoKind>,
    up: bool,
}

impl Link {
    fn read(message: &LinkMessage) -> Link {
        let mut link = Link {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            ..Link::default()
        };
        let mut lower_is_elsewhere = false;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
                LinkAttribute::Controller(index) => link.master = Some(*index),
                LinkAttribute::Link(index) => link.lower = Some(*index),
                LinkAttribute::LinkNetNsId(_) => lower_is_elsewhere = true,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.clone()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        if lower_is_elsewhere {
            link.lower = None;
        }
        link
    }

    /// Whether it has a MAC address of its own that the interface below receives by: VRRP's are such.
    fn is_macvlan(&self) -> bool {
        self.up && matches!(self.kind, Some(InfoKind::MacVlan | InfoKind::MacVtap))
    }

    /// Whether its members receive by addresses of their own: so do those of some modes of bonding.
    fn is_bond(&self) -> bool {
        match &self.kind {
            Some(InfoKind::Bond) => true,
            Some(InfoKind::Other(kind)) => kind == "team",
            _ => false,
        }
    }
}

/// Every interface of this network namespace.
pub(crate) fn links(requests: &mut Requests) -> io::Result<Vec<Link>> {
    let answers = requests.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(Link::read(message)),
            _ => None,
        })
        .collect())
}

/// The MAC addresses of the interface with this index: its own, then those of the bridge or bond it belongs to, of
/// macvlan interfaces on top of it, and of its members if it is a bond. The list is empty if its own is not known:
/// then it has no Ethernet address, or it is gone.
pub(crate) fn addresses(links: &[Link], index: u32) -> Vec<[u8; 6]> {
    let find = |index: u32| links.iter().find(|link| link.index == index);
    let Some((link, own)) = find(index).and_then(|link| Some((link, link.mac?))) else {
        return Vec::new();
    };
    let mut addresses = vec![own];
    let mut add = |link: &Link| {
        if let Some(mac) = link.mac
            && mac != [0; 6]
            && !addresses.contains(&mac)
        {
            addresses.push(mac);
        }
    };
    let mut above = link.master;
    for _ in 0..MAX_DEPTH {
        let Some(master) = above.and_then(find) else {
            break;
        };
        add(master);
        above = master.master;
    }
    for other in links {
        if other.is_macvlan() && other.lower == Some(index) {
            add(other);
        }
    }
    if link.is_bond() {
        for member in links {
            if member.master == Some(index) {
                add(member);
            }
        }
    }
    if addresses.len() > 1 + MAX_OTHERS {
        tracing::warn!(
            "interface {index} receives by {} MAC addresses; frames to the last {} are left to the host",
            addresses.len(),
            addresses.len() - 1 - MAX_OTHERS
        );
        addresses.truncate(1 + MAX_OTHERS);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, kind: Option<InfoKind>) -> Link {
        Link {
            index,
            mac: Some([2, 0, 0, 0, 0, index as u8]),
            kind,
            up: true,
            ..Link::default()
        }
    }

    /// The last bytes of the addresses of an interface.
    fn of(links: &[Link], index: u32) -> Vec<u8> {
        addresses(links, index).iter().map(|mac| mac[5]).collect()
    }

    #[test]
    fn an_interface_receives_by_its_own_address() {
        let links = [link(1, None), link(2, None)];
        assert_eq!(of(&links, 2), [2]);
        assert!(of(&links, 3).is_empty(), "it is gone");
        let tunnel = [Link {
            mac: None,
            ..link(5, None)
        }];
        assert!(of(&tunnel, 5).is_empty());
    }

    #[test]
    fn a_member_receives_for_its_bridge_and_its_bond() {
        let links = [
            Link {
                master: Some(3),
                ..link(2, None)
            },
            Link {
                master: Some(4),
                ..link(3, Some(InfoKind::Bond))
            },
            link(4, Some(InfoKind::Bridge)),
            Link {
                master: Some(4),
                ..link(5, None)
            },
        ];
        assert_eq!(of(&links, 2), [2, 3, 4]);
        assert_eq!(of(&links, 3), [3, 4, 2], "a bond receives for its members");
        assert_eq!(of(&links, 4), [4], "a bridge's ports are other stations");
    }

    #[test]
    fn an_interface_receives_for_macvlans_that_are_up() {
        let macvlan = |index| Link {
            lower: Some(2),
            ..link(index, Some(InfoKind::MacVlan))
        };
        let links = [
            link(2, None),
            macvlan(7),
            Link {
                up: false,
                ..macvlan(8)
            },
            Link {
                kind: Some(InfoKind::Vlan),
                ..macvlan(9)
            },
            Link {
                lower: Some(3),
                ..macvlan(10)
            },
        ];
        assert_eq!(of(&links, 2), [2, 7]);
        // As many as the program has room for, each once.
        let mut many = vec![link(2, None), link(2, None)];
        many.extend((20..40).flat_map(|index| [macvlan(index), macvlan(index)]));
        let addresses = of(&many, 2);
        assert_eq!(addresses[0], 2);
        assert_eq!(addresses[1..], [20, 21, 22, 23, 24, 25, 26]);
    }

    #[test]
    fn masters_that_are_in_a_circle_end() {
        let links = [Link {
            master: Some(2),
            ..link(2, None)
        }];
        assert_eq!(of(&links, 2), [2]);
    }
}
