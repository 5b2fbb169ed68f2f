//! Netlink of this network namespace, or of another one.

use std::fs::File;

use futures::TryStreamExt as _;
use nix::sched::{CloneFlags, setns};
use rtnetlink::{
    Handle,
    packet_route::link::{LinkAttribute, LinkMessage},
};

/// FNV-1a: the same in every build.
pub fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A MAC address that follows from a text: a locally administered one.
pub fn mac(text: &str) -> [u8; 6] {
    let hash = fnv(text).to_be_bytes();
    [0x02, hash[3], hash[4], hash[5], hash[6], hash[7]]
}

/// Whether this network namespace has an interface of this name.
pub fn exists(name: &str) -> bool {
    nix::net::if_::if_nametoindex(name).is_ok()
}

/// The interface of this name.
pub async fn find(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, String> {
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

/// The interface that this one is a port of, by its index.
pub fn controller_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Controller(index) = attribute {
            Some(*index)
        } else {
            None
        }
    })
}

/// The MTU of an interface.
pub fn mtu_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Mtu(mtu) = attribute {
            Some(*mtu)
        } else {
            None
        }
    })
}

/// Changes an interface.
pub async fn set(handle: &Handle, message: LinkMessage, doing: &str) -> Result<(), String> {
    let result = handle.link().set(message).execute().await;
    result.map_err(|error| format!("{doing}: {error}"))
}

/// Removes an interface, if it is there.
pub async fn delete(handle: &Handle, name: &str) -> Result<(), String> {
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

/// Gives a setting of the kernel's network its value, unless it has it.
pub fn sysctl(path: &str, value: &str) -> Result<(), String> {
    let path = format!("/proc/sys/net/{path}");
    match std::fs::read_to_string(&path) {
        Ok(before) if before.trim() == value => Ok(()),
        _ => std::fs::write(&path, value).map_err(|error| format!("{path}: {error}")),
    }
}

/// [`sysctl`] of IPv6, which the kernel may not have.
pub fn sysctl_v6(path: &str, value: &str) -> Result<(), String> {
    if std::path::Path::new("/proc/sys/net/ipv6").exists() {
        return sysctl(&format!("ipv6/{path}"), value);
    }
    Ok(())
}

/// Runs `work` with a netlink connection of a network namespace, or of this one, on a thread of its own.
pub fn with_netlink<T: Send>(
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
