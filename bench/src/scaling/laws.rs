//! The law under test, and those that it is compared with, as their documentation describes them.

use std::{collections::VecDeque, time::Duration};

use lb_steering::scaling::{
    Clock, InstanceReadings, Offered, Phase, PoolReadings, Scaling, ScalingPolicy, ScalingState,
    scale,
};

use super::{
    pool::{EPOCH, Pool, Stage},
    trace::{CAPACITY, TARGET},
};

/// Which law decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// The controller's.
    Ours,
    /// The same with requests of the last 120 s as its only policy.
    Requests,
    /// Kubernetes' horizontal pod autoscaler.
    Hpa,
    /// Knative's pod autoscaler.
    Kpa,
    /// nomad-autoscaler with target-value.
    Nomad,
    /// Target tracking of AWS.
    Aws,
}

impl Law {
    /// All of them.
    pub const ALL: [Law; 6] = [
        Law::Ours,
        Law::Requests,
        Law::Hpa,
        Law::Kpa,
        Law::Nomad,
        Law::Aws,
    ];

    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Law::Ours => "ours",
            Law::Requests => "ours, requests of 120 s only",
            Law::Hpa => "HPA",
            Law::Kpa => "KPA",
            Law::Nomad => "nomad",
            Law::Aws => "AWS",
        }
    }

    /// Creates the law for pools of up to `max` instances, with so many warm ones where the law knows these.
    pub fn decider(self, max: u32, spare: u32) -> Decider {
        let settings = match self {
            Law::Requests => Scaling {
                max,
                spare,
                // What an instance carries at the target, over 120 s.
                requests: Some(CAPACITY * TARGET * 120.0),
                policies: vec![ScalingPolicy::Requests],
                ..Scaling::default()
            },
            _ => Scaling {
                max,
                spare,
                ..Scaling::default()
            },
        };
        Decider {
            law: self,
            settings,
            state: ScalingState::default(),
            offered: VecDeque::new(),
            recommendations: VecDeque::new(),
            points: VecDeque::new(),
            minute: Vec::new(),
            panic_until: f64::NEG_INFINITY,
            panic_most: 0,
            acted: f64::NEG_INFINITY,
        }
    }
}

/// A law with its state.
pub struct Decider {
    law: Law,
    settings: Scaling,
    state: ScalingState,
    /// What was offered in the last seconds; `None` while nothing counts it.
    offered: VecDeque<Option<f64>>,
    /// HPA: recommendations of the last 300 s.
    recommendations: VecDeque<(f64, u32)>,
    /// AWS: mean utilisation of the last minutes.
    points: VecDeque<f64>,
    minute: Vec<f64>,
    /// KPA: until when it panics, and the largest number since then.
    panic_until: f64,
    panic_most: u32,
    /// When nomad or AWS acted last.
    acted: f64,
}

/// Instances for an amount, at least one.
fn ceil(amount: f64) -> u32 {
    // What is whole but for rounding is whole.
    ((amount - 1e-9).ceil() as u32).max(1)
}

impl Decider {
    /// Decides after a second in which this was offered, and orders it. Returns whether it ordered anything.
    pub fn decide(&mut self, pool: &mut Pool, offered: Option<f64>) -> bool {
        self.offered.push_back(offered);
        if self.offered.len() > 120 {
            self.offered.pop_front();
        }
        match self.law {
            Law::Ours | Law::Requests => return self.scale(pool, offered),
            Law::Hpa => self.hpa(pool),
            Law::Kpa => self.kpa(pool),
            Law::Nomad => self.nomad(pool),
            Law::Aws => self.aws(pool),
        }
        .is_some_and(|wanted| order(pool, wanted.clamp(1, self.settings.max)))
    }

    /// The controller's law.
    fn scale(&mut self, pool: &mut Pool, offered: Option<f64>) -> bool {
        let instances = pool.instances.iter().map(|one| {
            let phase = match one.stage {
                Stage::Spare => Phase::Spare,
                Stage::Starting => Phase::Starting,
                Stage::Serving => Phase::Serving,
                Stage::Draining => Phase::Draining,
            };
            InstanceReadings {
                capacity: one.learned,
                utilisation: one.sample(pool.now),
                ..InstanceReadings::new(one.number.to_string(), phase)
            }
        });
        let readings = PoolReadings {
            offered: offered.map(Offered::Flows),
            requests: offered,
            instances: instances.collect(),
            ..PoolReadings::default()
        };
        let clock = Clock {
            now: Duration::from_secs_f64(EPOCH + pool.now),
            utc_offset: 0,
        };
        let decision = scale(&self.settings, &mut self.state, &readings, clock);
        let number = |name: &String| name.parse().unwrap_or(u32::MAX);
        for name in &decision.take_back {
            pool.take_back(number(name));
        }
        for name in &decision.drain {
            pool.drain(number(name));
        }
        for name in &decision.resume {
            pool.resume(number(name));
        }
        pool.start(decision.start);
        pool.prepare(decision.create_spares);
        decision.is_action()
    }

