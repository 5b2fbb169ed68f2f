//! The ring of one service: its place in the ring table and the windows of its slots.
//!
//! The state of a slot is read from the table, never kept here: so an agent that adopts the tables goes on
//! exactly where the last one stopped.

use lb_common::{
    limits::{KATRAN_RING_SLOTS, SLOTS_PER_CHUNK},
    tables::{
        ring::{Classes, Previous, Slot, previous_of},
        service::ring_place,
    },
};

use super::{
    clock::reached,
    quiescence::is_quiescent,
    ring_space::RingSpace,
    slot::{RingChange, after_sweep, after_window, in_window, is_unsettled, without_classes},
};
use crate::{backend::TableBackend, error::DataplaneError, stats::SlotStates};

/// Where a service's slots are, and when their windows end.
///
/// Invariant: `states` counts the slots; `next_end` is set exactly while a slot is in its window; a class leaves a slot
/// only after a sweep that began when the slot had been without a window for the grace period has seen no exception of
/// it there.
#[derive(Debug)]
pub(crate) struct ServiceRing {
    first_slot: u32,
    slots: u32,
    /// When each slot came into its window, or out of it; of no meaning for a settled one. Empty when all are settled.
    since: Vec<u32>,
    /// When the next window ends.
    next_end: Option<u32>,
    /// Whether a window was opened since the previous reals of all windows were last looked at.
    has_new_windows: bool,
    states: SlotStates,
    /// No sweep that began earlier than a grace period after this tells of exceptions.
    sweeps_count_since: u32,
    /// From when on every entry of the flow table has a stamp with the hash that flows have now, after they had another.
    stamped_from: Option<u32>,
    /// When the ring was last changed.
    changed: u32,
}

/// A service's ring as a change wants it.
pub(crate) struct NewRing<'a, F> {
    /// Number of slots in the table: see [`super::slot::table_slots`].
    pub slots: u32,
    /// The real of each of these slots; 0 for no real.
    pub real: F,
    /// What holds for every slot.
    pub change: RingChange<'a>,
    /// The service's window, in ticks.
    pub window: u32,
}

impl ServiceRing {
    /// A ring without slots.
    #[must_use]
    pub fn new(now: u32) -> ServiceRing {
        ServiceRing {
            first_slot: 0,
            slots: 0,
            since: Vec::new(),
            next_end: None,
            has_new_windows: false,
            states: SlotStates::default(),
            sweeps_count_since: now,
            stamped_from: None,
            changed: now,
        }
    }

    /// The ring that the record of an adopted service points to; `None` if the record is damaged.
    pub fn adopted<B: TableBackend>(
        backend: &B,
        space: &mut RingSpace,
        place: u64,
        window: u32,
        now: u32,
    ) -> Option<ServiceRing> {
        let (first_slot, slots) = (place as u32, (place >> 32) as u32);
        if slots == 0 {
            return Some(ServiceRing::new(now));
        }
        let end = u64::from(first_slot) + u64::from(slots);
        let sound = (slots.is_power_of_two() || slots == KATRAN_RING_SLOTS)
            && first_slot.is_multiple_of(SLOTS_PER_CHUNK)
            && end <= u64::from(backend.sizes().ring_slots)
            && space.reserve(first_slot, slots);
        if !sound {
            return None;
        }
        let mut states = SlotStates::default();
        for index in first_slot..first_slot + slots {
            count(&mut states, backend.slot(index));
        }
        let windows = states.in_window > 0;
        Some(ServiceRing {
            first_slot,
            slots,
            // The tables do not say when the windows began, so they begin again.
            since: if states.unsettled() > 0 {
                vec![now; slots as usize]
            } else {
                Vec::new()
            },
            next_end: windows.then(|| now.wrapping_add(window)),
            has_new_windows: windows,
            states,
            sweeps_count_since: now,
            stamped_from: None,
            changed: now,
        })
    }

    /// Index of the first slot in the ring table.
    #[must_use]
    pub fn first_slot(&self) -> u32 {
        self.first_slot
    }

