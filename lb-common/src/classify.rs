//! What a packet is to the balancer.
//!
//! Answers of reals (for NAT) and fragments pass to the host today. Each becomes a variant of [`Class`] when the
//! balancer serves it: `classify` tells it apart and `decide` gets one arm; the other steps do not change.

use crate::{
    codegen::rare,
    frame::Frame,
    ip::Ip,
    lookup::Tables,
    parse::{ICMP_ERROR, Packet, Transport},
    reason::Reason,
};

/// A class of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class<A> {
    /// For a VIP's service.
    ForVip {
        /// Index of the service.
        service: u32,
        /// The packet.
        packet: Packet<A>,
    },
    /// An echo request to a VIP's address.
    EchoRequest {
        /// Offset of the ICMP header in the frame.
        offset: u32,
    },
    /// An ICMP error to a VIP's address.
    IcmpError,
    /// Nothing that the balancer serves.
    Other(Reason),
}

/// Parses the packet in a frame of this IP version and says what it is.
#[inline(always)]
pub fn classify<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Class<I::Addresses> {
    let packet = match I::parse(frame) {
        Ok(packet) => packet,
        Err(reason) => return Class::Other(reason),
    };
    let Transport {
        protocol,
        flags,
        offset,
        ..
    } = packet.transport;
    if protocol == I::ICMP {
        let error = flags & ICMP_ERROR != 0;
        return match I::find(tables, &packet.addresses, 0, I::ICMP) {
            Some(_) if error => Class::IcmpError,
            Some(_) => Class::EchoRequest { offset },
            None if error => Class::Other(Reason::OtherProtocol),
            None => Class::Other(Reason::NotVip),
        };
    }
    match service::<I, T>(tables, &packet) {
        Some(service) => Class::ForVip { service, packet },
        None => Class::Other(rare(Reason::NotVip)),
    }
}

/// The service of a packet: that of its port, else that of the address for any port.
#[inline(always)]
pub(crate) fn service<I: Ip, T: Tables>(tables: &T, packet: &Packet<I::Addresses>) -> Option<u32> {
    let (addresses, transport) = (&packet.addresses, &packet.transport);
    match I::find(
        tables,
        addresses,
        transport.destination(),
        transport.protocol,
    ) {
        Some(service) => Some(service),
        None if tables.config_flags() & I::ANY_PORT != 0 => {
            I::find(tables, addresses, 0, transport.protocol)
        }
        None => None,
    }
}
