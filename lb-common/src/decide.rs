//! The forwarding decision: from a frame to what becomes of it.
//!
//! ```text
//! frame → parse → classify: for a VIP    → choose: ring, flow table → forward: by the real's mode → transmitted, redirected
//!           │               echo request → replied       ├ reset: replied    ├ too large: replied
//!           │               ICMP error   → choose ...    └ no real: dropped  └ dropped
//!           │               perhaps an answer of a real, or an error about one → translated back to the client, else passed
//!           └ other station: passed      └ other: passed
//! ```

use crate::{
    answerable,
    choose::{Choice, Treatment, choose},
    classify::{Class, classify, translates},
    codegen::{OrRare as _, apart, rare},
    flow_limits,
    forward::{ForwardedPacket, NAT, forward},
    frame::{Fields as _, Frame},
    hash::{self, Addresses},
    headers::ethernet,
    icmp_answer::{self, Cause},
    icmp_error::{self, Relayed},
    ip::{Ip, V4, V6},
    lookup::{Step, Tables},
    nat::{self, Task, Translated},
    outcome::Outcome,
    parse::Packet,
    reason::{ChosenBy, Reason},
    reset, sanity, shed,
    signs::FlowChange,
    station,
    tables::{
        real::{LIMITED, Real, SHED},
        vip::ECHO_SERVICE,
    },
    tunnel_end::{self, Ended},
};

/// The service of a frame that is dropped before it is known which one it is for.
const NO_SERVICE: u32 = 0;

/// Decides on a frame, changes it accordingly, and counts it.
#[inline(always)]
pub fn decide<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Outcome {
    let outcome = if tables.ends_tunnels() && !leave_tunnel(frame, tables) {
        tables.note(Step::Service(NO_SERVICE));
        Outcome::Dropped(rare(Reason::Congestion))
    } else {
        route(frame, tables)
    };
    let reason = outcome.reason();
    tables.note(Step::End(reason));
    tables.count_reason(reason);
    outcome
}

/// Takes the outer header off, if the frame came in a tunnel that ends here; `false`: it is to be dropped.
#[inline(always)]
fn leave_tunnel<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> bool {
    let Some(header) = frame.window::<{ ethernet::LENGTH }>(0) else {
        return true;
    };
    let destination = station::destination(header.u64_at::<{ ethernet::DESTINATION }>());
    if !station::is_addressed(tables, destination) {
        return true;
    }
    match tunnel_end::end(frame, tables) {
        Ended::No => {}
        Ended::Yes => tables.count_decapsulated(),
        Ended::Congested => return false,
    }
    true
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
            // Not there, because the stacks of three functions do not fit into the kernel's limit of 512 bytes.
            if relayed.service == 0 && translates(tables) {
                return returned(tables, tables.translate_error(frame), Reason::OtherProtocol);
            }
            if relayed.outcome == icmp_error::TO_TRANSLATE {
                relayed.outcome = forwarded_error(frame, tables, relayed.service);
            }
            relayed.note(tables);
            relayed.outcome
        }
        Class::PerhapsAnswer { fragment } => {
            let translated = tables.translate(frame, Task::Answer, fragment);
            returned(tables, translated, Reason::NotVip)
        }
        Class::PerhapsAnswerError => {
            returned(tables, tables.translate_error(frame), Reason::OtherProtocol)
        }
        Class::Other(reason) => Outcome::Passed(reason),
        Class::Dropped(reason) => {
            tables.note(Step::Service(NO_SERVICE));
            Outcome::Dropped(reason)
        }
    }
}

/// What becomes of a packet that may belong to a translated connection; if it does not, it passes for this reason.
#[inline(always)]
fn returned<T: Tables>(tables: &T, translated: Translated, otherwise: Reason) -> Outcome {
    if translated.is_unknown() {
        return Outcome::Passed(otherwise);
    }
    match translated.sent_to() {
        Ok((_, interface)) if interface == tables.interface_index() => Outcome::Returned,
        Ok((_, interface)) => Outcome::ReturnedBy { interface },
        Err(reason) => Outcome::Dropped(reason),
    }
}

