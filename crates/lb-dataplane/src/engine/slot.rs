//! The transitions of a slot: its real changes, its window ends, its ring grows.
//!
//! A slot says which real serves a running flow that the flow table does not know: the ring's real (the slot
//! is settled or its window is over), or the previous one (the slot is in its window). And it says which flows
//! the flow table may know: none (settled), those of some classes, or all. The transitions keep both true; see
//! `docs/architecture.md`.

use lb_common::tables::ring::{Classes, Previous, Slot, previous_of, real_of, slot};

/// The state of a slot of whose exceptions nothing is known.
const UNKNOWN: Previous = Previous::Exceptions(Classes::ALL);

/// What holds for every slot of one change.
pub(crate) struct RingChange<'a> {
    /// Reals that are deleted, or down with the policy `rehash`: their flows go to the slots' new reals at
    /// once.
    pub removed: &'a [u16],
    /// Every flow is tracked, so no slot is settled.
    pub tracks_every_flow: bool,
    /// The flow table knows every live flow, and a packet that it does not know begins one: a changed slot
    /// needs no previous real.
    pub knows_every_flow: bool,
    /// The hash of flows changes with the ring, so a slot has other flows than before.
    pub rehashes: bool,
}

impl RingChange<'_> {
    /// The slot after its real becomes `real` (0: no real).
    ///
    /// - A settled slot, or one whose window is over, remembers its real as the previous one.
    /// - A slot in its window keeps its previous real: every flow that was opened since is in the flow table,
    ///   so an unknown running flow still belongs to the previous real. If that is the slot's real again, the window
    ///   is over.
    /// - A removed real is never remembered, and no real is where the flow table knows every flow.
    /// - Of the flows that a slot has by another hash, those that the flow table knows keep their real. Nothing says where
    ///   the others were.
    /// - The flow table may hold entries of a removed real's flows, which do not count as long as it is down. The next
    ///   sweep frees them; until then the classes of exceptions in its slots are not known. A settled slot stays settled.
    #[must_use]
    pub fn apply(&self, old: Slot, real: u16) -> Slot {
        let current = real_of(old);
        if self.rehashes {
            return self.finish(real, UNKNOWN);
        }
        let state = match previous_of(old) {
            Previous::Real(previous) if previous == real => UNKNOWN,
            Previous::Real(previous) if self.removed.contains(&previous) => UNKNOWN,
            Previous::Real(previous) => Previous::Real(previous),
            state if current == 0 || current == real => state,
            Previous::Settled if self.removed.contains(&current) => Previous::Settled,
            _ if self.removed.contains(&current) => UNKNOWN,
            _ if self.knows_every_flow => UNKNOWN,
            Previous::Settled | Previous::Exceptions(_) => Previous::Real(current),
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
            Previous::Settled if self.tracks_every_flow => slot(real, UNKNOWN),
            state => slot(real, state),
        }
    }
}

/// Whether the slot is in its window.
#[must_use]
pub(crate) fn in_window(slot: Slot) -> bool {
    matches!(previous_of(slot), Previous::Real(_))
}

/// Whether packets of the slot look up the flow table.
#[must_use]
pub(crate) fn is_unsettled(slot: Slot) -> bool {
    previous_of(slot) != Previous::Settled
}

/// The slot after its window.
#[must_use]
pub(crate) fn after_window(old: Slot) -> Slot {
    slot(real_of(old), UNKNOWN)
}

/// The slot after a sweep that has found exceptions of these classes in it, and no others. It must have begun after the
/// slot's window, and after the packets under way then.
///
/// No exception arises in a slot whose window is over. So classes leave the slot's set, and none joins it; without a
/// class the slot is settled.
#[must_use]
pub(crate) fn after_sweep(old: Slot, found: Classes) -> Slot {
    match previous_of(old) {
        Previous::Exceptions(classes) => {
            slot(real_of(old), Previous::Exceptions(classes.and(found)))
        }
        Previous::Settled | Previous::Real(_) => old,
    }
}

