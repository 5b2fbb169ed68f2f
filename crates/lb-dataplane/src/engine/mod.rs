//! The rules that fill the tables, the same for every backend.
//!
//! Each part keeps one invariant in private fields; the engine composes them. What the parts keep is an
//! index of the tables: it can be rebuilt from them (`adoption`), so an adopting agent goes on exactly
//! where the last one stopped.

mod address_resolution;
mod adoption;
mod clock;
mod flood_watch;
mod flow_sweep;
mod index_allocator;
mod next_hop_table;
mod quiescence;
mod reads;
mod real_record;
mod real_table;
mod report;
mod ring_space;
mod server_id_index;
mod service_ring;
mod service_table;
mod set_service;
mod slot;
mod source_rule_index;
mod tracking;
mod vip_index;
mod wide_index;

use std::{collections::BTreeSet, net::IpAddr};

pub(crate) use quiescence::QUIESCENCE_TICKS;
pub(crate) use slot::without_classes;

use lb_common::tables::{PROBE_MARK, config::NAT, meta::FILTERS, vip::ECHO_SERVICE};
use lb_model::vip::{Protocol, RealId, VipKey};

use self::{
    address_resolution::AddressResolution,
    clock::reached,
    flood_watch::FloodWatch,
    flow_sweep::FlowSweep,
    next_hop_table::NextHopTable,
    real_record::OuterSources,
    real_table::RealTable,
    ring_space::RingSpace,
    server_id_index::ServerIdIndex,
    service_table::{ServiceEntry, ServiceTable},
    source_rule_index::SourceRuleIndex,
    vip_index::VipIndex,
    wide_index::WideIndex,
};
use crate::{
    backend::TableBackend, error::DataplaneError, options::Options, resolver::Resolver, vip_key,
};

/// A new service of UDP whose ring has not changed for this time is built, in ticks (10 s).
const BUILD_TICKS: u32 = 600;

/// Time between two sweeps of the translated connections, in ticks (10 s).
const NAT_SWEEP_TICKS: u32 = 600;

/// Since when stamps have classes, in tables whose programs are all of this build.
fn classes_since<B: TableBackend>(backend: &B) -> u32 {
    let (now, since) = (backend.now(), backend.meta().classes_since);
    if since != 0 && reached(now, since) {
        since
    } else {
        // Packets that met the programs before may still be under way.
        now.wrapping_add(QUIESCENCE_TICKS).max(1)
    }
}

/// What a probe needs of its host.
const PROBE_REQUIREMENTS: &str = "a probe leaves this host as a packet to the VIP and is sent to its real on an \
                                  interface that lb-agent is attached to: give this host a route to the VIP by way of \
                                  any neighbour there (`ip route add VIP via NEIGHBOUR dev INTERFACE`), and do not \
                                  give it the VIP's address";

/// The parts, and the backend whose tables they describe.
pub(crate) struct Engine<B> {
    backend: B,
    addresses: AddressResolution,
    sources: OuterSources,
    tunnel_ends: BTreeSet<IpAddr>,
    vips: VipIndex,
    wide: WideIndex,
    server_ids: ServerIdIndex,
    source_rules: SourceRuleIndex,
    services: ServiceTable,
    reals: RealTable,
    next_hops: NextHopTable,
    ring_space: RingSpace,
    flow_sweep: FlowSweep,
    flood_watch: FloodWatch,
    /// Since when the stamps of the flow table have classes.
    classes_since: u32,
    /// Entries of translated connections, as of the last sweep.
    nat_entries: u64,
    /// Translated connections that the tables get room for when the first service translates.
    nat_connections: u32,
    /// The next sweep of those begins no earlier, in ticks.
    nat_sweep: u32,
    /// See [`crate::Dataplane::awaits_settling`].
    awaits_settling: bool,
    warnings: Vec<String>,
}

impl<B: TableBackend> Engine<B> {
    /// Takes over the tables as they are; new ones are empty. Only programs of this build run on them.
    ///
    /// # Errors
    /// [`DataplaneError::System`] from reading or repairing a table.
    pub fn new(
        backend: B,
        resolver: Box<dyn Resolver>,
        options: &Options,
    ) -> Result<Engine<B>, DataplaneError> {
        let classes_since = classes_since(&backend);
        let mut engine = Engine {
            backend,
            classes_since,
            addresses: AddressResolution::new(resolver),
            sources: OuterSources {
                v4: options.source_v4,
                v6: options.source_v6,
            },
            tunnel_ends: options.tunnel_ends.clone(),
            vips: VipIndex::default(),
            wide: WideIndex::default(),
            server_ids: ServerIdIndex::default(),
            source_rules: SourceRuleIndex::default(),
            services: ServiceTable::new(),
            reals: RealTable::new(),
            next_hops: NextHopTable::new(),
            ring_space: RingSpace::default(),
            flow_sweep: FlowSweep::default(),
            flood_watch: FloodWatch::default(),
            nat_entries: 0,
            nat_connections: options.nat.connections,
            nat_sweep: 0,
            awaits_settling: false,
            warnings: Vec::new(),
        };
        engine.backend.set_nat_settings(options.nat.record());
        engine.nat_entries = engine.backend.sweep_nat();
        engine.adopt()?;
        let now = engine.backend.now();
        engine.awaits_settling = engine.has_unused_services(now);
        Ok(engine)
    }

