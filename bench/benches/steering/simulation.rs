//! A simulated pool under load, period by period. Arrivals are Poisson numbers and are split as the ring is;
//! connections end at random; readings are noisy, late or missing.

use std::{net::IpAddr, time::Duration};

use lb_bench::random::Random;
use lb_steering::{Load, Observation, Sample, Steering, ring};

use crate::{
    policy::{Decided, Decider, Policy},
    scenario::{Case, Event, PERIOD, WARM},
    server::{Server, capacities},
};

/// The operator's weight of each server.
const WEIGHT: u32 = 100;
/// Fraction of the readings that are missing in [`Event::Stale`].
const MISSING: f64 = 0.2;
/// Periods in which one server has no readings in [`Event::Stale`].
const SILENT: std::ops::Range<usize> = 40..100;
/// How long a server without a queue takes for a short flow, seconds.
const SERVICE: f64 = 0.02;

/// How weights become shares of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantisation {
    /// Shares are rounded to slots.
    Rounded,
    /// The agent's code builds a ring.
    Ring,
}

/// The course of a simulation, period by period from the event on.
pub struct Trace {
    /// Highest over mean utilisation.
    pub uneven: Vec<f64>,
    /// Fraction of the ring that moved.
    pub moved: Vec<f64>,
    /// Utilisation of the server that the event concerns (the last one), over the mean.
    pub subject: Vec<f64>,
    /// Highest utilisation right after the event, over that of a balanced pool.
    pub first: f64,
    /// Utilisation of a balanced pool after the event.
    pub balanced: f64,
    /// Connections that were reset, as a fraction of all.
    pub shed: f64,
}

struct Simulation<'a> {
    case: &'a Case,
    random: Random,
    servers: Vec<Server>,
    /// New flows a second.
    demand: f64,
    now: f64,
    /// Periods so far.
    periods: usize,
}

impl<'a> Simulation<'a> {
    fn new(case: &'a Case, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let servers: Vec<Server> = capacities(case.reals, &mut random)
            .into_iter()
            .enumerate()
            .map(|(number, capacity)| Server::new(number, capacity, -86_400.0))
            .collect();
        let carried: f64 = case.load * servers.iter().map(Server::full).sum::<f64>();
        let demand = if case.life > 0.0 {
            carried / case.life
        } else {
            carried
        };
        let mut simulation = Simulation {
            case,
            random,
            servers,
            demand,
            now: 86_400.0,
            periods: 0,
        };
        if case.life > 0.0 {
            // The pool has run for long, with equal or with balanced weights.
            let even = 1.0 / case.reals as f64;
            for server in &mut simulation.servers {
                let share = server.full() * case.load / carried;
                let share = if case.warm() { share } else { even };
                server.connections = simulation.random.poisson(carried * share);
                server.opened = server.connections as u64;
                server.utilisation = server.connections / server.full();
            }
        }
        simulation
    }

    /// Plays a period in which new flows are split by these shares.
    fn period(&mut self, shares: &[f64]) {
        self.now += PERIOD;
        self.periods += 1;
        let life = self.case.life;
        let missing = if self.case.event == Event::Stale {
            MISSING
        } else {
            0.0
        };
        let last = self.servers.len() - 1;
        for (number, (server, share)) in self.servers.iter_mut().zip(shares).enumerate() {
            let flows = self.random.poisson(self.demand * share * PERIOD);
            let measured = if life > 0.0 {
                // A request that gets no answer is not repeated, a SYN is.
                let full = server.queue(server.utilisation);
                let refused = full * (1.0 - 1.0 / server.utilisation.max(1.0));
                let begun = server.open(flows, refused);
                let before = server.connections;
                let left = self.random.remaining(before, (-PERIOD / life).exp());
                // New connections arrive evenly over the period.
                let stay = life / PERIOD * (1.0 - (-PERIOD / life).exp());
                server.connections = left + self.random.remaining(begun, stay);
                server.close(before + begun - server.connections, life);
                server.utilisation = server.connections / server.full();
                server.utilisation
            } else {
                // Readings show the arrivals; the figures use their expectation.
                server.utilisation = self.demand * share / server.full();
                let demanded = flows / PERIOD / server.full();
                let full = server.queue(demanded);
                // As many SYNs are refused as are too many, though each is sent up to three times.
                let refused = (full * (1.0 - 1.0 / demanded.max(1.0))).cbrt();
                let begun = server.open(flows, refused);
                server.close(begun, SERVICE + server.backlog);
                demanded
            };
            let silent =
                self.case.event == Event::Stale && number == last && SILENT.contains(&self.periods);
            if silent || self.random.unit() < missing {
                continue;
            }
            let noisy = measured.min(1.0) * (1.0 + self.case.noise * self.random.normal());
            server
                .readings
                .push_back((self.now, noisy.clamp(0.0, 1.0), server.connections));
        }
    }

