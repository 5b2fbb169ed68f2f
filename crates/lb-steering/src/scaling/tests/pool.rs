//! A pool of equal instances of 100 flows a second, a clock, and the law under test.

use std::time::Duration;

use lb_model::scaling::Scaling;

use crate::{
    Sample,
    scaling::{
        Clock, InstanceReadings, Offered, Phase, PoolReadings, ScalingDecision, ScalingState, scale,
    },
};

/// What an instance carries at utilisation 1.
pub const CAPACITY: f64 = 100.0;
/// 2024-01-01, a Monday, at midnight.
pub const MONDAY: Duration = Duration::from_secs(1_704_067_200);

/// A duration.
pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A reading that was taken now.
pub const fn fresh(value: f64) -> Option<Sample> {
    Some(Sample {
        value,
        age: Duration::ZERO,
    })
}

/// A simulated pool. Instances that are ordered start at once and serve after `start_up`.
pub struct Pool {
    pub settings: Scaling,
    pub state: ScalingState,
    pub readings: PoolReadings,
    pub clock: Clock,
    /// Flows a second.
    pub rate: f64,
    pub start_up: Duration,
    /// Whether orders are carried out.
    pub obeys: bool,
    /// Orders of instances and drains so far.
    pub actions: u32,
    ready_at: Vec<(String, Duration)>,
    next: u32,
}

impl Pool {
    /// A pool of `count` instances that serve.
    pub fn new(settings: Scaling, count: u32, rate: f64) -> Self {
        lb_model::settings::Settings::validate(&settings).unwrap();
        let mut pool = Pool {
            settings,
            state: ScalingState::default(),
            readings: PoolReadings::default(),
            clock: Clock {
                now: MONDAY,
                utc_offset: 0,
            },
            rate,
            start_up: seconds(20),
            obeys: true,
            actions: 0,
            ready_at: Vec::new(),
            next: 0,
        };
        for _ in 0..count {
            pool.add(Phase::Serving);
        }
        pool
    }

    /// Adds an instance. Returns its position.
    pub fn add(&mut self, phase: Phase) -> usize {
        self.next += 1;
        let one = InstanceReadings::new(format!("i-{}", self.next), phase);
        self.readings.instances.push(one);
        self.readings.instances.len() - 1
    }

    /// Number of instances in a phase.
    pub fn count(&self, phase: Phase) -> usize {
        let instances = self.readings.instances.iter();
        instances.filter(|one| one.phase == phase).count()
    }

    /// Reads the pool as it is under its load.
    pub fn read(&mut self, time: Duration) {
        let serving = self.count(Phase::Serving).max(1) as f64;
        let rate = self.rate;
        self.readings.offered = Some(Offered::Flows(rate * time.as_secs_f64()));
        for one in &mut self.readings.instances {
            if one.phase == Phase::Serving {
                one.capacity = Some(CAPACITY);
                one.utilisation = fresh((rate / serving / CAPACITY).min(1.0));
            }
        }
    }

    /// Waits, decides and obeys.
    pub fn wait(&mut self, time: Duration) -> ScalingDecision {
        self.clock.now += time;
        self.read(time);
        self.decide()
    }

    /// Decides and obeys.
    pub fn decide(&mut self) -> ScalingDecision {
        let now = self.clock.now;
        for (name, at) in &self.ready_at {
            for one in &mut self.readings.instances {
                if one.name == *name && *at <= now && one.phase == Phase::Starting {
                    one.phase = Phase::Serving;
                }
            }
        }
        let decision = scale(&self.settings, &mut self.state, &self.readings, self.clock);
        if self.obeys {
            self.obey(&decision);
        }
        decision
    }

    fn obey(&mut self, decision: &ScalingDecision) {
        self.actions += u32::from(decision.is_action());
        for one in &mut self.readings.instances {
            if decision.drain.contains(&one.name) {
                one.phase = Phase::Draining;
            } else if decision.take_back.contains(&one.name) || decision.resume.contains(&one.name)
            {
                one.phase = Phase::Serving;
            }
        }
        self.readings
            .instances
            .retain(|one| !decision.remove_spares.contains(&one.name));
        for _ in 0..decision.start {
            let position = self.add(Phase::Starting);
            let name = self.readings.instances[position].name.clone();
            self.ready_at.push((name, self.clock.now + self.start_up));
        }
        for _ in 0..decision.create_spares {
            self.add(Phase::Spare);
        }
    }

    /// Plays this many seconds. Returns the last decision.
    pub fn play(&mut self, time: u64) -> ScalingDecision {
        let mut last = None;
        for _ in 0..time {
            last = Some(self.wait(seconds(1)));
        }
        last.unwrap()
    }
}