    /// The tables.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The tables, without the engine.
    pub fn into_backend(self) -> B {
        self.backend
    }

    /// The tables, for what is not the engine's affair: programs, time, traces.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Adds a warning to [`crate::Status::warnings`].
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// See [`crate::Dataplane::services`].
    pub fn service_names(&self) -> Vec<VipKey> {
        self.services.names().copied().collect()
    }

    /// See [`crate::Dataplane::remove_service`].
    ///
    /// # Errors
    /// As there.
    pub fn remove_service(&mut self, vip: &VipKey) -> Result<(), DataplaneError> {
        if !self.services.contains(vip) {
            return Ok(());
        }
        if self.wide.contains(vip) {
            self.wide.remove(&mut self.backend, vip)?;
        } else {
            self.backend.remove_vip(vip_key::key_of(vip))?;
        }
        self.retire_service(vip)
    }

    /// Retires a service that no key leads to, and removes the echo key of its address if no other VIP has
    /// the address.
    fn retire_service(&mut self, vip: &VipKey) -> Result<(), DataplaneError> {
        let now = self.backend.now();
        let Some(entry) = self.services.remove(vip, now) else {
            return Ok(());
        };
        self.server_ids.remove(&mut self.backend, entry.index)?;
        self.source_rules.remove(&mut self.backend, entry.index)?;
        for real in &entry.reals {
            self.reals.retire(&mut self.backend, real, entry.index, now);
            self.addresses.remove(real.id.address);
        }
        entry.ring.retire(&mut self.ring_space, now);
        let last = self.vips.remove(vip);
        self.set_config_flags();
        if last {
            self.addresses.remove_probed(vip.address);
            self.backend.remove_vip(vip_key::echo_key(vip.address))?;
        }
        Ok(())
    }

    /// Writes what packets must know of all services together.
    fn set_config_flags(&mut self) {
        let translates = self.services.iter().any(|entry| entry.translates) || self.nat_entries > 0;
        let nat = if translates { NAT } else { 0 };
        let flags = self.vips.config_flags() | self.wide.config_flags() | nat;
        self.backend.set_config_flags(flags);
    }

    /// See [`crate::Dataplane::shed`].
    ///
    /// # Errors
    /// As there.
    pub fn shed(&mut self, vip: &VipKey, real: RealId, flows: u32) -> Result<u32, DataplaneError> {
        let error = |reason| DataplaneError::CannotShed {
            vip: *vip,
            real,
            reason,
        };
        if vip.protocol != Protocol::Tcp {
            return Err(error("only TCP flows can be reset; drain the real instead"));
        }
        let index = self
            .services
            .get(vip)
            .ok_or_else(|| error("the data plane does not serve this VIP"))?
            .real(real)
            .ok_or_else(|| error("the VIP has no such real"))?
            .index;
        Ok(self.reals.set_budget(&mut self.backend, index, flows))
    }

    /// See [`crate::Dataplane::tick`].
    ///
    /// # Errors
    /// As there.
    pub fn tick(&mut self) -> Result<(), DataplaneError> {
        let now = self.backend.now();
        self.next_hops.release_quiescent(now);
        self.ring_space.release_quiescent(now);
        let evictions = self.backend.flow_evictions()?;
        self.flood_watch
            .look(evictions, self.flow_sweep.provisional(), now);
        for entry in self.services.iter_mut() {
            if !self.flood_watch.holds_windows(entry.window, now) {
                entry.ring.end_windows(&mut self.backend, entry.window, now);
            }
            if entry.ring.has_new_windows() {
                entry.end_quiet_windows(&mut self.backend, now)?;
            }
            let is_idle = entry.tracking.is_in_first_window()
                && reached(now, entry.ring.changed().wrapping_add(BUILD_TICKS))
                && !entry.carries_packets(&self.backend)?;
            if entry.tracking.end_first_window(is_idle, now) {
                self.backend.set_service_terms(
                    entry.index,
                    entry.flags(),
                    entry.window,
                    &entry.terms.limits,
                );
                entry.ring.defer_settling(now);
            }
        }
        self.settle_unused()?;
        self.reals.end_spent_budgets(&mut self.backend);
        let urgent = self.reals.awaits_sweep(now);
        if self
            .flow_sweep
            .is_due(&self.backend, &self.services, urgent, now)?
        {
            self.sweep(now)?;
        }
        self.sweep_nat(now);
        let reals = &self.reals;
        self.services.release_quiescent(
            &mut self.backend,
            |service| reals.retiring_of(service).next().is_some(),
            now,
        );
        Ok(())
    }

