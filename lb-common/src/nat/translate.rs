//! Translating a packet of a known connection.

use super::{
    Arrived, Task, Translated, between, hop_back, hop_of, interface_of, open::counts, reversed,
    set_macs,
};
use crate::{
    checksum::fold,
    codegen::OrRare as _,
    fragments::Found,
    frame::{Fields as _, Frame},
    headers::{IP, ethernet, ipv4, ipv6, tcp, udp},
    limits::STAMP_TICKS,
    lookup::Tables,
    parse::{ELSEWHERE, MAX_EXTENDED},
    reason::Reason,
    tables::nat::{ANSWERED, CLOSING, ESTABLISHED, MARKS, NatEntry, is_alive, is_v6, narrowed},
};

/// Translates the packet of a frame, which is whole or this fragment, if there is a connection that it belongs to.
#[inline(always)]
pub fn translate<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    task: Task,
    fragment: Found,
) -> Translated {
    let Some(arrived) = Arrived::parse(frame, fragment) else {
        return Translated::UNKNOWN;
    };
    let Some(entry) = tables.nat_entry(&arrived.key) else {
        return Translated::UNKNOWN;
    };
    let now = tables.now();
    let transport = &arrived.transport;
    let old = entry.state.load();
    let (hop, mut marks) = match task {
        Task::Client(chosen) => {
            if !counts(tables, &entry, transport.is_tcp(), now) {
                return Translated::UNKNOWN;
            }
            // A connection that begins anew goes where the ring says.
            let again = transport.opens() && old & (ESTABLISHED | CLOSING) != ESTABLISHED;
            if again && entry.real != chosen {
                return Translated::UNKNOWN;
            }
            let Some(hop) = tables
                .real(entry.real)
                .and_then(|real| tables.next_hop(real))
            else {
                return Translated::failed(Reason::BadTables);
            };
            if hop.interface == 0 {
                return Translated::failed(Reason::NoNextHop);
            }
            let marks = if again {
                0
            } else if old & ANSWERED != 0 && !transport.opens() {
                old & MARKS | ESTABLISHED
            } else {
                old & MARKS
            };
            (hop_of(hop), marks)
        }
        Task::Answer => {
            if entry.is_answer == 0 || !is_alive(old, transport.is_tcp(), now) {
                return Translated::UNKNOWN;
            }
            (
                [entry.hop[0].load(), entry.hop[1].load()],
                old & MARKS | ANSWERED,
            )
        }
    };
    if transport.closes() {
        marks |= CLOSING;
    }
    if arrived.ttl <= 1 {
        return Translated::failed(Reason::TtlExpired);
    }
    if is_v6(entry.kind) != is_v6(arrived.key.kind) && !between::can_cross(frame, &arrived) {
        return Translated::failed(Reason::NatUntranslatable);
    }
    if marks != old & MARKS || now.wrapping_sub(old as u32) >= STAMP_TICKS {
        // Both entries have the same state, so that none of them times out while the other one is used.
        let state = u64::from(now) | marks;
        match tables.nat_entry(&reversed(&entry)) {
            Some(other) => {
                tables.stamp_nat(&other, state);
                if entry.is_answer == 0 {
                    let Some(window) = frame.window::<{ ethernet::LENGTH }>(0) else {
                        return Translated::failed(Reason::BadTables);
                    };
                    // The client's packets may come another way by now.
                    tables.move_nat(&other, hop_back(window, tables.interface_index()));
                }
            }
            // It gave way to others, so the real's answers would not be known.
            None if entry.is_answer == 0 => return Translated::UNKNOWN,
            None => {}
        }
        tables.stamp_nat(&entry, state);
    }
    match rewrite(frame, &arrived, &entry, hop, now) {
        Ok(()) => Translated::sent(entry.real, interface_of(hop)),
        Err(reason) => Translated::failed(reason),
    }
}

