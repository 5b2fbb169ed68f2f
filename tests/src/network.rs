//! The two network layouts of the testbeds: everything on one switched network, and a routed one.

use std::{
    net::IpAddr,
    ops::Deref,
    sync::atomic::{AtomicU16, Ordering},
};

use crate::{Namespace, Switch, cable};

/// Name of a host's interface, the one that the documentation's examples use.
const INTERFACE: &str = "eth0";

/// A dual-stack subnet: `10.N.0.0/16` and `fd00:N::/64`.
#[derive(Clone, Copy, Debug)]
struct Subnet(u8);

impl Subnet {
    fn v4(self, group: u8, host: u16) -> String {
        format!(
            "10.{}.{}.{}",
            self.0,
            u16::from(group) + host / 250,
            host % 250 + 1
        )
    }

    fn v6(self, group: u8, host: u16) -> String {
        format!("fd00:{}::{group}:{}", self.0, host + 1)
    }

    fn addresses(self, group: u8, host: u16) -> Vec<String> {
        vec![
            format!("{}/16", self.v4(group, host)),
            format!("{}/64", self.v6(group, host)),
        ]
    }
}

/// Roles of hosts, each with its own range of addresses in a subnet.
const ROUTERS: u8 = 0;
const BALANCERS: u8 = 10;
const CLIENTS: u8 = 20;
const REALS: u8 = 30;

/// Prefixes that hold the VIPs of every testbed (RFC 5737, RFC 3849).
const VIP_PREFIXES: [&str; 2] = ["192.0.2.0/24", "2001:db8::/64"];

/// A namespace with one IPv4 and one IPv6 address.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: Namespace,
    /// The IPv4 address.
    pub v4: IpAddr,
    /// The IPv6 address.
    pub v6: IpAddr,
}

impl Host {
    fn plugged(
        label: &str,
        switch: &Switch,
        interface: &str,
        (subnet, group, number): (Subnet, u8, u16),
    ) -> anyhow::Result<Self> {
        let namespace = Namespace::new(label)?;
        switch.plug(&namespace, interface, &subnet.addresses(group, number))?;
        Ok(Self {
            namespace,
            v4: subnet.v4(group, number).parse()?,
            v6: subnet.v6(group, number).parse()?,
        })
    }

    /// Returns the host's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Puts a bridge, `br0`, between the host's interface and what is plugged into it, such as instances of a pool. It has the host's
    /// addresses.
    ///
    /// # Errors
    /// Fails if the kernel has no bridge, or `ip` is missing.
    pub fn bridge(&self) -> anyhow::Result<()> {
        for line in [
            "ip addr flush dev eth0",
            "ip link add br0 type bridge mcast_snooping 0",
            "ip link set eth0 master br0",
            "ip link set br0 up",
            &format!("ip addr add {}/16 dev br0", self.v4),
            &format!("ip addr add {}/64 dev br0", self.v6),
        ] {
            self.sh(line)?;
        }
        Ok(())
    }

    /// Returns the address whose family is that of `other`.
    pub fn address_like(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.v4 } else { self.v6 }
    }
}

impl Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// Clients, one balancer and reals on one switched network. Clients route the VIP prefixes (192.0.2.0/24 and
/// 2001:db8::/64) to the balancer; reals answer clients directly.
#[derive(Debug)]
pub struct Network {
    switch: Switch,
    /// The balancer's host; its interface is `eth0`.
    pub balancer: Host,
    clients: AtomicU16,
    reals: AtomicU16,
}

impl Network {
    const SUBNET: Subnet = Subnet(10);

    /// Creates the network and the balancer's host.
    ///
    /// # Errors
    /// Fails without root, or if `ip` or `ethtool` is missing (`cargo xtask setup` installs them).
    pub fn new() -> anyhow::Result<Self> {
        let switch = Switch::new("switch")?;
        let balancer = Host::plugged("balancer", &switch, INTERFACE, (Self::SUBNET, BALANCERS, 0))?;
        Ok(Self {
            switch,
            balancer,
            clients: AtomicU16::new(0),
            reals: AtomicU16::new(0),
        })
    }

    /// Returns the switch.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// Adds a client.
    ///
    /// # Errors
    /// Fails if `ip` or `ethtool` fails.
    pub fn client(&self) -> anyhow::Result<Host> {
        let number = self.clients.fetch_add(1, Ordering::Relaxed);
        let label = format!("client{}", number + 1);
        let host = Host::plugged(
            &label,
            &self.switch,
            INTERFACE,
            (Self::SUBNET, CLIENTS, number),
        )?;
        route_vips(&host, self.balancer.v4, self.balancer.v6)?;
        Ok(host)
    }

