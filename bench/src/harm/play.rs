//! Plays a situation, event by event.

use lb_steering::{LIFE_BUCKETS, LimitedBy};

use super::{
    clients::{Attempt, Waiting},
    policy::{Decider, Policy},
    readings::Readings,
    scenario::Scenario,
    server::{Condition, PERIOD, Server},
};
use crate::random::Random;

pub use super::server::BACKLOG;

/// An answer that takes longer than this, in seconds, is late. It is 10 to 50 times what a request takes unloaded.
pub const LATE: f64 = 1.0;
/// Conditions, and the rates of arrivals, are constant for this long, seconds.
const TICK: f64 = 1.0;
const TICKS_PER_PERIOD: u64 = (PERIOD / TICK) as u64;
/// Work of a connect, as a multiple of a request's.
const CONNECT_WORK: f64 = 0.25;
/// Long-lived connections that a server of one processor carries at utilisation 1.
const CONNECTIONS: f64 = 1_000.0;
/// SYNs that a client sends before it gives up.
const SYNS: u8 = 3;
/// Time in which the clients of a dead server reconnect, and after which they try again.
const RECONNECT_WITHIN: f64 = 10.0;
const RECONNECT_AGAIN: f64 = 5.0;
/// The data plane looks at one in this many flows.
const SAMPLED: f64 = 8.0;
/// Part of the clients that end a flow whose answer is late with a reset.
const IMPATIENT: f64 = 0.5;
/// Unit of the buckets of lives, seconds.
const LIFE_UNIT: f64 = (1 << 20) as f64 * 1e-9;

/// What became of the requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// All that count.
    pub requests: f64,
    /// Those without an answer, or with an error.
    pub lost: f64,
    /// Those that were answered late.
    pub late: f64,
}

impl Outcome {
    /// Lost requests in percent.
    pub fn lost_percent(&self) -> f64 {
        self.lost / self.requests.max(1.0) * 100.0
    }

    /// Late requests in percent.
    pub fn late_percent(&self) -> f64 {
        self.late / self.requests.max(1.0) * 100.0
    }
}

/// A period as it was played.
#[derive(Clone, Debug)]
pub struct Period {
    /// Its begin, seconds after the warm-up.
    pub at: f64,
    /// The shares in force.
    pub shares: Vec<f64>,
    /// The last readings of utilisation.
    pub utilisation: Vec<Option<f64>>,
    /// Connections.
    pub connections: Vec<f64>,
    /// What became of its requests.
    pub outcome: Outcome,
    /// What limits each server, by its number, where steering decides.
    pub limits: Vec<(usize, LimitedBy)>,
}

struct Play<'a> {
    scenario: &'a Scenario,
    policy: Policy,
    random: Random,
    servers: Vec<Server>,
    readings: Vec<Readings>,
    /// Connections of dead servers, whose clients do not know yet.
    orphans: Vec<f64>,
    waiting: Waiting,
    decider: Decider,
    shares: Vec<f64>,
    share_edges: Vec<f64>,
    connection_edges: Vec<f64>,
    /// Mean work of a request, seconds of a processor.
    work: f64,
    /// Long-lived connections of the whole pool.
    population: f64,
    /// Requests a second of a long-lived connection.
    request_rate: f64,
    /// What counts, and what this period adds to it.
    outcome: Outcome,
    period: Outcome,
}

/// Mean work of a request: requests are so short that a pool answers enough of them, and not so short that they take
/// long to simulate.
fn work(scenario: &Scenario, size: f64) -> f64 {
    let rate = match scenario.reals {
        0..=8 => 1_500.0,
        9..=40 => 2_500.0,
        _ => 4_000.0,
    };
    let slower = if scenario.life >= 600.0 { 0.4 } else { 1.0 };
    size / (rate * slower)
}

fn edges(values: impl Iterator<Item = f64>, edges: &mut Vec<f64>) {
    edges.clear();
    let mut sum = 0.0;
    edges.extend(values.map(|value| {
        sum += value;
        sum
    }));
}

fn bucket(life: f64) -> usize {
    let units = life / LIFE_UNIT;
    let bucket = if units < 1.0 {
        0
    } else {
        units.log2() as usize + 1
    };
    bucket.min(LIFE_BUCKETS - 1)
}

