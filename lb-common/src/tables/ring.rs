//! Slots: which real a flow's hash leads to.

use crate::limits::{MAX_REALS, SLOTS_PER_CHUNK};

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
    /// Unsettled, the window is over: the flow table may hold exceptions, which are of these classes; a miss is the
    /// ring's real.
    Exceptions(Classes),
    /// Unsettled, in the window: a running flow that is not in the flow table belongs to this real.
    Real(u16),
}

impl Previous {
    /// Whether the flow table may know another real for the flow with this ring hash, or an unknown flow has another
    /// one. If not, the ring's real is the flow's.
    #[must_use]
    #[inline(always)]
    pub const fn may_differ(self, ring_hash: u64) -> bool {
        match self {
            Previous::Settled => false,
            Previous::Exceptions(classes) => classes.contains(class_of(ring_hash)),
            Previous::Real(_) => true,
        }
    }
}

/// Number of classes of flows. A slot has a bit for each beside [`EXCEPTIONS`].
pub const CLASSES: u32 = 15;

/// A set of classes of flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u16);

impl Classes {
    /// No class.
    pub const NONE: Classes = Classes(0);
    /// Every class: nothing is known of the slot's exceptions.
    pub const ALL: Classes = Classes((1 << CLASSES) - 1);

    /// The set of one class, which is less than [`CLASSES`].
    #[must_use]
    pub const fn only(class: u32) -> Classes {
        Classes(1 << class)
    }

    /// Whether a class is in the set.
    #[must_use]
    #[inline(always)]
    pub const fn contains(self, class: u32) -> bool {
        self.0 >> class & 1 != 0
    }

    /// Whether no class is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The classes that are in one of the two sets.
    #[must_use]
    pub const fn or(self, other: Classes) -> Classes {
        Classes(self.0 | other.0)
    }

    /// The classes that are in both sets.
    #[must_use]
    pub const fn and(self, other: Classes) -> Classes {
        Classes(self.0 & other.0)
    }

    /// The share of all flows whose class is in the set, 0.0 to 1.0.
    #[cfg(not(target_arch = "bpf"))]
    #[must_use]
    pub fn share(self) -> f64 {
        let values = 1_u64 << CLASS_BITS;
        let hits = (0..values).filter(|value| self.contains(class_of(value << CLASS_SHIFT)));
        hits.count() as f64 / values as f64
    }
}

/// Bits of the ring hash that make the class: those below the 16 that can make the slot.
const CLASS_BITS: u32 = 4;
const CLASS_SHIFT: u32 = 44;

/// The class of the flow with this ring hash, or with this [`super::flow::Flow::stamp`], which has the same bits in the
/// same places.
#[must_use]
#[inline(always)]
pub const fn class_of(ring_hash: u64) -> u32 {
    let value = (ring_hash >> CLASS_SHIFT) as u32 & ((1 << CLASS_BITS) - 1);
    (value * CLASSES) >> CLASS_BITS
}

/// The mark, in the high half of a slot, that its window is over and the other bits are [`Classes`].
///
/// No real has such an index. A program of an earlier build, which knows the state with all classes only, takes any
/// other set for a previous real that does not exist: it looks each flow up and sends unknown ones to the slot's real.
pub const EXCEPTIONS: u16 = 1 << CLASSES;

/// Packs a slot. `real` 0 means that no real takes new flows. A slot with exceptions of no class is settled.
#[must_use]
pub const fn slot(real: u16, previous: Previous) -> Slot {
    let high = match previous {
        Previous::Settled | Previous::Exceptions(Classes::NONE) => 0,
        Previous::Exceptions(classes) => EXCEPTIONS | classes.0,
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
        high if high & EXCEPTIONS != 0 => Previous::Exceptions(Classes(high & Classes::ALL.0)),
        real => Previous::Real(real),
    }
}

/// The real that the slot had before, while its window runs; 0: none that counts.
///
/// A number at all times, while a [`Previous`] has one in one of its variants only: the compiler may copy what the other
/// ones do not have, and the kernel rejects a program that copies a register nobody wrote.
#[must_use]
#[inline(always)]
pub const fn previous_real_of(slot: Slot) -> u16 {
    let high = (slot >> 16) as u16;
    if high & EXCEPTIONS == 0 { high } else { 0 }
}

const _: () = assert!(size_of::<Chunk>() == 64);
const _: () = assert!(
    MAX_REALS <= EXCEPTIONS as u32,
    "a state is no index of a real"
);
const _: () = assert!(EXCEPTIONS | Classes::ALL.0 == u16::MAX && EXCEPTIONS & Classes::ALL.0 == 0);
const _: () = assert!(class_of(u64::MAX) == CLASSES - 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_gives_back_what_was_packed() {
        let states = [
            Previous::Settled,
            Previous::Exceptions(Classes::ALL),
            Previous::Exceptions(Classes::only(0)),
            Previous::Exceptions(Classes::only(14).or(Classes::only(3))),
            Previous::Real(1),
            Previous::Real(MAX_REALS as u16 - 1),
        ];
        for state in states {
            let packed = slot(7, state);
            assert_eq!((real_of(packed), previous_of(packed)), (7, state));
            let real = match state {
                Previous::Real(real) => real,
                Previous::Settled | Previous::Exceptions(_) => 0,
            };
            assert_eq!(previous_real_of(packed), real);
        }
        assert_eq!(
            slot(7, Previous::Exceptions(Classes::NONE)),
            slot(7, Previous::Settled)
        );
        // What earlier builds write after a window.
        assert_eq!(previous_of(0xFFFF_0007), Previous::Exceptions(Classes::ALL));
    }

    #[test]
    fn each_flow_has_one_class() {
        let mut counts = [0; CLASSES as usize];
        for value in 0..1_u64 << 20 {
            let hash = value << 44;
            let class = class_of(hash);
            counts[class as usize] += 1;
            let state = Previous::Exceptions(Classes::only(class));
            assert!(state.may_differ(hash));
            assert!(!Previous::Exceptions(Classes::only((class + 1) % CLASSES)).may_differ(hash));
        }
        assert!(counts.iter().all(|count| *count >= 1 << 16), "{counts:?}");
        assert_eq!((Classes::ALL.share(), Classes::NONE.share()), (1.0, 0.0));
        assert!(!Previous::Settled.may_differ(1) && Previous::Real(3).may_differ(1));
    }
}
