//! Adding and changing a service.
//!
//! A change is a sequence of single stores in an order that makes sense to a packet at each point: reals and
//! next hops first, then slots, then the VIP's key.

use std::collections::{HashMap, HashSet};

use lb_common::tables::{
    next_hop::NextHop,
    real::{DOWN, LIMITED, RESET, SHED},
    service::Service,
    vip::ECHO_SERVICE,
};
use lb_model::{
    options::{Forward, OnDown, Track},
    ring::NO_REAL,
    vip::{RealId, VipKey},
};

use super::{
    Engine,
    real_record::{is_dead, mode_flags},
    service_ring::{NewRing, ServiceRing, enclosing_slot},
    service_table::{RealEntry, ServiceEntry},
    slot::{RingChange, table_slots},
    tracking::Tracking,
};
use crate::{
    backend::TableBackend, error::DataplaneError, service::ServiceSpec, stats::Counters,
    table_sizes::Extras, vip_key,
};

/// A real that the change adds.
struct AddedReal {
    id: RealId,
    hop: Option<NextHop>,
}

/// The next hops of reals to which the change gives another forwarding mode: what one mode reaches by way of a router, another
/// does not reach.
type ChangedHops = HashMap<RealId, Option<NextHop>>;

impl<B: TableBackend> Engine<B> {
    /// See [`crate::Dataplane::set_service`].
    ///
    /// # Errors
    /// As there.
    pub fn set_service(&mut self, spec: &ServiceSpec) -> Result<(), DataplaneError> {
        spec.validate()?;
        let current = self.services.get(&spec.vip);
        let is_new = current.is_none();
        let current_slots = current.map_or(0, |entry| entry.ring.slots());
        let fixed = spec.terms.ring.fixed_slots();
        let slots = table_slots(spec.ring.len(), current_slots, fixed);
        let added = self.resolve_added(spec);
        let changed = self.resolve_changed(spec);
        let own = added
            .iter()
            .map(|real| real.id)
            .find(|real| spec.down_policy(*real).is_none() && self.addresses.is_own(real.address));
        let refused = own.map_or(Ok(()), |real| {
            Err(DataplaneError::OwnAddress {
                vip: spec.vip,
                real,
            })
        });
        let prepared = refused
            .and_then(|()| {
                let index = self.services.get(&spec.vip).map(|entry| entry.index);
                self.server_ids.check_room(index, &spec.terms.server_ids)?;
                self.source_rules
                    .check_room(index, &spec.terms.source_rules)
            })
            .and_then(|()| {
                let more_slots = if slots == current_slots { 0 } else { slots };
                self.make_room(spec, is_new, (&added, &changed), more_slots)
            })
            .and_then(|()| {
                if is_new {
                    self.insert_empty(spec)
                } else {
                    Ok(())
                }
            });
        if let Err(error) = prepared {
            for real in &added {
                self.addresses.remove(real.id.address);
            }
            return Err(error);
        }
        let indices = self.set_reals(spec, &added, &changed);
        self.set_ring(spec, slots, &indices);
        let appointed = self.set_appointed(spec, &indices);
        if !is_new {
            return appointed;
        }
        if let Err(error) = appointed.and_then(|()| self.publish(&spec.vip)) {
            self.retire_service(&spec.vip)?;
            return Err(error);
        }
        Ok(())
    }

    /// The reals that the service does not have yet, with their next hops.
    fn resolve_added(&mut self, spec: &ServiceSpec) -> Vec<AddedReal> {
        let current = self.services.get(&spec.vip);
        let present: HashSet<RealId> = current
            .iter()
            .flat_map(|entry| &entry.reals)
            .map(|real| real.id)
            .collect();
        // The next hop of an address that was just added is often known within a millisecond; packets that
        // come earlier are dropped. A VIP without one reachable real has nothing to lose by that.
        let wait = current.is_some_and(|entry| entry.reals.iter().any(|real| real.hop.is_some()));
        let added: Vec<RealId> = spec
            .reals
            .iter()
            .copied()
            .filter(|real| !present.contains(real))
            .collect();
        // All are asked for before the first is waited for.
        for real in &added {
            self.addresses.add(real.address);
        }
        added
            .into_iter()
            .map(|id| AddedReal {
                id,
                hop: if wait {
                    self.addresses.next_hop_soon(id.address, spec.mode_of(id))
                } else {
                    self.addresses.next_hop(id.address, spec.mode_of(id))
                },
            })
            .collect()
    }

    /// The reals of the service that get another forwarding mode, with their next hops.
    fn resolve_changed(&self, spec: &ServiceSpec) -> ChangedHops {
        let current = self.services.get(&spec.vip);
        let reals = current.into_iter().flat_map(|entry| &entry.reals);
        let wanted: HashSet<RealId> = spec.reals.iter().copied().collect();
        reals
            .filter(|real| wanted.contains(&real.id) && real.forward != spec.mode_of(real.id))
            .map(|real| {
                let address = real.id.address;
                let hop = self.addresses.next_hop(address, spec.mode_of(real.id));
                // As in `refresh_next_hops`: an adopted one is kept until its neighbour has answered or has failed to.
                let is_kept = hop.is_none() && self.addresses.is_awaited(address);
                (real.id, if is_kept { real.hop } else { hop })
            })
            .collect()
    }

