//! Links between namespaces: cables, and a switch to plug many into.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Namespace, pass};

/// A switch: a namespace with a Linux bridge.
#[derive(Debug)]
pub struct Switch {
    namespace: Namespace,
    ports: AtomicU32,
}

impl Switch {
    /// Makes a switch without ports.
    ///
    /// # Errors
    /// When the kernel has no bridge, or `ip` is missing.
    pub fn new(label: &str) -> anyhow::Result<Self> {
        let namespace = Namespace::new(label)?;
        namespace.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        // Snooping would hold neighbour solicitations back until it has heard of a listener.
        namespace.sh("ip link add br0 type bridge mcast_snooping 0")?;
        namespace.sh("ip link set br0 up")?;
        Ok(Self {
            namespace,
            ports: AtomicU32::new(0),
        })
    }

    /// The namespace of the bridge.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Gives `host` an interface that is plugged into this switch. The name of the switch's end is the
    /// result.
    ///
    /// # Errors
    /// When `ip` or `ethtool` fails.
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

/// Connects two namespaces. Neither end is ever seen outside of them. The left end takes frames that an XDP
/// program on the right one sends back; programs under test are attached to right ends.
///
/// # Errors
/// When `ip` or `ethtool` fails.
pub fn cable(
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
        // A veth takes frames that are redirected to its peer only if it polls: GRO makes it. Checksums must
        // be in the frames, because an XDP frame has no other place to say "not yet".
        end.sh(&format!("ethtool -K {name} gro on tx off tso off gso off"))?;
        end.sh(&format!("ip link set {name} up"))?;
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            end.sh(&format!("ip address add {address} dev {name}{nodad}"))?;
        }
    }
    pass::attach(left, left_name)
}