    fn observe(&mut self) -> Vec<Observation> {
        let late = self.case.lag as f64 * PERIOD;
        let (now, life) = (self.now, self.case.life);
        // A reading that does not report its age claims to be of now.
        let hidden = if self.case.reports_age { 0.0 } else { late };
        self.servers
            .iter_mut()
            .map(|server| {
                while server.readings.len() > 1 && server.readings[1].0 <= now - late {
                    server.readings.pop_front();
                }
                let reading = server
                    .readings
                    .front()
                    .filter(|reading| reading.0 <= now - late);
                let sample = |value: f64, at: f64| Sample {
                    value,
                    age: Duration::from_secs_f64((now - at - hidden).max(0.0)),
                };
                Observation {
                    address: server.address.into(),
                    weight: WEIGHT,
                    drained: false,
                    evacuated: false,
                    up: server.up,
                    wants_drain: false,
                    since_up: Duration::from_secs_f64(now - server.up_since),
                    load: Load {
                        utilisation: reading.map(|reading| sample(reading.1, reading.0)),
                        connections: reading
                            .filter(|_| life > 0.0)
                            .map(|reading| sample(reading.2, reading.0)),
                        ..Load::default()
                    },
                    opened: server.opened,
                    closed: server.closed,
                    signs: Some(server.signs()),
                    flows: None,
                    share: None,
                }
            })
            .collect()
    }

    /// Resets connections, whose clients reconnect at once, by these shares. Returns their number.
    fn shed(&mut self, decided: &[Decided], shares: &[f64]) -> f64 {
        let mut all = 0.0;
        for (server, decided) in self.servers.iter_mut().zip(decided) {
            let shed = decided.shed.min(server.connections);
            server.connections -= shed;
            all += shed;
        }
        if all > 0.0 {
            for (server, share) in self.servers.iter_mut().zip(shares) {
                let back = self.random.poisson(all * share);
                server.connections += back;
                server.opened += back as u64;
            }
        }
        all
    }

    /// Connections of all servers.
    fn connections(&self) -> f64 {
        self.servers.iter().map(|server| server.connections).sum()
    }

    /// Highest over mean utilisation of the servers that are up.
    fn uneven(&self) -> f64 {
        let up = || self.servers.iter().filter(|server| server.up);
        let mean = up().map(|server| server.utilisation).sum::<f64>() / up().count() as f64;
        up().map(|server| server.utilisation).fold(0.0, f64::max) / mean
    }

    /// Utilisation if the pool were balanced.
    fn balanced(&self) -> f64 {
        let full: f64 = self
            .servers
            .iter()
            .filter(|server| server.up)
            .map(Server::full)
            .sum();
        self.demand * self.case.life.max(1.0) / full
    }

    /// Plays the event.
    fn play_event(&mut self) {
        let last = self.servers.len() - 1;
        match self.case.event {
            Event::Cold | Event::Stale => {}
            Event::Step => {
                self.servers[last].capacity /= 2.0;
                self.servers[last].utilisation *= 2.0;
            }
            Event::Join => {
                let capacity = 225.0;
                self.servers.push(Server::new(last + 1, capacity, self.now));
                // The load stays the same.
            }
            Event::Leave => {
                let gone = &mut self.servers[last];
                gone.up = false;
                gone.utilisation = 0.0;
                let lost = std::mem::take(&mut gone.connections);
                gone.unanswered = 0.0;
                gone.closed = gone.opened;
                let rest: f64 = self.servers[..last].iter().map(Server::full).sum();
                // Its clients reconnect and are spread as the ring then is: by capacity.
                for server in &mut self.servers[..last] {
                    let back = self.random.poisson(lost * server.full() / rest);
                    server.connections += back;
                    server.opened += back as u64;
                    server.utilisation = server.connections / server.full();
                }
            }
        }
    }
}

