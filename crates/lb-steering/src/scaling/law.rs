//! The scaling law: from what is known of a pool to what is done.

use std::time::Duration;

use lb_model::scaling::{Scaling, ScalingPolicy, TimeOfDay, Weekday};

use super::{
    decision::{Alarm, Ask, AskFigures, DecidedBy, Limit, ScalingDecision, Why},
    policies::{self, Context, Measured, Requirement},
    readings::{Clock, Phase, PoolReadings},
    relaunch::is_mass_failure,
    state::ScalingState,
    victim,
};
use crate::observation::Sample;

/// A dead instance that is relaunched within this time counts as starting: its replacement is not ordered.
const RELAUNCH_SOON: Duration = Duration::from_secs(10);
/// A period may end earlier by this fraction, because timers are not exact.
const EARLY: f64 = 0.05;
/// Tolerance for figures that are sums, so that exactly enough is enough.
const TOLERANCE: f64 = 1e-9;
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
struct Opinion {
    policy: ScalingPolicy,
    measured: Measured,
    /// The highest requirement of the window; `None` while it is not known for the whole window.
    highest: Option<f64>,
    /// How much of the window is unknown.
    unknown: Duration,
    trouble: u32,
}

struct Step<'a> {
    settings: &'a Scaling,
    state: &'a mut ScalingState,
    readings: &'a PoolReadings,
    now: Duration,
    /// Which instances count as capacity.
    counted: Vec<bool>,
    window: Duration,
    floor: (u32, DecidedBy),
    mass_failure: bool,
    /// Whether a period ends.
    evaluates: bool,
    limits: Vec<Limit>,
    decided_by: DecidedBy,
}

/// What is to be started, or drained.
#[derive(Default)]
struct Plan {
    take_back: Vec<usize>,
    start: u32,
    drain: Vec<usize>,
}

