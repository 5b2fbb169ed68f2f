//! The addresses of the VIPs.

use std::{collections::HashMap, net::IpAddr};

use lb_common::tables::config::{ANY_PORT_V4, ANY_PORT_V6};
use lb_model::vip::VipKey;

/// Counts VIPs by address, and those without a port.
///
/// Invariant: an address is listed as long as a VIP has it, so that it answers echo requests exactly then;
/// the flags of `CONFIG` say whether there is a VIP with port 0 of each family.
#[derive(Debug, Default)]
pub(crate) struct VipIndex {
    addresses: HashMap<IpAddr, u32>,
    /// VIPs with port 0, IPv4 and IPv6.
    any_port: [u32; 2],
}

impl VipIndex {
    /// Adds a VIP.
    pub fn insert(&mut self, vip: &VipKey) {
        if vip.is_prefix() {
            return;
        }
        *self.addresses.entry(vip.address).or_default() += 1;
        if vip.is_any_port_of_one_address() {
            self.any_port[usize::from(vip.address.is_ipv6())] += 1;
        }
    }

    /// Removes a VIP; returns true if no other VIP has its address. That of a prefix is not counted. A VIP that was never
    /// added (its first change failed) has none either.
    pub fn remove(&mut self, vip: &VipKey) -> bool {
        if vip.is_prefix() {
            return false;
        }
        let Some(count) = self.addresses.get_mut(&vip.address) else {
            return true;
        };
        if vip.is_any_port_of_one_address() {
            let any_port = &mut self.any_port[usize::from(vip.address.is_ipv6())];
            *any_port = any_port.saturating_sub(1);
        }
        *count -= 1;
        let last = *count == 0;
        if last {
            self.addresses.remove(&vip.address);
        }
        last
    }

    /// Whether a VIP has this address.
    #[must_use]
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.addresses.contains_key(address)
    }

    /// Every address once, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.keys().copied()
    }

    /// `Config::flags` of the `CONFIG` table.
    #[must_use]
    pub fn config_flags(&self) -> u32 {
        let [v4, v6] = self.any_port;
        (if v4 > 0 { ANY_PORT_V4 } else { 0 }) | (if v6 > 0 { ANY_PORT_V6 } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_flag_last_as_long_as_a_vip_has_them() {
        let [http, any, other] = ["10.0.0.1:80/tcp", "10.0.0.1:0/udp", "[2001:db8::1]:0/tcp"]
            .map(|text| text.parse::<VipKey>().unwrap());
        let mut index = VipIndex::default();
        for vip in [&http, &any, &other] {
            index.insert(vip);
        }
        assert_eq!(index.addresses().count(), 2);
        assert_eq!(index.config_flags(), ANY_PORT_V4 | ANY_PORT_V6);
        assert!(!index.remove(&any), "another VIP has the address");
        assert_eq!(index.config_flags(), ANY_PORT_V6);
        assert!(index.contains(&http.address));
        assert!(index.remove(&http) && !index.contains(&http.address));
        assert!(index.remove(&other));
        assert_eq!(index.config_flags(), 0);
    }
}