/// Writes the entry's addresses and ports into the frame, and the header of the other family if that is the entry's.
///
/// # Errors
/// The reason to drop the frame.
#[inline(always)]
fn rewrite<F: Frame>(
    frame: &mut F,
    arrived: &Arrived,
    entry: &NatEntry,
    hop: [u64; 2],
    now: u32,
) -> Result<(), Reason> {
    let to_v6 = is_v6(entry.kind);
    if to_v6 == is_v6(arrived.key.kind) {
        let offset = arrived.transport.offset;
        if offset != ELSEWHERE {
            set_transport(frame, offset as usize, arrived, entry).or_rare(Reason::BadTables)?;
        }
        return set_header(frame, to_v6, entry, hop).or_rare(Reason::BadTables);
    }
    between::replace_header(frame, arrived, entry, hop, now)?;
    let header = if to_v6 { ipv6::LENGTH } else { ipv4::LENGTH };
    set_transport(frame, IP + header, arrived, entry).or_rare(Reason::BadTables)
}

/// Writes the ports and the checksum of the transport header. `None` if the frame is shorter than it was when it was parsed.
#[inline(always)]
fn set_transport<F: Frame>(
    frame: &mut F,
    offset: usize,
    arrived: &Arrived,
    entry: &NatEntry,
) -> Option<()> {
    // The parser has seen to it, but the verifier does not know any more.
    if offset > IP + MAX_EXTENDED {
        return None;
    }
    if arrived.transport.is_tcp() {
        let header = frame.window::<{ tcp::LENGTH }>(offset)?;
        header.set_u32_at::<{ tcp::PORTS }>(entry.ports);
        let sum = header.u16_at::<{ tcp::CHECKSUM }>();
        header.set_u16_at::<{ tcp::CHECKSUM }>(updated(sum, entry.transport_delta));
    } else {
        let header = frame.window::<{ udp::LENGTH }>(offset)?;
        header.set_u32_at::<{ udp::PORTS }>(entry.ports);
        let sum = header.u16_at::<{ udp::CHECKSUM }>();
        // 0 means that there is none (RFC 768), so one that comes to 0 is written as its other form.
        if sum != 0 {
            let sum = updated(sum, entry.transport_delta);
            header.set_u16_at::<{ udp::CHECKSUM }>(if sum == 0 { 0xFFFF } else { sum });
        }
    }
    Some(())
}

/// Writes the addresses into the IP header, and the MAC addresses in front of it. `None`: see [`set_transport`].
#[inline(always)]
fn set_header<F: Frame>(frame: &mut F, is_v6: bool, entry: &NatEntry, hop: [u64; 2]) -> Option<()> {
    const SOURCE: usize = IP + ipv6::SOURCE;
    const DESTINATION: usize = IP + ipv6::DESTINATION;
    if is_v6 {
        let window = frame.window::<{ IP + ipv6::LENGTH }>(0)?;
        set_macs(window, hop);
        let hops = window.u8_at::<{ IP + ipv6::HOP_LIMIT }>();
        window.set_u8_at::<{ IP + ipv6::HOP_LIMIT }>(hops.wrapping_sub(1));
        window.set_u64_at::<SOURCE>(entry.source[0]);
        window.set_u64_at::<{ SOURCE + 8 }>(entry.source[1]);
        window.set_u64_at::<DESTINATION>(entry.destination[0]);
        window.set_u64_at::<{ DESTINATION + 8 }>(entry.destination[1]);
    } else {
        let window = frame.window::<{ IP + ipv4::LENGTH }>(0)?;
        set_macs(window, hop);
        let old = window.u16_at::<{ IP + ipv4::TTL }>();
        let ttl = window.u8_at::<{ IP + ipv4::TTL }>();
        window.set_u8_at::<{ IP + ipv4::TTL }>(ttl.wrapping_sub(1));
        let new = window.u16_at::<{ IP + ipv4::TTL }>();
        let delta = fold(u64::from(!old) + u64::from(new) + u64::from(entry.address_delta));
        let sum = window.u16_at::<{ IP + ipv4::CHECKSUM }>();
        window.set_u16_at::<{ IP + ipv4::CHECKSUM }>(updated(sum, delta));
        window.set_u32_at::<{ IP + ipv4::SOURCE }>(narrowed(entry.source));
        window.set_u32_at::<{ IP + ipv4::DESTINATION }>(narrowed(entry.destination));
    }
    Some(())
}

/// The checksum after the sum that it covers has grown by `delta` (RFC 1624 section 3).
#[inline(always)]
pub(super) const fn updated(checksum: u16, delta: u16) -> u16 {
    !fold(!checksum as u64 + delta as u64)
}
