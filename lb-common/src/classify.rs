//! What a packet is to the balancer.

use crate::{
    codegen::rare,
    fragments::{self, Found},
    frame::Frame,
    ip::Ip,
    lookup::Tables,
    parse::{ICMP_ERROR, Packet, Transport},
    reason::Reason,
    station,
    tables::config::NAT,
    wide_vips,
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
    /// For no VIP, and perhaps a real's answer to a client (mode `nat`).
    PerhapsAnswer {
        /// Its transport header, if it is a fragment.
        fragment: Found,
    },
    /// An ICMP error to no VIP's address, and perhaps one about a packet to a real.
    PerhapsAnswerError,
    /// Nothing that the balancer serves.
    Other(Reason),
    /// For a VIP, and no service is known.
    Dropped(Reason),
}

/// Parses the packet in a frame of this IP version and says what it is.
#[inline(always)]
pub fn classify<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Class<I::Addresses> {
    let mut packet = match I::parse(frame) {
        Ok(packet) => packet,
        Err(reason) => match fragments::packet::<I, F, T>(frame, tables, reason) {
            Ok(packet) => packet,
            Err(class) => return class,
        },
    };
    packet.transport.forget(station::zero(tables));
    let Transport {
        protocol,
        flags,
        offset,
        ..
    } = packet.transport;
    if protocol == I::ICMP {
        let error = flags & ICMP_ERROR != 0;
        return match of_address::<I, T>(tables, &packet.addresses) {
            Some(_) if error => Class::IcmpError,
            Some(_) => Class::EchoRequest { offset },
            None if error && translates(tables) => Class::PerhapsAnswerError,
            None if error => Class::Other(Reason::OtherProtocol),
            None => Class::Other(Reason::NotVip),
        };
    }
    match service::<I, T>(tables, &packet) {
        Some(service) => Class::ForVip { service, packet },
        None if translates(tables) => Class::PerhapsAnswer {
            fragment: Found::of_fragment(&packet.transport),
        },
        None => Class::Other(rare(Reason::NotVip)),
    }
}

/// The service that a VIP's address has whatever the port is: that of echo requests. `None`: the destination is no VIP's.
#[inline(always)]
pub(crate) fn of_address<I: Ip, T: Tables>(tables: &T, addresses: &I::Addresses) -> Option<u32> {
    match I::find(tables, addresses, 0, I::ICMP) {
        None if tables.config_flags() & I::WIDE != 0 => {
            wide_vips::find::<I, T>(tables, addresses, 0, I::ICMP)
        }
        found => found,
    }
}

/// Whether connections may be translated.
#[inline(always)]
pub(crate) fn translates<T: Tables>(tables: &T) -> bool {
    tables.config_flags() & NAT != 0
}

/// The service of a packet: that of its port, else that of the address for any port, else that of a prefix or range.
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
        None => {
            let flags = tables.config_flags();
            if flags & I::ANY_PORT != 0
                && let Some(service) = I::find(tables, addresses, 0, transport.protocol)
            {
                return Some(service);
            }
            if flags & I::WIDE == 0 {
                return None;
            }
            let port = transport.destination();
            wide_vips::find::<I, T>(tables, addresses, port, transport.protocol)
        }
    }
}
