//! The flow table: flows whose real differs from what the ring says.

use crate::limits::FLOWS_PER_BUCKET;

/// One flow: 16 bytes. Both words are written with single stores, `stamp` first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Flow {
    /// 48-bit tag (high) and real (low 16 bits); 0 is empty.
    pub owner: u64,
    /// Last packet, in ticks (low 32 bits), [`CLOSING`], [`PROVISIONAL`], [`OPENING`], [`HALF_OPEN`], [`turn`] (8 bits), and
    /// the high 20 bits of the flow's ring hash ([`RING_BITS`]).
    pub stamp: u64,
}

/// FIN or RST was seen: the entry lives `CLOSING_TICKS`, not the VIP's window.
pub const CLOSING: u64 = 1 << 32;

/// The flow's client has sent one packet only, which anybody can forge. The next one confirms the entry. Under
/// pressure such an entry gives way, and it never takes the place of a confirmed one.
///
/// A program of an earlier build writes no such mark and keeps none: to it, and to what it wrote, every entry is
/// confirmed.
pub const PROVISIONAL: u64 = 1 << 33;

/// A mark beside [`PROVISIONAL`]: the packet opened the flow (a SYN, or a UDP packet that belongs to no earlier
/// flow). Without it the packet was one of a running flow.
pub const OPENING: u64 = 1 << 34;

/// A mark beside both: the packet was a SYN. The entry lives `CLOSING_TICKS`, in which a client answers its server's
/// SYN-ACK or sends its SYN again. Other flows may be silent for the VIP's window after their first packet.
pub const HALF_OPEN: u64 = 1 << 35;

/// Position of [`turn`].
const TURN_SHIFT: u32 = 36;
const TURN_MASK: u64 = (1 << 8) - 1;

/// The turn of an entry made now, as a part of its stamp. `inserted` is the number of entries its CPU has made.
///
/// It tells which of two entries of one tick is older; a flood makes thousands in each.
#[must_use]
#[inline(always)]
pub const fn turn(inserted: u64) -> u64 {
    (inserted & TURN_MASK) << TURN_SHIFT
}

/// Entries that were made between those with these stamps, up to 255; if another CPU made one of them, or it was
/// stamped again, any number.
#[must_use]
#[inline(always)]
pub const fn turns_since(stamp: u64, newer: u64) -> u64 {
    (newer >> TURN_SHIFT).wrapping_sub(stamp >> TURN_SHIFT) & TURN_MASK
}

/// Bits of [`Flow::stamp`] that are those of the flow's ring hash. They name its slot in a ring of any size
/// ([`ring_bits`]) and its class ([`super::ring::class_of`]), so the agent can tell which slots still have exceptions, and
/// of which classes.
///
/// Programs of earlier builds stamp 16 bits only: the class of an entry that they have stamped last is not known.
pub const RING_BITS: u64 = 0xF_FFFF << 44;

/// The high 20 bits of the flow's ring hash.
#[must_use]
#[inline(always)]
pub const fn ring_bits(stamp: u64) -> u32 {
    (stamp >> 44) as u32
}

/// A value of [`super::names::FLOWS`]: a cache line. A flow has two buckets it may be in; it is put into
/// the one with fewer confirmed entries; if both are full, it replaces the oldest entry that is not confirmed or
/// whose flow has ended. It has no entry if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Bucket {
    /// The entries, in no order.
    pub flows: [Flow; FLOWS_PER_BUCKET],
}

/// Packs [`Flow::owner`].
#[must_use]
#[inline(always)]
pub const fn owner(tag: u64, real: u16) -> u64 {
    tag << 16 | real as u64
}

/// The real of an entry.
#[must_use]
#[inline(always)]
pub const fn real_of(owner: u64) -> u16 {
    owner as u16
}

const _: () = assert!(size_of::<Bucket>() == 64);
const _: () =
    assert!(turn(u64::MAX) & (RING_BITS | HALF_OPEN | OPENING | PROVISIONAL | CLOSING) == 0);
