//! Services: added, changed, removed. Every change is a sequence of single stores in an order that makes
//! sense to a packet at each point: reals and next hops first, then slots, then the VIP's key.

use std::{collections::HashSet, net::IpAddr};

use lb_common::tables::{
    next_hop::NextHop,
    real::{DELETED, DOWN, SHED},
    service::{RESET_EMPTY, Service, TRACK_ALL, ring_place},
    vip::ECHO_SERVICE,
};
use lb_model::vip::{Protocol, VipAddress};

use super::{
    Counters, DataplaneError, NO_REAL, OnDown, Track, WantedService, WhenEmpty,
    engine::{Dying, Engine, RealState, ServiceState, is_dead, usable},
    home::Home,
    keys,
    wanted::{check, fate, real_flags, window_ticks},
    window::{self, Change},
};

impl<H: Home> Engine<H> {
    /// See [`super::Dataplane::set_service`].
    ///
    /// # Errors
    /// As there.
    pub fn set_service(&mut self, wanted: &WantedService) -> Result<(), DataplaneError> {
        check(wanted)?;
        let known = self.services.get(&wanted.vip);
        let is_new = known.is_none();
        let current_slots = known.map_or(0, |state| state.slots);
        let slots = window::table_slots(wanted.ring.len(), current_slots);
        let had: HashSet<IpAddr> = known
            .iter()
            .flat_map(|state| &state.reals)
            .map(|real| real.address)
            .collect();
        let worth_waiting =
            known.is_some_and(|state| state.reals.iter().any(|real| real.hop.is_some()));
        let added: Vec<IpAddr> = wanted
            .reals
            .iter()
            .copied()
            .filter(|address| !had.contains(address))
            .collect();
        for &address in &added {
            self.want(address);
        }
        // An address that was just asked for is often known within a millisecond; packets that come before
        // are dropped. A VIP without one reachable real has nothing to lose by that.
        let hops: Vec<Option<NextHop>> = added
            .iter()
            .map(|&address| {
                let hop = if worth_waiting {
                    self.resolver.resolve_soon(address)
                } else {
                    self.resolver.resolve(address)
                };
                usable(hop, wanted.forward).map(|hop| hop.record())
            })
            .collect();
        let result = self.make_room(is_new, &hops, if slots > current_slots { slots } else { 0 });
        if let Err(error) = result {
            for &address in &added {
                self.forget(address);
            }
            return Err(error);
        }

        let mut state = match self.services.remove(&wanted.vip) {
            Some(state) => state,
            None => self.new_service(wanted)?,
        };
        let positions = self.set_reals(&mut state, wanted, &added, &hops);
        self.set_ring(&mut state, wanted, slots, &positions);
        self.services.insert(wanted.vip, state);
        if is_new && let Err(error) = self.publish(&wanted.vip) {
            self.retract(&wanted.vip)?;
            return Err(error);
        }
        Ok(())
    }

    /// See [`super::Dataplane::remove_service`].
    ///
    /// # Errors
    /// As there.
    pub fn remove_service(&mut self, vip: &VipAddress) -> Result<(), DataplaneError> {
        if !self.services.contains_key(vip) {
            return Ok(());
        }
        self.home.remove_vip(keys::key_of(vip))?;
        self.retract(vip)
    }

    /// Frees a service that no key leads to, and its address's echo key with the last one.
    fn retract(&mut self, vip: &VipAddress) -> Result<(), DataplaneError> {
        let Some(state) = self.services.remove(vip) else {
            return Ok(());
        };
        let now = self.home.now();
        for real in &state.reals {
            self.bury(real, state.index, now);
        }
        if state.slots != 0 {
            self.resting_rings.push((state.first_slot, now));
        }
        self.resting_services.push((state.index, now));
        let last = self.uncount_address(vip);
        self.home.set_config_flags(self.config_flags());
        if last {
            self.forget_probed(vip.address);
            self.home.remove_vip(keys::echo_key(vip.address))?;
        }
        Ok(())
    }

    /// Makes packets find the service.
    fn publish(&mut self, vip: &VipAddress) -> Result<(), DataplaneError> {
        let Some(index) = self.services.get(vip).map(|state| state.index) else {
            return Ok(());
        };
        self.count_address(vip);
        self.home.set_config_flags(self.config_flags());
        self.home
            .insert_vip(keys::echo_key(vip.address), ECHO_SERVICE)?;
        self.home.insert_vip(keys::key_of(vip), index)
    }

