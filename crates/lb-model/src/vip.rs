//! The names of VIPs and reals: `10.0.0.1:80/tcp` or `[2001:db8::1]:443/udp`, and `10.1.0.2` or `10.1.0.2:8080`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
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
    /// Returns the IP protocol number.
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
    /// Port; 0 means any port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// Why a text or an address is not a VIP or a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// The text does not have the form `ADDRESS:PORT/tcp` or `ADDRESS:PORT/udp`.
    Form,
    /// The text after the slash is neither `tcp` nor `udp`.
    Protocol,
    /// The address is not unicast (unspecified, multicast, broadcast, ...).
    NotUnicast,
    /// The address is an IPv4 address written as IPv6 (`::ffff:a.b.c.d`).
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

impl std::error::Error for AddressError {}

/// Checks that a VIP or a real can have this address.
///
/// # Errors
/// Returns [`AddressError::NotUnicast`] for unspecified, loopback, multicast, broadcast, link-local IPv6 and
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
    /// Reads a name without checking the address, for clients whose input the agent checks.
    ///
    /// # Errors
    /// Returns [`AddressError::Form`] or [`AddressError::Protocol`].
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

crate::text_setting!(VipKey, "`ADDRESS:PORT/PROTOCOL`");
crate::serde_by_json!(VipKey);

/// Names a real of a VIP: its address and, if packets go to another port than the VIP's, that port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RealId {
    /// A unicast address.
    pub address: IpAddr,
    /// Port that packets are sent to; `None` means the VIP's.
    pub port: Option<NonZeroU16>,
}

impl From<IpAddr> for RealId {
    fn from(address: IpAddr) -> Self {
        RealId {
            address,
            port: None,
        }
    }
}

/// Why a text is not the name of a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a real as ADDRESS or ADDRESS:PORT, for example 10.1.0.2, 2001:db8::2 or [2001:db8::2]:8080"
)]
pub struct RealIdError;

impl FromStr for RealId {
    type Err = RealIdError;

    fn from_str(text: &str) -> Result<Self, RealIdError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let socket: SocketAddr = text.parse().map_err(|_| RealIdError)?;
        Ok(RealId {
            address: socket.ip(),
            port: Some(NonZeroU16::new(socket.port()).ok_or(RealIdError)?),
        })
    }
}

impl fmt::Display for RealId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => self.address.fmt(f),
            Some(port) => SocketAddr::new(self.address, port.get()).fmt(f),
        }
    }
}

crate::text_setting!(RealId, "`ADDRESS` or `ADDRESS:PORT`");
crate::serde_by_json!(RealId);

#[cfg(test)]
mod tests {
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

    #[test]
    fn reals_are_read_and_written_alike() {
        for text in ["10.0.0.1", "2001:db8::1", "10.0.0.1:80", "[2001:db8::1]:80"] {
            assert_eq!(text.parse::<RealId>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "10.0.0.1:",
            "10.0.0.1:0",
            "10.0.0.1:65536",
            "[2001:db8::1]",
            "host",
        ] {
            assert_eq!(text.parse::<RealId>(), Err(RealIdError), "{text}");
        }
    }
}