impl<'a> Play<'a> {
    fn new(scenario: &'a Scenario, policy: Policy, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let records_waiting = policy == Policy::LeastConnections && scenario.life == 0.0;
        let mut servers: Vec<Server> = (0..scenario.reals)
            .map(|number| {
                let condition = Condition::at(scenario, number, -scenario.warm);
                Server::new(scenario.size(number), condition, records_waiting)
            })
            .collect();
        let size: f64 = servers.iter().map(|server| server.size as f64).sum();
        let work = work(scenario, size);
        let population = scenario.load * size * CONNECTIONS;
        let request_rate = if scenario.life > 0.0 {
            1.0 / (work * CONNECTIONS) - CONNECT_WORK / scenario.life
        } else {
            0.0
        };
        if scenario.life > 0.0 {
            // The pool has run for long with the operator's weights.
            let weight = |number: usize, server: &Server| {
                if server.capacity() > 0.0 {
                    f64::from(scenario.weight(number))
                } else {
                    0.0
                }
            };
            let weights: Vec<f64> = servers
                .iter()
                .enumerate()
                .map(|(number, server)| weight(number, server))
                .collect();
            let all: f64 = weights.iter().sum();
            for (server, weight) in servers.iter_mut().zip(weights) {
                server.connections = random.poisson(population * weight / all);
                server.opened = server.connections as u64;
            }
        }
        Play {
            scenario,
            policy,
            random,
            readings: servers.iter().map(|_| Readings::new()).collect(),
            orphans: vec![0.0; servers.len()],
            servers,
            waiting: Waiting::default(),
            decider: Decider::new(policy),
            shares: Vec::new(),
            share_edges: Vec::new(),
            connection_edges: Vec::new(),
            work,
            population,
            request_rate,
            outcome: Outcome::default(),
            period: Outcome::default(),
        }
    }

    /// The demand at a time, in requests a second, as long as connections are balanced.
    fn demand(&self, at: f64) -> f64 {
        let size: f64 = self.servers.iter().map(|server| server.size as f64).sum();
        self.scenario.load * size / self.work * self.scenario.demand.at(at)
    }

    /// Counts a request that began at `first`.
    fn count(&mut self, first: f64, requests: f64, lost: bool, late: bool) {
        self.period.requests += requests;
        self.period.lost += if lost { requests } else { 0.0 };
        self.period.late += if late { requests } else { 0.0 };
        if first >= self.scenario.warm {
            self.outcome.requests += requests;
            self.outcome.lost += if lost { requests } else { 0.0 };
            self.outcome.late += if late { requests } else { 0.0 };
        }
    }

    /// The requests that are lost with a flow which is not opened.
    fn requests_of_flow(&self, now: f64) -> f64 {
        let left = self.scenario.warm + self.scenario.length - now;
        let life = self.scenario.life;
        if life > 0.0 {
            1.0 + self.request_rate * life * (1.0 - (-left.max(0.0) / life).exp())
        } else {
            1.0
        }
    }

    fn pick(&mut self, now: f64) -> Option<usize> {
        let last = *self.share_edges.last()?;
        if last <= 0.0 {
            return None;
        }
        if self.policy == Policy::LeastConnections {
            return self.least_connections(now);
        }
        let draw = self.random.unit() * last;
        let chosen = self.share_edges.partition_point(|edge| *edge < draw);
        Some(chosen.min(self.servers.len() - 1))
    }

    fn least_connections(&mut self, now: f64) -> Option<usize> {
        let long_lived = self.scenario.life > 0.0;
        let mut least = (None, f64::INFINITY);
        // Ties must not all go to the first.
        let start = (self.random.unit() * self.servers.len() as f64) as usize;
        for offset in 0..self.servers.len() {
            let number = (start + offset) % self.servers.len();
            let share = self.shares[number];
            if share > 0.0 {
                let server = &mut self.servers[number];
                let flows = if long_lived {
                    server.connections
                } else {
                    server.in_flight(now) as f64
                };
                if flows / share < least.1 {
                    least = (Some(number), flows / share);
                }
            }
        }
        least.0
    }

