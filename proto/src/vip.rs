//! Names of VIPs in messages.

use std::net::IpAddr;

use lb_model::vip::{AddressError, Protocol, VipKey};

use crate::v1;

/// A protocol in a message.
#[must_use]
pub const fn protocol(protocol: Protocol) -> v1::Protocol {
    match protocol {
        Protocol::Tcp => v1::Protocol::Tcp,
        Protocol::Udp => v1::Protocol::Udp,
        Protocol::Sctp => v1::Protocol::Sctp,
        Protocol::TcpUdp => v1::Protocol::TcpUdp,
    }
}

/// A protocol of a message; `None` if it is none.
#[must_use]
pub const fn protocol_of(protocol: v1::Protocol) -> Option<Protocol> {
    match protocol {
        v1::Protocol::Tcp => Some(Protocol::Tcp),
        v1::Protocol::Udp => Some(Protocol::Udp),
        v1::Protocol::Sctp => Some(Protocol::Sctp),
        v1::Protocol::TcpUdp => Some(Protocol::TcpUdp),
        v1::Protocol::Unspecified => None,
    }
}

/// A VIP in a message.
#[must_use]
pub fn vip_id(vip: &VipKey) -> v1::VipId {
    let is_range = vip.last_port() != vip.port;
    v1::VipId {
        address: vip.address.to_string(),
        port: vip.port.into(),
        protocol: protocol(vip.protocol).into(),
        prefix_length: if vip.is_prefix() {
            vip.prefix_length().into()
        } else {
            0
        },
        last_port: if is_range { vip.last_port().into() } else { 0 },
    }
}

/// The VIP of these parts of a message; 0 stands for the whole address, and for one port.
///
/// # Errors
/// Those of [`VipKey::wide`].
pub fn vip_key(
    address: IpAddr,
    id: &v1::VipId,
    protocol: Protocol,
) -> Result<VipKey, AddressError> {
    let length = match id.prefix_length {
        0 if address.is_ipv4() => 32,
        0 => 128,
        length => u8::try_from(length).map_err(|_| AddressError::Prefix)?,
    };
    let port = |port: u32| u16::try_from(port).map_err(|_| AddressError::Ports);
    let first = port(id.port)?;
    let last = match id.last_port {
        0 => first,
        last => port(last)?,
    };
    VipKey::wide(address, length, first, last, protocol)
}

/// The VIP of a message; `None` if it is none.
#[must_use]
pub fn vip_of(id: &v1::VipId) -> Option<VipKey> {
    let address = id.address.parse().ok()?;
    vip_key(address, id, protocol_of(id.protocol())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for text in [
            "10.0.0.1:80/tcp",
            "10.0.0.1:0/udp",
            "10.0.0.0/24:80/sctp",
            "10.0.0.1:53/tcp+udp",
            "[2001:db8::/64]:1000-2000/tcp",
        ] {
            let vip: VipKey = text.parse().unwrap();
            assert_eq!(vip_of(&vip_id(&vip)), Some(vip), "{text}");
        }
        let mut id = vip_id(&"10.0.0.0/24:80/tcp".parse().unwrap());
        id.prefix_length = 23;
        assert!(
            vip_of(&id).is_some(),
            "the first address of a longer prefix too"
        );
        id.prefix_length = 300;
        assert_eq!(vip_of(&id), None);
        id.protocol = 0;
        assert_eq!(vip_of(&id), None);
    }
}
