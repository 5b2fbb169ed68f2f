//! The supervision of one VIP: its probes, its readers and its steering.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_model::{
    duration,
    intent::Vip,
    vip::{RealId, VipKey},
};

use super::{
    figures::{AWAITING_PROBE, ProbeCounts, RealFigures, VipFigures, limit_name},
    real_readings::RealReadings,
    run::AllFlowCounts,
    shed_pace::ShedPace,
    snapshot::{ProbeSnapshot, RealSnapshot, time_of},
    tasks::{Marks, RealContext, RealTasks, Tasks, is_tunnelled},
};
use crate::{
    KINDS,
    control::WeightUpdate,
    weights::{Effective, Steered, SteeredReal, effective},
};
use lb_clients::{
    health::{
        self, Outcome, Verdict,
        runner::FirstProbe,
        state::{Health, State},
    },
    load,
    shedding::ShedRequest,
};
use lb_steering::{Decision, LimitedBy, Observation, Safety, Signs, Steering, VipSteering};

/// Steps of VIPs are aligned to multiples of this, or of a quarter of a shorter period.
const STEP_GRID: Duration = Duration::from_millis(250);
/// The time between two steps of a VIP that is at rest, if its period is not longer: no load is read, no flow came or went,
/// and the last step changed nothing. An event steps it at once.
const REST: Duration = Duration::from_secs(15);
/// A weight that changes by this fraction is logged and announced to watchers. Smaller steps are not: weights follow load
/// all the time.
const NOTABLE: f64 = 0.2;

/// A VIP that is supervised. Dropping it ends its tasks.
pub(super) struct VipSupervisor {
    vip: Arc<Vip>,
    steering: VipSteering,
    reals: BTreeMap<RealId, Real>,
    /// The weights that the owner was last given.
    last_applied: Option<Steered>,
    due: Instant,
    pace: ShedPace,
    probes: ProbeCounts,
    /// Whether the VIP had fallen back to the operator's weights after the last step.
    has_fallen_back: bool,
}

struct Real {
    state: State,
    since: Instant,
    last: Option<(Outcome, Instant)>,
    /// It was added while others served, and its first probe has not ended.
    awaiting_first_probe: bool,
    readings: RealReadings,
    tasks: RealTasks,
    decision: Option<Decision>,
    /// What the data plane had counted at the last step.
    last_counted: Option<Counted>,
    /// Weight and state that were last announced.
    last_published: Effective,
}

impl VipSupervisor {
    /// Starts. `resumed` has the last weights of a previous agent, `time` is the time on steering's clock.
    pub(super) fn new(
        vip: Arc<Vip>,
        resumed: Option<Steered>,
        time: Duration,
        marks: &Marks,
        tasks: &Tasks,
    ) -> Self {
        let mut vip_steering = VipSteering::new(steering(&vip));
        let last: Vec<(RealId, u32, u32)> = resumed
            .iter()
            .flat_map(|steered| &steered.reals)
            // Reals that were down count as new when they come back.
            .filter(|(_, steered)| steered.up)
            .filter_map(|(address, steered)| {
                let real = vip.reals.get(address)?;
                Some((*address, real.spec.weight, steered.weight))
            })
            .collect();
        vip_steering.resume(time, &last);
        let mut supervisor = VipSupervisor {
            vip: Arc::clone(&vip),
            steering: vip_steering,
            reals: BTreeMap::new(),
            last_applied: resumed.clone(),
            due: Instant::now(),
            pace: ShedPace::default(),
            probes: ProbeCounts::default(),
            has_fallen_back: false,
        };
        supervisor.update_reals(true, resumed.as_ref(), marks, tasks);
        supervisor
    }

    /// Takes the VIP's settings as they are now.
    pub(super) fn update(&mut self, vip: Arc<Vip>, marks: &Marks, tasks: &Tasks) {
        self.vip = vip;
        let spec = steering(&self.vip);
        if spec != *self.steering.settings() {
            self.due = self.due.min(Instant::now() + spec.period);
            self.steering.set_settings(spec);
        }
        // The VIP may have been deleted and added meanwhile: then its owner has lost the weights.
        self.last_applied = None;
        self.update_reals(false, Some(&Steered::default()), marks, tasks);
    }

