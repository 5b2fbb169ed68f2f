//! The tables in memory.

use lb_common::flow_limits::FlowLimits;
use lb_common::limits::{
    MAX_NEXT_HOPS, MAX_QUIC_LB, MAX_REALS, MAX_SERVICES, MAX_SOURCE_RULES, SLOTS_PER_CHUNK,
};
use lb_common::memory::{Constants, MemTables};
use lb_common::reason::Reason;
use lb_common::tables::{
    counters::{
        FlowEvictions, FlowTableCounters, LookupCounters, RealCounters, ServerIdCounters,
        ServiceCounters,
    },
    flow::{Bucket, Flow},
    meta::{FILTERS, LAYOUT_VERSION, MAGIC, Meta},
    names,
    nat::{NatSettings, is_alive, protocol_of},
    next_hop::NextHop,
    real::Real,
    ring::{Chunk, Slot},
    server_id::{QuicLb, ServerIdKey},
    service::Service,
    signs::{SharedSample, Signs},
    source_rule::SourceKey,
    wide::{PortSet, WideKey},
};
use lb_common::vip_table::edit;

use super::INTERFACE_INDEX;
use crate::{
    backend::TableBackend,
    error::{DataplaneError, system},
    options::Options,
    status::TableUse,
    table_sizes::{Extras, TableSizes},
    vip_key::VipTableKey,
    vip_placement::with_room_for_vips,
};

/// The flow table's secret: no attacker reaches tables in memory.
pub(crate) const FLOW_SECRET: [u64; 2] = [0x5EED, 0xF10E];

/// Tables in memory. Those of services, reals and next hops have their full size from the start; rings and
/// VIP tables grow.
pub(crate) struct MemoryBackend {
    tables: MemTables,
    sizes: TableSizes,
    meta: Meta,
    /// Counters as they were when they were last cleared.
    cleared_reals: Vec<RealCounters>,
    cleared_services: Vec<ServiceCounters>,
    cleared_lookups: Vec<LookupCounters>,
    cleared_server_ids: Vec<ServerIdCounters>,
    /// How many more stores the agent makes before it dies; `None`: it lives.
    #[cfg(test)]
    stores_left: Option<u32>,
}

// `MemTables` counts in cells; it is moved between threads, never shared.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<MemoryBackend>();
};

impl MemoryBackend {
    /// Empty tables.
    pub fn new(options: &Options) -> MemoryBackend {
        let sizes = TableSizes {
            services: MAX_SERVICES,
            reals: MAX_REALS,
            next_hops: MAX_NEXT_HOPS,
            ..TableSizes::initial(options.flow_entries)
        }
        .with(Extras {
            nat_connections: Some(options.nat.connections),
            flow_limits: true,
            server_ids: true,
        });
        let mut tables = MemTables::new(
            sizes.services as usize,
            sizes.reals as usize,
            sizes.ring_slots as usize,
            sizes.next_hops as usize,
            sizes.flow_buckets as usize,
        );
        tables.constants = Constants {
            interface_index: INTERFACE_INDEX,
            ring_seed: options.ring_seed,
            flow_secret: FLOW_SECRET,
            gue_port: options.gue_port,
            ends_tunnels: !options.tunnel_ends.is_empty(),
        };
        tables.clear_vips(sizes.vip_buckets);
        let meta = Meta {
            magic: MAGIC,
            layout: LAYOUT_VERSION,
            generation: 1,
            ring_seed: options.ring_seed,
            flow_secret: FLOW_SECRET,
            state: 0,
            session: 0,
            classes_since: 0,
            pad: 0,
        };
        MemoryBackend {
            cleared_reals: vec![RealCounters::default(); sizes.reals as usize],
            cleared_services: vec![ServiceCounters::default(); sizes.services as usize],
            cleared_lookups: vec![LookupCounters::default(); sizes.services as usize],
            cleared_server_ids: vec![ServerIdCounters::default(); sizes.services as usize],
            tables,
            sizes,
            meta,
            #[cfg(test)]
            stores_left: None,
        }
    }

    /// Lets the agent die, by a panic, after this many stores to the tables; `None` lets it live.
    #[cfg(test)]
    pub fn die_after(&mut self, stores: Option<u32>) {
        self.stores_left = stores;
    }

    /// Called before each store to a table that packets read.
    fn before_store(&mut self) {
        #[cfg(test)]
        if let Some(left) = &mut self.stores_left {
            assert!(*left > 0, "the agent dies here");
            *left -= 1;
        }
    }

    /// Empty tables, for the tests of the engine's parts.
    #[cfg(test)]
    pub fn for_tests() -> MemoryBackend {
        MemoryBackend::new(&Options::new(Vec::new()))
    }