    /// A client sends a SYN.
    fn attempt(&mut self, mut attempt: Attempt) {
        let now = attempt.at;
        let known = attempt.server.filter(|number| self.readings[*number].up);
        let Some(number) = known.or_else(|| self.pick(now)) else {
            self.give_up(attempt);
            return;
        };
        attempt.server = Some(number);
        let long_lived = self.scenario.life > 0.0;
        let server = &mut self.servers[number];
        let signs = &mut self.readings[number].signs;
        server.opened += 1;
        if attempt.sampled {
            signs.opened += u64::from(attempt.repeats == 0);
            signs.repeated += u64::from(attempt.repeats > 0);
        }
        let condition = server.condition;
        let fails = condition.errors > 0.0 && self.random.unit() <= condition.errors;
        let mut work = self.work * self.random.exponential();
        work *= if long_lived { CONNECT_WORK } else { 1.0 };
        work *= if fails { condition.error_work } else { 1.0 };
        let Some(done) = server.offer(now, work) else {
            if attempt.repeats + 1 < SYNS {
                attempt.at = now + f64::from(1_u32 << attempt.repeats);
                attempt.repeats += 1;
                self.waiting.add(attempt);
            } else {
                self.give_up(attempt);
            }
            return;
        };
        server.answers += 1;
        server.errors += u32::from(fails);
        let late = done - attempt.first > LATE;
        if fails || !long_lived {
            server.closed += 1;
            if attempt.sampled {
                signs.lives[bucket(done - now)] += 1;
                let impatient = late && self.random.unit() <= IMPATIENT;
                signs.resets += u64::from(impatient);
            }
        } else {
            server.connections += 1.0;
        }
        if fails {
            self.give_up(attempt);
        } else {
            self.count(attempt.first, 1.0, false, late);
        }
    }

    fn give_up(&mut self, attempt: Attempt) {
        if attempt.persists {
            self.count(attempt.first, 1.0, true, false);
            let again = attempt.at + RECONNECT_AGAIN;
            self.waiting.add(Attempt {
                at: again,
                first: again,
                server: None,
                repeats: 0,
                ..attempt
            });
        } else {
            let requests = self.requests_of_flow(attempt.at);
            self.count(attempt.first, requests, true, false);
        }
    }

    /// A client makes a request on a connection.
    fn request(&mut self, now: f64) {
        let Some(all) = self.connection_edges.last() else {
            return;
        };
        let draw = self.random.unit() * all;
        let chosen = self.connection_edges.partition_point(|edge| *edge < draw);
        let server = &mut self.servers[chosen.min(self.connection_edges.len() - 1)];
        let condition = server.condition;
        let fails = condition.errors > 0.0 && self.random.unit() <= condition.errors;
        let factor = if fails { condition.error_work } else { 1.0 };
        let done = server.offer(now, self.work * self.random.exponential() * factor);
        if done.is_some() {
            server.answers += 1;
            server.errors += u32::from(fails);
        }
        let lost = fails || done.is_none();
        let late = !lost && done.is_some_and(|done| done - now > LATE);
        self.count(now, 1.0, lost, late);
    }

    /// Applies the faults of this time.
    fn apply_faults(&mut self, now: f64) {
        for number in 0..self.servers.len() {
            let server = &mut self.servers[number];
            let before = server.condition;
            server.condition = Condition::at(self.scenario, number, now - self.scenario.warm);
            if server.condition.dead && !before.dead {
                self.orphans[number] += std::mem::take(&mut server.connections);
                server.die();
            }
            let noticed = self.readings[number].check(now, server);
            if noticed {
                server.closed = server.opened;
            }
            if noticed || !server.condition.dead {
                let orphans = std::mem::take(&mut self.orphans[number]);
                for _ in 0..orphans as u64 {
                    let at = now + RECONNECT_WITHIN * self.random.unit();
                    self.waiting.add(Attempt {
                        at,
                        first: at,
                        server: None,
                        repeats: 0,
                        sampled: self.random.unit() * SAMPLED <= 1.0,
                        persists: true,
                    });
                }
            }
        }
    }

