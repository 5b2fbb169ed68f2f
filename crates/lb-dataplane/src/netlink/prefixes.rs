//! The prefixes of routes that have changed. A routing daemon may change a thousand a second, and few of them lead to a
//! real: only the addresses in a changed prefix are looked up again.

use std::{collections::BTreeSet, net::IpAddr};

use rtnetlink::packet_route::{
    AddressFamily,
    route::{RouteAddress, RouteAttribute, RouteMessage},
};

/// Prefixes that are remembered of one burst. With more of them everything is looked up.
const MOST: usize = 4_096;

/// A set of prefixes of one burst of notifications.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// Family, length, and the address without its host bits.
    set: BTreeSet<(bool, u8, u128)>,
}

impl Prefixes {
    /// Adds the prefix of a route. Returns false if it cannot say which addresses are concerned.
    pub fn insert(&mut self, route: &RouteMessage) -> bool {
        let is_v4 = match route.header.address_family {
            AddressFamily::Inet => true,
            AddressFamily::Inet6 => false,
            _ => return true,
        };
        let destination = route
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                    Some(IpAddr::V4(*address))
                }
                RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                    Some(IpAddr::V6(*address))
                }
                _ => None,
            });
        let length = route.header.destination_prefix_length;
        let bits = match (destination, length) {
            // The default route.
            (None, 0) => 0,
            (None, _) => return false,
            (Some(address), _) => bits(address),
        };
        self.set
            .insert((is_v4, length, masked(is_v4, bits, length)));
        self.set.len() <= MOST
    }

    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        if self.set.is_empty() {
            return false;
        }
        let is_v4 = address.is_ipv4();
        let longest = if is_v4 { 32 } else { 128 };
        let bits = bits(address);
        (0..=longest).any(|length| {
            self.set
                .contains(&(is_v4, length, masked(is_v4, bits, length)))
        })
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first `length` bits of an address; the others are 0.
fn masked(is_v4: bool, bits: u128, length: u8) -> u128 {
    let width: u32 = if is_v4 { 32 } else { 128 };
    let host = width.saturating_sub(u32::from(length));
    match host {
        0 => bits,
        host if host >= width => 0,
        host => bits >> host << host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: Option<&str>, length: u8, v4: bool) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.address_family = if v4 {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        route.header.destination_prefix_length = length;
        if let Some(text) = destination {
            let address = match text.parse().unwrap() {
                IpAddr::V4(address) => RouteAddress::Inet(address),
                IpAddr::V6(address) => RouteAddress::Inet6(address),
            };
            route.attributes.push(RouteAttribute::Destination(address));
        }
        route
    }

    #[test]
    fn addresses_in_a_changed_prefix_are_found() {
        let contains = |route: &RouteMessage, address: &str| {
            let mut prefixes = Prefixes::default();
            assert!(prefixes.insert(route));
            prefixes.contains(address.parse().unwrap())
        };
        for (prefix, length, inside, outside) in [
            ("10.1.2.0", 24, "10.1.2.255", "10.1.3.0"),
            ("10.1.2.3", 32, "10.1.2.3", "10.1.2.2"),
            ("128.0.0.0", 1, "255.1.1.1", "127.1.1.1"),
            ("2001:db8::", 64, "2001:db8::1", "2001:db8:0:1::"),
            ("2001:db8::1", 128, "2001:db8::1", "2001:db8::2"),
        ] {
            let route = route(Some(prefix), length, !prefix.contains(':'));
            assert!(contains(&route, inside), "{prefix}/{length}");
            assert!(!contains(&route, outside), "{prefix}/{length}");
        }
        // A default route concerns all of its family.
        assert!(contains(&route(None, 0, true), "10.1.2.3"));
        assert!(!contains(&route(None, 0, true), "2001:db8::1"));
        assert!(contains(&route(None, 0, false), "2001:db8::1"));
    }

    #[test]
    fn what_is_not_understood_concerns_everything() {
        let mut prefixes = Prefixes::default();
        assert!(!prefixes.contains("10.0.0.1".parse().unwrap()));
        assert!(!prefixes.insert(&route(None, 24, true)));
        let mut many = Prefixes::default();
        let text = |number: u32| format!("10.{}.{}.0", number / 256, number % 256);
        let all = (0..5_000).all(|number| many.insert(&route(Some(&text(number)), 24, true)));
        assert!(!all);
    }
}
