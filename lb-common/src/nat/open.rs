//! Opening a connection: its source address and port, and its two entries.

use super::{Arrived, Inserted, Translated, hop_back, reversed};
use crate::{
    checksum::fold_long,
    flow_table,
    fragments::Found,
    frame::Frame,
    headers::ethernet,
    ip::Family,
    limits::NAT_TRIES,
    lookup::Tables,
    reason::Reason,
    shared::SharedU64,
    tables::{
        nat::{
            MAX_SOURCES, NatDraft, NatEntry, NatKey, NatSettings, is_alive, is_v6, kind,
            protocol_of, widened,
        },
        real::Real,
        service::NAT_KEEPS_SOURCE,
    },
};

/// Adds the entries of the connection that a client's packet opens to the real with this index. Entries that do not count
/// any more are removed first. If there is one that counts, only what it lacks is added.
#[inline(always)]
pub fn open<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    index: u16,
    fragment: Found,
) -> Translated {
    let failed = Translated::failed;
    let Some(arrived) = Arrived::parse(frame, fragment) else {
        return failed(Reason::BadTables);
    };
    // SCTP's checksum covers no addresses, but its packets name them (RFC 9260 section 3.3.2).
    if !arrived.transport.is_tcp() && !arrived.transport.is_udp() {
        return failed(Reason::NatUntranslatable);
    }
    let key = &arrived.key;
    let now = tables.now();
    let mut index = index;
    let Some(mut draft) = tables.nat_draft() else {
        return failed(Reason::BadTables);
    };
    let NatDraft { answer, entry } = &mut *draft;
    let mut is_kept = false;
    if let Some(entry) = tables.nat_entry(key) {
        *answer = reversed(&entry);
        match tables.nat_entry(answer) {
            // The ports may have become those of another connection.
            Some(other) if is_answer_of(&other, key) => tables.remove_nat(answer),
            Some(_) => {}
            None if counts(tables, &entry, arrived.transport.is_tcp(), now) => {
                index = entry.real;
                is_kept = true;
            }
            None => {}
        }
        tables.remove_nat(key);
    }
    let Some(real) = tables.real(index) else {
        return failed(Reason::BadTables);
    };
    let Some(service) = tables.service(real.service) else {
        return failed(Reason::BadTables);
    };
    let Some(settings) = tables.nat_settings() else {
        return failed(Reason::BadTables);
    };
    let keeps_source = service.flags & NAT_KEEPS_SOURCE != 0;
    if !keeps_source && settings.ports == 0 {
        return failed(Reason::NatNoSource);
    }
    let family = if real.has_ipv6_address() {
        Family::V6
    } else {
        Family::V4
    };
    // A client has no address of the other family.
    if keeps_source && is_v6(key.kind) != real.has_ipv6_address() {
        return failed(Reason::NatUntranslatable);
    }
    let Some(window) = frame.window::<{ ethernet::LENGTH }>(0) else {
        return failed(Reason::BadTables);
    };
    let [macs, rest] = hop_back(window, tables.interface_index());
    *entry = NatEntry {
        source: key.destination,
        destination: key.source,
        ports: key.ports.rotate_left(16),
        kind: key.kind,
        address_delta: 0,
        transport_delta: 0,
        real: index,
        is_answer: 1,
        service: real.service,
        pad: 0,
        hop: [SharedU64::new(macs), SharedU64::new(rest)],
        state: SharedU64::new(now.into()),
    };
    if !is_kept {
        answer.source = address(real);
        answer.destination = key.source;
        answer.ports = port_of(real, key.ports) | key.ports << 16;
        answer.kind = kind(protocol_of(key.kind), family);
    }
    let mut random = mixed(key, tables.flow_secret());
    let mut result = Inserted::Exists;
    for try_number in 0..NAT_TRIES {
        if !keeps_source && (!is_kept || try_number > 0) {
            random = round(random);
            choose_source(settings, family, random, answer);
            if answer.destination[0] == 0 {
                return failed(Reason::NatNoSource);
            }
        }
        let before = sum(key.source) + sum(key.destination);
        let after = sum(answer.source) + sum(answer.destination);
        // In one's complement the difference is a sum with the complement. That of the other way is its complement.
        let addresses = fold_long(after + complement(before));
        let transport = fold_long(
            u64::from(addresses) + u64::from(answer.ports) + complement(u64::from(key.ports)),
        );
        entry.address_delta = !addresses;
        entry.transport_delta = !transport;
        result = tables.insert_nat(answer, entry);
        if result != Inserted::Exists || keeps_source {
            break;
        }
    }
    match result {
        Inserted::Done => {}
        Inserted::Exists => return failed(Reason::NatNoPort),
        Inserted::Full => return failed(Reason::NatTableFull),
    }
    entry.source = answer.destination;
    entry.destination = answer.source;
    entry.ports = answer.ports.rotate_left(16);
    entry.kind = answer.kind;
    entry.address_delta = !entry.address_delta;
    entry.transport_delta = !entry.transport_delta;
    entry.is_answer = 0;
    match tables.insert_nat(key, entry) {
        Inserted::Done => {}
        Inserted::Exists => {
            // Another CPU was faster with the same connection: its entries count.
            tables.remove_nat(answer);
        }
        Inserted::Full => {
            tables.remove_nat(answer);
            return failed(Reason::NatTableFull);
        }
    }
    Translated::sent(index, 0)
}