    /// Number of slots.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The slots by state.
    #[must_use]
    pub fn states(&self) -> SlotStates {
        self.states
    }

    /// Number of slots that look up the flow table.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.states.unsettled()
    }

    /// When the slot with this number came into its window, or out of it. Of no meaning for a settled one.
    #[must_use]
    pub fn since(&self, number: u32) -> Option<u32> {
        self.since.get(number as usize).copied()
    }

    /// When it was last changed, or adopted.
    #[must_use]
    pub fn changed(&self) -> u32 {
        self.changed
    }

    /// Restarts the grace period before slots settle: flows may have become exceptions just now.
    pub fn defer_settling(&mut self, now: u32) {
        self.sweeps_count_since = now;
    }

    /// Takes note that the service's flows have no entries, so that none has the stamp of another hash.
    pub fn has_no_stamps(&mut self) {
        self.stamped_from = None;
    }

    /// Writes the slots of a change, in place or in another ring beside the old one, to which the service
    /// is then moved. `service` is the service's index.
    pub fn update<B: TableBackend>(
        &mut self,
        backend: &mut B,
        space: &mut RingSpace,
        service: u32,
        new: &NewRing<'_, impl Fn(u32) -> u16>,
        now: u32,
    ) {
        let (old_first, old_slots) = (self.first_slot, self.slots);
        let slots = new.slots;
        let moved = slots != old_slots;
        if moved {
            self.first_slot = space.allocate(slots);
            self.slots = slots;
        }
        let mut since = std::mem::take(&mut self.since);
        if moved && !since.is_empty() {
            since = (0..slots)
                .map(|i| since[enclosing_slot(i, old_slots, slots)])
                .collect();
        }
        let mut states = SlotStates::default();
        for i in 0..slots {
            let real = (new.real)(i);
            let old = (old_slots != 0)
                .then(|| backend.slot(old_first + enclosing_slot(i, old_slots, slots) as u32));
            let slot = match old {
                Some(old) => new.change.apply(old, real),
                None => new.change.fresh(real),
            };
            let stays_in_window = in_window(slot) && old.is_some_and(in_window);
            if is_unsettled(slot) && old != Some(slot) && !stays_in_window {
                if since.is_empty() {
                    since = vec![now; slots as usize];
                }
                since[i as usize] = now;
                self.has_new_windows |= in_window(slot);
            }
            count(&mut states, slot);
            if moved || old != Some(slot) {
                backend.set_slot(self.first_slot + i, slot);
            }
        }
        self.states = states;
        self.changed = now;
        if new.change.rehashes {
            // Flows that live are stamped again within a window; the other entries go.
            self.stamped_from = Some(now.wrapping_add(new.window));
        }
        let windows = states.in_window > 0;
        self.next_end = windows.then(|| {
            let end = now.wrapping_add(new.window);
            self.next_end
                .filter(|&next| reached(end, next))
                .unwrap_or(end)
        });
        self.since = if states.unsettled() > 0 {
            since
        } else {
            Vec::new()
        };
        if moved {
            backend.set_ring_place(service, ring_place(self.first_slot, slots));
            if old_slots != 0 {
                space.retire(old_first, now);
            }
        }
    }

    /// Ends the windows whose time has come.
    pub fn end_windows<B: TableBackend>(&mut self, backend: &mut B, window: u32, now: u32) {
        if !self.next_end.is_some_and(|end| reached(now, end)) {
            return;
        }
        let mut next: Option<u32> = None;
        for i in 0..self.slots {
            let index = self.first_slot + i;
            let old = backend.slot(index);
            if !in_window(old) {
                continue;
            }
            let end = self.since[i as usize].wrapping_add(window);
            if reached(now, end) {
                self.end_window(backend, i, old, now);
            } else if next.is_none_or(|next| reached(next, end)) {
                next = Some(end);
            }
        }
        // Steering changes slots all the time; a pass over the ring for each of their windows would be too
        // many passes.
        let soon = now.wrapping_add((window / 32).clamp(1, 600));
        self.next_end = next.map(|end| if reached(end, soon) { end } else { soon });
    }

    fn end_window<B: TableBackend>(&mut self, backend: &mut B, i: u32, old: Slot, now: u32) {
        backend.set_slot(self.first_slot + i, after_window(old));
        self.since[i as usize] = now;
        self.states.in_window -= 1;
        self.states.exceptions += 1;
    }

    /// Whether there are windows whose previous reals were not looked at yet.
    #[must_use]
    pub fn has_new_windows(&self) -> bool {
        self.has_new_windows
    }

    /// Ends the windows whose previous real has never carried a packet, which `has_carried` knows: no running flow can
    /// belong to it.
    ///
    /// Packets that were under way when the slot changed may still have gone to that real. So a window is looked at
    /// when it is older than the grace period, and counters are read after that.
    ///
    /// # Errors
    /// The first one of `has_carried`; the rest is looked at again the next time.
    pub fn end_quiet_windows<B: TableBackend>(
        &mut self,
        backend: &mut B,
        mut has_carried: impl FnMut(&B, u16) -> Result<bool, DataplaneError>,
        now: u32,
    ) -> Result<(), DataplaneError> {
        let mut too_new = false;
        for i in 0..self.slots {
            let old = backend.slot(self.first_slot + i);
            let Previous::Real(previous) = previous_of(old) else {
                continue;
            };
            if !is_quiescent(self.since[i as usize], now) {
                too_new = true;
            } else if !has_carried(backend, previous)? {
                self.end_window(backend, i, old, now);
            }
        }
        self.has_new_windows = too_new;
        if self.states.in_window == 0 {
            self.next_end = None;
        }
        Ok(())
    }

    /// Settles the slots whose window is over and that have no exception left, and restricts the others to the classes
    /// of their exceptions; `found` has these classes by slot, as a sweep has found them that began at `now`.
    pub fn settle<B: TableBackend>(&mut self, backend: &mut B, found: &[Classes], now: u32) {
        if self.states.exceptions == 0 || !is_quiescent(self.sweeps_count_since, now) {
            return;
        }
        if self.stamped_from.is_some_and(|from| !reached(now, from)) {
            return;
        }
        self.stamped_from = None;
        let mut states = SlotStates::default();
        for i in 0..self.slots {
            let index = self.first_slot + i;
            let old = backend.slot(index);
            let mut slot = old;
            if is_unsettled(old) && is_quiescent(self.since[i as usize], now) {
                slot = after_sweep(old, found[i as usize]);
                if slot != old {
                    backend.set_slot(index, slot);
                }
            }
            count(&mut states, slot);
        }
        self.states = states;
        if states.unsettled() == 0 {
            self.since = Vec::new();
        }
    }

    /// Gives all classes to the slots that have some, so that builds can take the tables that know no classes.
    pub fn give_up_classes<B: TableBackend>(&mut self, backend: &mut B) {
        for index in self.first_slot..self.first_slot + self.slots {
            let old = backend.slot(index);
            let slot = without_classes(old);
            if slot != old {
                backend.set_slot(index, slot);
            }
        }
    }

    /// Gives up the ring of a removed service.
    pub fn retire(&self, space: &mut RingSpace, now: u32) {
        if self.slots != 0 {
            space.retire(self.first_slot, now);
        }
    }
}

