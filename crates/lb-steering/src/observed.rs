//! What is known of a real when its weight is decided.

use std::{net::IpAddr, time::Duration};

/// Nothing that is measured of one real is more than this; what claims to be counts as missing.
pub(super) const MOST: f64 = 1e12;

/// A reading of load. What is negative, not finite or above 10^12 counts as missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// In the unit that the field names.
    pub value: f64,
    /// How long ago it was true.
    pub age: Duration,
}

impl Sample {
    /// The value, if it is one.
    pub(super) fn sane(sample: Option<Sample>) -> Option<Sample> {
        sample.filter(|sample| (0.0..=MOST).contains(&sample.value))
    }

    /// The value, if it is one and no older than this.
    pub(super) fn fresh(sample: Option<Sample>, oldest: Duration) -> Option<f64> {
        Sample::sane(sample)
            .filter(|sample| sample.age <= oldest)
            .map(|sample| sample.value)
    }
}

/// What a real's agent orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It takes flows.
    Ready,
    /// No new flows, the old ones stay.
    Drain,
    /// No flows: it is out of service.
    Maintenance,
    /// It does not work.
    Down,
}

/// The last reading of each quantity; none: there is no source for it, or it never said anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Used part of what the real may use: CPU of its own limit, or a preset's score. 1 is full.
    pub utilisation: Option<Sample>,
    /// Used part of its memory.
    pub memory: Option<Sample>,
    /// Used part of its file descriptors.
    pub descriptors: Option<Sample>,
    /// Used part of the connections it can have.
    pub connection_fraction: Option<Sample>,
    /// Connections it has, by its own count.
    pub connections: Option<Sample>,
    /// Part of its answers that are errors.
    pub error_rate: Option<Sample>,
    /// Round trip of a probe, seconds.
    pub latency: Option<Sample>,
    /// Part of its weight that its agent asks for, 1 is all.
    pub agent_weight: Option<Sample>,
    /// What its agent orders; held until it orders something else.
    pub order: Option<Order>,
}

/// What is known of a real.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Which real.
    pub address: IpAddr,
    /// The operator's weight, 0 to [`lb_common::limits::MAX_WEIGHT`].
    pub weight: u32,
    /// Drained by hand.
    pub drained: bool,
    /// Healthy; true where nothing probes.
    pub up: bool,
    /// It is alive and a probe says that it wants no new flows.
    pub wants_drain: bool,
    /// How long it is healthy; irrelevant while it is not.
    pub since_up: Duration,
    /// Readings of load.
    pub load: Load,
    /// Flows opened, as the data plane counts: a total that only grows. A smaller one than before began
    /// anew.
    pub opened: u64,
    /// Flows closed, likewise. Closes that the balancer does not see are missing.
    pub closed: u64,
    /// Live flows where the data plane knows them exactly (`track = "all"`).
    pub flows: Option<f64>,
    /// Its part of the ring now, 0 to 1, where it is known: what the ring's grain makes of the weights is
    /// corrected.
    pub share: Option<f64>,
}