/// Returns the shares that these weights get, and the ring if one is built.
fn split(weights: &[f64], servers: &[Server], quantisation: Quantisation) -> (Vec<f64>, Vec<u16>) {
    let slots = ring::default_slots(servers.len());
    let all: f64 = weights.iter().sum();
    match quantisation {
        Quantisation::Rounded => {
            let counts: Vec<f64> = weights
                .iter()
                .map(|weight| (weight / all * f64::from(slots)).round())
                .collect();
            let sum: f64 = counts.iter().sum();
            (counts.iter().map(|count| count / sum).collect(), Vec::new())
        }
        Quantisation::Ring => {
            let reals: Vec<(IpAddr, u32)> = servers
                .iter()
                .zip(weights)
                .map(|(server, weight)| (server.address, weight.round() as u32))
                .collect();
            let ring = ring::build(ring::Algorithm::Rendezvous, 7, slots, &reals);
            (ring::shares(&ring, servers.len()), ring)
        }
    }
}

/// Plays a case.
pub fn play(
    case: &Case,
    policy: Policy,
    settings: &Steering,
    seed: u64,
    quantisation: Quantisation,
) -> Trace {
    let mut simulation = Simulation::new(case, seed);
    let settings = Steering {
        shed_rate: case.shed,
        ..settings.clone()
    };
    let mut decider = Decider::new(policy, &settings);
    let mut trace = Trace {
        uneven: Vec::new(),
        moved: Vec::new(),
        subject: Vec::new(),
        first: 0.0,
        balanced: 0.0,
        shed: 0.0,
    };
    let warm = if case.warm() { WARM } else { 0 };
    let mut shares: Vec<f64> = Vec::new();
    let mut ring: Vec<u16> = Vec::new();
    for period in 0..warm + case.periods() {
        if period == warm {
            simulation.play_event();
            trace.balanced = simulation.balanced();
            let most = simulation
                .servers
                .iter()
                .map(|server| server.utilisation)
                .fold(0.0, f64::max);
            trace.first = most / trace.balanced;
        }
        let mut observations = simulation.observe();
        for (observation, share) in observations.iter_mut().zip(&shares) {
            observation.share = Some(*share);
        }
        let capacities: Vec<f64> = simulation
            .servers
            .iter()
            .map(|server| server.capacity)
            .collect();
        let now = Duration::from_secs_f64(simulation.now);
        let decided = decider.decide(now, &observations, &capacities);
        let weights: Vec<f64> = decided.iter().map(|decided| decided.weight).collect();
        let (next, slots) = split(&weights, &simulation.servers, quantisation);
        let moved = if ring.is_empty() || slots.is_empty() {
            shares
                .iter()
                .zip(&next)
                .map(|(a, b)| (a - b).abs())
                .sum::<f64>()
                / 2.0
        } else {
            let changed = ring.iter().zip(&slots).filter(|(a, b)| a != b).count();
            changed as f64 / slots.len() as f64
        };
        (shares, ring) = (next, slots);
        trace.shed += simulation.shed(&decided, &shares) / simulation.connections().max(1.0);
        simulation.period(&shares);
        if period >= warm {
            trace.moved.push(moved);
            let up = || simulation.servers.iter().filter(|server| server.up);
            let mean = up().map(|server| server.utilisation).sum::<f64>() / up().count() as f64;
            trace.uneven.push(simulation.uneven());
            let subject = simulation
                .servers
                .last()
                .map_or(0.0, |server| server.utilisation);
            trace.subject.push(subject / mean);
        }
    }
    trace
}
