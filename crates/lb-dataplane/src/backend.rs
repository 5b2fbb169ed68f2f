//! The tables as the engine sees them: in the kernel or in memory.

use lb_common::flow_limits::FlowLimits;
use lb_common::reason::Reason;
use lb_common::tables::{
    counters::{
        FlowEvictions, FlowTableCounters, LookupCounters, RealCounters, ServerIdCounters,
        ServiceCounters,
    },
    flow::Flow,
    meta::Meta,
    nat::NatSettings,
    next_hop::NextHop,
    real::Real,
    ring::Slot,
    server_id::{QuicLb, ServerIdKey},
    service::Service,
    signs::Signs,
    source_rule::SourceKey,
    wide::{PortSet, WideKey},
};

use crate::{
    error::DataplaneError, status::TableUse, table_sizes::TableSizes, vip_key::VipTableKey,
};

/// Tables that packets are forwarded by. Every index is below the table's size.
///
/// "In place" marks changes to a record that packets read: each is one store, so that no packet sees half
/// of it.
pub(crate) trait TableBackend: Send {
    /// Sizes of the tables.
    fn sizes(&self) -> TableSizes;
    /// Makes the tables at least as large as `sizes`, with the same content; packets flow meanwhile.
    ///
    /// # Errors
    /// [`DataplaneError::System`]; then the old tables are still in use.
    fn grow(&mut self, sizes: TableSizes) -> Result<(), DataplaneError>;
    /// The record that describes the tables.
    fn meta(&self) -> Meta;
    /// Declares that slots may have exceptions of some classes only from now on, and that stamps have classes since
    /// this time: [`lb_common::tables::meta::FILTERS`].
    fn declare_filters(&mut self, classes_since: u32);
    /// Takes that declaration back: no slot has exceptions of some classes only.
    fn withdraw_filters(&mut self);
    /// The tables' clock, in ticks.
    fn now(&self) -> u32;

    /// Adds a key or changes its service.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn insert_vip(&mut self, key: VipTableKey, service: u32) -> Result<(), DataplaneError>;
    /// Removes a key; does nothing if it is not there.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn remove_vip(&mut self, key: VipTableKey) -> Result<(), DataplaneError>;
    /// Every key and its service.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn vips(&self) -> Result<Vec<(VipTableKey, u32)>, DataplaneError>;
    /// Every prefix of VIPs, as bits that count and key, and its set of ports.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn wide(&self) -> Result<Vec<(u32, WideKey, u32)>, DataplaneError>;
    /// Leads a prefix to a set of ports, in place.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn insert_wide(&mut self, bits: u32, key: &WideKey, set: u32) -> Result<(), DataplaneError>;
    /// Removes a prefix; does nothing if it is not there.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn remove_wide(&mut self, bits: u32, key: &WideKey) -> Result<(), DataplaneError>;
    /// A set of ports.
    fn port_set(&self, index: u32) -> PortSet;
    /// Writes a set of ports that no packet reads.
    fn write_port_set(&mut self, index: u32, set: PortSet);
    /// Sets [`lb_common::tables::config::Config::flags`], in place.
    fn set_config_flags(&mut self, flags: u32);

    /// Writes the settings of mode `nat`.
    fn set_nat_settings(&mut self, settings: NatSettings);
    /// Removes the translated connections that have timed out; returns the number of entries that are left.
    fn sweep_nat(&mut self) -> u64;

    /// Every server id and the index of its real.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn server_ids(&self) -> Result<Vec<(ServerIdKey, u32)>, DataplaneError>;
    /// Adds a server id or changes its real, in place.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn insert_server_id(&mut self, key: &ServerIdKey, real: u32) -> Result<(), DataplaneError>;
    /// Removes a server id.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn remove_server_id(&mut self, key: &ServerIdKey) -> Result<(), DataplaneError>;
    /// Every source rule, as a number.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn source_rules(&self) -> Result<Vec<(SourceKey, u32)>, DataplaneError>;
    /// Adds a source rule or changes it, in place.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn insert_source_rule(&mut self, key: &SourceKey, rule: u32) -> Result<(), DataplaneError>;
    /// Removes a source rule.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn remove_source_rule(&mut self, key: &SourceKey) -> Result<(), DataplaneError>;
    /// The key of every configuration of QUIC-LB.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn quic_lb(&self) -> Result<Vec<u32>, DataplaneError>;
    /// Adds a configuration of QUIC-LB or replaces it, in place.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn insert_quic_lb(&mut self, key: u32, config: &QuicLb) -> Result<(), DataplaneError>;
    /// Removes a configuration of QUIC-LB.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn remove_quic_lb(&mut self, key: u32) -> Result<(), DataplaneError>;

