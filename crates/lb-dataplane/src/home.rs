//! Where the tables live. The rules that fill them ([`super::engine`]) do not know whether it is the
//! kernel or memory.

use lb_common::reason::Reason;
use lb_common::tables::{
    counters::{FlowTableCounters, RealCounters, ServiceCounters},
    flow::Flow,
    meta::Meta,
    next_hop::NextHop,
    real::Real,
    ring::Slot,
    service::Service,
    vip::{Vip4Key, Vip6Key},
};

use super::{DataplaneError, TableUse, layout::Layout};

/// Key of either VIP table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VipKey {
    /// Of `VIPS4`.
    V4(Vip4Key),
    /// Of `VIPS6`.
    V6(Vip6Key),
}

/// Tables that packets are forwarded by. Every index is below the layout's size.
///
/// "In place" marks the changes a packet may see half-done were they not one store.
pub trait Home: Send {
    /// Sizes now.
    fn layout(&self) -> Layout;
    /// Makes the tables at least as large as `layout`, with the same content; packets go on meanwhile.
    ///
    /// # Errors
    /// [`DataplaneError::System`]; the old tables are in use then.
    fn grow(&mut self, layout: Layout) -> Result<(), DataplaneError>;
    /// How often the tables were made anew, secrets and so on.
    fn meta(&self) -> Meta;
    /// The tables' clock, in ticks.
    fn now(&self) -> u32;

    /// Adds a key or changes its service.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn insert_vip(&mut self, key: VipKey, service: u32) -> Result<(), DataplaneError>;
    /// Removes a key; it need not be there.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn remove_vip(&mut self, key: VipKey) -> Result<(), DataplaneError>;
    /// Every key and its service.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn vips(&self) -> Result<Vec<(VipKey, u32)>, DataplaneError>;
    /// Sets [`lb_common::tables::config::Config::flags`], in place.
    fn set_config_flags(&mut self, flags: u32);

    /// A service.
    fn service(&self, index: u32) -> Service;
    /// Writes a service that no packet sees.
    fn write_service(&mut self, index: u32, service: Service);
    /// Moves a service to another ring, in place.
    fn set_ring_place(&mut self, index: u32, place: u64);
    /// Sets a service's flags and window, in place.
    fn set_service_terms(&mut self, index: u32, flags: u32, window: u32);

    /// A slot.
    fn slot(&self, index: u32) -> Slot;
    /// Writes a slot, in place.
    fn set_slot(&mut self, index: u32, slot: Slot);

    /// A real.
    fn real(&self, index: u32) -> Real;
    /// Writes a real that no packet sees.
    fn write_real(&mut self, index: u32, real: Real);
    /// Sets a real's flags, in place.
    fn set_real_flags(&mut self, index: u32, flags: u32);
    /// Notes how many flows a real has lost, in place.
    fn set_real_lost(&mut self, index: u32, lost: u32);
    /// Moves a real to another next hop, in place.
    fn set_real_next_hop(&mut self, index: u32, next_hop: u32);
    /// How many flows of a real are still to be ended; below zero is none.
    fn budget(&self, index: u32) -> i64;
    /// Sets how many flows of a real are to be ended, in place.
    fn set_budget(&mut self, index: u32, flows: i64);
    /// A next hop.
    fn next_hop(&self, index: u32) -> NextHop;
    /// Writes a next hop that no packet sees.
    fn write_next_hop(&mut self, index: u32, next_hop: NextHop);

    /// Calls `visit` with every entry of the flow table in use; one for which it returns `false` is
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
    /// Sets a real's counters to zero.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn clear_real_counters(&mut self, index: u32) -> Result<(), DataplaneError>;
    /// Counters of one service.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn service_counters(&self, index: u32) -> Result<ServiceCounters, DataplaneError>;
    /// Sets a service's counters to zero.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn clear_service_counters(&mut self, index: u32) -> Result<(), DataplaneError>;
    /// Counters of the flow table.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn flow_counters(&self) -> Result<FlowTableCounters, DataplaneError>;
    /// Frames by reason that came in on the interface in this place.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn reasons(&self, interface_slot: u32) -> Result<Vec<(Reason, u64)>, DataplaneError>;

    /// Name, room and memory of every table; `used` is left 0.
    fn tables(&self) -> Vec<TableUse>;
}
