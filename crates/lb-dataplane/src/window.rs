//! What becomes of a slot: when its real changes, when its window is over, when its ring is made larger.
//!
//! A slot says whose a flow is that the flow table does not know: the ring's real (settled, or the window
//! is over), or the previous one (in the window). The rules keep that true; see `docs/architecture.md`.

use lb_common::tables::ring::{Previous, Slot, previous_of, real_of, slot};

/// What holds for every slot of one change.
pub struct Change<'a> {
    /// Reals that are deleted, or dead without hope: their flows go to the slots' new reals at once.
    pub removed: &'a [u16],
    /// Every flow is tracked, so no slot is settled.
    pub track_all: bool,
    /// The flow table knows every live flow, and a packet that it does not know begins one: a changed slot
    /// needs no previous real.
    pub knows_all: bool,
}

impl Change<'_> {
    /// The slot after its real becomes `real` (0: none).
    ///
    /// - A settled slot, or one whose window is over, remembers its real as previous.
    /// - A slot in its window keeps its previous: the flows opened since are all in the flow table, so an
    ///   unknown running flow is still the previous real's.
    /// - A deleted real is remembered nowhere, and none where the flow table knows every flow.
    #[must_use]
    pub fn apply(&self, old: Slot, real: u16) -> Slot {
        let current = real_of(old);
        let forgotten = current == 0 || current == real || self.removed.contains(&current);
        let state = match previous_of(old) {
            Previous::Real(previous) if self.removed.contains(&previous) => Previous::Exceptions,
            Previous::Real(previous) => Previous::Real(previous),
            state if forgotten => state,
            _ if self.knows_all => Previous::Exceptions,
            Previous::Settled | Previous::Exceptions => Previous::Real(current),
        };
        self.finish(real, state)
    }

    /// A slot of a ring that had no slots before.
    #[must_use]
    pub fn fresh(&self, real: u16) -> Slot {
        self.finish(real, Previous::Settled)
    }

    fn finish(&self, real: u16, state: Previous) -> Slot {
        match state {
            Previous::Settled if self.track_all => slot(real, Previous::Exceptions),
            state => slot(real, state),
        }
    }
}

/// Whether the slot is in its window.
#[must_use]
pub fn in_window(of: Slot) -> bool {
    matches!(previous_of(of), Previous::Real(_))
}

/// Whether packets of the slot look up the flow table.
#[must_use]
pub fn unsettled(of: Slot) -> bool {
    previous_of(of) != Previous::Settled
}

/// The slot after its window.
#[must_use]
pub fn window_over(of: Slot) -> Slot {
    slot(real_of(of), Previous::Exceptions)
}

/// Number of slots the tables hold for a wanted ring of `wanted` slots, when they hold `current` now.
///
/// Always a power of two and never less than now: a slot is the top bits of a hash, so a slot of a larger
/// ring lies within one slot of a smaller one, and both rings agree on every flow's previous real. A
/// smaller wanted ring is repeated over the larger one. A ring whose size is no power of two is spread
/// over [`lb_common::limits::MAX_RING_SLOTS`], which distorts shares by less than 2^-16 a slot.
#[must_use]
pub fn table_slots(wanted: usize, current: u32) -> u32 {
    use lb_common::limits::{MAX_RING_SLOTS, MIN_RING_SLOTS};
    let slots = if wanted == 0 {
        0
    } else if wanted.is_power_of_two() {
        (wanted as u32).clamp(MIN_RING_SLOTS, MAX_RING_SLOTS)
    } else {
        MAX_RING_SLOTS
    };
    slots.max(current)
}

#[cfg(test)]
mod tests {
    use Previous::{Exceptions, Real, Settled};

    use super::*;

    #[test]
    fn a_change_follows_the_rules() {
        const GONE: u16 = 9;
        let cases = [
            ("settled, same", (1, Settled), 1, (1, Settled)),
            ("settled, changed", (1, Settled), 2, (2, Real(1))),
            ("settled, drained to none", (1, Settled), 0, (0, Real(1))),
            ("none had it", (0, Settled), 2, (2, Settled)),
            (
                "in the window, changed again",
                (2, Real(1)),
                3,
                (3, Real(1)),
            ),
            ("in the window, changed back", (2, Real(1)), 1, (1, Real(1))),
            ("in the window, same", (2, Real(1)), 2, (2, Real(1))),
            ("exceptions, same", (1, Exceptions), 1, (1, Exceptions)),
            ("exceptions, changed", (1, Exceptions), 2, (2, Real(1))),
            (
                "exceptions, none had it",
                (0, Exceptions),
                2,
                (2, Exceptions),
            ),
            ("deleted real, settled", (GONE, Settled), 2, (2, Settled)),
            (
                "deleted real, exceptions",
                (GONE, Exceptions),
                2,
                (2, Exceptions),
            ),
            (
                "deleted real as previous",
                (2, Real(GONE)),
                2,
                (2, Exceptions),
            ),
            (
                "deleted real as previous, changed",
                (2, Real(GONE)),
                3,
                (3, Exceptions),
            ),
            (
                "deleted real in the window",
                (GONE, Real(1)),
                2,
                (2, Real(1)),
            ),
        ];
        let change = Change {
            removed: &[GONE],
            track_all: false,
            knows_all: false,
        };
        let tracking = Change {
            removed: &[GONE],
            track_all: true,
            knows_all: false,
        };
        for (what, (real, state), wanted, (new_real, new_state)) in cases {
            let next = change.apply(slot(real, state), wanted);
            assert_eq!(
                (real_of(next), previous_of(next)),
                (new_real, new_state),
                "{what}"
            );
            let tracked = tracking.apply(slot(real, state), wanted);
            let state = if new_state == Settled {
                Exceptions
            } else {
                new_state
            };
            assert_eq!(
                (real_of(tracked), previous_of(tracked)),
                (new_real, state),
                "{what}, tracked"
            );
        }
    }

    #[test]
    fn no_previous_real_is_needed_where_every_flow_is_known() {
        let change = Change {
            removed: &[],
            track_all: true,
            knows_all: true,
        };
        for (old, wanted, expected) in [
            (slot(1, Exceptions), 2, slot(2, Exceptions)),
            (slot(1, Settled), 2, slot(2, Exceptions)),
            (slot(0, Exceptions), 2, slot(2, Exceptions)),
            // An earlier window still tells of flows from before all were tracked.
            (slot(2, Real(1)), 3, slot(3, Real(1))),
        ] {
            assert_eq!(change.apply(old, wanted), expected, "{old:#x}");
        }
    }

    #[test]
    fn a_window_ends_in_exceptions() {
        assert_eq!(previous_of(window_over(slot(3, Real(1)))), Exceptions);
        assert_eq!(real_of(window_over(slot(3, Real(1)))), 3);
    }

    #[test]
    fn a_ring_in_use_only_grows() {
        assert_eq!(table_slots(4096, 0), 4096);
        assert_eq!(table_slots(4096, 65_536), 65_536);
        assert_eq!(table_slots(65_536, 4096), 65_536);
        assert_eq!(table_slots(16, 0), 256);
        assert_eq!(table_slots(65_521, 0), 65_536);
        assert_eq!(table_slots(0, 0), 0);
        assert_eq!(table_slots(0, 512), 512);
    }
}
