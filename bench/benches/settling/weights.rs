//! Weights that move all the time.

use std::{net::IpAddr, time::Duration};

use lb_bench::walk::{Walk, normal};
use lb_model::vip::RealId;
use lb_steering::{Load, Observation, Sample, Steering, VipSteering};

use crate::connections::Carried;

/// Reals of the VIP.
pub const REALS: u16 = 20;
/// The operator's weight of each.
const WEIGHT: u32 = 100;
/// Load of the pool.
const LOAD: f64 = 0.65;
/// Relative standard deviation of readings.
const NOISE: f64 = 0.03;
/// New flows a second of a pool of short flows.
const DEMAND: f64 = 10_000.0;

/// The address of a real.
pub fn address(real: u16) -> RealId {
    IpAddr::from([10, 1, 0, 1 + real as u8]).into()
}

/// Where weights come from.
pub struct Weights {
    source: Source,
    random: fastrand::Rng,
    weights: Vec<u32>,
}

enum Source {
    Steered {
        steering: Box<VipSteering>,
        /// Share of the pool's capacity that each real has.
        capacities: Vec<f64>,
        /// Mean life of a connection, seconds.
        life: f64,
        opened: Vec<u64>,
    },
    Walk(Walk),
}

impl Weights {
    fn new(source: Source) -> Weights {
        Weights {
            source,
            random: fastrand::Rng::with_seed(11),
            weights: vec![WEIGHT; usize::from(REALS)],
        }
    }

    /// The agent's steering with its default settings, and reals of unequal capacity.
    pub fn steered(life: f64) -> Weights {
        let mut random = fastrand::Rng::with_seed(5);
        let capacities: Vec<f64> = (0..REALS).map(|_| 0.5 + random.f64()).collect();
        let all: f64 = capacities.iter().sum();
        Weights::new(Source::Steered {
            steering: Box::new(VipSteering::new(Steering::default())),
            capacities: capacities
                .into_iter()
                .map(|capacity| capacity / all)
                .collect(),
            life,
            opened: vec![0; usize::from(REALS)],
        })
    }

    /// A random walk that returns to equal weights.
    pub fn walk() -> Weights {
        Weights::new(Source::Walk(Walk::new(usize::from(REALS))))
    }

    /// The weights as they are.
    pub fn current(&self) -> Vec<u32> {
        self.weights.clone()
    }

    /// The weights of the next period, by what each real has carried and its share of the ring.
    pub fn next(&mut self, carried: &[Carried], shares: &[f64], seconds: u64) -> Vec<u32> {
        let random = &mut self.random;
        let mut normal = || normal(random);
        self.weights = match &mut self.source {
            Source::Walk(walk) => {
                walk.step();
                walk.weights()
            }
            Source::Steered {
                steering,
                capacities,
                life,
                opened,
            } => {
                let connections: Vec<f64> = carried
                    .iter()
                    .map(|of| (of.opened - of.closed) as f64)
                    .collect();
                let all: f64 = connections.iter().sum();
                let long = *life > 100.0;
                let observations: Vec<Observation> = (0..REALS)
                    .zip(capacities)
                    .map(|(real, capacity)| {
                        let at = usize::from(real);
                        let share = if long {
                            connections[at] / all
                        } else {
                            shares[at]
                        };
                        let used = LOAD * share / *capacity;
                        let sample = |value| {
                            Some(Sample {
                                value,
                                age: Duration::ZERO,
                            })
                        };
                        let new = DEMAND * shares[at] * 5.0;
                        opened[at] += (new + new.sqrt() * normal()).max(0.0) as u64;
                        let flows = if long {
                            carried[at]
                        } else {
                            Carried {
                                opened: opened[at],
                                closed: opened[at],
                            }
                        };
                        Observation {
                            address: address(real),
                            weight: WEIGHT,
                            drained: false,
                            evacuated: false,
                            up: true,
                            wants_drain: false,
                            since_up: Duration::from_secs(86_400 + seconds),
                            load: Load {
                                utilisation: sample(
                                    (used * (1.0 + NOISE * normal())).clamp(0.0, 1.0),
                                ),
                                connections: if long { sample(connections[at]) } else { None },
                                ..Load::default()
                            },
                            opened: flows.opened,
                            closed: flows.closed,
                            flows: None,
                            signs: None,
                            share: Some(shares[at]),
                        }
                    })
                    .collect();
                let now = Duration::from_secs(86_400 + seconds);
                let decisions = steering.step(now, &observations);
                decisions.iter().map(|decision| decision.weight).collect()
            }
        };
        self.weights.clone()
    }
}
