//! Simulated servers.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
};

use lb_bench::random::Random;
use lb_steering::{LIFE_BUCKETS, Signs};

use crate::scenario::PERIOD;

/// Flows a second (short) or connections (long) that a server of capacity 1 carries at utilisation 1. The smallest
/// capacity here is 50, so an MQTT broker of that capacity has room for 5,000 connections.
const UNIT: f64 = 100.0;

/// Queueing time, seconds, from which on a server answers no more.
const BACKLOG: f64 = 2.0;
/// SYNs that a client sends before it gives up.
const SYNS: i32 = 3;
/// One in so many flows is sampled.
const SAMPLED: f64 = 8.0;
/// Unit of the buckets of lives, seconds.
const LIFE_UNIT: f64 = (1 << 20) as f64 * 1e-9;

/// A simulated server.
pub struct Server {
    pub address: IpAddr,
    pub capacity: f64,
    pub up: bool,
    pub up_since: f64,
    pub connections: f64,
    pub opened: u64,
    pub closed: u64,
    /// SYNs that were never answered.
    pub unanswered: f64,
    /// Demand over capacity.
    pub utilisation: f64,
    /// Seconds of work that wait.
    pub backlog: f64,
    /// Flows and repeated SYNs so far, and the flows that ended, by life.
    flows: f64,
    repeated: f64,
    lives: [f64; LIFE_BUCKETS],
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
            unanswered: 0.0,
            utilisation: 0.0,
            backlog: 0.0,
            flows: 0.0,
            repeated: 0.0,
            lives: [0.0; LIFE_BUCKETS],
            readings: VecDeque::new(),
        }
    }

    /// Queues the work of a period that demands this multiple of its capacity. Returns the fraction of the period in which
    /// its queue is full.
    pub fn queue(&mut self, demanded: f64) -> f64 {
        let before = self.backlog;
        let growth = demanded - 1.0;
        self.backlog = (before + growth * PERIOD).clamp(0.0, BACKLOG);
        if growth > 0.0 {
            1.0 - ((BACKLOG - before) / growth / PERIOD).min(1.0)
        } else {
            0.0
        }
    }

    /// Opens flows, of whose SYNs this fraction stays unanswered; their clients repeat those. Returns the flows that begin.
    pub fn open(&mut self, flows: f64, refused: f64) -> f64 {
        let repeated = flows * (1..SYNS).map(|before| refused.powi(before)).sum::<f64>();
        let begun = (flows * (1.0 - refused.powi(SYNS))).round();
        self.opened += (flows + repeated).round() as u64;
        self.unanswered += (flows + repeated).round() - begun;
        self.flows += flows;
        self.repeated += repeated;
        begun
    }

    /// Ends flows that lived for this many seconds.
    pub fn close(&mut self, flows: f64, life: f64) {
        let units = (life / LIFE_UNIT).max(0.5);
        let bucket = (units.log2() as usize + 1).min(LIFE_BUCKETS - 1);
        self.lives[bucket] += flows;
        self.closed = self.opened - (self.unanswered + self.connections) as u64;
    }

    /// What the data plane sees of how its clients are served.
    pub fn signs(&self) -> Signs {
        let sampled = |flows: f64| (flows / SAMPLED) as u64;
        Signs {
            opened: sampled(self.flows),
            repeated: sampled(self.repeated),
            resets: 0,
            lives: self.lives.map(sampled),
        }
    }

    /// What the server carries at utilisation 1.
    pub fn full(&self) -> f64 {
        self.capacity * UNIT
    }
}