    /// With `first`, all reals were there before; otherwise those that are new were added just now. `had` are the weights
    /// that the owner gives new reals until it gets others.
    fn update_reals(&mut self, first: bool, had: Option<&Steered>, marks: &Marks, tasks: &Tasks) {
        let vip = Arc::clone(&self.vip);
        self.reals
            .retain(|address, _| vip.reals.contains_key(address));
        self.pace.keep(|real| vip.reals.contains_key(real));
        let served = self.reals.values().any(|real| real.state == State::Up);
        for (id, real) in &vip.reals {
            let (address, spec) = (*id, &real.spec);
            let now = Instant::now();
            // The last state of a real that cannot be probed says nothing of its state now.
            let reached = marks.contains_key(&address) || !is_tunnelled(&vip, spec);
            let probed = vip.spec.check.is_some() && !spec.check.disabled && reached;
            let sources = KINDS.sources(&vip, spec);
            let real = self.reals.entry(address).or_insert_with(|| {
                let last_published = effective(address, spec, had);
                Real {
                    state: if last_published.up {
                        State::Unknown
                    } else {
                        State::Down
                    },
                    since: now,
                    last: None,
                    awaiting_first_probe: probed && !first && served,
                    readings: RealReadings::new(&sources),
                    tasks: RealTasks::default(),
                    decision: None,
                    last_counted: None,
                    last_published,
                }
            });
            if !probed {
                if real.tasks.is_probed() {
                    self.steering.forget_health(address);
                }
                real.state = State::Unknown;
                real.last = None;
                real.awaiting_first_probe = false;
            }
            real.readings.set_sources(&sources);
            if sources.is_empty() {
                self.steering.forget_load(address);
            }
            let context = RealContext {
                vip: &vip,
                address,
                real: spec,
                mark: marks.get(&address).copied(),
            };
            let health = match real.state {
                State::Down => Health::dead(now),
                _ => Health::new(now),
            };
            // One that waits for its first probe is not to wait for long.
            let first_probe = if real.awaiting_first_probe {
                FirstProbe::AtOnce
            } else {
                FirstProbe::Spread
            };
            real.tasks.probe(&context, health, first_probe, tasks);
            real.tasks.read(&context, sources, tasks);
            real.tasks.shed_by(&context);
        }
    }

    /// Drops the tasks of reals that have ended by themselves, a fault of this program, and names them. An update of the VIP
    /// starts them again.
    pub(super) fn drop_ended(&mut self) -> Vec<(RealId, String)> {
        let reals = self.reals.iter_mut();
        reals
            .flat_map(|(address, real)| {
                let ended = real.tasks.drop_ended().into_iter();
                ended.map(|task| (*address, task))
            })
            .collect()
    }

    /// The VIP.
    pub(super) fn vip(&self) -> &Arc<Vip> {
        &self.vip
    }

    /// When the next step, or the next part to shed, is due.
    pub(super) fn due(&self) -> Instant {
        self.pace.due().map_or(self.due, |due| due.min(self.due))
    }

    /// When the next step is due.
    pub(super) fn step_due(&self) -> Instant {
        self.due
    }

    /// The parts to shed that are due between two steps, per real.
    pub(super) fn shed_part(&mut self, now: Instant) -> Vec<(RealId, u32)> {
        self.pace.take(now)
    }

    /// Reals that may have flows left to shed.
    pub(super) fn paced(&self) -> Vec<RealId> {
        self.pace.reals().collect()
    }

