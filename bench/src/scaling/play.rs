//! Plays a trace under a law.

use super::{
    laws::Law,
    pool::{Knowledge, Pool, Stage},
    trace::{CAPACITY, TARGET, Trace, WARM},
};

/// The most instances that a law may order.
const MAX: u32 = 200;

/// What became of a trace.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Flows offered.
    pub offered: f64,
    /// Flows lost.
    pub lost: f64,
    /// Instances times seconds.
    pub instances: f64,
    /// The same of a pool that always has exactly what it needs.
    pub ideal: f64,
    /// Instances started.
    pub starts: f64,
    /// Decisions that ordered anything.
    pub actions: f64,
    /// Each second: demand over what an instance carries at the target, instances that serve, flows lost.
    pub seconds: Vec<(f64, u32, f64)>,
}

impl Outcome {
    /// Lost flows in percent.
    pub fn lost_percent(&self) -> f64 {
        self.lost / self.offered.max(1.0) * 100.0
    }

    /// Instances over the ideal number.
    pub fn over_ideal(&self) -> f64 {
        self.instances / self.ideal.max(1.0)
    }

    /// The same without its seconds, which take memory.
    pub fn without_seconds(self) -> Outcome {
        Outcome {
            seconds: Vec::new(),
            ..self
        }
    }

    /// The mean of several outcomes.
    pub fn mean(outcomes: &[Outcome]) -> Outcome {
        let mean = |value: fn(&Outcome) -> f64| {
            outcomes.iter().map(value).sum::<f64>() / outcomes.len().max(1) as f64
        };
        Outcome {
            offered: mean(|it| it.offered),
            lost: mean(|it| it.lost),
            instances: mean(|it| it.instances),
            ideal: mean(|it| it.ideal),
            starts: mean(|it| it.starts),
            actions: mean(|it| it.actions),
            seconds: Vec::new(),
        }
    }
}

/// Plays a trace under a law, with instances that serve `start_up` seconds after they were ordered.
pub fn play(trace: &Trace, law: Law, start_up: f64, knowledge: Knowledge, seed: u64) -> Outcome {
    play_with(trace, law, start_up, knowledge, seed, 0)
}

/// The same with so many warm instances, which cost what others do.
pub fn play_with(
    trace: &Trace,
    law: Law,
    start_up: f64,
    knowledge: Knowledge,
    seed: u64,
    spare: u32,
) -> Outcome {
    let first = (trace.demand(0.0) / CAPACITY / TARGET - 1e-9).ceil() as u32;
    let mut pool = Pool::new(first.max(1), start_up, knowledge, -WARM, seed);
    let mut decider = law.decider(MAX, spare);
    let mut outcome = Outcome::default();
    while pool.now < trace.length {
        let now = pool.now;
        if now == 0.0 {
            pool.starts = 0;
        }
        let demand = trace.demand(now);
        let second = pool.second(demand, trace.noise, trace.reads(now));
        let counted = trace.counts(now).then_some(second.offered);
        let acted = decider.decide(&mut pool, counted);
        if now >= 0.0 {
            outcome.offered += second.offered;
            outcome.lost += second.lost;
            outcome.instances += pool.instances.len() as f64;
            outcome.ideal += demand / CAPACITY / TARGET;
            outcome.actions += f64::from(u8::from(acted));
            let serving = pool.count(Stage::Serving);
            outcome
                .seconds
                .push((demand / CAPACITY / TARGET, serving, second.lost));
        }
    }
    outcome.starts = f64::from(pool.starts);
    outcome
}
