//! The scaling law: from what is known of a pool to what is done.

use std::time::Duration;

use lb_model::scaling::{Scaling, ScalingPolicy, TimeOfDay, Weekday};

use super::{
    decision::{Alarm, Ask, AskFigures, DecidedBy, Limit, ScalingDecision, Why},
    policies::{self, Context, Measured},
    readings::{Clock, Phase, PoolReadings},
    relaunch::is_mass_failure,
    state::ScalingState,
};
use crate::observation::Sample;

/// A dead instance that is relaunched within this time counts as starting: its replacement is not ordered.
const RELAUNCH_SOON: Duration = Duration::from_secs(10);
/// A period may end earlier by this fraction, because timers are not exact.
const EARLY: f64 = 0.05;
/// Tolerance for figures that are sums, so that exactly enough is enough.
pub(super) const TOLERANCE: f64 = 1e-9;
/// A policy's requirement is unknown after this many periods without one, and its window begins anew.
const GAP_PERIODS: u32 = 3;
/// What is required is remembered for this many windows, as the window may become longer.
const KEPT_WINDOWS: u32 = 2;

/// Decides how many instances a pool has. Call it once a second, or when a second's counts are there; a surge is answered
/// at once, all else once a period. It is pure: state, readings and clock decide.
pub fn scale(
    settings: &Scaling,
    state: &mut ScalingState,
    readings: &PoolReadings,
    clock: Clock,
) -> ScalingDecision {
    state.observe(settings, readings, clock);
    Step::new(settings, state, readings, clock).decide()
}

/// What a policy says in a step.
pub(super) struct Opinion {
    pub(super) policy: ScalingPolicy,
    pub(super) measured: Measured,
    /// The highest requirement of the window; `None` while it is not known for the whole window.
    pub(super) highest: Option<f64>,
    /// How much of the window is unknown.
    pub(super) unknown: Duration,
    pub(super) trouble: u32,
}

pub(super) struct Step<'a> {
    pub(super) settings: &'a Scaling,
    pub(super) state: &'a mut ScalingState,
    pub(super) readings: &'a PoolReadings,
    pub(super) now: Duration,
    /// Which instances count as capacity.
    pub(super) counted: Vec<bool>,
    pub(super) window: Duration,
    pub(super) floor: (u32, DecidedBy),
    pub(super) mass_failure: bool,
    /// Whether a period ends.
    pub(super) evaluates: bool,
    pub(super) limits: Vec<Limit>,
    pub(super) decided_by: DecidedBy,
}

/// What is to be started, or drained.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) take_back: Vec<usize>,
    pub(super) start: u32,
    pub(super) drain: Vec<usize>,
}

impl Plan {
    /// Instances that are to serve beside those that count.
    pub(super) fn added(&self) -> u32 {
        self.take_back.len() as u32 + self.start
    }
}

impl<'a> Step<'a> {
    fn new(
        settings: &'a Scaling,
        state: &'a mut ScalingState,
        readings: &'a PoolReadings,
        clock: Clock,
    ) -> Self {
        let now = state.time;
        let counted = readings
            .instances
            .iter()
            .map(|one| match one.phase {
                Phase::Serving | Phase::Starting => true,
                Phase::Dead(Some(relaunch)) => relaunch <= RELAUNCH_SOON,
                Phase::Dead(None) | Phase::Spare | Phase::Draining => false,
            })
            .collect();
        let dead = readings.count(|phase| matches!(phase, Phase::Dead(_)));
        let living = readings.count(|phase| matches!(phase, Phase::Serving | Phase::Starting));
        let evaluates = state
            .last_evaluation
            .is_none_or(|last| now.saturating_sub(last) >= settings.period.mul_f64(1.0 - EARLY));
        Step {
            window: state.window(settings, readings.life),
            floor: floor(settings, clock),
            mass_failure: is_mass_failure(settings, dead, dead + living),
            settings,
            state,
            readings,
            now,
            counted,
            evaluates,
            limits: Vec::new(),
            decided_by: DecidedBy::Nothing,
        }
    }