    /// Reals that are probed through the tunnel.
    pub(super) fn tunnelled(vip: &Vip) -> Vec<RealId> {
        vip.reals
            .iter()
            .filter(|(_, real)| is_tunnelled(vip, &real.spec))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Notes the report of a probe. Returns whether steering is to be stepped at once.
    pub(super) fn probed(&mut self, report: health::runner::Report) -> bool {
        let Some(real) = self.reals.get_mut(&report.real) else {
            return false;
        };
        // A probe that was ended may have one more report on its way.
        if !real.tasks.is_probed() {
            return false;
        }
        let now = Instant::now();
        self.probes.count(&report.outcome);
        real.readings.probed(&report.outcome, now);
        // An unknown one has failed, and may only be slow to start.
        let first = real.awaiting_first_probe && report.state != State::Unknown;
        if first {
            real.awaiting_first_probe = false;
        }
        real.last = Some((report.outcome, now));
        real.state = report.state;
        real.since = report.since;
        first || report.change.is_some()
    }

    /// Notes the report of a reader. Returns whether steering is to be stepped at once.
    pub(super) fn read(&mut self, report: load::reading::Report) -> bool {
        self.reals
            .get_mut(&report.subject.real)
            .is_some_and(|real| real.readings.take(&report))
    }

    /// Whether a real gets no flows until its first probe has ended: others are known to be up.
    fn waits(&self, real: &Real) -> bool {
        real.awaiting_first_probe && self.reals.values().any(|other| other.state == State::Up)
    }

    /// Steps the steering. Returns the weights for the owner, if they differ from the last, and the flows that the data
    /// plane is to shed, per real.
    pub(super) fn step(
        &mut self,
        now: Instant,
        time: Duration,
        counts: &AllFlowCounts,
    ) -> (Option<WeightUpdate>, Vec<(RealId, u32)>) {
        let Steering {
            period, shed_rate, ..
        } = *self.steering.settings();
        let observed = self.observed(now, counts);
        let decisions = self.steering.step(time, &observed);
        let rests = self.rests(&observed, &decisions);
        let pause = if rests { period.max(REST) } else { period };
        if self.due <= now {
            self.due = now + next_step(time, pause);
        } else if !rests {
            // An event has ended its rest.
            self.due = self.due.min(now + next_step(time, period));
        }
        let mut steered = Steered::default();
        let mut causes = Vec::new();
        for (observed, decision) in observed.iter().zip(decisions) {
            let Some(real) = self.reals.get_mut(&observed.address) else {
                continue;
            };
            let last_published = Effective {
                up: observed.up,
                weight: decision.weight,
            };
            steered.reals.insert(
                observed.address,
                SteeredReal {
                    weight: last_published.weight,
                    up: last_published.up,
                },
            );
            let request = ShedRequest {
                flows: decision.shed.unwrap_or(0),
                is_drained: observed.drained,
                rate: shed_rate,
            };
            real.tasks.observe_opened(observed.opened);
            let elsewhere = real.tasks.shed(request);
            if let Some(flows) = decision.shed {
                let flows = if elsewhere { 0 } else { flows };
                self.pace.set_quota(observed.address, flows, period, now);
            }
            if notable(real.last_published, last_published) {
                causes.push((
                    observed.address,
                    cause(real, last_published, &decision.limited_by).into(),
                ));
                real.last_published = last_published;
            }
            real.decision = Some(decision);
            real.last_counted = Some(counted(observed));
        }
        let sheds = self.pace.take(now);
        let notice = self.fallback_notice().map(Arc::from);
        if self.last_applied.as_ref() == Some(&steered) && notice.is_none() {
            return (None, sheds);
        }
        self.last_applied = Some(steered.clone());
        let update = WeightUpdate {
            vip: self.vip.address,
            steered: Some(steered),
            causes,
            notice,
        };
        (Some(update), sheds)
    }

    /// Whether the VIP is at rest: a step after a period would be given what it has been given, and decide the same.
    fn rests(&self, observed: &[Observation], decisions: &[Decision]) -> bool {
        let is_same = |before: &Decision, now: &Decision| {
            let before = Decision {
                shed: now.shed,
                ..before.clone()
            };
            now.shed.is_none_or(|flows| flows == 0) && before == *now
        };
        observed.iter().zip(decisions).all(|(observed, decision)| {
            let Some(real) = self.reals.get(&observed.address) else {
                return false;
            };
            let is_read = !real.readings.sources().is_empty() || observed.load.latency.is_some();
            let before = real.decision.as_ref();
            !is_read
                && real.last_counted == Some(counted(observed))
                && before.is_some_and(|before| is_same(before, decision))
        })
    }

    /// The observations for steering, of the reals that do not wait.
    fn observed(&self, now: Instant, counts: &AllFlowCounts) -> Vec<Observation> {
        let observed = |(address, real): (&RealId, &Real)| {
            let spec = &self.vip.reals.get(address)?.spec;
            let counts = counts.get(&(self.vip.address, *address));
            Some(Observation {
                address: *address,
                weight: spec.weight,
                drained: spec.drained,
                evacuated: spec.evacuated,
                up: real.state != State::Down,
                wants_drain: real.state == State::Drain,
                since_up: now.saturating_duration_since(real.since),
                load: real.readings.load(now),
                opened: counts.map_or(0, |counts| counts.opened),
                closed: counts.map_or(0, |counts| counts.closed),
                signs: counts.and_then(|counts| counts.signs).map(signs),
                flows: counts
                    .and_then(|counts| counts.flows)
                    .map(|flows| flows as f64),
                share: counts.map(|counts| counts.share),
            })
        };
        self.reals
            .iter()
            .filter(|(_, real)| !self.waits(real))
            .filter_map(observed)
            .collect()
    }

    /// What is to be said if the VIP has just fallen back to the operator's weights, or is steered again.
    fn fallback_notice(&mut self) -> Option<String> {
        let vip = self.vip.address;
        let safety = self.steering.safety();
        let falls_back = matches!(safety, Safety::OperatorWeights { .. });
        if std::mem::replace(&mut self.has_fallen_back, falls_back) == falls_back {
            return None;
        }
        Some(match safety {
            Safety::Normal => format!("VIP {vip} is steered again"),
            Safety::OperatorWeights { reason, .. } => {
                format!("VIP {vip} is not steered, the operator's weights apply: {reason}")
            }
        })
    }

    /// That the VIP has fallen back to the operator's weights; `time` is now, on steering's clock.
    pub(super) fn fallback_warning(&self, time: Duration) -> Option<String> {
        let vip = self.vip.address;
        match self.steering.safety() {
            Safety::Normal => None,
            Safety::OperatorWeights { reason, since } => {
                let seconds = time.saturating_sub(since).as_secs();
                let since = duration::format(Duration::from_secs(seconds + 1));
                Some(format!(
                    "VIP {vip} is not steered, the operator's weights apply for {since}: {reason}; `lbctl why` shows \
                     its reals"
                ))
            }
        }
    }

    /// Its figures.
    pub(super) fn figures(&self) -> VipFigures {
        let now = Instant::now();
        let figures = |real: &Real| {
            let decision = real.decision.as_ref();
            let utilisation = real.readings.load(now).utilisation;
            RealFigures {
                utilisation: utilisation.map(|sample| sample.value),
                capacity: decision.and_then(|decision| decision.capacity),
                target_share: decision.map(|decision| decision.wanted_share),
                trust: decision.and_then(|decision| Some(decision.trust?.level)),
                limited_by: if self.waits(real) {
                    Some(AWAITING_PROBE)
                } else {
                    decision.map(|decision| limit_name(&decision.limited_by))
                },
                readers: real.readings.reader_figures(now),
            }
        };
        VipFigures {
            falls_back: matches!(self.steering.safety(), Safety::OperatorWeights { .. }),
            probes: self.vip.spec.check.is_some().then(|| ProbeCounts {
                undecided: self.undecided(),
                ..self.probes.clone()
            }),
            reals: self
                .reals
                .iter()
                .map(|(address, real)| (*address, figures(real)))
                .collect(),
        }
    }

    /// Reals whose last probe says nothing about them.
    pub(super) fn undecided(&self) -> u64 {
        let undecided = |real: &&Real| matches!(&real.last, Some((outcome, _)) if outcome.verdict == Verdict::Inconclusive);
        self.reals.values().filter(undecided).count() as u64
    }

    /// Tells watchers something of a real, with the weights that the owner has.
    pub(super) fn tell(&self, real: RealId, cause: String) -> Option<WeightUpdate> {
        Some(WeightUpdate {
            vip: self.vip.address,
            steered: Some(self.last_applied.clone()?),
            causes: vec![(real, cause.into())],
            notice: None,
        })
    }

    /// What is known of its reals.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = ((VipKey, RealId), RealSnapshot)> + '_ {
        let now = Instant::now();
        self.reals.iter().map(move |(address, real)| {
            let load = real.readings.load(now);
            let snapshot = RealSnapshot {
                probe: real.last.as_ref().map(|(outcome, at)| ProbeSnapshot {
                    verdict: outcome.verdict.name(),
                    reason: outcome.reason.clone(),
                    time: time_of(*at),
                    latency: outcome.latency,
                }),
                readings: real.readings.snapshots(),
                utilisation: load.utilisation.map(|sample| sample.value),
                capacity: real
                    .decision
                    .as_ref()
                    .and_then(|decision| decision.capacity),
                wanted_share: real.decision.as_ref().map(|decision| decision.wanted_share),
                trust: real.decision.as_ref().and_then(|decision| decision.trust),
                limited_by: if self.waits(real) {
                    Some("waits until a probe finds it alive".to_owned())
                } else {
                    real.decision
                        .as_ref()
                        .map(|decision| decision.limited_by.to_string())
                },
            };
            ((self.vip.address, *address), snapshot)
        })
    }
}

