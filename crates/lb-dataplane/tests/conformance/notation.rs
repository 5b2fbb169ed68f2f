//! Packets as text: `eth router > lb / ip 198.51.100.7 > 10.0.0.1 ttl 9 / tcp 40000 > 80 S / 10 bytes`.
//!
//! A packet is a list of layers from the outside to the inside. A layer is what it is (its head) and fields that differ
//! from what a sender writes: lengths, checksums and numbers of what follows are right unless the text says otherwise.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

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

/// The words of a layer.
struct Words<'a> {
    words: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
    layer: &'a str,
}

impl<'a> Words<'a> {
    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.words
            .next()
            .ok_or_else(|| format!("`{}` ends where {what} should stand", self.layer.trim()))
    }

    /// Reads `SOURCE > DESTINATION`.
    fn ends<T>(&mut self, what: &str, read: impl Fn(&str) -> Option<T>) -> Result<(T, T), String> {
        let end = |words: &mut Words<'a>| {
            let word = words.next(what)?;
            read(word).ok_or_else(|| format!("`{word}` is not {what}"))
        };
        let source = end(self)?;
        let arrow = self.next("`>`")?;
        if arrow != ">" {
            return Err(format!("`>` should stand where `{arrow}` is"));
        }
        Ok((source, end(self)?))
    }

    fn number(&mut self, what: &str) -> Result<u32, String> {
        let word = self.next(what)?;
        number(word).ok_or_else(|| format!("`{word}` is not {what}"))
    }

    fn number_if_any(&mut self) -> Option<u32> {
        let value = number(self.words.peek()?)?;
        self.words.next();
        Some(value)
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn mac(text: &str) -> Option<Mac> {
    if let Some((_, mac)) = STATIONS.iter().find(|(name, _)| *name == text) {
        return Some(*mac);
    }
    let mut mac = [0; 6];
    let mut bytes = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(bytes.next()?, 16).ok()?;
    }
    bytes.next().is_none().then_some(mac)
}

