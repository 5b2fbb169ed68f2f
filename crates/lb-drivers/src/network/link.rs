//! Interfaces: a pair of veth from the bridge into a network namespace.

use std::{fs::File, net::IpAddr, os::fd::AsRawFd as _, path::Path};

use futures::TryStreamExt as _;
use lb_model::pool::{Attachment, InstanceName};
use nix::sched::{CloneFlags, setns};
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        address::AddressAttribute,
        link::{LinkAttribute, LinkFlags, LinkMessage},
    },
};

/// The interface's name in the namespace.
pub const INNER: &str = "eth0";
/// The loopback interface has this index in every network namespace.
const LOOPBACK: u32 = 1;

/// The name of the interface on the host that leads to an instance with a network of its own, the same for the same instance.
/// Interfaces have names of 15 bytes at most.
#[must_use]
pub fn host_interface(owner: &str, name: &InstanceName) -> String {
    let hash = fnv(&format!("{owner}/{name}"));
    format!("lb{:013x}", hash & ((1 << 52) - 1))
}

/// The MAC address of an interface with this address, the same whenever it is made: neighbours that know it reach the next
/// instance at this address at once. It is a locally administered one.
pub fn mac(address: IpAddr) -> [u8; 6] {
    let hash = fnv(&address.to_string()).to_be_bytes();
    [0x02, hash[3], hash[4], hash[5], hash[6], hash[7]]
}

/// FNV-1a: the same in every build.
pub fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Whether this network namespace has an interface of this name.
pub fn exists(name: &str) -> bool {
    nix::net::if_::if_nametoindex(name).is_ok()
}

/// Connects a namespace to the bridge, if it is not.
pub fn connect(
    host: &str,
    namespace: File,
    address: IpAddr,
    attachment: &Attachment,
) -> Result<(), String> {
    if exists(host) && is_configured(&namespace, address)? {
        return Ok(());
    }
    let peer = format!("{host}p").chars().skip(1).collect::<String>();
    let fd = namespace.as_raw_fd();
    let (host, bridge) = (host.to_owned(), attachment.bridge.clone());
    let (peer_here, peer_there) = (peer.clone(), peer);
    with_netlink(None, async move |handle: Handle| {
        // What an interrupted attempt left, perhaps in a namespace that is gone.
        delete(&handle, &host).await?;
        let bridge = find(&handle, &bridge)
            .await?
            .ok_or_else(|| format!("there is no bridge {bridge} on this host; make it first"))?;
        keep_mac(&handle, &bridge).await?;
        let pair = LinkVeth::new(&host, &peer_here).build();
        let made = handle.link().add(pair).execute().await;
        made.map_err(|error| format!("making the interface {host}: {error}"))?;
        let moved = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer_here.clone())
            .setns_by_fd(fd)
            .build();
        set(
            &handle,
            moved,
            "moving an interface into its network namespace",
        )
        .await?;
        let own = find(&handle, &host)
            .await?
            .ok_or_else(|| format!("the interface {host} has disappeared"))?;
        let mut up = LinkMessageBuilder::<LinkUnspec>::new()
            .index(own.header.index)
            .controller(bridge.header.index)
            .up();
        let mtu = attachment_mtu(&bridge);
        if let Some(mtu) = mtu {
            up = up.mtu(mtu);
        }
        set(&handle, up.build(), "connecting an interface to the bridge").await?;
        Ok(mtu)
    })
    .and_then(|bridge_mtu| {
        let mtu = attachment.mtu.or(bridge_mtu);
        let (prefix, gateway) = (attachment.prefix, attachment.gateway);
        with_netlink(Some(namespace), async move |handle: Handle| {
            let Some(link) = find(&handle, &peer_there).await? else {
                return Err(format!("the interface {peer_there} has disappeared"));
            };
            let index = link.header.index;
            let lo = LinkMessageBuilder::<LinkUnspec>::new()
                .index(LOOPBACK)
                .up()
                .build();
            set(&handle, lo, "bringing the loopback interface up").await?;
            let mut inner = LinkMessageBuilder::<LinkUnspec>::new()
                .index(index)
                .name(INNER)
                .address(mac(address).to_vec());
            if let Some(mtu) = mtu {
                inner = inner.mtu(mtu);
            }
            set(&handle, inner.build(), "naming an interface").await?;
            // No other station can have an address of the pool's range; duplicate address detection would only take time.
            let path = format!("/proc/sys/net/ipv6/conf/{INNER}/accept_dad");
            if address.is_ipv6() && Path::new(&path).exists() {
                std::fs::write(&path, "0").map_err(|error| format!("{path}: {error}"))?;
            }
            handle
                .address()
                .add(index, address, prefix)
                .execute()
                .await
                .map_err(|error| format!("adding the address {address}: {error}"))?;
            let up = LinkMessageBuilder::<LinkUnspec>::new()
                .index(index)
                .up()
                .build();
            set(&handle, up, "bringing an interface up").await?;
            if let Some(gateway) = gateway {
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
                added.map_err(|error| format!("adding the route by {gateway}: {error}"))?;
            }
            Ok(())
        })
    })
}