impl Plan {
    /// Instances that are to serve beside those that count.
    fn added(&self) -> u32 {
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
    fn count(&self) -> u32 {
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

    /// Lets the policies ask for more instances: drained ones are taken back first, then new ones are started, as many as
    /// may start at a time.
    fn grow(&mut self, opinions: &[Opinion], asks: &mut [Ask]) -> Plan {
        let n = self.count();
        let mut plan = Plan::default();
        let short: Vec<&Opinion> = opinions
            .iter()
            .filter(|one| matches!(&one.measured, Measured::Known(known) if is_short(known)))
            .collect();
        for index in self.drained() {
            let lacks = short
                .iter()
                .any(|one| missing_instances(one, &plan.take_back) > 0);
            if !lacks {
                break;
            }
            plan.take_back.push(index);
        }
        let mut most = 0;
        for opinion in opinions {
            let wanted = match &opinion.measured {
                Measured::Known(known) if is_short(known) => {
                    let start = missing_instances(opinion, &plan.take_back);
                    (start, n + plan.take_back.len() as u32 + start)
                }
                Measured::Guard { .. } => {
                    let step = self.guard_step(opinion, n);
                    (step.saturating_sub(plan.take_back.len() as u32), n + step)
                }
                Measured::Known(_) => (0, n),
                Measured::Off | Measured::Missing(_) => continue,
            };
            if let Some(ask) = asks.iter_mut().find(|ask| ask.policy == opinion.policy) {
                ask.instances = Some(wanted.1);
            }
            if wanted.1 > n && (wanted.0 > most || self.decided_by == DecidedBy::Nothing) {
                most = most.max(wanted.0);
                self.decided_by = DecidedBy::Policy(opinion.policy);
            }
        }
        plan.start = self.limit_starts(n + plan.take_back.len() as u32, most);
        plan
    }

    /// The step that a guard asks for now.
    fn guard_step(&mut self, opinion: &Opinion, n: u32) -> u32 {
        if opinion.trouble < self.settings.guard_periods {
            return 0;
        }
        if let Some(memory) = self.state.policies.get_mut(opinion.policy.name()) {
            memory.trouble = 0;
        }
        ((f64::from(n) * self.settings.guard_step) as u32).max(1)
    }

    /// Positions of drained instances, in the order in which they are taken back: those with most connections first.
    fn drained(&self) -> Vec<usize> {
        let instances = &self.readings.instances;
        let connections = |index: &usize| {
            let sample = instances[*index].connections;
            Sample::fresh(sample, self.settings.stale_after).unwrap_or(0.0)
        };
        let mut drained: Vec<usize> = (0..instances.len())
            .filter(|index| instances[*index].phase == Phase::Draining)
            .filter(|index| !instances[*index].is_flapping)
            .collect();
        drained.sort_by(|a, b| connections(b).total_cmp(&connections(a)).then(a.cmp(b)));
        drained
    }

    /// Limits how many of `wanted` may start beside `others`, so that the sum is an allowed size. Warm instances are no
    /// start-ups.
    fn limit_starts(&mut self, others: u32, wanted: u32) -> u32 {
        if wanted == 0 {
            return 0;
        }
        let settings = self.settings;
        let serving = self.readings.count(|phase| phase == Phase::Serving);
        let starting = self.readings.count(|phase| phase == Phase::Starting);
        let spare = self.readings.count(|phase| phase == Phase::Spare);
        let most = ((f64::from(serving) * settings.out_factor) as u32).max(settings.out_least);
        let allowed = most.saturating_sub(starting) + spare;
        if wanted > allowed {
            self.limits.push(Limit::StartUps(starting));
        }
        wanted.min(allowed).min(settings.max.saturating_sub(others))
    }

    /// Raises the number of instances to the floor and to an allowed size.
    fn raise_to_floor(&mut self, plan: &mut Plan) {
        let (floor, decided_by) = self.floor;
        if self.raise(plan, floor) {
            self.decided_by = decided_by;
        }
        let allowed = self.settings.size_from(self.count() + plan.added());
        if self.raise(plan, allowed) && self.decided_by == DecidedBy::Nothing {
            self.decided_by = DecidedBy::Sizes;
        }
    }

    /// Raises the number of instances to this at least. Returns whether it was lower.
    fn raise(&self, plan: &mut Plan, to: u32) -> bool {
        let n = self.count();
        if n + plan.added() >= to {
            return false;
        }
        for index in self.drained() {
            if n + plan.added() < to && !plan.take_back.contains(&index) {
                plan.take_back.push(index);
            }
        }
        plan.start += to.saturating_sub(n + plan.added());
        true
    }

    /// Cuts a plan to `max`, to an allowed size and to the driver's room.
    fn respect_maximum(&mut self, plan: &mut Plan) {
        let n = self.count();
        let most = self.settings.size_from(self.settings.max);
        let wanted = n + plan.added();
        if wanted > most {
            let over = wanted - most;
            let fewer = over.min(plan.start);
            plan.start -= fewer;
            let left = plan.take_back.len().saturating_sub((over - fewer) as usize);
            plan.take_back.truncate(left);
        }
        let asked = matches!(self.decided_by, DecidedBy::Policy(_));
        if asked && n + plan.added() >= most {
            self.limits.push(Limit::Maximum);
        }
        let spare = self.readings.count(|phase| phase == Phase::Spare);
        if let Some(room) = self.readings.room
            && plan.start > room + spare
        {
            plan.start = room + spare;
            self.limits.push(Limit::Room(room));
        }
    }

    /// Drains instances: those above `max` at once, others if all policies agree over the whole window.
    fn shrink(&mut self, opinions: &[Opinion], plan: &mut Plan) {
        let n = self.count();
        let most = self.settings.size_from(self.settings.max);
        if n > most {
            if self.mass_failure {
                self.limits.push(Limit::MassFailure);
                return;
            }
            self.decided_by = DecidedBy::Maximum;
            let order = victim::order(self.settings, self.readings);
            plan.drain = order.into_iter().take((n - most) as usize).collect();
            return;
        }
        if !self.evaluates || matches!(self.decided_by, DecidedBy::Policy(_)) {
            return;
        }
        match self.shrinkable(opinions, n) {
            Err(limit) => self.limits.push(limit),
            Ok(drain) => {
                plan.drain = drain;
                self.decided_by = DecidedBy::LowNeed;
            }
        }
    }

    /// The instances that can be drained now, or what keeps the pool from shrinking.
    fn shrinkable(&self, opinions: &[Opinion], n: u32) -> Result<Vec<usize>, Limit> {
        let settings = self.settings;
        if self.mass_failure {
            return Err(Limit::MassFailure);
        }
        let left_of = |since: Option<Duration>, time: Duration| {
            since.map_or(Duration::ZERO, |since| {
                time.saturating_sub(self.now.saturating_sub(since))
            })
        };
        let left = left_of(self.state.last_out, self.window);
        if !left.is_zero() {
            return Err(Limit::Window(left));
        }
        let left = left_of(self.state.last_in, settings.in_every);
        if !left.is_zero() {
            return Err(Limit::Cooldown(left));
        }
        let voting: Vec<&Opinion> = opinions
            .iter()
            .filter(|one| one.measured != Measured::Off)
            .collect();
        for opinion in &voting {
            let missing = match &opinion.measured {
                Measured::Known(known) => known.missing.is_some(),
                Measured::Missing(_) => true,
                Measured::Off | Measured::Guard { .. } => false,
            };
            if missing {
                return Err(Limit::Missing(opinion.policy));
            }
        }
        // A guard alone cannot tell that fewer suffice.
        if !voting
            .iter()
            .any(|one| matches!(one.measured, Measured::Known(_)))
        {
            return Err(Limit::Missing(ScalingPolicy::Utilisation));
        }
        let step = ((f64::from(n) * settings.in_step) as u32).max(1);
        let least = self.floor.0.max(self.settings.min);
        let lower = if settings.sizes.is_empty() {
            n.saturating_sub(step).max(least)
        } else {
            // The next allowed size, however far it is.
            let sizes = settings.sizes.iter().copied();
            sizes
                .filter(|size| *size < n && *size >= least)
                .max()
                .unwrap_or(n)
        };
        if lower >= n {
            return Err(Limit::Floor);
        }
        let most = (n - lower) as usize;
        let mut drain: Vec<usize> = Vec::new();
        let mut needed = ScalingPolicy::Utilisation;
        for index in victim::order(settings, self.readings) {
            if drain.len() == most {
                break;
            }
            drain.push(index);
            let against = voting
                .iter()
                .find(|one| !self.suffices_without(one, &drain));
            if let Some(one) = against {
                if !one.unknown.is_zero() {
                    return Err(Limit::Window(one.unknown));
                }
                needed = one.policy;
                drain.pop();
            }
        }
        let partial = !settings.sizes.is_empty() && drain.len() < most;
        if drain.is_empty() || partial {
            return Err(Limit::Needed(needed));
        }
        Ok(drain)
    }

    /// Whether a policy's highest requirement of the window is met without these instances.
    fn suffices_without(&self, opinion: &Opinion, drain: &[usize]) -> bool {
        let Some(highest) = opinion.highest else {
            return false;
        };
        match &opinion.measured {
            Measured::Known(known) => {
                let gone: f64 = drain.iter().map(|index| known.worth[*index]).sum();
                highest < self.settings.in_below * (known.available - gone) + TOLERANCE
            }
            // Without trouble in the whole window.
            Measured::Guard { .. } => highest == 0.0,
            Measured::Off | Measured::Missing(_) => true,
        }
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

/// Whether a pool has too little by a policy.
fn is_short(known: &Requirement) -> bool {
    known.required > known.above * known.available * (1.0 + TOLERANCE)
}

/// How many new instances a policy lacks when these are taken back.
fn missing_instances(opinion: &Opinion, taken_back: &[usize]) -> u32 {
    let Measured::Known(known) = &opinion.measured else {
        return 0;
    };
    let back: f64 = taken_back.iter().map(|index| known.worth[*index]).sum();
    // The threshold without what noise adds to it.
    let above = known.above.min(1.05);
    let lacking = (known.required / above - known.available - back) / known.each;
    (lacking - TOLERANCE)
        .ceil()
        .clamp(0.0, f64::from(lb_model::scaling::MAX_INSTANCES)) as u32
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
