//! The steering of one VIP, from observations to weights.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Steering,
    controllers::{self, Context, Controller},
    decision::{Decision, LimitedBy},
    estimate::CapacityEstimate,
    lag::Lag,
    life::Life,
    loan::Hold,
    observation::Observation,
    overload::Overload,
    pool::{Member, RealState, correct_quantisation, exclude_by_load},
    storm::{self, Storm},
    trust::trust,
    verdict::Safety,
    weight_scale::WeightScale,
};
use lb_model::vip::RealId;

/// A period may end earlier by this fraction, because timers are not exact.
const EARLY: f64 = 0.05;

/// Reals that come up within this fraction of `slow_start` after the first of a pool are one start.
const ONE_START: f64 = 0.1;

/// When the slow start of a pool began that is just starting, and the factor that it leaves of a share: that of the real
/// which has served for longest. `None` if there is none, or it has served for longer than reals of one start may be apart.
///
/// Slow start keeps a real from its whole share while others serve that are warm. Where none is, the first real to come up
/// would have the others' flows for a minute, and the ring would move all that time.
fn common_start(
    settings: &Steering,
    now: Duration,
    pool: &[Member<'_>],
) -> Option<(Duration, f64)> {
    let (since, slow_start) = pool
        .iter()
        .filter(|member| member.is_eligible() && member.state.weight > 0.0)
        .filter_map(|member| {
            let since = member.state.eligibility.serving_since?;
            Some((since, member.state.slow_start))
        })
        .min_by_key(|(since, _)| *since)?;
    let apart = settings.slow_start.mul_f64(ONE_START);
    (now.saturating_sub(since) <= apart).then_some((since, slow_start))
}

/// Decides the weights of one VIP's reals. Reals are identified by address and may come and go.
#[derive(Debug)]
pub struct VipSteering {
    pub(super) settings: Steering,
    pub(super) controllers: Vec<Box<dyn Controller>>,
    reals: BTreeMap<RealId, RealState>,
    /// When the last period ended.
    last_period: Option<Duration>,
    started: bool,
    pub(super) life: Life,
    pub(super) lag: Lag,
    /// Whether load and capacity are counted in connections, not in new flows a second.
    pub(super) counts_connections: bool,
    scale: WeightScale,
    pub(super) safety: Safety,
    /// How long the whole VIP is held at the operator's weights.
    pub(super) fallback: Hold,
    pub(super) storm: Storm,
    /// The fraction of a flow that the shedding rate left over.
    pub(super) shed_remainder: f64,
}

impl VipSteering {
    /// Starts without any knowledge. The settings must be valid.
    #[must_use]
    pub fn new(settings: Steering) -> Self {
        let mut controllers = controllers::all();
        controllers::configure(&mut controllers, &settings.controller);
        VipSteering {
            settings,
            controllers,
            reals: BTreeMap::new(),
            last_period: None,
            started: false,
            life: Life::default(),
            lag: Lag::default(),
            counts_connections: false,
            scale: WeightScale::default(),
            safety: Safety::Normal,
            fallback: Hold::default(),
            storm: Storm::default(),
            shed_remainder: 0.0,
        }
    }

    /// The settings in use.
    #[must_use]
    pub const fn settings(&self) -> &Steering {
        &self.settings
    }

    /// Changes the settings; what was learned is kept.
    pub fn set_settings(&mut self, settings: Steering) {
        controllers::configure(&mut self.controllers, &settings.controller);
        self.settings = settings;
    }

    /// Continues where the steering of a previous agent ended. `reals` has, for each real that was alive, its
    /// address, the operator's weight and the last weight. These reals skip slow start, and keep their weights
    /// until they have readings, or for `fade_after` at most. Call it before the first step, with that step's time.
    pub fn resume(&mut self, now: Duration, reals: &[(RealId, u32, u32)]) {
        let served = || reals.iter().filter(|(_, _, last)| *last > 0);
        let operator_sum: f64 = served().map(|(_, operator, _)| f64::from(*operator)).sum();
        let last_sum: f64 = served().map(|(_, _, last)| f64::from(*last)).sum();
        // The others had weight 0 for a reason, which is observed again only after a while.
        for (address, ..) in reals
            .iter()
            .filter(|(_, operator, last)| *operator > 0 && *last == 0)
        {
            let until = now + self.settings.stale_after();
            self.reals
                .entry(*address)
                .or_default()
                .eligibility
                .hold(until);
        }
        for (address, operator_weight, last) in served() {
            let state = self.reals.entry(*address).or_default();
            state.weight = f64::from(*last) * operator_sum / last_sum;
            state.ramp_factor = 1.0;
            state.slow_start = 1.0;
            state.operator_weight = *operator_weight;
            state.eligibility.serving_since = Some(Duration::ZERO);
            let multiple = state.weight / f64::from((*operator_weight).max(1));
            state.loan.resume(multiple);
            state.resumed = Some((multiple, now + self.settings.fade_after));
        }
    }

    /// Forgets what was learned from this real's load. Call it when no source reports the load any more.
    pub fn forget_load(&mut self, address: RealId) {
        if let Some(state) = self.reals.get_mut(&address) {
            state.estimate = CapacityEstimate::default();
            state.overload = Overload::default();
        }
    }

    /// Forgets this real's health history. Call it when its health is not checked any more.
    pub fn forget_health(&mut self, address: RealId) {
        if let Some(state) = self.reals.get_mut(&address) {
            state.eligibility.forget_health();
        }
    }

    /// Mean life of a connection, once it is known.
    #[must_use]
    pub fn life(&self) -> Option<Duration> {
        self.life.time(&self.settings)
    }

    /// Whether its controller decides, or the VIP has fallen back to the operator's weights.
    #[must_use]
    pub const fn safety(&self) -> Safety {
        self.safety
    }

    /// Decides the weights. Call it once a period, and at once when health, a drain or a weight has changed:
    /// readings are learned from, and load acted upon, once a period only, however often this is called. `now` is
    /// monotonic, since any epoch. Decisions are in the order of `observations`; of several with one address only
    /// the first counts.
    pub fn step(&mut self, now: Duration, observations: &[Observation]) -> Vec<Decision> {
        let mut seen = BTreeSet::new();
        let mut pool: Vec<Member<'_>> = observations
            .iter()
            .filter(|observation| seen.insert(observation.address))
            .map(|observation| {
                let mut state = self.reals.remove(&observation.address).unwrap_or_default();
                let ineligible = state.eligibility.observe(&self.settings, now, observation);
                let max_age = self.settings.stale_after();
                let utilisation = state.sources.combined(&observation.load, max_age, None);
                Member {
                    observation,
                    utilisation,
                    state,
                    ineligible,
                }
            })
            .collect();
        let elapsed = self.last_period.map(|last| now.saturating_sub(last));
        let period_ends =
            elapsed.is_none_or(|elapsed| elapsed >= self.settings.period.mul_f64(1.0 - EARLY));
        if period_ends {
            correct_quantisation(&mut pool);
            self.learn(now, elapsed, &mut pool);
            self.last_period = Some(now);
        }
        exclude_by_load(self.controller(), &self.settings, &mut pool);
        self.admit(now, &mut pool);
        if period_ends {
            self.allocate(now, &mut pool);
        }
        self.call_in_loans(&mut pool);
        self.started = true;
        self.conclude(observations, pool, period_ends)
    }

    /// The controller that the settings name.
    pub(super) fn controller(&self) -> &dyn Controller {
        controllers::find(&self.controllers, &self.settings.controller.kind)
    }

    /// What controllers know of this VIP.
    pub(super) const fn context(&self, now: Duration) -> Context<'_> {
        Context {
            settings: &self.settings,
            now,
            life: &self.life,
            counts_connections: self.counts_connections,
        }
    }

    /// Takes the weight of ineligible reals, and gives newly eligible ones their first.
    fn admit(&self, now: Duration, pool: &mut [Member<'_>]) {
        for member in pool.iter_mut() {
            let operator_weight = member.observation.weight;
            let state = &mut member.state;
            if member.ineligible.is_some() {
                state.weight = 0.0;
                state.eligibility.serving_since = None;
                state.limited_by = None;
            } else if state.weight > 0.0 && state.operator_weight != operator_weight {
                state.weight *= f64::from(operator_weight) / f64::from(state.operator_weight);
            }
            state.operator_weight = operator_weight;
        }
        let worth = self.controller().worth(pool);
        let (mut weight_sum, mut worth_sum) = (0.0, 0.0);
        for (member, worth) in pool.iter().zip(&worth) {
            if member.is_eligible() && member.state.weight > 0.0 {
                // The weight of a real that is itself ramping up is scaled to its full share.
                let ramp_factor = member.state.ramp_factor;
                weight_sum +=
                    member.state.weight / if ramp_factor > 0.0 { ramp_factor } else { 1.0 };
                worth_sum += worth;
            }
        }
        let least_ramp = storm::least_ramp(&self.settings, now, pool);
        let start = common_start(&self.settings, now, pool);
        for (member, worth) in pool.iter_mut().zip(&worth) {
            if !member.is_eligible() || member.state.weight > 0.0 {
                continue;
            }
            let healthy_for = if self.started {
                Duration::ZERO
            } else {
                member.observation.since_up
            };
            let since = now.saturating_sub(healthy_for);
            let eligibility = &mut member.state.eligibility;
            let slow_start = match start {
                Some((start, slow_start)) if start <= since => {
                    eligibility.serving_since = Some(start);
                    slow_start
                }
                _ => {
                    eligibility.serving_since = Some(since);
                    eligibility.slow_start(&self.settings, now)
                }
            };
            let ramp_factor = slow_start.max(least_ramp);
            let full = if worth_sum > 0.0 {
                worth * weight_sum / worth_sum
            } else {
                member.operator_weight()
            };
            member.state.weight = full * ramp_factor;
            member.state.ramp_factor = ramp_factor;
            member.state.slow_start = ramp_factor;
            // What limited it before no longer applies.
            member.state.limited_by =
                (ramp_factor < 1.0).then_some(LimitedBy::SlowStart(ramp_factor));
        }
    }

    /// Converts weights for the ring and stores the reals' states. `period_ends`: see [`Self::step`].
    fn conclude(
        &mut self,
        observations: &[Observation],
        pool: Vec<Member<'_>>,
        period_ends: bool,
    ) -> Vec<Decision> {
        let weights: Vec<(f64, u32)> = pool
            .iter()
            .map(|member| {
                (
                    member.state.weight * member.state.quantum_correction.exp(),
                    member.observation.weight,
                )
            })
            .collect();
        let weights = self.scale.apply(&weights);
        // The states that are left are of reals that are no longer observed.
        for address in std::mem::take(&mut self.reals).into_keys() {
            for controller in &mut self.controllers {
                controller.forget(address);
            }
        }
        let mut decisions = BTreeMap::new();
        for (mut member, weight) in pool.into_iter().zip(weights) {
            if !member.is_eligible() {
                member.state.wanted_share = 0.0;
            }
            let planned = std::mem::take(&mut member.state.shed);
            let shed = match (member.may_shed(), period_ends) {
                (true, true) => Some(planned),
                (true, false) => None,
                (false, _) => Some(0),
            };
            let decision = Decision {
                weight,
                limited_by: match member.ineligible {
                    Some(_) if self.settings.shed_rate > 0.0 && member.is_evacuated() => {
                        LimitedBy::Evacuated
                    }
                    ineligible => ineligible
                        .or(member.state.limited_by)
                        .unwrap_or(LimitedBy::Nothing),
                },
                capacity: member.state.estimate.value(),
                wanted_share: member.state.wanted_share,
                shed,
                trust: member.utilisation.map(|_| {
                    let state = &member.state;
                    trust(
                        &state.following,
                        state.estimate.disbelieved(),
                        state.contradicted,
                        state.sources.trust(),
                    )
                }),
            };
            decisions.insert(member.observation.address, decision);
            self.reals.insert(member.observation.address, member.state);
        }
        let duplicate = Decision {
            weight: 0,
            limited_by: LimitedBy::WeightZero,
            capacity: None,
            wanted_share: 0.0,
            shed: None,
            trust: None,
        };
        observations
            .iter()
            .map(|observation| {
                decisions
                    .remove(&observation.address)
                    .unwrap_or(duplicate.clone())
            })
            .collect()
    }
}
