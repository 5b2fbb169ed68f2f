//! What is known of a real, for who asks.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use lb_model::vip::VipKey;

/// What is known of reals.
pub type FoundReals = HashMap<(VipKey, IpAddr), Found>;

/// What is known of a real.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Its last probe.
    pub probe: Option<ProbeFound>,
    /// What was last read of its load.
    pub readings: Vec<ReadingFound>,
    /// What steering works with, a fraction of the real's own limit.
    pub utilisation: Option<f64>,
    /// Estimated capacity.
    pub capacity: Option<f64>,
    /// Share of new flows it would get without limits.
    pub wanted: Option<f64>,
    /// What keeps its weight from being more.
    pub limit: Option<String>,
}

/// The last answer to a probe.
#[derive(Clone, Debug)]
pub struct ProbeFound {
    /// healthy, drain or unhealthy.
    pub verdict: &'static str,
    /// In words.
    pub reason: String,
    /// When.
    pub time: SystemTime,
    /// How long it took.
    pub latency: Duration,
}

/// A reading, or why there is none.
#[derive(Clone, Debug)]
pub struct ReadingFound {
    /// What was measured; empty if nothing was.
    pub quantity: &'static str,
    /// In `unit`.
    pub value: Option<f64>,
    /// What it is counted in.
    pub unit: String,
    /// When it was true.
    pub time: SystemTime,
    /// Where it comes from.
    pub source: String,
    /// Why it is not used; empty if it is.
    pub problem: String,
}

/// The time of day at a moment.
#[must_use]
pub fn time_of(moment: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(moment.elapsed()).unwrap_or(now)
}
