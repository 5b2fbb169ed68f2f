//! A pool of reals, a clock, and a controller.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use crate::{
    Controller, Decision, Limit, Load, Observed, Sample,
    spec::{Kind, Steering},
};

/// Of `secs` seconds.
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
pub fn address(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + number as u32))
}

/// A real that is up for long and of which nothing else is known.
pub fn real(number: usize, weight: u32) -> Observed {
    Observed {
        address: address(number),
        weight,
        drained: false,
        up: true,
        wants_drain: false,
        since_up: seconds(86_400),
        load: Load::default(),
        opened: 0,
        closed: 0,
        flows: None,
        share: None,
    }
}

/// The pool.
pub struct Pool {
    /// What is observed.
    pub reals: Vec<Observed>,
    /// The controller.
    pub controller: Controller,
    /// The clock.
    pub now: Duration,
    /// The last decisions.
    pub decisions: Vec<Decision>,
    /// Flows that come in a period.
    pub flows: f64,
    left: Vec<f64>,
}

impl Pool {
    /// Of reals with these weights.
    pub fn new(spec: Steering, weights: &[u32]) -> Self {
        let reals: Vec<Observed> = weights
            .iter()
            .enumerate()
            .map(|(number, weight)| real(number, *weight))
            .collect();
        spec.validate().unwrap();
        Pool {
            left: vec![0.0; reals.len()],
            reals,
            controller: Controller::new(spec),
            now: seconds(1_000),
            decisions: Vec::new(),
            flows: 10_000.0,
        }
    }

    /// With this controller and defaults otherwise.
    pub fn of(controller: Kind, weights: &[u32]) -> Self {
        Pool::new(
            Steering {
                controller,
                ..Steering::default()
            },
            weights,
        )
    }

    /// Asks for a decision now.
    pub fn step(&mut self) -> &[Decision] {
        self.decisions = self.controller.step(self.now, &self.reals);
        assert_eq!(self.decisions.len(), self.reals.len());
        &self.decisions
    }

    /// A period goes by, then a decision.
    pub fn period(&mut self) -> &[Decision] {
        self.wait(seconds(5));
        self.step()
    }

    /// Time goes by.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        for real in &mut self.reals {
            real.since_up += time;
        }
    }

    /// Short flows come by weight, and utilisation is what they make of these capacities, flows a second;
    /// then a decision.
    pub fn carry(&mut self, capacities: &[f64]) -> &[Decision] {
        self.load(capacities);
        self.period()
    }

    /// The same without a decision.
    pub fn load(&mut self, capacities: &[f64]) {
        let shares = self.shares();
        self.left.resize(self.reals.len(), 0.0);
        for (((real, share), capacity), left) in self
            .reals
            .iter_mut()
            .zip(shares)
            .zip(capacities)
            .zip(&mut self.left)
        {
            *left += share * self.flows;
            real.opened += left.floor() as u64;
            real.closed = real.opened;
            *left -= left.floor();
            real.load.utilisation = fresh((share * self.flows / 5.0 / capacity).min(1.0));
        }
    }

    /// Weights now.
    pub fn weights(&self) -> Vec<u32> {
        self.decisions
            .iter()
            .map(|decision| decision.weight)
            .collect()
    }

    /// Parts of the ring now.
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

    /// Why a real has not more.
    pub fn limit(&self, number: usize) -> Limit {
        self.decisions[number].limit
    }
}
