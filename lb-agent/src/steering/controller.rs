//! One VIP's steering, from what is observed to weights.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{
    capacity::Capacity,
    decision::{Decision, Limit},
    law::{self, Holding},
    life::Life,
    movement::{self, Move},
    observed::{Load, Observed, Sample},
    overload::Overload,
    scale::Scale,
    shed,
    spec::{Kind, Steering},
    standing::Standing,
    traffic::Traffic,
};

/// A period is due this part of it early: timers are not exact.
const EARLY: f64 = 0.05;
/// A real that carries less than this part of the mean says nothing of its capacity.
const LEAST_CARRIED: f64 = 0.01;
/// A pool is uneven if a real has this much more than its share: then more may move.
const UNEVEN: f64 = 1.10;
/// A share that falls below this part of itself in a period was lowered.
const LOWERED: f64 = 0.97;
/// The deadband is no less than this many standard deviations of the estimate.
const DEADBAND_DEVIATIONS: f64 = 2.5;

/// A share of the ring that is off by more than this part is corrected, ...
const GRAIN: f64 = 0.015;
/// ... or by more than this part of the ring: two slots of the smallest that is chosen by itself.
const SLOTS: f64 = 2.0 / 4_096.0;
/// Logarithm of the most that a weight is corrected by.
const MOST_GRAIN: f64 = 0.2;
/// Shares of a ring add up to 1, but for this.
const WHOLE: f64 = 1e-6;

/// The least and the most an agent can make of its weight.
const LEAST_OF_WEIGHT: f64 = 0.001;
/// See [`LEAST_OF_WEIGHT`].
const MOST_OF_WEIGHT: f64 = 10.0;

/// Decides the weights of one VIP's reals. Reals are known by address, and may come and go.
#[derive(Debug)]
pub struct Controller {
    spec: Steering,
    reals: BTreeMap<IpAddr, Real>,
    /// When the last period was.
    decided: Option<Duration>,
    started: bool,
    life: Life,
    /// Capacity is counted in connections, not in new flows a second.
    counts: bool,
    scale: Scale,
}

/// What is remembered of a real.
#[derive(Debug, Default)]
struct Real {
    standing: Standing,
    traffic: Traffic,
    capacity: Capacity,
    overload: Overload,
    /// Peak of the probes' round trip, seconds.
    latency: Option<f64>,
    /// New flows are making up for a difference in connections.
    evening: bool,
    /// When its share was lowered.
    lowered: Option<Duration>,
    /// Weight before it is rounded, in the operator's unit; 0: it has none.
    weight: f64,
    /// Logarithm of what the weight is multiplied by so that the ring's grain gives it its share.
    grain: f64,
    /// The operator's weight that `weight` goes with.
    own: u32,
    /// The part of its share that slow start, guards and overload leave, the last time.
    part: f64,
    wanted: f64,
    limit: Option<Limit>,
    shed: u32,
}

/// A real in a step.
struct Entry<'a> {
    observed: &'a Observed,
    real: Real,
    /// Why it may have nothing.
    barred: Option<Limit>,
}

impl Entry<'_> {
    fn own(&self) -> f64 {
        f64::from(self.observed.weight)
    }

    fn candidate(&self) -> bool {
        self.barred.is_none()
    }
}

impl Controller {
    /// Knows nothing yet. The specification is valid.
    #[must_use]
    pub fn new(spec: Steering) -> Self {
        Controller {
            spec,
            reals: BTreeMap::new(),
            decided: None,
            started: false,
            life: Life::default(),
            counts: false,
            scale: Scale::default(),
        }
    }

    /// Other constants from now on; what was learned stays.
    pub fn set_spec(&mut self, spec: Steering) {
        self.spec = spec;
    }

    /// Mean life of a connection, once it is known.
    #[must_use]
    pub fn life(&self) -> Option<Duration> {
        self.life.time(&self.spec)
    }

    /// Decides. To be called once a period, and at once when health, a drain or a weight changed: what is
    /// learned from readings, and what follows from load, changes once a period only, however often this is
    /// called. `now` is monotonic, since any epoch. Decisions are in the order of `observed`; of several
    /// entries with one address only the first counts.
    pub fn step(&mut self, now: Duration, observed: &[Observed]) -> Vec<Decision> {
        let mut seen = BTreeSet::new();
        let mut pool: Vec<Entry<'_>> = observed
            .iter()
            .filter(|observed| seen.insert(observed.address))
            .map(|observed| {
                let mut real = self.reals.remove(&observed.address).unwrap_or_default();
                let barred = real.standing.observe(&self.spec, now, observed);
                Entry {
                    observed,
                    real,
                    barred,
                }
            })
            .collect();
        let since = self.decided.map(|decided| now.saturating_sub(decided));
        let due = since.is_none_or(|since| since >= self.spec.period.mul_f64(1.0 - EARLY));
        if due {
            correct_grain(&mut pool);
            self.learn(now, since, &mut pool);
            self.decided = Some(now);
        }
        bar(&self.spec, &mut pool);
        self.admit(now, &mut pool);
        if due {
            self.steer(now, &mut pool);
        }
        self.started = true;
        self.conclude(observed, pool)
    }

