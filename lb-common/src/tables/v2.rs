//! Records of layout version 2 that differ in version 3, and their conversion in both directions.
//!
//! In version 2 the forwarding mode and the family of the outer header were one number, and a real had no
//! port. All other records, and the size of this one, are the same in both versions.

use super::real::{self, ADDRESS_V6, MODE_MASK};
use crate::forward::{IPIP, L2};

/// The version.
pub const LAYOUT_VERSION: u32 = 2;

/// An entry of [`super::names::REALS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Real {
    /// [`KIND_MASK`] and the states, which are those of [`real::Real::flags`]. 0: no such real.
    pub flags: u32,
    /// See [`real::Real::next_hop`].
    pub next_hop: u32,
    /// See [`real::Real::address`].
    pub address: [u8; 16],
    /// See [`real::Real::source`].
    pub source: [u8; 16],
    /// See [`real::Real::source_mask`].
    pub source_mask: [u8; 4],
    /// See [`real::Real::checksum`].
    pub checksum: u32,
    /// See [`real::Real::service`].
    pub service: u32,
    /// See [`real::Real::lost`].
    pub lost: u32,
    /// Zero.
    pub pad: [u32; 2],
}

const _: () = assert!(size_of::<Real>() == 64);

/// Bits of [`Real::flags`] that say how a packet reaches the real.
pub const KIND_MASK: u32 = 0xF;
/// The destination MAC is rewritten. The record does not say of which family the address is.
pub const KIND_L2: u32 = 1;
/// Encapsulated in IPv4.
pub const KIND_IP4: u32 = 2;
/// Encapsulated in IPv6.
pub const KIND_IP6: u32 = 3;

/// [`real::Real::mode`] of a record of this version.
#[must_use]
#[inline(always)]
pub const fn mode(flags: u32) -> u32 {
    match flags & KIND_MASK {
        KIND_IP6 => IPIP.number,
        kind => kind,
    }
}

/// [`real::Real::has_ipv6_address`] of a record of this version. It is false for each real of [`KIND_L2`],
/// which has no outer header.
#[must_use]
#[inline(always)]
pub const fn has_outer_ipv6(flags: u32) -> bool {
    flags & KIND_MASK == KIND_IP6
}

const _: () = assert!(
    IPIP.number == KIND_IP4 && L2.number == KIND_L2,
    "`mode` returns these kinds as they are"
);

/// States that both versions know.
const STATES: u32 = real::DOWN | real::DELETED | real::RESET | real::SHED;

/// A record that the other version cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unconvertible {
    /// Its forwarding mode does not exist in the other version.
    Mode(u32),
    /// Its port is not the VIP's.
    Port(u16),
    /// It has flags that the version it is said to be of does not define.
    Flags(u32),
}

/// The record in version 3.
///
/// # Errors
/// [`Unconvertible::Mode`] or [`Unconvertible::Flags`]: the record is damaged.
pub const fn upgrade(old: &Real) -> Result<real::Real, Unconvertible> {
    let unknown = old.flags & !(KIND_MASK | STATES);
    if unknown != 0 {
        return Err(Unconvertible::Flags(unknown));
    }
    let mode = match old.flags & KIND_MASK {
        // An empty record: no agent writes states without a kind.
        0 if old.flags == 0 => 0,
        // Agents of version 2 wrote the outer checksum, which is never 0, for each IPv4 address, and 0 for
        // each IPv6 address, in this mode too.
        KIND_L2 if old.checksum != 0 => L2.number,
        KIND_L2 => L2.number | ADDRESS_V6,
        KIND_IP4 => IPIP.number,
        KIND_IP6 => IPIP.number | ADDRESS_V6,
        kind => return Err(Unconvertible::Mode(kind)),
    };
    Ok(real::Real {
        flags: old.flags & STATES | mode,
        next_hop: old.next_hop,
        address: old.address,
        source: old.source,
        source_mask: old.source_mask,
        checksum: old.checksum,
        service: old.service,
        lost: old.lost,
        port: [0; 2],
        pad: [0; 2],
        largest: 0,
    })
}

/// The record in version 2.
///
/// # Errors
/// [`Unconvertible`]: the real uses what version 2 does not have, or the record is damaged.
pub const fn downgrade(new: &real::Real) -> Result<Real, Unconvertible> {
    let unknown = new.flags & !(MODE_MASK | STATES | ADDRESS_V6);
    if unknown != 0 {
        return Err(Unconvertible::Flags(unknown));
    }
    let port = u16::from_be_bytes(new.port);
    if port != 0 {
        return Err(Unconvertible::Port(port));
    }
    let v6 = new.flags & ADDRESS_V6 != 0;
    let mode = new.mode();
    let kind = if new.flags == 0 {
        0
    } else if mode == L2.number {
        KIND_L2
    } else if mode == IPIP.number {
        if v6 { KIND_IP6 } else { KIND_IP4 }
    } else {
        return Err(Unconvertible::Mode(mode));
    };
    Ok(Real {
        flags: new.flags & STATES | kind,
        next_hop: new.next_hop,
        address: new.address,
        source: new.source,
        source_mask: new.source_mask,
        checksum: new.checksum,
        service: new.service,
        lost: new.lost,
        pad: [0; 2],
    })
}

#[cfg(test)]
mod tests;