fn port(text: &str) -> Option<Port> {
    match text.split_once('-') {
        Some((first, last)) => Some(Port::Between(first.parse().ok()?, last.parse().ok()?)),
        None => text.parse().ok().map(Port::One),
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let bytes = (0..text.len()).step_by(2);
    bytes
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

/// The payload `N bytes`: 0, 1, 2 and so on.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| at as u8).collect()
}

fn flags(text: &str) -> Option<u8> {
    if text == "-" {
        return Some(0);
    }
    text.chars().try_fold(0, |flags, letter| {
        let (_, bit) = FLAGS.iter().find(|(name, _)| *name == letter)?;
        Some(flags | bit)
    })
}

fn icmp(words: &mut Words<'_>, is_v6: bool) -> Result<Head, String> {
    let name = words.next("a message of ICMP")?;
    let message = MESSAGES
        .iter()
        .find(|message| (message.0, message.1) == (is_v6, name));
    let (kind, code, word) = match (message, name) {
        (Some((_, _, kind, code)), "echo" | "echo-reply") => {
            let id = words.number("an identifier")?;
            (*kind, *code, id << 16 | words.number("a sequence number")?)
        }
        (Some((_, _, kind, code)), "too-big") => (*kind, *code, words.number("an MTU")?),
        (Some((_, _, kind, code)), "parameter-problem") => {
            let pointer = words.number("a pointer")?;
            (*kind, *code, if is_v6 { pointer } else { pointer << 24 })
        }
        (Some((_, _, kind, code)), _) => (*kind, *code, 0),
        (None, "type") => {
            let kind = words.number("a type")? as u8;
            let code = words.number("a code")? as u8;
            (kind, code, words.number_if_any().unwrap_or(0))
        }
        (None, _) => {
            return Err(format!(
                "`{name}` is no message of ICMP that has a name here; write `type TYPE CODE [WORD]`"
            ));
        }
    };
    Ok(Head::Icmp {
        is_v6,
        kind,
        code,
        word,
    })
}

fn head(words: &mut Words<'_>, in_v6: bool) -> Result<Head, String> {
    let word = words.next("a layer")?;
    if let Some((_, kind)) = TAGS.iter().find(|(name, _)| *name == word) {
        let id = words.number("the number of a VLAN")? as u16;
        return Ok(Head::Tag { kind: *kind, id });
    }
    if let Some((_, number)) = EXTENSIONS.iter().find(|(name, _)| *name == word) {
        return Ok(Head::Extension(*number));
    }
    Ok(match word {
        "eth" => {
            let (source, destination) = words.ends("a station", mac)?;
            Head::Ethernet {
                source,
                destination,
            }
        }
        "arp" => {
            let (asker, wanted) = words.ends("an IPv4 address", |text| text.parse().ok())?;
            Head::Arp { asker, wanted }
        }
        "ip" => {
            let (source, destination) =
                words.ends("an IP address", |text| text.parse::<IpAddr>().ok())?;
            if source.is_ipv4() != destination.is_ipv4() {
                return Err("the addresses are of two families".to_owned());
            }
            Head::Ip {
                source,
                destination,
            }
        }
        "tcp" => {
            let (source, destination) = words.ends("a port", port)?;
            let text = words.next("the flags of TCP (`S`, `PA`, `-` for none)")?;
            let flags = flags(text).ok_or_else(|| format!("`{text}` are not flags of TCP"))?;
            Head::Tcp {
                source,
                destination,
                flags,
            }
        }
        "udp" => {
            let (source, destination) = words.ends("a port", port)?;
            Head::Udp {
                source,
                destination,
            }
        }
        "sctp" => {
            let (source, destination) = words.ends("a port", port)?;
            let text = words.next("a chunk of SCTP")?;
            let chunk = CHUNKS.iter().find(|(name, _)| *name == text);
            let (_, chunk) = chunk
                .ok_or_else(|| format!("`{text}` is no chunk of SCTP that has a name here"))?;
            Head::Sctp {
                source,
                destination,
                chunk: *chunk,
            }
        }
        "icmp" => icmp(words, in_v6)?,
        "hex" => {
            let text: String = std::iter::from_fn(|| words.words.next()).collect();
            Head::Bytes(hex(&text).ok_or_else(|| format!("`{text}` are not hexadecimal digits"))?)
        }
        "pad" => Head::Trailer(vec![0; words.number("a number of bytes")? as usize]),
        "trailer" => {
            let text = words.next("hexadecimal digits")?;
            Head::Trailer(hex(text).ok_or_else(|| format!("`{text}` are not hexadecimal digits"))?)
        }
        "cut" => Head::Cut(words.number("a number of bytes")? as usize),
        count if number(count).is_some() => {
            let unit = words.next("`bytes`")?;
            if unit != "bytes" {
                return Err(format!("`bytes` should stand where `{unit}` is"));
            }
            Head::Bytes(pattern(number(count).unwrap_or(0) as usize))
        }
        other => return Err(format!("`{other}` is no layer")),
    })
}

fn value(name: &str, words: &mut Words<'_>) -> Result<Value, String> {
    match name {
        "df" | "mf" => return Ok(Value::Set),
        "options" => {
            let text = words.next("hexadecimal digits")?;
            let bytes = hex(text).ok_or_else(|| format!("`{text}` are not hexadecimal digits"))?;
            if !bytes.len().is_multiple_of(4) {
                return Err("options have a multiple of 4 bytes".to_owned());
            }
            return Ok(Value::Hex(bytes));
        }
        _ => {}
    }
    let text = words.next("a number")?;
    match (name, text) {
        ("sum", "bad") => Ok(Value::Bad),
        ("id" | "label", "any") => Ok(Value::Any),
        _ => number(text)
            .map(Value::Number)
            .ok_or_else(|| format!("`{text}` is no value of `{name}`")),
    }
}

impl std::str::FromStr for Packet {
    type Err = String;

    fn from_str(text: &str) -> Result<Packet, String> {
        let mut layers: Vec<Layer> = Vec::new();
        for layer in text.split(" / ") {
            let mut words = Words {
                words: layer.split_whitespace().peekable(),
                layer,
            };
            // What ICMP is follows from the header that it is behind.
            let ip = layers.iter().rev().find_map(|layer| match layer.head {
                Head::Ip { source, .. } => Some(source),
                _ => None,
            });
            let head = head(&mut words, ip.is_some_and(|source| source.is_ipv6()))?;
            let mut layer = Layer::new(head);
            while let Some(word) = words.words.next() {
                let names = layer.head.fields();
                let name = *names.iter().find(|name| **name == word).ok_or_else(|| {
                    format!(
                        "`{word}` is no field of this layer; it has {}",
                        names.join(", ")
                    )
                })?;
                let value = value(name, &mut words)?;
                layer.fields.push((name, value));
            }
            layers.push(layer);
        }
        Ok(Packet(layers))
    }
}

struct Station(Mac);

impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = STATIONS.iter().find(|(_, mac)| *mac == self.0) {
            return f.write_str(name);
        }
        let bytes: Vec<_> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.write_str(&bytes.join(":"))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::One(port) => write!(f, "{port}"),
            Port::Between(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// Bytes as hexadecimal digits.
pub struct Digits<'a>(pub &'a [u8]);

impl fmt::Display for Digits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Head::Ethernet {
                source,
                destination,
            } => write!(f, "eth {} > {}", Station(*source), Station(*destination)),
            Head::Tag { kind, id } => {
                let (name, _) = TAGS.iter().find(|tag| tag.1 == *kind).unwrap_or(&TAGS[0]);
                write!(f, "{name} {id}")
            }
            Head::Arp { asker, wanted } => write!(f, "arp {asker} > {wanted}"),
            Head::Ip {
                source,
                destination,
            } => write!(f, "ip {source} > {destination}"),
            Head::Extension(number) => {
                let known = EXTENSIONS.iter().find(|extension| extension.1 == *number);
                f.write_str(known.map_or("?", |(name, _)| name))
            }
            Head::Tcp {
                source,
                destination,
                flags,
            } => {
                write!(f, "tcp {source} > {destination} ")?;
                if *flags == 0 {
                    return f.write_str("-");
                }
                let set = FLAGS.iter().filter(|(_, bit)| flags & bit != 0);
                set.into_iter()
                    .try_for_each(|(name, _)| write!(f, "{name}"))
            }
            Head::Udp {
                source,
                destination,
            } => write!(f, "udp {source} > {destination}"),
            Head::Sctp {
                source,
                destination,
                chunk,
            } => {
                let known = CHUNKS.iter().find(|known| known.1 == *chunk);
                let name = known.map_or("?", |(name, _)| name);
                write!(f, "sctp {source} > {destination} {name}")
            }
            Head::Icmp {
                is_v6,
                kind,
                code,
                word,
            } => {
                let known = MESSAGES
                    .iter()
                    .find(|message| (message.0, message.2, message.3) == (*is_v6, *kind, *code));
                match known {
                    Some((_, name @ ("echo" | "echo-reply"), ..)) => {
                        write!(f, "icmp {name} {} {}", word >> 16, word & 0xFFFF)
                    }
                    Some((_, "too-big", ..)) => write!(f, "icmp too-big {word}"),
                    Some((_, "parameter-problem", ..)) if *is_v6 || word.trailing_zeros() >= 24 => {
                        let pointer = if *is_v6 { *word } else { word >> 24 };
                        write!(f, "icmp parameter-problem {pointer}")
                    }
                    Some((_, name, ..)) if *word == 0 => write!(f, "icmp {name}"),
                    _ => write!(f, "icmp type {kind} {code} {word:#x}"),
                }
            }
            Head::Bytes(bytes) if *bytes == pattern(bytes.len()) => {
                write!(f, "{} bytes", bytes.len())
            }
            Head::Bytes(bytes) => write!(f, "hex {}", Digits(bytes)),
            Head::Trailer(bytes) if bytes.iter().all(|byte| *byte == 0) => {
                write!(f, "pad {}", bytes.len())
            }
            Head::Trailer(bytes) => write!(f, "trailer {}", Digits(bytes)),
            Head::Cut(length) => write!(f, "cut {length}"),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.head)?;
        for (name, value) in &self.fields {
            match value {
                Value::Set => write!(f, " {name}")?,
                Value::Any => write!(f, " {name} any")?,
                Value::Bad => write!(f, " {name} bad")?,
                Value::Hex(bytes) => write!(f, " {name} {}", Digits(bytes))?,
                Value::Number(number) if *name == "sum" || *name == "type" => {
                    write!(f, " {name} {number:#x}")?;
                }
                Value::Number(number) => write!(f, " {name} {number}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, layer) in self.0.iter().enumerate() {
            let slash = if at == 0 { "" } else { " / " };
            write!(f, "{slash}{layer}")?;
        }
        Ok(())
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