    fn make_room(
        &mut self,
        is_new: bool,
        hops: &[Option<NextHop>],
        slots: u32,
    ) -> Result<(), DataplaneError> {
        let distinct: HashSet<_> = hops
            .iter()
            .flatten()
            .map(|hop| (hop.destination, hop.source, hop.interface))
            .collect();
        let layout = self.home.layout().grown(
            self.service_indices.table_size(u32::from(is_new)),
            self.real_indices.table_size(hops.len() as u32),
            self.hops.table_size(distinct.len() as u32),
            self.extents.end_with(slots),
        )?;
        match layout {
            Some(layout) => self.home.grow(layout),
            None => Ok(()),
        }
    }

    fn new_service(&mut self, wanted: &WantedService) -> Result<ServiceState, DataplaneError> {
        let index = self.service_indices.take();
        if let Err(error) = self.home.clear_service_counters(index) {
            self.service_indices.give(index);
            return Err(error);
        }
        let now = self.home.now();
        let window = window_ticks(wanted);
        let track_all = wanted.track == Track::All;
        let track_until = (wanted.vip.protocol == Protocol::Udp).then(|| now.wrapping_add(window));
        let state = ServiceState {
            index,
            vip: wanted.vip,
            forward: wanted.forward,
            track_all,
            reset_empty: wanted.when_empty == WhenEmpty::Reset,
            track_until,
            complete_from: (track_all || track_until.is_some()).then_some(now),
            window,
            reals: Vec::new(),
            first_slot: 0,
            slots: 0,
            begun: Vec::new(),
            next_end: None,
            unsettled: 0,
            exceptions_since: now,
            retired: Counters::default(),
        };
        let record = Service {
            ring: 0,
            flags: flags(&state),
            window: state.window,
            made: now,
            // Never 0, which says that there is no such time.
            track_until: track_until.map_or(0, |until| until.max(1)),
            ..Service::default()
        };
        self.home.write_service(index, record);
        Ok(state)
    }

    /// Makes the service's reals the wanted ones; returns their indices in the wanted order.
    fn set_reals(
        &mut self,
        state: &mut ServiceState,
        wanted: &WantedService,
        added: &[IpAddr],
        hops: &[Option<NextHop>],
    ) -> Vec<u16> {
        let now = self.home.now();
        let mut reals: std::collections::HashMap<IpAddr, RealState> = state
            .reals
            .drain(..)
            .map(|real| (real.address, real))
            .collect();
        state.forward = wanted.forward;
        for real in reals.values_mut() {
            let index = u32::from(real.index);
            let before = self.home.real(index).flags;
            let flags = real_flags(wanted, real.address) | before & SHED;
            if flags != before {
                self.home.set_real_flags(index, flags);
            }
            if is_dead(before) && !is_dead(flags) {
                // Counters that cannot be read make the estimate no worse than it is without.
                let open = self
                    .home
                    .real_counters(index)
                    .map_or(0, |counters| Counters::from(counters).open());
                let lost = u32::try_from(open).unwrap_or(u32::MAX);
                self.home.set_real_lost(index, lost);
                real.returned = Some(now);
            }
        }
        for (&address, &hop) in added.iter().zip(hops) {
            let index = self.real_indices.take();
            let mut record = self.real_record(address, wanted.forward, state.index);
            record.flags = real_flags(wanted, address);
            if let Some(hop) = hop {
                let (next_hop, fresh) = self.hops.take(&hop);
                if fresh {
                    self.home.write_next_hop(next_hop, hop);
                }
                record.next_hop = next_hop;
            }
            self.home.write_real(index, record);
            reals.insert(
                address,
                RealState {
                    index: index as u16,
                    address,
                    hop,
                    returned: None,
                },
            );
        }
        state.reals = wanted
            .reals
            .iter()
            .filter_map(|address| reals.remove(address))
            .collect();
        for real in reals.values() {
            self.bury(real, state.index, now);
        }
        state.reals.iter().map(|real| real.index).collect()
    }

    /// Deletes a real: packets stop finding it at once, its index is free when nothing names it.
    fn bury(&mut self, real: &RealState, service: u32, since: u32) {
        let index = u32::from(real.index);
        let flags = self.home.real(index).flags & !SHED | DOWN | DELETED;
        self.home.set_real_flags(index, flags);
        self.shedding.retain(|shedding| *shedding != real.index);
        self.dying.push(Dying {
            index: real.index,
            service,
            since,
            hop: real.hop,
        });
        self.forget(real.address);
    }