/// Removes the entries of the connection whose packet to its real is in the frame; `fragment` is what it was before it was
/// translated.
#[inline(always)]
pub fn close<F: Frame, T: Tables>(frame: &mut F, tables: &T, fragment: Found) {
    let Some(fragment) = fragment.now(frame) else {
        return;
    };
    let Some(arrived) = Arrived::parse(frame, fragment) else {
        return;
    };
    let sent = &arrived.key;
    let answer = NatKey {
        source: sent.destination,
        destination: sent.source,
        ports: sent.ports.rotate_left(16),
        kind: sent.kind,
    };
    if let Some(entry) = tables.nat_entry(&answer) {
        tables.remove_nat(&reversed(&entry));
    }
    tables.remove_nat(&answer);
}

/// Whether an entry is that for the answers to packets with this key.
#[inline(always)]
fn is_answer_of(entry: &NatEntry, key: &NatKey) -> bool {
    entry.is_answer != 0
        && entry.ports.rotate_left(16) == key.ports
        && is_same(entry.source, key.destination)
        && is_same(entry.destination, key.source)
}

/// Whether an entry for a client's packets counts: it has not timed out, and its real is the one that it names.
#[inline(always)]
pub(super) fn counts<T: Tables>(tables: &T, entry: &NatEntry, is_tcp: bool, now: u32) -> bool {
    if entry.is_answer != 0 || !is_alive(entry.state.load(), is_tcp, now) {
        return false;
    }
    let Some(real) = tables.real(entry.real) else {
        return false;
    };
    // Another real may have the index by now.
    flow_table::usable(real, entry.service) && is_same(address(real), entry.destination)
}

/// Whether two addresses are the same, without a call of a function that compares bytes.
#[inline(always)]
const fn is_same(one: [u64; 2], other: [u64; 2]) -> bool {
    one[0] == other[0] && one[1] == other[1]
}

/// A real's address as in a key.
#[inline(always)]
fn address(real: &Real) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = real.address;
    if real.has_ipv6_address() {
        [
            u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        ]
    } else {
        widened(u32::from_ne_bytes([a, b, c, d]))
    }
}

/// The real's port in the lower half, as the source port of its answers; of the client's packet it has the ports.
#[inline(always)]
fn port_of(real: &Real, ports: u32) -> u32 {
    let port = u16::from_ne_bytes(real.port);
    if port == 0 {
        lower_port(ports.rotate_left(16))
    } else {
        lower_port_of(port)
    }
}

/// The first of two ports as they lie in a packet, the other one 0.
#[inline(always)]
const fn lower_port(ports: u32) -> u32 {
    let [a, b, ..] = ports.to_ne_bytes();
    u32::from_ne_bytes([a, b, 0, 0])
}

#[inline(always)]
const fn lower_port_of(port: u16) -> u32 {
    let [a, b] = port.to_ne_bytes();
    u32::from_ne_bytes([a, b, 0, 0])
}

/// A number that depends on every part of a key and cannot be guessed. Each connection tries ports in another order.
#[inline(always)]
const fn mixed(key: &NatKey, secret: [u64; 2]) -> u64 {
    let client = round(key.source[0] ^ secret[0]) ^ key.source[1];
    let vip = round(client ^ secret[1]) ^ key.destination[0];
    let ports = round(vip) ^ key.destination[1] ^ key.ports as u64 ^ (key.kind as u64) << 32;
    round(ports)
}

#[inline(always)]
const fn round(value: u64) -> u64 {
    let product = value.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ product >> 32
}

/// Writes one of the source addresses and ports into the key of an answer.
#[inline(always)]
fn choose_source(settings: &NatSettings, family: Family, random: u64, answer: &mut NatKey) {
    let place = (random >> 58) as usize & (MAX_SOURCES - 1);
    answer.destination = match family {
        Family::V4 => widened(settings.sources4[place]),
        Family::V6 => settings.sources6[place],
    };
    let offset = ((random >> 16 & 0xFFFF_FFFF) * u64::from(settings.ports)) >> 32;
    let [a, b] = ((settings.first_port + offset as u32) as u16).to_be_bytes();
    answer.ports = lower_port(answer.ports) | u32::from_ne_bytes([0, 0, a, b]);
}

/// The sum of an address, for a checksum.
#[inline(always)]
const fn sum(address: [u64; 2]) -> u64 {
    (address[0] & 0xFFFF_FFFF)
        + (address[0] >> 32)
        + (address[1] & 0xFFFF_FFFF)
        + (address[1] >> 32)
}

/// What takes a sum away, in one's complement.
#[inline(always)]
const fn complement(sum: u64) -> u64 {
    !fold_long(sum) as u64
}
