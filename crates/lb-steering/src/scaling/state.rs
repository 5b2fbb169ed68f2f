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
/// Time for which the capacity of an instance is taken over as it is learned; ...
const LEARNING: Duration = Duration::from_secs(60);
/// ... then it changes by this much (natural logarithm) a second: a fifth a minute.
const BELIEF_PER_SECOND: f64 = 0.003;
/// Learned capacities are believed if readings confirm at least this part of them, ...
const CREDIBLE: f64 = 0.9;
/// ... averaged over this many seconds, ...
const CREDIBILITY_OVER: f64 = 15.0;
/// ... of instances that had served for this long when they were read, ...
const SEASONED: Duration = Duration::from_secs(4);
/// ... if these are at least this part of the capacity, ...
const LEAST_READ: f64 = 0.75;
/// ... and are used by more than this.
const LEAST_USED: f64 = 0.15;
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
    /// Learned capacities by name, as they were when the instance was last seen below saturation. What is learned of a
    /// saturated instance is a guess.
    pub(super) capacities: BTreeMap<String, f64>,
    /// What the readings of utilisation say the pool carries, over the sum of learned capacities; see
    /// [`ScalingState::credibility`].
    credibility: Option<f64>,
    /// Since when the instances serve.
    serving: BTreeMap<String, Duration>,
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
        self.observe_credibility(settings, readings, passed);
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
            self.capacities.clear();
            self.load = Rate::default();
            self.credibility = None;
        }
        let time = self.time.saturating_sub(from).as_secs_f64();
        if let Some(offered) = offered {
            self.observe_capacities(settings, readings, unit_of(offered), time);
        }
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

    /// Takes over what steering has learned of the instances that serve below saturation. What is learned of an instance
    /// that has served for a while changes slowly: a jump may be a reading of the moment at which load changed. If it is
    /// real, the utilisation of the pool shows it at once.
    fn observe_capacities(
        &mut self,
        settings: &Scaling,
        readings: &PoolReadings,
        unit: Unit,
        time: f64,
    ) {
        let before = std::mem::take(&mut self.capacities);
        for one in &readings.instances {
            let utilisation = Sample::fresh(one.utilisation, settings.stale_after);
            let shows = one.phase == Phase::Serving
                && utilisation.is_some_and(|utilisation| utilisation < settings.critical);
            let found = one.known_capacity().filter(|_| shows);
            let since = self.serving.get(&one.name).copied();
            let is_new = since.is_none_or(|since| self.time.saturating_sub(since) < LEARNING);
            let capacity = match (found, before.get(&one.name).copied()) {
                (Some(found), Some(before)) if !is_new => {
                    let most = (BELIEF_PER_SECOND * time).exp();
                    found.clamp(before / most, before * most)
                }
                (Some(found), _) => found,
                (None, Some(before)) => before,
                (None, None) => continue,
            };
            self.capacities.insert(one.name.clone(), capacity);
        }
        if self.capacities.is_empty() && self.capacity.is_none() {
            // Better than nothing: all instances are saturated from the beginning.
            let guesses = readings
                .instances
                .iter()
                .filter_map(|one| one.known_capacity());
            let guesses: Vec<f64> = guesses.collect();
            if !guesses.is_empty() {
                self.capacity = Some((unit, guesses.iter().sum::<f64>() / guesses.len() as f64));
            }
        } else if !self.capacities.is_empty() {
            let mean = self.capacities.values().sum::<f64>() / self.capacities.len() as f64;
            self.capacity = Some((unit, mean));
        }
    }

    /// What an instance carries at utilisation 1, if it has shown that.
    pub(super) fn capacity_of(&self, name: &str) -> Option<f64> {
        self.capacities.get(name).copied()
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

    /// Compares readings of utilisation with what they should be by offered load and learned capacities.
    fn observe_credibility(
        &mut self,
        settings: &Scaling,
        readings: &PoolReadings,
        passed: Duration,
    ) {
        let before = std::mem::take(&mut self.serving);
        let Some((_, each)) = self.capacity else {
            return;
        };
        let (mut used, mut read, mut all) = (0.0, 0.0, 0.0);
        for one in readings
            .instances
            .iter()
            .filter(|one| one.phase == Phase::Serving)
        {
            let since = before.get(&one.name).copied().unwrap_or(self.time);
            self.serving.insert(one.name.clone(), since);
            let worth = self.capacity_of(&one.name).unwrap_or(each);
            all += worth;
            let Some(utilisation) = Sample::fresh(one.utilisation, settings.stale_after) else {
                continue;
            };
            // An earlier reading is of a time in which it had nothing to do.
            let age = one.utilisation.map_or(Duration::ZERO, |sample| sample.age);
            if self.time.saturating_sub(since) >= age + SEASONED {
                used += utilisation.min(1.0) * worth;
                read += worth;
            }
        }
        let short = self.load.mean(self.time, settings.surge_over);
        let long = self.load.mean(self.time, settings.load_over);
        let (Some(short), Some(long)) = (short, long) else {
            return;
        };
        // While load falls, readings are of a time with more.
        let offered = short.max(long);
        if read >= LEAST_READ * all && used > LEAST_USED * read && offered > 0.0 {
            let found = (offered / (used / read * all)).min(1.0);
            let value = self.credibility.get_or_insert(1.0);
            let gain = 1.0 - (-passed.as_secs_f64() / CREDIBILITY_OVER).exp();
            *value += gain * (found - *value);
        }
    }

    /// The factor on learned capacities that the readings ask for: below 1 if instances are busier than they should be
    /// by offered load and learned capacities. Where they are full, it is an upper bound.
    pub(super) fn credibility(&self) -> f64 {
        self.credibility
            .filter(|value| *value < CREDIBLE)
            .unwrap_or(1.0)
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
