//! Brokers with connections that live for hours: new capacity fills only by new connections and by shedding.
//!
//! Connections are a fluid, counted each second. Of 100,000 connections that live for two hours, the number grows to
//! 150,000 within ten minutes; from two hours on no client comes until 60,000 are left. A connection that is
//! shed comes back at once, to where the weights send it; one that a broker's stop cuts off was not shed in time.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use lb_steering::{
    Load, Observation, Sample, Steering, VipSteering,
    scaling::{
        Clock, Drain, DrainStep, InstanceReadings, Offered, Phase, PoolReadings, Scaling,
        ScalingState, scale,
    },
};

use super::pool::{EPOCH, PERIOD};
use crate::random::Random;

/// Connections of a broker at utilisation 1.
const CAPACITY: f64 = 36_000.0;
/// Mean life of a connection, seconds.
const LIFE: f64 = 7_200.0;
/// Seconds from the order of a broker until it serves.
const START_UP: f64 = 20.0;
/// Relative standard deviation of readings.
const NOISE: f64 = 0.03;
/// Connections before, and after the growth.
const BEFORE: f64 = 100_000.0;
const AFTER: f64 = 150_000.0;
/// Connections that are left when clients come again.
const LEAST: f64 = 60_000.0;
/// Seconds before the growth, which takes as long; and when clients stop coming.
const GROWTH: f64 = 600.0;
const FALL: f64 = 7_200.0;
/// Seconds that are played.
const LENGTH: f64 = 21_600.0;
/// A pool is balanced while its busiest broker has at most this multiple of the mean.
const BALANCED: f64 = 1.10;

#[derive(Debug)]
struct Broker {
    number: u32,
    phase: Phase,
    since: f64,
    connections: f64,
    /// When it was drained, and the connections that it had.
    drained: (f64, f64),
    opened: f64,
    closed: f64,
    utilisation: f64,
    learned: Option<f64>,
    share: f64,
    /// Connections that are to be shed per second.
    shed: f64,
}

impl Broker {
    const fn new(number: u32, phase: Phase, since: f64, connections: f64) -> Self {
        Broker {
            number,
            phase,
            since,
            connections,
            drained: (0.0, 0.0),
            opened: connections,
            closed: 0.0,
            utilisation: connections / CAPACITY,
            learned: None,
            share: 0.0,
            shed: 0.0,
        }
    }

    const fn exists(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Draining)
    }
}

/// What became of the brokers.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Connections a second that might be shed.
    pub shed_rate: f64,
    /// The most brokers that served.
    pub most: u32,
    /// Brokers at the end.
    pub last: u32,
    /// Seconds from the first broker that was ordered until the pool was balanced for good, before it shrinks; infinite if
    /// it never was.
    pub balanced: f64,
    /// The highest utilisation of a broker.
    pub highest: f64,
    /// Connections that were shed, as a fraction of the most that there were.
    pub shed: f64,
    /// Connections that the stop of a broker cut off.
    pub cut: f64,
    /// Seconds from the first drain to the last stop; 0 if no broker stopped.
    pub shrinking: f64,
}

/// The connections that clients want at a time.
fn wanted(at: f64) -> f64 {
    if at < FALL {
        BEFORE + (AFTER - BEFORE) * ((at - GROWTH) / GROWTH).clamp(0.0, 1.0)
    } else {
        LEAST
    }
}

struct Play {
    brokers: Vec<Broker>,
    now: f64,
    steering: VipSteering,
    random: Random,
    settings: Scaling,
    state: ScalingState,
    outcome: Outcome,
    next: u32,
    first_order: Option<f64>,
    last_uneven: Option<f64>,
    first_drain: Option<f64>,
}

impl Play {
    fn new(shed_rate: f64, seed: u64) -> Self {
        let brokers: Vec<Broker> = (0..4)
            .map(|number| Broker::new(number, Phase::Serving, -86_400.0, BEFORE / 4.0))
            .collect();
        Play {
            next: brokers.len() as u32,
            brokers,
            now: 0.0,
            steering: VipSteering::new(Steering {
                shed_rate,
                ..Steering::default()
            }),
            random: Random::new(seed),
            settings: Scaling {
                min: 2,
                max: 20,
                ..Scaling::default()
            },
            state: ScalingState::default(),
            outcome: Outcome {
                shed_rate,
                balanced: f64::INFINITY,
                ..Outcome::default()
            },
            first_order: None,
            last_uneven: None,
            first_drain: None,
        }
    }

    fn all(&self) -> f64 {
        self.brokers.iter().map(|one| one.connections).sum()
    }

    /// Connects clients by the shares in force.
    fn connect(&mut self, count: f64) {
        let all: f64 = self.brokers.iter().map(|one| one.share).sum();
        for one in &mut self.brokers {
            let new = count * one.share / all.max(f64::MIN_POSITIVE);
            one.connections += new;
            one.opened += new;
        }
    }

    fn second(&mut self) {
        self.now += 1.0;
        for one in &mut self.brokers {
            if one.phase == Phase::Starting && self.now - one.since >= START_UP {
                one.phase = Phase::Serving;
                one.since = self.now;
            }
        }
        let mut back = 0.0;
        for one in &mut self.brokers {
            let ended = one.connections / LIFE;
            let shed = one.shed.min(one.connections - ended);
            one.connections -= ended + shed;
            one.closed += ended + shed;
            back += shed;
        }
        self.outcome.shed += back / AFTER;
        // Clients whose connection has ended come back, and new ones come.
        let missing = (wanted(self.now) - self.all() - back).max(0.0);
        self.connect(back + missing);
        if self.now % PERIOD == 0.0 {
            self.steer();
        }
        self.drain();
        self.decide();
        self.watch();
    }

