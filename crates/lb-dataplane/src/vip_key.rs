//! Keys of the VIP tables.

use std::net::IpAddr;

use lb_common::tables::vip::{TUNNEL_END, Vip4Key, Vip6Key};
use lb_model::vip::{Protocol, VipKey};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Key of either VIP table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum VipTableKey {
    /// A key of `VIPS4`.
    V4(Vip4Key),
    /// A key of `VIPS6`.
    V6(Vip6Key),
}

/// The key of a VIP of one address, one port (or any) and one protocol.
#[must_use]
pub(crate) fn key_of(vip: &VipKey) -> VipTableKey {
    key(vip.address, vip.port, vip.protocol.numbers()[0])
}

/// The key under which an address answers echo requests.
#[must_use]
pub(crate) fn echo_key(address: IpAddr) -> VipTableKey {
    key(address, 0, if address.is_ipv4() { ICMP } else { ICMPV6 })
}

/// The key of an address at which tunnels end.
#[must_use]
pub(crate) fn tunnel_key(address: IpAddr) -> VipTableKey {
    key(address, 0, TUNNEL_END)
}

/// Whether a key is one of [`tunnel_key`].
#[must_use]
pub(crate) fn is_tunnel_key(key: &VipTableKey) -> bool {
    let protocol = match key {
        VipTableKey::V4(key) => key.protocol,
        VipTableKey::V6(key) => key.protocol,
    };
    protocol == TUNNEL_END
}

fn key(address: IpAddr, port: u16, protocol: u8) -> VipTableKey {
    let port = port.to_be_bytes();
    match address {
        IpAddr::V4(a) => VipTableKey::V4(Vip4Key {
            address: a.octets(),
            port,
            protocol,
        }),
        IpAddr::V6(a) => VipTableKey::V6(Vip6Key {
            address: a.octets(),
            port,
            protocol,
        }),
    }
}

/// The VIP of a key; `None` for echo keys and for protocols that no VIP has.
#[must_use]
pub(crate) fn vip_of(key: &VipTableKey) -> Option<VipKey> {
    let (address, port, protocol) = match key {
        VipTableKey::V4(k) => (IpAddr::from(k.address), k.port, k.protocol),
        VipTableKey::V6(k) => (IpAddr::from(k.address), k.port, k.protocol),
    };
    let protocol = match protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        132 => Protocol::Sctp,
        _ => return None,
    };
    Some(VipKey::new(address, u16::from_be_bytes(port), protocol))
}

/// The address of a key.
#[must_use]
pub(crate) fn address_of(key: &VipTableKey) -> IpAddr {
    match key {
        VipTableKey::V4(k) => IpAddr::from(k.address),
        VipTableKey::V6(k) => IpAddr::from(k.address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_there_and_back() {
        for text in ["10.0.0.1:80/tcp", "[2001:db8::1]:0/udp"] {
            let vip: VipKey = text.parse().unwrap();
            assert_eq!(vip_of(&key_of(&vip)), Some(vip));
            assert_eq!(vip_of(&echo_key(vip.address)), None);
            assert_eq!(address_of(&echo_key(vip.address)), vip.address);
        }
    }
}
