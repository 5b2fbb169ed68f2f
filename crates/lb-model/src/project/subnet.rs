//! The networks of projects.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::{
    network::{Network, check_interface},
    pool::AddressRange,
    settings::{FieldError, check_description},
    vip::check_unicast,
};

/// The longest prefix of a subnet's addresses: it has eight at least. IPv4, and IPv6.
const MAX_PREFIX: [u8; 2] = [29, 125];
/// The shortest prefix of a subnet's addresses. IPv4, and IPv6.
const MIN_PREFIX: [u8; 2] = [8, 16];
/// VXLAN ids have 24 bits.
const MAX_VXLAN: u32 = (1 << 24) - 1;
/// The port of VXLAN (RFC 7348).
const VXLAN_PORT: u16 = 4789;
/// The most peers of a VXLAN: each broadcast is sent to every one.
const MAX_PEERS: usize = 64;

crate::settings! {
    /// How a subnet spans hosts: VXLAN (RFC 7348).
    #[derive(Eq)]
    pub struct Vxlan {
        /// Its id (VNI), 1 to 16777215, the same on all hosts. No two subnets have the same.
        id: u32;
        /// UDP port, the same on all hosts.
        port: u16 = VXLAN_PORT, 1..=65_535;
        /// Interface of the host that packets to other hosts leave by; its MTU, less the outer headers, is the subnet's. Default: the route says.
        underlay: Option<String> = None;
        /// Addresses of the other hosts, 64 at most, all of one family.
        peers: Vec<IpAddr> = Vec::new();
    }
    validate(vxlan) {
        let vxlan: &Vxlan = vxlan;
        if !(1..=MAX_VXLAN).contains(&vxlan.id) {
            return Err(FieldError::new("id", vxlan.id, format!("out of range, give 1 to {MAX_VXLAN}")));
        }
        if let Some(underlay) = &vxlan.underlay {
            check_interface(underlay).map_err(|error| error.within("underlay"))?;
        }
        if vxlan.peers.len() > MAX_PEERS {
            return Err(FieldError::new("peers", vxlan.peers.len(), format!("give {MAX_PEERS} at most")));
        }
        for (position, peer) in vxlan.peers.iter().enumerate() {
            let at = |advice: String| FieldError::new(format!("peers[{position}]"), peer, advice);
            check_unicast(*peer).map_err(|error| at(error.to_string()))?;
            if peer.is_ipv4() != vxlan.peers[0].is_ipv4() {
                return Err(at("of another family than the first; give addresses of one".to_owned()));
            }
            if vxlan.peers[..position].contains(peer) {
                return Err(at("it is given twice; name each once".to_owned()));
            }
        }
        Ok(())
    }
}

crate::settings! {
    /// What can be set on a subnet.
    #[derive(Eq)]
    pub struct SubnetSpec {
        /// Its addresses, ADDRESS/LENGTH. They stay as they are. Subnets of a project do not overlap; those of two projects may.
        cidr: Network;
        /// Addresses that load balancers are given, FIRST-LAST/LENGTH; all others are for servers of the project. Default: the
        /// upper half.
        range: Option<AddressRange> = None;
        /// Address of the host in the subnet, by which the host reaches what is in it, and is reached. Without it the host has no
        /// part in the subnet. Nothing is forwarded from the subnet either way.
        gateway: Option<IpAddr> = None;
        /// MTU of the subnet. Default: that of its bridge, which a VXLAN lowers.
        mtu: Option<u32> = None, 576..=65_535;
        /// VXLAN by which it spans hosts. Without it, it is on the controller's host only.
        vxlan: Option<Vxlan> = None;
        /// Labels, for programs of the operator.
        labels: BTreeMap<String, String> = BTreeMap::new();
        /// Free text about the subnet, shown in lists.
        description: Option<String> = None;
    }
    validate(spec) {
        let spec: &SubnetSpec = spec;
        check_description(spec.description.as_deref())?;
        let family = usize::from(spec.cidr.0.addr().is_ipv6());
        let (least, most) = (MIN_PREFIX[family], MAX_PREFIX[family]);
        let prefix = spec.cidr.0.prefix_len();
        if !(least..=most).contains(&prefix) {
            let size = if prefix > most { "small" } else { "large" };
            let advice = format!("too {size} for a subnet; give ADDRESS/LENGTH with a length of {least} to {most}");
            return Err(FieldError::new("cidr", spec.cidr, advice));
        }
        for address in [first(spec.cidr.0), last(spec.cidr.0)] {
            check_unicast(address).map_err(|error| FieldError::new("cidr", spec.cidr, error.to_string()))?;
        }
        if let Some(range) = &spec.range {
            let is_usable = (first(spec.cidr.0)..=last(spec.cidr.0)).contains(&range.first())
                && range.last() <= last(spec.cidr.0);
            if range.network() != spec.cidr.0 || !is_usable {
                let advice = format!("not addresses of the subnet; give a part of {}-{}/{prefix}", first(spec.cidr.0), last(spec.cidr.0));
                return Err(FieldError::new("range", range, advice));
            }
        }
        let Some(gateway) = spec.gateway else {
            return Ok(());
        };
        let wrong = |advice: String| Err(FieldError::new("gateway", gateway, advice));
        if gateway.is_ipv6() {
            return wrong("IPv6 is forwarded by all interfaces of a host or none; leave it out, or give the subnet IPv4 addresses".to_owned());
        }
        if !spec.cidr.0.contains(&gateway) || gateway < first(spec.cidr.0) || gateway > last(spec.cidr.0) {
            return wrong(format!("no address of the subnet; give one of {}-{}", first(spec.cidr.0), last(spec.cidr.0)));
        }
        let range = spec.given();
        if range.contains(gateway) {
            return wrong(format!("load balancers are given the addresses {range}; give another, or another range"));
        }
        Ok(())
    }
}

