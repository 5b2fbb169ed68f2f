//! Simulated servers.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
};

use lb_bench::random::Random;

/// Flows a second (short) or connections (long) that a server of capacity 1 carries at utilisation 1. The smallest
/// capacity here is 50, so an MQTT broker of that capacity has room for 5,000 connections.
const UNIT: f64 = 100.0;

/// A simulated server.
pub struct Server {
    pub address: IpAddr,
    pub capacity: f64,
    pub up: bool,
    pub up_since: f64,
    pub connections: f64,
    pub opened: u64,
    pub closed: u64,
    /// Demand over capacity.
    pub utilisation: f64,
    /// Readings, the last at the back: time, utilisation, connections.
    pub readings: VecDeque<(f64, f64, f64)>,
}

/// Returns capacities from 50 to 400 (1 : 8), evenly spaced and in random order.
pub fn capacities(reals: usize, random: &mut Random) -> Vec<f64> {
    let mut all: Vec<f64> = (0..reals)
        .map(|index| 50.0 * (1.0 + 7.0 * index as f64 / (reals - 1) as f64))
        .collect();
    for index in (1..all.len()).rev() {
        all.swap(
            index,
            (random.unit() * (index + 1) as f64) as usize % (index + 1),
        );
    }
    // Events happen to the last server: the lower one in the middle.
    let middle = 50.0 * (1.0 + 7.0 * ((reals - 1) / 2) as f64 / (reals - 1) as f64);
    if let Some(position) = all.iter().position(|capacity| *capacity == middle) {
        all.swap(position, reals - 1);
    }
    all
}

impl Server {
    /// Creates an empty server that is up since `up_since`.
    pub fn new(number: usize, capacity: f64, up_since: f64) -> Self {
        Server {
            address: IpAddr::V4(Ipv4Addr::from(0x0a01_0001 + number as u32)),
            capacity,
            up: true,
            up_since,
            connections: 0.0,
            opened: 0,
            closed: 0,
            utilisation: 0.0,
            readings: VecDeque::new(),
        }
    }

    /// What the server carries at utilisation 1.
    pub fn full(&self) -> f64 {
        self.capacity * UNIT
    }
}
