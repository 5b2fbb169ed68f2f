//! From bytes to the notation, so that a packet that differs can be read.

use crate::{
    encode::encode,
    notation::{Head, Layer, Packet, Port, Value, address, protocol},
};

/// Describes a frame. The description encodes to the same bytes.
pub fn decode(frame: &[u8]) -> Packet {
    let mut layers = Vec::new();
    ethernet(&mut layers, frame);
    let mut packet = Packet(layers);
    if encode(&packet, None).as_deref() != Ok(frame) {
        return Packet(vec![Layer::new(Head::Bytes(frame.to_vec()))]);
    }
    // What a sender would write by itself is left out, from the inside to the outside.
    for at in (0..packet.0.len()).rev() {
        let mut field = 0;
        while field < packet.0[at].fields.len() {
            let removed = packet.0[at].fields.remove(field);
            if encode(&packet, None).as_deref() != Ok(frame) {
                packet.0[at].fields.insert(field, removed);
                field += 1;
            }
        }
    }
    packet
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) << 16 | u32::from(u16_at(bytes, at + 2))
}

fn push(layers: &mut Vec<Layer>, head: Head, fields: &[(&'static str, u32)]) {
    let fields = fields.iter();
    layers.push(Layer {
        head,
        fields: fields
            .map(|(name, number)| (*name, Value::Number(*number)))
            .collect(),
    });
}

/// Sets a field of the last layer.
fn set(layers: &mut [Layer], name: &'static str, value: Value) {
    if let Some(layer) = layers.last_mut() {
        layer.fields.push((name, value));
    }
}

fn rest(layers: &mut Vec<Layer>, bytes: &[u8]) {
    if !bytes.is_empty() {
        push(layers, Head::Bytes(bytes.to_vec()), &[]);
    }
}

fn ethernet(layers: &mut Vec<Layer>, frame: &[u8]) {
    let Some((header, payload)) = frame.split_first_chunk::<14>() else {
        return rest(layers, frame);
    };
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *header;
    let head = Head::Ethernet {
        destination: [a, b, c, d, e, f],
        source: [g, h, i, j, k, l],
    };
    push(layers, head, &[("type", u16_at(header, 12).into())]);
    network(layers, u16_at(header, 12), payload);
}

fn network(layers: &mut Vec<Layer>, kind: u16, bytes: &[u8]) {
    match kind {
        0x8100 | 0x88A8 if bytes.len() >= 4 => {
            let head = Head::Tag {
                kind,
                id: u16_at(bytes, 0),
            };
            push(layers, head, &[("type", u16_at(bytes, 2).into())]);
            network(layers, u16_at(bytes, 2), &bytes[4..]);
        }
        0x0800 | 0x86DD => {
            let length = match kind {
                0x0800 if bytes.len() >= 20 => u16_at(bytes, 2).into(),
                0x86DD if bytes.len() >= 40 => 40 + usize::from(u16_at(bytes, 4)),
                _ => return rest(layers, bytes),
            };
            let size = if kind == 0x0800 { 20 } else { 40 };
            let (packet, trailer) = bytes.split_at(if length < size {
                bytes.len()
            } else {
                length.min(bytes.len())
            });
            ip(layers, kind == 0x86DD, packet);
            if !trailer.is_empty() {
                push(layers, Head::Trailer(trailer.to_vec()), &[]);
            }
        }
        0x0806 if bytes.len() >= 28 && bytes.starts_with(&[0, 1, 8, 0, 6, 4, 0, 1]) => {
            let at = |from: usize| {
                [
                    bytes[from],
                    bytes[from + 1],
                    bytes[from + 2],
                    bytes[from + 3],
                ]
            };
            let head = Head::Arp {
                asker: at(14).into(),
                wanted: at(24).into(),
            };
            push(layers, head, &[]);
            rest(layers, &bytes[28..]);
        }
        _ => rest(layers, bytes),
    }
}

fn ip(layers: &mut Vec<Layer>, is_v6: bool, bytes: &[u8]) {
    let size = if is_v6 { 40 } else { 20 };
    let ends = if is_v6 { 8..40 } else { 12..20 };
    let Some(ends) = bytes.get(ends).filter(|_| bytes.len() >= size) else {
        return rest(layers, bytes);
    };
    let (source, destination) = ends.split_at(ends.len() / 2);
    let (Some(source), Some(destination)) = (address(source), address(destination)) else {
        return rest(layers, bytes);
    };
    let head = Head::Ip {
        source,
        destination,
    };
    let first = u32::from(bytes[0]);
    if is_v6 {
        let word = u32_at(bytes, 0);
        let fields = [
            ("ttl", bytes[7].into()),
            ("tos", word >> 20 & 0xFF),
            ("label", word & 0xF_FFFF),
            ("len", u16_at(bytes, 4).into()),
            ("version", word >> 28),
            ("proto", bytes[6].into()),
        ];
        push(layers, head, &fields);
        return payload(layers, true, bytes[6], &bytes[40..]);
    }
    let fragment = u32::from(u16_at(bytes, 6));
    let fields = [
        ("ttl", bytes[8].into()),
        ("tos", bytes[1].into()),
        ("id", u16_at(bytes, 4).into()),
        ("offset", (fragment & 0x1FFF) * 8),
        ("len", u16_at(bytes, 2).into()),
        ("words", first & 0xF),
        ("version", first >> 4),
        ("proto", bytes[9].into()),
        ("sum", u16_at(bytes, 10).into()),
    ];
    push(layers, head, &fields);
    for (name, bit) in [("df", 1 << 14), ("mf", 1 << 13)] {
        if fragment & bit != 0 {
            set(layers, name, Value::Set);
        }
    }
    let size = (first as usize & 0xF).max(5) * 4;
    let Some(options) = bytes.get(20..size) else {
        return rest(layers, &bytes[20..]);
    };
    if !options.is_empty() {
        set(layers, "options", Value::Hex(options.to_vec()));
    }
    if fragment & 0x1FFF != 0 {
        return rest(layers, &bytes[size..]);
    }
    payload(layers, false, bytes[9], &bytes[size..]);
}

fn payload(layers: &mut Vec<Layer>, is_v6: bool, kind: u8, bytes: &[u8]) {
    match kind {
        protocol::IPV4 => ip(layers, false, bytes),
        protocol::IPV6 => ip(layers, true, bytes),
        protocol::TCP | protocol::UDP | protocol::SCTP => transport(layers, kind, bytes),
        protocol::ICMP if !is_v6 => icmp(layers, is_v6, bytes),
        protocol::ICMPV6 if is_v6 => icmp(layers, is_v6, bytes),
        protocol::HOP_BY_HOP | protocol::ROUTING | protocol::FRAGMENT | protocol::DESTINATION
            if is_v6 && bytes.len() >= 8 =>
        {
            let is_fragment = kind == protocol::FRAGMENT;
            let size = if is_fragment {
                8
            } else {
                (usize::from(bytes[1]) + 1) * 8
            };
            let Some(behind) = bytes.get(size..) else {
                return rest(layers, bytes);
            };
            let fields = [
                ("len", size as u32),
                ("units", bytes[1].into()),
                ("proto", bytes[0].into()),
            ];
            push(layers, Head::Extension(kind), &fields);
            if is_fragment {
                let word = u32::from(u16_at(bytes, 2));
                set(layers, "offset", Value::Number(word & 0xFFF8));
                if word & 1 != 0 {
                    set(layers, "mf", Value::Set);
                }
                set(layers, "id", Value::Number(u32_at(bytes, 4)));
                if word & 0xFFF8 != 0 {
                    return rest(layers, behind);
                }
            } else if kind == protocol::ROUTING {
                set(layers, "left", Value::Number(bytes[3].into()));
            }
            payload(layers, true, bytes[0], behind);
        }
        _ => rest(layers, bytes),
    }
}

fn transport(layers: &mut Vec<Layer>, kind: u8, bytes: &[u8]) {
    let least = match kind {
        protocol::TCP => 20,
        protocol::UDP => 8,
        _ => 16,
    };
    if bytes.len() < least {
        return rest(layers, bytes);
    }
    let source = Port::One(u16_at(bytes, 0));
    let destination = Port::One(u16_at(bytes, 2));
    if kind == protocol::UDP {
        let head = Head::Udp {
            source,
            destination,
        };
        let fields = [
            ("len", u16_at(bytes, 4).into()),
            ("sum", u16_at(bytes, 6).into()),
        ];
        push(layers, head, &fields);
        // Generic UDP encapsulation, variant 1.
        return match (destination, bytes.get(8).map(|first| first >> 4)) {
            (Port::One(6_080), Some(4)) => ip(layers, false, &bytes[8..]),
            (Port::One(6_080), Some(6)) => ip(layers, true, &bytes[8..]),
            _ => rest(layers, &bytes[8..]),
        };
    }
    if kind == protocol::SCTP {
        let head = Head::Sctp {
            source,
            destination,
            chunk: bytes[12],
        };
        let sum = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let fields = [
            ("tag", u32_at(bytes, 4)),
            ("len", u16_at(bytes, 14).into()),
            ("sum", sum),
        ];
        push(layers, head, &fields);
        return rest(layers, &bytes[16..]);
    }
    let head = Head::Tcp {
        source,
        destination,
        flags: bytes[13],
    };
    let words = usize::from(bytes[12] >> 4);
    let fields = [
        ("seq", u32_at(bytes, 4)),
        ("ack", u32_at(bytes, 8)),
        ("win", u16_at(bytes, 14).into()),
        ("words", words as u32),
        ("urgent", u16_at(bytes, 18).into()),
        ("sum", u16_at(bytes, 16).into()),
    ];
    push(layers, head, &fields);
    match bytes.get(20..(words * 4).max(20)) {
        Some(options) if !options.is_empty() => {
            set(layers, "options", Value::Hex(options.to_vec()));
            rest(layers, &bytes[words * 4..]);
        }
        _ => rest(layers, &bytes[20..]),
    }
}

fn icmp(layers: &mut Vec<Layer>, is_v6: bool, bytes: &[u8]) {
    if bytes.len() < 8 {
        return rest(layers, bytes);
    }
    let (kind, behind) = (bytes[0], &bytes[8..]);
    let head = Head::Icmp {
        is_v6,
        kind,
        code: bytes[1],
        word: u32_at(bytes, 4),
    };
    push(layers, head, &[("sum", u16_at(bytes, 2).into())]);
    let quotes = match is_v6 {
        true => kind < 128,
        false => matches!(kind, 3 | 11 | 12),
    };
    match behind.first().map(|first| first >> 4) {
        Some(4) if quotes && !is_v6 => ip(layers, false, behind),
        Some(6) if quotes && is_v6 => ip(layers, true, behind),
        _ => rest(layers, behind),
    }
}
