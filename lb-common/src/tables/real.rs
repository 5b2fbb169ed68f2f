//! A real server of one service.

use super::v2;

/// An entry of [`super::names::REALS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Real {
    /// The forwarding mode ([`MODE_MASK`]) and [`DOWN`], [`DELETED`], [`RESET`], [`SHED`], [`LIMITED`],
    /// [`ADDRESS_V6`].
    /// 0: no such real.
    pub flags: u32,
    /// Index of the next hop; 0 is unknown. One store moves the real to another one.
    pub next_hop: u32,
    /// The outer destination: the real's address in network order, IPv4 in the first four bytes.
    pub address: [u8; 16],
    /// The outer source: a prefix in network order, host bits zero. IPv4 in the first four bytes.
    pub source: [u8; 16],
    /// Host bits of the outer source that vary by flow: of the IPv4 address, or of the last 32 bits of
    /// the IPv6 address; in network order.
    pub source_mask: [u8; 4],
    /// [`outer_checksum`] of this entry if its addresses are IPv4; else 0.
    pub checksum: u32,
    /// The service it belongs to.
    pub service: u32,
    /// For the agent: flows that the real had when it was last dead and came back; no packet will end them.
    pub lost: u32,
    /// The real's port, in network order; 0: that of the VIP. Modes that do not translate ports ignore it.
    pub port: [u8; 2],
    /// Zero.
    pub pad: [u8; 2],
    /// Bytes of the largest IP packet that the way to the real carries, outer header not counted; 0: not known.
    pub largest: u32,
}

impl Real {
    /// Number of its forwarding mode, see [`crate::forward`]; 0: no such real.
    #[must_use]
    #[inline(always)]
    pub const fn mode(&self) -> u32 {
        if cfg!(feature = "layout-2") {
            v2::mode(self.flags)
        } else {
            self.flags & MODE_MASK
        }
    }

    /// Whether the way to the real carries an IP packet of this length, which is not 0.
    #[must_use]
    #[inline(always)]
    pub const fn takes(&self, length: u32) -> bool {
        // One comparison: an unknown size becomes the largest number.
        length.wrapping_sub(1) <= self.largest.wrapping_sub(1)
    }

    /// Whether its address, and so its outer header, is IPv6.
    #[must_use]
    #[inline(always)]
    pub const fn has_ipv6_address(&self) -> bool {
        if cfg!(feature = "layout-2") {
            v2::has_outer_ipv6(self.flags)
        } else {
            self.flags & ADDRESS_V6 != 0
        }
    }
}

/// Bits of [`Real::flags`] that hold the number of the forwarding mode.
pub const MODE_MASK: u32 = 0xFF;
/// The real is dead: an entry of the flow table that names it counts as a miss, and a slot's previous real
/// that is down counts as the slot's new one.
pub const DOWN: u32 = 0x100;
/// No service has the real any more; it is down as well.
pub const DELETED: u32 = 0x200;
/// The real is dead: TCP packets of its flows (by the flow table, or as a slot's previous real) are answered
/// with a reset.
pub const RESET: u32 = 0x400;
/// Flows of the real are ended while it has a [`Budget`].
pub const SHED: u32 = 0x800;
/// The real's address is IPv6.
pub const ADDRESS_V6: u32 = 0x1000;

/// Its service limits the connections that begin.
pub const LIMITED: u32 = 0x2000;

const _: () = assert!(MODE_MASK & (DOWN | DELETED | RESET | SHED | ADDRESS_V6 | LIMITED) == 0);

const _: () = assert!(size_of::<Real>() == 64);

/// An entry of [`super::names::BUDGETS`]: how many flows of a real are still to be ended. All CPUs and the agent
/// change it; a value below zero counts as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Budget {
    /// Flows.
    pub flows: i64,
}

/// TTL and hop limit of an outer header.
pub const OUTER_TTL: u8 = 64;

/// The value of [`Real::checksum`]: the one's complement sum, folded to 16 bits, of those 16-bit words
/// of the outer IPv4 header that are the same in every packet: version and header length (`0x45`, TOS 0),
/// TTL ([`OUTER_TTL`], protocol 0), source prefix and destination. Words are read in the machine's byte
/// order. The packet's own share is added per packet: TOS, total length, identification and flags,
/// protocol, and the bits of the source that vary.
#[must_use]
pub const fn outer_checksum(source: [u8; 4], destination: [u8; 4]) -> u32 {
    let sum = u16::from_ne_bytes([0x45, 0]) as u64
        + u16::from_ne_bytes([OUTER_TTL, 0]) as u64
        + u32::from_ne_bytes(source) as u64
        + u32::from_ne_bytes(destination) as u64;
    crate::checksum::fold(sum) as u32
}
