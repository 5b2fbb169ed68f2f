//! What `lbctl -o json stats` and `status` print, as far as it is shown.

use serde::{Deserialize, Serialize};

/// Counters of all VIPs.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Stats {
    /// Per VIP.
    pub vips: Vec<Vip>,
}

/// Counters of one VIP.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Vip {
    /// Its name.
    pub vip: String,
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes of IP packets as they came in.
    pub bytes: u64,
    /// New flows.
    pub opened: u64,
    /// FIN and RST from clients.
    pub closed: u64,
    /// Packets for it that were dropped.
    pub dropped_packets: u64,
    /// Per real.
    pub reals: Vec<Real>,
}

/// Counters of one real.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Real {
    /// Its address.
    pub address: String,
    /// What the operator wants.
    pub weight: u32,
    /// What steering makes of it.
    pub effective_weight: u32,
    /// active, draining, held, unreachable or down.
    pub state: String,
    /// Share of the ring, 0 to 1.
    pub share: f64,
    /// Live flows.
    pub flows: u64,
    /// Whether they are counted, not estimated.
    pub flows_exact: bool,
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes of IP packets as they came in.
    pub bytes: u64,
    /// New flows.
    pub opened: u64,
    /// FIN and RST from clients.
    pub closed: u64,
}

/// The agent's own state.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// What it is attached to.
    pub interfaces: Vec<Interface>,
}

/// An interface.
#[derive(Clone, Debug, Deserialize)]
pub struct Interface {
    /// native or generic.
    pub xdp_mode: String,
}
