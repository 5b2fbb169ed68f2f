//! From the notation to bytes. Written from the RFCs, without code of the program that it tests.

use std::net::IpAddr;

use crate::notation::{Head, Layer, Packet, Port, Value, octets, protocol};

/// Ethernet types.
const ETHERNET_IPV4: u16 = 0x0800;
const ETHERNET_ARP: u16 = 0x0806;
const ETHERNET_IPV6: u16 = 0x86DD;
/// Set aside for experiments (IEEE 802, local experimental Ethertype 1).
const ETHERNET_OTHER: u16 = 0x88B5;
/// Set aside for experiments (RFC 3692).
const PROTOCOL_OTHER: u8 = 253;

const DEFAULT_TTL: u32 = 64;
const DEFAULT_WINDOW: u32 = 8_192;
const DEFAULT_SEQUENCE: u32 = 1_000;

/// Returns the bytes of a frame. Values that may be any are those of `received`.
///
/// # Errors
/// In words, if the layers make no frame, or a value is not one of those it may be.
pub fn encode(packet: &Packet, received: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let mut layers = &packet.0[..];
    let mut cut = None;
    let mut trailer = &[][..];
    if let [
        rest @ ..,
        Layer {
            head: Head::Cut(length),
            ..
        },
    ] = layers
    {
        (layers, cut) = (rest, Some(*length));
    }
    if let [
        rest @ ..,
        Layer {
            head: Head::Trailer(bytes),
            ..
        },
    ] = layers
    {
        (layers, trailer) = (rest, &bytes[..]);
    }
    let mut frame = Encoder { received }.layers(layers, 0, &Outer::default())?;
    frame.extend(trailer);
    if let Some(length) = cut {
        if length > frame.len() {
            return Err(format!(
                "the frame has {} bytes and cannot be cut to {length}",
                frame.len()
            ));
        }
        frame.truncate(length);
    }
    Ok(frame)
}

/// What a layer needs of those around it.
#[derive(Default)]
struct Outer {
    /// The sender's MAC address.
    mac: [u8; 6],
    /// The sum of both IP addresses, for checksums.
    addresses: u64,
}

struct Encoder<'a> {
    received: Option<&'a [u8]>,
}

/// The sum of the words of 16 bits; a last byte alone is the high one of its word (RFC 1071 section 1).
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2);
    words
        .map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0)))
        .sum()
}

fn checksum(mut sum: u64) -> u16 {
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

/// Castagnoli's CRC (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 0 { 0 } else { 0x82F6_3B78 };
        }
    }
    !crc
}

/// The number of the protocol that a layer begins.
fn protocol_of(layer: Option<&Layer>, is_v6: bool) -> u8 {
    match layer.map(|layer| &layer.head) {
        Some(Head::Ip { source, .. }) if source.is_ipv4() => protocol::IPV4,
        Some(Head::Ip { .. }) => protocol::IPV6,
        Some(Head::Extension(number)) => *number,
        Some(Head::Tcp { .. }) => protocol::TCP,
        Some(Head::Udp { .. }) => protocol::UDP,
        Some(Head::Sctp { .. }) => protocol::SCTP,
        Some(Head::Icmp { is_v6: true, .. }) => protocol::ICMPV6,
        Some(Head::Icmp { .. }) => protocol::ICMP,
        None if is_v6 => protocol::NO_NEXT,
        _ => PROTOCOL_OTHER,
    }
}

fn ethernet_type(layer: Option<&Layer>) -> u16 {
    match layer.map(|layer| &layer.head) {
        Some(Head::Ip { source, .. }) if source.is_ipv4() => ETHERNET_IPV4,
        Some(Head::Ip { .. }) => ETHERNET_IPV6,
        Some(Head::Arp { .. }) => ETHERNET_ARP,
        Some(Head::Tag { kind, .. }) => *kind,
        _ => ETHERNET_OTHER,
    }
}

