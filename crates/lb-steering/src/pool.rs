//! The reals of a step: what is remembered of each, and what is said of them together.

use std::time::Duration;

use super::{
    capacity::Capacity,
    decision::Limit,
    law,
    observed::{Load, Observed, Sample},
    overload::Overload,
    spec::{Kind, Steering},
    standing::Standing,
    traffic::Traffic,
};

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

/// What is remembered of a real.
#[derive(Debug, Default)]
pub struct Real {
    pub standing: Standing,
    pub traffic: Traffic,
    pub capacity: Capacity,
    /// Its last reading that tells what it used, and when that was true.
    pub used: Option<(Duration, f64)>,
    pub overload: Overload,
    /// Peak of the probes' round trip, seconds.
    pub latency: Option<f64>,
    /// New flows are making up for a difference in connections.
    pub evening: bool,
    /// When its share was lowered.
    pub lowered: Option<Duration>,
    /// Weight before it is rounded, in the operator's unit; 0: it has none.
    pub weight: f64,
    /// Logarithm of what the weight is multiplied by so that the ring's grain gives it its share.
    pub grain: f64,
    /// The operator's weight that `weight` goes with.
    pub own: u32,
    /// The part of its share that slow start, guards and overload leave, the last time.
    pub part: f64,
    pub wanted: f64,
    pub limit: Option<Limit>,
    pub shed: u32,
    /// Connections it had when shedding was planned last.
    pub held: Option<f64>,
    /// Connections of it are being ended.
    pub shedding: bool,
    /// What another controller made of the operator's weight, as a multiple, and how long that stands in for an
    /// estimate.
    pub resumed: Option<(f64, Duration)>,
}

/// A real in a step.
pub struct Entry<'a> {
    pub observed: &'a Observed,
    pub real: Real,
    /// Why it may have nothing.
    pub barred: Option<Limit>,
}

impl Entry<'_> {
    /// The operator's weight.
    pub fn own(&self) -> f64 {
        f64::from(self.observed.weight)
    }

    /// What it is worth as long as nothing is known of it.
    pub fn prior(&self) -> f64 {
        self.own() * self.real.resumed.map_or(1.0, |(multiple, _)| multiple)
    }

    /// The part of the operator's weight that its agent asks for; until that has spoken, what the last controller made
    /// of it.
    pub fn asked(&self) -> f64 {
        match self.observed.load.agent_weight {
            Some(_) => agent_part(&self.observed.load),
            None => self.real.resumed.map_or(1.0, |(multiple, _)| multiple),
        }
    }

    /// Whether it may have flows.
    pub fn candidate(&self) -> bool {
        self.barred.is_none()
    }
}

/// Bars those that are drained by load, as long as enough is left; if nobody is left, those that are held
/// down are not.
pub fn bar(spec: &Steering, pool: &mut [Entry<'_>]) {
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
pub fn correct_grain(pool: &mut [Entry<'_>]) {
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
pub fn typical(pool: &[Entry<'_>]) -> Option<f64> {
    law::median(
        pool.iter()
            .filter(|entry| entry.observed.weight > 0)
            .filter_map(|entry| {
                entry
                    .real
                    .capacity
                    .value()
                    .map(|value| value / entry.prior())
            })
            .collect(),
    )
}

/// Capacities, the operator's weights standing in for those that are not known.
pub fn capacities(pool: &[Entry<'_>]) -> Vec<f64> {
    let typical = typical(pool).unwrap_or(1.0);
    pool.iter()
        .map(|entry| {
            entry
                .real
                .capacity
                .value()
                .unwrap_or(entry.prior() * typical)
        })
        .collect()
}

/// Mean utilisation of those that have flows and a fresh reading.
pub fn mean_utilisation(pool: &[Entry<'_>], oldest: Duration) -> Option<f64> {
    let known: Vec<f64> = pool
        .iter()
        .filter(|entry| entry.candidate())
        .filter_map(|entry| Sample::fresh(entry.observed.load.utilisation, oldest))
        .collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// The part of its weight that an agent asks for, up to [`MOST_OF_WEIGHT`]; the last word counts, none is
/// all. Less than a thousandth is nothing.
pub fn agent_part(load: &Load) -> f64 {
    let part =
        Sample::sane(load.agent_weight).map_or(1.0, |sample| sample.value.min(MOST_OF_WEIGHT));
    if part < LEAST_OF_WEIGHT { 0.0 } else { part }
}

/// The scarcest resource's used part.
pub fn used(load: &Load, oldest: Duration) -> f64 {
    [load.memory, load.descriptors, load.connection_fraction]
        .into_iter()
        .filter_map(|sample| Sample::fresh(sample, oldest))
        .fold(0.0, f64::max)
}

/// A round trip's peak: it rises at once and decays.
pub fn peak(
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