    /// Writes the first entry of a bucket of the flow table.
    #[cfg(test)]
    pub fn put_flow(&mut self, bucket: usize, flow: Flow) {
        let entry = &self.tables.flows[bucket].flows[0];
        entry.stamp.store(flow.stamp);
        entry.owner.store(flow.owner);
    }

    /// The tables that the decision runs on, to look at.
    #[cfg(test)]
    pub fn raw_tables(&self) -> &MemTables {
        &self.tables
    }

    /// The tables that the decision runs on.
    pub fn tables_mut(&mut self) -> &mut MemTables {
        &mut self.tables
    }

    fn insert(&mut self, key: &VipTableKey, service: u32) -> Result<(), edit::BucketsFull> {
        match key {
            VipTableKey::V4(key) => self.tables.insert_vip4(key, service),
            VipTableKey::V6(key) => self.tables.insert_vip6(key, service),
        }
    }
}

impl TableBackend for MemoryBackend {
    fn sizes(&self) -> TableSizes {
        self.sizes
    }

    fn grow(&mut self, sizes: TableSizes) -> Result<(), DataplaneError> {
        let vips = self.vips()?;
        let sizes = with_room_for_vips(sizes, &self.sizes, self.meta.flow_secret, &vips)?;
        let empty = Chunk {
            slots: [0; SLOTS_PER_CHUNK as usize],
        };
        self.tables
            .rings
            .resize((sizes.ring_slots / SLOTS_PER_CHUNK) as usize, empty);
        if sizes.vip_buckets != self.sizes.vip_buckets {
            self.tables.clear_vips(sizes.vip_buckets);
            for (key, service) in &vips {
                // The sizes were chosen so that this works.
                self.insert(key, *service).map_err(|_| {
                    system("growing the VIP tables")(
                        "a VIP found no place in tables that were chosen to have one; please report this",
                    )
                })?;
            }
        }
        self.sizes = sizes;
        self.meta.generation += 1;
        Ok(())
    }

    fn meta(&self) -> Meta {
        self.meta
    }

    fn declare_filters(&mut self, classes_since: u32) {
        self.before_store();
        self.meta.classes_since = classes_since;
        self.meta.layout |= FILTERS;
    }

    fn withdraw_filters(&mut self) {
        self.meta.layout &= !FILTERS;
    }

    fn now(&self) -> u32 {
        self.tables.now
    }

    fn insert_vip(&mut self, key: VipTableKey, service: u32) -> Result<(), DataplaneError> {
        while self.insert(&key, service).is_err() {
            self.grow(self.sizes.with_more_vips()?)?;
        }
        Ok(())
    }

    fn remove_vip(&mut self, key: VipTableKey) -> Result<(), DataplaneError> {
        match key {
            VipTableKey::V4(key) => self.tables.remove_vip4(&key),
            VipTableKey::V6(key) => self.tables.remove_vip6(&key),
        }
        Ok(())
    }

    fn vips(&self) -> Result<Vec<(VipTableKey, u32)>, DataplaneError> {
        let v4 =
            edit::vips4(&self.tables.vips4).map(|(key, service)| (VipTableKey::V4(key), service));
        let v6 =
            edit::vips6(&self.tables.vips6).map(|(key, service)| (VipTableKey::V6(key), service));
        Ok(v4.chain(v6).collect())
    }

    fn wide(&self) -> Result<Vec<(u32, WideKey, u32)>, DataplaneError> {
        let wide = self.tables.wide.iter();
        Ok(wide.map(|((bits, key), set)| (*bits, *key, *set)).collect())
    }

    fn insert_wide(&mut self, bits: u32, key: &WideKey, set: u32) -> Result<(), DataplaneError> {
        self.before_store();
        self.tables.wide.insert((bits, *key), set);
        Ok(())
    }

    fn remove_wide(&mut self, bits: u32, key: &WideKey) -> Result<(), DataplaneError> {
        self.before_store();
        self.tables.wide.remove(&(bits, *key));
        Ok(())
    }

    fn port_set(&self, index: u32) -> PortSet {
        self.tables
            .port_sets
            .get(index as usize)
            .copied()
            .unwrap_or_default()
    }

    fn write_port_set(&mut self, index: u32, set: PortSet) {
        self.before_store();
        let sets = &mut self.tables.port_sets;
        if sets.len() <= index as usize {
            sets.resize(index as usize + 1, PortSet::default());
        }
        sets[index as usize] = set;
    }

    fn set_config_flags(&mut self, flags: u32) {
        self.tables.config.flags = flags;
    }

    fn set_nat_settings(&mut self, settings: NatSettings) {
        self.tables.nat_settings = settings;
    }