    /// A service.
    fn service(&self, index: u32) -> Service;
    /// Writes a service that no packet reads.
    fn write_service(&mut self, index: u32, service: Service);
    /// Moves a service to another ring, in place.
    fn set_ring_place(&mut self, index: u32, place: u64);
    /// Sets a service's flags, window and limits, in place.
    fn set_service_terms(&mut self, index: u32, flags: u32, window: u32, limits: &FlowLimits);

    /// A slot.
    fn slot(&self, index: u32) -> Slot;
    /// Writes a slot, in place.
    fn set_slot(&mut self, index: u32, slot: Slot);

    /// A real.
    fn real(&self, index: u32) -> Real;
    /// Writes a real that no packet reads.
    fn write_real(&mut self, index: u32, real: Real);
    /// Sets a real's flags, in place.
    fn set_real_flags(&mut self, index: u32, flags: u32);
    /// Sets how many flows a real has lost, in place.
    fn set_real_lost(&mut self, index: u32, lost: u32);
    /// Moves a real to another next hop, in place.
    fn set_real_next_hop(&mut self, index: u32, next_hop: u32);
    /// Sets [`Real::largest`] of a real, in place.
    fn set_real_largest(&mut self, index: u32, largest: u32);
    /// How many flows of a real are still to be ended; a negative number is 0.
    fn budget(&self, index: u32) -> i64;
    /// Sets how many flows of a real are to be ended, in place.
    fn set_budget(&mut self, index: u32, flows: i64);
    /// A next hop.
    fn next_hop(&self, index: u32) -> NextHop;
    /// Writes a next hop that no packet reads.
    fn write_next_hop(&mut self, index: u32, next_hop: NextHop);

    /// Calls `visit` with every used entry of the flow table; an entry for which it returns `false` is
    /// emptied, unless it has become another flow's meanwhile. Returns how many were emptied.
    fn sweep_flows(&self, visit: &mut dyn FnMut(Flow) -> bool) -> u64;

    /// Counters of one real, all CPUs together.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn real_counters(&self, index: u32) -> Result<RealCounters, DataplaneError>;
    /// Counters of every real, by index.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn all_real_counters(&self) -> Result<Vec<RealCounters>, DataplaneError>;
    /// The signs of one real.
    fn signs(&self, index: u32) -> Signs;
    /// Flows that are sampled for signs at this moment.
    fn sampled(&self) -> u64;
    /// Sets a real's counters and signs to zero and forgets its sampled flows, so that they do not count for the next
    /// real with this index.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn clear_real_counters(&mut self, index: u32) -> Result<(), DataplaneError>;
    /// Counters of one service.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn service_counters(&self, index: u32) -> Result<ServiceCounters, DataplaneError>;
    /// Look-ups of one service in the flow table.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn lookup_counters(&self, index: u32) -> Result<LookupCounters, DataplaneError>;
    /// Packets of one service that named a real.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn server_id_counters(&self, index: u32) -> Result<ServerIdCounters, DataplaneError>;
    /// Sets a service's counters to zero, those of its look-ups and of server ids, too.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn clear_service_counters(&mut self, index: u32) -> Result<(), DataplaneError>;
    /// Counters of the flow table.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn flow_counters(&self) -> Result<FlowTableCounters, DataplaneError>;
    /// Evictions from the flow table by kind.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn flow_evictions(&self) -> Result<FlowEvictions, DataplaneError>;
    /// Frames by reason that came in by the interface with this slot in the counters.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn reasons(&self, interface_slot: u32) -> Result<Vec<(Reason, u64)>, DataplaneError>;
    /// Frames that came in by the interface with this slot and whose outer header was taken off.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn decapsulated(&self, interface_slot: u32) -> Result<u64, DataplaneError>;

    /// Name, capacity and memory of every table; `used` is 0.
    fn tables(&self) -> Vec<TableUse>;
}
