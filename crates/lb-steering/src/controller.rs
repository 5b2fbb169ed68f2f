//! One VIP's steering, from what is observed to weights.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{
    capacity::Capacity,
    decision::{Decision, Limit},
    lag::Lag,
    life::Life,
    observed::Observed,
    overload::Overload,
    pool::{Entry, Real, bar, capacities, correct_grain},
    scale::Scale,
    spec::{Kind, Steering},
};

/// A period is due this part of it early: timers are not exact.
const EARLY: f64 = 0.05;

/// Decides the weights of one VIP's reals. Reals are known by address, and may come and go.
#[derive(Debug)]
pub struct Controller {
    pub(super) spec: Steering,
    reals: BTreeMap<IpAddr, Real>,
    /// When the last period was.
    decided: Option<Duration>,
    started: bool,
    pub(super) life: Life,
    pub(super) lag: Lag,
    /// Capacity is counted in connections, not in new flows a second.
    pub(super) counts: bool,
    scale: Scale,
    /// Of the rate of shedding: what was less than a flow.
    pub(super) shed_rest: f64,
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
            lag: Lag::default(),
            counts: false,
            scale: Scale::default(),
            shed_rest: 0.0,
        }
    }

    /// The constants it works with.
    #[must_use]
    pub const fn spec(&self) -> &Steering {
        &self.spec
    }

    /// Other constants from now on; what was learned stays.
    pub fn set_spec(&mut self, spec: Steering) {
        self.spec = spec;
    }

    /// Goes on where another controller of this VIP ended: per real that was alive the operator's weight and the weight
    /// it had last. None of these is eased in again, and as long as nothing is read of them, for the time that an estimate
    /// is held, their weights stay. To be called before the first step, with its time.
    pub fn resume(&mut self, now: Duration, reals: &[(IpAddr, u32, u32)]) {
        let had = || reals.iter().filter(|(_, _, had)| *had > 0);
        let own: f64 = had().map(|(_, own, _)| f64::from(*own)).sum();
        let all: f64 = had().map(|(_, _, had)| f64::from(*had)).sum();
        // The others had nothing for a reason that is read again only after a while.
        for (address, ..) in reals.iter().filter(|(_, own, had)| *own > 0 && *had == 0) {
            let until = now + self.spec.stale_after();
            self.reals.entry(*address).or_default().standing.hold(until);
        }
        for (address, own_weight, had) in had() {
            let real = self.reals.entry(*address).or_default();
            real.weight = f64::from(*had) * own / all;
            real.part = 1.0;
            real.own = *own_weight;
            real.standing.since = Some(Duration::ZERO);
            let multiple = real.weight / f64::from((*own_weight).max(1));
            real.resumed = Some((multiple, now + self.spec.fade_after));
        }
    }

    /// Nothing is read of this real's load any more: what was learned of it counts no more.
    pub fn forget_load(&mut self, address: IpAddr) {
        if let Some(real) = self.reals.get_mut(&address) {
            real.capacity = Capacity::default();
            real.overload = Overload::default();
        }
    }

    /// Nobody asks this real any more whether it lives: what was held against it is not.
    pub fn forget_health(&mut self, address: IpAddr) {
        if let Some(real) = self.reals.get_mut(&address) {
            real.standing.forget_health();
        }
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
        self.conclude(observed, pool, due)
    }

    /// Takes the weight of those that may have none, and gives those that come their first.
    fn admit(&self, now: Duration, pool: &mut [Entry<'_>]) {
        for entry in pool.iter_mut() {
            let real = &mut entry.real;
            if entry.barred.is_some() {
                real.weight = 0.0;
                real.standing.since = None;
                real.limit = None;
            } else if real.weight > 0.0 && real.own != entry.observed.weight {
                real.weight *= f64::from(entry.observed.weight) / f64::from(real.own);
            }
            real.own = entry.observed.weight;
        }
        let base = self.base(pool);
        let (mut has, mut base_of_has) = (0.0, 0.0);
        for (entry, base) in pool.iter().zip(&base) {
            if entry.candidate() && entry.real.weight > 0.0 {
                // Those that are eased in themselves are no measure of the whole.
                let part = entry.real.part;
                has += entry.real.weight / if part > 0.0 { part } else { 1.0 };
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
            // What limited it before it went is over.
            entry.real.limit = (part < 1.0).then_some(Limit::SlowStart(part));
        }
    }

    /// What reals are to have relative to each other when nothing but the law's lasting part counts.
    pub(super) fn base(&self, pool: &[Entry<'_>]) -> Vec<f64> {
        match self.spec.controller {
            Kind::Capacity => capacities(pool),
            Kind::AgentCheck => pool
                .iter()
                .map(|entry| entry.own() * entry.asked())
                .collect(),
            _ => pool.iter().map(Entry::own).collect(),
        }
    }

    /// Weights for the ring; and the reals are remembered. `due`: a period is over.
    fn conclude(
        &mut self,
        observed: &[Observed],
        pool: Vec<Entry<'_>>,
        due: bool,
    ) -> Vec<Decision> {
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
                shed: match (entry.barred, due) {
                    (None | Some(Limit::OverloadDrain), true) => Some(shed),
                    (None | Some(Limit::OverloadDrain), false) => None,
                    (Some(_), _) => Some(0),
                },
            };
            decisions.insert(entry.observed.address, decision);
            self.reals.insert(entry.observed.address, entry.real);
        }
        let nothing = Decision {
            weight: 0,
            limit: Limit::WeightZero,
            capacity: None,
            wanted: 0.0,
            shed: None,
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
