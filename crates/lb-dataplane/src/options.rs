//! Options of a data plane.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
};

use lb_common::tables::nat::NatSettings;

use lb_common::headers::udp::GUE_PORT;
use lb_model::vip::VipKey;

pub use crate::table_sizes::{DEFAULT_FLOW_ENTRIES, DEFAULT_NAT_CONNECTIONS};

/// Folder of the pins by default.
pub const DEFAULT_PINS: &str = "/sys/fs/bpf/lb-agent";

lb_model::choice! {
    /// How the program is attached.
    pub enum XdpMode = Auto {
        /// Native, else generic with a warning.
        Auto = "auto",
        /// In the driver, or not at all.
        Native = "native",
        /// In the kernel's network stack: works everywhere and is several times slower.
        Generic = "generic",
    }
}

/// Outer IPv4 source addresses by default: of the network for benchmarks (RFC 2544), routed nowhere.
pub const DEFAULT_SOURCE_V4: SourcePrefix = SourcePrefix {
    address: IpAddr::V4(Ipv4Addr::new(198, 18, 0, 0)),
    length: 16,
};
/// Outer IPv6 source addresses by default (RFC 5180).
pub const DEFAULT_SOURCE_V6: SourcePrefix = SourcePrefix {
    address: IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0)),
    length: 96,
};

/// A network from which outer source addresses are taken: the host bits vary by flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePrefix {
    address: IpAddr,
    length: u8,
}

impl SourcePrefix {
    /// The prefix; host bits of `address` are cleared.
    ///
    /// # Errors
    /// If `length` is longer than an address of this family.
    pub fn new(address: IpAddr, length: u8) -> Result<SourcePrefix, String> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if length > longest {
            return Err(format!(
                "a prefix of {address} has a length of 0 to {longest}, not {length}"
            ));
        }
        let address = match address {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4((u32::from(a) & mask).into())
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6((u128::from(a) & mask).into())
            }
        };
        Ok(SourcePrefix { address, length })
    }

    /// Its first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The bits that vary: of the IPv4 address, or of the last 32 bits of the IPv6 address.
    #[must_use]
    pub fn host_mask(&self) -> u32 {
        let fixed = match self.address {
            IpAddr::V4(_) => u32::from(self.length),
            IpAddr::V6(_) => u32::from(self.length).saturating_sub(96),
        };
        u32::MAX.checked_shr(fixed).unwrap_or(0)
    }
}

impl FromStr for SourcePrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form =
            || format!("{text:?} is not a prefix; write ADDRESS/LENGTH, for example 198.18.0.0/16");
        let (address, length) = text.split_once('/').ok_or_else(form)?;
        SourcePrefix::new(
            address.parse().map_err(|_| form())?,
            length.parse().map_err(|_| form())?,
        )
    }
}

impl fmt::Display for SourcePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

lb_model::text_setting!(SourcePrefix, "`ADDRESS/LENGTH`");

/// Source ports of mode `nat` by default: those that the kernel does not give to connections of the host
/// (`net.ipv4.ip_local_port_range`, by default 32768 to 60999).
pub const DEFAULT_NAT_PORTS: PortRange = PortRange {
    first: 1_024,
    last: 32_767,
};

/// Ports from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            format!("{text:?} is not a range of ports; write FIRST-LAST, for example 1024-32767")
        };
        let (first, last) = text.split_once('-').ok_or_else(form)?;
        let [first, last] = [first, last].map(|port| port.parse::<u16>());
        let (first, last) = (first.map_err(|_| form())?, last.map_err(|_| form())?);
        if first == 0 || first > last {
            return Err(form());
        }
        Ok(PortRange { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

lb_model::text_setting!(PortRange, "`FIRST-LAST`");

/// Options of mode `nat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatOptions {
    /// Source addresses for IPv4 reals, [`MAX_NAT_SOURCES`] at most.
    pub source4: Vec<Ipv4Addr>,
    /// Source addresses for IPv6 reals.
    pub source6: Vec<Ipv6Addr>,
    /// Source ports.
    pub ports: PortRange,
    /// Connections that the table has room for. It has effect only when the tables are first made.
    pub connections: u32,
}

/// Source addresses of one family at most.
pub const MAX_NAT_SOURCES: usize = lb_common::tables::nat::MAX_SOURCES;

impl Default for NatOptions {
    fn default() -> NatOptions {
        NatOptions {
            source4: Vec::new(),
            source6: Vec::new(),
            ports: DEFAULT_NAT_PORTS,
            connections: DEFAULT_NAT_CONNECTIONS,
        }
    }
}

impl NatOptions {
    /// The record for the programs.
    #[must_use]
    pub(crate) fn record(&self) -> NatSettings {
        let mut settings = NatSettings::default();
        for (place, source) in settings
            .sources4
            .iter_mut()
            .zip(self.source4.iter().cycle())
        {
            *place = u32::from_ne_bytes(source.octets());
        }
        for (place, source) in settings
            .sources6
            .iter_mut()
            .zip(self.source6.iter().cycle())
        {
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = source.octets();
            *place = [
                u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
                u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
            ];
        }
        settings.first_port = u32::from(self.ports.first);
        settings.ports = u32::from(self.ports.last - self.ports.first) + 1;
        settings
    }
}

/// What an agent brings along that wants to go on with tables that it finds. Tables that hold the VIPs of another
/// database are not adopted, since the VIPs would be removed.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// Id of the agent's database, not 0.
    pub state: u64,
    /// Whether the database holds no VIP.
    pub is_empty: bool,
    /// The VIPs that the agent will set, those of its configuration file included.
    pub vips: Vec<VipKey>,
    /// Adopt the tables in any case.
    pub take_over: bool,
}