    /// Removes translated connections that have timed out, and looks whether there still are any.
    fn sweep_nat(&mut self, now: u32) {
        let translates = self.services.iter().any(|entry| entry.translates);
        if !(translates || self.nat_entries > 0) || !reached(now, self.nat_sweep) {
            return;
        }
        self.nat_sweep = now.wrapping_add(NAT_SWEEP_TICKS);
        self.nat_entries = self.backend.sweep_nat();
        if !translates {
            self.set_config_flags();
        }
    }

    /// See [`crate::Dataplane::awaits_settling`].
    pub fn awaits_settling(&self) -> bool {
        self.awaits_settling
    }

    /// See [`crate::Dataplane::settle_unused`].
    ///
    /// # Errors
    /// As there. Then only the next tick tries again.
    pub fn settle_unused(&mut self) -> Result<(), DataplaneError> {
        self.awaits_settling = false;
        let now = self.backend.now();
        for entry in self.services.iter_mut() {
            if entry.awaits_settling(&self.backend, now) {
                entry.settle_unused(&mut self.backend, now)?;
            }
        }
        self.awaits_settling = self.has_unused_services(now);
        Ok(())
    }

    /// Whether slots of a service settle once it is certain that it has carried nothing.
    fn has_unused_services(&self, now: u32) -> bool {
        self.services
            .iter()
            .any(|entry| entry.awaits_settling(&self.backend, now))
    }

    /// Sweeps the flow table, settles slots and frees deleted reals.
    fn sweep(&mut self, now: u32) -> Result<(), DataplaneError> {
        // The clock wraps: the time must stay within half of its range.
        let oldest = now.wrapping_sub(1 << 30).max(1);
        if reached(oldest, self.classes_since) {
            self.classes_since = oldest;
        }
        let result = self
            .flow_sweep
            .run(&self.backend, &self.services, self.classes_since, now);
        if self.backend.meta().layout & FILTERS == 0 && result.has_exceptions() {
            // Before the first slot has some classes only.
            self.backend.declare_filters(self.classes_since);
        }
        for (entry, exceptions) in self.services.iter_mut().zip(result.exceptions()) {
            if !entry.tracking.is_total() {
                entry.ring.settle(&mut self.backend, exceptions, now);
            }
        }
        let services = &mut self.services;
        self.reals.free_quiescent(
            &mut self.backend,
            &mut self.next_hops,
            |real| result.was_named(real),
            now,
            |service, counters| {
                if let Some(entry) = services.by_index_mut(service) {
                    entry.retired += counters;
                }
            },
        )
    }

    /// Makes the tables ones that a build may adopt which knows no classes of exceptions.
    pub fn give_up_filters(&mut self) {
        if self.backend.meta().layout & FILTERS == 0 {
            return;
        }
        for entry in self.services.iter_mut() {
            entry.ring.give_up_classes(&mut self.backend);
        }
        self.backend.withdraw_filters();
    }

    /// See [`crate::Dataplane::refresh_next_hops`].
    ///
    /// # Errors
    /// [`DataplaneError::Full`] or [`DataplaneError::System`] from growing the table of next hops.
    pub fn refresh_next_hops(&mut self) -> Result<bool, DataplaneError> {
        let now = self.backend.now();
        let mut changes = Vec::new();
        for entry in self.services.iter() {
            for (position, real) in entry.reals.iter().enumerate() {
                let largest =
                    self.addresses
                        .largest(entry.vip.address, real.id.address, real.forward);
                if let Some(largest) = largest {
                    self.backend
                        .set_real_largest(u32::from(real.index), largest);
                }
                let hop = self.addresses.next_hop(real.id.address, real.forward);
                // An adopted next hop is kept until its neighbour has answered or has failed to.
                if hop.is_none() && self.addresses.is_awaited(real.id.address) {
                    continue;
                }
                if hop != real.hop {
                    changes.push((entry.vip, position, hop));
                }
            }
        }
        let hops = changes.iter().filter_map(|(_, _, hop)| hop.as_ref());
        self.next_hops.make_room(&mut self.backend, hops)?;
        let mut reachability_changed = false;
        for (vip, position, hop) in changes {
            let Some(entry) = self.services.get_mut(&vip) else {
                continue;
            };
            let real = &mut entry.reals[position];
            let index = hop
                .as_ref()
                .map_or(0, |hop| self.next_hops.acquire(&mut self.backend, hop));
            self.backend.set_real_next_hop(u32::from(real.index), index);
            reachability_changed |= real.hop.is_some() != hop.is_some();
            if let Some(old) = std::mem::replace(&mut real.hop, hop) {
                self.next_hops.release(&old, now);
            }
        }
        Ok(reachability_changed)
    }

