//! What is known of a real at one moment, for `Explain` and `ListReadings`.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use lb_model::vip::{RealId, VipKey};
use lb_steering::Trust;

/// What is known of each real that is supervised.
pub type RealSnapshots = HashMap<(VipKey, RealId), RealSnapshot>;

/// What is known of a real.
#[derive(Clone, Debug, Default)]
pub struct RealSnapshot {
    /// Its last probe.
    pub probe: Option<ProbeSnapshot>,
    /// What was last read of its load.
    pub readings: Vec<ReadingSnapshot>,
    /// The utilisation that steering works with, a fraction of the real's own limit.
    pub utilisation: Option<f64>,
    /// Estimated capacity.
    pub capacity: Option<f64>,
    /// Share of new flows that the controller allocates to it.
    pub wanted_share: Option<f64>,
    /// How far its utilisation is trusted.
    pub trust: Option<Trust>,
    /// What keeps its weight from being higher.
    pub limited_by: Option<String>,
}

/// The last result of a probe.
#[derive(Clone, Debug)]
pub struct ProbeSnapshot {
    /// healthy, drain or unhealthy.
    pub verdict: &'static str,
    /// Why, in words.
    pub reason: String,
    /// When it ended.
    pub time: SystemTime,
    /// How long it took.
    pub latency: Duration,
}

/// A reading, or why there is none.
#[derive(Clone, Debug)]
pub struct ReadingSnapshot {
    /// What was measured; empty if nothing was.
    pub quantity: &'static str,
    /// In `unit`.
    pub value: Option<f64>,
    /// What it is counted in.
    pub unit: String,
    /// When it was measured.
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
