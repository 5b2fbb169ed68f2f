//! Interfaces: a pair of veth from a bridge into a network namespace.

use std::{fs::File, net::IpAddr, os::fd::AsRawFd as _, path::Path};

use futures::TryStreamExt as _;
use lb_model::pool::{Attachment, InstanceName, MAX_LEGS};
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        address::AddressAttribute,
        link::{LinkAttribute, LinkFlags, LinkMessage},
    },
};

use super::netlink::{
    controller_of, delete, exists, find, fnv, mac, mtu_of, set, sysctl, sysctl_v6, with_netlink,
};

/// The interface's name in the namespace; those of further bridges have the next numbers.
pub const INNER: &str = "eth0";
/// The loopback interface has this index in every network namespace.
const LOOPBACK: u32 = 1;

/// The name of the interface on the host that leads to an instance with a network of its own, the same for the same instance.
/// Interfaces have names of 15 bytes at most.
#[must_use]
pub fn host_interface(owner: &str, name: &InstanceName) -> String {
    host_name(&format!("{owner}/{name}"))
}

fn host_name(text: &str) -> String {
    format!("lb{:013x}", fnv(text) & ((1 << 52) - 1))
}

/// A connection of an instance to a bridge.
#[derive(Clone, Debug)]
pub struct Port {
    /// The interface on the host.
    pub host: String,
    /// The interface in the namespace.
    pub inner: String,
    pub bridge: String,
    pub address: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    pub mtu: Option<u32>,
}

impl Port {
    /// The connections of an instance, that at its own address first.
    pub fn all(
        owner: &str,
        name: &InstanceName,
        address: IpAddr,
        attachment: &Attachment,
    ) -> Vec<Self> {
        let first = Port {
            host: host_interface(owner, name),
            inner: INNER.to_owned(),
            bridge: attachment.bridge.clone(),
            address,
            prefix: attachment.prefix,
            gateway: attachment.gateway,
            mtu: attachment.mtu,
        };
        let further = attachment.legs.iter().zip(1..).map(|(leg, at)| Port {
            host: further_interface(owner, name, at),
            inner: format!("eth{at}"),
            bridge: leg.bridge.clone(),
            address: leg.address,
            prefix: leg.prefix,
            gateway: None,
            mtu: leg.mtu,
        });
        std::iter::once(first).chain(further).collect()
    }
}

/// The name of the interface on the host for a further bridge of an instance.
fn further_interface(owner: &str, name: &InstanceName, at: usize) -> String {
    host_name(&format!("{owner}/{name}/{at}"))
}

/// Connects a namespace to a bridge, if it is not.
pub fn connect(namespace: &File, port: &Port) -> Result<(), String> {
    let here = || namespace.try_clone().map_err(|error| error.to_string());
    if exists(&port.host) && is_configured(here()?, port)? {
        return plug(port);
    }
    let peer = format!("{}p", port.host)
        .chars()
        .skip(1)
        .collect::<String>();
    let fd = namespace.as_raw_fd();
    let there = here()?;
    let mtu = with_netlink(None, async |handle: Handle| {
        // What an interrupted attempt left, perhaps in a namespace that is gone.
        delete(&handle, &port.host).await?;
        let bridge = bridge(&handle, &port.bridge).await?;
        keep_mac(&handle, &bridge).await?;
        let pair = LinkVeth::new(&port.host, &peer).build();
        let made = handle.link().add(pair).execute().await;
        made.map_err(|error| format!("making the interface {}: {error}", port.host))?;
        let moved = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer.clone())
            .setns_by_fd(fd)
            .build();
        set(
            &handle,
            moved,
            "moving an interface into its network namespace",
        )
        .await?;
        attach(&handle, &port.host, &bridge).await?;
        Ok(mtu_of(&bridge))
    })?;
    let mtu = port.mtu.or(mtu);
    with_netlink(Some(there), async |handle: Handle| {
        let Some(link) = find(&handle, &peer).await? else {
            return Err(format!("the interface {peer} has disappeared"));
        };
        let index = link.header.index;
        let lo = LinkMessageBuilder::<LinkUnspec>::new()
            .index(LOOPBACK)
            .up()
            .build();
        set(&handle, lo, "bringing the loopback interface up").await?;
        // The same whenever it is made: neighbours that know it reach the next instance at this address at once.
        let mut inner = LinkMessageBuilder::<LinkUnspec>::new()
            .index(index)
            .name(port.inner.clone())
            .address(mac(&port.address.to_string()).to_vec());
        if let Some(mtu) = mtu {
            inner = inner.mtu(mtu);
        }
        set(&handle, inner.build(), "naming an interface").await?;
        // No other station can have an address of the pool's range; duplicate address detection would only take time.
        let path = format!("/proc/sys/net/ipv6/conf/{}/accept_dad", port.inner);
        if port.address.is_ipv6() && Path::new(&path).exists() {
            std::fs::write(&path, "0").map_err(|error| format!("{path}: {error}"))?;
        }
        handle
            .address()
            .add(index, port.address, port.prefix)
            .execute()
            .await
            .map_err(|error| format!("adding the address {}: {error}", port.address))?;
        let up = LinkMessageBuilder::<LinkUnspec>::new()
            .index(index)
            .up()
            .build();
        set(&handle, up, "bringing an interface up").await?;
        match port.gateway {
            Some(gateway) => route(&handle, gateway).await,
            None => Ok(()),
        }
    })
}

async fn route(handle: &Handle, gateway: IpAddr) -> Result<(), String> {
    let added = match gateway {
        IpAddr::V4(gateway) => {
            let route = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .gateway(gateway)
                .build();
            handle.route().add(route).execute().await
        }
        IpAddr::V6(gateway) => {
            let route = RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .gateway(gateway)
                .build();
            handle.route().add(route).execute().await
        }
    };
    added.map_err(|error| format!("adding the route by {gateway}: {error}"))
}

