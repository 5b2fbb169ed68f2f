//! Who decides the weights: the controller, and those it is held against.

use std::time::Duration;

use lb_agent::steering::{Controller, Observed, spec::Steering};

/// One who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The same for all.
    Equal,
    /// What is free: 1 − utilisation.
    Naive,
    /// The true capacities, known at once.
    Oracle,
    /// The agent's own, with its defaults.
    Capacity,
}

impl Policy {
    /// In tables.
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Equal => "equal weights",
            Policy::Naive => "w = 1 − u",
            Policy::Oracle => "oracle",
            Policy::Capacity => "capacity (ours)",
        }
    }
}

/// What a server gets.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    /// Its weight.
    pub weight: f64,
    /// Flows of it to reset.
    pub shed: f64,
}

/// One at work.
pub struct Decider {
    policy: Policy,
    controller: Controller,
}

impl Decider {
    /// With this specification, where it has one.
    pub fn new(policy: Policy, spec: &Steering) -> Self {
        Decider {
            policy,
            controller: Controller::new(spec.clone()),
        }
    }

    /// Weights from what is observed and, for the oracle, from what is true.
    pub fn decide(
        &mut self,
        now: Duration,
        observed: &[Observed],
        capacities: &[f64],
    ) -> Vec<Decided> {
        let only = |weight: f64| Decided { weight, shed: 0.0 };
        match self.policy {
            Policy::Capacity => self
                .controller
                .step(now, observed)
                .iter()
                .map(|decision| Decided {
                    weight: f64::from(decision.weight),
                    shed: f64::from(decision.shed.unwrap_or_default()),
                })
                .collect(),
            other => observed
                .iter()
                .zip(capacities)
                .map(|(observed, capacity)| {
                    only(match other {
                        _ if !observed.up => 0.0,
                        Policy::Naive => {
                            let used = observed.load.utilisation.map_or(0.5, |sample| sample.value);
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