/// Makes an interface of this network namespace a port of the bridge, if it is not.
pub fn connect_tap(name: &str, attachment: &Attachment) -> Result<(), String> {
    let (name, bridge, mtu) = (name.to_owned(), attachment.bridge.clone(), attachment.mtu);
    with_netlink(None, async move |handle: Handle| {
        let bridge = find(&handle, &bridge)
            .await?
            .ok_or_else(|| format!("there is no bridge {bridge} on this host; make it first"))?;
        keep_mac(&handle, &bridge).await?;
        let own = find(&handle, &name)
            .await?
            .ok_or_else(|| format!("the interface {name} has disappeared"))?;
        let mut up = LinkMessageBuilder::<LinkUnspec>::new()
            .index(own.header.index)
            .controller(bridge.header.index)
            .up();
        if let Some(mtu) = mtu.or(attachment_mtu(&bridge)) {
            up = up.mtu(mtu);
        }
        set(&handle, up.build(), "connecting an interface to the bridge").await
    })
}

/// Whether an interface of this network namespace is a port of the bridge, and up.
pub fn is_port(name: &str, bridge: &str) -> Result<bool, String> {
    let (name, bridge) = (name.to_owned(), bridge.to_owned());
    with_netlink(None, async move |handle: Handle| {
        let (Some(own), Some(bridge)) =
            (find(&handle, &name).await?, find(&handle, &bridge).await?)
        else {
            return Ok(false);
        };
        let controller = LinkAttribute::Controller(bridge.header.index);
        Ok(own.header.flags.contains(LinkFlags::Up) && own.attributes.contains(&controller))
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

/// Whether the namespace has an interface that is up and has the address.
fn is_configured(namespace: &File, address: IpAddr) -> Result<bool, String> {
    let namespace = namespace.try_clone().map_err(|error| error.to_string())?;
    with_netlink(Some(namespace), async move |handle: Handle| {
        let Some(link) = find(&handle, INNER).await? else {
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

fn attachment_mtu(bridge: &LinkMessage) -> Option<u32> {
    bridge.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Mtu(mtu) = attribute {
            Some(*mtu)
        } else {
            None
        }
    })
}

async fn find(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, String> {
    if !exists(name) {
        return Ok(None);
    }
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link),
        // It went by itself meanwhile, with its namespace.
        Err(_) if !exists(name) => Ok(None),
        Err(error) => Err(format!("looking for the interface {name}: {error}")),
    }
}

async fn set(handle: &Handle, message: LinkMessage, doing: &str) -> Result<(), String> {
    let result = handle.link().set(message).execute().await;
    result.map_err(|error| format!("{doing}: {error}"))
}

async fn delete(handle: &Handle, name: &str) -> Result<(), String> {
    let Some(link) = find(handle, name).await? else {
        return Ok(());
    };
    match handle.link().del(link.header.index).execute().await {
        Ok(()) => Ok(()),
        // It went by itself meanwhile, with its namespace.
        Err(_) if !exists(name) => Ok(()),
        Err(error) => Err(format!("removing the interface {name}: {error}")),
    }
}

/// Runs `work` with a netlink connection of a network namespace, or of this one, on a thread of its own.
fn with_netlink<T: Send>(
    namespace: Option<File>,
    work: impl AsyncFnOnce(Handle) -> Result<T, String> + Send,
) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            if let Some(namespace) = namespace {
                setns(&namespace, CloneFlags::CLONE_NEWNET)
                    .map_err(|error| format!("entering a network namespace: {error}"))?;
            }
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| format!("starting a runtime: {error}"))?
                .block_on(async {
                    let (connection, handle, _) = rtnetlink::new_connection()
                        .map_err(|error| format!("opening a netlink socket: {error}"))?;
                    let task = tokio::spawn(connection);
                    let result = work(handle).await;
                    task.abort();
                    result
                })
        });
        thread
            .join()
            .unwrap_or_else(|_| Err("the thread that configures interfaces panicked".to_owned()))
    })
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
    }
}