/// The slot as builds know it that know no classes.
#[must_use]
pub(crate) fn without_classes(old: Slot) -> Slot {
    match previous_of(old) {
        Previous::Exceptions(_) => after_window(old),
        Previous::Settled | Previous::Real(_) => old,
    }
}

/// Number of slots that the table holds for a ring of `requested` slots, when it holds `current` now. `fixed` is the number
/// that rings of its algorithm have, if there is one.
///
/// Otherwise it is always a power of two and never less than now: a slot is the top bits of a hash, so a slot of a larger
/// ring lies within one slot of a smaller one, and both rings agree on every flow's previous real. A
/// smaller ring is repeated over the larger one. A ring whose size is not a power of two is spread over
/// [`lb_common::limits::MAX_RING_SLOTS`], which distorts shares by less than 2^-16 per slot.
///
/// Where rings have a fixed number, flows have a hash of their own, which says nothing of the slots before or after.
#[must_use]
pub(crate) fn table_slots(requested: usize, current: u32, fixed: Option<u32>) -> u32 {
    use lb_common::limits::{MAX_RING_SLOTS, MIN_RING_SLOTS};
    if let Some(fixed) = fixed {
        return if requested == 0 && current == 0 {
            0
        } else {
            fixed
        };
    }
    let current = if current == 0 || current.is_power_of_two() {
        current
    } else {
        MIN_RING_SLOTS
    };
    let slots = if requested == 0 {
        0
    } else if requested.is_power_of_two() {
        (requested as u32).clamp(MIN_RING_SLOTS, MAX_RING_SLOTS)
    } else {
        MAX_RING_SLOTS
    };
    slots.max(current)
}

#[cfg(test)]
mod tests {
    use Previous::{Real, Settled};

    use super::*;

    const SOME: Previous = Previous::Exceptions(Classes::only(3));

    #[test]
    fn a_change_follows_the_rules() {
        const GONE: u16 = 9;
        let cases = [
            ("settled, same", (1, Settled), 1, (1, Settled)),
            ("settled, changed", (1, Settled), 2, (2, Real(1))),
            ("settled, drained to no real", (1, Settled), 0, (0, Real(1))),
            ("no real before", (0, Settled), 2, (2, Settled)),
            (
                "in the window, changed again",
                (2, Real(1)),
                3,
                (3, Real(1)),
            ),
            ("in the window, changed back", (2, Real(1)), 1, (1, UNKNOWN)),
            ("in the window, same", (2, Real(1)), 2, (2, Real(1))),
            ("exceptions, same", (1, UNKNOWN), 1, (1, UNKNOWN)),
            ("some exceptions, same", (1, SOME), 1, (1, SOME)),
            ("exceptions, changed", (1, UNKNOWN), 2, (2, Real(1))),
            ("some exceptions, changed", (1, SOME), 2, (2, Real(1))),
            ("exceptions, no real before", (0, SOME), 2, (2, SOME)),
            ("deleted real, settled", (GONE, Settled), 2, (2, Settled)),
            ("deleted real, exceptions", (GONE, SOME), 2, (2, UNKNOWN)),
            ("deleted real as previous", (2, Real(GONE)), 2, (2, UNKNOWN)),
            (
                "deleted real as previous, changed",
                (2, Real(GONE)),
                3,
                (3, UNKNOWN),
            ),
            (
                "deleted real in the window",
                (GONE, Real(1)),
                2,
                (2, Real(1)),
            ),
        ];
        let change = RingChange {
            removed: &[GONE],
            tracks_every_flow: false,
            knows_every_flow: false,
            rehashes: false,
        };
        let tracking = RingChange {
            removed: &[GONE],
            tracks_every_flow: true,
            knows_every_flow: false,
            rehashes: false,
        };
        for (case, (real, state), new, (new_real, new_state)) in cases {
            let next = change.apply(slot(real, state), new);
            assert_eq!(
                (real_of(next), previous_of(next)),
                (new_real, new_state),
                "{case}"
            );
            let tracked = tracking.apply(slot(real, state), new);
            let state = if new_state == Settled {
                UNKNOWN
            } else {
                new_state
            };
            assert_eq!(
                (real_of(tracked), previous_of(tracked)),
                (new_real, state),
                "{case}, tracked"
            );
        }
    }

