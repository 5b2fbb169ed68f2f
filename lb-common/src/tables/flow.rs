//! The flow table: flows whose real differs from what the ring says.

use crate::limits::FLOWS_PER_BUCKET;

/// One flow: 16 bytes. Both words are written with single stores, `stamp` first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Flow {
    /// 48-bit tag (high) and real (low 16 bits); 0 is empty.
    pub owner: u64,
    /// Last packet, in ticks (low 32 bits), [`CLOSING`], and [`ring_bits`] (high 16 bits).
    pub stamp: u64,
}

/// FIN or RST was seen: the entry lives `CLOSING_TICKS`, not the VIP's window.
pub const CLOSING: u64 = 1 << 32;

/// Bits of [`Flow::stamp`] that stay as long as the entry is the flow's.
pub const RING_BITS: u64 = 0xFFFF << 48;

/// The top 16 bits of the flow's ring hash. They name its slot in a ring of any size, so the agent can tell
/// which slots still have exceptions.
#[must_use]
#[inline(always)]
pub const fn ring_bits(stamp: u64) -> u16 {
    (stamp >> 48) as u16
}

/// A value of [`super::names::FLOWS`]: a cache line. A flow has two buckets it may be in; it is put into
/// the one with more empty entries; if both are full, it replaces the oldest entry.
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
