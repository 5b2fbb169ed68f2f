//! ICMP errors about a VIP's flow: they go to the real whose packet they quote.
//!
//! A router or the client could not take a packet that the real sent in the VIP's name, and tells the VIP:
//! fragmentation is needed, the packet is too big, its destination cannot be reached, its time is exceeded. Without
//! these messages the real goes on sending what never arrives.
//!
//! The quoted packet is one from the VIP to the client; with its ends exchanged it is one of the flow that the
//! balancer knows. The choice changes nothing: an error neither opens a flow nor keeps one alive.

use crate::{
    choose::{Choice, choose},
    classify,
    decide::send,
    frame::{Fields as _, Frame},
    hash::{Addresses as _, Addresses4, Addresses6},
    headers::{
        IP, IPPROTO_FRAGMENT, IPPROTO_TCP, IPPROTO_UDP, icmp, ipv4, ipv6, ipv6::extension, tcp, udp,
    },
    ip::Ip,
    lookup::{Step, Tables},
    outcome::Outcome,
    parse::{Packet, Transport, is_extension},
    reason::Reason,
    simulated::Simulated,
};

/// IPv6 extension headers of a quoted packet that are walked. A real's stack makes one at most.
const MAX_QUOTED_EXTENSIONS: usize = 2;

/// Sends an ICMP error on to the real of the flow that it is about, and says in `outcome` what became of it.
///
/// A function of its own, so that the packets of flows do not pay for it.
#[inline(never)]
pub fn relay<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet<I::Addresses>,
    outcome: &mut Outcome,
) {
    // What is about no VIP's flow is an ICMP message like any other.
    *outcome = Outcome::Passed(Reason::OtherProtocol);
    let Some(flow) = I::quoted(frame, packet) else {
        return;
    };
    let Some(service) = classify::service::<I, T>(tables, &flow) else {
        return;
    };
    tables.note(Step::Service(service));
    let transport = &flow.transport;
    let hash = flow
        .addresses
        .ring_hash(tables.ring_seed(), transport.ports, transport.protocol);
    let sent = match choose(&Simulated(tables), service, &flow, hash) {
        Choice::Real { real, .. } => send::<I, F, T>(frame, tables, real, packet, hash, false),
        // Neither does an error get a reset as its answer.
        Choice::Reset(_) => Err(Reason::NoReal),
        Choice::Drop(reason) => Err(reason),
    };
    *outcome = match sent {
        Ok(interface) if interface == tables.interface_index() => Outcome::Transmitted,
        Ok(interface) => Outcome::Redirected { interface },
        Err(reason) => {
            tables.note(Step::Dropped(service, reason));
            tables.count_dropped(service, packet.length);
            Outcome::Dropped(reason)
        }
    };
}

/// The flow's packet, as the client would send it, from the ports of the quoted one at `offset`.
#[inline(always)]
fn flow<A, F: Frame>(
    frame: &mut F,
    packet: &Packet<A>,
    addresses: A,
    protocol: u32,
    offset: usize,
) -> Option<Packet<A>> {
    const PORTS: usize = 4;
    const _: () = assert!(tcp::PORTS == 0 && udp::PORTS == 0);
    let flags = match protocol {
        // Of a running flow, and never answered with a reset.
        IPPROTO_TCP => tcp::RST,
        IPPROTO_UDP => 0,
        _ => return None,
    };
    if offset + PORTS > IP + packet.length as usize {
        return None;
    }
    let ports = frame.window::<PORTS>(offset)?.u32_at::<0>();
    Some(Packet {
        addresses,
        length: packet.length,
        ttl: packet.ttl,
        transport: Transport {
            ports: ports.rotate_left(16),
            protocol,
            flags,
            offset: offset as u32,
        },
    })
}

/// The flow of the IPv4 packet that the error `packet` quotes. `None` if it is none from the error's destination,
/// or not one of TCP or UDP with its ports.
#[inline(always)]
pub fn quoted4<F: Frame>(frame: &mut F, packet: &Packet<Addresses4>) -> Option<Packet<Addresses4>> {
    let at = packet.transport.offset as usize + icmp::LENGTH;
    let header = frame.window::<{ ipv4::LENGTH }>(at)?;
    let first = header.u8_at::<{ ipv4::VERSION }>();
    let size = (first & 0xF) as usize * 4;
    let protocol = u32::from(header.u8_at::<{ ipv4::PROTOCOL }>());
    let addresses = Addresses4 {
        source: header.u32_at::<{ ipv4::DESTINATION }>(),
        destination: header.u32_at::<{ ipv4::SOURCE }>(),
    };
    // Only a packet's first fragment has the ports.
    let later = header.u16_at::<{ ipv4::FRAGMENT }>() & ipv4::FRAGMENT_OFFSET != 0;
    let own = addresses.destination == packet.addresses.destination;
    if first >> 4 != 4 || size < ipv4::LENGTH || later || !own {
        return None;
    }
    flow(frame, packet, addresses, protocol, at + size)
}

/// See [`quoted4`].
#[inline(always)]
pub fn quoted6<F: Frame>(frame: &mut F, packet: &Packet<Addresses6>) -> Option<Packet<Addresses6>> {
    const SOURCE: usize = ipv6::SOURCE;
    const DESTINATION: usize = ipv6::DESTINATION;
    const OFFSET: u16 = 0xFFF8_u16.to_be();
    let mut at = packet.transport.offset as usize + icmp::LENGTH;
    let header = frame.window::<{ ipv6::LENGTH }>(at)?;
    let mut protocol = u32::from(header.u8_at::<{ ipv6::NEXT_HEADER }>());
    let addresses = Addresses6 {
        source: [
            header.u64_at::<DESTINATION>(),
            header.u64_at::<{ DESTINATION + 8 }>(),
        ],
        destination: [header.u64_at::<SOURCE>(), header.u64_at::<{ SOURCE + 8 }>()],
    };
    let own = addresses.destination[0] == packet.addresses.destination[0]
        && addresses.destination[1] == packet.addresses.destination[1];
    if header.u8_at::<{ ipv6::VERSION }>() >> 4 != 6 || !own {
        return None;
    }
    at += ipv6::LENGTH;
    for _ in 0..MAX_QUOTED_EXTENSIONS {
        if !is_extension(protocol) {
            break;
        }
        let header = frame.window::<{ extension::LENGTH }>(at)?;
        at += if protocol == IPPROTO_FRAGMENT {
            if header.u16_at::<{ extension::FRAGMENT }>() & OFFSET != 0 {
                return None;
            }
            extension::LENGTH
        } else {
            (header.u8_at::<{ extension::HEADER_LENGTH }>() as usize + 1) * extension::LENGTH
        };
        protocol = u32::from(header.u8_at::<{ extension::NEXT_HEADER }>());
    }
    flow(frame, packet, addresses, protocol, at)
}
