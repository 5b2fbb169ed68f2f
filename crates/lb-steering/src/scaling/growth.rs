//! How a pool grows: drained instances are taken back, warm ones resumed, new ones started, within the limits.

use super::{
    decision::{Ask, DecidedBy, Limit},
    law::{Opinion, Plan, Step, TOLERANCE},
    policies::{Measured, Requirement},
    readings::Phase,
};
use crate::observation::Sample;

impl Step<'_> {
    /// Lets the policies ask for more instances: drained ones are taken back first, then new ones are started, as many as
    /// may start at a time.
    pub(super) fn grow(&mut self, opinions: &[Opinion], asks: &mut [Ask]) -> Plan {
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
    pub(super) fn raise_to_floor(&mut self, plan: &mut Plan) {
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
    pub(super) fn respect_maximum(&mut self, plan: &mut Plan) {
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
