//! One VIP that is looked after: its probes, its readers and its controller.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_model::vip::VipAddress;

use super::{
    figures::{AWAITING_PROBE, ProbeCounts, RealFigures, VipFigures, limit_name},
    found::{Found, ProbeFound, time_of},
    pace::Pace,
    readings::Readings,
    supervisor::Carried,
    tasks::{Asked, Marks, RealTasks, Tasks, is_tunnelled, sources},
};
use crate::control::SteerOrder;
use crate::intent::Vip;
use crate::steer::{Effective, Steered, SteeredReal, effective};
use lb_clients::health::{
    self, Outcome,
    state::{Health, State},
};
use lb_clients::load;
use lb_clients::shedding;
use lb_steering::{Controller, Decision, Limit, Observed, spec::Steering};

/// A weight that changes by this part of itself is told to watchers and logged, a smaller step is not: weights
/// follow load all the time.
const NOTABLE: f64 = 0.2;

/// A VIP that is looked after. Dropping it ends its tasks.
pub(super) struct Watch {
    vip: Arc<Vip>,
    controller: Controller,
    reals: BTreeMap<IpAddr, Real>,
    /// What the owner was last given.
    given: Option<Steered>,
    due: Instant,
    pace: Pace,
    probes: ProbeCounts,
}

struct Real {
    state: State,
    since: Instant,
    last: Option<(Outcome, Instant)>,
    /// It came while the others served, and its first probe is not over: it waits.
    awaited: bool,
    readings: Readings,
    tasks: RealTasks,
    decision: Option<Decision>,
    /// What was last told of it.
    told: Effective,
}

impl Watch {
    /// Begins; `resumed` is what the last agent's steering made of it, `time` the controllers' clock.
    pub(super) fn new(
        vip: Arc<Vip>,
        resumed: Option<Steered>,
        time: Duration,
        marks: &Marks,
        tasks: &Tasks,
    ) -> Self {
        let mut controller = Controller::new(steering(&vip));
        let last: Vec<(IpAddr, u32, u32)> = resumed
            .iter()
            .flat_map(|steered| &steered.reals)
            // The dead are new when they come back.
            .filter(|(_, steered)| steered.up)
            .filter_map(|(address, steered)| {
                Some((*address, vip.reals.get(address)?.weight, steered.weight))
            })
            .collect();
        controller.resume(time, &last);
        let mut watch = Watch {
            vip: Arc::clone(&vip),
            controller,
            reals: BTreeMap::new(),
            given: resumed.clone(),
            due: Instant::now(),
            pace: Pace::default(),
            probes: ProbeCounts::default(),
        };
        watch.update_reals(true, resumed.as_ref(), marks, tasks);
        watch
    }

    /// The VIP is like this now.
    pub(super) fn update(&mut self, vip: Arc<Vip>, marks: &Marks, tasks: &Tasks) {
        self.vip = vip;
        let spec = steering(&self.vip);
        if spec != *self.controller.spec() {
            self.due = self.due.min(Instant::now() + spec.period);
            self.controller.set_spec(spec);
        }
        // The VIP may have been deleted and added meanwhile: then its owner knows nothing of what it was given.
        self.given = None;
        self.update_reals(false, Some(&Steered::default()), marks, tasks);
    }

    /// `first`: all reals were there before; else those that are new came just now. `had`: what the owner gives those
    /// that are new until it hears of them.
    fn update_reals(&mut self, first: bool, had: Option<&Steered>, marks: &Marks, tasks: &Tasks) {
        let vip = Arc::clone(&self.vip);
        self.reals
            .retain(|address, _| vip.reals.contains_key(address));
        self.pace.keep(|real| vip.reals.contains_key(real));
        let served = self.reals.values().any(|real| real.state == State::Up);
        for (address, spec) in &vip.reals {
            let now = Instant::now();
            // Where a real cannot be asked, what it was is no news of what it is.
            let reached = marks.contains_key(address) || !is_tunnelled(&vip, spec);
            let probed = vip.spec.check.is_some() && !spec.check.disabled && reached;
            let sources = sources(&vip, spec);
            let real = self.reals.entry(*address).or_insert_with(|| {
                let told = effective(*address, spec, had);
                Real {
                    state: if told.up { State::Unknown } else { State::Down },
                    since: now,
                    last: None,
                    awaited: probed && !first && served,
                    readings: Readings::new(&sources),
                    tasks: RealTasks::default(),
                    decision: None,
                    told,
                }
            });
            if !probed {
                if real.tasks.is_probed() {
                    self.controller.forget_health(*address);
                }
                real.state = State::Unknown;
                real.last = None;
                real.awaited = false;
            }
            real.readings.set_sources(&sources);
            if sources.is_empty() {
                self.controller.forget_load(*address);
            }
            let asked = Asked {
                vip: &vip,
                address: *address,
                real: spec,
                mark: marks.get(address).copied(),
            };
            let health = match real.state {
                State::Down => Health::dead(now),
                _ => Health::new(now),
            };
            real.tasks.probe(&asked, health, tasks);
            real.tasks.read(&asked, sources, tasks);
            real.tasks.shed_by(&asked);
        }
    }

