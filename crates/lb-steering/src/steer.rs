//! From the law's shares to weights that may be had now.

use std::time::Duration;

use super::{
    controller::Controller,
    decision::Limit,
    law::{self, Holding},
    movement::{self, Move},
    observed::Sample,
    pool::{Entry, Real, mean_utilisation, used},
    shed::{self, Holder},
    spec::Kind,
};

/// A pool is uneven if a real has this much more than its share: then more may move.
const UNEVEN: f64 = 1.10;
/// A share that falls below this part of itself in a period was lowered.
const LOWERED: f64 = 0.97;
/// Parts of slow start that differ by less are the same.
const ALIKE: f64 = 0.98;
/// As long as an estimate gets better with every reading, it is followed more closely.
const LEARNING_DEADBAND: f64 = 0.01;
/// The deadband is no less than this many standard deviations of the estimate.
const DEADBAND_DEVIATIONS: f64 = 2.5;

/// What is due to a candidate.
struct Due {
    /// Its place in the pool.
    index: usize,
    /// The share that lasts.
    base: f64,
    /// The share of new flows now.
    wanted: f64,
    /// A bound holds its share.
    held: bool,
}

impl Due {
    /// What of it the real may have now.
    fn target(&self, entry: &Entry<'_>) -> f64 {
        self.wanted * entry.real.part
    }