/// Sends an ICMP error of a client's side on to the real whose answer it is about.
#[inline(always)]
fn forwarded_error<F: Frame, T: Tables>(frame: &mut F, tables: &T, service: u32) -> Outcome {
    let length = (frame.length() - ethernet::LENGTH) as u32;
    let translated = tables.translate_error(frame);
    // Without its connection the real would not know what it is about.
    let sent = if translated.is_unknown() {
        Err(Reason::NoReal)
    } else {
        translated.sent_to()
    };
    match sent {
        Ok((real, interface)) => {
            tables.count_real(real, length);
            if interface == tables.interface_index() {
                Outcome::Transmitted
            } else {
                Outcome::Redirected { interface }
            }
        }
        Err(reason) => {
            tables.count_dropped(service, length);
            Outcome::Dropped(reason)
        }
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
    let index = service;
    let Some(service) = tables.service(index) else {
        tables.count_dropped(index, packet.length);
        return Outcome::Dropped(rare(Reason::BadTables));
    };
    if let Err(reason) = sanity::check(packet) {
        tables.note(Step::Dropped(index, reason));
        tables.count_dropped(index, packet.length);
        return Outcome::Dropped(reason);
    }
    let hash = hash::of_flow(
        tables.ring_seed(),
        service.flags,
        &packet.addresses,
        transport.ports,
        transport.protocol,
    );
    let Choice { real, treatment } = choose(frame, tables, index, service, packet, hash);
    let outcome = match treatment {
        Treatment::Forward | Treatment::ForwardRunning | Treatment::ForwardNew => {
            match send::<I, F, T, true>(frame, tables, real, packet, hash, treatment) {
                Ok(interface) if interface == tables.interface_index() => {
                    return Outcome::Transmitted;
                }
                Ok(interface) => return Outcome::Redirected { interface },
                Err(reason @ (Reason::TooLargeAnswered | Reason::TtlExpiredAnswered)) => {
                    Outcome::Replied(reason)
                }
                Err(reason @ Reason::FlowLimitedReset) => {
                    replied_reset::<I, F, T>(frame, tables, packet, reason)
                }
                Err(reason) => Outcome::Dropped(reason),
            }
        }
        Treatment::ResetDownReal => {
            replied_reset::<I, F, T>(frame, tables, packet, Reason::ResetDownReal)
        }
        Treatment::ResetNoReal => {
            replied_reset::<I, F, T>(frame, tables, packet, Reason::ResetNoReal)
        }
        Treatment::UnreachableNoReal => {
            if icmp_answer::answer(frame, tables, Cause::PortUnreachable) {
                Outcome::Replied(Reason::UnreachableNoReal)
            } else {
                Outcome::Dropped(Reason::NoReal)
            }
        }
        Treatment::DropNoReal => Outcome::Dropped(Reason::NoReal),
        Treatment::DropDenied => Outcome::Dropped(Reason::SourceDenied),
        Treatment::DropDamaged => Outcome::Dropped(Reason::BadTables),
    };
    tables.note(Step::Dropped(index, outcome.reason()));
    tables.count_dropped(index, packet.length);
    outcome
}

/// Answers a TCP segment with a reset, for this reason.
#[inline(always)]
fn replied_reset<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet<I::Addresses>,
    reason: Reason,
) -> Outcome {
    match reset::answer(frame, tables, I::FAMILY, packet.length, &packet.transport) {
        Ok(()) => Outcome::Replied(reason),
        Err(reason) => Outcome::Dropped(reason),
    }
}

/// Looks at what few reals have: a limit of the connections that begin, or flows that are to be ended.
///
/// # Errors
/// [`Reason::FlowLimited`] or [`Reason::FlowLimitedReset`].
#[inline(always)]
fn regard<A: Addresses, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    (index, real): (u16, &Real),
    packet: &Packet<A>,
    hash: u64,
) -> Result<(), Reason> {
    apart();
    if real.flags & LIMITED != 0 && packet.transport.opens() {
        flow_limits::admit_packet(tables, real.service, packet, index)?;
    }
    if real.flags & SHED != 0 && tables.end_flow(frame, index) {
        shed::remember_ended(tables, index, real.service, packet, hash);
    }
    Ok(())
}

