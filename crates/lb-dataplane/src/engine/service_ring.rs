//! The ring of one service: its place in the ring table and the windows of its slots.
//!
//! The state of a slot is read from the table, never kept here: so an agent that adopts the tables goes on
//! exactly where the last one stopped.

use lb_common::{
    limits::SLOTS_PER_CHUNK,
    tables::{
        ring::{Previous, previous_of, real_of, slot},
        service::ring_place,
    },
};

use super::{
    clock::reached,
    quiescence::is_quiescent,
    ring_space::RingSpace,
    slot::{RingChange, after_window, in_window, is_unsettled},
};
use crate::backend::TableBackend;

/// Where a service's slots are, and when their windows end.
///
/// Invariant: `unsettled` is the number of slots that look up the flow table; `next_end` is set exactly while
/// a slot is in its window; a slot is settled only after a sweep that began when it had been without a window
/// for the grace period has seen no exception in it.
#[derive(Debug)]
pub(crate) struct ServiceRing {
    first_slot: u32,
    slots: u32,
    /// When the window of each slot began; empty when no slot is in its window.
    window_starts: Vec<u32>,
    /// When the next window ends.
    next_end: Option<u32>,
    unsettled: u32,
    /// Since when no slot was added to those whose window is over.
    exceptions_since: u32,
}

/// A service's ring as a change wants it.
pub(crate) struct NewRing<'a, F> {
    /// Number of slots in the table, at least as many as now: see [`super::slot::table_slots`].
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
            window_starts: Vec::new(),
            next_end: None,
            unsettled: 0,
            exceptions_since: now,
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
        let sound = slots.is_power_of_two()
            && first_slot.is_multiple_of(SLOTS_PER_CHUNK)
            && end <= u64::from(backend.sizes().ring_slots)
            && space.reserve(first_slot, slots);
        if !sound {
            return None;
        }
        let count = |condition: fn(u32) -> bool| {
            (first_slot..first_slot + slots)
                .filter(|&index| condition(backend.slot(index)))
                .count() as u32
        };
        // The tables do not say when the windows began, so they begin again.
        let windows = count(in_window) > 0;
        Some(ServiceRing {
            first_slot,
            slots,
            window_starts: if windows {
                vec![now; slots as usize]
            } else {
                Vec::new()
            },
            next_end: windows.then(|| now.wrapping_add(window)),
            unsettled: count(is_unsettled),
            exceptions_since: now,
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

    /// Number of slots that look up the flow table.
    #[must_use]
    pub fn unsettled(&self) -> u32 {
        self.unsettled
    }

    /// Restarts the grace period before slots settle: flows may have become exceptions just now.
    pub fn defer_settling(&mut self, now: u32) {
        self.exceptions_since = now;
    }

    /// Writes the slots of a change, in place or in a larger ring beside the old one, to which the service
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
        let mut starts = std::mem::take(&mut self.window_starts);
        if moved && !starts.is_empty() {
            starts = (0..slots)
                .map(|i| starts[enclosing_slot(i, old_slots, slots)])
                .collect();
        }
        let mut unsettled = 0;
        let mut windows = false;
        for i in 0..slots {
            let real = (new.real)(i);
            let old = (old_slots != 0)
                .then(|| backend.slot(old_first + enclosing_slot(i, old_slots, slots) as u32));
            let slot = match old {
                Some(old) => new.change.apply(old, real),
                None => new.change.fresh(real),
            };
            if in_window(slot) {
                windows = true;
                if !old.is_some_and(in_window) {
                    if starts.is_empty() {
                        starts = vec![now; slots as usize];
                    }
                    starts[i as usize] = now;
                }
            }
            unsettled += u32::from(is_unsettled(slot));
            if moved || old != Some(slot) {
                backend.set_slot(self.first_slot + i, slot);
            }
        }
        self.unsettled = unsettled;
        // A deleted or dead real may have cost a slot its window just now.
        self.exceptions_since = now;
        self.next_end = windows.then(|| {
            let end = now.wrapping_add(new.window);
            self.next_end
                .filter(|&next| reached(end, next))
                .unwrap_or(end)
        });
        self.window_starts = if windows { starts } else { Vec::new() };
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
            let start = self.window_starts.get(i as usize).copied().unwrap_or(now);
            let end = start.wrapping_add(window);
            if reached(now, end) {
                backend.set_slot(index, after_window(old));
                self.exceptions_since = now;
            } else if next.is_none_or(|next| reached(next, end)) {
                next = Some(end);
            }
        }
        // Steering changes slots all the time; a pass over the ring for each of their windows would be too
        // many passes.
        let soon = now.wrapping_add((window / 32).clamp(1, 600));
        self.next_end = next.map(|end| if reached(end, soon) { end } else { soon });
        if next.is_none() {
            self.window_starts = Vec::new();
        }
    }

    /// Settles the slots whose window is over and that have no exception left; `has_exception` says which
    /// have one.
    pub fn settle<B: TableBackend>(&mut self, backend: &mut B, has_exception: &[bool], now: u32) {
        if self.unsettled == 0 || !is_quiescent(self.exceptions_since, now) {
            return;
        }
        let mut unsettled = 0;
        for i in 0..self.slots {
            let index = self.first_slot + i;
            let old = backend.slot(index);
            match previous_of(old) {
                Previous::Settled => {}
                Previous::Exceptions if !has_exception[i as usize] => {
                    backend.set_slot(index, slot(real_of(old), Previous::Settled));
                }
                _ => unsettled += 1,
            }
        }
        self.unsettled = unsettled;
    }

    /// Gives up the ring of a removed service.
    pub fn retire(&self, space: &mut RingSpace, now: u32) {
        if self.slots != 0 {
            space.retire(self.first_slot, now);
        }
    }
}

/// The slot of a ring of `of` slots that contains slot `i` of a ring of `slots` (at least as many).
#[must_use]
pub(crate) fn enclosing_slot(i: u32, of: u32, slots: u32) -> usize {
    (u64::from(i) * u64::from(of) / u64::from(slots)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBackend;

    const WINDOW: u32 = 60;

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
                },
                window: WINDOW,
            };
            self.ring
                .update(&mut self.backend, &mut self.space, 1, &new, now);
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
        assert_eq!(bed.state(0), (2, Previous::Exceptions));
        assert_eq!(bed.state(19), (2, Previous::Real(1)));
        bed.ring.end_windows(&mut bed.backend, WINDOW, 190);
        assert_eq!(bed.state(19), (2, Previous::Exceptions));
        let mut exceptions = vec![false; 256];
        exceptions[3] = true;
        bed.ring.settle(&mut bed.backend, &exceptions, 195);
        assert_eq!(bed.ring.unsettled(), 20, "within the grace period");
        bed.ring.settle(&mut bed.backend, &exceptions, 196);
        assert_eq!(bed.ring.unsettled(), 1);
        assert_eq!(bed.state(3), (2, Previous::Exceptions));
        assert_eq!(bed.state(19), (2, Previous::Settled));
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
        assert_eq!(bed.state(15), (2, Previous::Exceptions));
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
