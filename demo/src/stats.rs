//! The parts of the output of `lbctl -o json stats` and `status` that the screen shows.

use serde::{Deserialize, Serialize};

/// Counters of all VIPs.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Stats {
    /// One entry per VIP.
    pub vips: Vec<Vip>,
}

/// Counters of one VIP.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Vip {
    /// The VIP.
    pub vip: String,
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes of the IP packets as received.
    pub bytes: u64,
    /// New flows.
    pub opened: u64,
    /// FIN and RST segments from clients.
    pub closed: u64,
    /// Packets for the VIP that were dropped.
    pub dropped_packets: u64,
    /// The share of its packets that consulted the flow table, 0 to 1.
    pub table_share: f64,
    /// Its slots by state.
    pub slots: Slots,
    /// One entry per real.
    pub reals: Vec<Real>,
}

/// Slots of a ring by state.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Slots {
    /// No packet consults the flow table.
    pub settled: u64,
    /// The slot's real changed within the VIP's window: all packets do.
    pub in_window: u64,
    /// The window is over, and some flows are on other reals: packets that may be of these flows do.
    pub exceptions: u64,
}

/// Counters of one real.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Real {
    /// The address.
    pub address: String,
    /// The operator's weight.
    pub weight: u32,
    /// The weight that steering applies.
    pub effective_weight: u32,
    /// active, draining, held, unreachable or down.
    pub state: String,
    /// Share of the ring, 0 to 1.
    pub share: f64,
    /// Live flows.
    pub flows: u64,
    /// Whether `flows` is counted; it is estimated otherwise.
    pub flows_exact: bool,
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes of the IP packets as received.
    pub bytes: u64,
    /// New flows.
    pub opened: u64,
    /// FIN and RST segments from clients.
    pub closed: u64,
}

/// State of the agent.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The interfaces it is attached to.
    pub interfaces: Vec<Interface>,
}

/// An interface.
#[derive(Clone, Debug, Deserialize)]
pub struct Interface {
    /// native or generic.
    pub xdp_mode: String,
}
