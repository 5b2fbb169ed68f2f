//! Instances, and the steering in front of them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use lb_model::vip::RealId;
use lb_steering::{Load, Observation, Sample, Signs, Steering, VipSteering};

use super::trace::CAPACITY;
use crate::random::Random;

/// Seconds for which a drained instance keeps its flows, and can be taken back.
pub const DRAIN: f64 = 60.0;
/// The period of steering, seconds.
pub const PERIOD: f64 = 5.0;
/// Relative standard deviation of readings.
const NOISE: f64 = 0.03;
/// The clock's epoch lies this far before a play.
pub const EPOCH: f64 = 1_704_067_200.0;
/// Bucket of the lives of all flows.
const LIFE: usize = 7;
/// One in so many flows is sampled.
const SAMPLED: f64 = 8.0;

/// How instances differ, and who knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// All are equal, and their capacity is known.
    Known,
    /// All are equal; steering learns what they carry.
    Learned,
    /// They carry from half to one and a half times as much; steering learns it.
    Unequal,
}

/// What an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Warm, or being made so.
    Spare,
    /// Ordered.
    Starting,
    /// With new flows.
    Serving,
    /// Without new flows, until it stops.
    Draining,
}

/// An instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its number; the newest has the highest.
    pub number: u32,
    /// What it carries, flows a second.
    pub capacity: f64,
    /// What it does.
    pub stage: Stage,
    /// Since when.
    pub since: f64,
    /// What steering has learned, or the truth where it is known.
    pub learned: Option<f64>,
    /// The last reading of utilisation and its time.
    pub reading: Option<(f64, f64)>,
    /// Its part of new flows.
    pub share: f64,
    opened: f64,
    lost: f64,
    /// Utilisation of the seconds since the last reading.
    busy: f64,
}

impl Instance {
    /// The last reading of utilisation with its age.
    pub fn sample(&self, now: f64) -> Option<Sample> {
        self.reading.map(|(at, value)| Sample {
            value,
            age: Duration::from_secs_f64((now - at).max(0.0)),
        })
    }

    fn address(&self) -> RealId {
        IpAddr::V4(Ipv4Addr::from(0x0a01_0001 + self.number)).into()
    }
}

/// What became of a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    /// Flows offered.
    pub offered: f64,
    /// Flows lost.
    pub lost: f64,
}

/// A pool.
pub struct Pool {
    /// The instances, the newest last.
    pub instances: Vec<Instance>,
    /// Seconds; a play counts from 0 on.
    pub now: f64,
    start_up: f64,
    knowledge: Knowledge,
    steering: VipSteering,
    random: Random,
    seed: u64,
    next: u32,
    last_period: f64,
    /// Instances that were started.
    pub starts: u32,
}

impl Pool {
    /// A pool of instances that have served for long.
    pub fn new(count: u32, start_up: f64, knowledge: Knowledge, begin: f64, seed: u64) -> Self {
        let mut pool = Pool {
            instances: Vec::new(),
            now: begin,
            start_up,
            knowledge,
            steering: VipSteering::new(Steering::default()),
            random: Random::new(seed),
            seed,
            next: 0,
            last_period: begin,
            starts: 0,
        };
        pool.start(count);
        pool.starts = 0;
        for one in &mut pool.instances {
            one.stage = Stage::Serving;
            one.since = begin - 3_600.0;
        }
        pool.steer();
        pool
    }

    /// Orders instances.
    pub fn start(&mut self, count: u32) {
        for _ in 0..count {
            // The same for every law.
            let mut sizes = Random::new(self.seed ^ (u64::from(self.next) << 32));
            let size = match self.knowledge {
                Knowledge::Unequal => 0.5 + sizes.unit(),
                Knowledge::Known | Knowledge::Learned => 1.0,
            };
            let capacity = CAPACITY * size;
            self.instances.push(Instance {
                number: self.next,
                capacity,
                stage: Stage::Starting,
                since: self.now,
                learned: (self.knowledge == Knowledge::Known).then_some(capacity),
                reading: None,
                share: 0.0,
                opened: 0.0,
                lost: 0.0,
                busy: 0.0,
            });
            self.next += 1;
        }
        self.starts += count;
    }

    /// Orders warm instances.
    pub fn prepare(&mut self, count: u32) {
        let before = self.instances.len();
        self.start(count);
        for one in &mut self.instances[before..] {
            one.stage = Stage::Spare;
        }
    }

    /// Lets a warm instance serve from the next second on, or as soon as it has started.
    pub fn resume(&mut self, number: u32) {
        let now = self.now;
        let spares = self.instances.iter_mut();
        for one in spares.filter(|one| one.number == number && one.stage == Stage::Spare) {
            one.stage = Stage::Starting;
            one.since = one.since.max(now + 1.0 - self.start_up);
        }
    }

    fn set(&mut self, number: u32, from: Stage, to: Stage) {
        let now = self.now;
        let found = self
            .instances
            .iter_mut()
            .find(|one| one.number == number && one.stage == from);
        if let Some(one) = found {
            one.stage = to;
            one.since = now;
        }
    }