/// Options of a data plane.
#[derive(Clone, Debug)]
pub struct Options {
    /// Interfaces to attach to; the first one's program is pinned as `balancer`.
    pub interfaces: Vec<String>,
    /// Folder of the pins, on a BPF file system.
    pub pins: PathBuf,
    /// How to attach.
    pub xdp_mode: XdpMode,
    /// Whose tables may be adopted; `None` for any.
    pub claim: Option<Claim>,
    /// Whether an interface that is missing at the start is an error. Otherwise it is waited for, and the others serve
    /// meanwhile.
    pub strict_interfaces: bool,
    /// Flows that the flow table has room for. It has effect only when the tables are first made.
    pub flow_entries: u32,
    /// Seed of the ring hash: the same on every balancer of a fleet.
    pub ring_seed: u64,
    /// Outer IPv4 source addresses. The default is part of the network for benchmarks (RFC 2544), which is
    /// assigned to no host and routed nowhere; a real's reverse-path filter does not see it, because `decap`
    /// removes the outer header first. Where a network on the way drops such sources, give one address of
    /// the balancer (`/32`).
    pub source_v4: SourcePrefix,
    /// Outer IPv6 source addresses; the default is the benchmark network of RFC 5180.
    pub source_v6: SourcePrefix,
    /// The UDP port of the mode `gue`.
    pub gue_port: u16,
    /// Addresses at which tunnels (IP in IP, `gue`) end: what comes out of them is balanced, or passed to the host.
    pub tunnel_ends: BTreeSet<IpAddr>,
    /// Mode `nat`.
    pub nat: NatOptions,
    /// Level down to which the programs log; their messages go to the `log` crate. `None` turns them off.
    pub kernel_log: Option<log::Level>,
}

impl Options {
    /// Defaults, for these interfaces.
    #[must_use]
    pub fn new(interfaces: Vec<String>) -> Options {
        Options {
            interfaces,
            pins: DEFAULT_PINS.into(),
            xdp_mode: XdpMode::Auto,
            claim: None,
            strict_interfaces: false,
            flow_entries: DEFAULT_FLOW_ENTRIES,
            ring_seed: 0,
            source_v4: DEFAULT_SOURCE_V4,
            source_v6: DEFAULT_SOURCE_V6,
            gue_port: GUE_PORT,
            tunnel_ends: BTreeSet::new(),
            nat: NatOptions::default(),
            kernel_log: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports_are_read() {
        assert_eq!("1024-32767".parse(), Ok(DEFAULT_NAT_PORTS));
        let one: PortRange = "5-5".parse().unwrap();
        assert_eq!(one.to_string(), "5-5");
        for text in ["", "5", "0-5", "6-5", "1-65536", "a-b", "-5", "1-2-3"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_place_for_a_source_has_one() {
        let nat = NatOptions {
            source4: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
            ports: "2000-2999".parse().unwrap(),
            ..NatOptions::default()
        };
        let record = nat.record();
        let expected = [[10, 0, 0, 1], [10, 0, 0, 2]].map(u32::from_ne_bytes);
        assert_eq!(
            record.sources4,
            [expected, expected, expected, expected].concat()[..]
        );
        assert_eq!(record.sources6, [[0; 2]; MAX_NAT_SOURCES]);
        assert_eq!((record.first_port, record.ports), (2_000, 1_000));
        assert_eq!(
            "1-65535".parse::<PortRange>().map(|ports| ports.last),
            Ok(65_535)
        );
    }

    #[test]
    fn prefixes_are_read() {
        let prefix: SourcePrefix = "172.16.5.6/12".parse().unwrap();
        assert_eq!(
            (prefix.to_string().as_str(), prefix.host_mask()),
            ("172.16.0.0/12", 0x000F_FFFF)
        );
        let one: SourcePrefix = "192.0.2.1/32".parse().unwrap();
        assert_eq!(
            (one.to_string().as_str(), one.host_mask()),
            ("192.0.2.1/32", 0)
        );
        let any: SourcePrefix = "0.0.0.0/0".parse().unwrap();
        assert_eq!(any.host_mask(), u32::MAX);
        for (text, mask) in [
            ("2001:db8::1/64", u32::MAX),
            ("2001:db8::1/112", 0xFFFF),
            ("2001:db8::1/128", 0),
        ] {
            assert_eq!(
                text.parse::<SourcePrefix>().unwrap().host_mask(),
                mask,
                "{text}"
            );
        }
        for text in [
            "10.0.0.0",
            "10.0.0.0/33",
            "2001:db8::/129",
            "x/8",
            "10.0.0.0/-1",
        ] {
            assert!(text.parse::<SourcePrefix>().is_err(), "{text}");
        }
    }
}
