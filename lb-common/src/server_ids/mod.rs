//! Packets that name their real: by a connection id of QUIC, an option of TCP, or the first bytes of a datagram.
//!
//! A known id counts for more than the flow table and the ring, so a connection keeps its real when its client's address
//! changes, and through any change of the ring. A packet without an id, with an unknown one, or with that of a real that is
//! dead goes the usual way.
//!
//! The work is done in a function that a kernel program has for itself ([`Tables::find_named`]): packets of services
//! without ids pay for nothing but a bit more in a comparison, and the kernel's verifier looks at it once.

mod quic;
mod quic_lb;
mod tcp_option;

use crate::{
    flow_table,
    frame::{Fields as _, Frame},
    headers::{stable_routing, tcp, udp},
    lookup::Tables,
    parse::{OFFSETS, Transport},
    tables::{
        server_id::ServerIdKey,
        service::{ID_QUIC_KATRAN, ID_QUIC_LB, ID_TCP_OPTION, ID_UDP_STABLE},
    },
};

/// Where the transport header of a packet for a service with ids is. Two numbers, as a function of a kernel program gets
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The header's offset (low 16 bits), TCP's flags (16 bits), the protocol (high 32 bits).
    pub transport: u64,
    /// The service's index (low 32 bits) and its flags (high 32 bits).
    pub service: u64,
}

impl Named {
    /// The numbers of a packet.
    #[must_use]
    #[inline(always)]
    pub const fn new(transport: &Transport, service: u32, flags: u32) -> Named {
        Named {
            transport: transport.offset as u64
                | (transport.flags as u64) << 16
                | (transport.protocol as u64) << 32,
            service: service as u64 | (flags as u64) << 32,
        }
    }

    /// Offset of the header. No offset is larger than its bits here, which the verifier needs to know.
    #[inline(always)]
    const fn offset(self) -> usize {
        self.transport as usize & OFFSETS as usize
    }

    #[inline(always)]
    const fn service_index(self) -> u32 {
        self.service as u32
    }

    #[inline(always)]
    const fn has(self, method: u32) -> bool {
        (self.service >> 32) as u32 & method != 0
    }
}

/// The index of the real that a packet names, which is alive and the service's; 0: it names none.
#[inline(always)]
pub fn find<F: Frame, T: Tables>(frame: &mut F, tables: &T, named: Named) -> u16 {
    let transport = Transport {
        ports: 0,
        protocol: (named.transport >> 32) as u32,
        flags: (named.transport >> 16) as u16 as u32,
        offset: named.offset() as u32,
    };
    let id = if transport.is_udp() {
        of_datagram(frame, tables, named)
    } else if transport.is_tcp() && transport.flags & tcp::SYN == 0 && named.has(ID_TCP_OPTION) {
        tcp_option::id(frame, named.offset()).map(|id| [0, id])
    } else {
        None
    };
    let Some(id) = id else {
        return 0;
    };
    let service = named.service_index();
    let key = ServerIdKey {
        id,
        service,
        pad: 0,
    };
    let named = tables.server_id(&key).unwrap_or(0) as u16;
    let real = flow_table::alive_real(tables, named, service);
    tables.count_server_id(service, real != 0);
    real
}

#[inline(always)]
fn of_datagram<F: Frame, T: Tables>(frame: &mut F, tables: &T, named: Named) -> Option<[u64; 2]> {
    let header = frame.window::<{ udp::LENGTH }>(named.offset())?;
    let length = u16::from_be(header.u16_at::<{ udp::DATAGRAM_LENGTH }>()) as usize;
    let payload = named.offset() + udp::LENGTH;
    // The parser has seen to it that it is not negative.
    let length = length.wrapping_sub(udp::LENGTH) & 0xFFFF;
    if named.has(ID_UDP_STABLE) {
        if length < stable_routing::LENGTH {
            return None;
        }
        let word = frame
            .window::<{ stable_routing::LENGTH }>(payload)?
            .u32_at::<0>();
        let word = u32::from_be(word);
        let is_marked = (word >> 24) as u8 == stable_routing::MARK;
        return is_marked.then_some([0, u64::from(word & 0xFF_FFFF)]);
    }
    if !named.has(ID_QUIC_LB | ID_QUIC_KATRAN) {
        return None;
    }
    let connection = quic::connection_id(frame, payload, length)?.forget();
    if named.has(ID_QUIC_KATRAN) {
        quic::katran_id(frame, &connection).map(|id| [0, id])
    } else {
        quic_lb::id(frame, tables, &connection, named.service_index())
    }
}
