//! The forwarding decision: from a frame to what becomes of it.
//!
//! ```text
//! frame → parse → classify: for a VIP    → choose: ring, flow table → forward: by the real's mode → transmitted, redirected
//!           │               echo request → replied       ├ reset: replied    ├ too large: replied
//!           │               ICMP error   → choose ...    └ no real: dropped  └ dropped
//!           └ other station: passed      └ other: passed
//! ```

use crate::{
    answerable,
    choose::{Choice, Treatment, choose},
    classify::{Class, classify},
    codegen::{OrRare as _, rare},
    forward::{ForwardedPacket, forward},
    frame::{Fields as _, Frame},
    hash::Addresses as _,
    headers::ethernet,
    icmp_error::{self, Relayed},
    ip::{Ip, V4, V6},
    lookup::{Step, Tables},
    outcome::Outcome,
    parse::Packet,
    reason::Reason,
    reset, shed,
    signs::FlowChange,
    station,
    tables::{real::SHED, vip::ECHO_SERVICE},
    too_large,
};

/// Decides on a frame, changes it accordingly, and counts it.
#[inline(always)]
pub fn decide<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Outcome {
    let outcome = route(frame, tables);
    let reason = outcome.reason();
    tables.note(Step::End(reason));
    tables.count_reason(reason);
    outcome
}

#[inline(always)]
fn route<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Outcome {
    let Some(header) = frame.window::<{ ethernet::LENGTH }>(0) else {
        return Outcome::Passed(rare(Reason::Malformed));
    };
    let ether_type = header.u16_at::<{ ethernet::TYPE }>();
    let destination = station::destination(header.u64_at::<{ ethernet::DESTINATION }>());
    if !station::is_addressed(tables, destination) {
        return Outcome::Passed(rare(match ether_type {
            ethernet::TYPE_IPV4 | ethernet::TYPE_IPV6 => Reason::OtherStation,
            _ => Reason::NotIp,
        }));
    }
    match ether_type {
        ethernet::TYPE_IPV4 => route_ip::<V4, F, T>(frame, tables),
        ethernet::TYPE_IPV6 => route_ip::<V6, F, T>(frame, tables),
        _ => Outcome::Passed(rare(Reason::NotIp)),
    }
}

#[inline(always)]
fn route_ip<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Outcome {
    match classify::<I, F, T>(frame, tables) {
        Class::ForVip { service, packet } => serve::<I, F, T>(frame, tables, service, &packet),
        Class::EchoRequest { offset } => {
            if let Err(reason) = answerable::check(frame) {
                tables.note(Step::Service(ECHO_SERVICE));
                return Outcome::Dropped(reason);
            }
            match I::answer_echo(frame, offset as usize) {
                Ok(()) => Outcome::Replied(Reason::EchoReply),
                Err(reason) => Outcome::Passed(reason),
            }
        }
        Class::IcmpError => {
            let mut relayed = Relayed::nowhere();
            icmp_error::relay::<I, F, T>(frame, tables, &mut relayed);
            relayed.note(tables);
            relayed.outcome
        }
        Class::Other(reason) => Outcome::Passed(reason),
    }
}

/// Sends a service's packet to a real, or counts that no real gets it.
#[inline(always)]
fn serve<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    service: u32,
    packet: &Packet<I::Addresses>,
) -> Outcome {
    tables.note(Step::Service(service));
    let transport = &packet.transport;
    let hash = packet
        .addresses
        .ring_hash(tables.ring_seed(), transport.ports, transport.protocol);
    let Choice { real, treatment } = choose(tables, service, packet, hash);
    let outcome = match treatment {
        Treatment::Forward | Treatment::ForwardRunning | Treatment::ForwardNew => {
            match send::<I, F, T, true>(frame, tables, real, packet, hash, treatment) {
                Ok(interface) if interface == tables.interface_index() => {
                    return Outcome::Transmitted;
                }
                Ok(interface) => return Outcome::Redirected { interface },
                Err(Reason::TooLargeAnswered) => Outcome::Replied(Reason::TooLargeAnswered),
                Err(reason) => Outcome::Dropped(reason),
            }
        }
        Treatment::ResetDownReal | Treatment::ResetNoReal => {
            let reason = if treatment == Treatment::ResetDownReal {
                Reason::ResetDownReal
            } else {
                Reason::ResetNoReal
            };
            match reset::answer(frame, I::FAMILY, packet.length, transport) {
                Ok(()) => Outcome::Replied(reason),
                Err(reason) => Outcome::Dropped(reason),
            }
        }
        Treatment::DropNoReal => Outcome::Dropped(Reason::NoReal),
        Treatment::DropDamaged => Outcome::Dropped(Reason::BadTables),
    };
    tables.note(Step::Dropped(service, outcome.reason()));
    tables.count_dropped(service, packet.length);
    outcome
}

/// Makes the frame one for a real and counts it; returns the interface it leaves by. `OF_FLOW`: it
/// is a packet of a flow, which may be answered and may end the flow; an ICMP error does neither.
///
/// # Errors
/// The reason to drop it, or [`Reason::TooLargeAnswered`]: the frame is an answer.
#[inline(always)]
pub(crate) fn send<I: Ip, F: Frame, T: Tables, const OF_FLOW: bool>(
    frame: &mut F,
    tables: &T,
    index: u16,
    packet: &Packet<I::Addresses>,
    hash: u64,
    treatment: Treatment,
) -> Result<u32, Reason> {
    let real = tables.real(index).or_rare(Reason::BadTables)?;
    // Entry 0 is empty, so an unknown next hop needs no check of its own.
    let hop = tables.next_hop(real).or_rare(Reason::BadTables)?;
    let interface = hop.interface;
    if interface == 0 {
        return Err(rare(Reason::NoNextHop));
    }
    if !real.takes(packet.length) {
        if OF_FLOW && too_large::answer(frame, tables, real.largest) {
            return Err(rare(Reason::TooLargeAnswered));
        }
        return Err(rare(Reason::TooLarge));
    }
    if OF_FLOW && real.flags & SHED != 0 && shed::end_flow(frame, tables, index) {
        shed::remember_ended(tables, index, real.service, packet, hash);
    }
    let forwarded = ForwardedPacket {
        family: I::FAMILY,
        length: packet.length,
        ttl: packet.ttl,
        hash,
    };
    forward(frame, &forwarded, real, hop)?;
    tables.count_real(index, packet.length);
    // Packets of running flows, which are most, do not get further.
    if packet.transport.changes_flow() || treatment == Treatment::ForwardNew {
        let opened = treatment.begins_flow(&packet.transport);
        let closed = packet.transport.closes();
        if !opened && !closed {
            return Ok(interface);
        }
        tables.count_change(index, opened, closed);
        if OF_FLOW && packet.transport.is_tcp() {
            tables.note_sign(FlowChange::of(&packet.transport), hash, index);
        }
    }
    Ok(interface)
}
