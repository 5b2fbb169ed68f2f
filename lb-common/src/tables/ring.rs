//! Slots: which real a flow's hash leads to.

use crate::limits::SLOTS_PER_CHUNK;

/// One slot: the real in the low 16 bits, [`Previous`] in the high 16.
pub type Slot = u32;

/// A value of [`super::names::RINGS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Chunk {
    /// The slots.
    pub slots: [Slot; SLOTS_PER_CHUNK as usize],
}

/// State of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous {
    /// Settled: the ring's real serves every flow, nothing else is looked up.
    Settled,
    /// Unsettled, the window is over: the flow table may hold exceptions; a miss is the ring's real.
    Exceptions,
    /// Unsettled, in the window: a running flow that is not in the flow table belongs to this real.
    Real(u16),
}

/// The high half of a slot whose window is over.
pub const EXCEPTIONS: u16 = 0xFFFF;

/// Packs a slot. `real` 0 means that no real takes new flows.
#[must_use]
pub const fn slot(real: u16, previous: Previous) -> Slot {
    let high = match previous {
        Previous::Settled => 0,
        Previous::Exceptions => EXCEPTIONS,
        Previous::Real(real) => real,
    };
    real as u32 | (high as u32) << 16
}

/// The real that takes the slot's new flows; 0: no real does.
#[must_use]
#[inline(always)]
pub const fn real_of(slot: Slot) -> u16 {
    slot as u16
}

/// The slot's state.
#[must_use]
#[inline(always)]
pub const fn previous_of(slot: Slot) -> Previous {
    match (slot >> 16) as u16 {
        0 => Previous::Settled,
        EXCEPTIONS => Previous::Exceptions,
        real => Previous::Real(real),
    }
}

const _: () = assert!(size_of::<Chunk>() == 64);
