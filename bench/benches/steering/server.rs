//! Servers of a pool.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
};

use crate::random::Random;

/// Flows a second (short) or connections (long) that a server of capacity 1 carries at utilisation 1. An MQTT
/// broker of the smallest capacity here, 50, has room for 5,000 connections.
const UNIT: f64 = 100.0;

/// A server.
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
    /// Readings taken, the last at the back: when, utilisation, connections.
    pub readings: VecDeque<(f64, f64, f64)>,
}

/// Capacities from 1 to 8, evenly; the order is by chance.
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
    // The last is the one that something happens to: the lower of the middle ones.
    let middle = 50.0 * (1.0 + 7.0 * ((reals - 1) / 2) as f64 / (reals - 1) as f64);
    if let Some(position) = all.iter().position(|capacity| *capacity == middle) {
        all.swap(position, reals - 1);
    }
    all
}

impl Server {
    /// Empty, and up since then.
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

    /// What it carries at utilisation 1.
    pub fn full(&self) -> f64 {
        self.capacity * UNIT
    }
}