/// The settings of steering, with a period that is not shorter than the interval of the fastest source.
fn steering(vip: &Vip) -> Steering {
    let mut spec = vip.spec.steering.clone().unwrap_or_default();
    let fastest = vip.spec.load.iter().map(load::reader::interval).min();
    spec.period = spec.period.max(fastest.unwrap_or_default());
    spec
}

/// The time until the next step, about a period. VIPs are stepped at common moments (at most four in a period), because
/// each step of a few needs the flows of all, and of thousands of VIPs each has its own phase.
fn next_step(time: Duration, period: Duration) -> Duration {
    let grid = (period / 4).min(STEP_GRID).as_nanos().max(1);
    let next = (time + period).as_nanos();
    let aligned = (next + grid / 2) / grid * grid;
    // At least three quarters of a period, so a time far below the range of u64.
    Duration::from_nanos(u64::try_from(aligned.saturating_sub(time.as_nanos())).unwrap_or(u64::MAX))
}

/// Flows that were opened, were closed, and are open.
type Counted = (u64, u64, Option<f64>);

const fn counted(observed: &Observation) -> Counted {
    (observed.opened, observed.closed, observed.flows)
}

/// What the data plane counted, for steering.
const fn signs(counted: lb_dataplane::Signs) -> Signs {
    let lb_dataplane::Signs {
        opened,
        repeated,
        resets,
        lives,
    } = counted;
    Signs {
        opened,
        repeated,
        resets,
        lives,
    }
}

/// Whether a change is announced: of health, of whether the real takes new flows, or a large step of the weight.
fn notable(before: Effective, now: Effective) -> bool {
    let step = (f64::from(now.weight) - f64::from(before.weight)).abs();
    before.up != now.up
        || (before.weight == 0) != (now.weight == 0)
        || step > NOTABLE * f64::from(before.weight.max(now.weight))
}

/// Why, in words.
fn cause(real: &Real, now: Effective, limit: &LimitedBy) -> String {
    let before = real.last_published;
    if !now.up && before.up {
        let reason = real
            .last
            .as_ref()
            .map_or("", |(outcome, _)| outcome.reason.as_str());
        return format!("down: {reason}");
    }
    let prefix = if before.up { "" } else { "up again: " };
    match limit {
        LimitedBy::Nothing => format!("{prefix}weight {}", now.weight),
        limit => format!("{prefix}weight {}: {limit}", now.weight),
    }
}

#[cfg(test)]
mod tests;