    /// Takes new flows from an instance. One that is still starting is stopped.
    pub fn drain(&mut self, number: u32) {
        self.instances
            .retain(|one| one.number != number || one.stage != Stage::Starting);
        self.set(number, Stage::Serving, Stage::Draining);
    }

    /// Gives a drained instance new flows again.
    pub fn take_back(&mut self, number: u32) {
        self.set(number, Stage::Draining, Stage::Serving);
    }

    /// Number of instances in a stage.
    pub fn count(&self, stage: Stage) -> u32 {
        self.instances
            .iter()
            .filter(|one| one.stage == stage)
            .count() as u32
    }

    /// Plays a second with this demand. `reads`: whether utilisation is read.
    pub fn second(&mut self, demand: f64, noise: f64, reads: bool) -> Second {
        self.now += 1.0;
        let now = self.now;
        let mut changed = false;
        let start_up = self.start_up;
        for one in &mut self.instances {
            if one.stage == Stage::Starting && now - one.since >= start_up {
                one.stage = Stage::Serving;
                one.since = now;
                changed = true;
            }
        }
        let before = self.instances.len();
        self.instances
            .retain(|one| one.stage != Stage::Draining || now - one.since < DRAIN);
        changed |= before != self.instances.len();
        let offered = (demand * (1.0 + noise * self.random.normal())).max(0.0);
        if changed || self.instances.iter().all(|one| one.share == 0.0) {
            self.steer();
        }
        let mut second = Second { offered, lost: 0.0 };
        let all: f64 = self.shares().map(|one| one.share).sum();
        if all <= 0.0 {
            second.lost = offered;
        }
        for one in self
            .instances
            .iter_mut()
            .filter(|one| one.stage == Stage::Serving)
        {
            if all > 0.0 {
                let arrived = offered * one.share / all;
                let served = arrived.min(one.capacity);
                second.lost += arrived - served;
                one.opened += arrived;
                one.lost += arrived - served;
                one.busy += served / one.capacity;
            }
        }
        if now - self.last_period >= PERIOD {
            self.read(now - self.last_period, reads);
            self.last_period = now;
            self.steer();
        }
        second
    }

    fn shares(&self) -> impl Iterator<Item = &Instance> {
        self.instances
            .iter()
            .filter(|one| one.stage == Stage::Serving)
    }

    fn read(&mut self, elapsed: f64, reads: bool) {
        for one in &mut self.instances {
            let busy = std::mem::take(&mut one.busy) / elapsed;
            if reads && !matches!(one.stage, Stage::Spare | Stage::Starting) {
                let noisy = busy * (1.0 + NOISE * self.random.normal());
                one.reading = Some((self.now, noisy.clamp(0.0, 1.0)));
            }
        }
    }

    /// Lets steering decide the shares of new flows, and learn what instances carry.
    fn steer(&mut self) {
        let now = self.now;
        let observations: Vec<Observation> = self
            .instances
            .iter()
            .filter(|one| !matches!(one.stage, Stage::Spare | Stage::Starting))
            .map(|one| observe(one, now))
            .collect();
        let decisions = self
            .steering
            .step(Duration::from_secs_f64(EPOCH + now), &observations);
        let by_address: BTreeMap<RealId, _> = observations
            .iter()
            .zip(&decisions)
            .map(|(observation, decision)| (observation.address, decision))
            .collect();
        let known = self.knowledge == Knowledge::Known;
        for one in &mut self.instances {
            let Some(decision) = by_address.get(&one.address()) else {
                continue;
            };
            if known {
                one.share = if one.stage == Stage::Serving {
                    one.capacity
                } else {
                    0.0
                };
            } else {
                one.share = f64::from(decision.weight);
                one.learned = decision.capacity;
            }
        }
        let all: f64 = self.instances.iter().map(|one| one.share).sum();
        for one in &mut self.instances {
            one.share /= all.max(f64::MIN_POSITIVE);
        }
    }
}

fn observe(one: &Instance, now: f64) -> Observation {
    let served = one.opened - one.lost;
    let mut signs = Signs {
        opened: (one.opened / SAMPLED) as u64,
        // The client of a lost flow repeats its SYN.
        repeated: (one.lost / SAMPLED) as u64,
        ..Signs::default()
    };
    signs.lives[LIFE] = (served / SAMPLED) as u64;
    Observation {
        address: one.address(),
        weight: 100,
        drained: one.stage == Stage::Draining,
        evacuated: false,
        up: true,
        wants_drain: false,
        since_up: Duration::from_secs_f64((now - one.since).max(0.0)),
        load: Load {
            utilisation: one.sample(now),
            ..Load::default()
        },
        opened: one.opened as u64,
        closed: one.opened as u64,
        flows: None,
        signs: Some(signs),
        share: (one.share > 0.0).then_some(one.share),
    }
}