    /// Notes what reals carry and estimates what they can.
    fn learn(&mut self, now: Duration, since: Option<Duration>, pool: &mut [Entry<'_>]) {
        let spec = &self.spec;
        let oldest = spec.period * spec.stale_periods;
        for entry in pool.iter_mut() {
            entry.real.traffic.observe(now, oldest, entry.observed);
        }
        let connections: Option<f64> = pool
            .iter()
            .map(|entry| entry.real.traffic.connections())
            .sum();
        let rate: f64 = pool
            .iter()
            .filter_map(|entry| entry.real.traffic.rate())
            .sum();
        if let Some(since) = since {
            let time = since.as_secs_f64();
            self.life
                .observe(spec, time, connections.unwrap_or(0.0), rate);
        }
        let counts = connections.is_some() && self.life.counts_connections(spec, self.counts);
        if counts != self.counts {
            self.counts = counts;
            let life = self.life.seconds(spec).max(1e-3);
            for entry in pool.iter_mut() {
                entry
                    .real
                    .capacity
                    .convert(if counts { life } else { 1.0 / life });
            }
        }
        let mean = mean_utilisation(pool, oldest);
        let mean_carried = {
            let carried: Vec<f64> = pool
                .iter()
                .filter_map(|entry| self.carried(entry, now))
                .collect();
            carried.iter().sum::<f64>() / carried.len().max(1) as f64
        };
        let long = self.life.long(spec);
        for index in 0..pool.len() {
            let entry = &pool[index];
            let load = &entry.observed.load;
            if let (true, Some(sample), Some(mean)) =
                (entry.candidate(), Sample::sane(load.utilisation), mean)
                && sample.age <= oldest
                && entry.observed.since_up >= spec.healthy_for
                && mean >= spec.no_signal
                && sample.value >= spec.least_utilisation
            {
                let at = now.saturating_sub(sample.age);
                let errors = Sample::fresh(load.error_rate, oldest)
                    .unwrap_or(0.0)
                    .min(1.0);
                if let Some(carried) = self.carried(entry, at)
                    && carried > 0.0
                    && carried >= mean_carried * LEAST_CARRIED
                {
                    let utilisation = sample.value * (1.0 + errors * spec.error_penalty);
                    // Long connections leave a full real slowly whatever is guessed.
                    let compared = if long { f64::INFINITY } else { mean };
                    pool[index]
                        .real
                        .capacity
                        .learn(spec, at, carried, utilisation, compared);
                }
            }
        }
        self.fade(now, since, pool);
        let capacities = capacities(pool);
        let all: f64 = pool
            .iter()
            .zip(&capacities)
            .filter(|(entry, _)| entry.candidate())
            .map(|(_, capacity)| capacity)
            .sum();
        for entry in pool.iter_mut() {
            entry.real.latency = peak(
                spec,
                entry.real.latency,
                &entry.observed.load,
                oldest,
                since,
            );
        }
        let mut drained: f64 = pool
            .iter()
            .zip(&capacities)
            .filter(|(entry, _)| entry.candidate() && entry.real.overload.drained)
            .map(|(_, capacity)| capacity)
            .sum();
        let mean = mean.unwrap_or(0.0);
        for index in 0..pool.len() {
            let utilisation = self.strained(&pool[index], now, oldest);
            let (entry, capacity) = (&mut pool[index], capacities[index]);
            let left = all - drained - capacity;
            // Those that are left can carry it.
            let may_drain = drained + capacity <= spec.max_drained * all
                && mean * all <= spec.overload_back * left;
            let before = entry.real.overload.drained;
            entry
                .real
                .overload
                .observe(spec, utilisation, mean, may_drain);
            if entry.real.overload.drained && !before {
                drained += capacity;
            }
        }
    }

    /// A real's utilisation as far as it tells of overload: the lesser of what was read and of what it carries
    /// over its capacity, for a single reading may be wrong. None: it is not known, or its share was lowered
    /// since it was read.
    fn strained(&self, entry: &Entry<'_>, now: Duration, oldest: Duration) -> Option<f64> {
        let sample = Sample::sane(entry.observed.load.utilisation)?;
        let at = now.saturating_sub(sample.age);
        if sample.age > oldest || entry.real.lowered.is_some_and(|lowered| at <= lowered) {
            return None;
        }
        let carried = self.carried(entry, now);
        let expected = entry
            .real
            .capacity
            .value()
            .zip(carried)
            .map(|(all, part)| part / all);
        Some(expected.map_or(sample.value, |expected| expected.min(sample.value)))
    }

    /// What a real carried then.
    fn carried(&self, entry: &Entry<'_>, at: Duration) -> Option<f64> {
        if self.counts {
            entry.real.traffic.connections_then(at)
        } else {
            entry.real.traffic.rate_then(at)
        }
    }

    fn fade(&self, now: Duration, since: Option<Duration>, pool: &mut [Entry<'_>]) {
        let Some(typical) = typical(pool) else { return };
        let time = since.unwrap_or_default().as_secs_f64();
        for entry in pool {
            let silent = entry
                .real
                .capacity
                .heard()
                .map(|heard| now.saturating_sub(heard));
            if silent.is_some_and(|silent| silent > self.spec.fade_after) {
                let towards = entry.own() * typical;
                if towards > 0.0 {
                    entry.real.capacity.fade(&self.spec, time, towards);
                }
            }
        }
    }

    /// Takes the weight of those that may have none, and gives those that come their first.
    fn admit(&self, now: Duration, pool: &mut [Entry<'_>]) {
        for entry in pool.iter_mut() {
            let real = &mut entry.real;
            if entry.barred.is_some() {
                real.weight = 0.0;
                real.standing.since = None;
            } else if real.weight > 0.0 && real.own != entry.observed.weight {
                real.weight *= f64::from(entry.observed.weight) / f64::from(real.own);
            }
            real.own = entry.observed.weight;
        }
        let base = self.base(pool);
        let (mut has, mut base_of_has) = (0.0, 0.0);
        for (entry, base) in pool.iter().zip(&base) {
            if entry.candidate() && entry.real.weight > 0.0 {
                has += entry.real.weight;
                base_of_has += base;
            }
        }
        for (entry, base) in pool.iter_mut().zip(&base) {
            if !entry.candidate() || entry.real.weight > 0.0 {
                continue;
            }
            let before = if self.started {
                Duration::ZERO
            } else {
                entry.observed.since_up
            };
            let since = now.saturating_sub(before);
            entry.real.standing.since = Some(since);
            let part = entry.real.standing.slow_start(&self.spec, now);
            let whole = if base_of_has > 0.0 {
                base * has / base_of_has
            } else {
                entry.own()
            };
            entry.real.weight = whole * part;
            entry.real.part = part;
        }
    }

    /// What reals are to have relative to each other when nothing but the law's lasting part counts.
    fn base(&self, pool: &[Entry<'_>]) -> Vec<f64> {
        match self.spec.controller {
            Kind::Capacity => capacities(pool),
            Kind::AgentCheck => pool
                .iter()
                .map(|entry| entry.own() * agent_part(&entry.observed.load))
                .collect(),
            _ => pool.iter().map(Entry::own).collect(),
        }
    }

    /// Whether the operator's weights, or an agent's, are followed to the letter.
    fn literal(&self, pool: &[Entry<'_>]) -> bool {
        match self.spec.controller {
            Kind::Static | Kind::AgentCheck => true,
            Kind::Capacity => pool
                .iter()
                .all(|entry| entry.real.capacity.value().is_none()),
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
    fn steer(&mut self, now: Duration, pool: &mut [Entry<'_>]) {
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

    /// Weights for the ring; and the reals are remembered.
    fn conclude(&mut self, observed: &[Observed], pool: Vec<Entry<'_>>) -> Vec<Decision> {
        let weights: Vec<(f64, u32)> = pool
            .iter()
            .map(|entry| {
                (
                    entry.real.weight * entry.real.grain.exp(),
                    entry.observed.weight,
                )
            })
            .collect();
        let weights = self.scale.apply(&weights);
        let mut decisions = BTreeMap::new();
        self.reals.clear();
        for (mut entry, weight) in pool.into_iter().zip(weights) {
            let barred = entry.barred.is_some();
            if barred {
                entry.real.wanted = 0.0;
            }
            let shed = std::mem::take(&mut entry.real.shed);
            let decision = Decision {
                weight,
                limit: entry.barred.or(entry.real.limit).unwrap_or(Limit::Nothing),
                capacity: entry.real.capacity.value(),
                wanted: entry.real.wanted,
                shed: if barred { 0 } else { shed },
            };
            decisions.insert(entry.observed.address, decision);
            self.reals.insert(entry.observed.address, entry.real);
        }
        let nothing = Decision {
            weight: 0,
            limit: Limit::WeightZero,
            capacity: None,
            wanted: 0.0,
            shed: 0,
        };
        observed
            .iter()
            .map(|observed| {
                decisions
                    .remove(&observed.address)
                    .unwrap_or(nothing.clone())
            })
            .collect()
    }
}

/// Bars those that are drained by load, as long as enough is left; if nobody is left, those that are held
/// down are not.
fn bar(spec: &Steering, pool: &mut [Entry<'_>]) {
    if spec.controller != Kind::Static {
        let capacities = capacities(pool);
        let (mut all, mut left) = (0.0, 0.0);
        for (entry, capacity) in pool.iter().zip(&capacities) {
            if entry.observed.weight > 0 && !entry.observed.drained {
                all += capacity;
                if entry.candidate() && !entry.real.overload.drained {
                    left += capacity;
                }
            }
        }
        if left > 0.0 && left >= spec.panic * all {
            for entry in pool.iter_mut() {
                if entry.candidate() && entry.real.overload.drained {
                    entry.barred = Some(Limit::OverloadDrain);
                }
            }
        }
    }
    if spec.controller == Kind::AgentCheck {
        for entry in pool.iter_mut() {
            if entry.candidate() && agent_part(&entry.observed.load) == 0.0 {
                entry.barred = Some(Limit::Ordered);
            }
        }
    }
    if pool.iter().all(|entry| entry.barred.is_some()) {
        for entry in pool {
            if matches!(entry.barred, Some(Limit::HeldDown(_))) {
                entry.barred = None;
            }
        }
    }
}

/// Corrects what the grain of the ring, a few slots for some and a cap for others, makes of the weights.
fn correct_grain(pool: &mut [Entry<'_>]) {
    let all: f64 = pool.iter().map(|entry| entry.real.weight).sum();
    let shares: Option<Vec<f64>> = pool
        .iter()
        .map(|entry| {
            entry
                .observed
                .share
                .filter(|share| (0.0..=1.0).contains(share))
        })
        .collect();
    let Some(shares) = shares else { return };
    // Else they are of a ring with other reals.
    if (shares.iter().sum::<f64>() - 1.0).abs() > WHOLE {
        return;
    }
    for (entry, share) in pool.iter_mut().zip(shares) {
        let due = entry.real.weight / all;
        if due > 0.0 && share > 0.0 {
            let off = (due / share).ln();
            if off.abs() > GRAIN.max(SLOTS / share) {
                entry.real.grain = (entry.real.grain + off).clamp(-MOST_GRAIN, MOST_GRAIN);
            }
        }
    }
}

/// What the pool has in capacity per operator's weight, in the middle.
fn typical(pool: &[Entry<'_>]) -> Option<f64> {
    law::median(
        pool.iter()
            .filter(|entry| entry.observed.weight > 0)
            .filter_map(|entry| entry.real.capacity.value().map(|value| value / entry.own()))
            .collect(),
    )
}

/// Capacities, the operator's weights standing in for those that are not known.
fn capacities(pool: &[Entry<'_>]) -> Vec<f64> {
    let typical = typical(pool).unwrap_or(1.0);
    pool.iter()
        .map(|entry| entry.real.capacity.value().unwrap_or(entry.own() * typical))
        .collect()
}

/// Mean utilisation of those that have flows and a fresh reading.
fn mean_utilisation(pool: &[Entry<'_>], oldest: Duration) -> Option<f64> {
    let known: Vec<f64> = pool
        .iter()
        .filter(|entry| entry.candidate())
        .filter_map(|entry| Sample::fresh(entry.observed.load.utilisation, oldest))
        .collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// The part of its weight that an agent asks for, up to [`MOST_OF_WEIGHT`]; the last word counts, none is
/// all. Less than a thousandth is nothing.
fn agent_part(load: &Load) -> f64 {
    let part =
        Sample::sane(load.agent_weight).map_or(1.0, |sample| sample.value.min(MOST_OF_WEIGHT));
    if part < LEAST_OF_WEIGHT { 0.0 } else { part }
}

/// The scarcest resource's used part.
fn used(load: &Load, oldest: Duration) -> f64 {
    [load.memory, load.descriptors, load.connection_fraction]
        .into_iter()
        .filter_map(|sample| Sample::fresh(sample, oldest))
        .fold(0.0, f64::max)
}

/// A round trip's peak: it rises at once and decays.
fn peak(
    spec: &Steering,
    before: Option<f64>,
    load: &Load,
    oldest: Duration,
    since: Option<Duration>,
) -> Option<f64> {
    let Some(sample) = Sample::fresh(load.latency, oldest) else {
        return before;
    };
    let time = since.unwrap_or_default().as_secs_f64();
    let keep = (-time / spec.latency_decay.as_secs_f64()).exp();
    Some(before.map_or(sample, |before| {
        if sample >= before {
            sample
        } else {
            sample + (before - sample) * keep
        }
    }))
}
