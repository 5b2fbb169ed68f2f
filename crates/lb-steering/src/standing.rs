//! Whether a real may have new flows at all, and since when: health, flapping, orders.

use std::{collections::VecDeque, time::Duration};

use super::{
    decision::Limit,
    observed::{Observed, Order},
    spec::Steering,
};

/// What is remembered of a real's health.
#[derive(Debug, Default)]
pub struct Standing {
    up: Option<bool>,
    /// When its health changed, the oldest first; at most [`Steering::flap_changes`].
    changes: VecDeque<Duration>,
    held_until: Option<Duration>,
    /// How long it was held down the last time.
    hold: Duration,
    /// Since when it has a share; none: it has none.
    pub since: Option<Duration>,
}

impl Standing {
    /// Notes its health. Why it may have no flows; none: it may.
    pub fn observe(
        &mut self,
        spec: &Steering,
        now: Duration,
        observed: &Observed,
    ) -> Option<Limit> {
        self.changed(spec, now, observed.up);
        if observed.weight == 0 {
            Some(Limit::WeightZero)
        } else if observed.drained {
            Some(Limit::Drained)
        } else if !observed.up {
            Some(Limit::Down)
        } else if observed
            .load
            .order
            .is_some_and(|order| order != Order::Ready)
        {
            Some(Limit::Ordered)
        } else if observed.wants_drain {
            Some(Limit::WantsDrain)
        } else {
            let left = self.held_until?.saturating_sub(now);
            (!left.is_zero()).then_some(Limit::HeldDown(left))
        }
    }

    /// Forgets how healthy it was; since when it has a share is no matter of health.
    pub fn forget_health(&mut self) {
        *self = Standing {
            since: self.since,
            ..Standing::default()
        };
    }

    /// It is not to have flows before then.
    pub fn hold(&mut self, until: Duration) {
        self.held_until = Some(until);
    }

    fn changed(&mut self, spec: &Steering, now: Duration, up: bool) {
        let before = self.up.replace(up);
        if before.is_none_or(|before| before == up) {
            return;
        }
        let oldest = now.saturating_sub(spec.flap_within);
        while self.changes.front().is_some_and(|time| *time < oldest) {
            self.changes.pop_front();
        }
        if self.changes.is_empty() {
            // A quiet while: the next time begins with the shortest hold.
            self.hold = Duration::ZERO;
        }
        self.changes.push_back(now);
        let changes = spec.flap_changes as usize;
        while self.changes.len() > changes {
            self.changes.pop_front();
        }
        // It is held down when it comes up: while it is down there is nothing to hold.
        if self.changes.len() == changes && up {
            self.hold = (self.hold * 2).clamp(spec.flap_hold, spec.flap_hold_max);
            self.held_until = Some(now + self.hold);
        }
    }

    /// The part of its share that a real in slow start has: 1 when it is over.
    pub fn slow_start(&self, spec: &Steering, now: Duration) -> f64 {
        let Some(since) = self.since else {
            return spec.slow_start_from;
        };
        let age = now.saturating_sub(since).as_secs_f64();
        let whole = spec.slow_start.as_secs_f64();
        if age >= whole {
            return 1.0;
        }
        spec.slow_start_from + (1.0 - spec.slow_start_from) * age / whole
    }
}
