//! What the balancer reads of a server, and when.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use lb_model::vip::RealId;
use lb_steering::{Load, Observation, Sample, Signs};

use super::{
    scenario::{Probe, Scenario, Sensor},
    server::{PERIOD, Server},
};
use crate::random::Random;

/// Round trip of a network without load, seconds.
const ROUND_TRIP: f64 = 0.001;
/// Work of a probe, as a multiple of a request's.
const PROBE_WORK: f64 = 0.5;
/// Time, seconds, until the health check notices a death, and that a server is back.
const NOTICE_DEATH: f64 = 10.0;
const NOTICE_RETURN: f64 = 5.0;

/// What a source of load reports.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: f64,
    utilisation: Option<f64>,
    connections: f64,
    errors: f64,
}

/// Readings of a server.
#[derive(Debug)]
pub struct Readings {
    /// The last one at the back.
    readings: VecDeque<Reading>,
    /// The last value before the sensor froze.
    last_true: f64,
    latency: Option<f64>,
    /// Whether it is healthy, and since when.
    pub up: bool,
    up_since: f64,
    /// Since when its state differs from `up`.
    differs_since: Option<f64>,
    pub signs: Signs,
}

impl Readings {
    /// Creates those of a server that is up.
    pub fn new() -> Self {
        Readings {
            readings: VecDeque::new(),
            last_true: 0.0,
            latency: None,
            up: true,
            up_since: -86_400.0,
            differs_since: None,
            signs: Signs::default(),
        }
    }

    /// Notes the server's health. Returns whether its death has just been noticed.
    pub fn check(&mut self, now: f64, server: &Server) -> bool {
        let alive = !server.condition.dead && !server.condition.absent;
        if alive == self.up {
            self.differs_since = None;
            return false;
        }
        let since = *self.differs_since.get_or_insert(now);
        let notice = if self.up { NOTICE_DEATH } else { NOTICE_RETURN };
        if now - since < notice {
            return false;
        }
        self.differs_since = None;
        self.up = alive;
        self.up_since = now;
        !alive
    }

    /// Reads the server at the end of a period.
    pub fn read(
        &mut self,
        scenario: &Scenario,
        now: f64,
        server: &mut Server,
        work: f64,
        random: &mut Random,
    ) {
        let truth = server.end_period();
        let shown = match server.condition.sensor {
            None => Some(truth),
            Some(Sensor::Scaled(factor)) => Some(truth * factor),
            Some(Sensor::Offset(offset)) => Some(truth + offset),
            Some(Sensor::Frozen) => Some(self.last_true),
            Some(Sensor::Stuck(value)) => Some(value),
            Some(Sensor::Inverted) => Some(1.0 - truth),
            Some(Sensor::Silent) => None,
        };
        let noise = 1.0 + scenario.noise * random.normal();
        let exact = matches!(
            server.condition.sensor,
            Some(Sensor::Frozen | Sensor::Stuck(_))
        );
        let shown = shown.map(|shown| {
            let noisy = if exact { shown } else { shown * noise };
            noisy.clamp(0.0, 1.0)
        });
        if !exact && let Some(shown) = shown {
            self.last_true = shown;
        }
        let errors = f64::from(server.errors) / f64::from(server.answers.max(1));
        (server.errors, server.answers) = (0, 0);
        self.latency = None;
        if server.condition.dead || server.condition.absent {
            return;
        }
        self.readings.push_back(Reading {
            at: now,
            utilisation: shown,
            connections: server.connections,
            errors,
        });
        let jitter = ROUND_TRIP * random.exponential();
        self.latency = match scenario.probe {
            Probe::None => None,
            Probe::Static => Some(ROUND_TRIP + jitter),
            Probe::Queue => {
                let condition = &server.condition;
                let failing = random.unit() <= condition.errors;
                let work = work * PROBE_WORK * if failing { condition.error_work } else { 1.0 };
                Some(ROUND_TRIP + jitter + server.wait(now) + work / condition.speed)
            }
        };
    }

    /// The last reading of utilisation that was taken.
    pub fn utilisation(&self) -> Option<f64> {
        self.readings.back()?.utilisation
    }

    /// What steering sees of the server.
    pub fn observe(
        &mut self,
        scenario: &Scenario,
        now: f64,
        number: usize,
        server: &Server,
        share: Option<f64>,
    ) -> Observation {
        let late = scenario.late as f64 * PERIOD;
        while self.readings.len() > 1 && self.readings[1].at <= now - late {
            self.readings.pop_front();
        }
        let reading = self.readings.front().filter(|one| one.at <= now - late);
        let hidden = if scenario.reports_age { 0.0 } else { late };
        let sample = |reading: &Reading, value: f64| Sample {
            value,
            age: Duration::from_secs_f64((now - reading.at - hidden).max(0.0)),
        };
        let counts = scenario.life > 0.0 && scenario.reports_connections;
        Observation {
            address: address(number),
            weight: scenario.weight(number),
            drained: false,
            evacuated: false,
            up: self.up,
            wants_drain: false,
            since_up: Duration::from_secs_f64((now - self.up_since).max(0.0)),
            load: Load {
                utilisation: reading
                    .and_then(|reading| Some(sample(reading, reading.utilisation?))),
                connections: reading
                    .filter(|_| counts)
                    .map(|reading| sample(reading, reading.connections)),
                error_rate: reading
                    .filter(|_| scenario.reports_errors)
                    .map(|reading| sample(reading, reading.errors)),
                latency: self.latency.map(|value| Sample {
                    value,
                    age: Duration::ZERO,
                }),
                ..Load::default()
            },
            opened: server.opened,
            closed: server.closed,
            flows: None,
            signs: scenario.signs.then_some(self.signs),
            share,
        }
    }
}

/// The address of a server.
pub fn address(number: usize) -> RealId {
    IpAddr::V4(Ipv4Addr::from(0x0a01_0001 + number as u32)).into()
}
