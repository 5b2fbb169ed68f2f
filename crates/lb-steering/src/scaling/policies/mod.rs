//! Policies: what asks for instances. The strictest decides.
//!
//! A policy is one file in this folder that measures what the pool requires. Adding one takes that file, its module, its
//! line in [`REGISTRY`], and its name with help in `lb_model::scaling`.

mod connections;
mod latency;
mod memory;
mod requests;
mod utilisation;

use std::{fmt, time::Duration};

use lb_model::scaling::{Scaling, ScalingPolicy};
use serde::{Deserialize, Serialize};

pub use utilisation::unit_of;

use super::{
    readings::{InstanceReadings, Phase, PoolReadings},
    state::ScalingState,
};
use crate::observation::Sample;

/// How a policy measures.
type Measure = fn(&Context<'_>) -> Measured;

/// The policies, in the order in which `why` shows them.
pub static REGISTRY: &[(ScalingPolicy, Measure)] = &[
    (ScalingPolicy::Utilisation, utilisation::measure),
    (ScalingPolicy::Requests, requests::measure),
    (ScalingPolicy::Connections, connections::measure),
    (ScalingPolicy::Memory, memory::measure),
    (ScalingPolicy::Latency, latency::measure),
];

/// What policies see.
pub struct Context<'a> {
    pub settings: &'a Scaling,
    pub state: &'a ScalingState,
    pub readings: &'a PoolReadings,
    /// The pool's own time.
    pub now: Duration,
    /// Which instances count as capacity.
    pub counted: &'a [bool],
}

impl Context<'_> {
    /// The instances that serve.
    pub fn serving(&self) -> impl Iterator<Item = &InstanceReadings> + Clone {
        let instances = self.readings.instances.iter();
        instances.filter(|one| one.phase == Phase::Serving)
    }

    /// Number of instances that count as capacity.
    pub fn count(&self) -> f64 {
        self.counted.iter().filter(|counted| **counted).count() as f64
    }

    /// The value of a reading that is not stale.
    pub fn fresh(&self, sample: Option<Sample>) -> Option<f64> {
        Sample::fresh(sample, self.settings.stale_after)
    }

    /// A serving instance without a fresh reading. Such a pool does not shrink.
    pub fn without(&self, reading: fn(&InstanceReadings) -> Option<Sample>) -> Option<MissingData> {
        self.serving()
            .find(|one| self.fresh(reading(one)).is_none())
            .map(|one| MissingData::Reading(one.name.clone()))
    }
}

/// The unit of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// New flows or requests a second.
    Flows,
    /// Connections.
    Connections,
    /// Whole instances.
    Instances,
}

/// What a policy cannot do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissingData {
    /// Nothing reports what clients demand, or not for long enough.
    Demand,
    /// Nothing reports requests.
    Requests,
    /// Nothing reports response times.
    Latency,
    /// An instance, named here, has no fresh reading.
    Reading(String),
}

impl fmt::Display for MissingData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MissingData::Demand => f.write_str("the offered load is not reported"),
            MissingData::Requests => f.write_str("requests are not reported"),
            MissingData::Latency => f.write_str("response times are not reported"),
            MissingData::Reading(name) => write!(f, "{name} has no fresh reading"),
        }
    }
}

/// What a pool requires and has, by one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirement {
    pub unit: Unit,
    /// What the pool requires now, the policy's target included.
    pub required: f64,
    /// What the instances are worth that count as capacity, ...
    pub available: f64,
    /// ... each of them, and those that could be taken back, in the order of the instances, ...
    pub worth: Vec<f64>,
    /// ... and a new one.
    pub each: f64,
    /// The multiple of `available` above which the pool grows.
    pub above: f64,
    /// Whether clients demand much more than a short time ago.
    pub surge: bool,
    /// Why it must not make the pool shrink.
    pub missing: Option<MissingData>,
}

impl Requirement {
    /// Creates the requirement of a pool. `worth` is that of an instance.
    pub fn new(
        context: &Context<'_>,
        unit: Unit,
        (required, each): (f64, f64),
        worth: impl Fn(&InstanceReadings) -> f64,
    ) -> Self {
        let worth: Vec<f64> = context.readings.instances.iter().map(worth).collect();
        let counted = worth.iter().zip(context.counted);
        Requirement {
            unit,
            required,
            available: counted
                .filter(|(_, counted)| **counted)
                .map(|(worth, _)| worth)
                .sum(),
            worth,
            each,
            above: context.settings.out_above,
            surge: false,
            missing: None,
        }
    }
}

/// What a policy found.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// It has never had readings, or is switched off.
    Off,
    /// Data are missing: the pool neither grows by this policy nor shrinks.
    Missing(MissingData),
    /// It asks for this.
    Known(Requirement),
    /// It is a guard, which adds a step after some periods of trouble.
    Guard {
        /// Whether there is trouble now.
        trouble: bool,
        /// Why it must not let the pool shrink, trouble aside.
        missing: Option<MissingData>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_has_one_line() {
        let listed: Vec<_> = REGISTRY.iter().map(|(policy, _)| *policy).collect();
        assert_eq!(listed, ScalingPolicy::ALL);
    }
}