    fn sweep_nat(&mut self) -> u64 {
        let now = self.tables.now;
        let entries = self.tables.nat.get_mut();
        entries.retain(|key, entry| is_alive(entry.state.load(), protocol_of(key.kind) == 6, now));
        entries.len() as u64
    }

    fn server_ids(&self) -> Result<Vec<(ServerIdKey, u32)>, DataplaneError> {
        let ids = self.tables.server_ids.iter();
        Ok(ids.map(|(key, real)| (*key, *real)).collect())
    }

    fn insert_server_id(&mut self, key: &ServerIdKey, real: u32) -> Result<(), DataplaneError> {
        self.before_store();
        self.tables.server_ids.insert(*key, real);
        Ok(())
    }

    fn remove_server_id(&mut self, key: &ServerIdKey) -> Result<(), DataplaneError> {
        self.before_store();
        self.tables.server_ids.remove(key);
        Ok(())
    }

    fn source_rules(&self) -> Result<Vec<(SourceKey, u32)>, DataplaneError> {
        let rules = self.tables.source_rules.iter();
        Ok(rules.map(|(key, rule)| (*key, *rule)).collect())
    }

    fn insert_source_rule(&mut self, key: &SourceKey, rule: u32) -> Result<(), DataplaneError> {
        self.before_store();
        self.tables.source_rules.insert(*key, rule);
        Ok(())
    }

    fn remove_source_rule(&mut self, key: &SourceKey) -> Result<(), DataplaneError> {
        self.before_store();
        self.tables.source_rules.remove(key);
        Ok(())
    }

    fn quic_lb(&self) -> Result<Vec<u32>, DataplaneError> {
        Ok(self.tables.quic_lb.keys().copied().collect())
    }

    fn insert_quic_lb(&mut self, key: u32, config: &QuicLb) -> Result<(), DataplaneError> {
        self.before_store();
        self.tables.quic_lb.insert(key, *config);
        Ok(())
    }

    fn remove_quic_lb(&mut self, key: u32) -> Result<(), DataplaneError> {
        self.before_store();
        self.tables.quic_lb.remove(&key);
        Ok(())
    }

    fn service(&self, index: u32) -> Service {
        self.tables.services[index as usize]
    }

    fn write_service(&mut self, index: u32, service: Service) {
        self.tables.services[index as usize] = service;
    }

    fn set_ring_place(&mut self, index: u32, place: u64) {
        self.before_store();
        self.tables.services[index as usize].ring = place;
    }

    fn set_service_terms(&mut self, index: u32, flags: u32, window: u32, limits: &FlowLimits) {
        self.before_store();
        let service = &mut self.tables.services[index as usize];
        (service.flags, service.window) = (flags, window);
        service.limits = *limits;
    }

    fn slot(&self, index: u32) -> Slot {
        self.tables.rings[(index / SLOTS_PER_CHUNK) as usize].slots
            [(index % SLOTS_PER_CHUNK) as usize]
    }

    fn set_slot(&mut self, index: u32, slot: Slot) {
        self.before_store();
        self.tables.set_slot(index, slot);
    }

    fn real(&self, index: u32) -> Real {
        self.tables.reals[index as usize]
    }

    fn write_real(&mut self, index: u32, real: Real) {
        self.before_store();
        self.tables.reals[index as usize] = real;
    }

    fn set_real_flags(&mut self, index: u32, flags: u32) {
        self.before_store();
        self.tables.reals[index as usize].flags = flags;
    }

    fn set_real_lost(&mut self, index: u32, lost: u32) {
        self.tables.reals[index as usize].lost = lost;
    }

    fn set_real_next_hop(&mut self, index: u32, next_hop: u32) {
        self.tables.reals[index as usize].next_hop = next_hop;
    }

    fn set_real_largest(&mut self, index: u32, largest: u32) {
        self.tables.reals[index as usize].largest = largest;
    }

    fn budget(&self, index: u32) -> i64 {
        self.tables.budgets[index as usize].load() as i64
    }

    fn set_budget(&mut self, index: u32, flows: i64) {
        self.tables.budgets[index as usize].store(flows as u64);
    }

    fn next_hop(&self, index: u32) -> NextHop {
        self.tables.next_hops[index as usize]
    }

    fn write_next_hop(&mut self, index: u32, next_hop: NextHop) {
        self.tables.next_hops[index as usize] = next_hop;
    }

    fn sweep_flows(&self, visit: &mut dyn FnMut(Flow) -> bool) -> u64 {
        let mut emptied = 0;
        for entry in self.tables.flows.iter().flat_map(|bucket| &bucket.flows) {
            let flow = Flow {
                owner: entry.owner.load(),
                stamp: entry.stamp.load(),
            };
            if flow.owner != 0 && !visit(flow) {
                entry.owner.store(0);
                emptied += 1;
            }
        }
        emptied
    }

