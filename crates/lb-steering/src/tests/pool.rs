//! A pool of reals, a clock and the steering under test.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use lb_model::vip::RealId;

use crate::{Decision, LimitedBy, Load, Observation, Sample, Steering, VipSteering};

/// One in so many flows is sampled.
pub const SAMPLED: u64 = 8;
/// The bucket of lives of all flows, unless a test says otherwise: about 20 ms.
pub const USUAL_LIFE: usize = 5;

/// The names of all controllers.
pub fn kinds() -> Vec<&'static str> {
    crate::REGISTRY.kinds.iter().map(|kind| kind.name).collect()
}

/// A duration.
pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A reading that was taken now.
pub fn fresh(value: f64) -> Option<Sample> {
    Some(Sample {
        value,
        age: Duration::ZERO,
    })
}

/// The real's address.
pub fn address(number: usize) -> RealId {
    IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + number as u32)).into()
}

/// A real that has been healthy for long and has no readings.
pub fn real(number: usize, weight: u32) -> Observation {
    Observation {
        address: address(number),
        weight,
        drained: false,
        evacuated: false,
        up: true,
        wants_drain: false,
        since_up: seconds(86_400),
        load: Load::default(),
        opened: 0,
        closed: 0,
        signs: None,
        flows: None,
        share: None,
    }
}

/// A simulated pool.
pub struct Pool {
    /// What is observed of each real.
    pub reals: Vec<Observation>,
    /// The steering under test.
    pub steering: VipSteering,
    /// The clock.
    pub now: Duration,
    /// The last decisions.
    pub decisions: Vec<Decision>,
    /// New flows per period.
    pub flows: f64,
    remainders: Vec<f64>,
}

impl Pool {
    /// A pool of reals with these weights.
    pub fn new(settings: Steering, weights: &[u32]) -> Self {
        let reals: Vec<Observation> = weights
            .iter()
            .enumerate()
            .map(|(number, weight)| real(number, *weight))
            .collect();
        lb_model::settings::Settings::validate(&settings).unwrap();
        Pool {
            remainders: vec![0.0; reals.len()],
            reals,
            steering: VipSteering::new(settings),
            now: seconds(1_000),
            decisions: Vec::new(),
            flows: 10_000.0,
        }
    }

    /// A pool with this controller and defaults otherwise.
    pub fn of(controller: &str, weights: &[u32]) -> Self {
        Pool::new(Steering::of(controller), weights)
    }

    /// Decides now.
    pub fn step(&mut self) -> &[Decision] {
        self.decisions = self.steering.step(self.now, &self.reals);
        assert_eq!(self.decisions.len(), self.reals.len());
        &self.decisions
    }

    /// Waits for a period, then decides.
    pub fn period(&mut self) -> &[Decision] {
        self.wait(seconds(5));
        self.step()
    }

    /// Advances the clock.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        for real in &mut self.reals {
            real.since_up += time;
        }
    }

    /// Plays a period with short flows that are split by weight and all live as long; utilisation is their rate over
    /// these capacities, flows a second. Then decides.
    pub fn carry(&mut self, capacities: &[f64]) -> &[Decision] {
        self.load(capacities);
        self.period()
    }

    /// The same without the decision.
    pub fn load(&mut self, capacities: &[f64]) {
        let shares = self.shares();
        self.remainders.resize(self.reals.len(), 0.0);
        for (((real, share), capacity), remainder) in self
            .reals
            .iter_mut()
            .zip(shares)
            .zip(capacities)
            .zip(&mut self.remainders)
        {
            *remainder += share * self.flows;
            let new = remainder.floor() as u64;
            real.opened += new;
            let signs = real.signs.get_or_insert_default();
            signs.opened += new / SAMPLED;
            signs.lives[USUAL_LIFE] += new / SAMPLED;
            real.closed = real.opened;
            *remainder -= remainder.floor();
            real.load.utilisation = fresh((share * self.flows / 5.0 / capacity).min(1.0));
        }
    }

    /// Current weights.
    pub fn weights(&self) -> Vec<u32> {
        self.decisions
            .iter()
            .map(|decision| decision.weight)
            .collect()
    }

    /// Current shares of the ring.
    pub fn shares(&self) -> Vec<f64> {
        let all: f64 = self
            .decisions
            .iter()
            .map(|decision| f64::from(decision.weight))
            .sum();
        self.decisions
            .iter()
            .map(|decision| f64::from(decision.weight) / all.max(1.0))
            .collect()
    }

    /// What limits a real's weight.
    pub fn limited_by(&self, number: usize) -> LimitedBy {
        self.decisions[number].limited_by
    }
}