    /// Adds a host for a real; its interface is `eth0`.
    ///
    /// # Errors
    /// Fails if `ip` or `ethtool` fails.
    pub fn real(&self) -> anyhow::Result<Host> {
        let number = self.reals.fetch_add(1, Ordering::Relaxed);
        let label = format!("real{}", number + 1);
        Host::plugged(
            &label,
            &self.switch,
            INTERFACE,
            (Self::SUBNET, REALS, number),
        )
    }
}

/// Clients behind a router, and the balancer between that router (`eth0`) and the network of the reals (`eth1`):
/// packets leave the balancer by another interface than the one they arrive on. Reals answer through the router.
#[derive(Debug)]
pub struct RoutedNetwork {
    outside: Switch,
    inside: Switch,
    /// The router. Its interfaces are `outside` (clients), `front` (balancer) and `inside` (reals).
    pub router: Namespace,
    /// The balancer's host; [`Host::v4`] and [`Host::v6`] are the addresses of `eth1`.
    pub balancer: Host,
    clients: AtomicU16,
    reals: AtomicU16,
}

impl RoutedNetwork {
    const OUTSIDE: Subnet = Subnet(20);
    const FRONT: Subnet = Subnet(21);
    const INSIDE: Subnet = Subnet(22);

    /// Creates the networks, the router and the balancer's host.
    ///
    /// # Errors
    /// See [`Network::new`].
    pub fn new() -> anyhow::Result<Self> {
        let outside = Switch::new("outside")?;
        let inside = Switch::new("inside")?;
        let router = Namespace::new("router")?;
        outside.plug(&router, "outside", &Self::OUTSIDE.addresses(ROUTERS, 0))?;
        inside.plug(&router, "inside", &Self::INSIDE.addresses(ROUTERS, 0))?;
        let balancer = Host::plugged("balancer", &inside, "eth1", (Self::INSIDE, BALANCERS, 0))?;
        cable(
            (&router, "front", &Self::FRONT.addresses(ROUTERS, 0)),
            (&balancer, INTERFACE, &Self::FRONT.addresses(BALANCERS, 0)),
        )?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        for scope in ["all", "default", "inside", "outside", "front"] {
            // Answers arrive from the reals with a VIP as source, which is routed to the balancer: a strict
            // reverse-path filter would drop them.
            router.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
        }
        route_vips(
            &router,
            Self::FRONT.v4(BALANCERS, 0).parse()?,
            Self::FRONT.v6(BALANCERS, 0).parse()?,
        )?;
        Ok(Self {
            outside,
            inside,
            router,
            balancer,
            clients: AtomicU16::new(0),
            reals: AtomicU16::new(0),
        })
    }

    /// Adds a client.
    ///
    /// # Errors
    /// Fails if `ip` or `ethtool` fails.
    pub fn client(&self) -> anyhow::Result<Host> {
        let number = self.clients.fetch_add(1, Ordering::Relaxed);
        let label = format!("client{}", number + 1);
        let host = Host::plugged(
            &label,
            &self.outside,
            INTERFACE,
            (Self::OUTSIDE, CLIENTS, number),
        )?;
        default_route(&host, Self::OUTSIDE)?;
        Ok(host)
    }

    /// Adds a host for a real; its interface is `eth0`.
    ///
    /// # Errors
    /// Fails if `ip` or `ethtool` fails.
    pub fn real(&self) -> anyhow::Result<Host> {
        let number = self.reals.fetch_add(1, Ordering::Relaxed);
        let label = format!("real{}", number + 1);
        let host = Host::plugged(
            &label,
            &self.inside,
            INTERFACE,
            (Self::INSIDE, REALS, number),
        )?;
        default_route(&host, Self::INSIDE)?;
        Ok(host)
    }
}

fn default_route(host: &Namespace, subnet: Subnet) -> anyhow::Result<()> {
    for router in [subnet.v4(ROUTERS, 0), subnet.v6(ROUTERS, 0)] {
        host.sh(&format!("ip route add default via {router}"))?;
    }
    Ok(())
}

fn route_vips(host: &Namespace, v4: IpAddr, v6: IpAddr) -> anyhow::Result<()> {
    for (prefix, via) in VIP_PREFIXES.into_iter().zip([v4, v6]) {
        host.sh(&format!("ip route add {prefix} via {via}"))?;
    }
    Ok(())
}