/// Counts a slot.
fn count(states: &mut SlotStates, slot: Slot) {
    match previous_of(slot) {
        Previous::Settled => states.settled += 1,
        Previous::Real(_) => states.in_window += 1,
        Previous::Exceptions(_) => states.exceptions += 1,
    }
}

/// The slot of a ring of `of` slots that contains slot `i` of a ring of `slots`, if these are at least as many; else the
/// first one that is within it.
#[must_use]
pub(crate) fn enclosing_slot(i: u32, of: u32, slots: u32) -> usize {
    (u64::from(i) * u64::from(of) / u64::from(slots)) as usize
}

#[cfg(test)]
mod tests {
    use lb_common::tables::ring::real_of;

    use super::*;
    use crate::memory::MemoryBackend;

    const WINDOW: u32 = 60;
    const UNKNOWN: Previous = Previous::Exceptions(Classes::ALL);

    struct Testbed {
        backend: MemoryBackend,
        space: RingSpace,
        ring: ServiceRing,
    }

    impl Testbed {
        fn new() -> Testbed {
            Testbed {
                backend: MemoryBackend::for_tests(),
                space: RingSpace::default(),
                ring: ServiceRing::new(0),
            }
        }

        fn update(&mut self, slots: u32, real: impl Fn(u32) -> u16, now: u32) {
            let new = NewRing {
                slots,
                real,
                change: RingChange {
                    removed: &[],
                    tracks_every_flow: false,
                    knows_every_flow: false,
                    rehashes: false,
                },
                window: WINDOW,
            };
            self.ring
                .update(&mut self.backend, &mut self.space, 1, &new, now);
        }