/// Keeps a namespace with several connections from being a way from one bridge to another: it forwards nothing, and each of its
/// addresses is answered for on its own bridge only. A namespace begins with the host's settings of IPv4.
pub fn keep_apart(namespace: File) -> Result<(), String> {
    with_netlink(Some(namespace), async |_: Handle| {
        sysctl("ipv4/ip_forward", "0")?;
        sysctl("ipv4/conf/all/arp_ignore", "1")?;
        sysctl("ipv4/conf/all/arp_announce", "2")?;
        sysctl_v6("conf/all/forwarding", "0")
    })
}

/// Removes an interface of this network namespace, and so the other end of its pair.
pub fn remove(name: &str) -> Result<(), String> {
    if !exists(name) {
        return Ok(());
    }
    let name = name.to_owned();
    with_netlink(None, async move |handle: Handle| {
        delete(&handle, &name).await
    })
}

/// Removes the interfaces of this network namespace for further bridges of an instance.
pub fn remove_further(owner: &str, name: &InstanceName) -> Result<(), String> {
    (1..=MAX_LEGS).try_for_each(|at| remove(&further_interface(owner, name, at)))
}

/// What is wrong with the host's ends of connections; `None` if nothing is.
pub fn fault(ports: &[Port]) -> Option<String> {
    if let Some(port) = ports.iter().find(|port| !exists(&port.host)) {
        return Some(format!(
            "its network is not connected: there is no interface {}",
            port.host
        ));
    }
    let looked = with_netlink(None, async |handle: Handle| {
        for port in ports {
            let bridge = bridge(&handle, &port.bridge).await?;
            let own = own(&handle, port).await?;
            if controller_of(&own) != Some(bridge.header.index) {
                return Err(format!("{} is no port of {}", port.host, port.bridge));
            }
        }
        Ok(())
    });
    let why = looked.err()?;
    Some(format!("its network is not connected: {why}"))
}

/// Makes the host's end of a connection a port of its bridge, if it is not.
pub fn plug(port: &Port) -> Result<(), String> {
    with_netlink(None, async |handle: Handle| {
        let bridge = bridge(&handle, &port.bridge).await?;
        let own = own(&handle, port).await?;
        if controller_of(&own) == Some(bridge.header.index) {
            return Ok(());
        }
        keep_mac(&handle, &bridge).await?;
        attach(&handle, &port.host, &bridge).await
    })
}

async fn own(handle: &Handle, port: &Port) -> Result<LinkMessage, String> {
    find(handle, &port.host)
        .await?
        .ok_or_else(|| format!("the interface {} has disappeared", port.host))
}

async fn bridge(handle: &Handle, name: &str) -> Result<LinkMessage, String> {
    find(handle, name)
        .await?
        .ok_or_else(|| format!("there is no bridge {name} on this host; make it first"))
}

/// Makes an interface a port of a bridge, with the MTU of the bridge.
async fn attach(handle: &Handle, name: &str, bridge: &LinkMessage) -> Result<(), String> {
    let own = find(handle, name)
        .await?
        .ok_or_else(|| format!("the interface {name} has disappeared"))?;
    let mut up = LinkMessageBuilder::<LinkUnspec>::new()
        .index(own.header.index)
        .controller(bridge.header.index)
        .up();
    if let Some(mtu) = mtu_of(bridge) {
        up = up.mtu(mtu);
    }
    set(handle, up.build(), "connecting an interface to the bridge").await
}

/// Whether the namespace has an interface that is up and has the address.
fn is_configured(namespace: File, port: &Port) -> Result<bool, String> {
    let address = port.address;
    with_netlink(Some(namespace), async |handle: Handle| {
        let Some(link) = find(&handle, &port.inner).await? else {
            return Ok(false);
        };
        let addresses = handle
            .address()
            .get()
            .set_link_index_filter(link.header.index)
            .execute()
            .try_collect::<Vec<_>>()
            .await
            .map_err(|error| format!("listing addresses: {error}"))?;
        let has_address = addresses.iter().any(|message| {
            message
                .attributes
                .contains(&AddressAttribute::Address(address))
        });
        Ok(has_address && link.header.flags.contains(LinkFlags::Up))
    })
}

/// Sets the bridge's MAC address to the one that it has. One that nobody has set is the lowest of the bridge's ports, and changes
/// when instances come and go: neighbours lose the host's addresses then, for as long as they remember the address of before.
async fn keep_mac(handle: &Handle, bridge: &LinkMessage) -> Result<(), String> {
    let address = bridge.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Address(address) = attribute {
            Some(address.clone())
        } else {
            None
        }
    });
    let Some(address) = address else {
        return Ok(());
    };
    let same = LinkMessageBuilder::<LinkUnspec>::new()
        .index(bridge.header.index)
        .address(address)
        .build();
    set(handle, same, "keeping the MAC address of the bridge").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_interface_is_short_and_its_own() {
        let name = |owner, name: &str| host_interface(owner, &name.parse().unwrap());
        assert_eq!(name("main", "web-1-1"), name("main", "web-1-1"));
        assert_ne!(name("main", "web-1-1"), name("main", "web-1-2"));
        assert_ne!(name("main", "web-1-1"), name("other", "web-1-1"));
        assert_eq!(name("main", "web-1-1").len(), 15);
        let further = |at| further_interface("main", &"web-1-1".parse().unwrap(), at);
        assert_ne!(further(1), name("main", "web-1-1"));
        assert_ne!(further(1), further(2));
    }
}
