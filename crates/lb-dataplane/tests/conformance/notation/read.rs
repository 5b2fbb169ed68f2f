//! Reading a packet.

use std::net::IpAddr;

use super::{
    CHUNKS, EXTENSIONS, FLAGS, Head, Layer, MESSAGES, Mac, Packet, Port, STATIONS, TAGS, Value,
    pattern,
};

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
