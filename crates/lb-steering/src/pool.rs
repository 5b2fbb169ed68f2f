//! The reals of a step: the state of each, and figures over all of them.

use std::time::Duration;

use super::{
    Steering,
    caution::Evidence,
    controllers::Controller,
    decision::LimitedBy,
    eligibility::Eligibility,
    estimate::CapacityEstimate,
    loan::Loan,
    observation::{Load, Observation, Sample},
    overload::Overload,
    shares,
    sources::Sources,
    traffic::Traffic,
    trust::Following,
};

/// The ring's quantisation is corrected where it changes a share by more than this fraction of it, ...
const QUANTUM_TOLERANCE: f64 = 0.015;
/// ... and by more than this fraction of the ring: two slots of the smallest default ring.
const MIN_SHARE_ERROR: f64 = 2.0 / 4_096.0;
/// Largest logarithm of a correction.
const MAX_QUANTUM_CORRECTION: f64 = 0.2;
/// Tolerance for the sum of all shares.
const SUM_TOLERANCE: f64 = 1e-6;

/// State of a real between steps.
#[derive(Debug, Default)]
pub struct RealState {
    pub eligibility: Eligibility,
    pub traffic: Traffic,
    pub estimate: CapacityEstimate,
    /// How it serves its flows.
    pub evidence: Evidence,
    /// Whether its utilisation follows what it carries.
    pub following: Following,
    /// Its sources, if several read its utilisation.
    pub sources: Sources,
    /// What it may have beyond the operator's share.
    pub loan: Loan,
    /// Its share over the operator's at the beginning of the period.
    pub multiple: f64,
    /// How much longer its flows live than at the operator's share (logarithm, base 2), if they show it.
    pub life_growth: Option<f64>,
    /// Whether it kept the connections that it was given beyond what it loses.
    pub keeps: bool,
    /// Whether it reads full, and its flows do not show that.
    pub contradicted: bool,
    /// The factor that slow start left of its share in the last step.
    pub slow_start: f64,
    /// The last reading of utilisation that [`super::lag`] can use: the time it describes, and its value.
    pub last_utilisation: Option<(Duration, f64)>,
    /// The time that the last count of connections which [`super::lag`] used describes.
    pub last_count: Duration,
    pub overload: Overload,
    /// Whether new flows are making up for a difference in connections.
    pub rebalancing: bool,
    /// When its share was last lowered.
    pub lowered_at: Option<Duration>,
    /// Weight before rounding, in the operator's unit; 0 while it has none.
    pub weight: f64,
    /// Logarithm of the factor on the weight that corrects the ring's quantisation.
    pub quantum_correction: f64,
    /// The operator's weight on which `weight` is based.
    pub operator_weight: u32,
    /// The factor of its share that slow start, scarce resources and overload left in the last step.
    pub ramp_factor: f64,
    pub wanted_share: f64,
    pub limited_by: Option<LimitedBy>,
    /// Flows to reset until the next period.
    pub shed: u32,
    /// Connections when shedding was last planned.
    pub last_connections: Option<f64>,
    /// Whether it was over its share when shedding was last planned.
    pub shedding: bool,
    /// The multiple of the operator's weight that the previous agent had reached, and until when it stands in for
    /// an estimate.
    pub resumed: Option<(f64, Duration)>,
}

/// A real in a step.
pub struct Member<'a> {
    pub observation: &'a Observation,
    /// Its utilisation, by the sources that are trusted.
    pub utilisation: Option<Sample>,
    pub state: RealState,
    /// Why it may have no new flows.
    pub ineligible: Option<LimitedBy>,
}

impl Member<'_> {
    /// The operator's weight.
    pub fn operator_weight(&self) -> f64 {
        f64::from(self.observation.weight)
    }

    /// The multiple of the operator's weight that was resumed from the previous agent; 1 without one.
    pub fn resumed_multiple(&self) -> f64 {
        self.state.resumed.map_or(1.0, |(multiple, _)| multiple)
    }

    /// What it is worth while nothing has been measured.
    pub fn prior_worth(&self) -> f64 {
        self.operator_weight() * self.resumed_multiple()
    }

    /// Its estimated capacity, unless its utilisation is not trusted.
    pub fn capacity(&self) -> Option<f64> {
        let trusted = self.state.following.doubt().is_none();
        self.state.estimate.value().filter(|_| trusted)
    }

    /// Whether it may have new flows.
    pub fn is_eligible(&self) -> bool {
        self.ineligible.is_none()
    }

    /// Whether nothing but its overload keeps it from new flows.
    pub fn is_eligible_but_for_overload(&self) -> bool {
        matches!(self.ineligible, None | Some(LimitedBy::OverloadDrain))
    }

    /// Whether the operator drains it and wants its connections to be ended.
    pub fn is_evacuated(&self) -> bool {
        let is_drained = self.ineligible == Some(LimitedBy::Drained);
        is_drained && self.observation.evacuated && self.observation.up
    }

    /// Whether connections of it may be ended that it has beyond its share.
    pub fn may_shed(&self) -> bool {
        self.is_eligible_but_for_overload() || self.is_evacuated()
    }
}