    /// Makes the service's slots the wanted ones, in place or in a larger ring beside it.
    fn set_ring(
        &mut self,
        state: &mut ServiceState,
        wanted: &WantedService,
        slots: u32,
        positions: &[u16],
    ) {
        let now = self.home.now();
        let track_all = wanted.track == Track::All;
        let terms = (
            track_all,
            window_ticks(wanted),
            wanted.when_empty == WhenEmpty::Reset,
        );
        if (state.track_all, state.window, state.reset_empty) != terms {
            (state.track_all, state.window, state.reset_empty) = terms;
            state.complete_from = match state.complete_from {
                Some(from) if state.tracks() => Some(from),
                _ => track_all.then(|| now.wrapping_add(state.window)),
            };
            self.home
                .set_service_terms(state.index, flags(state), state.window);
        }
        let removed: Vec<u16> = self
            .dying
            .iter()
            .filter(|dying| dying.service == state.index)
            .map(|dying| dying.index)
            .chain(
                wanted
                    .reals
                    .iter()
                    .zip(positions)
                    .filter(|(real, _)| fate(wanted, **real) == Some(OnDown::Rehash))
                    .map(|(_, index)| *index),
            )
            .collect();
        let change = Change {
            removed: &removed,
            track_all: state.tracks(),
            knows_all: state.knows_all(now),
        };
        let (old_first, old_slots) = (state.first_slot, state.slots);
        let moved = slots != old_slots;
        if moved {
            state.first_slot = self.extents.find(slots);
            state.slots = slots;
            self.extents.claim(state.first_slot, slots);
        }
        let mut begun = std::mem::take(&mut state.begun);
        if moved && !begun.is_empty() {
            begun = (0..slots).map(|i| begun[at(i, old_slots, slots)]).collect();
        }
        let mut unsettled = 0;
        let mut in_window = false;
        for i in 0..slots {
            let real = wanted_real(&wanted.ring, i, slots, positions);
            let old = (old_slots != 0)
                .then(|| self.home.slot(old_first + at(i, old_slots, slots) as u32));
            let new = match old {
                Some(old) => change.apply(old, real),
                None => change.fresh(real),
            };
            let was_in_window = old.is_some_and(window::in_window);
            if window::in_window(new) {
                in_window = true;
                if !was_in_window {
                    if begun.is_empty() {
                        begun = vec![now; slots as usize];
                    }
                    begun[i as usize] = now;
                }
            }
            unsettled += u32::from(window::unsettled(new));
            if moved || old != Some(new) {
                self.home.set_slot(state.first_slot + i, new);
            }
        }
        state.unsettled = unsettled;
        // A slot may have lost its window to a deleted or dead real just now.
        state.exceptions_since = now;
        state.next_end = in_window.then(|| {
            let end = now.wrapping_add(state.window);
            state
                .next_end
                .filter(|&next| reached(end, next))
                .unwrap_or(end)
        });
        state.begun = if in_window { begun } else { Vec::new() };
        if moved {
            self.home
                .set_ring_place(state.index, ring_place(state.first_slot, slots));
            if old_slots != 0 {
                self.resting_rings.push((old_first, now));
            }
        }
    }
}

/// The slot of a ring of `of` slots that slot `i` of a ring of `slots` (at least as many) lies in.
fn at(i: u32, of: u32, slots: u32) -> usize {
    (u64::from(i) * u64::from(of) / u64::from(slots)) as usize
}

fn wanted_real(ring: &[u16], i: u32, slots: u32, positions: &[u16]) -> u16 {
    if ring.is_empty() {
        return 0;
    }
    match ring[at(i, ring.len() as u32, slots)] {
        NO_REAL => 0,
        position => positions[usize::from(position)],
    }
}

/// Whether the clock has come to `end`.
pub(crate) fn reached(now: u32, end: u32) -> bool {
    now.wrapping_sub(end) <= u32::MAX / 2
}

/// [`Service::flags`].
pub(crate) fn flags(state: &ServiceState) -> u32 {
    let tracks = if state.tracks() { TRACK_ALL } else { 0 };
    let reset = if state.reset_empty { RESET_EMPTY } else { 0 };
    tracks | reset
}