    /// Every 15 s: ceil(ready × ratio) with ±10 % dead zone; unready pods count as idle when it grows; the highest
    /// recommendation of 300 s when it shrinks; at most + 100 % or + 4 per 15 s.
    fn hpa(&mut self, pool: &Pool) -> Option<u32> {
        if pool.now % 15.0 != 0.0 {
            return None;
        }
        let ready: Vec<f64> = readings(pool, 15.0);
        if ready.is_empty() {
            return None;
        }
        let n = current(pool);
        let unready = f64::from(n) - ready.len() as f64;
        let sum: f64 = ready.iter().sum();
        let mut ratio = sum / ready.len() as f64 / TARGET;
        let mut count = ready.len() as f64;
        if ratio > 1.0 && unready > 0.0 {
            count += unready;
            ratio = (sum / count / TARGET).max(1.0);
        } else if ratio < 1.0 && unready > 0.0 {
            count += unready;
            // Pods without metrics are assumed to be at the target.
            ratio = ((sum + unready * TARGET) / count / TARGET).min(1.0);
        }
        let wanted = if (ratio - 1.0).abs() <= 0.10 {
            n
        } else {
            ceil(ratio * count)
        };
        self.recommendations.push_back((pool.now, wanted));
        while self
            .recommendations
            .front()
            .is_some_and(|(at, _)| pool.now - at > 300.0)
        {
            self.recommendations.pop_front();
        }
        let highest = self.recommendations.iter().map(|(_, wanted)| *wanted).max();
        let stable = if wanted < n {
            highest.unwrap_or(n).min(n)
        } else {
            wanted
        };
        Some(stable.min((2 * n).max(n + 4)))
    }

    fn mean_offered(&self, seconds: usize) -> Option<f64> {
        let known: Vec<f64> = self
            .offered
            .iter()
            .rev()
            .take(seconds)
            .copied()
            .collect::<Option<_>>()?;
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// Every 2 s: ceil(mean of 60 s / target); from twice what is ready on, panic: the mean of 6 s, and no scale-in until 60 s
    /// after; at most halved per tick.
    fn kpa(&mut self, pool: &Pool) -> Option<u32> {
        if pool.now % 2.0 != 0.0 {
            return None;
        }
        let each = CAPACITY * TARGET;
        let stable = ceil(self.mean_offered(60)? / each);
        let short = ceil(self.mean_offered(6)? / each);
        let ready = pool.count(Stage::Serving).max(1);
        if short >= 2 * ready {
            if pool.now > self.panic_until {
                self.panic_most = 0;
            }
            self.panic_until = pool.now + 60.0;
        }
        let wanted = if pool.now <= self.panic_until {
            self.panic_most = self
                .panic_most
                .max(short)
                .max(current(pool).min(short.max(stable)));
            self.panic_most.max(current(pool))
        } else {
            stable
        };
        Some(wanted.max(ready / 2))
    }

    /// Every 10 s: ceil(count × metric / target) of the last value, ±1 %; then a cooldown of 5 min (its default).
    fn nomad(&mut self, pool: &Pool) -> Option<u32> {
        if pool.now % 10.0 != 0.0 || pool.now - self.acted < 300.0 {
            return None;
        }
        let ready = readings(pool, 10.0);
        if ready.is_empty() {
            return None;
        }
        let ratio = ready.iter().sum::<f64>() / ready.len() as f64 / TARGET;
        if (ratio - 1.0).abs() <= 0.01 {
            return None;
        }
        let wanted = ceil(f64::from(current(pool)) * ratio);
        if wanted != current(pool) {
            self.acted = pool.now;
        }
        Some(wanted)
    }

    /// Means of a minute; grows after 3 of 3 above the target, shrinks after 15 of 15 below 0.9 × the target; proportional.
    fn aws(&mut self, pool: &Pool) -> Option<u32> {
        if pool.now % 5.0 == 0.0 {
            self.minute.extend(readings(pool, 5.0));
        }
        if pool.now % 60.0 != 0.0 || self.minute.is_empty() {
            return None;
        }
        let mean = self.minute.iter().sum::<f64>() / self.minute.len() as f64;
        self.minute.clear();
        self.points.push_back(mean);
        if self.points.len() > 15 {
            self.points.pop_front();
        }
        let n = current(pool);
        let wanted = ceil(f64::from(pool.count(Stage::Serving)) * mean / TARGET);
        let above = self
            .points
            .iter()
            .rev()
            .take(3)
            .filter(|point| **point > TARGET)
            .count();
        let below = self
            .points
            .iter()
            .filter(|point| **point < 0.9 * TARGET)
            .count();
        if above == 3 {
            (wanted > n).then_some(wanted)
        } else if below == 15 && wanted < n {
            // The alarm needs new points after it has acted.
            self.points.clear();
            Some(wanted)
        } else {
            None
        }
    }
}

/// Readings of the instances that serve, no older than this.
fn readings(pool: &Pool, most_age: f64) -> Vec<f64> {
    pool.instances
        .iter()
        .filter(|one| one.stage == Stage::Serving)
        .filter_map(|one| one.reading.filter(|(at, _)| pool.now - at <= most_age))
        .map(|(_, value)| value)
        .collect()
}

/// Instances that serve or start.
fn current(pool: &Pool) -> u32 {
    pool.count(Stage::Serving) + pool.count(Stage::Starting)
}

/// Orders what a law wants. The newest go first, for good.
fn order(pool: &mut Pool, wanted: u32) -> bool {
    let n = current(pool);
    pool.start(wanted.saturating_sub(n));
    for _ in wanted..n {
        let living = pool
            .instances
            .iter()
            .filter(|one| matches!(one.stage, Stage::Serving | Stage::Starting));
        let Some(newest) = living.map(|one| one.number).max() else {
            break;
        };
        pool.drain(newest);
    }
    wanted != n
}