/// Makes the frame one for a real and counts it; returns the interface it leaves by. `OF_FLOW`: it
/// is a packet of a flow, which may be answered and may end the flow; an ICMP error does neither.
///
/// # Errors
/// The reason to drop it; or [`Reason::TooLargeAnswered`] or [`Reason::TtlExpiredAnswered`]: the frame is an answer.
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
    if OF_FLOW && real.mode() == NAT.number {
        return send_translated::<I, F, T>(frame, tables, index, packet, (treatment, hash));
    }
    // Entry 0 is empty, so an unknown next hop needs no check of its own.
    let hop = tables.next_hop(real).or_rare(Reason::BadTables)?;
    let interface = hop.interface;
    if interface == 0 {
        return Err(rare(Reason::NoNextHop));
    }
    if !real.takes(packet.length) {
        if OF_FLOW && icmp_answer::answer(frame, tables, Cause::TooLarge(real.largest)) {
            return Err(rare(Reason::TooLargeAnswered));
        }
        return Err(rare(Reason::TooLarge));
    }
    if OF_FLOW && real.flags & (SHED | LIMITED) != 0 {
        regard(frame, tables, (index, real), packet, hash)?;
    }
    let forwarded = ForwardedPacket {
        family: I::FAMILY,
        length: packet.length,
        ttl: packet.ttl,
        hash,
        gue_port: tables.gue_port(),
    };
    if let Err(reason) = forward(frame, &forwarded, real, hop) {
        // The frame is as it came.
        if OF_FLOW
            && reason as u32 == Reason::TtlExpired as u32
            && icmp_answer::answer(frame, tables, Cause::TimeExceeded)
        {
            return Err(rare(Reason::TtlExpiredAnswered));
        }
        return Err(rare(reason));
    }
    count_sent::<I, T, OF_FLOW>(tables, index, packet, hash, treatment);
    Ok(interface)
}

/// [`send`] to a real of mode `nat`, or to that of the packet's connection.
#[inline(always)]
fn send_translated<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    chosen: u16,
    packet: &Packet<I::Addresses>,
    (treatment, hash): (Treatment, u64),
) -> Result<u32, Reason> {
    let real = tables.real(chosen).or_rare(Reason::BadTables)?;
    if !real.takes(packet.length) {
        if icmp_answer::answer(frame, tables, Cause::TooLarge(real.largest)) {
            return Err(rare(Reason::TooLargeAnswered));
        }
        return Err(rare(Reason::TooLarge));
    }
    if real.flags & (SHED | LIMITED) != 0 {
        regard(frame, tables, (chosen, real), packet, hash)?;
    }
    let (index, interface) = match nat::send(frame, tables, chosen, &packet.transport) {
        Ok(sent) => sent,
        // The frame is as it came.
        Err(Reason::TtlExpired) if icmp_answer::answer(frame, tables, Cause::TimeExceeded) => {
            return Err(rare(Reason::TtlExpiredAnswered));
        }
        Err(reason) => return Err(rare(reason)),
    };
    if index != chosen {
        tables.note(Step::Real(index, ChosenBy::Flow));
    }
    count_sent::<I, T, true>(tables, index, packet, hash, treatment);
    Ok(interface)
}

/// Counts a packet that is sent to a real, and the flow that it opens or closes.
#[inline(always)]
fn count_sent<I: Ip, T: Tables, const OF_FLOW: bool>(
    tables: &T,
    index: u16,
    packet: &Packet<I::Addresses>,
    hash: u64,
    treatment: Treatment,
) {
    tables.count_real(index, packet.length);
    // Packets of running flows, which are most, do not get further.
    if packet.transport.changes_flow() || treatment == Treatment::ForwardNew {
        let opened = treatment.begins_flow(&packet.transport);
        let closed = packet.transport.closes();
        if !opened && !closed {
            return;
        }
        tables.count_change(index, opened, closed);
        if OF_FLOW && packet.transport.is_tcp() {
            tables.note_sign(FlowChange::of(&packet.transport), hash, index);
        }
    }
}
