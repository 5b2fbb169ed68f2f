//! The addresses that the resolver is asked to resolve.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use lb_common::tables::next_hop::NextHop;
use lb_model::options::Forward;

use super::real_record::largest_packet;
use crate::resolver::{ResolvedHop, Resolver};

/// Counts the users of each address.
///
/// Invariant: the resolver knows an address exactly as long as a real has it or a probe to it was asked for.
pub(crate) struct AddressResolution {
    resolver: Box<dyn Resolver>,
    users: HashMap<IpAddr, u32>,
    /// Addresses of VIPs that are resolved for probes; each is one user.
    probed: HashSet<IpAddr>,
}

impl AddressResolution {
    /// No address has a user.
    #[must_use]
    pub fn new(resolver: Box<dyn Resolver>) -> AddressResolution {
        AddressResolution {
            resolver,
            users: HashMap::new(),
            probed: HashSet::new(),
        }
    }

    /// Adds a user of an address.
    pub fn add(&mut self, address: IpAddr) {
        let users = self.users.entry(address).or_default();
        *users += 1;
        if *users == 1 {
            self.resolver.add(address);
        }
    }

    /// Removes a user of an address.
    pub fn remove(&mut self, address: IpAddr) {
        if let Some(users) = self.users.get_mut(&address) {
            *users -= 1;
            if *users == 0 {
                self.users.remove(&address);
                self.resolver.remove(address);
            }
        }
    }

    /// Resolves a VIP's address for probes from now on.
    pub fn add_probed(&mut self, address: IpAddr) {
        if self.probed.insert(address) {
            self.add(address);
        }
    }

    /// Stops resolving a VIP's address for probes.
    pub fn remove_probed(&mut self, address: IpAddr) {
        if self.probed.remove(&address) {
            self.remove(address);
        }
    }

    /// The next hop of a real, if it is known and can be used in this forwarding mode.
    #[must_use]
    pub fn next_hop(&self, address: IpAddr, forward: Forward) -> Option<NextHop> {
        record(self.resolver.resolve(address), forward)
    }

    /// Whether the next hop of an address is not known yet, though nothing speaks against an earlier one.
    #[must_use]
    pub fn is_awaited(&self, address: IpAddr) -> bool {
        self.resolver.is_awaited(address)
    }

    /// Like [`AddressResolution::next_hop`], for an address that was just added: waits some milliseconds for
    /// a neighbour's answer.
    #[must_use]
    pub fn next_hop_soon(&self, address: IpAddr, forward: Forward) -> Option<NextHop> {
        record(self.resolver.resolve_soon(address), forward)
    }

    /// [`lb_common::tables::real::Real::largest`] of a real of this VIP in this forwarding mode, without waiting; `None`
    /// if its way is not known now.
    #[must_use]
    pub fn largest(&self, vip: IpAddr, real: IpAddr, forward: Forward) -> Option<u32> {
        let mtu = self.resolver.resolve(real)?.mtu;
        Some(largest_packet(mtu, vip, real, forward))
    }

    /// Index of the interface by which packets leave for an address; waits as above.
    #[must_use]
    pub fn interface_soon(&self, address: IpAddr) -> Option<u32> {
        self.resolver.resolve_soon(address).map(|hop| hop.interface)
    }

    /// The addresses that are this host's own.
    #[must_use]
    pub fn own(&self) -> BTreeSet<IpAddr> {
        self.resolver.own_addresses()
    }

    /// Whether an address is this host's own.
    #[must_use]
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.resolver.is_own_address(address)
    }

    /// Why an address has no next hop, in words for an operator.
    #[must_use]
    pub fn unresolved_reason(&self, address: IpAddr) -> Option<String> {
        self.resolver.unresolved_reason(address)
    }
}

/// The table's record; `None` if a router is the next hop and the mode needs the real itself.
fn record(hop: Option<ResolvedHop>, forward: Forward) -> Option<NextHop> {
    hop.filter(|hop| hop.direct || !forward.facts().needs_direct_neighbour)
        .map(|hop| NextHop {
            destination: hop.dest_mac,
            source: hop.source_mac,
            interface: hop.interface,
        })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Notes what is added (+) and removed (-); every address is behind a router.
    struct Recorder(Arc<Mutex<String>>);

    impl Resolver for Recorder {
        fn resolve(&self, _address: IpAddr) -> Option<ResolvedHop> {
            Some(ResolvedHop {
                interface: 7,
                source_mac: [1; 6],
                dest_mac: [2; 6],
                direct: false,
                mtu: 1_500,
            })
        }

        fn add(&self, address: IpAddr) {
            self.0.lock().unwrap().push_str(&format!("+{address} "));
        }

        fn remove(&self, address: IpAddr) {
            self.0.lock().unwrap().push_str(&format!("-{address} "));
        }

        fn unresolved_reason(&self, _address: IpAddr) -> Option<String> {
            None
        }
    }

    fn resolution() -> (AddressResolution, Arc<Mutex<String>>) {
        let log = Arc::new(Mutex::new(String::new()));
        let resolver = Box::new(Recorder(Arc::clone(&log)));
        (AddressResolution::new(resolver), log)
    }

    #[test]
    fn an_address_is_resolved_as_long_as_it_has_a_user() {
        let (mut resolution, log) = resolution();
        let address = "10.0.0.1".parse().unwrap();
        resolution.add(address);
        resolution.add_probed(address);
        resolution.add_probed(address);
        resolution.remove(address);
        assert_eq!(*log.lock().unwrap(), "+10.0.0.1 ");
        resolution.remove_probed(address);
        resolution.remove_probed(address);
        assert_eq!(*log.lock().unwrap(), "+10.0.0.1 -10.0.0.1 ");
    }

    #[test]
    fn the_largest_packet_leaves_room_for_what_it_grows_by() {
        const V4: &str = "10.0.0.1";
        const V6: &str = "fd00::1";
        let (resolution, _log) = resolution();
        for (vip, real, forward, expected) in [
            (V4, V4, Forward::Ipip, 1_480),
            (V6, V4, Forward::Ipip, 1_480),
            (V4, V6, Forward::Ipip, 1_460),
            (V6, V6, Forward::Ipip, 1_460),
            (V4, V4, Forward::Gue, 1_472),
            (V4, V6, Forward::Gue, 1_452),
            (V4, V4, Forward::L2, 1_500),
            (V6, V6, Forward::L2, 1_500),
            (V4, V4, Forward::Nat, 1_500),
            (V6, V6, Forward::Nat, 1_500),
            // IPv4 that becomes IPv6 grows by 20 bytes.
            (V4, V6, Forward::Nat, 1_480),
            (V6, V4, Forward::Nat, 1_500),
        ] {
            let largest = resolution.largest(vip.parse().unwrap(), real.parse().unwrap(), forward);
            assert_eq!(largest, Some(expected), "{vip} {real} {forward:?}");
        }
    }

    #[test]
    fn a_real_of_mode_l2_must_be_a_neighbour() {
        let (resolution, _log) = resolution();
        let address = "10.0.0.1".parse().unwrap();
        assert_eq!(
            resolution.next_hop(address, Forward::Ipip),
            Some(NextHop {
                destination: [2; 6],
                source: [1; 6],
                interface: 7
            })
        );
        assert_eq!(resolution.next_hop_soon(address, Forward::L2), None);
        assert_eq!(resolution.interface_soon(address), Some(7));
    }
}
