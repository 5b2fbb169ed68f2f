//! The interfaces of this host, as the kernel lists them, and what is done with them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Error, Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVxlan,
    packet_core::{
        NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    },
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::AddressAttribute,
        link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
        },
    },
};

use super::{
    Bridge, Mend, Vxlan,
    plan::{self, Link, Seen, VxlanLink},
};
use crate::network::netlink::{set, sysctl, sysctl_v6};

/// Stands for all stations that a VXLAN has not heard of.
const ANY_STATION: [u8; 6] = [0; 6];
/// The MTU of a VXLAN of which no interface says what fits: that of Ethernet, less the outer headers (RFC 7348 section 5).
const MTU_V4: u32 = 1_450;
/// The same over IPv6.
const MTU_V6: u32 = 1_430;

/// Lists the interfaces of this host, and the peers of VXLANs if there are some.
pub async fn look(handle: &Handle, has_peers: bool) -> Result<Seen, String> {
    let failed = |error: Error| format!("listing the interfaces of this host: {error}");
    let links: Vec<LinkMessage> = handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(failed)?;
    let mut seen = Seen {
        links: links.iter().map(link).collect(),
        ..Seen::default()
    };
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await.map_err(failed)? {
        let address = message.attributes.iter().find_map(|attribute| {
            if let AddressAttribute::Address(address) = attribute {
                Some(*address)
            } else {
                None
            }
        });
        let list = seen.addresses.entry(message.header.index).or_default();
        list.extend(address.map(|address| (address, message.header.prefix_len)));
    }
    if has_peers {
        seen.peers = peers(handle).await?;
    }
    Ok(seen)
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        is_up: message.header.flags.contains(LinkFlags::Up),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Bridge) => link.kind = plan::BRIDGE.to_owned(),
                        LinkInfo::Kind(InfoKind::Vxlan) => link.kind = plan::VXLAN.to_owned(),
                        LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan = Some(vxlan(data)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn vxlan(data: &[InfoVxlan]) -> VxlanLink {
    let mut vxlan = VxlanLink::default();
    for one in data {
        match one {
            InfoVxlan::Id(id) => vxlan.id = *id,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Link(index) => vxlan.underlay = Some(*index).filter(|index| *index > 0),
            _ => {}
        }
    }
    vxlan
}

/// Where the interfaces of VXLANs send what is for stations that they have not heard of.
async fn peers(handle: &Handle) -> Result<BTreeMap<u32, Vec<IpAddr>>, String> {
    let mut entries = handle
        .neighbours()
        .get()
        .set_address_family(AddressFamily::Bridge)
        .execute();
    let mut peers: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    let failed = |error: Error| format!("listing the peers of VXLANs: {error}");
    while let Some(entry) = entries.try_next().await.map_err(failed)? {
        let mut is_any = false;
        let mut peer = None;
        for attribute in &entry.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) => is_any = *mac == ANY_STATION,
                NeighbourAttribute::Destination(address) => peer = ip(address),
                _ => {}
            }
        }
        if let Some(peer) = peer.filter(|_| is_any) {
            peers.entry(entry.header.ifindex).or_default().push(peer);
        }
    }
    Ok(peers)
}

/// The kernel lists entries of bridges with addresses of either family.
fn ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(address) => Some((*address).into()),
        NeighbourAddress::Inet6(address) => Some((*address).into()),
        NeighbourAddress::Other(bytes) => <[u8; 4]>::try_from(bytes.as_slice())
            .map(|bytes| Ipv4Addr::from(bytes).into())
            .or_else(|_| {
                <[u8; 16]>::try_from(bytes.as_slice()).map(|bytes| Ipv6Addr::from(bytes).into())
            })
            .ok(),
        _ => None,
    }
}