    fn steer(&mut self) {
        let now = self.now;
        for one in self.brokers.iter_mut().filter(|one| one.exists()) {
            let noise = 1.0 + NOISE * self.random.normal();
            one.utilisation = (one.connections / CAPACITY).min(1.0) * noise;
        }
        let fresh = |value| {
            Some(Sample {
                value,
                age: Duration::ZERO,
            })
        };
        let observations: Vec<Observation> = self
            .brokers
            .iter()
            .filter(|one| one.exists())
            .map(|one| Observation {
                address: IpAddr::V4(Ipv4Addr::from(0x0a01_0001 + one.number)).into(),
                weight: 100,
                drained: one.phase == Phase::Draining,
                evacuated: false,
                up: true,
                wants_drain: false,
                since_up: Duration::from_secs_f64((now - one.since).max(0.0)),
                load: Load {
                    utilisation: fresh(one.utilisation.clamp(0.0, 1.0)),
                    connections: fresh(one.connections),
                    ..Load::default()
                },
                opened: one.opened as u64,
                closed: one.closed as u64,
                flows: None,
                signs: None,
                share: None,
            })
            .collect();
        let decisions = self
            .steering
            .step(Duration::from_secs_f64(EPOCH + now), &observations);
        let mut decisions = decisions.into_iter();
        for one in self.brokers.iter_mut().filter(|one| one.exists()) {
            let Some(decision) = decisions.next() else {
                break;
            };
            one.share = f64::from(decision.weight);
            one.learned = decision.capacity;
            if one.phase == Phase::Serving {
                one.shed = decision
                    .shed
                    .map_or(one.shed, |shed| f64::from(shed) / PERIOD);
            }
        }
    }

    /// Sheds what drained brokers still have, and stops those that are done.
    fn drain(&mut self) {
        let now = self.now;
        // What the others took from clients that were shed in the last second.
        let gained: f64 = self
            .brokers
            .iter()
            .filter(|one| one.phase == Phase::Draining)
            .map(|one| one.shed)
            .sum();
        let settings = &self.settings;
        let (mut cut, mut stopped) = (0.0, Vec::new());
        let mut rate = self.outcome.shed_rate;
        for one in self
            .brokers
            .iter_mut()
            .filter(|one| one.phase == Phase::Draining)
        {
            let step = Drain {
                since: Duration::from_secs_f64(now - one.drained.0),
                connections: Some(one.connections),
                at_first: Some(one.drained.1),
                life: Some(Duration::from_secs_f64(LIFE)),
                elapsed: Duration::from_secs(1),
                gained,
                shed_rate: rate,
            };
            one.shed = 0.0;
            match step.step(settings) {
                DrainStep::Wait => {}
                DrainStep::Shed(count) => {
                    one.shed = count;
                    rate -= one.shed;
                }
                DrainStep::Stop => {
                    // A handful is what an instance may have and count as empty.
                    cut += one.connections;
                    stopped.push(one.number);
                }
            }
        }
        if !stopped.is_empty() {
            self.outcome.cut += cut;
            self.outcome.shrinking = now - self.first_drain.unwrap_or(now);
            self.brokers.retain(|one| !stopped.contains(&one.number));
            self.connect(cut);
        }
    }

    fn decide(&mut self) {
        let instances = self.brokers.iter().map(|one| {
            let sample = |value| {
                one.exists().then_some(Sample {
                    value,
                    age: Duration::ZERO,
                })
            };
            InstanceReadings {
                capacity: one.learned,
                utilisation: sample(one.utilisation),
                connections: sample(one.connections),
                has_sessions: true,
                ..InstanceReadings::new(one.number.to_string(), one.phase)
            }
        });
        let readings = PoolReadings {
            offered: Some(Offered::Connections(self.all())),
            life: self.steering.life(),
            instances: instances.collect(),
            ..PoolReadings::default()
        };
        let clock = Clock {
            now: Duration::from_secs_f64(EPOCH + self.now),
            utc_offset: 0,
        };
        let decision = scale(&self.settings, &mut self.state, &readings, clock);
        let now = self.now;
        for one in &mut self.brokers {
            let name = one.number.to_string();
            if decision.drain.contains(&name) {
                self.first_drain.get_or_insert(now);
                one.phase = Phase::Draining;
                one.drained = (now, one.connections);
                one.share = 0.0;
            } else if decision.take_back.contains(&name) {
                one.phase = Phase::Serving;
                one.since = now;
            }
        }
        for _ in 0..decision.start {
            self.first_order.get_or_insert(now);
            self.brokers
                .push(Broker::new(self.next, Phase::Starting, now, 0.0));
            self.next += 1;
        }
    }

    fn watch(&mut self) {
        let serving: Vec<f64> = self
            .brokers
            .iter()
            .filter(|one| one.phase == Phase::Serving)
            .map(|one| one.connections / CAPACITY)
            .collect();
        let highest = serving.iter().copied().fold(0.0, f64::max);
        let mean = serving.iter().sum::<f64>() / serving.len().max(1) as f64;
        self.outcome.most = self.outcome.most.max(serving.len() as u32);
        self.outcome.last = serving.len() as u32;
        self.outcome.highest = self.outcome.highest.max(highest);
        if self.now < FALL && self.first_order.is_some() && highest > BALANCED * mean {
            self.last_uneven = Some(self.now);
        }
    }
}

/// Plays the brokers, of whose connections so many a second may be shed.
pub fn play(shed_rate: f64, seed: u64) -> Outcome {
    let mut play = Play::new(shed_rate, seed);
    play.steer();
    while play.now < LENGTH {
        play.second();
    }
    if let (Some(order), Some(uneven)) = (play.first_order, play.last_uneven)
        && uneven < FALL - 60.0
    {
        play.outcome.balanced = uneven - order;
    }
    play.outcome
}
