//! What the data plane asks of whoever knows routes and neighbours.
//!
//! This module lies below both sides: [`crate::netlink`] implements it, the engine uses it, and neither
//! knows the other.

use std::{collections::BTreeSet, net::IpAddr};

/// How frames reach an address, as routes and neighbours have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResolvedHop {
    /// Index of the interface to send from.
    pub interface: u32,
    /// MAC address of that interface.
    pub source_mac: [u8; 6],
    /// MAC address of the neighbour: the address itself, or a router.
    pub dest_mac: [u8; 6],
    /// Whether the neighbour is the address itself.
    pub direct: bool,
    /// Bytes of the largest IP packet on the way, by its interface and its route; 0: not known.
    pub mtu: u32,
}

/// Resolves addresses to next hops and keeps the answers up to date.
pub trait Resolver: Send {
    /// The next hop of an address that was added; `None` if it is not known now. Does not block.
    fn resolve(&self, address: IpAddr) -> Option<ResolvedHop>;
    /// Begins to resolve an address. Adding it again changes nothing.
    fn add(&self, address: IpAddr);
    /// Stops resolving an address.
    fn remove(&self, address: IpAddr);
    /// Like [`Resolver::resolve`], for an address that has just been added: waits some milliseconds for a
    /// neighbour's answer.
    fn resolve_soon(&self, address: IpAddr) -> Option<ResolvedHop> {
        self.resolve(address)
    }
    /// Why the next hop of an address is not known, in words for an operator.
    fn unresolved_reason(&self, address: IpAddr) -> Option<String>;
    /// Whether the neighbour on the way to an address was asked for and may still answer: nothing is known yet that
    /// speaks against an earlier next hop.
    fn is_awaited(&self, _address: IpAddr) -> bool {
        false
    }
    /// The addresses that were added and are this host's own: no packet leaves the host for them.
    fn own_addresses(&self) -> BTreeSet<IpAddr> {
        BTreeSet::new()
    }
    /// Whether an address that was added is this host's own.
    fn is_own_address(&self, address: IpAddr) -> bool {
        self.own_addresses().contains(&address)
    }
}

/// Resolves nothing: for tests and for tables without a network.
pub struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _address: IpAddr) -> Option<ResolvedHop> {
        None
    }

    fn add(&self, _address: IpAddr) {}

    fn remove(&self, _address: IpAddr) {}

    fn unresolved_reason(&self, _address: IpAddr) -> Option<String> {
        None
    }
}

/// Resolves every address to a neighbour behind the interface of the tables in memory: for tests and simulations.
pub struct AllNeighbours;

impl Resolver for AllNeighbours {
    fn resolve(&self, _address: IpAddr) -> Option<ResolvedHop> {
        Some(ResolvedHop {
            interface: crate::memory::INTERFACE_INDEX,
            source_mac: [2, 0, 0, 0, 0, 1],
            dest_mac: [2, 0, 0, 0, 0, 2],
            direct: true,
            mtu: 1_500,
        })
    }

    fn add(&self, _address: IpAddr) {}

    fn remove(&self, _address: IpAddr) {}

    fn unresolved_reason(&self, _address: IpAddr) -> Option<String> {
        None
    }
}
