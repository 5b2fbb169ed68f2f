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
    /// SCTP, IP protocol 132.
    Sctp,
    /// TCP and UDP under one name.
    TcpUdp,
}

impl Protocol {
    /// Returns the IP protocol numbers, each once.
    #[must_use]
    pub const fn numbers(self) -> &'static [u8] {
        match self {
            Protocol::Tcp => &[6],
            Protocol::Udp => &[17],
            Protocol::Sctp => &[132],
            Protocol::TcpUdp => &[6, 17],
        }
    }

    /// Returns the protocol with these numbers, in any order; `None` if no VIP has them.
    #[must_use]
    pub fn from_numbers(numbers: &[u8]) -> Option<Protocol> {
        let all = [
            Protocol::Tcp,
            Protocol::Udp,
            Protocol::Sctp,
            Protocol::TcpUdp,
        ];
        let mut numbers = numbers.to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        all.into_iter()
            .find(|protocol| protocol.numbers() == numbers)
    }

    /// Whether packets of TCP are among its own: only they can be answered with a reset.
    #[must_use]
    pub const fn has_tcp(self) -> bool {
        matches!(self, Protocol::Tcp | Protocol::TcpUdp)
    }

    /// Whether packets of UDP are among its own, which do not show where their flow begins.
    #[must_use]
    pub const fn has_udp(self) -> bool {
        matches!(self, Protocol::Udp | Protocol::TcpUdp)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
            Protocol::TcpUdp => "tcp+udp",
        })
    }
}

/// Names a VIP: what clients connect to. That is an address, a port and a protocol, or more than one of any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VipKey {
    /// A unicast address; the first one of a prefix.
    pub address: IpAddr,
    /// Port, or the first one of a range; 0 means any port.
    pub port: u16,
    /// TCP, UDP, SCTP, or TCP and UDP.
    pub protocol: Protocol,
    /// Bits of the address that any packet may have: 0 for one address.
    host_bits: u8,
    /// Ports behind `port` that belong to the VIP as well.
    more_ports: u16,
}

