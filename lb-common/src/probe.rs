//! A packet of this host that is sent to one particular real, whatever the ring says, on the way that clients'
//! packets take: so a fault on that way is found.

use crate::{
    forward::{ForwardedPacket, forward},
    frame::{Fields as _, Frame},
    hash::Addresses as _,
    headers::ethernet,
    ip::{Ip, V4, V6},
    lookup::Tables,
    reason::Reason,
    tables::{
        PROBE_MARK,
        real::{DELETED, MODE_MASK},
    },
};

/// The real that a packet with this mark is for; `None` if the packet is no probe.
#[must_use]
#[inline(always)]
pub const fn real_of(mark: u32) -> Option<u16> {
    if mark & 0xFFFF_0000 == PROBE_MARK {
        Some(mark as u16)
    } else {
        None
    }
}

/// Makes the frame one for a real and returns the interface it leaves by. A dead real gets probes like any other.
///
/// # Errors
/// The reason why the frame cannot be sent. [`Reason::NotIp`] is a frame that is no probe (of address resolution,
/// for example); all others are probes that reach no real.
#[inline(always)]
pub fn send<F: Frame, T: Tables>(frame: &mut F, tables: &T, index: u16) -> Result<u32, Reason> {
    let header = frame
        .window::<{ ethernet::LENGTH }>(0)
        .ok_or(Reason::Malformed)?;
    let ether_type = header.u16_at::<{ ethernet::TYPE }>();
    if ether_type != ethernet::TYPE_IPV4 && ether_type != ethernet::TYPE_IPV6 {
        return Err(Reason::NotIp);
    }
    let real = tables
        .real(index)
        .filter(|real| real.flags & MODE_MASK != 0 && real.flags & DELETED == 0)
        .ok_or(Reason::NoReal)?;
    let hop = tables.next_hop(real).ok_or(Reason::BadTables)?;
    if hop.interface == 0 {
        return Err(Reason::NoNextHop);
    }
    let packet = if ether_type == ethernet::TYPE_IPV4 {
        parse::<V4, F, T>(frame, tables)?
    } else {
        parse::<V6, F, T>(frame, tables)?
    };
    forward(frame, &packet, real, hop)?;
    Ok(hop.interface)
}

#[inline(always)]
fn parse<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Result<ForwardedPacket, Reason> {
    let packet = I::parse(frame)?;
    let transport = &packet.transport;
    Ok(ForwardedPacket {
        family: I::FAMILY,
        length: packet.length,
        ttl: packet.ttl,
        hash: packet
            .addresses
            .ring_hash(tables.ring_seed(), transport.ports, transport.protocol),
        gue_port: tables.gue_port(),
    })
}