fn number(layer: &Layer, name: &str, default: u32) -> u32 {
    match layer.field(name) {
        Some(Value::Number(number)) => *number,
        Some(Value::Set) => 1,
        _ => default,
    }
}

fn length(layer: &Layer, length: usize) -> [u8; 2] {
    (number(layer, "len", length as u32) as u16).to_be_bytes()
}

fn options(layer: &Layer) -> &[u8] {
    match layer.field("options") {
        Some(Value::Hex(bytes)) => bytes,
        _ => &[],
    }
}

/// Writes the checksum of a sum that counts the field as 0.
fn set_checksum(layer: &Layer, bytes: &mut [u8], at: usize, sum: u64, zero_is_none: bool) {
    let right = match checksum(sum) {
        0 if zero_is_none => u16::MAX,
        right => right,
    };
    let value = match layer.field("sum") {
        Some(Value::Number(number)) => *number as u16,
        // In one's complement.
        Some(Value::Bad) => !checksum(u64::from(right) + 1),
        _ => right,
    };
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

impl Encoder<'_> {
    /// The layers that begin at this offset of the frame.
    fn layers(&self, layers: &[Layer], at: usize, outer: &Outer) -> Result<Vec<u8>, String> {
        let Some((layer, rest)) = layers.split_first() else {
            return Ok(Vec::new());
        };
        match &layer.head {
            Head::Ethernet {
                source,
                destination,
            } => {
                let outer = Outer {
                    mac: *source,
                    ..Outer::default()
                };
                let kind = number(layer, "type", ethernet_type(rest.first()).into()) as u16;
                let header = [&destination[..], source, &kind.to_be_bytes()].concat();
                self.behind(header, rest, at, &outer)
            }
            Head::Tag { id, .. } => {
                let kind = number(layer, "type", ethernet_type(rest.first()).into()) as u16;
                let header = [id.to_be_bytes(), kind.to_be_bytes()].concat();
                self.behind(header, rest, at, outer)
            }
            Head::Arp { asker, wanted } => {
                // Ethernet and IPv4, a request (RFC 826).
                let mut header = vec![0, 1, 8, 0, 6, 4, 0, 1];
                header.extend(outer.mac);
                header.extend(asker.octets());
                header.extend([0; 6]);
                header.extend(wanted.octets());
                self.behind(header, rest, at, outer)
            }
            Head::Ip {
                source: source @ IpAddr::V4(_),
                destination,
            } => self.ip4(layer, (*source, *destination), rest, at),
            Head::Ip {
                source,
                destination,
            } => self.ip6(layer, (*source, *destination), rest, at),
            Head::Extension(kind) => self.extension(layer, *kind, rest, at, outer),
            Head::Tcp {
                source,
                destination,
                flags,
            } => {
                let options = options(layer);
                let words = number(layer, "words", 5 + options.len() as u32 / 4) as u8;
                let mut header = self.ports(*source, *destination, at)?;
                header.extend(number(layer, "seq", DEFAULT_SEQUENCE).to_be_bytes());
                header.extend(number(layer, "ack", 0).to_be_bytes());
                header.extend([words << 4, *flags]);
                header.extend((number(layer, "win", DEFAULT_WINDOW) as u16).to_be_bytes());
                header.extend([0, 0]);
                header.extend((number(layer, "urgent", 0) as u16).to_be_bytes());
                header.extend(options);
                let mut bytes = self.behind(header, rest, at, outer)?;
                let sum = pseudo(outer, protocol::TCP, &bytes);
                set_checksum(layer, &mut bytes, 16, sum, false);
                Ok(bytes)
            }
            Head::Udp {
                source,
                destination,
            } => {
                let mut header = self.ports(*source, *destination, at)?;
                header.extend([0; 4]);
                let mut bytes = self.behind(header, rest, at, outer)?;
                let length = length(layer, bytes.len());
                bytes[4..6].copy_from_slice(&length);
                let sum = pseudo(outer, protocol::UDP, &bytes);
                set_checksum(layer, &mut bytes, 6, sum, true);
                Ok(bytes)
            }
            Head::Sctp {
                source,
                destination,
                chunk,
            } => {
                let mut header = self.ports(*source, *destination, at)?;
                header.extend(number(layer, "tag", 0).to_be_bytes());
                header.extend([0; 4]);
                header.extend([*chunk, 0, 0, 0]);
                let mut bytes = self.behind(header, rest, at, outer)?;
                let length = length(layer, bytes.len() - 12);
                bytes[14..16].copy_from_slice(&length);
                let sum = number(layer, "sum", crc32c(&bytes));
                bytes[8..12].copy_from_slice(&sum.to_le_bytes());
                Ok(bytes)
            }
            Head::Icmp {
                is_v6,
                kind,
                code,
                word,
            } => {
                let header = [[*kind, *code, 0, 0], word.to_be_bytes()].concat();
                let mut bytes = self.behind(header, rest, at, outer)?;
                if let Some(Value::Number(quoted)) = layer.field("quoting") {
                    let end = 8 + *quoted as usize;
                    if end > bytes.len() {
                        return Err(format!("there are {} bytes to quote", bytes.len() - 8));
                    }
                    bytes.truncate(end);
                }
                let sum = match is_v6 {
                    true => pseudo(outer, protocol::ICMPV6, &bytes),
                    false => sum(&bytes),
                };
                set_checksum(layer, &mut bytes, 2, sum, false);
                Ok(bytes)
            }
            Head::Bytes(bytes) => self.behind(bytes.clone(), rest, at, outer),
            Head::Trailer(_) | Head::Cut(_) => {
                Err("`pad`, `trailer` and `cut` stand at the end".to_owned())
            }
        }
    }

    /// A header and what follows it.
    fn behind(
        &self,
        mut header: Vec<u8>,
        rest: &[Layer],
        at: usize,
        outer: &Outer,
    ) -> Result<Vec<u8>, String> {
        let payload = self.layers(rest, at + header.len(), outer)?;
        header.extend(payload);
        Ok(header)
    }

    fn ip4(
        &self,
        layer: &Layer,
        (source, destination): (IpAddr, IpAddr),
        rest: &[Layer],
        at: usize,
    ) -> Result<Vec<u8>, String> {
        let options = options(layer);
        let size = 20 + options.len();
        let (source, destination) = (octets(source), octets(destination));
        let outer = Outer {
            mac: [0; 6],
            addresses: sum(&source) + sum(&destination),
        };
        let payload = self.layers(rest, at + size, &outer)?;
        let version = number(layer, "version", 4) as u8;
        let words = number(layer, "words", size as u32 / 4) as u8;
        let identity = match layer.field("id") {
            Some(Value::Any) => self.received(at + 4)?,
            _ => number(layer, "id", 0) as u16,
        };
        let offset = number(layer, "offset", 0);
        if !offset.is_multiple_of(8) {
            return Err("the offset of a fragment is a multiple of 8 bytes".to_owned());
        }
        let fragment = number(layer, "df", 0) << 14 | number(layer, "mf", 0) << 13 | (offset / 8);
        let mut header = vec![version << 4 | words, number(layer, "tos", 0) as u8];
        header.extend(length(layer, size + payload.len()));
        header.extend(identity.to_be_bytes());
        header.extend((fragment as u16).to_be_bytes());
        let protocol = number(layer, "proto", protocol_of(rest.first(), false).into()) as u8;
        header.extend([number(layer, "ttl", DEFAULT_TTL) as u8, protocol, 0, 0]);
        header.extend(source);
        header.extend(destination);
        header.extend(options);
        let sum = sum(&header);
        set_checksum(layer, &mut header, 10, sum, false);
        header.extend(payload);
        Ok(header)
    }

    fn ip6(
        &self,
        layer: &Layer,
        (source, destination): (IpAddr, IpAddr),
        rest: &[Layer],
        at: usize,
    ) -> Result<Vec<u8>, String> {
        let (source, destination) = (octets(source), octets(destination));
        let outer = Outer {
            mac: [0; 6],
            addresses: sum(&source) + sum(&destination),
        };
        let payload = self.layers(rest, at + 40, &outer)?;
        let label = match layer.field("label") {
            Some(Value::Any) => {
                let high = u32::from(self.received(at)?) & 0xF;
                high << 16 | u32::from(self.received(at + 2)?)
            }
            _ => number(layer, "label", 0),
        };
        let first = number(layer, "version", 6) << 28 | number(layer, "tos", 0) << 20 | label;
        let mut header = first.to_be_bytes().to_vec();
        header.extend(length(layer, payload.len()));
        let protocol = number(layer, "proto", protocol_of(rest.first(), true).into()) as u8;
        header.extend([protocol, number(layer, "ttl", DEFAULT_TTL) as u8]);
        header.extend(source);
        header.extend(destination);
        header.extend(payload);
        Ok(header)
    }

    fn extension(
        &self,
        layer: &Layer,
        kind: u8,
        rest: &[Layer],
        at: usize,
        outer: &Outer,
    ) -> Result<Vec<u8>, String> {
        let size = number(layer, "len", 8) as usize;
        if size < 8 || !size.is_multiple_of(8) {
            return Err("an extension header has a multiple of 8 bytes".to_owned());
        }
        let mut header = vec![0; size];
        header[0] = number(layer, "proto", protocol_of(rest.first(), true).into()) as u8;
        header[1] = number(layer, "units", size as u32 / 8 - 1) as u8;
        match kind {
            protocol::FRAGMENT => {
                let offset = number(layer, "offset", 0) | number(layer, "mf", 0);
                header[2..4].copy_from_slice(&(offset as u16).to_be_bytes());
                header[4..8].copy_from_slice(&number(layer, "id", 0).to_be_bytes());
            }
            protocol::ROUTING => header[3] = number(layer, "left", 0) as u8,
            _ => {
                // Padding as an option of its own (RFC 8200 section 4.2); an option's length is one byte.
                let mut at = 2;
                while at < size {
                    let option = (size - at - 2).min(255);
                    // What is left must be no single byte.
                    let option = if size - at - 2 - option == 1 {
                        option - 1
                    } else {
                        option
                    };
                    header[at] = 1;
                    header[at + 1] = option as u8;
                    at += 2 + option;
                }
            }
        }
        self.behind(header, rest, at, outer)
    }

    fn ports(&self, source: Port, destination: Port, at: usize) -> Result<Vec<u8>, String> {
        let one = |port, at| match port {
            Port::One(port) => Ok(port),
            Port::Between(first, last) => {
                let port = self.received(at)?;
                if !(first..=last).contains(&port) {
                    return Err(format!("the port {port} is not one of {first} to {last}"));
                }
                Ok(port)
            }
        };
        let (source, destination) = (one(source, at)?, one(destination, at + 2)?);
        Ok([source.to_be_bytes(), destination.to_be_bytes()].concat())
    }

    /// The word that the received frame has at this offset.
    fn received(&self, at: usize) -> Result<u16, String> {
        let Some(received) = self.received else {
            return Err("only `out` can leave a value open".to_owned());
        };
        let word = received.get(at..at + 2);
        let word = word.ok_or("the frame that was received is too short for a value left open")?;
        Ok(u16::from_be_bytes([word[0], word[1]]))
    }
}

/// The sum of a transport header with its payload and the pseudo header, which is of the same parts in both families.
fn pseudo(outer: &Outer, protocol: u8, bytes: &[u8]) -> u64 {
    // Routing headers with segments left would need the last destination; no case has one whose checksum matters.
    outer.addresses + u64::from(protocol) + bytes.len() as u64 + sum(bytes)
}
