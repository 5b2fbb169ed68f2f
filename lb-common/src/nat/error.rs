//! ICMP errors about translated packets: they get the addresses of the other side, and so does the packet that they quote.

use super::{Translated, hop_of, interface_of, key_of, set_macs, translate::updated};
use crate::{
    answer::address_sum6,
    checksum::fold_long,
    codegen::rare,
    frame::{Fields as _, Frame},
    hash::Addresses as _,
    headers::{IP, ethernet, icmp, ipv4, ipv6, tcp, udp},
    icmp_error::MAX_QUOTED,
    ip::{Ip, V4, V6},
    lookup::Tables,
    parse::{ICMP_ERROR, MAX_EXTENDED, Transport},
    reason::Reason,
    tables::nat::{NatEntry, is_alive, is_v6, narrowed},
};

/// Translates an ICMP error about a packet that the balancer has translated. It may come from a real's side, about a packet
/// of the client, or from the client's side, about an answer. Its sender becomes the balancer or the VIP: the other side
/// may have no route to it.
#[inline(always)]
pub fn translate_error<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Translated {
    let Some(header) = frame.window::<{ ethernet::LENGTH }>(0) else {
        return Translated::UNKNOWN;
    };
    match header.u16_at::<{ ethernet::TYPE }>() {
        ethernet::TYPE_IPV4 => error::<V4, F, T>(frame, tables),
        ethernet::TYPE_IPV6 => error::<V6, F, T>(frame, tables),
        _ => Translated::UNKNOWN,
    }
}

#[inline(always)]
fn error<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Translated {
    let Ok(packet) = &I::parse(frame) else {
        return Translated::UNKNOWN;
    };
    if packet.transport.flags & ICMP_ERROR == 0 {
        return Translated::UNKNOWN;
    }
    let Some(flow) = I::quoted(frame, packet) else {
        return Translated::UNKNOWN;
    };
    let key = key_of(flow.addresses.wide(), &flow.transport, I::FAMILY);
    let Some(entry) = tables.nat_entry(&key) else {
        return Translated::UNKNOWN;
    };
    if !is_alive(entry.state.load(), flow.transport.is_tcp(), tables.now()) {
        return Translated::UNKNOWN;
    }
    if is_v6(entry.kind) != is_v6(key.kind) {
        return Translated::failed(Reason::NatUntranslatable);
    }
    if packet.ttl <= 1 {
        return Translated::failed(Reason::TtlExpired);
    }
    let hop = match way(tables, &entry) {
        Ok(hop) => hop,
        Err(reason) => return Translated::failed(reason),
    };
    let places = Places {
        icmp: packet.transport.offset,
        end: IP as u32 + packet.length,
        quoted: flow.transport,
    };
    let rewritten = if is_v6(entry.kind) {
        rewrite6(frame, &places, &entry, hop)
    } else {
        rewrite4(frame, &places, &entry, hop)
    };
    match rewritten {
        Some(()) => Translated::sent(entry.real, interface_of(hop)),
        None => Translated::failed(Reason::BadTables),
    }
}

/// MAC addresses and interface of the way to the entry's destination.
#[inline(always)]
fn way<T: Tables>(tables: &T, entry: &NatEntry) -> Result<[u64; 2], Reason> {
    if entry.is_answer != 0 {
        return Ok([entry.hop[0].load(), entry.hop[1].load()]);
    }
    let Some(real) = tables.real(entry.real) else {
        return Err(rare(Reason::BadTables));
    };
    match tables.next_hop(real) {
        Some(hop) if hop.interface != 0 => Ok(hop_of(hop)),
        _ => Err(rare(Reason::NoNextHop)),
    }
}

/// Where the parts of an error are in its frame.
struct Places {
    /// The ICMP header.
    icmp: u32,
    /// The end of the packet.
    end: u32,
    /// The transport header that is quoted.
    quoted: Transport,
}

#[inline(always)]
fn rewrite4<F: Frame>(
    frame: &mut F,
    places: &Places,
    entry: &NatEntry,
    hop: [u64; 2],
) -> Option<()> {
    let icmp = places.icmp as usize;
    if icmp > IP + MAX_EXTENDED {
        return None;
    }
    let mut changes = transport(frame, places, entry)?;
    let inner = frame.window::<{ ipv4::LENGTH }>(icmp + icmp::LENGTH)?;
    inner.set_u32_at::<{ ipv4::SOURCE }>(narrowed(entry.destination));
    inner.set_u32_at::<{ ipv4::DESTINATION }>(narrowed(entry.source));
    let old = inner.u16_at::<{ ipv4::CHECKSUM }>();
    let new = updated(old, entry.address_delta);
    inner.set_u16_at::<{ ipv4::CHECKSUM }>(new);
    changes += u64::from(entry.address_delta) + u64::from(!old) + u64::from(new);
    let message = frame.window::<{ icmp::LENGTH }>(icmp)?;
    let sum = message.u16_at::<{ icmp::CHECKSUM }>();
    message.set_u16_at::<{ icmp::CHECKSUM }>(updated(sum, fold_long(changes)));
    let outer = frame.window::<{ IP + ipv4::LENGTH }>(0)?;
    set_macs(outer, hop);
    let old = u64::from(!outer.u32_at::<{ IP + ipv4::SOURCE }>())
        + u64::from(!outer.u32_at::<{ IP + ipv4::DESTINATION }>())
        + u64::from(!outer.u16_at::<{ IP + ipv4::TTL }>());
    let ttl = outer.u8_at::<{ IP + ipv4::TTL }>();
    outer.set_u8_at::<{ IP + ipv4::TTL }>(ttl.wrapping_sub(1));
    outer.set_u32_at::<{ IP + ipv4::SOURCE }>(narrowed(entry.source));
    outer.set_u32_at::<{ IP + ipv4::DESTINATION }>(narrowed(entry.destination));
    let new = u64::from(outer.u32_at::<{ IP + ipv4::SOURCE }>())
        + u64::from(outer.u32_at::<{ IP + ipv4::DESTINATION }>())
        + u64::from(outer.u16_at::<{ IP + ipv4::TTL }>());
    let sum = outer.u16_at::<{ IP + ipv4::CHECKSUM }>();
    outer.set_u16_at::<{ IP + ipv4::CHECKSUM }>(updated(sum, fold_long(old + new)));
    Some(())
}