    /// The VIP.
    pub(super) fn vip(&self) -> &Vip {
        &self.vip
    }

    /// When something is to be done next: a step, or the next part of what is to be shed.
    pub(super) fn due(&self) -> Instant {
        self.pace.due().map_or(self.due, |due| due.min(self.due))
    }

    /// When it is to be stepped next.
    pub(super) fn step_due(&self) -> Instant {
        self.due
    }

    /// The part of what is to be shed that is due between two steps, per real.
    pub(super) fn shed_part(&mut self, now: Instant) -> Vec<(IpAddr, u32)> {
        self.pace.take(now)
    }

    /// Reals that may have flows left to shed.
    pub(super) fn paced(&self) -> Vec<IpAddr> {
        self.pace.reals().collect()
    }

    /// Reals that are probed through the tunnel.
    pub(super) fn tunnelled(vip: &Vip) -> Vec<IpAddr> {
        vip.reals
            .iter()
            .filter(|(_, real)| is_tunnelled(vip, real))
            .map(|(address, _)| *address)
            .collect()
    }

    /// Notes what a probe found; true if the controller is to be asked at once.
    pub(super) fn probed(&mut self, report: health::runner::Report) -> bool {
        let Some(real) = self.reals.get_mut(&report.real) else {
            return false;
        };
        // What an ended probe still had to say is no news.
        if !real.tasks.is_probed() {
            return false;
        }
        let now = Instant::now();
        self.probes.count(&report.outcome);
        real.readings.probed(&report.outcome, now);
        // One that is unknown has failed, and may only be slow to start.
        let came = real.awaited && report.state != State::Unknown;
        if came {
            real.awaited = false;
        }
        real.last = Some((report.outcome, now));
        real.state = report.state;
        real.since = report.since;
        came || report.change.is_some()
    }

    /// Notes what a reader read; true if the controller is to be asked at once.
    pub(super) fn read(&mut self, report: load::reading::Report) -> bool {
        self.reals
            .get_mut(&report.subject.real)
            .is_some_and(|real| real.readings.take(&report))
    }

    /// Whether a real gets nothing before its first probe is over: others are known to live.
    fn waits(&self, real: &Real) -> bool {
        real.awaited && self.reals.values().any(|other| other.state == State::Up)
    }

    /// Asks the controller: what the owner is to be given, if it differs, and what the data plane is to be told of
    /// flows to shed, per real.
    pub(super) fn step(
        &mut self,
        now: Instant,
        time: Duration,
        carried: &Carried,
    ) -> (Option<SteerOrder>, Vec<(IpAddr, u32)>) {
        let Steering {
            period, shed_rate, ..
        } = *self.controller.spec();
        if self.due <= now {
            self.due = now + period;
        }
        let observed = self.observed(now, carried);
        let decisions = self.controller.step(time, &observed);
        let mut steered = Steered::default();
        let mut causes = Vec::new();
        for (observed, decision) in observed.iter().zip(decisions) {
            let Some(real) = self.reals.get_mut(&observed.address) else {
                continue;
            };
            let told = Effective {
                up: observed.up,
                weight: decision.weight,
            };
            steered.reals.insert(
                observed.address,
                SteeredReal {
                    weight: told.weight,
                    up: told.up,
                },
            );
            let order = shedding::Order {
                flows: decision.shed.unwrap_or(0),
                drained: observed.drained,
                rate: shed_rate,
            };
            real.tasks.observe_opened(observed.opened);
            let elsewhere = real.tasks.shed(order);
            if let Some(flows) = decision.shed {
                let flows = if elsewhere { 0 } else { flows };
                self.pace.order(observed.address, flows, period, now);
            }
            if notable(real.told, told) {
                causes.push((observed.address, cause(real, told, &decision.limit).into()));
                real.told = told;
            }
            real.decision = Some(decision);
        }
        let sheds = self.pace.take(now);
        if self.given.as_ref() == Some(&steered) {
            return (None, sheds);
        }
        self.given = Some(steered.clone());
        let order = SteerOrder {
            vip: self.vip.address,
            steered: Some(steered),
            causes,
        };
        (Some(order), sheds)
    }

