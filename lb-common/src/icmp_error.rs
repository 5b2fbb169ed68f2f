//! ICMP errors about a VIP's flow: they go to the real whose packet they quote.
//!
//! A router or the client could not take a packet that the real sent in the VIP's name, and tells the VIP:
//! fragmentation is needed, the packet is too big, its destination cannot be reached, its time is exceeded. Without
//! these messages the real goes on sending what never arrives.
//!
//! The quoted packet is one from the VIP to the client; with its ends exchanged it is one of the flow that the
//! balancer knows. The choice changes nothing: an error neither opens a flow nor keeps one alive.

use crate::{
    choose::{Treatment, of_rule},
    classify,
    decide::send,
    flow_table,
    forward::NAT,
    frame::{Fields as _, Frame},
    hash::{self, Addresses, Addresses4, Addresses6, BucketPair, slot_index},
    headers::{
        IP, IPPROTO_FRAGMENT, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, icmp, ipv4, ipv6,
        ipv6::extension, tcp, udp,
    },
    ip::Ip,
    lookup::{Step, Tables},
    outcome::Outcome,
    parse::{MAX_EXTENDED, Packet, Transport, is_extension},
    reason::{ChosenBy, Reason},
    tables::{
        ring::{Previous, previous_of, real_of},
        service::{SOURCE_RULES, TRACK_ALL},
    },
};

/// Where the packet that an error quotes begins in its frame.
#[inline(always)]
fn quote<A>(packet: &Packet<A>) -> Option<usize> {
    let offset = packet.transport.offset as usize;
    // The parser has seen to it, but the verifier does not know any more.
    (offset <= IP + MAX_EXTENDED).then_some(offset + icmp::LENGTH)
}

/// IPv6 extension headers of a quoted packet that are walked. A real's stack makes one at most.
const MAX_QUOTED_EXTENSIONS: usize = 2;

/// The transport header of a quoted packet lies no further behind in a frame.
pub(crate) const MAX_QUOTED: usize = IP
    + MAX_EXTENDED
    + icmp::LENGTH
    + ipv6::LENGTH
    + MAX_QUOTED_EXTENSIONS * (u8::MAX as usize + 1) * extension::LENGTH;

/// The outcome of an error for a real of mode `nat`: it is still to be translated and sent.
pub const TO_TRANSLATE: Outcome = Outcome::Returned;

/// What became of an ICMP error.
///
/// Aligned, and in this order, because it is on the stack and is written in words that must be aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Relayed {
    /// What becomes of its frame.
    pub outcome: Outcome,
    /// The service of the flow that it is about; 0: it is about no VIP's flow.
    pub service: u32,
    /// The real of the flow; 0: there is none.
    pub real: u16,
    /// How the real was chosen.
    pub by: ChosenBy,
}

impl Relayed {
    /// An error about no VIP's flow: an ICMP message like any other.
    #[must_use]
    #[inline(always)]
    pub const fn nowhere() -> Relayed {
        Relayed {
            outcome: Outcome::Passed(Reason::OtherProtocol),
            service: 0,
            real: 0,
            by: ChosenBy::Nothing,
        }
    }

    /// Notes the steps. The caller does that, because the functions that log need a stack, and so does [`relay`].
    #[inline(always)]
    pub fn note<T: Tables>(&self, tables: &T) {
        if self.service == 0 {
            return;
        }
        tables.note(Step::Service(self.service));
        if self.real != 0 {
            tables.note(Step::Real(self.real, self.by));
        }
        if let Outcome::Dropped(reason) = self.outcome {
            tables.note(Step::Dropped(self.service, reason));
        }
    }
}

