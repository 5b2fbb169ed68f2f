//! A VIP's name as a key of the VIP tables, and back.

use std::net::IpAddr;

use lb_common::tables::vip::{Vip4Key, Vip6Key};
use lb_model::vip::{Protocol, VipAddress};

use super::home::VipKey;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The key of a VIP.
#[must_use]
pub fn key_of(vip: &VipAddress) -> VipKey {
    key(vip.address, vip.port, vip.protocol.number())
}

/// The key under which an address answers echo requests.
#[must_use]
pub fn echo_key(address: IpAddr) -> VipKey {
    key(address, 0, if address.is_ipv4() { ICMP } else { ICMPV6 })
}

fn key(address: IpAddr, port: u16, protocol: u8) -> VipKey {
    let port = port.to_be_bytes();
    match address {
        IpAddr::V4(a) => VipKey::V4(Vip4Key {
            address: a.octets(),
            port,
            protocol,
        }),
        IpAddr::V6(a) => VipKey::V6(Vip6Key {
            address: a.octets(),
            port,
            protocol,
        }),
    }
}

/// The VIP of a key; `None` for echo keys and what we never write.
#[must_use]
pub fn vip_of(key: &VipKey) -> Option<VipAddress> {
    let (address, port, protocol) = match key {
        VipKey::V4(k) => (IpAddr::from(k.address), k.port, k.protocol),
        VipKey::V6(k) => (IpAddr::from(k.address), k.port, k.protocol),
    };
    let protocol = match protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => return None,
    };
    Some(VipAddress {
        address,
        port: u16::from_be_bytes(port),
        protocol,
    })
}

/// The address of a key.
#[must_use]
pub fn address_of(key: &VipKey) -> IpAddr {
    match key {
        VipKey::V4(k) => IpAddr::from(k.address),
        VipKey::V6(k) => IpAddr::from(k.address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_there_and_back() {
        for text in ["10.0.0.1:80/tcp", "[2001:db8::1]:0/udp"] {
            let vip: VipAddress = text.parse().unwrap();
            assert_eq!(vip_of(&key_of(&vip)), Some(vip));
            assert_eq!(vip_of(&echo_key(vip.address)), None);
            assert_eq!(address_of(&echo_key(vip.address)), vip.address);
        }
    }
}