    /// Instances that count as capacity.
    pub(super) fn count(&self) -> u32 {
        self.counted.iter().filter(|counted| **counted).count() as u32
    }

    fn decide(mut self) -> ScalingDecision {
        let opinions = self.opinions();
        let n = self.count();
        let mut asks: Vec<Ask> = opinions.iter().filter_map(|one| self.ask(one)).collect();
        let surge = asks
            .iter()
            .any(|ask| ask.figures.is_some_and(|figures| figures.surge));
        let mut plan = if self.evaluates || surge {
            self.grow(&opinions, &mut asks)
        } else {
            let last = self.state.last_evaluation.unwrap_or_default();
            let left = self
                .settings
                .period
                .saturating_sub(self.now.saturating_sub(last));
            self.limits.push(Limit::Period(left));
            Plan::default()
        };
        self.raise_to_floor(&mut plan);
        self.respect_maximum(&mut plan);
        if plan.take_back.is_empty() && plan.start == 0 {
            self.shrink(&opinions, &mut plan);
        }
        if self.evaluates {
            self.state.last_evaluation = Some(self.now);
        }
        self.conclude(n, plan, asks)
    }

    /// Asks every policy, and remembers what they require.
    fn opinions(&mut self) -> Vec<Opinion> {
        let context = Context {
            settings: self.settings,
            state: self.state,
            readings: self.readings,
            now: self.now,
            counted: &self.counted,
        };
        let measured: Vec<(ScalingPolicy, Measured)> = policies::REGISTRY
            .iter()
            .filter(|(policy, _)| self.settings.has_policy(*policy))
            .map(|(policy, measure)| (*policy, measure(&context)))
            .collect();
        let starts = self.readings.count(|phase| phase == Phase::Starting) > 0;
        let gap = self.settings.period * GAP_PERIODS;
        let kept = self.window * KEPT_WINDOWS;
        let opinions = measured.into_iter().map(|(policy, measured)| {
            let memory = self
                .state
                .policies
                .entry(policy.name().to_owned())
                .or_default();
            match &measured {
                Measured::Known(known) if known.missing.is_none() => {
                    if memory.unit != Some(known.unit) {
                        memory.unit = Some(known.unit);
                        memory.highest.forget();
                    }
                    memory.highest.record(self.now, known.required, kept, gap);
                }
                Measured::Guard { trouble, .. } => {
                    let required = f64::from(u8::from(*trouble));
                    memory.highest.record(self.now, required, kept, gap);
                    // What starts may be enough.
                    if !*trouble || starts {
                        memory.trouble = 0;
                    } else if self.evaluates {
                        memory.trouble = memory.trouble.saturating_add(1);
                    }
                }
                Measured::Off | Measured::Missing(_) | Measured::Known(_) => {}
            }
            let unknown = memory.highest.missing(self.now, self.window);
            let highest = memory.highest.value(self.now, self.window);
            Opinion {
                policy,
                measured,
                highest: highest.filter(|_| unknown.is_zero()),
                unknown,
                trouble: memory.trouble,
            }
        });
        opinions.collect()
    }

    /// What a policy says, for `why`.
    fn ask(&self, opinion: &Opinion) -> Option<Ask> {
        let (missing, figures) = match &opinion.measured {
            Measured::Off => return None,
            Measured::Missing(missing) => (Some(missing.clone()), None),
            Measured::Guard { missing, .. } => (missing.clone(), None),
            Measured::Known(known) => {
                let memory = self.state.policies.get(opinion.policy.name());
                let highest = memory.and_then(|memory| memory.highest.value(self.now, self.window));
                let figures = AskFigures {
                    unit: known.unit,
                    required: known.required,
                    highest: highest.unwrap_or(known.required).max(known.required),
                    available: known.available,
                    each: known.each,
                    surge: known.surge,
                };
                (known.missing.clone(), Some(figures))
            }
        };
        Some(Ask {
            policy: opinion.policy,
            missing,
            instances: None,
            figures,
            trouble: opinion.trouble,
        })
    }