    /// Shares of new flows, by what each may have.
    fn shares(due: &[Due], pool: &[Entry<'_>]) -> Vec<f64> {
        let targets = due.iter().map(|due| due.target(&pool[due.index]));
        law::normalised(targets.collect())
    }
}

impl Controller {
    /// Whether the operator's weights, or an agent's, are followed to the letter.
    fn literal(&self, pool: &[Entry<'_>]) -> bool {
        match self.spec.controller {
            Kind::Static | Kind::AgentCheck => true,
            Kind::Capacity => pool
                .iter()
                .all(|entry| entry.real.capacity.value().is_none() && entry.real.resumed.is_none()),
            Kind::Proportional => {
                self.life.long(&self.spec)
                    || pool
                        .iter()
                        .all(|entry| entry.observed.load.utilisation.is_none())
            }
            Kind::LeastConnections => !self.counts,
            Kind::Latency => pool.iter().all(|entry| entry.real.latency.is_none()),
        }
    }

    /// Moves weights to where they are to be.
    pub(super) fn steer(&mut self, now: Duration, pool: &mut [Entry<'_>]) {
        let candidates: Vec<usize> = (0..pool.len())
            .filter(|index| pool[*index].candidate())
            .collect();
        if candidates.is_empty() {
            return;
        }
        let all_base = self.base(pool);
        let literal = self.literal(pool);
        let base = law::normalised(candidates.iter().map(|index| all_base[*index]).collect());
        let (base, held) = if literal {
            let held = vec![false; base.len()];
            (base, held)
        } else {
            self.lasting(pool, &candidates, base)
        };
        let (wanted, uneven) = if literal {
            (base.clone(), false)
        } else {
            self.evened(pool, &candidates, &base)
        };
        self.shed(pool, &all_base);
        let due: Vec<Due> = candidates
            .iter()
            .zip(base.iter().zip(&wanted).zip(held))
            .map(|(index, ((base, wanted), held))| Due {
                index: *index,
                base: *base,
                wanted: *wanted,
                held,
            })
            .collect();
        self.limit(now, pool, &due);
        if literal {
            self.take_literally(pool, &due);
        } else {
            self.follow(now, pool, &due, uneven);
        }
    }

    /// The shares that last, once connections are even, by the controller's law: `base` is what reals are worth. And
    /// which of them a bound holds.
    fn lasting(
        &self,
        pool: &[Entry<'_>],
        candidates: &[usize],
        base: Vec<f64>,
    ) -> (Vec<f64>, Vec<bool>) {
        let of = |index: &usize| &pool[*index];
        let own = law::normalised(candidates.iter().map(|i| of(i).own()).collect());
        let shares = match self.spec.controller {
            Kind::Proportional => {
                let oldest = self.spec.stale_after();
                let mean = mean_utilisation(pool, oldest);
                let now: Vec<f64> = candidates
                    .iter()
                    .map(|i| of(i).real.weight / of(i).real.part)
                    .collect();
                let multiple = candidates.iter().map(|i| {
                    let utilisation = Sample::fresh(of(i).observed.load.utilisation, oldest);
                    match (utilisation, mean) {
                        (Some(own), Some(mean)) if mean >= self.spec.no_signal => {
                            law::proportional(&self.spec, mean, own)
                        }
                        _ => 1.0,
                    }
                });
                law::normalised(now.iter().zip(multiple).map(|(a, b)| a * b).collect())
            }
            Kind::Latency => {
                let known = candidates
                    .iter()
                    .filter_map(|i| of(i).real.latency)
                    .collect();
                let median = law::median(known).unwrap_or(0.0);
                let weights = candidates.iter().zip(&own).map(|(i, own)| {
                    own * of(i)
                        .real
                        .latency
                        .map_or(1.0, |own| law::latency(median, own))
                });
                law::normalised(weights.collect())
            }
            _ => base,
        };
        law::bounded(&self.spec, shares, &own)
    }

    /// The shares of new flows that lead to `base`: other ones as long as connections are to be evened out. And whether
    /// any real is far off.
    fn evened(
        &self,
        pool: &mut [Entry<'_>],
        candidates: &[usize],
        base: &[f64],
    ) -> (Vec<f64>, bool) {
        let evens = match self.spec.controller {
            Kind::Capacity => self.life.long(&self.spec),
            Kind::LeastConnections => true,
            _ => false,
        };
        let connections: Vec<Option<f64>> = candidates
            .iter()
            .map(|i| pool[*i].real.traffic.connections())
            .collect();
        if !self.counts || !evens || connections.iter().all(Option::is_none) {
            return (base.to_vec(), false);
        }
        // One that never had a flow has none.
        let connections: Vec<f64> = connections
            .iter()
            .map(|count| count.unwrap_or(0.0))
            .collect();
        self.even_out(pool, candidates, base, &connections)
    }

    /// Notes the part of what is due to it that each may have now, and what limits it.
    fn limit(&self, now: Duration, pool: &mut [Entry<'_>], due: &[Due]) {
        // What is scarce is so until it is read that it is not, or nothing is read for long.
        let oldest = self.spec.stale_after().max(self.spec.fade_after);
        // Where all are eased in alike nobody is held back by it.
        let furthest = due
            .iter()
            .map(|due| pool[due.index].real.standing.slow_start(&self.spec, now))
            .fold(0.0, f64::max);
        for due in due {
            let entry = &mut pool[due.index];
            let slow = entry.real.standing.slow_start(&self.spec, now);
            let (guard, overload) = if self.spec.controller == Kind::Static {
                (1.0, 1.0)
            } else {
                let used = used(&entry.observed.load, oldest);
                (law::guard(&self.spec, used), entry.real.overload.part)
            };
            let stale = self.staleness(now, entry);
            entry.real.limit = if overload < 1.0 {
                Some(Limit::Overload(overload))
            } else if guard < 1.0 {
                Some(Limit::Guard(guard))
            } else if slow < furthest * ALIKE {
                Some(Limit::SlowStart(slow))
            } else if self.spec.controller == Kind::Proportional && self.life.long(&self.spec) {
                Some(Limit::Refused)
            } else if entry.real.shed > 0 {
                Some(Limit::Shedding(entry.real.shed))
            } else if due.held {
                Some(Limit::Bound)
            } else if due.wanted < due.base * 0.99 && entry.real.evening {
                Some(Limit::Surplus)
            } else {
                stale.map(Limit::Stale)
            };
            entry.real.part = slow * guard * overload;
        }
    }

    /// Gives the operator's weights, or an agent's, and what the parts leave of them, at once.
    fn take_literally(&self, pool: &mut [Entry<'_>], due: &[Due]) {
        let goes_on = pool.iter().any(|entry| entry.real.resumed.is_some());
        let by_letter = matches!(self.spec.controller, Kind::Static | Kind::AgentCheck);
        if goes_on && !by_letter {
            // Nothing was read yet: what the last controller found stands.
            return;
        }
        for (due, share) in due.iter().zip(Due::shares(due, pool)) {
            let entry = &mut pool[due.index];
            let asked = if self.spec.controller == Kind::AgentCheck {
                entry.asked()
            } else {
                1.0
            };
            // In the operator's unit: where the part is 1 this is the weight itself.
            let part = due.target(entry) / due.base.max(f64::MIN_POSITIVE);
            entry.real.weight = entry.own() * part * asked;
            entry.real.grain = 0.0;
            entry.real.wanted = share;
        }
    }

    /// Moves weights towards what is due, as fast as the ring may move.
    fn follow(&self, now: Duration, pool: &mut [Entry<'_>], due: &[Due], uneven: bool) {
        let shares = Due::shares(due, pool);
        let strain = |index: usize| {
            let capacity = pool[index].real.capacity.value()?;
            Some(self.carried(&pool[index], now)? / capacity)
        };
        let strains: Vec<f64> = due.iter().filter_map(|due| strain(due.index)).collect();
        let most_strained = strains.iter().copied().fold(0.0, f64::max);
        let mean = strains.iter().sum::<f64>() / strains.len().max(1) as f64;
        let uneven = uneven || most_strained > mean * UNEVEN;
        let long = self.life.long(&self.spec);
        let moves: Vec<Move> = due
            .iter()
            .zip(&shares)
            .map(|(due, share)| {
                let real = &pool[due.index].real;
                Move {
                    has: real.weight,
                    wanted: *share,
                    lasting: if long { due.base * real.part } else { 0.0 },
                    strain: strain(due.index).map_or(1.0, |strain| strain / mean),
                    deadband: self.deadband(real),
                }
            })
            .collect();
        let step = match self.spec.controller {
            Kind::Proportional | Kind::Latency => self.spec.small_step,
            _ => self.spec.step,
        };
        let most = movement::allowance(&self.spec, most_strained, uneven);
        let down = if long { f64::INFINITY } else { step };
        let moved = movement::movement(&moves, (step, down), most);
        for ((due, share), moved) in due.iter().zip(shares).zip(moved) {
            let real = &mut pool[due.index].real;
            real.wanted = share;
            if moved.share < moved.before * LOWERED {
                real.lowered = Some(now);
            }
            real.weight = moved.has;
            if moved.behind && real.limit.is_none() {
                real.limit = Some(Limit::Movement);
            }
        }
    }

    /// By how much of itself a real's share may be off before it is moved.
    fn deadband(&self, real: &Real) -> f64 {
        match self.spec.controller {
            // Its steps are this much smaller than what is wrong.
            Kind::Proportional => self.spec.deadband * self.spec.exponent,
            Kind::Capacity if real.capacity.learning(&self.spec) => {
                self.spec.deadband.min(LEARNING_DEADBAND)
            }
            _ => self
                .spec
                .deadband
                .max(DEADBAND_DEVIATIONS * real.capacity.uncertainty(&self.spec)),
        }
    }

    /// Shares of new flows that bring connections to their shares; and whether any is far off.
    fn even_out(
        &self,
        pool: &mut [Entry<'_>],
        candidates: &[usize],
        base: &[f64],
        connections: &[f64],
    ) -> (Vec<f64>, bool) {
        let total: f64 = connections.iter().sum();
        let life = self.life.seconds(&self.spec);
        let mut uneven = false;
        let wanted = candidates
            .iter()
            .zip(base)
            .zip(connections)
            .map(|((index, share), connections)| {
                let real = &mut pool[*index].real;
                let holding = Holding {
                    share: *share,
                    connections: *connections,
                    uncertainty: if self.spec.controller == Kind::Capacity {
                        real.capacity.uncertainty(&self.spec)
                    } else {
                        0.0
                    },
                    evening: real.evening,
                    reckoned: real.traffic.reckoned(),
                };
                let (multiple, off) = law::deficit(&self.spec, holding, total, life);
                real.evening = off;
                uneven |= off;
                share * multiple
            })
            .collect();
        (law::normalised(wanted), uneven)
    }

    /// Plans what is to be ended until the next period. Those that are drained by load are among them: they have
    /// the most to give.
    fn shed(&mut self, pool: &mut [Entry<'_>], base: &[f64]) {
        if self.spec.shed_rate <= 0.0 {
            return;
        }
        let among: Vec<usize> = (0..pool.len())
            .filter(|index| matches!(pool[*index].barred, None | Some(Limit::OverloadDrain)))
            .collect();
        let counts: Vec<Option<f64>> = among
            .iter()
            .map(|index| pool[*index].real.traffic.connections())
            .collect();
        if counts.iter().all(Option::is_none) {
            return;
        }
        let own = law::normalised(among.iter().map(|index| pool[*index].own()).collect());
        let base = law::normalised(among.iter().map(|index| base[*index]).collect());
        let (shares, _) = law::bounded(&self.spec, base, &own);
        let takes = |entry: &Entry<'_>| match entry.barred {
            None => entry.real.weight,
            Some(_) => 0.0,
        };
        let all: f64 = among.iter().map(|index| takes(&pool[*index])).sum();
        let holders: Vec<Holder> = among
            .iter()
            .zip(shares)
            .zip(counts)
            .map(|((index, due), count)| {
                let takes = takes(&pool[*index]) / all.max(f64::MIN_POSITIVE);
                let real = &mut pool[*index].real;
                // One that came later than the others' connections has never got a flow to be counted by.
                let has = count.unwrap_or(0.0);
                Holder {
                    has,
                    gained: real.held.replace(has).map(|held| has - held),
                    due,
                    takes,
                    shedding: real.shedding,
                }
            })
            .collect();
        let flows = shed::plan(&self.spec, &holders, &mut self.shed_rest);
        for (index, flows) in among.iter().zip(flows) {
            let real = &mut pool[*index].real;
            real.shedding = flows.is_some();
            real.shed = flows.unwrap_or_default();
        }
    }

    /// How old what was learned is, once that is stale.
    fn staleness(&self, now: Duration, entry: &Entry<'_>) -> Option<Duration> {
        if self.spec.controller != Kind::Capacity {
            return None;
        }
        let heard = entry.real.capacity.heard()?;
        let age = now.saturating_sub(heard);
        (age > self.spec.stale_after()).then_some(age)
    }
}
