//! Networks as they are found: one network with everything in it, and a routed one.

use std::{
    net::IpAddr,
    ops::Deref,
    sync::atomic::{AtomicU16, Ordering},
};

use crate::{Namespace, Switch, cable};

/// Every interface of a host has this name, as in the examples of the documentation.
const INTERFACE: &str = "eth0";

/// A network of two families: `10.NET.0.0/16` and `fd00:NET::/64`.
#[derive(Clone, Copy, Debug)]
struct Network(u8);

impl Network {
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

/// Groups of addresses within a network.
const ROUTERS: u8 = 0;
const BALANCERS: u8 = 10;
const CLIENTS: u8 = 20;
const REALS: u8 = 30;

/// Networks that VIPs of every site are in: 192.0.2.0/24 and 2001:db8::/64, the documentation's.
const VIP_NETWORKS: [&str; 2] = ["192.0.2.0/24", "2001:db8::/64"];

/// A namespace with an address of each family.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: Namespace,
    /// Its IPv4 address.
    pub v4: IpAddr,
    /// Its IPv6 address.
    pub v6: IpAddr,
}

impl Host {
    fn plugged(
        label: &str,
        switch: &Switch,
        interface: &str,
        (network, group, number): (Network, u8, u16),
    ) -> anyhow::Result<Self> {
        let namespace = Namespace::new(label)?;
        switch.plug(&namespace, interface, &network.addresses(group, number))?;
        Ok(Self {
            namespace,
            v4: network.v4(group, number).parse()?,
            v6: network.v6(group, number).parse()?,
        })
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its address of the family of `other`.
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

/// Clients, one balancer and reals on one network. Clients reach VIPs (192.0.2.0/24, 2001:db8::/64) by way
/// of the balancer; reals answer directly.
#[derive(Debug)]
pub struct Site {
    switch: Switch,
    /// The balancer's host, interface `eth0`.
    pub balancer: Host,
    clients: AtomicU16,
    reals: AtomicU16,
}

impl Site {
    const NETWORK: Network = Network(10);

    /// Makes the network and the balancer's host.
    ///
    /// # Errors
    /// Without root, or when a tool is missing (`cargo xtask setup` installs them).
    pub fn new() -> anyhow::Result<Self> {
        let switch = Switch::new("switch")?;
        let balancer = Host::plugged(
            "balancer",
            &switch,
            INTERFACE,
            (Self::NETWORK, BALANCERS, 0),
        )?;
        Ok(Self {
            switch,
            balancer,
            clients: AtomicU16::new(0),
            reals: AtomicU16::new(0),
        })
    }

    /// The switch.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// Adds a client.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn client(&self) -> anyhow::Result<Host> {
        let number = self.clients.fetch_add(1, Ordering::Relaxed);
        let label = format!("client{}", number + 1);
        let host = Host::plugged(
            &label,
            &self.switch,
            INTERFACE,
            (Self::NETWORK, CLIENTS, number),
        )?;
        route_vips(&host, self.balancer.v4, self.balancer.v6)?;
        Ok(host)
    }

    /// Adds a host for a real, interface `eth0`.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn real(&self) -> anyhow::Result<Host> {
        let number = self.reals.fetch_add(1, Ordering::Relaxed);
        let label = format!("real{}", number + 1);
        Host::plugged(
            &label,
            &self.switch,
            INTERFACE,
            (Self::NETWORK, REALS, number),
        )
    }
}

/// Clients behind a router, the balancer between the router (`eth0`) and the network of the reals (`eth1`):
/// its way out is another interface than its way in. Reals answer by way of the router.
#[derive(Debug)]
pub struct RoutedSite {
    outside: Switch,
    inside: Switch,
    /// The router: `outside` to the clients, `front` to the balancer, `inside` to the reals.
    pub router: Namespace,
    /// The balancer's host; its addresses are those of `eth1`.
    pub balancer: Host,
    clients: AtomicU16,
    reals: AtomicU16,
}

impl RoutedSite {
    const OUTSIDE: Network = Network(20);
    const FRONT: Network = Network(21);
    const INSIDE: Network = Network(22);

    /// Makes the networks, the router and the balancer's host.
    ///
    /// # Errors
    /// As [`Site::new`].
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
            // Answers come in from the reals' side with a source that is routed to the balancer's.
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
    /// When a tool fails.
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

    /// Adds a host for a real, interface `eth0`.
    ///
    /// # Errors
    /// When a tool fails.
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

fn default_route(host: &Namespace, network: Network) -> anyhow::Result<()> {
    for router in [network.v4(ROUTERS, 0), network.v6(ROUTERS, 0)] {
        host.sh(&format!("ip route add default via {router}"))?;
    }
    Ok(())
}

fn route_vips(host: &Namespace, v4: IpAddr, v6: IpAddr) -> anyhow::Result<()> {
    for (network, via) in VIP_NETWORKS.into_iter().zip([v4, v6]) {
        host.sh(&format!("ip route add {network} via {via}"))?;
    }
    Ok(())
}