/// Does what has to be done with a bridge, and returns it in words.
pub async fn mend(
    handle: &Handle,
    wanted: &Bridge,
    mends: &[Mend],
    seen: &Seen,
) -> Result<Vec<String>, String> {
    let bridge = seen.link(&wanted.name).map(|link| link.index);
    if bridge.is_some() {
        // Before it is up, so that the host has no part in it at any moment.
        keep_out(wanted)?;
    }
    let mut done = Vec::new();
    for mend in mends {
        let failed = |error: Error| format!("{}: {mend}: {error}", wanted.name);
        let index = bridge.unwrap_or_default();
        let own = || LinkMessageBuilder::<LinkUnspec>::new();
        match mend {
            Mend::Make => {
                // With multicast snooping, neighbour solicitations would be lost until a listener was heard.
                let message = LinkMessageBuilder::<LinkBridge>::new(&wanted.name)
                    .mcast_snooping(false)
                    .build();
                handle.link().add(message).execute().await.map_err(failed)?;
            }
            Mend::Mark => {
                let message = own()
                    .index(index)
                    .alias(wanted.alias.clone())
                    .address(wanted.mac.to_vec());
                set(handle, message.build(), &wanted.name).await?;
            }
            Mend::Up(index) => set(handle, own().index(*index).up().build(), &wanted.name).await?,
            Mend::Mtu(index, mtu) => {
                set(handle, own().index(*index).mtu(*mtu).build(), &wanted.name).await?;
            }
            Mend::Address(address, prefix) => {
                let add = handle.address().add(index, *address, *prefix);
                add.execute().await.map_err(failed)?;
            }
            Mend::NoAddress(address, prefix) => {
                let mut listed = handle
                    .address()
                    .get()
                    .set_link_index_filter(index)
                    .set_address_filter(*address)
                    .set_prefix_length_filter(*prefix)
                    .execute();
                while let Some(message) = listed.try_next().await.map_err(failed)? {
                    let del = handle.address().del(message);
                    del.execute().await.map_err(failed)?;
                }
            }
            Mend::MakeVxlan => {
                if let Some(vxlan) = &wanted.vxlan {
                    make_vxlan(handle, wanted, vxlan, seen).await?;
                }
            }
            Mend::RemoveVxlan(index) => {
                let del = handle.link().del(*index);
                del.execute().await.map_err(failed)?;
            }
            Mend::Plug(port, name) => {
                let message = own().index(*port).controller(index).up();
                set(handle, message.build(), name).await?;
            }
            Mend::Peer(peer) => {
                let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
                let message = peer_message(wanted, seen, *peer)?;
                let message = RouteNetlinkMessage::NewNeighbour(message);
                request(handle, message, flags).await.map_err(failed)?;
            }
            Mend::NoPeer(peer) => {
                let message = peer_message(wanted, seen, *peer)?;
                let message = RouteNetlinkMessage::DelNeighbour(message);
                let flags = NLM_F_REQUEST | NLM_F_ACK;
                request(handle, message, flags).await.map_err(failed)?;
            }
        }
        done.push(mend.to_string());
    }
    Ok(done)
}

/// Keeps the host out of a bridge. Without an address of the host there, all packets that come from it are martians. With one, they
/// reach the host and nothing else: none is forwarded. Its other addresses are not answered for.
fn keep_out(wanted: &Bridge) -> Result<(), String> {
    let own = |setting: &str| format!("ipv4/conf/{}/{setting}", wanted.name);
    let answers = if wanted.address.is_some() { "1" } else { "8" };
    sysctl(&own("forwarding"), "0")?;
    sysctl(&own("rp_filter"), "1")?;
    sysctl(&own("arp_ignore"), answers)?;
    sysctl(&own("send_redirects"), "0")?;
    sysctl_v6(&format!("conf/{}/disable_ipv6", wanted.name), "1")
}

async fn make_vxlan(
    handle: &Handle,
    wanted: &Bridge,
    vxlan: &Vxlan,
    seen: &Seen,
) -> Result<(), String> {
    let name = wanted.vxlan_name();
    let mut message = LinkMessageBuilder::<LinkVxlan>::new(&name)
        .id(vxlan.id)
        .port(vxlan.port);
    let is_v6 = vxlan.peers.first().is_some_and(IpAddr::is_ipv6);
    if is_v6 {
        // What tells the kernel the family.
        message = message.local6(Ipv6Addr::UNSPECIFIED);
    }
    let mut mtu = wanted.mtu;
    match &vxlan.underlay {
        Some(underlay) => {
            let underlay = seen
                .link(underlay)
                .ok_or_else(|| format!("there is no interface {underlay} on this host"))?;
            message = message.dev(underlay.index);
        }
        None => mtu = mtu.or(Some(if is_v6 { MTU_V6 } else { MTU_V4 })),
    }
    if let Some(mtu) = mtu {
        message = message.mtu(mtu);
    }
    let made = handle.link().add(message.build()).execute().await;
    made.map_err(|error| {
        let id = vxlan.id;
        let port = vxlan.port;
        format!("making the VXLAN {id} on port {port}: {error}; if it exists, another interface of this host has its id and port")
    })
}

/// An entry that sends what is for unknown stations to a peer.
fn peer_message(wanted: &Bridge, seen: &Seen, peer: IpAddr) -> Result<NeighbourMessage, String> {
    let name = wanted.vxlan_name();
    let link = seen
        .link(&name)
        .ok_or_else(|| format!("the interface {name} has disappeared"))?;
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link.index;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(ANY_STATION.to_vec()),
        NeighbourAttribute::Destination(peer.into()),
    ];
    Ok(message)
}

async fn request(handle: &Handle, message: RouteNetlinkMessage, flags: u16) -> Result<(), Error> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = flags;
    let mut handle = handle.clone();
    let mut answers = handle.request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload {
            // An acknowledgement is an error without a code.
            if error.code.is_some() {
                return Err(Error::NetlinkError(error));
            }
        }
    }
    Ok(())
}
