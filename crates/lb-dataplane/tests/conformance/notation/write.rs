//! Writing a packet.

use std::fmt;

use super::{
    CHUNKS, Digits, EXTENSIONS, FLAGS, Head, Layer, MESSAGES, Mac, Packet, Port, STATIONS, TAGS,
    Value, pattern,
};

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
