//! Packets as text: `eth router > lb / ip 198.51.100.7 > 10.0.0.1 ttl 9 / tcp 40000 > 80 S / 10 bytes`.
//!
//! A packet is a list of layers from the outside to the inside. A layer is what it is (its head) and fields that differ
//! from what a sender writes: lengths, checksums and numbers of what follows are right unless the text says otherwise.

mod read;
mod write;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A MAC address.
pub type Mac = [u8; 6];

/// The stations of the network, and the balancer's two interfaces: `lb` and `lb1`.
pub const STATIONS: [(&str, Mac); 8] = [
    ("router", [2, 0, 0, 0, 0, 1]),
    ("lb", [2, 0, 0, 0, 0, 2]),
    ("real", [2, 0, 0, 0, 0, 3]),
    ("lb1", [2, 0, 0, 0, 0, 4]),
    ("real1", [2, 0, 0, 0, 0, 5]),
    ("other", [2, 0, 0, 0, 0, 9]),
    ("broadcast", [0xFF; 6]),
    ("multicast", [1, 0, 0x5E, 0, 0, 1]),
];

/// Numbers of protocols in IP headers (IANA).
pub mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const ICMPV6: u8 = 58;
    pub const NO_NEXT: u8 = 59;
    pub const DESTINATION: u8 = 60;
    pub const SCTP: u8 = 132;
}

/// Extension headers of IPv6.
const EXTENSIONS: [(&str, u8); 4] = [
    ("hop-by-hop", protocol::HOP_BY_HOP),
    ("routing", protocol::ROUTING),
    ("fragment", protocol::FRAGMENT),
    ("destination", protocol::DESTINATION),
];

/// VLAN tags by their Ethernet types.
const TAGS: [(&str, u16); 2] = [("vlan", 0x8100), ("qinq", 0x88A8)];

/// TCP's flags by their bits.
const FLAGS: [(char, u8); 8] = [
    ('F', 0x01),
    ('S', 0x02),
    ('R', 0x04),
    ('P', 0x08),
    ('A', 0x10),
    ('U', 0x20),
    ('E', 0x40),
    ('C', 0x80),
];

/// Types of chunks of SCTP.
const CHUNKS: [(&str, u8); 5] = [
    ("data", 0),
    ("init", 1),
    ("heartbeat", 4),
    ("abort", 6),
    ("shutdown-complete", 14),
];

/// Messages of ICMP that have a name: the version, name, type, code.
const MESSAGES: [(bool, &str, u8, u8); 16] = [
    (false, "net-unreachable", 3, 0),
    (false, "host-unreachable", 3, 1),
    (false, "port-unreachable", 3, 3),
    (false, "too-big", 3, 4),
    (false, "time-exceeded", 11, 0),
    (false, "parameter-problem", 12, 0),
    (false, "echo", 8, 0),
    (false, "echo-reply", 0, 0),
    (true, "net-unreachable", 1, 0),
    (true, "host-unreachable", 1, 3),
    (true, "port-unreachable", 1, 4),
    (true, "too-big", 2, 0),
    (true, "time-exceeded", 3, 0),
    (true, "parameter-problem", 4, 0),
    (true, "echo", 128, 0),
    (true, "echo-reply", 129, 0),
];

/// A port, or any of a range: then a packet that was received says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    One(u16),
    Between(u16, u16),
}

/// What a layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    Ethernet {
        source: Mac,
        destination: Mac,
    },
    Tag {
        kind: u16,
        id: u16,
    },
    Arp {
        asker: Ipv4Addr,
        wanted: Ipv4Addr,
    },
    Ip {
        source: IpAddr,
        destination: IpAddr,
    },
    Extension(u8),
    Tcp {
        source: Port,
        destination: Port,
        flags: u8,
    },
    Udp {
        source: Port,
        destination: Port,
    },
    Sctp {
        source: Port,
        destination: Port,
        chunk: u8,
    },
    Icmp {
        is_v6: bool,
        kind: u8,
        code: u8,
        word: u32,
    },
    Bytes(Vec<u8>),
    /// Bytes in the frame behind the packet: Ethernet's padding, if they are zero.
    Trailer(Vec<u8>),
    /// The frame ends after this many bytes.
    Cut(usize),
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(u32),
    Hex(Vec<u8>),
    /// It is set.
    Set,
    /// Any: a packet that was received says which.
    Any,
    /// A checksum that is wrong by one.
    Bad,
}

/// A layer of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub head: Head,
    pub fields: Vec<(&'static str, Value)>,
}

/// A packet, from the outside to the inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet(pub Vec<Layer>);

impl Head {
    /// The fields that a layer can have.
    pub fn fields(&self) -> &'static [&'static str] {
        match self {
            Head::Ethernet { .. } | Head::Tag { .. } => &["type"],
            Head::Ip {
                source: IpAddr::V4(_),
                ..
            } => &[
                "ttl", "tos", "id", "df", "mf", "offset", "options", "len", "words", "version",
                "proto", "sum",
            ],
            Head::Ip { .. } => &["ttl", "tos", "label", "len", "version", "proto"],
            Head::Extension(_) => &["len", "units", "left", "offset", "mf", "id", "proto"],
            Head::Tcp { .. } => &["seq", "ack", "win", "options", "words", "urgent", "sum"],
            Head::Udp { .. } => &["len", "sum"],
            Head::Sctp { .. } => &["tag", "len", "sum"],
            Head::Icmp { .. } => &["quoting", "sum"],
            Head::Arp { .. } | Head::Bytes(_) | Head::Trailer(_) | Head::Cut(_) => &[],
        }
    }
}

impl Layer {
    pub fn new(head: Head) -> Layer {
        Layer {
            head,
            fields: Vec::new(),
        }
    }

    pub fn field(&self, name: &str) -> Option<&Value> {
        let found = self.fields.iter().find(|(field, _)| *field == name);
        found.map(|(_, value)| value)
    }
}

/// The octets of an address.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An address of 4 or 16 octets.
pub fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(octets).ok()?;
    Some(Ipv6Addr::from(octets).into())
}

/// The payload `N bytes`: 0, 1, 2 and so on.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| at as u8).collect()
}

/// Bytes as hexadecimal digits.
pub struct Digits<'a>(pub &'a [u8]);