/// Why a text or an address is not a VIP or a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// The text does not have the form `ADDRESS:PORT/PROTOCOL`.
    Form,
    /// The text after the last slash is not `tcp`, `udp`, `sctp` or `tcp+udp`.
    Protocol,
    /// The address is not unicast (unspecified, multicast, broadcast, ...).
    NotUnicast,
    /// The address is an IPv4 address written as IPv6 (`::ffff:a.b.c.d`).
    Mapped,
    /// The length of a prefix is not 1 to 32 or 128, or the address has other bits than those of the prefix.
    Prefix,
    /// A range of ports does not go up, or begins at 0.
    Ports,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::Form => {
                "write a VIP as ADDRESS:PORT/PROTOCOL, for example 10.0.0.1:80/tcp or [2001:db8::1]:443/udp"
            }
            AddressError::Protocol => "the protocol must be tcp, udp, sctp or tcp+udp",
            AddressError::NotUnicast => "not a unicast address",
            AddressError::Prefix => {
                "not a prefix; give its first address and its length, 8 to 32 bits of IPv4 or 16 to 128 of IPv6, for \
                 example 10.0.0.0/24:80/tcp or [2001:db8::/64]:80/tcp"
            }
            AddressError::Ports => {
                "not a range of ports; give the first and the last one, for example 10.0.0.1:1000-1999/tcp, or 0 for \
                 any port"
            }
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
    /// The VIP of one address, port and protocol, or with port 0 of any port.
    #[must_use]
    pub const fn new(address: IpAddr, port: u16, protocol: Protocol) -> VipKey {
        VipKey {
            address,
            port,
            protocol,
            host_bits: 0,
            more_ports: 0,
        }
    }

    /// The VIP of all addresses that begin with the first `length` bits of `address`, and of the ports from `first` to
    /// `last`; both 0 mean any port.
    ///
    /// # Errors
    /// Returns [`AddressError::Prefix`] or [`AddressError::Ports`].
    pub fn wide(
        address: IpAddr,
        length: u8,
        first: u16,
        last: u16,
        protocol: Protocol,
    ) -> Result<VipKey, AddressError> {
        let (bits, least, host) = match address {
            IpAddr::V4(address) => (32_u8, 8, u128::from(u32::from(address))),
            IpAddr::V6(address) => (128, 16, u128::from(address)),
        };
        if !(least..=bits).contains(&length) {
            return Err(AddressError::Prefix);
        }
        let host_bits = bits - length;
        if host & ((1_u128 << host_bits) - 1) != 0 {
            return Err(AddressError::Prefix);
        }
        if last < first || (first == 0 && last != 0) {
            return Err(AddressError::Ports);
        }
        Ok(VipKey {
            address,
            port: first,
            protocol,
            host_bits,
            more_ports: last - first,
        })
    }

    /// The last port; that of a VIP with one port is its port, and 0 that of any port.
    #[must_use]
    pub const fn last_port(&self) -> u16 {
        self.port + self.more_ports
    }

    /// Bits of the address that its packets share: 32 or 128 for one address.
    #[must_use]
    pub const fn prefix_length(&self) -> u8 {
        (if self.address.is_ipv4() { 32 } else { 128 }) - self.host_bits
    }

    /// Whether it has more than one address.
    #[must_use]
    pub const fn is_prefix(&self) -> bool {
        self.host_bits != 0
    }

    /// Whether it is more than an address, a port (or any) and a protocol.
    #[must_use]
    pub const fn is_wide(&self) -> bool {
        self.host_bits != 0 || self.more_ports != 0 || self.protocol.numbers().len() > 1
    }

    /// Whether it is one address and any port of one protocol.
    #[must_use]
    pub const fn is_any_port_of_one_address(&self) -> bool {
        self.port == 0 && !self.is_wide()
    }

    /// Reads a name without checking the address, for clients whose input the agent checks.
    ///
    /// # Errors
    /// Returns [`AddressError::Form`], [`AddressError::Protocol`], [`AddressError::Prefix`] or [`AddressError::Ports`].
    pub fn from_form(text: &str) -> Result<Self, AddressError> {
        let (place, protocol) = text.rsplit_once('/').ok_or(AddressError::Form)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            "tcp+udp" => Protocol::TcpUdp,
            _ => return Err(AddressError::Protocol),
        };
        // A text like `10.0.0.1/tcp` has no port, and its last slash is the protocol's.
        let (address, ports) = match place.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").ok_or(AddressError::Form)?,
            None => place.rsplit_once(':').ok_or(AddressError::Form)?,
        };
        let (address, length) = match address.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (address, None),
        };
        let address = if place.starts_with('[') {
            IpAddr::V6(address.parse().map_err(|_| AddressError::Form)?)
        } else {
            IpAddr::V4(address.parse().map_err(|_| AddressError::Form)?)
        };
        let length = match length {
            Some(length) => length.parse().map_err(|_| AddressError::Prefix)?,
            None if address.is_ipv4() => 32,
            None => 128,
        };
        let port = |text: &str| text.parse::<u16>().map_err(|_| AddressError::Form);
        let (first, last) = match ports.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (port(first)?, port(last)?);
                if first == 0 {
                    return Err(AddressError::Ports);
                }
                (first, last)
            }
            None => (port(ports)?, port(ports)?),
        };
        VipKey::wide(address, length, first, last, protocol)
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
        let (open, close) = match self.address {
            IpAddr::V4(_) => ("", ""),
            IpAddr::V6(_) => ("[", "]"),
        };
        write!(f, "{open}{}", self.address)?;
        if self.is_prefix() {
            write!(f, "/{}", self.prefix_length())?;
        }
        write!(f, "{close}:{}", self.port)?;
        if self.more_ports != 0 {
            write!(f, "-{}", self.last_port())?;
        }
        write!(f, "/{}", self.protocol)
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
            "192.0.2.1:9/sctp",
            "192.0.2.1:53/tcp+udp",
            "192.0.2.1:1000-1999/tcp",
            "192.0.2.0/24:80/tcp",
            "192.0.2.0/24:0/tcp+udp",
            "[2001:db8::/64]:80-81/udp",
        ] {
            assert_eq!(text.parse::<VipKey>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_vip_is_refused() {
        for (text, error) in [
            ("10.0.0.1:80", AddressError::Form),
            ("10.0.0.1/tcp", AddressError::Form),
            ("10.0.0.1:80/icmp", AddressError::Protocol),
            ("10.0.0.1:65536/tcp", AddressError::Form),
            ("[10.0.0.1]:80/tcp", AddressError::Form),
            ("10.0.0.1:80-/tcp", AddressError::Form),
            ("10.0.0.1:90-80/tcp", AddressError::Ports),
            ("10.0.0.1:0-80/tcp", AddressError::Ports),
            ("10.0.0.1/24:80/tcp", AddressError::Prefix),
            ("10.0.0.0/33:80/tcp", AddressError::Prefix),
            ("10.0.0.0/7:80/tcp", AddressError::Prefix),
            ("10.0.0.0/x:80/tcp", AddressError::Prefix),
            ("[2001:db8::1/64]:80/tcp", AddressError::Prefix),
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