    /// Makes the tables large enough for the change.
    fn make_room(
        &mut self,
        spec: &ServiceSpec,
        is_new: bool,
        (added, changed): (&[AddedReal], &ChangedHops),
        slots: u32,
    ) -> Result<(), DataplaneError> {
        let hops = added.iter().filter_map(|real| real.hop.as_ref());
        let hops = hops.chain(changed.values().flatten());
        let sizes = self.backend.sizes();
        let grown = sizes.grown(
            self.services.table_size(u32::from(is_new)),
            self.reals.table_size(added.len() as u32),
            self.next_hops.table_size(hops),
            self.ring_space.table_size(slots),
        )?;
        let grown = grown.unwrap_or(sizes).with(Extras {
            nat_connections: spec.translates().then_some(self.nat_connections),
            flow_limits: spec.terms.flow_limits.is_some(),
            server_ids: !spec.terms.server_ids.methods.is_empty(),
        });
        if grown == sizes {
            return Ok(());
        }
        self.backend.grow(grown)
    }

    /// Adds the service without reals, slots or a key that leads to it.
    fn insert_empty(&mut self, spec: &ServiceSpec) -> Result<(), DataplaneError> {
        let index = self.services.allocate();
        if let Err(error) = self.backend.clear_service_counters(index) {
            self.services.give_back(index);
            return Err(error);
        }
        let now = self.backend.now();
        let window = spec.window_ticks();
        let terms = spec.terms.record(spec.vip.protocol);
        let entry = ServiceEntry {
            index,
            vip: spec.vip,
            translates: spec.translates(),
            tracking: Tracking::new(spec.vip.protocol, spec.track == Track::All, window, now),
            terms,
            window,
            reals: Vec::new(),
            ring: ServiceRing::new(now),
            retired: Counters::default(),
        };
        let record = Service {
            ring: 0,
            flags: entry.flags(),
            window,
            made: now,
            track_until: entry.tracking.record_track_until(),
            limits: terms.limits,
        };
        self.backend.write_service(index, record);
        self.services.insert(entry);
        Ok(())
    }

    /// Makes the service's reals those of the change; returns their indices in the change's order.
    fn set_reals(
        &mut self,
        spec: &ServiceSpec,
        added: &[AddedReal],
        changed: &ChangedHops,
    ) -> Vec<u16> {
        let now = self.backend.now();
        let Some(entry) = self.services.get_mut(&spec.vip) else {
            return Vec::new();
        };
        let mut reals: HashMap<RealId, RealEntry> =
            entry.reals.drain(..).map(|real| (real.id, real)).collect();
        let translated = std::mem::replace(&mut entry.translates, spec.translates());
        let changes_translation = translated != entry.translates;
        for real in reals.values_mut() {
            let index = u32::from(real.index);
            let before = self.backend.real(index).flags;
            // A real that is not wanted any more keeps its mode.
            if changed.contains_key(&real.id) {
                real.forward = spec.mode_of(real.id);
            }
            let flags = real_flags(spec, real.id, real.forward) | before & SHED;
            let hop = changed.get(&real.id).copied().unwrap_or(real.hop);
            // No packet meets the new mode with a next hop that only the old one can use.
            let loses_hop = real.hop.is_some() && hop.is_none();
            if loses_hop {
                self.backend.set_real_next_hop(index, 0);
            }
            if flags != before {
                self.backend.set_real_flags(index, flags);
            }
            if hop != real.hop {
                if let Some(hop) = &hop {
                    let place = self.next_hops.acquire(&mut self.backend, hop);
                    self.backend.set_real_next_hop(index, place);
                }
                if let Some(old) = std::mem::replace(&mut real.hop, hop) {
                    self.next_hops.release(&old, now);
                }
            }
            // Another mode takes other sizes; and a record of an earlier agent may have none.
            let largest = self
                .addresses
                .largest(spec.vip.address, real.id.address, real.forward);
            if let Some(largest) = largest {
                self.backend.set_real_largest(index, largest);
            }
            if is_dead(before) && !is_dead(flags) {
                // If the counters cannot be read, all flows since the real was added count as open.
                let open = self
                    .backend
                    .real_counters(index)
                    .map_or(0, |counters| Counters::from(counters).open());
                let lost = u32::try_from(open).unwrap_or(u32::MAX);
                self.backend.set_real_lost(index, lost);
                real.returned = Some(now);
            }
        }
        for &AddedReal { id, hop } in added {
            let forward = spec.mode_of(id);
            let mut record = self.sources.record(id, forward, entry.index);
            record.flags = real_flags(spec, id, forward);
            record.largest = self
                .addresses
                .largest(spec.vip.address, id.address, forward)
                .unwrap_or_default();
            if let Some(hop) = &hop {
                record.next_hop = self.next_hops.acquire(&mut self.backend, hop);
            }
            let real = RealEntry {
                index: self.reals.insert(&mut self.backend, record),
                id,
                forward,
                hop,
                returned: None,
                carried: false,
            };
            reals.insert(id, real);
        }
        entry.reals = spec
            .reals
            .iter()
            .filter_map(|id| reals.remove(id))
            .collect();
        for real in reals.values() {
            self.reals.retire(&mut self.backend, real, entry.index, now);
            self.addresses.remove(real.id.address);
        }
        let indices = entry.reals.iter().map(|real| real.index).collect();
        if changes_translation {
            if translated {
                // Answers of its connections are translated until the next sweep has counted those that are left.
                self.nat_entries = self.nat_entries.max(1);
            }
            self.set_config_flags();
        }
        indices
    }

