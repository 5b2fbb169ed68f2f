//! What time brings: windows end, slots settle, entries and indices become free.
//!
//! A slot may be settled when no live entry of the flow table is an exception in it: none whose real is
//! not the slot's. An entry's stamp holds the top bits of its flow's ring hash, so its slot is known
//! whatever the ring's size. No exception can come into being in a slot whose window is over (what is
//! remembered there has the slot's own real), so a sweep that began after the window's end, and after the
//! packets under way then, has seen them all.

use std::time::Instant;

use lb_common::{
    limits::CLOSING_TICKS,
    tables::{
        flow::{CLOSING, Flow, real_of, ring_bits},
        real::Real,
        ring::{Previous, previous_of, real_of as real_of_slot, slot},
        service::Service,
    },
};

use super::{
    Counters, DataplaneError,
    engine::{Engine, REST_TICKS, ServiceState},
    home::Home,
    services::{flags, reached},
    window,
};

/// A sweep is not begun earlier than this after the last one, in ticks (1 s).
const SWEEP_TICKS: u32 = 60;
/// Sweeping takes at most one part in this of a core's time.
const SWEEP_SHARE: u32 = 500;

/// When to sweep, and what the last sweep saw.
#[derive(Debug, Default)]
pub(crate) struct Sweeper {
    /// Nothing before this.
    not_before: u32,
    /// `FlowTableCounters::inserted` and `evicted` then.
    changes: u64,
    /// Live entries.
    pub used: u64,
    swept: bool,
}

/// What a sweep must know of each real.
#[derive(Clone, Copy, Default)]
struct Owner {
    /// How long its entries live; 0: they are purged.
    window: u32,
    /// Its service's ring.
    first_slot: u32,
    slots: u32,
    /// Place in the list of slots that must stay unsettled.
    offset: usize,
}

impl<H: Home> Engine<H> {
    /// See [`super::Dataplane::tick`].
    ///
    /// # Errors
    /// As there.
    pub fn tick(&mut self) -> Result<(), DataplaneError> {
        let now = self.home.now();
        let rested = |since: u32| now.wrapping_sub(since) >= REST_TICKS;
        self.hops.release(now, REST_TICKS);
        let extents = &mut self.extents;
        self.resting_rings.retain(|&(first, since)| {
            if rested(since) {
                extents.give(first);
            }
            !rested(since)
        });
        for state in self.services.values_mut() {
            if state.next_end.is_some_and(|end| reached(now, end)) {
                end_windows(&mut self.home, state, now);
            }
            if state.track_until.is_some_and(|end| reached(now, end)) {
                state.track_until = None;
                if !state.track_all {
                    state.complete_from = None;
                    self.home
                        .set_service_terms(state.index, flags(state), state.window);
                    state.exceptions_since = now;
                }
            }
        }
        self.end_shedding();
        if self.sweep_is_due(now)? {
            self.sweep(now)?;
        }
        self.free_services(now);
        Ok(())
    }

    fn sweep_is_due(&mut self, now: u32) -> Result<bool, DataplaneError> {
        if self
            .dying
            .iter()
            .any(|dying| now.wrapping_sub(dying.since) >= REST_TICKS)
        {
            return Ok(true);
        }
        if self.sweeper.swept && !reached(now, self.sweeper.not_before) {
            return Ok(false);
        }
        let counters = self.home.flow_counters()?;
        let changes = counters.inserted + counters.evicted;
        let changed = changes != self.sweeper.changes || !self.sweeper.swept;
        self.sweeper.changes = changes;
        let unsettled = self
            .services
            .values()
            .any(|state| !state.tracks() && state.unsettled > 0);
        Ok(changed || self.sweeper.used > 0 || unsettled)
    }

    fn sweep(&mut self, now: u32) -> Result<(), DataplaneError> {
        let began = Instant::now();
        let mut owners = vec![Owner::default(); self.home.layout().reals as usize];
        let mut offset = 0;
        for state in self.services.values() {
            let owner = Owner {
                window: state.window.max(1),
                first_slot: state.first_slot,
                slots: state.slots,
                offset,
            };
            for real in &state.reals {
                owners[usize::from(real.index)] = owner;
            }
            offset += state.slots as usize;
        }
        let mut held = vec![false; offset];
        let mut purged = vec![false; owners.len()];
        let mut used = 0;
        let home = &self.home;
        home.sweep_flows(&mut |flow: Flow| {
            let real = usize::from(real_of(flow.owner));
            let owner = owners.get(real).copied().unwrap_or_default();
            if owner.window == 0 {
                if let Some(purged) = purged.get_mut(real) {
                    *purged = true;
                }
                return false;
            }
            if !alive(&flow, now, owner.window) {
                return false;
            }
            used += 1;
            if owner.slots != 0 {
                let slot =
                    ((u64::from(ring_bits(flow.stamp)) * u64::from(owner.slots)) >> 16) as u32;
                if usize::from(real_of_slot(home.slot(owner.first_slot + slot))) != real {
                    held[owner.offset + slot as usize] = true;
                }
            }
            true
        });
        self.sweeper.used = used;
        self.sweeper.swept = true;
        let mut offset = 0;
        for state in self.services.values_mut() {
            let slots = state.slots as usize;
            settle(&mut self.home, state, &held[offset..offset + slots], now);
            offset += slots;
        }
        self.free_reals(now, &purged)?;
        let spent = u32::try_from(began.elapsed().as_millis() / 17).unwrap_or(u32::MAX);
        self.sweeper.not_before = now.wrapping_add(
            spent
                .saturating_mul(SWEEP_SHARE)
                .clamp(SWEEP_TICKS, 1 << 20),
        );
        Ok(())
    }