        /// Settles by a sweep that found these exceptions.
        fn settle(&mut self, found: &[(usize, Classes)], now: u32) {
            let mut classes = vec![Classes::NONE; self.ring.slots() as usize];
            for (slot, found) in found {
                classes[*slot] = *found;
            }
            self.ring.settle(&mut self.backend, &classes, now);
        }

        /// Ends the windows of these previous reals.
        fn end_quiet(&mut self, quiet: &[u16], now: u32) {
            let result = self.ring.end_quiet_windows(
                &mut self.backend,
                |_, real| Ok(!quiet.contains(&real)),
                now,
            );
            result.unwrap();
        }

        fn state(&self, i: u32) -> (u16, Previous) {
            let slot = self.backend.slot(self.ring.first_slot + i);
            (real_of(slot), previous_of(slot))
        }
    }

    #[test]
    fn a_changed_slot_passes_its_window_and_settles() {
        let mut bed = Testbed::new();
        bed.update(256, |_| 1, 0);
        assert_eq!((bed.ring.slots(), bed.ring.unsettled()), (256, 0));
        bed.update(256, |i| if i < 10 { 2 } else { 1 }, 100);
        bed.update(256, |i| if i < 20 { 2 } else { 1 }, 130);
        assert_eq!(bed.ring.unsettled(), 20);
        bed.ring.end_windows(&mut bed.backend, WINDOW, 159);
        assert_eq!(bed.state(0), (2, Previous::Real(1)));
        bed.ring.end_windows(&mut bed.backend, WINDOW, 160);
        assert_eq!(bed.state(0), (2, UNKNOWN));
        assert_eq!(bed.state(19), (2, Previous::Real(1)));
        bed.settle(&[], 165);
        assert_eq!(bed.state(0), (2, UNKNOWN), "within the grace period");
        let found = Classes::only(4);
        bed.settle(&[(3, found)], 166);
        assert_eq!(bed.state(0), (2, Previous::Settled));
        assert_eq!(bed.state(3), (2, Previous::Exceptions(found)));
        assert_eq!(bed.state(19), (2, Previous::Real(1)));
        bed.ring.end_windows(&mut bed.backend, WINDOW, 190);
        assert_eq!(bed.state(19), (2, UNKNOWN));
        bed.settle(&[(3, found)], 195);
        assert_eq!(bed.state(19), (2, UNKNOWN), "within its grace period");
        bed.settle(&[(3, found.or(Classes::only(5)))], 196);
        assert_eq!(bed.state(3), (2, Previous::Exceptions(found)));
        let states = SlotStates {
            settled: 255,
            in_window: 0,
            exceptions: 1,
        };
        assert_eq!(bed.ring.states(), states);
        bed.settle(&[], 200);
        assert_eq!((bed.ring.unsettled(), bed.ring.since.len()), (0, 0));
    }

