//! What is known of a real when its weight is decided.

use lb_model::vip::RealId;
use std::time::Duration;

/// The largest plausible value of any reading; larger ones count as missing.
pub(super) const MAX_READING: f64 = 1e12;

/// A reading of load. A value that is negative, not finite or above 10^12 counts as missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The value, in the unit that the field names.
    pub value: f64,
    /// How long ago it was true.
    pub age: Duration,
}

impl Sample {
    /// Returns the sample if its value is plausible.
    pub(super) fn plausible(sample: Option<Sample>) -> Option<Sample> {
        sample.filter(|sample| (0.0..=MAX_READING).contains(&sample.value))
    }

    /// Returns the value if it is plausible and no older than `max_age`.
    pub(super) fn fresh(sample: Option<Sample>, max_age: Duration) -> Option<f64> {
        Sample::plausible(sample)
            .filter(|sample| sample.age <= max_age)
            .map(|sample| sample.value)
    }
}

/// What one of several sources reads of a real's utilisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceReading {
    /// The weight of the source in the mean.
    pub weight: f64,
    /// What it reads.
    pub utilisation: Sample,
}

/// What the agent on a real orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentCommand {
    /// The real takes new flows.
    Ready,
    /// No new flows; established ones stay.
    Drain,
    /// No flows: the real is out of service.
    Maintenance,
    /// The real does not work.
    Down,
}

/// The last reading of each quantity. `None`: no source reports it, or none has yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Utilisation, 1 is full: CPU of the real's own limit, or the score of a preset.
    pub utilisation: Option<Sample>,
    /// The same by source, if there are several: in the order of the real's sources, `None` for one that does not report it.
    pub sources: Vec<Option<SourceReading>>,
    /// Used fraction of its memory.
    pub memory: Option<Sample>,
    /// Used fraction of its file descriptors.
    pub descriptors: Option<Sample>,
    /// Used fraction of the connections it accepts.
    pub connection_fraction: Option<Sample>,
    /// Connections, by the real's own count.
    pub connections: Option<Sample>,
    /// Fraction of its answers that are errors.
    pub error_rate: Option<Sample>,
    /// Round trip of a probe, seconds.
    pub latency: Option<Sample>,
    /// The multiple of its weight that its agent asks for; 1 is the whole weight.
    pub agent_weight: Option<Sample>,
    /// What its agent orders; holds until it orders something else.
    pub command: Option<AgentCommand>,
}

/// Buckets of [`Signs::lives`].
pub const LIFE_BUCKETS: usize = 16;

/// How a real serves its flows, as their clients show it: totals over a sample of the flows, from the data plane.
/// Totals that shrink have started over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Sampled flows that were opened.
    pub opened: u64,
    /// SYNs that repeat the one of a sampled flow: its client got no answer.
    pub repeated: u64,
    /// Sampled flows that their client ended with a reset.
    pub resets: u64,
    /// Sampled flows that their client ended, by life. Bucket i has those that lived for less than 2^i units, and at
    /// least half of that; a unit is 2^20 ns (1.05 ms). The last one has all that lived for longer, too.
    pub lives: [u64; LIFE_BUCKETS],
}

/// What is known of a real.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The real's address.
    pub address: RealId,
    /// The operator's weight, 0 to [`lb_common::limits::MAX_WEIGHT`].
    pub weight: u32,
    /// Whether the operator drains it.
    pub drained: bool,
    /// Whether the operator wants its connections to be ended while it is drained.
    pub evacuated: bool,
    /// Whether it is healthy; true without a health check.
    pub up: bool,
    /// Whether it is healthy and its health check reports that it wants no new flows.
    pub wants_drain: bool,
    /// How long it has been healthy; ignored while it is not.
    pub since_up: Duration,
    /// Readings of load.
    pub load: Load,
    /// Total of opened flows, from the data plane. A total that shrinks has started over.
    pub opened: u64,
    /// Total of closed flows, likewise. Closes that bypass the balancer are missing.
    pub closed: u64,
    /// Live flows, where the data plane counts them exactly (`track = "all"`).
    pub flows: Option<f64>,
    /// How it serves its flows; `None` where the data plane does not see their beginning and end (UDP).
    pub signs: Option<Signs>,
    /// Its current share of the ring, 0 to 1, if known. With it, the quantisation of weights by the ring is
    /// corrected.
    pub share: Option<f64>,
}
