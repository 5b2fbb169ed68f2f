//! How a pool shrinks: what is above `max` goes at once, other instances if all policies agree over the whole window.

use std::time::Duration;

use lb_model::scaling::ScalingPolicy;

use super::{
    decision::{DecidedBy, Limit},
    law::{Opinion, Plan, Step, TOLERANCE},
    policies::Measured,
    victim,
};

impl Step<'_> {
    /// Drains instances: those above `max` at once, others if all policies agree over the whole window.
    pub(super) fn shrink(&mut self, opinions: &[Opinion], plan: &mut Plan) {
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
}