    /// Frees the deleted reals that rested and whose entries were gone already.
    fn free_reals(&mut self, now: u32, purged: &[bool]) -> Result<(), DataplaneError> {
        let mut kept = Vec::new();
        for dying in std::mem::take(&mut self.dying) {
            let index = u32::from(dying.index);
            let named = purged
                .get(usize::from(dying.index))
                .copied()
                .unwrap_or(false);
            if named || now.wrapping_sub(dying.since) < REST_TICKS {
                kept.push(dying);
                continue;
            }
            let cleared = self.home.real_counters(index).and_then(|last| {
                self.home.clear_real_counters(index)?;
                Ok(last)
            });
            match cleared {
                Ok(last) => {
                    if let Some(state) = self
                        .services
                        .values_mut()
                        .find(|state| state.index == dying.service)
                    {
                        state.retired = sum(state.retired, last.into());
                    }
                }
                Err(error) => {
                    kept.push(dying);
                    self.dying.append(&mut kept);
                    return Err(error);
                }
            }
            if let Some(hop) = &dying.hop {
                self.hops.give(hop, now);
            }
            // Last, so that an agent that dies here finds the real again.
            self.home.write_real(index, Real::default());
            self.real_indices.give(index);
        }
        self.dying = kept;
        Ok(())
    }

    /// Frees the indices of removed services that rested and whose reals are gone.
    fn free_services(&mut self, now: u32) {
        let (dying, home, indices) = (&self.dying, &mut self.home, &mut self.service_indices);
        self.resting_services.retain(|&(index, since)| {
            let waiting = now.wrapping_sub(since) < REST_TICKS
                || dying.iter().any(|dying| dying.service == index);
            if !waiting {
                home.write_service(index, Service::default());
                indices.give(index);
            }
            waiting
        });
    }
}

/// Whether an entry of a service with this window counts; as the program sees it.
pub(crate) fn alive(flow: &Flow, now: u32, window: u32) -> bool {
    let age = now.wrapping_sub(flow.stamp as u32);
    let age = if age > u32::MAX / 2 { 0 } else { age };
    age <= if flow.stamp & CLOSING != 0 {
        CLOSING_TICKS
    } else {
        window
    }
}

/// Two sums of counters as one.
pub(crate) fn sum(a: Counters, b: Counters) -> Counters {
    Counters {
        packets: a.packets + b.packets,
        bytes: a.bytes + b.bytes,
        opened: a.opened + b.opened,
        closed: a.closed + b.closed,
        lost: a.lost + b.lost,
    }
}

fn end_windows<H: Home>(home: &mut H, state: &mut ServiceState, now: u32) {
    let mut next: Option<u32> = None;
    for i in 0..state.slots {
        let index = state.first_slot + i;
        let of = home.slot(index);
        if !window::in_window(of) {
            continue;
        }
        let begun = state.begun.get(i as usize).copied().unwrap_or(now);
        let end = begun.wrapping_add(state.window);
        if reached(now, end) {
            home.set_slot(index, window::window_over(of));
            state.exceptions_since = now;
        } else if next.is_none_or(|next| reached(next, end)) {
            next = Some(end);
        }
    }
    // Steering changes slots all the time: their windows are not each worth a pass over the ring.
    let soon = now.wrapping_add((state.window / 32).clamp(1, 600));
    state.next_end = next.map(|end| if reached(end, soon) { end } else { soon });
    if next.is_none() {
        state.begun = Vec::new();
    }
}

fn settle<H: Home>(home: &mut H, state: &mut ServiceState, held: &[bool], now: u32) {
    if state.tracks()
        || state.unsettled == 0
        || now.wrapping_sub(state.exceptions_since) < REST_TICKS
    {
        return;
    }
    let mut unsettled = 0;
    for i in 0..state.slots {
        let index = state.first_slot + i;
        let of = home.slot(index);
        match previous_of(of) {
            Previous::Settled => {}
            Previous::Exceptions if !held[i as usize] => {
                home.set_slot(index, slot(real_of_slot(of), Previous::Settled));
            }
            _ => unsettled += 1,
        }
    }
    state.unsettled = unsettled;
}