#[inline(always)]
fn rewrite6<F: Frame>(
    frame: &mut F,
    places: &Places,
    entry: &NatEntry,
    hop: [u64; 2],
) -> Option<()> {
    const SOURCE: usize = ipv6::SOURCE;
    const DESTINATION: usize = ipv6::DESTINATION;
    let icmp = places.icmp as usize;
    if icmp > IP + MAX_EXTENDED {
        return None;
    }
    let mut changes = transport(frame, places, entry)? + u64::from(entry.address_delta);
    let inner = frame.window::<{ ipv6::LENGTH }>(icmp + icmp::LENGTH)?;
    inner.set_u64_at::<SOURCE>(entry.destination[0]);
    inner.set_u64_at::<{ SOURCE + 8 }>(entry.destination[1]);
    inner.set_u64_at::<DESTINATION>(entry.source[0]);
    inner.set_u64_at::<{ DESTINATION + 8 }>(entry.source[1]);
    let outer = frame.window::<{ IP + ipv6::LENGTH }>(0)?;
    set_macs(outer, hop);
    let hops = outer.u8_at::<{ IP + ipv6::HOP_LIMIT }>();
    outer.set_u8_at::<{ IP + ipv6::HOP_LIMIT }>(hops.wrapping_sub(1));
    // The checksum of ICMPv6 covers the addresses, too.
    let old = [
        [
            outer.u64_at::<{ IP + SOURCE }>(),
            outer.u64_at::<{ IP + SOURCE + 8 }>(),
        ],
        [
            outer.u64_at::<{ IP + DESTINATION }>(),
            outer.u64_at::<{ IP + DESTINATION + 8 }>(),
        ],
    ];
    changes += u64::from(!fold_long(address_sum6(old[0], old[1])));
    changes += u64::from(fold_long(address_sum6(entry.source, entry.destination)));
    outer.set_u64_at::<{ IP + SOURCE }>(entry.source[0]);
    outer.set_u64_at::<{ IP + SOURCE + 8 }>(entry.source[1]);
    outer.set_u64_at::<{ IP + DESTINATION }>(entry.destination[0]);
    outer.set_u64_at::<{ IP + DESTINATION + 8 }>(entry.destination[1]);
    let message = frame.window::<{ icmp::LENGTH }>(icmp)?;
    let sum = message.u16_at::<{ icmp::CHECKSUM }>();
    message.set_u16_at::<{ icmp::CHECKSUM }>(updated(sum, fold_long(changes)));
    Some(())
}

/// Writes the ports of the quoted packet and, if the quote has it, its checksum. Returns what their sum grows by.
#[inline(always)]
fn transport<F: Frame>(frame: &mut F, places: &Places, entry: &NatEntry) -> Option<u64> {
    /// Bytes of a TCP header up to the end of its checksum.
    const TCP: usize = tcp::CHECKSUM + 2;
    let at = places.quoted.offset as usize;
    if at > MAX_QUOTED {
        return None;
    }
    let ports = frame.window::<4>(at)?;
    let mut changes = u64::from(!ports.u32_at::<0>());
    let new = entry.ports.rotate_left(16);
    ports.set_u32_at::<0>(new);
    changes += u64::from(new);
    if places.quoted.is_tcp() {
        if at + TCP <= places.end as usize
            && let Some(header) = frame.window::<TCP>(at)
        {
            let old = header.u16_at::<{ tcp::CHECKSUM }>();
            let new = updated(old, entry.transport_delta);
            header.set_u16_at::<{ tcp::CHECKSUM }>(new);
            changes += u64::from(!old) + u64::from(new);
        }
    } else if at + udp::LENGTH <= places.end as usize
        && let Some(header) = frame.window::<{ udp::LENGTH }>(at)
    {
        let old = header.u16_at::<{ udp::CHECKSUM }>();
        if old != 0 {
            let new = updated(old, entry.transport_delta);
            let new = if new == 0 { 0xFFFF } else { new };
            header.set_u16_at::<{ udp::CHECKSUM }>(new);
            changes += u64::from(!old) + u64::from(new);
        }
    }
    Some(changes)
}
