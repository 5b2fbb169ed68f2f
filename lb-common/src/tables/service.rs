//! Services: how a VIP is served.

/// An entry of [`super::names::SERVICES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Service {
    /// The ring: first slot (low 32 bits, a multiple of `SLOTS_PER_CHUNK`) and number of slots
    /// (high 32 bits). One aligned 8-byte store moves the service to another ring. 0 slots: no
    /// real for new flows.
    pub ring: u64,
    /// [`TRACK_ALL`] and [`RESET_EMPTY`].
    pub flags: u32,
    /// How long a changed slot remembers its previous real, and how long an idle flow keeps its entry;
    /// in ticks.
    pub window: u32,
    /// For the next agent: when the service was added, in ticks.
    pub made: u32,
    /// For the next agent: until when a service of UDP tracks every flow because it is new, in ticks; 0: it
    /// never did.
    pub track_until: u32,
    /// Zero.
    pub pad: [u32; 10],
}

/// Every flow gets an entry, so live flows are known exactly.
pub const TRACK_ALL: u32 = 1;
/// TCP packets that no real takes are answered with a reset.
pub const RESET_EMPTY: u32 = 2;

/// Packs [`Service::ring`].
#[must_use]
pub const fn ring_place(first_slot: u32, slots: u32) -> u64 {
    first_slot as u64 | (slots as u64) << 32
}

const _: () = assert!(size_of::<Service>() == 64);