    #[test]
    fn a_window_ends_early_if_its_previous_real_has_carried_nothing() {
        let mut bed = Testbed::new();
        bed.update(256, |i| if i < 128 { 1 } else { 2 }, 0);
        bed.update(256, |_| 3, 100);
        assert!(bed.ring.has_new_windows());
        bed.end_quiet(&[1], 105);
        assert_eq!(bed.ring.states().in_window, 256, "packets may be under way");
        assert!(bed.ring.has_new_windows());
        bed.update(256, |i| if i == 0 { 4 } else { 3 }, 105);
        bed.end_quiet(&[1], 106);
        assert_eq!(
            bed.state(0),
            (4, UNKNOWN),
            "its window began with the first change"
        );
        assert_eq!(bed.state(128), (3, Previous::Real(2)));
        assert!(!bed.ring.has_new_windows());
        bed.settle(&[], 112);
        assert_eq!(bed.state(127), (3, Previous::Settled));
        assert_eq!(bed.ring.states().in_window, 128);
        bed.ring.end_windows(&mut bed.backend, WINDOW, 160);
        assert_eq!(bed.state(128), (3, UNKNOWN));
    }

    #[test]
    fn a_slot_that_changes_back_is_out_of_its_window() {
        let mut bed = Testbed::new();
        bed.update(256, |_| 1, 0);
        bed.update(256, |i| if i < 10 { 2 } else { 1 }, 100);
        bed.update(256, |i| if i < 5 { 2 } else { 1 }, 110);
        assert_eq!(bed.state(4), (2, Previous::Real(1)));
        assert_eq!(bed.state(5), (1, UNKNOWN));
        bed.settle(&[(5, Classes::only(0))], 115);
        assert_eq!(bed.state(6), (1, UNKNOWN), "packets may be under way");
        bed.settle(&[(5, Classes::only(0))], 116);
        assert_eq!(bed.state(6), (1, Previous::Settled));
        assert_eq!(bed.state(5), (1, Previous::Exceptions(Classes::only(0))));
        bed.ring.give_up_classes(&mut bed.backend);
        assert_eq!(bed.state(5), (1, UNKNOWN));
        assert_eq!(bed.state(4), (2, Previous::Real(1)));
    }

    #[test]
    fn a_ring_grows_beside_the_old_one() {
        let mut bed = Testbed::new();
        bed.update(256, |_| 1, 0);
        bed.update(256, |i| if i == 7 { 2 } else { 1 }, 100);
        let old = bed.ring.first_slot();
        bed.update(512, |i| if i / 2 == 7 { 2 } else { 1 }, 120);
        assert_ne!(bed.ring.first_slot(), old);
        assert_eq!(bed.ring.unsettled(), 2);
        assert_eq!(bed.state(14), (2, Previous::Real(1)));
        assert_eq!(
            bed.backend.service(1).ring,
            ring_place(bed.ring.first_slot(), 512)
        );
        // The windows go on from where they were.
        bed.ring.end_windows(&mut bed.backend, WINDOW, 160);
        assert_eq!(bed.state(15), (2, UNKNOWN));
    }

    #[test]
    fn an_adopted_ring_begins_its_windows_again() {
        let mut bed = Testbed::new();
        bed.update(256, |_| 1, 0);
        bed.update(256, |i| if i < 10 { 2 } else { 1 }, 100);
        let place = bed.backend.service(1).ring;
        let mut space = RingSpace::default();
        let adopted = |space: &mut RingSpace, place| {
            ServiceRing::adopted(&bed.backend, space, place, WINDOW, 130)
        };
        let ring = adopted(&mut space, place).unwrap();
        assert_eq!((ring.slots(), ring.unsettled()), (256, 10));
        assert_eq!(ring.next_end, Some(190));
        for damaged in [
            place,                    // overlaps the first one
            ring_place(1, 256),       // not at a chunk's beginning
            ring_place(256, 100),     // not a power of two
            ring_place(1 << 31, 256), // past the table's end
        ] {
            assert!(adopted(&mut space, damaged).is_none(), "{damaged:#x}");
        }
        assert_eq!(adopted(&mut space, 0).unwrap().slots(), 0);
    }
}
