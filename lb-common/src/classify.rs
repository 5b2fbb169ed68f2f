//! What a packet is to the balancer.
//!
//! Answers of reals (for NAT), ICMP errors about a VIP's flow and fragments pass to the host today. Each
//! becomes a variant of [`Class`] when the balancer serves it: `classify` tells it apart and `decide` gets
//! one arm; the other steps do not change.

use crate::{
    frame::Frame,
    ip::Ip,
    lookup::Tables,
    parse::{Packet, Transport},
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
        protocol, offset, ..
    } = packet.transport;
    if protocol == I::ICMP {
        return match I::find(tables, &packet.addresses, 0, I::ICMP) {
            Some(_) => Class::EchoRequest { offset },
            None => Class::Other(Reason::NotVip),
        };
    }
    match service::<I, T>(tables, &packet) {
        Some(service) => Class::ForVip { service, packet },
        None => Class::Other(Reason::NotVip),
    }
}

/// The service of a packet: that of its port, else that of the address for any port.
#[inline(always)]
fn service<I: Ip, T: Tables>(tables: &T, packet: &Packet<I::Addresses>) -> Option<u32> {
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