    /// Connections end, and those of dead servers lose requests.
    fn end_connections(&mut self, now: f64, times: f64) {
        let life = self.scenario.life;
        for number in 0..self.servers.len() {
            let server = &mut self.servers[number];
            let ends = self
                .random
                .poisson(server.connections * TICK / life)
                .min(server.connections);
            server.connections -= ends;
            server.closed += ends as u64;
            let signs = &mut self.readings[number].signs;
            for _ in 0..self.random.poisson(ends / SAMPLED) as u64 {
                signs.lives[bucket(life * self.random.exponential())] += 1;
            }
            let lost = self.orphans[number] * self.request_rate * times * TICK;
            if lost > 0.0 {
                self.count(now, lost, true, false);
            }
        }
        let connections = self.servers.iter().map(|server| server.connections);
        edges(connections, &mut self.connection_edges);
    }

    fn decide(&mut self, now: f64) {
        let observations: Vec<_> = self
            .readings
            .iter_mut()
            .zip(&self.servers)
            .enumerate()
            .filter(|(_, (_, server))| !server.condition.absent)
            .map(|(number, (readings, server))| {
                let share = self.shares.get(number).copied();
                let observation = readings.observe(self.scenario, now, number, server, share);
                (number, observation)
            })
            .collect();
        let demand = self.demand(now - self.scenario.warm) * self.work;
        let decider = &mut self.decider;
        self.shares = decider.decide(self.scenario, now, demand, &self.servers, &observations);
        edges(self.shares.iter().copied(), &mut self.share_edges);
    }

    /// Plays the time until the conditions may change.
    fn tick(&mut self, now: f64) {
        let at = now - self.scenario.warm;
        let times = self.scenario.demand.at(at);
        let long_lived = self.scenario.life > 0.0;
        let (flows, requests) = if long_lived {
            self.end_connections(now, times);
            let connections = self.connection_edges.last().copied().unwrap_or(0.0);
            (
                self.population / self.scenario.life * times,
                connections * self.request_rate * times,
            )
        } else {
            (self.demand(at), 0.0)
        };
        let (rate, end) = (flows + requests, now + TICK);
        let mut clock = now;
        loop {
            // Poisson arrivals have no memory, so the next tick draws again.
            clock += self.random.exponential() / rate;
            while let Some(attempt) = self.waiting.take_before(clock.min(end)) {
                self.attempt(attempt);
            }
            if clock >= end {
                return;
            }
            if long_lived && self.random.unit() * rate > flows {
                self.request(clock);
                continue;
            }
            let sampled = self.random.unit() * SAMPLED <= 1.0;
            self.attempt(Attempt {
                at: clock,
                first: clock,
                server: None,
                repeats: 0,
                sampled,
                persists: false,
            });
        }
    }

    fn read(&mut self, now: f64) {
        for (readings, server) in self.readings.iter_mut().zip(&mut self.servers) {
            readings.read(self.scenario, now, server, self.work, &mut self.random);
        }
    }

    fn end_period(&mut self, begin: f64) -> Period {
        Period {
            limits: self.decider.limits.clone(),
            at: begin - self.scenario.warm,
            shares: self.shares.clone(),
            utilisation: self.readings.iter().map(Readings::utilisation).collect(),
            connections: self
                .servers
                .iter()
                .map(|server| server.connections)
                .collect(),
            outcome: std::mem::take(&mut self.period),
        }
    }
}

/// Plays a situation under a policy.
pub fn play(scenario: &Scenario, policy: Policy, seed: u64) -> Outcome {
    play_watched(scenario, policy, seed, |_| {})
}

/// Plays a situation under a policy and shows each period.
pub fn play_watched(
    scenario: &Scenario,
    policy: Policy,
    seed: u64,
    mut watch: impl FnMut(&Period),
) -> Outcome {
    let mut play = Play::new(scenario, policy, seed);
    let ticks = ((scenario.warm + scenario.length) / TICK) as u64;
    let middle = (scenario.warm + scenario.length / 2.0) / PERIOD;
    for tick in 0..ticks {
        let now = tick as f64 * TICK;
        play.apply_faults(now);
        if tick % TICKS_PER_PERIOD == 0 {
            if scenario.restart && tick / TICKS_PER_PERIOD == middle as u64 {
                play.decider.restart(now);
            }
            play.decide(now);
        }
        play.tick(now);
        if (tick + 1) % TICKS_PER_PERIOD == 0 {
            play.read(now + TICK);
            watch(&play.end_period(now + TICK - PERIOD));
        }
    }
    play.outcome
}