impl SubnetSpec {
    /// The addresses that load balancers are given.
    ///
    /// # Panics
    /// Never: what was validated has an upper half.
    #[must_use]
    pub fn given(&self) -> AddressRange {
        self.range.unwrap_or_else(|| {
            let network = self.cidr.0;
            // The network's upper half is a network, too.
            let upper = network
                .subnets(network.prefix_len() + 1)
                .ok()
                .and_then(Iterator::last);
            let begin = upper.unwrap_or(network).network();
            let text = format!("{begin}-{}/{}", last(network), network.prefix_len());
            text.parse().expect("it was validated")
        })
    }
}

/// The first address that a station may have.
fn first(network: IpNet) -> IpAddr {
    network.hosts().next().unwrap_or(network.network())
}

/// The last address that a station may have: in IPv4, the one after it is for broadcasts.
fn last(network: IpNet) -> IpAddr {
    match network {
        IpNet::V4(network) => {
            let broadcast = network.broadcast().to_bits();
            IpAddr::V4(broadcast.saturating_sub(1).into())
        }
        IpNet::V6(network) => network.broadcast().into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::{Value, from_map};

    fn read(value: &Value) -> Result<SubnetSpec, String> {
        from_map(value.as_object().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_upper_half_is_given_to_load_balancers() {
        for (cidr, given) in [
            ("10.0.0.0/24", "10.0.0.128-10.0.0.254/24"),
            // Bits of a station are left out.
            ("10.0.0.77/24", "10.0.0.128-10.0.0.254/24"),
            ("10.0.0.8/29", "10.0.0.12-10.0.0.14/29"),
            ("10.0.0.0/8", "10.128.0.0-10.255.255.254/8"),
            (
                "2001:db8::/64",
                "2001:db8:0:0:8000::-2001:db8::ffff:ffff:ffff:ffff/64",
            ),
        ] {
            let spec = read(&json!({ "cidr": cidr })).unwrap();
            assert_eq!(spec.given().to_string(), given);
        }
        let own = json!({ "cidr": "10.0.0.0/24", "range": "10.0.0.1-10.0.0.9/24" });
        assert_eq!(
            read(&own).unwrap().given().to_string(),
            "10.0.0.1-10.0.0.9/24"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let vxlan = |vxlan: Value| json!({ "cidr": "10.0.0.0/24", "vxlan": vxlan });
        for (value, words) in [
            (json!({}), "cidr: not set"),
            (json!({ "cidr": "ten" }), "cidr: "),
            (
                json!({ "cidr": "10.0.0.0/30" }),
                "cidr: 10.0.0.0/30: too small",
            ),
            (
                json!({ "cidr": "10.0.0.7" }),
                "cidr: 10.0.0.7/32: too small",
            ),
            (json!({ "cidr": "0.0.0.0/0" }), "cidr: 0.0.0.0/0: too large"),
            (json!({ "cidr": "224.0.0.0/24" }), "cidr: 224.0.0.0/24"),
            (json!({ "cidr": "127.0.0.0/24" }), "cidr: 127.0.0.0/24"),
            (json!({ "cidr": "fe80::/64" }), "cidr: fe80::/64"),
            (
                json!({ "cidr": "10.0.0.0/24", "range": "10.0.1.1-10.0.1.9/24" }),
                "range: ",
            ),
            (
                json!({ "cidr": "10.0.0.0/24", "range": "10.0.0.1-10.0.0.9/25" }),
                "range: ",
            ),
            (
                json!({ "cidr": "10.0.0.0/24", "range": "10.0.0.9-10.0.0.255/24" }),
                "range: ",
            ),
            (
                json!({ "cidr": "10.0.0.0/24", "gateway": "10.0.1.1" }),
                "gateway: 10.0.1.1: no address of the subnet",
            ),
            (
                json!({ "cidr": "10.0.0.0/24", "gateway": "10.0.0.255" }),
                "gateway: ",
            ),
            (
                json!({ "cidr": "10.0.0.0/24", "gateway": "10.0.0.200" }),
                "gateway: 10.0.0.200: load balancers are given",
            ),
            (
                json!({ "cidr": "2001:db8::/64", "gateway": "2001:db8::1" }),
                "gateway: ",
            ),
            (json!({ "cidr": "10.0.0.0/24", "mtu": 100 }), "mtu: "),
            (vxlan(json!({})), "vxlan.id: not set"),
            (vxlan(json!({ "id": 0 })), "vxlan.id: 0"),
            (vxlan(json!({ "id": 16_777_216 })), "vxlan.id: 16777216"),
            (
                vxlan(json!({ "id": 7, "underlay": "a b" })),
                "vxlan.underlay: ",
            ),
            (
                vxlan(json!({ "id": 7, "peers": ["10.1.0.1", "10.1.0.1"] })),
                "vxlan.peers[1]: ",
            ),
            (
                vxlan(json!({ "id": 7, "peers": ["10.1.0.1", "2001:db8::1"] })),
                "vxlan.peers[1]: ",
            ),
            (
                vxlan(json!({ "id": 7, "peers": ["224.0.0.1"] })),
                "vxlan.peers[0]: ",
            ),
            (json!({ "cidr": "10.0.0.0/24", "colour": 1 }), "colour"),
        ] {
            let error = read(&value).unwrap_err();
            assert!(error.contains(words), "{value}: {error}");
        }
    }
}