    /// Makes the service's terms and slots those of the change. `indices` are the reals' indices.
    fn set_ring(&mut self, spec: &ServiceSpec, slots: u32, indices: &[u16]) {
        let now = self.backend.now();
        let Some(entry) = self.services.get_mut(&spec.vip) else {
            return;
        };
        let track_all = spec.track == Track::All;
        let window = spec.window_ticks();
        let wanted = spec.terms.record(spec.vip.protocol);
        // The hash changes last: an agent that finds the old one changes the ring once more.
        let terms = wanted.with_hash(entry.terms.hash());
        if (entry.tracking.counts_flows(), entry.window, entry.terms) != (track_all, window, terms)
        {
            (entry.window, entry.terms) = (window, terms);
            entry.tracking.set_all(track_all, window, now);
            self.backend
                .set_service_terms(entry.index, entry.flags(), window, &terms.limits);
        }
        let rehashes = wanted != terms;
        let rehashed = spec
            .reals
            .iter()
            .zip(indices)
            .filter(|(real, _)| spec.down_policy(**real) == Some(OnDown::Rehash))
            .map(|(_, index)| *index);
        let removed: Vec<u16> = self
            .reals
            .retiring_of(entry.index)
            .chain(rehashed)
            .collect();
        let new = NewRing {
            slots,
            real: |i| real_of_slot(&spec.ring, i, slots, indices),
            change: RingChange {
                removed: &removed,
                tracks_every_flow: entry.tracking.is_total(),
                knows_every_flow: entry.tracking.knows_every_flow(now),
                rehashes,
            },
            window,
        };
        entry.ring.update(
            &mut self.backend,
            &mut self.ring_space,
            entry.index,
            &new,
            now,
        );
        if rehashes {
            entry.terms = wanted;
            self.backend
                .set_service_terms(entry.index, entry.flags(), window, &wanted.limits);
        }
        self.awaits_settling |= entry.awaits_settling(&self.backend, now);
    }

    /// Makes the ids by which packets name the service's reals, and the rules about their sources, those of the change.
    fn set_appointed(&mut self, spec: &ServiceSpec, indices: &[u16]) -> Result<(), DataplaneError> {
        let Some(index) = self.services.get(&spec.vip).map(|entry| entry.index) else {
            return Ok(());
        };
        let reals = spec.reals.iter().zip(indices.iter().copied());
        let named = reals.clone().filter_map(|(real, index)| {
            let id = spec.terms.server_ids.reals.get(real)?;
            Some((id.0, index))
        });
        self.server_ids
            .set(&mut self.backend, index, &spec.terms.server_ids, named)?;
        let reals = reals.map(|(real, index)| (*real, index)).collect();
        self.source_rules
            .set(&mut self.backend, index, &spec.terms.source_rules, &reals)
    }

    /// Adds the keys by which packets find the service.
    fn publish(&mut self, vip: &VipKey) -> Result<(), DataplaneError> {
        let Some(index) = self.services.get(vip).map(|entry| entry.index) else {
            return Ok(());
        };
        self.vips.insert(vip);
        if vip.is_wide() {
            self.wide.insert(&mut self.backend, vip, index)?;
        }
        self.set_config_flags();
        if !vip.is_prefix() {
            self.backend
                .insert_vip(vip_key::echo_key(vip.address), ECHO_SERVICE)?;
        }
        if vip.is_wide() {
            return Ok(());
        }
        self.backend.insert_vip(vip_key::key_of(vip), index)
    }
}

/// [`lb_common::tables::real::Real::flags`] of a service's real, without [`SHED`].
fn real_flags(spec: &ServiceSpec, real: RealId, forward: Forward) -> u32 {
    mode_flags(real.address, forward)
        | match spec.down_policy(real) {
            // A kept real is like a drained one: only the ring knows that it is dead.
            None | Some(OnDown::Keep) => 0,
            Some(OnDown::Rehash) => DOWN,
            Some(OnDown::Reset) => RESET,
        }
        | if spec.terms.flow_limits.is_some() {
            LIMITED
        } else {
            0
        }
}

/// Index of the real that slot `i` of the table's `slots` slots has; 0 for no real.
fn real_of_slot(ring: &[u16], i: u32, slots: u32, indices: &[u16]) -> u16 {
    if ring.is_empty() {
        return 0;
    }
    match ring[enclosing_slot(i, ring.len() as u32, slots)] {
        NO_REAL => 0,
        position => indices[usize::from(position)],
    }
}
