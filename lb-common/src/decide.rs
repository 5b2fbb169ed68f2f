//! The forwarding decision: from a frame to what becomes of it.
//!
//! ```text
//! frame → parse → VIP: exact port → any port → choose: ring, flow table → forward: L2, IPIP → TX, redirect
//!           └ pass   └ pass: NotVip             │ drop: NoReal            └ drop: NoNextHop, ...
//!                                               └ reset: TX
//! ```

use crate::{
    choose::choose,
    echo,
    forward::{Inner, forward},
    frame::{Fields as _, Frame, Trim},
    hash::Addresses,
    parse::{ETHERNET, ICMP, ICMP6, Packet, TYPE_IP4, TYPE_IP6, Transport, packet4, packet6},
    reason::Reason,
    reset, shed,
    store::{Step, Tables},
    tables::{
        config::{ANY_PORT_V4, ANY_PORT_V6},
        real::SHED,
    },
    vip_table::{self, Name},
};

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Why, and with it the verdict.
    pub reason: Reason,
    /// The interface that a redirected frame leaves by; else 0.
    pub interface: u32,
}

/// Decides on a frame, changes it accordingly, and counts it.
#[inline(always)]
pub fn decide<F: Trim, T: Tables>(frame: &mut F, tables: &T) -> Decision {
    match steer(frame, tables) {
        Ok(interface) if interface == tables.interface_index() => {
            end(tables, Reason::ForwardedTx);
            Decision {
                reason: Reason::ForwardedTx,
                interface: 0,
            }
        }
        Ok(interface) => {
            end(tables, Reason::ForwardedRedirect);
            Decision {
                reason: Reason::ForwardedRedirect,
                interface,
            }
        }
        Err(reason) => {
            end(tables, reason);
            Decision {
                reason,
                interface: 0,
            }
        }
    }
}

/// Counts a frame.
#[inline(always)]
fn end<T: Tables>(tables: &T, reason: Reason) {
    tables.note(Step::End(reason));
    if !tables.simulating() {
        tables.count_reason(reason);
    }
}

/// Forwards a frame: the interface it leaves by. Every other way out is an error, though it may be none.
#[inline(always)]
fn steer<F: Trim, T: Tables>(frame: &mut F, tables: &T) -> Result<u32, Reason> {
    let header = frame.window::<ETHERNET>(0).ok_or(Reason::Malformed)?;
    match header.half::<12>() {
        TYPE_IP4 => {
            let packet = packet4(frame)?;
            if packet.transport.protocol == ICMP {
                find4(tables, packet.addresses.destination, 0, ICMP).ok_or(Reason::NotVip)?;
                echo::answer4(frame, packet.transport.offset as usize)?;
                return Err(Reason::EchoReply);
            }
            let service = vip4(tables, packet.addresses.destination, &packet.transport)?;
            serve(frame, tables, service, Inner::V4, &packet)
        }
        TYPE_IP6 => {
            let packet = packet6(frame)?;
            if packet.transport.protocol == ICMP6 {
                find6(tables, packet.addresses.destination, 0, ICMP6).ok_or(Reason::NotVip)?;
                echo::answer6(frame, packet.transport.offset as usize)?;
                return Err(Reason::EchoReply);
            }
            let service = vip6(tables, packet.addresses.destination, &packet.transport)?;
            serve(frame, tables, service, Inner::V6, &packet)
        }
        _ => Err(Reason::NotIp),
    }
}

/// The service of an IPv4 VIP; address and port as they lie in the packet.
#[inline(always)]
fn find4<T: Tables>(tables: &T, address: u32, port: u16, protocol: u32) -> Option<u32> {
    let name = Name::v4(address, port, protocol);
    vip_table::look_up(&tables.vip_hash(), &name, |bucket| tables.vips4(bucket))
}

/// The service of an IPv6 VIP; address and port as they lie in the packet.
#[inline(always)]
fn find6<T: Tables>(tables: &T, address: [u64; 2], port: u16, protocol: u32) -> Option<u32> {
    let name = Name::v6(&tables.vip_digest(), address, port, protocol);
    vip_table::look_up(&tables.vip_hash(), &name, |bucket| tables.vips6(bucket))
}

/// The service of an IPv4 packet: its port's, else the address's.
#[inline(always)]
fn vip4<T: Tables>(tables: &T, address: u32, transport: &Transport) -> Result<u32, Reason> {
    match find4(tables, address, transport.destination(), transport.protocol) {
        Some(service) => Ok(service),
        None if tables.config_flags() & ANY_PORT_V4 != 0 => {
            find4(tables, address, 0, transport.protocol).ok_or(Reason::NotVip)
        }
        None => Err(Reason::NotVip),
    }
}

/// The service of an IPv6 packet: its port's, else the address's.
#[inline(always)]
fn vip6<T: Tables>(tables: &T, address: [u64; 2], transport: &Transport) -> Result<u32, Reason> {
    match find6(tables, address, transport.destination(), transport.protocol) {
        Some(service) => Ok(service),
        None if tables.config_flags() & ANY_PORT_V6 != 0 => {
            find6(tables, address, 0, transport.protocol).ok_or(Reason::NotVip)
        }
        None => Err(Reason::NotVip),
    }
}

/// Sends a service's packet on.
#[inline(always)]
fn serve<A: Addresses, F: Trim, T: Tables>(
    frame: &mut F,
    tables: &T,
    service: u32,
    inner: Inner,
    packet: &Packet<A>,
) -> Result<u32, Reason> {
    tables.note(Step::Service(service));
    send(frame, tables, service, inner, packet).map_err(|reason| {
        let reason = match reason {
            Reason::ResetDownReal | Reason::ResetNoReal => {
                let answered = reset::answer(frame, inner, packet.length, &packet.transport);
                answered.err().unwrap_or(reason)
            }
            reason => reason,
        };
        tables.note(Step::Dropped(service, reason));
        if !tables.simulating() {
            tables.count_dropped(service, packet.length);
        }
        reason
    })
}

#[inline(always)]
fn send<A: Addresses, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    index: u32,
    inner: Inner,
    packet: &Packet<A>,
) -> Result<u32, Reason> {
    let transport = &packet.transport;
    let service = tables.service(index).ok_or(Reason::BadTables)?;
    let hash = packet
        .addresses
        .ring_hash(tables.ring_seed(), transport.ports, transport.protocol);
    let mut opened = transport.opens();
    let real_index = choose(
        tables,
        index,
        service,
        packet.addresses,
        transport,
        hash,
        &mut opened,
    )?;
    let real = tables.real(real_index).ok_or(Reason::BadTables)?;
    // Entry 0 is empty, so an unknown next hop needs no check of its own.
    let hop = tables.next_hop(real.next_hop).ok_or(Reason::BadTables)?;
    let interface = hop.interface;
    if interface == 0 {
        return Err(Reason::NoNextHop);
    }
    if real.flags & SHED != 0 {
        shed::end_flow(frame, tables, real_index);
    }
    forward(frame, inner, packet.length, packet.ttl, real, hop, hash)?;
    if !tables.simulating() {
        tables.count_real(real_index, packet.length, opened, transport.closes());
    }
    Ok(interface)
}