    fn conclude(self, n: u32, plan: Plan, asks: Vec<Ask>) -> ScalingDecision {
        let names = |indices: &[usize]| -> Vec<String> {
            let name = |index: &usize| self.readings.instances[*index].name.clone();
            indices.iter().map(name).collect()
        };
        let spares: Vec<String> = self
            .readings
            .instances
            .iter()
            .filter(|one| one.phase == Phase::Spare)
            .map(|one| one.name.clone())
            .collect();
        let grows = !plan.take_back.is_empty() || plan.start > 0;
        if grows {
            self.state.last_out = Some(self.now);
        }
        if !plan.drain.is_empty() {
            self.state.last_in = Some(self.now);
        }
        let resumed = spares.len().min(plan.start as usize);
        let (resume, idle) = spares.split_at(resumed);
        let wanted_spares = self.settings.spare as usize;
        let starting = self.readings.count(|phase| phase == Phase::Starting);
        // Instances that are to serve go first.
        let create_spares = if grows || starting > 0 {
            0
        } else {
            let lacking = wanted_spares.saturating_sub(idle.len()) as u32;
            lacking.min(self.readings.room.unwrap_or(u32::MAX))
        };
        let dead = self.readings.count(|phase| matches!(phase, Phase::Dead(_)));
        let active = self.readings.count(|phase| phase == Phase::Serving);
        let since = |then: Option<Duration>| then.map(|then| self.now.saturating_sub(then));
        let (average_load, critical) = loads(self.settings, self.readings);
        ScalingDecision {
            desired: (n + plan.added() - plan.drain.len() as u32).min(self.settings.max),
            take_back: names(&plan.take_back),
            resume: resume.to_vec(),
            start: plan.start - resumed as u32,
            drain: names(&plan.drain),
            create_spares,
            remove_spares: idle.iter().skip(wanted_spares).cloned().collect(),
            alarm: self.mass_failure.then_some(Alarm::MassFailure {
                dead,
                of: dead + active + starting,
            }),
            why: Why {
                active,
                starting,
                draining: self.readings.count(|phase| phase == Phase::Draining),
                dead,
                spare: spares.len() as u32,
                average_load,
                critical,
                asks,
                floor: self.floor.0,
                decided_by: self.decided_by,
                limits: self.limits,
                window: self.window,
                since_out: since(self.state.last_out),
                since_in: since(self.state.last_in),
            },
        }
    }
}

/// The least number of instances now, as an allowed size, and what says so.
fn floor(settings: &Scaling, clock: Clock) -> (u32, DecidedBy) {
    const DAY: i64 = 86_400;
    let local = clock.now.as_secs() as i64 + i64::from(clock.utc_offset);
    // The epoch was a Thursday.
    let day = (local.div_euclid(DAY) + 3).rem_euclid(7) as usize;
    let at = TimeOfDay::from_minutes((local.rem_euclid(DAY) / 60) as u16);
    let scheduled = settings
        .schedule
        .iter()
        .filter(|window| window.is_open(Weekday::ALL[day], at))
        .map(|window| window.min)
        .max()
        .unwrap_or(0);
    if scheduled > settings.min {
        (settings.size_from(scheduled), DecidedBy::Schedule)
    } else {
        (settings.size_from(settings.min), DecidedBy::Minimum)
    }
}

/// Mean utilisation of the instances that serve, weighted by capacity, and those that are critically loaded.
fn loads(settings: &Scaling, readings: &PoolReadings) -> (Option<f64>, Vec<String>) {
    let serving = readings
        .instances
        .iter()
        .filter(|one| one.phase == Phase::Serving);
    let (mut used, mut all) = (0.0, 0.0);
    let mut critical = Vec::new();
    for one in serving {
        if let Some(utilisation) = Sample::fresh(one.utilisation, settings.stale_after) {
            let worth = one.known_capacity().unwrap_or(1.0);
            used += utilisation * worth;
            all += worth;
            if utilisation >= settings.critical {
                critical.push(one.name.clone());
            }
        }
    }
    ((all > 0.0).then(|| used / all), critical)
}