/// Sends an ICMP error on to the real of the flow that it is about, and says in `relayed`, which is
/// [`Relayed::nowhere`], what became of it.
///
/// A function of its own that parses the frame once more, so that the packets of flows do not pay for it, not even
/// with a larger stack.
#[inline(never)]
pub fn relay<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, relayed: &mut Relayed) {
    let Ok(packet) = &I::parse(frame) else {
        return;
    };
    let Some(flow) = I::quoted(frame, packet) else {
        return;
    };
    let Some(service) = classify::service::<I, T>(tables, &flow) else {
        return;
    };
    relayed.service = service;
    let transport = &flow.transport;
    let flags = tables.service(service).map_or(0, |service| service.flags);
    let hash = hash::of_flow(
        tables.ring_seed(),
        flags,
        &flow.addresses,
        transport.ports,
        transport.protocol,
    );
    let (real, by) = owner(tables, service, &flow, hash);
    (relayed.real, relayed.by) = (real, by);
    if tables
        .real(real)
        .is_some_and(|real| real.mode() == NAT.number)
    {
        relayed.outcome = TO_TRANSLATE;
        return;
    }
    let sent = match real {
        0 => Err(Reason::NoReal),
        real => {
            send::<I, F, T, false>(frame, tables, real, packet, hash, Treatment::ForwardRunning)
        }
    };
    relayed.outcome = match sent {
        Ok(interface) if interface == tables.interface_index() => Outcome::Transmitted,
        Ok(interface) => Outcome::Redirected { interface },
        Err(reason) => {
            tables.count_dropped(service, packet.length);
            Outcome::Dropped(reason)
        }
    };
}

/// The real of a flow as a packet of a running flow would find it ([`crate::choose`]), without a trace in the
/// tables; 0: none. A dead real is one, too: an error is not answered with a reset.
#[inline(always)]
fn owner<A: Addresses, T: Tables>(
    tables: &T,
    index: u32,
    flow: &Packet<A>,
    ring_hash: u64,
) -> (u16, ChosenBy) {
    let Some(service) = tables.service(index) else {
        return (0, ChosenBy::Nothing);
    };
    if service.flags & SOURCE_RULES != 0 {
        let [client, _] = flow.addresses.wide();
        let rule = tables.source_rule(index, client);
        let real = of_rule(tables, index, rule);
        if real != 0 {
            return (real, ChosenBy::SourceRule);
        }
    }
    let ring = service.ring;
    let slots = (ring >> 32) as u32;
    let place = (ring as u32).wrapping_add(slot_index(ring_hash, slots));
    let slot = match tables.slot(place) {
        Some(slot) if slots != 0 => slot,
        _ => 0,
    };
    let (mut real, mut by) = (real_of(slot), ChosenBy::Ring);
    let previous = previous_of(slot);
    if previous.may_differ(ring_hash) || service.flags & TRACK_ALL != 0 {
        if let Previous::Real(before) = previous {
            (real, by) = if serves(tables, before, index) {
                (before, ChosenBy::Previous)
            } else {
                (real, ChosenBy::NewFlow)
            };
        }
        let ports = flow.transport.ports;
        let hash = flow.addresses.flow_hash(tables.flow_secret(), ports, index);
        let buckets = BucketPair::new(hash, tables.flow_mask());
        if let Some(entry) = flow_table::look_up(tables, buckets)
            && flow_table::alive(entry.flow.stamp.load(), tables.now(), service.window)
            && serves(tables, entry.real, index)
        {
            (real, by) = (entry.real, ChosenBy::Flow);
        }
    }
    (real, by)
}

/// Whether a real can be sent to for this service.
#[inline(always)]
fn serves<T: Tables>(tables: &T, real: u16, service: u32) -> bool {
    tables
        .real(real)
        .is_some_and(|real| flow_table::usable(real, service))
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
    if protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_SCTP {
        return None;
    }
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
            flags: 0,
            offset: offset as u32,
        },
    })
}

/// The flow of the IPv4 packet that the error `packet` quotes. `None` if it is none from the error's destination,
/// or not one of TCP or UDP with its ports.
#[inline(always)]
pub fn quoted4<F: Frame>(frame: &mut F, packet: &Packet<Addresses4>) -> Option<Packet<Addresses4>> {
    let at = quote(packet)?;
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
    let mut at = quote(packet)?;
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
