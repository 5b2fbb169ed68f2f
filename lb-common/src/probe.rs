//! A packet of this host that is sent to a certain real, whatever the ring says, in the way that clients' packets
//! reach it: so that what is wrong with that way is found.

use crate::{
    forward::{Inner, forward},
    frame::{Fields as _, Frame},
    hash::Addresses as _,
    parse::{ETHERNET, TYPE_IP4, TYPE_IP6, packet4, packet6},
    reason::Reason,
    store::Tables,
    tables::{
        PROBE_MARK,
        real::{DELETED, KIND_MASK},
    },
};

/// The real that a packet with this mark is for, if it is a probe.
#[must_use]
#[inline(always)]
pub const fn real_of(mark: u32) -> Option<u16> {
    if mark & 0xFFFF_0000 == PROBE_MARK {
        Some(mark as u16)
    } else {
        None
    }
}

/// Makes the frame one for a real: the interface it leaves by. A real that is dead is sent to like any other.
///
/// # Errors
/// Why it cannot be sent: [`Reason::NotIp`] is a frame that is no probe (of address resolution, say), all others
/// are probes that nobody gets.
#[inline(always)]
pub fn send<F: Frame, T: Tables>(frame: &mut F, tables: &T, index: u16) -> Result<u32, Reason> {
    let header = frame.window::<ETHERNET>(0).ok_or(Reason::Malformed)?;
    let kind = header.half::<12>();
    if kind != TYPE_IP4 && kind != TYPE_IP6 {
        return Err(Reason::NotIp);
    }
    let real = tables
        .real(index)
        .filter(|real| real.flags & KIND_MASK != 0 && real.flags & DELETED == 0)
        .ok_or(Reason::NoReal)?;
    let hop = tables.next_hop(real.next_hop).ok_or(Reason::BadTables)?;
    if hop.interface == 0 {
        return Err(Reason::NoNextHop);
    }
    let (inner, length, ttl, hash);
    if kind == TYPE_IP4 {
        let packet = packet4(frame)?;
        let transport = packet.transport;
        hash = packet
            .addresses
            .ring_hash(tables.ring_seed(), transport.ports, transport.protocol);
        (inner, length, ttl) = (Inner::V4, packet.length, packet.ttl);
    } else {
        let packet = packet6(frame)?;
        let transport = packet.transport;
        hash = packet
            .addresses
            .ring_hash(tables.ring_seed(), transport.ports, transport.protocol);
        (inner, length, ttl) = (Inner::V6, packet.length, packet.ttl);
    }
    forward(frame, inner, length, ttl, real, hop, hash)?;
    Ok(hop.interface)
}