    /// See [`crate::Dataplane::probe_mark`].
    pub fn probe_mark(&self, vip: &VipKey, real: RealId) -> Option<u32> {
        let real = self.services.get(vip)?.real(real)?;
        Some(PROBE_MARK | u32::from(real.index))
    }

    /// See [`crate::Dataplane::probe_problem`]; `interfaces` are those that probes can leave by.
    pub fn probe_problem(&mut self, vip: &VipKey, interfaces: &[u32]) -> Option<String> {
        let address = vip.address;
        if !self.services.contains(vip) {
            return Some(format!("the data plane does not serve a VIP {vip}"));
        }
        self.addresses.add_probed(address);
        let reason = match self.addresses.interface_soon(address) {
            Some(interface) if interfaces.contains(&interface) => return None,
            Some(_) => {
                "packets to it leave by an interface that lb-agent is not attached to".to_owned()
            }
            None => self
                .addresses
                .unresolved_reason(address)
                .unwrap_or_else(|| "its next hop is not known".to_owned()),
        };
        Some(format!(
            "probes do not reach {address}: {reason}; {PROBE_REQUIREMENTS}"
        ))
    }

    /// See [`crate::Dataplane::own_reals`].
    pub fn own_reals(&self) -> BTreeSet<IpAddr> {
        let mut own = self.addresses.own();
        // A VIP's address may be resolved for probes.
        if !own.is_empty() {
            let reals = self.services.iter().flat_map(|entry| &entry.reals);
            let reals: BTreeSet<IpAddr> = reals.map(|real| real.id.address).collect();
            own.retain(|address| reals.contains(address));
        }
        own
    }

    /// What differs between the keys in the VIP tables and those that this engine has put there; `None` if nothing does.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    pub fn unexpected_keys(&self) -> Result<Option<String>, DataplaneError> {
        let (mut services, mut addresses) = (0, 0);
        for (key, index) in self.backend.vips()? {
            if vip_key::is_tunnel_key(&key) {
                continue;
            }
            let expected = match vip_key::vip_of(&key) {
                Some(vip) => {
                    services += 1;
                    self.services.get(&vip).map(|entry| entry.index)
                }
                None => {
                    addresses += 1;
                    let address = vip_key::address_of(&key);
                    self.vips.contains(&address).then_some(ECHO_SERVICE)
                }
            };
            if expected != Some(index) {
                let name = vip_key::vip_of(&key).map_or_else(
                    || vip_key::address_of(&key).to_string(),
                    |vip| format!("VIP {vip}"),
                );
                return Ok(Some(format!("{name} has another entry than this agent's")));
            }
        }
        let single = self.services.len().saturating_sub(self.wide.vips().count());
        let missing = single.saturating_sub(services);
        if missing > 0 {
            return Ok(Some(format!("{missing} of the VIPs are missing in them")));
        }
        let missing = self.vips.addresses().count().saturating_sub(addresses);
        Ok((missing > 0).then(|| format!("{missing} VIP addresses are missing in them")))
    }

    /// The indices of a service (0 without one) and of the reals with these names (`None` without any), those of this
    /// service or of all. An address alone names all reals that have it.
    pub fn indices(&self, vip: Option<&VipKey>, reals: &[RealId]) -> (u32, Option<Vec<u16>>) {
        let service = vip
            .and_then(|vip| self.services.get(vip))
            .map_or(0, |entry| entry.index);
        let of_service = |entry: &&ServiceEntry| service == 0 || entry.index == service;
        let indices = (!reals.is_empty()).then(|| {
            let entries = self.services.iter().filter(of_service);
            let entries = entries.flat_map(|entry| &entry.reals);
            let is_wanted = |id: RealId| {
                let mut names = reals.iter().filter(|wanted| wanted.address == id.address);
                names.any(|wanted| wanted.port.is_none() || wanted.port == id.port)
            };
            let wanted = entries.filter(|real| is_wanted(real.id));
            wanted.map(|real| real.index).collect()
        });
        (service, indices)
    }

    /// The names of a service and a real by their indices.
    pub fn names(&self, service: u32, real: u32) -> (Option<VipKey>, Option<RealId>) {
        let Some(entry) = self.services.by_index(service) else {
            return (None, None);
        };
        let real = entry
            .reals
            .iter()
            .find(|entry| u32::from(entry.index) == real);
        (Some(entry.vip), real.map(|entry| entry.id))
    }
}