    #[test]
    fn no_previous_real_is_needed_where_every_flow_is_known() {
        let change = RingChange {
            removed: &[],
            tracks_every_flow: true,
            knows_every_flow: true,
            rehashes: false,
        };
        for (old, new, expected) in [
            (slot(1, SOME), 2, slot(2, UNKNOWN)),
            (slot(1, Settled), 2, slot(2, UNKNOWN)),
            (slot(0, UNKNOWN), 2, slot(2, UNKNOWN)),
            // An earlier window still tells of flows from before all were tracked.
            (slot(2, Real(1)), 3, slot(3, Real(1))),
        ] {
            assert_eq!(change.apply(old, new), expected, "{old:#x}");
        }
    }

    #[test]
    fn a_window_ends_in_exceptions() {
        assert_eq!(after_window(slot(3, Real(1))), slot(3, UNKNOWN));
    }

    #[test]
    fn a_sweep_takes_classes_away_and_adds_none() {
        let [a, b, c] = [1, 5, 9].map(Classes::only);
        let with = |classes| slot(3, Previous::Exceptions(classes));
        assert_eq!(after_sweep(slot(3, UNKNOWN), a.or(b)), with(a.or(b)));
        assert_eq!(after_sweep(with(a.or(b)), b.or(c)), with(b));
        assert_eq!(after_sweep(with(b), Classes::NONE), slot(3, Settled));
        for other in [slot(3, Settled), slot(3, Real(1))] {
            assert_eq!(after_sweep(other, a), other);
            assert_eq!(without_classes(other), other);
        }
        assert_eq!(without_classes(with(a)), slot(3, UNKNOWN));
    }

    #[test]
    fn a_ring_in_use_only_grows() {
        assert_eq!(table_slots(4096, 0, None), 4096);
        assert_eq!(table_slots(4096, 65_536, None), 65_536);
        assert_eq!(table_slots(65_536, 4096, None), 65_536);
        assert_eq!(table_slots(16, 0, None), 256);
        assert_eq!(table_slots(65_521, 0, None), 65_536);
        assert_eq!(table_slots(0, 0, None), 0);
        assert_eq!(table_slots(0, 512, None), 512);
    }

    #[test]
    fn a_ring_of_a_fixed_number_of_slots_has_these() {
        let fixed = Some(65_537);
        for (requested, current, fixed, slots) in [
            (65_537, 0, fixed, 65_537),
            (65_537, 4_096, fixed, 65_537),
            (65_537, 65_537, fixed, 65_537),
            (0, 0, fixed, 0),
            (0, 4_096, fixed, 65_537),
            // And another ring after it any number.
            (4_096, 65_537, None, 4_096),
            (65_536, 65_537, None, 65_536),
            (0, 65_537, None, 256),
        ] {
            assert_eq!(
                table_slots(requested, current, fixed),
                slots,
                "{requested} {current}"
            );
        }
    }

    #[test]
    fn a_slot_of_another_hash_forgets_where_its_flows_were() {
        let change = RingChange {
            removed: &[],
            tracks_every_flow: false,
            knows_every_flow: false,
            rehashes: true,
        };
        for state in [Settled, SOME, UNKNOWN, Real(3)] {
            for real in [0, 1, 2, 3] {
                assert_eq!(change.apply(slot(1, state), real), slot(real, UNKNOWN));
            }
        }
        assert_eq!(change.fresh(1), slot(1, Settled));
    }
}
