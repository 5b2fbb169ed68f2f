//! Next hops: which entry of the table stands for which way out.

use std::{collections::HashMap, net::IpAddr};

use lb_common::tables::next_hop::NextHop;

use super::allocator::Indices;

/// The way to an address, as the routes and neighbours have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResolvedHop {
    /// Interface to send from.
    pub interface: u32,
    /// Its MAC address.
    pub source_mac: [u8; 6],
    /// The MAC address of the neighbour: the address itself, or a router.
    pub dest_mac: [u8; 6],
    /// Whether the neighbour is the address itself.
    pub direct: bool,
}

impl ResolvedHop {
    /// The table's record.
    #[must_use]
    pub fn record(&self) -> NextHop {
        NextHop {
            destination: self.dest_mac,
            source: self.source_mac,
            interface: self.interface,
        }
    }
}

/// Who knows the ways.
pub trait Resolver: Send {
    /// The way to an address, if it is known now. Does not block.
    fn resolve(&self, address: IpAddr) -> Option<ResolvedHop>;
    /// The way to this address is wanted from now on: it is looked for and kept true.
    fn want(&self, address: IpAddr);
    /// The way to this address is not wanted any more.
    fn forget(&self, address: IpAddr);
    /// The way to an address that has just become wanted; waits a little for it.
    fn resolve_soon(&self, address: IpAddr) -> Option<ResolvedHop> {
        self.resolve(address)
    }
    /// Why there is no way to an address, in words for an operator.
    fn trouble(&self, address: IpAddr) -> Option<String>;
}

/// Nobody knows a way: for tests and for homes without a network.
pub struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _address: IpAddr) -> Option<ResolvedHop> {
        None
    }

    fn want(&self, _address: IpAddr) {}

    fn forget(&self, _address: IpAddr) {}

    fn trouble(&self, _address: IpAddr) -> Option<String> {
        None
    }
}

/// Every address is a neighbour, behind the interface of the tables in memory.
#[cfg(test)]
pub struct Neighbours;

#[cfg(test)]
impl Resolver for Neighbours {
    fn resolve(&self, _address: IpAddr) -> Option<ResolvedHop> {
        Some(ResolvedHop {
            interface: super::memory::INTERFACE_INDEX,
            source_mac: [2, 0, 0, 0, 0, 1],
            dest_mac: [2, 0, 0, 0, 0, 2],
            direct: true,
        })
    }

    fn want(&self, _address: IpAddr) {}

    fn forget(&self, _address: IpAddr) {}

    fn trouble(&self, _address: IpAddr) -> Option<String> {
        None
    }
}

/// Entries in use, counted.
#[derive(Debug, Default)]
pub struct Hops {
    indices: Indices,
    users: HashMap<[u8; 16], (u32, u32)>,
    /// Unused entries that a packet may still be looking at, and since when.
    resting: Vec<(u32, u32)>,
}

fn bytes(hop: &NextHop) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&hop.destination);
    bytes[6..12].copy_from_slice(&hop.source);
    bytes[12..].copy_from_slice(&hop.interface.to_ne_bytes());
    bytes
}

impl Hops {
    /// None in use.
    #[must_use]
    pub fn new() -> Hops {
        Hops {
            indices: Indices::new(),
            ..Hops::default()
        }
    }

    /// Entries in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.indices.used()
    }

    /// Size of the table that has room for `more` new entries.
    #[must_use]
    pub fn table_size(&self, more: u32) -> u32 {
        self.indices.table_size(more)
    }

    /// One user more of this hop: its entry, and whether the entry must be written first.
    pub fn take(&mut self, hop: &NextHop) -> (u32, bool) {
        if let Some((index, users)) = self.users.get_mut(&bytes(hop)) {
            *users += 1;
            return (*index, false);
        }
        let index = self.indices.take();
        self.users.insert(bytes(hop), (index, 1));
        (index, true)
    }

    /// One user found in an adopted table. Entries that repeat another one stay in use until the next start.
    pub fn claim(&mut self, index: u32, hop: &NextHop) {
        self.indices.claim(index);
        let entry = self.users.entry(bytes(hop)).or_insert((index, 0));
        entry.1 += 1;
    }

    /// One user less.
    pub fn give(&mut self, hop: &NextHop, now: u32) {
        let key = bytes(hop);
        let Some((index, users)) = self.users.get_mut(&key) else {
            return;
        };
        *users -= 1;
        if *users == 0 {
            self.resting.push((*index, now));
            self.users.remove(&key);
        }
    }

    /// Entries given back at least `rest` ticks ago can be used again.
    pub fn release(&mut self, now: u32, rest: u32) {
        let indices = &mut self.indices;
        self.resting.retain(|&(index, since)| {
            let resting = now.wrapping_sub(since) < rest;
            if !resting {
                indices.give(index);
            }
            resting
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_hops_share_an_entry_and_unused_ones_rest() {
        let mut hops = Hops::new();
        let one = NextHop {
            destination: [1; 6],
            source: [2; 6],
            interface: 3,
        };
        let other = NextHop {
            interface: 4,
            ..one
        };
        assert_eq!(hops.take(&one), (1, true));
        assert_eq!(hops.take(&one), (1, false));
        assert_eq!(hops.take(&other), (2, true));
        hops.give(&one, 100);
        assert_eq!(hops.take(&one), (1, false));
        hops.give(&one, 100);
        hops.give(&one, 100);
        assert_eq!(hops.take(&one), (3, true), "the old entry rests");
        hops.release(105, 6);
        assert_eq!(hops.used(), 3);
        hops.release(106, 6);
        assert_eq!(hops.used(), 2);
    }
}
