//! From the law's shares to weights that may be had now.

use std::time::Duration;

use super::{
    controller::Controller,
    decision::Limit,
    law::{self, Holding},
    movement::{self, Move},
    observed::Sample,
    pool::{Entry, agent_part, mean_utilisation, used},
    shed,
    spec::Kind,
};

/// A pool is uneven if a real has this much more than its share: then more may move.
const UNEVEN: f64 = 1.10;
/// A share that falls below this part of itself in a period was lowered.
const LOWERED: f64 = 0.97;
/// The deadband is no less than this many standard deviations of the estimate.
const DEADBAND_DEVIATIONS: f64 = 2.5;

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
        let oldest = self.spec.period * self.spec.stale_periods;
        let all_base = self.base(pool);
        let literal = self.literal(pool);
        let mean = mean_utilisation(pool, oldest);
        let candidates: Vec<usize> = (0..pool.len())
            .filter(|index| pool[*index].candidate())
            .collect();
        if candidates.is_empty() {
            return;
        }
        let of = |index: &usize| &pool[*index];
        let own = law::normalised(candidates.iter().map(|i| of(i).own()).collect());
        let mut base = law::normalised(candidates.iter().map(|index| all_base[*index]).collect());
        if !literal {
            match self.spec.controller {
                Kind::Proportional => {
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
                    base = law::normalised(now.iter().zip(multiple).map(|(a, b)| a * b).collect());
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
                    base = law::normalised(weights.collect());
                }
                _ => {}
            }
        }
        let (base, held) = if literal {
            let held = vec![false; base.len()];
            (base, held)
        } else {
            law::bounded(&self.spec, base, &own)
        };
        let connections: Option<Vec<f64>> = candidates
            .iter()
            .map(|i| of(i).real.traffic.connections())
            .collect();
        let evens = match self.spec.controller {
            Kind::Capacity => self.life.long(&self.spec),
            Kind::LeastConnections => true,
            _ => false,
        };
        let (wanted, uneven) = match connections.as_deref() {
            Some(connections) if self.counts && evens && !literal => {
                self.even_out(pool, &candidates, &base, connections)
            }
            _ => (base.clone(), false),
        };
        self.shed(pool, &candidates, &base, connections.as_deref());
        let mut targets = Vec::with_capacity(candidates.len());
        for (place, index) in candidates.iter().enumerate() {
            let entry = &mut pool[*index];
            let slow = entry.real.standing.slow_start(&self.spec, now);
            let guard = law::guard(&self.spec, used(&entry.observed.load, oldest));
            let overload = if self.spec.controller == Kind::Static {
                1.0
            } else {
                entry.real.overload.part
            };
            let stale = self.staleness(now, entry);
            entry.real.limit = if overload < 1.0 {
                Some(Limit::Overload(overload))
            } else if guard < 1.0 {
                Some(Limit::Guard(guard))
            } else if slow < 1.0 {
                Some(Limit::SlowStart(slow))
            } else if self.spec.controller == Kind::Proportional && self.life.long(&self.spec) {
                Some(Limit::Refused)
            } else if held[place] {
                Some(Limit::Bound)
            } else if wanted[place] < base[place] * 0.99 && entry.real.evening {
                Some(Limit::Surplus)
            } else {
                stale.map(Limit::Stale)
            };
            entry.real.part = slow * guard * overload;
            targets.push(wanted[place] * entry.real.part);
        }
        let plain: Vec<f64> = candidates
            .iter()
            .zip(&targets)
            .zip(&base)
            .map(|((index, target), base)| {
                // In the operator's unit: where the part is 1 this is the weight itself.
                pool[*index].own()
                    * (target / base.max(f64::MIN_POSITIVE))
                    * if self.spec.controller == Kind::AgentCheck {
                        agent_part(&pool[*index].observed.load)
                    } else {
                        1.0
                    }
            })
            .collect();
        let shares = law::normalised(targets);
        for (index, share) in candidates.iter().zip(&shares) {
            pool[*index].real.wanted = *share;
        }
        if literal {
            for (index, weight) in candidates.iter().zip(plain) {
                pool[*index].real.weight = weight;
                pool[*index].real.grain = 0.0;
            }
            return;
        }
        let strains: Vec<f64> = candidates
            .iter()
            .filter_map(|i| {
                let capacity = pool[*i].real.capacity.value()?;
                Some(self.carried(&pool[*i], now)? / capacity)
            })
            .collect();
        let most_strained = strains.iter().copied().fold(0.0, f64::max);
        let mean = strains.iter().sum::<f64>() / strains.len().max(1) as f64;
        let uneven = uneven || most_strained > mean * UNEVEN;
        let moves: Vec<Move> = candidates
            .iter()
            .zip(&shares)
            .map(|(index, share)| {
                let real = &pool[*index].real;
                Move {
                    has: real.weight,
                    wanted: *share,
                    deadband: match self.spec.controller {
                        // Its steps are this much smaller than what is wrong.
                        Kind::Proportional => self.spec.deadband * self.spec.exponent,
                        _ => self
                            .spec
                            .deadband
                            .max(DEADBAND_DEVIATIONS * real.capacity.uncertainty(&self.spec)),
                    },
                }
            })
            .collect();
        let step = match self.spec.controller {
            Kind::Proportional | Kind::Latency => self.spec.small_step,
            _ => self.spec.step,
        };
        let most = movement::allowance(&self.spec, most_strained, uneven);
        for (index, moved) in candidates
            .iter()
            .zip(movement::movement(&moves, step, most))
        {
            let real = &mut pool[*index].real;
            if moved.share < moved.before * LOWERED {
                real.lowered = Some(now);
            }
            real.weight = moved.has;
            if moved.behind && real.limit.is_none() {
                real.limit = Some(Limit::Movement);
            }
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
                };
                let (multiple, off) = law::deficit(&self.spec, holding, total, life);
                real.evening = off;
                uneven |= off;
                share * multiple
            })
            .collect();
        (law::normalised(wanted), uneven)
    }

    fn shed(
        &self,
        pool: &mut [Entry<'_>],
        candidates: &[usize],
        base: &[f64],
        connections: Option<&[f64]>,
    ) {
        let Some(connections) = connections.filter(|_| self.spec.shed_rate > 0.0) else {
            return;
        };
        let holdings: Vec<(f64, f64)> = connections
            .iter()
            .copied()
            .zip(base.iter().copied())
            .collect();
        for (index, shed) in candidates.iter().zip(shed::plan(&self.spec, &holdings)) {
            pool[*index].real.shed = shed;
        }
    }

    /// How old what was learned is, once that is stale.
    fn staleness(&self, now: Duration, entry: &Entry<'_>) -> Option<Duration> {
        if self.spec.controller != Kind::Capacity {
            return None;
        }
        let heard = entry.real.capacity.heard()?;
        let age = now.saturating_sub(heard);
        (age > self.spec.period * self.spec.stale_periods).then_some(age)
    }
}
