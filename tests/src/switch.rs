//! Links between namespaces: point-to-point cables, and a switch.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Namespace, pass};

/// A switch: a namespace with a Linux bridge.
#[derive(Debug)]
pub struct Switch {
    namespace: Namespace,
    ports: AtomicU32,
}

impl Switch {
    /// Creates a switch without ports.
    ///
    /// # Errors
    /// Fails if the kernel has no bridge, or `ip` is missing.
    pub fn new(label: &str) -> anyhow::Result<Self> {
        let namespace = Namespace::new(label)?;
        namespace.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        // Multicast snooping would drop neighbour solicitations until the bridge has seen a listener.
        namespace.sh("ip link add br0 type bridge mcast_snooping 0")?;
        namespace.sh("ip link set br0 up")?;
        Ok(Self {
            namespace,
            ports: AtomicU32::new(0),
        })
    }

    /// Returns the namespace of the bridge.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Connects an interface of `host` to the switch, and returns the name of the switch's port.
    ///
    /// # Errors
    /// Fails if `ip` or `ethtool` fails.
    pub fn plug(
        &self,
        host: &Namespace,
        interface: &str,
        addresses: &[String],
    ) -> anyhow::Result<String> {
        let port = format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed));
        cable((&self.namespace, &port, &[]), (host, interface, addresses))?;
        self.namespace
            .sh(&format!("ip link set {port} master br0"))?;
        Ok(port)
    }
}

/// Connects two namespaces by a veth pair that is never visible outside of them. The left end receives frames that an
/// XDP program on the right end sends back; programs under test are attached to right ends.
///
/// # Errors
/// Fails if `ip` or `ethtool` fails.
pub fn cable(
    left: (&Namespace, &str, &[String]),
    right: (&Namespace, &str, &[String]),
) -> anyhow::Result<()> {
    cable_without_xdp(left, right)?;
    let (namespace, interface, _) = left;
    pass::attach(namespace, interface)
}

/// Connects two namespaces like [`cable`], but without an XDP program on the left end: the left end receives no frames
/// that an XDP program sends back until it gets a program of its own.
///
/// # Errors
/// Fails if `ip` or `ethtool` fails.
pub fn cable_without_xdp(
    (left, left_name, left_addresses): (&Namespace, &str, &[String]),
    (right, right_name, right_addresses): (&Namespace, &str, &[String]),
) -> anyhow::Result<()> {
    left.sh(&format!(
        "ip link add {left_name} type veth peer name {right_name} netns {}",
        right.path().display()
    ))?;
    for (end, name, addresses) in [
        (left, left_name, left_addresses),
        (right, right_name, right_addresses),
    ] {
        // A veth receives redirected frames only if its peer has NAPI, which GRO turns on. Checksums must be complete
        // in the frames, because an XDP frame cannot carry the note that the checksum is still to be computed.
        end.sh(&format!("ethtool -K {name} gro on tx off tso off gso off"))?;
        end.sh(&format!("ip link set {name} up"))?;
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            end.sh(&format!("ip address add {address} dev {name}{nodad}"))?;
        }
    }
    Ok(())
}
