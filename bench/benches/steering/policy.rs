//! Policies that decide the weights: the agent's steering, and those it is compared with.

use std::time::Duration;

use lb_steering::{Observation, Steering, VipSteering};

/// How weights are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Equal weights.
    Equal,
    /// Free capacity: 1 − utilisation.
    Naive,
    /// The true capacities, which are known at once.
    Oracle,
    /// The agent's steering with its defaults.
    Capacity,
}

impl Policy {
    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Equal => "equal weights",
            Policy::Naive => "w = 1 − u",
            Policy::Oracle => "oracle",
            Policy::Capacity => "capacity (ours)",
        }
    }
}

/// A decision for one server.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    /// Weight.
    pub weight: f64,
    /// Flows to reset.
    pub shed: f64,
}

/// A policy with its state.
pub struct Decider {
    policy: Policy,
    steering: VipSteering,
}

impl Decider {
    /// Creates the policy; the settings apply to [`Policy::Capacity`] only.
    pub fn new(policy: Policy, settings: &Steering) -> Self {
        Decider {
            policy,
            steering: VipSteering::new(settings.clone()),
        }
    }

    /// Decides from observations and, for the oracle, from the true capacities.
    pub fn decide(
        &mut self,
        now: Duration,
        observations: &[Observation],
        capacities: &[f64],
    ) -> Vec<Decided> {
        let only = |weight: f64| Decided { weight, shed: 0.0 };
        match self.policy {
            Policy::Capacity => self
                .steering
                .step(now, observations)
                .iter()
                .map(|decision| Decided {
                    weight: f64::from(decision.weight),
                    shed: f64::from(decision.shed.unwrap_or_default()),
                })
                .collect(),
            other => observations
                .iter()
                .zip(capacities)
                .map(|(observation, capacity)| {
                    only(match other {
                        _ if !observation.up => 0.0,
                        Policy::Naive => {
                            let used = observation
                                .load
                                .utilisation
                                .map_or(0.5, |sample| sample.value);
                            (1.0 - used).max(0.01)
                        }
                        Policy::Oracle => *capacity,
                        _ => 1.0,
                    })
                })
                .collect(),
        }
    }
}
