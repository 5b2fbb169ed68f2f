//! Policies that decide where new flows go.

use std::time::Duration;

use lb_model::vip::RealId;
use lb_steering::{LimitedBy, Observation, Steering, VipSteering};

use super::{scenario::Scenario, server::Server};

/// The first step has this time, so that no time is before the clock's epoch.
const EPOCH: f64 = 86_400.0;
/// The oracle fills the servers with the fewest errors up to this load before it uses others.
const FILLED: f64 = 0.9;
/// Time in which the oracle evens out connections, seconds, and the largest multiple of a share that it uses.
const EVEN_OUT: f64 = 60.0;
const MOST_MULTIPLE: f64 = 5.0;

/// How shares are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The agent's steering with its defaults.
    Steering,
    /// The operator's weights of the healthy servers.
    Operator,
    /// Each new flow goes to the server with the fewest flows for its weight.
    LeastConnections,
    /// Knows capacities and faults.
    Oracle,
}

impl Policy {
    /// All of them.
    pub const ALL: [Policy; 4] = [
        Policy::Steering,
        Policy::Operator,
        Policy::LeastConnections,
        Policy::Oracle,
    ];
}

/// A policy with its state.
#[derive(Debug)]
pub struct Decider {
    policy: Policy,
    steering: VipSteering,
    weights: Vec<(RealId, u32, u32)>,
    /// What limits each server, by its number, where steering decides.
    pub limits: Vec<(usize, LimitedBy)>,
}

impl Decider {
    /// Creates a policy.
    pub fn new(policy: Policy) -> Self {
        Decider {
            policy,
            steering: VipSteering::new(Steering::default()),
            weights: Vec::new(),
            limits: Vec::new(),
        }
    }

    /// Replaces the agent.
    pub fn restart(&mut self, now: f64) {
        self.steering = VipSteering::new(Steering::default());
        self.steering
            .resume(Duration::from_secs_f64(EPOCH + now), &self.weights);
    }

    /// Decides the shares of new flows. `observations` has those of the servers in the pool, in their order;
    /// `demand` is in processors.
    pub fn decide(
        &mut self,
        scenario: &Scenario,
        now: f64,
        demand: f64,
        servers: &[Server],
        observations: &[(usize, Observation)],
    ) -> Vec<f64> {
        let mut shares = vec![0.0; servers.len()];
        match self.policy {
            Policy::Steering => {
                let now = Duration::from_secs_f64(EPOCH + now);
                let pool: Vec<Observation> =
                    observations.iter().map(|(_, one)| one.clone()).collect();
                let decisions = self.steering.step(now, &pool);
                self.weights = pool
                    .iter()
                    .zip(&decisions)
                    .filter(|(observation, _)| observation.up)
                    .map(|(observation, decision)| {
                        (observation.address, observation.weight, decision.weight)
                    })
                    .collect();
                self.limits.clear();
                for ((number, _), decision) in observations.iter().zip(decisions) {
                    self.limits.push((*number, decision.limited_by));
                    shares[*number] = f64::from(decision.weight);
                }
            }
            Policy::Operator | Policy::LeastConnections => {
                for (number, observation) in observations.iter().filter(|(_, one)| one.up) {
                    shares[*number] = f64::from(observation.weight);
                }
            }
            Policy::Oracle => oracle(scenario, demand, servers, &mut shares),
        }
        let all: f64 = shares.iter().sum();
        if all > 0.0 {
            for share in &mut shares {
                *share /= all;
            }
        }
        shares
    }
}

fn oracle(scenario: &Scenario, demand: f64, servers: &[Server], shares: &mut [f64]) {
    let mut order: Vec<usize> = (0..servers.len())
        .filter(|number| servers[*number].capacity() > 0.0)
        .collect();
    order.sort_by(|a, b| {
        let errors = |number: &usize| servers[*number].condition.errors;
        errors(a).total_cmp(&errors(b))
    });
    let (mut capacity, mut errors) = (0.0, 0.0);
    for number in order {
        let server = &servers[number];
        let more = server.condition.errors > errors;
        if more && capacity > 0.0 && (capacity * FILLED >= demand || server.condition.errors >= 1.0)
        {
            break;
        }
        errors = server.condition.errors;
        capacity += server.capacity();
        shares[number] = server.capacity();
    }
    if scenario.life == 0.0 || capacity <= 0.0 {
        return;
    }
    let connections: f64 = servers.iter().map(|server| server.connections).sum();
    for (server, share) in servers.iter().zip(shares.iter_mut()) {
        let due = *share / capacity * connections;
        if due > 0.0 {
            let missing = 1.0 - server.connections / due;
            let multiple = 1.0 + missing * scenario.life / EVEN_OUT.min(scenario.life);
            *share *= multiple.clamp(0.0, MOST_MULTIPLE);
        }
    }
}