    /// What the controller is told of those that do not wait.
    fn observed(&self, now: Instant, carried: &Carried) -> Vec<Observed> {
        let observed = |(address, real): (&IpAddr, &Real)| {
            let spec = self.vip.reals.get(address)?;
            let carried = carried.get(&(self.vip.address, *address));
            Some(Observed {
                address: *address,
                weight: spec.weight,
                drained: spec.drained,
                up: real.state != State::Down,
                wants_drain: real.state == State::Drain,
                since_up: now.saturating_duration_since(real.since),
                load: real.readings.load(now),
                opened: carried.map_or(0, |carried| carried.opened),
                closed: carried.map_or(0, |carried| carried.closed),
                flows: carried
                    .and_then(|carried| carried.flows)
                    .map(|flows| flows as f64),
                share: carried.map(|carried| carried.share),
            })
        };
        self.reals
            .iter()
            .filter(|(_, real)| !self.waits(real))
            .filter_map(observed)
            .collect()
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
                target_share: decision.map(|decision| decision.wanted),
                limited_by: if self.waits(real) {
                    Some(AWAITING_PROBE)
                } else {
                    decision.map(|decision| limit_name(&decision.limit))
                },
                readers: real.readings.reader_figures(now),
            }
        };
        VipFigures {
            probes: self.vip.spec.check.is_some().then(|| self.probes.clone()),
            reals: self
                .reals
                .iter()
                .map(|(address, real)| (*address, figures(real)))
                .collect(),
        }
    }

    /// What is known of its reals.
    pub(super) fn found(&self) -> impl Iterator<Item = ((VipAddress, IpAddr), Found)> + '_ {
        let now = Instant::now();
        self.reals.iter().map(move |(address, real)| {
            let load = real.readings.load(now);
            let found = Found {
                probe: real.last.as_ref().map(|(outcome, at)| ProbeFound {
                    verdict: outcome.verdict.name(),
                    reason: outcome.reason.clone(),
                    time: time_of(*at),
                    latency: outcome.latency,
                }),
                readings: real.readings.found(),
                utilisation: load.utilisation.map(|sample| sample.value),
                capacity: real
                    .decision
                    .as_ref()
                    .and_then(|decision| decision.capacity),
                wanted: real.decision.as_ref().map(|decision| decision.wanted),
                limit: if self.waits(real) {
                    Some("waits until a probe finds it alive".to_owned())
                } else {
                    real.decision
                        .as_ref()
                        .map(|decision| decision.limit.to_string())
                },
            };
            ((self.vip.address, *address), found)
        })
    }
}

/// The constants, with a period in which a source can say something new.
fn steering(vip: &Vip) -> Steering {
    let mut spec = vip.spec.steering.clone().unwrap_or_default();
    let fastest = vip.spec.load.iter().map(|source| source.interval).min();
    spec.period = spec.period.max(fastest.unwrap_or_default());
    spec
}

/// Whether watchers are told: health, whether it takes new flows, or a large step of the weight.
fn notable(before: Effective, now: Effective) -> bool {
    let step = (f64::from(now.weight) - f64::from(before.weight)).abs();
    before.up != now.up
        || (before.weight == 0) != (now.weight == 0)
        || step > NOTABLE * f64::from(before.weight.max(now.weight))
}

/// Why, in words.
fn cause(real: &Real, now: Effective, limit: &Limit) -> String {
    let before = real.told;
    if !now.up && before.up {
        let reason = real
            .last
            .as_ref()
            .map_or("", |(outcome, _)| outcome.reason.as_str());
        return format!("down: {reason}");
    }
    let came = if before.up { "" } else { "up again: " };
    match limit {
        Limit::Nothing => format!("{came}weight {}", now.weight),
        limit => format!("{came}weight {}: {limit}", now.weight),
    }
}

#[cfg(test)]
mod tests;
