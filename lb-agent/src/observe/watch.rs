//! One VIP that is looked after: its probes, its readers and its controller.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::vip::VipAddress;

use super::{
    found::{Found, ProbeFound, time_of},
    readings::Readings,
    supervisor::Carried,
    tasks::{Marks, RealTasks, Tasks, sources},
};
use crate::{
    control::SteerOrder,
    health::{
        self, Outcome,
        spec::Via,
        state::{Health, State},
    },
    intent::{RealSpec, Vip},
    load,
    steer::{Steered, SteeredReal},
    steering::{Controller, Decision, Limit, Observed, spec::Steering},
};

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
    told: Option<Told>,
}

#[derive(Clone, Copy, PartialEq)]
struct Told {
    up: bool,
    weight: u32,
    barred: bool,
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
        };
        watch.update_reals(Some(&resumed.unwrap_or_default()), marks, tasks);
        watch
    }

    /// The VIP is like this now.
    pub(super) fn update(&mut self, vip: Arc<Vip>, marks: &Marks, tasks: &Tasks) {
        if steering(&vip) != steering(&self.vip) {
            self.controller.set_spec(steering(&vip));
        }
        self.vip = vip;
        self.update_reals(None, marks, tasks);
    }

    /// `resumed`: all reals were there before; none: those that are new came just now.
    fn update_reals(&mut self, resumed: Option<&Steered>, marks: &Marks, tasks: &Tasks) {
        let vip = Arc::clone(&self.vip);
        self.reals
            .retain(|address, _| vip.reals.contains_key(address));
        for (address, spec) in &vip.reals {
            let now = Instant::now();
            let probed = vip.spec.check.is_some() && !spec.check.disabled;
            let real = self.reals.entry(*address).or_insert_with(|| {
                let dead = resumed
                    .and_then(|steered| steered.reals.get(address))
                    .is_some_and(|steered| !steered.up);
                Real {
                    state: if dead { State::Down } else { State::Unknown },
                    since: now,
                    last: None,
                    awaited: probed && resumed.is_none(),
                    readings: Readings::new(sources(&vip, spec).collect()),
                    tasks: RealTasks::default(),
                    decision: None,
                    told: None,
                }
            });
            if !probed {
                real.state = State::Unknown;
                real.last = None;
                real.awaited = false;
            }
            real.readings.set_sources(sources(&vip, spec).collect());
            let (state, mark) = (real.state, marks.get(address).copied());
            let health = || match state {
                State::Down => Health::dead(now),
                _ => Health::new(now),
            };
            real.tasks.update(&vip, *address, spec, mark, health, tasks);
        }
    }

    /// The VIP.
    pub(super) fn vip(&self) -> &Vip {
        &self.vip
    }

    /// When the controller is to be asked next.
    pub(super) fn due(&self) -> Instant {
        self.due
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
        let now = Instant::now();
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

    /// Asks the controller: what the owner is to be given, if it differs, and flows to shed per real.
    pub(super) fn step(
        &mut self,
        now: Instant,
        time: Duration,
        carried: &Carried,
    ) -> (Option<SteerOrder>, Vec<(IpAddr, u32)>) {
        let period = steering(&self.vip).period;
        if self.due <= now {
            self.due = now + period;
        }
        let observed: Vec<Observed> = self
            .reals
            .iter()
            .filter(|(_, real)| !self.waits(real))
            .filter_map(|(address, real)| {
                let spec = self.vip.reals.get(address)?;
                let carried = carried.get(&(self.vip.address, *address));
                real.tasks
                    .observe_opened(carried.map_or(0, |carried| carried.opened));
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
            })
            .collect();
        let decisions = self.controller.step(time, &observed);
        let mut steered = Steered::default();
        let mut causes = Vec::new();
        let mut sheds = Vec::new();
        for (observed, decision) in observed.iter().zip(decisions) {
            let Some(real) = self.reals.get_mut(&observed.address) else {
                continue;
            };
            let weight = decision.weight;
            steered.reals.insert(
                observed.address,
                SteeredReal {
                    weight,
                    up: observed.up,
                },
            );
            if decision.shed > 0 {
                sheds.push((observed.address, decision.shed));
            }
            let told = Told {
                up: observed.up,
                weight,
                barred: weight == 0,
            };
            if notable(real.told, told) {
                causes.push((observed.address, cause(real, told, &decision.limit).into()));
                real.told = Some(told);
            }
            real.decision = Some(decision);
        }
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

    /// What is known of its reals.
    pub(super) fn found(&self) -> impl Iterator<Item = ((VipAddress, IpAddr), Found)> + '_ {
        let now = Instant::now();
        let checked = self.vip.spec.check.is_some();
        self.reals.iter().map(move |(address, real)| {
            let load = real.readings.load(now);
            let found = Found {
                since: checked.then(|| time_of(real.since)),
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
                    Some("waits for its first probe".to_owned())
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

/// Whether a real is probed through the tunnel.
pub(super) fn is_tunnelled(vip: &Vip, real: &RealSpec) -> bool {
    vip.spec.check.as_ref().is_some_and(|check| {
        real.check.address.is_none()
            && !real.check.disabled
            && real.check.via.unwrap_or(check.via) == Via::Tunnel
    })
}

fn steering(vip: &Vip) -> Steering {
    vip.spec.steering.clone().unwrap_or_default()
}

/// Whether watchers are told: health, whether it takes new flows, or a large step of the weight.
fn notable(before: Option<Told>, now: Told) -> bool {
    let Some(before) = before else {
        return !now.up;
    };
    let step = (f64::from(now.weight) - f64::from(before.weight)).abs();
    before.up != now.up
        || before.barred != now.barred
        || step > NOTABLE * f64::from(before.weight.max(now.weight))
}

/// Why, in words.
fn cause(real: &Real, now: Told, limit: &Limit) -> String {
    let before = real.told;
    if !now.up && before.is_none_or(|before| before.up) {
        let reason = real
            .last
            .as_ref()
            .map_or("", |(outcome, _)| outcome.reason.as_str());
        return format!("down: {reason}");
    }
    let came = if before.is_some_and(|before| !before.up) {
        "up again: "
    } else {
        ""
    };
    match limit {
        Limit::Nothing => format!("{came}weight {}", now.weight),
        limit => format!("{came}weight {}: {limit}", now.weight),
    }
}
