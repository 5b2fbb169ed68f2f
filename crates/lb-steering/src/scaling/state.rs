//! What the law remembers of a pool. Whoever saves it and goes on from it decides as if nothing had happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lb_model::scaling::{Scaling, ScalingPolicy};
use serde::{Deserialize, Serialize};

use super::{
    highest::Highest,
    policies::{Unit, unit_of},
    rate::Rate,
    readings::{Clock, Offered, Phase, PoolReadings},
};
use crate::observation::Sample;

/// Time that passes between two calls counts for this many periods at most.
const MOST_PERIODS: u32 = 3;
/// Gain with which start-up times and the memory of idle instances are learned.
const GAIN: f64 = 0.3;
/// The multiple of start-up and drain that the window of the need has at least.
const WINDOW: f64 = 3.0;

/// What a policy remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyState {
    /// The unit of `highest`.
    pub unit: Option<Unit>,
    /// What it has required.
    pub highest: Highest,
    /// Periods of trouble in a row, of a guard.
    pub trouble: u32,
}

/// What the law remembers of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScalingState {
    /// The clock at the last call.
    last_call: Option<Duration>,
    /// The pool's own time: the sum of what passed between calls, each bounded. A clock that jumps neither ends a
    /// cooldown nor prolongs one.
    pub(super) time: Duration,
    /// What clients offer.
    pub(super) load: Rate,
    /// HTTP requests.
    pub(super) requests: Rate,
    /// Mean learned capacity of an instance, kept while it is missing.
    pub(super) capacity: Option<(Unit, f64)>,
    /// Used fraction of the memory of an instance that has just started.
    pub(super) idle_memory: Option<f64>,
    /// Time from the order of an instance until it serves, seconds.
    pub(super) start_up: Option<f64>,
    /// When the instances that start now were first seen.
    starting: BTreeMap<String, Duration>,
    pub(super) policies: BTreeMap<String, PolicyState>,
    /// Policies that have had readings, by name.
    awaited: BTreeSet<String>,
    pub(super) last_evaluation: Option<Duration>,
    pub(super) last_out: Option<Duration>,
    pub(super) last_in: Option<Duration>,
}

impl ScalingState {
    /// Records what was read. Returns how much of the pool's own time has passed.
    pub(super) fn observe(
        &mut self,
        settings: &Scaling,
        readings: &PoolReadings,
        clock: Clock,
    ) -> Duration {
        let passed = self
            .last_call
            .replace(clock.now)
            .map_or(Duration::ZERO, |last| clock.now.saturating_sub(last))
            .min(settings.period * MOST_PERIODS);
        let from = self.time;
        self.time += passed;
        self.observe_load(settings, readings, from);
        self.observe_start_ups(settings, readings);
        self.observe_awaited(settings, readings);
        passed
    }

    fn observe_load(&mut self, settings: &Scaling, readings: &PoolReadings, from: Duration) {
        let offered = readings.offered;
        if let (Some(offered), Some((unit, _))) = (offered, self.capacity)
            && unit_of(offered) != unit
        {
            // Load is counted in another unit now.
            self.capacity = None;
            self.load = Rate::default();
        }
        let known: Vec<f64> = readings
            .instances
            .iter()
            .filter(|one| one.phase == Phase::Serving)
            .filter_map(|one| one.known_capacity())
            .collect();
        if let (Some(offered), false) = (offered, known.is_empty()) {
            let mean = known.iter().sum::<f64>() / known.len() as f64;
            self.capacity = Some((unit_of(offered), mean));
        }
        let time = self.time.saturating_sub(from).as_secs_f64();
        let count = offered.map(|offered| match offered {
            Offered::Flows(flows) => flows,
            Offered::Connections(connections) => connections * time,
        });
        let keep = settings.load_over.max(settings.surge_over).as_secs();
        self.load.record(from, self.time, count, keep);
        let keep = settings.requests_over.as_secs();
        self.requests
            .record(from, self.time, readings.requests, keep);
    }

    /// Learns how long instances take to start, and the memory that they use before they have work.
    fn observe_start_ups(&mut self, settings: &Scaling, readings: &PoolReadings) {
        let before = std::mem::take(&mut self.starting);
        for one in &readings.instances {
            let since = before.get(&one.name);
            match one.phase {
                Phase::Starting => {
                    let since = since.copied().unwrap_or(self.time);
                    self.starting.insert(one.name.clone(), since);
                }
                Phase::Serving => {
                    let Some(since) = since else { continue };
                    learn(
                        &mut self.start_up,
                        self.time.saturating_sub(*since).as_secs_f64(),
                    );
                    if let Some(used) = Sample::fresh(one.memory, settings.stale_after) {
                        learn(&mut self.idle_memory, used.min(1.0));
                    }
                }
                _ => {}
            }
        }
    }

    fn observe_awaited(&mut self, settings: &Scaling, readings: &PoolReadings) {
        let some = |has: fn(&super::InstanceReadings) -> bool| readings.instances.iter().any(has);
        for (policy, has_data) in [
            (
                ScalingPolicy::Utilisation,
                some(|one| one.utilisation.is_some()),
            ),
            (ScalingPolicy::Requests, readings.requests.is_some()),
            (
                ScalingPolicy::Connections,
                some(|one| one.connections.is_some() && one.connection_limit.is_some()),
            ),
            (ScalingPolicy::Memory, some(|one| one.memory.is_some())),
            (ScalingPolicy::Latency, readings.latency.is_some()),
        ] {
            if has_data && settings.has_policy(policy) {
                self.awaited.insert(policy.name().to_owned());
            }
        }
    }

    /// Whether a policy has had readings, so that it is amiss if there are none.
    pub(super) fn is_awaited(&self, policy: ScalingPolicy) -> bool {
        self.awaited.contains(policy.name())
    }

    /// The window over which the need must be low before the pool shrinks.
    pub(super) fn window(&self, settings: &Scaling, life: Option<Duration>) -> Duration {
        let start_up = self.start_up(settings);
        let drain = life.unwrap_or_default().min(settings.drain_natural);
        settings.in_after.max((start_up + drain).mul_f64(WINDOW))
    }

    /// Time from the order of an instance until it serves.
    pub(super) fn start_up(&self, settings: &Scaling) -> Duration {
        let learned = self.start_up.map(Duration::from_secs_f64);
        settings.start_up.0.or(learned).unwrap_or_default()
    }
}

fn learn(value: &mut Option<f64>, found: f64) {
    let before = value.unwrap_or(found);
    *value = Some(before + GAIN * (found - before));
}
