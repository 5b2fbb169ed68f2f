//! A VIP's name: address, port and protocol, as in `10.0.0.1:80/tcp` and `[2001:db8::1]:443/udp`.

use core::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// Transport protocol of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
}

impl Protocol {
    /// IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// Names a VIP: the address, port and protocol that clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VipKey {
    /// A unicast address.
    pub address: IpAddr,
    /// 0 is any port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// The earlier name of [`VipKey`].
pub type VipAddress = VipKey;

/// Why a text or an address is no VIP or no real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// Not of the form `ADDRESS:PORT/tcp` or `ADDRESS:PORT/udp`.
    Form,
    /// Neither `tcp` nor `udp` behind the slash.
    Protocol,
    /// Not a unicast address (unspecified, multicast, broadcast, ...).
    NotUnicast,
    /// An IPv4 address written as IPv6 (`::ffff:a.b.c.d`).
    Mapped,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::Form => {
                "write a VIP as ADDRESS:PORT/PROTOCOL, for example 10.0.0.1:80/tcp or [2001:db8::1]:443/udp"
            }
            AddressError::Protocol => "the protocol must be tcp or udp",
            AddressError::NotUnicast => "not a unicast address",
            AddressError::Mapped => "an IPv4 address written as IPv6; write it as a.b.c.d",
        })
    }
}

impl core::error::Error for AddressError {}

/// Checks that a VIP or a real can have this address.
///
/// # Errors
/// [`AddressError::NotUnicast`] for unspecified, loopback, multicast, broadcast, link-local IPv6 and
/// reserved IPv4 (240.0.0.0/4, 0.0.0.0/8) addresses; [`AddressError::Mapped`] for IPv4-mapped ones.
pub fn check_unicast(address: IpAddr) -> Result<(), AddressError> {
    let unicast = match address {
        IpAddr::V4(a) => {
            let first = a.octets()[0];
            first != 0 && first != 127 && first < 224
        }
        IpAddr::V6(a) => {
            if a.to_ipv4_mapped().is_some() {
                return Err(AddressError::Mapped);
            }
            !(a.is_unspecified()
                || a.is_loopback()
                || a.is_multicast()
                || a.is_unicast_link_local())
        }
    };
    if unicast {
        Ok(())
    } else {
        Err(AddressError::NotUnicast)
    }
}

impl VipKey {
    /// Reads the form only, also of an address that no VIP can have: what a client types, before the
    /// agent judges it.
    ///
    /// # Errors
    /// [`AddressError::Form`] and [`AddressError::Protocol`].
    pub fn from_form(text: &str) -> Result<Self, AddressError> {
        let (socket, protocol) = text.rsplit_once('/').ok_or(AddressError::Form)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(AddressError::Protocol),
        };
        let socket: SocketAddr = socket.parse().map_err(|_| AddressError::Form)?;
        Ok(VipKey {
            address: socket.ip(),
            port: socket.port(),
            protocol,
        })
    }
}

impl FromStr for VipKey {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let vip = VipKey::from_form(text)?;
        check_unicast(vip.address)?;
        Ok(vip)
    }
}

impl fmt::Display for VipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            SocketAddr::new(self.address, self.port),
            self.protocol
        )
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString as _;

    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for text in [
            "10.0.0.1:80/tcp",
            "[2001:db8::1]:443/udp",
            "192.0.2.1:0/tcp",
        ] {
            assert_eq!(text.parse::<VipKey>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_vip_is_refused() {
        for (text, error) in [
            ("10.0.0.1:80", AddressError::Form),
            ("10.0.0.1/tcp", AddressError::Form),
            ("10.0.0.1:80/sctp", AddressError::Protocol),
            ("10.0.0.1:65536/tcp", AddressError::Form),
            ("2001:db8::1:80/tcp", AddressError::Form),
            ("0.0.0.0:80/tcp", AddressError::NotUnicast),
            ("224.0.0.1:80/tcp", AddressError::NotUnicast),
            ("255.255.255.255:80/tcp", AddressError::NotUnicast),
            ("127.0.0.1:80/tcp", AddressError::NotUnicast),
            ("[ff02::1]:80/tcp", AddressError::NotUnicast),
            ("[::]:80/tcp", AddressError::NotUnicast),
            ("[fe80::1]:80/tcp", AddressError::NotUnicast),
            ("[::ffff:10.0.0.1]:80/tcp", AddressError::Mapped),
        ] {
            assert_eq!(text.parse::<VipKey>(), Err(error), "{text}");
            let of_form = matches!(error, AddressError::NotUnicast | AddressError::Mapped);
            assert_eq!(VipKey::from_form(text).is_ok(), of_form, "{text}");
        }
    }
}
