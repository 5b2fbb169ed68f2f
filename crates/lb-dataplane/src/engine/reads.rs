//! What a simulated packet has read of ring and flow table, in words of an operator.

use std::time::Duration;

use lb_common::{
    flow_table::age,
    limits::TICK_SHIFT,
    tables::{
        flow::{CLOSING, PROVISIONAL},
        ring::{Previous, previous_of, real_of},
        trace::LookedUp,
    },
};

use super::Engine;
use crate::{
    backend::TableBackend,
    simulation::{EntryRead, SlotRead, SlotState},
};

impl<B: TableBackend> Engine<B> {
    /// What a simulated packet of a service has looked up, in words of an operator.
    pub fn reads(
        &self,
        service: u32,
        looked_up: &LookedUp,
    ) -> (Option<SlotRead>, Option<EntryRead>) {
        let Some(service) = self.services.by_index(service) else {
            return (None, None);
        };
        let now = self.backend.now();
        let name = |index: u16| {
            let mut reals = service.reals.iter();
            let real = reals.find(|real| real.index == index);
            real.map(|real| real.id)
        };
        let since = |then: u32| ticks(age(u64::from(then), now));
        let ring = &service.ring;
        let slot = (looked_up.has_slot == 1).then(|| {
            let number = looked_up.slot_place.wrapping_sub(ring.first_slot());
            let changed = ring.since(number);
            let state = match previous_of(looked_up.slot) {
                Previous::Settled => SlotState::Settled,
                Previous::Real(previous) => SlotState::InWindow {
                    previous: name(previous),
                    ends_in: ticks(service.window)
                        .saturating_sub(changed.map(since).unwrap_or_default()),
                },
                Previous::Exceptions(classes) => SlotState::Exceptions {
                    share: classes.share(),
                },
            };
            SlotRead {
                number,
                slots: ring.slots(),
                real: name(real_of(looked_up.slot)),
                changed: changed.filter(|_| state != SlotState::Settled).map(since),
                state,
                ring_changed: since(ring.changed()),
            }
        });
        let entry = (looked_up.entry_real != 0).then(|| EntryRead {
            real: name(looked_up.entry_real as u16),
            last_packet: ticks(age(looked_up.entry_stamp, now)),
            confirmed: looked_up.entry_stamp & PROVISIONAL == 0,
            closing: looked_up.entry_stamp & CLOSING != 0,
        });
        (slot, entry)
    }
}

/// A time of the tables' clock.
fn ticks(ticks: u32) -> Duration {
    Duration::from_nanos(u64::from(ticks) << TICK_SHIFT)
}