    fn real_counters(&self, index: u32) -> Result<RealCounters, DataplaneError> {
        let index = index as usize;
        let (now, then) = (
            self.tables.read_counters(|c| c.reals[index]),
            self.cleared_reals[index],
        );
        Ok(RealCounters {
            packets: now.packets - then.packets,
            bytes: now.bytes - then.bytes,
            opened: now.opened - then.opened,
            closed: now.closed - then.closed,
        })
    }

    fn all_real_counters(&self) -> Result<Vec<RealCounters>, DataplaneError> {
        (0..self.sizes.reals)
            .map(|index| self.real_counters(index))
            .collect()
    }

    fn signs(&self, index: u32) -> Signs {
        self.tables.signs[index as usize].record()
    }

    fn sampled(&self) -> u64 {
        let used = |sample: &&SharedSample| sample.owner.load() != 0;
        self.tables.samples.iter().filter(used).count() as u64
    }

    fn clear_real_counters(&mut self, index: u32) -> Result<(), DataplaneError> {
        for sample in &self.tables.samples {
            sample.forget(index as u16);
        }
        self.tables.signs[index as usize].clear();
        let index = index as usize;
        self.cleared_reals[index] = self.tables.read_counters(|c| c.reals[index]);
        Ok(())
    }

    fn service_counters(&self, index: u32) -> Result<ServiceCounters, DataplaneError> {
        let index = index as usize;
        let (now, then) = (
            self.tables.read_counters(|c| c.services[index]),
            self.cleared_services[index],
        );
        Ok(ServiceCounters {
            dropped_packets: now.dropped_packets - then.dropped_packets,
            dropped_bytes: now.dropped_bytes - then.dropped_bytes,
        })
    }

    fn lookup_counters(&self, index: u32) -> Result<LookupCounters, DataplaneError> {
        let index = index as usize;
        let (now, then) = (
            self.tables.read_counters(|c| c.lookups[index]),
            self.cleared_lookups[index],
        );
        Ok(LookupCounters {
            hits: now.hits - then.hits,
            misses: now.misses - then.misses,
        })
    }

    fn server_id_counters(&self, index: u32) -> Result<ServerIdCounters, DataplaneError> {
        let index = index as usize;
        let now = self.tables.read_counters(|c| c.server_ids[index]);
        let cleared = self.cleared_server_ids[index];
        Ok(ServerIdCounters {
            known: now.known - cleared.known,
            unknown: now.unknown - cleared.unknown,
        })
    }

    fn clear_service_counters(&mut self, index: u32) -> Result<(), DataplaneError> {
        let index = index as usize;
        self.cleared_server_ids[index] = self.tables.read_counters(|c| c.server_ids[index]);
        self.cleared_lookups[index] = self.tables.read_counters(|c| c.lookups[index]);
        self.cleared_services[index] = self.tables.read_counters(|c| c.services[index]);
        Ok(())
    }

    fn flow_counters(&self) -> Result<FlowTableCounters, DataplaneError> {
        Ok(self.tables.read_counters(|c| c.flows))
    }

    fn flow_evictions(&self) -> Result<FlowEvictions, DataplaneError> {
        Ok(self.tables.read_counters(|c| c.evictions))
    }

    fn decapsulated(&self, _interface_slot: u32) -> Result<u64, DataplaneError> {
        Ok(self.tables.read_counters(|counters| counters.decapsulated))
    }

    fn reasons(&self, _interface_slot: u32) -> Result<Vec<(Reason, u64)>, DataplaneError> {
        Ok(self.tables.read_counters(|c| {
            Reason::ALL
                .iter()
                .map(|&reason| (reason, c.reasons[reason as usize]))
                .collect()
        }))
    }

    fn tables(&self) -> Vec<TableUse> {
        let table = |name, capacity: u32, size: usize| TableUse {
            name,
            used: 0,
            capacity: u64::from(capacity),
            bytes: u64::from(capacity) * size as u64,
        };
        vec![
            table(names::SERVICES, self.sizes.services, size_of::<Service>()),
            table(names::RINGS, self.sizes.ring_slots, size_of::<Slot>()),
            table(names::REALS, self.sizes.reals, size_of::<Real>()),
            table(names::NEXT_HOPS, self.sizes.next_hops, size_of::<NextHop>()),
            table(
                names::FLOWS,
                self.sizes.flow_buckets * 4,
                size_of::<Bucket>() / 4,
            ),
            table(names::SERVER_IDS, MAX_REALS, size_of::<ServerIdKey>()),
            table(
                names::SOURCE_RULES,
                MAX_SOURCE_RULES,
                size_of::<SourceKey>(),
            ),
            table(names::QUIC_LB, MAX_QUIC_LB, size_of::<QuicLb>()),
        ]
    }
}