/// Excludes reals that are drained by load, as long as enough capacity is left, and those that the controller
/// rejects. If no real is left, those that are held down for flapping are admitted.
pub fn exclude_by_load(controller: &dyn Controller, settings: &Steering, pool: &mut [Member<'_>]) {
    if controller.reacts_to_load() {
        let capacities = estimated_capacities(pool);
        let (mut all, mut left) = (0.0, 0.0);
        for (member, capacity) in pool.iter().zip(&capacities) {
            if member.observation.weight > 0 && !member.observation.drained {
                all += capacity;
                if member.is_eligible() && !member.state.overload.drained {
                    left += capacity;
                }
            }
        }
        if left > 0.0 && left >= settings.panic * all {
            for member in pool.iter_mut() {
                if member.is_eligible() && member.state.overload.drained {
                    member.ineligible = Some(LimitedBy::OverloadDrain);
                }
            }
        }
    }
    for member in pool.iter_mut() {
        if member.is_eligible() {
            member.ineligible = controller.rejects(member);
        }
    }
    if pool.iter().all(|member| !member.is_eligible()) {
        for member in pool {
            if matches!(member.ineligible, Some(LimitedBy::HeldDown(_))) {
                member.ineligible = None;
            }
        }
    }
}

/// Corrects weights for the ring's quantisation: a real with a few slots gets whole ones, and one with many may be
/// capped.
pub fn correct_quantisation(pool: &mut [Member<'_>]) {
    let all: f64 = pool.iter().map(|member| member.state.weight).sum();
    let shares: Option<Vec<f64>> = pool
        .iter()
        .map(|member| {
            member
                .observation
                .share
                .filter(|share| (0.0..=1.0).contains(share))
        })
        .collect();
    let Some(shares) = shares else { return };
    // Otherwise they are shares of a ring with other reals.
    if (shares.iter().sum::<f64>() - 1.0).abs() > SUM_TOLERANCE {
        return;
    }
    for (member, share) in pool.iter_mut().zip(shares) {
        let due = member.state.weight / all;
        if due > 0.0 && share > 0.0 {
            let error = (due / share).ln();
            if error.abs() > QUANTUM_TOLERANCE.max(MIN_SHARE_ERROR / share) {
                member.state.quantum_correction = (member.state.quantum_correction + error)
                    .clamp(-MAX_QUANTUM_CORRECTION, MAX_QUANTUM_CORRECTION);
            }
        }
    }
}

/// The operator's shares of the reals that have new flows, slow start considered; 0 for the others.
pub fn operator_shares(pool: &[Member<'_>]) -> Vec<f64> {
    let worth = |member: &Member<'_>| {
        if member.is_eligible() && member.state.weight > 0.0 {
            member.operator_weight() * member.state.slow_start
        } else {
            0.0
        }
    };
    let all: f64 = pool.iter().map(worth).sum();
    pool.iter()
        .map(|member| if all > 0.0 { worth(member) / all } else { 0.0 })
        .collect()
}

/// Each real's share over the operator's; `None` for those without new flows.
pub fn operator_multiples(pool: &[Member<'_>]) -> Vec<Option<f64>> {
    let all: f64 = pool.iter().map(|member| member.state.weight).sum();
    pool.iter()
        .zip(operator_shares(pool))
        .map(|(member, share)| (share > 0.0).then(|| member.state.weight / all / share))
        .collect()
}

/// Median capacity per unit of worth, or `None` if no capacity is known.
pub fn typical_capacity(pool: &[Member<'_>]) -> Option<f64> {
    shares::median(
        pool.iter()
            .filter(|member| member.observation.weight > 0)
            .filter_map(|member| member.capacity().map(|value| value / member.prior_worth()))
            .collect(),
    )
}

/// Estimated capacities; a real without an estimate counts as typical for its weight.
pub fn estimated_capacities(pool: &[Member<'_>]) -> Vec<f64> {
    let typical = typical_capacity(pool).unwrap_or(1.0);
    pool.iter()
        .map(|member| member.capacity().unwrap_or(member.prior_worth() * typical))
        .collect()
}

/// Mean utilisation of the eligible reals with a reading no older than `max_age`.
pub fn mean_utilisation<'a>(
    pool: impl IntoIterator<Item = &'a Member<'a>>,
    max_age: Duration,
) -> Option<f64> {
    let known: Vec<f64> = pool
        .into_iter()
        .filter(|member| member.is_eligible())
        .filter_map(|member| Sample::fresh(member.utilisation, max_age))
        .collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// The used fraction of a real's scarcest resource.
pub fn scarcest_resource(load: &Load, max_age: Duration) -> f64 {
    [load.memory, load.descriptors, load.connection_fraction]
        .into_iter()
        .filter_map(|sample| Sample::fresh(sample, max_age))
        .fold(0.0, f64::max)
}
