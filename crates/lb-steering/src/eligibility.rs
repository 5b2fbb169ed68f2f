//! Whether a real may have new flows at all, and since when: health, flapping, orders.

use std::{collections::VecDeque, time::Duration};

use super::{
    Steering,
    decision::LimitedBy,
    observation::{AgentCommand, Observation},
};

/// Health history of a real.
#[derive(Debug, Default)]
pub struct Eligibility {
    up: Option<bool>,
    /// Times of health changes, the oldest first; at most [`Steering::flap_changes`].
    changes: VecDeque<Duration>,
    held_until: Option<Duration>,
    /// How long it was held down last.
    hold: Duration,
    /// When its slow start began; `None` while it has no share.
    pub serving_since: Option<Duration>,
}

impl Eligibility {
    /// Records the real's health. Returns why it may have no flows, or `None` if it may.
    pub fn observe(
        &mut self,
        settings: &Steering,
        now: Duration,
        observation: &Observation,
    ) -> Option<LimitedBy> {
        self.record_health(settings, now, observation.up);
        if observation.weight == 0 {
            Some(LimitedBy::WeightZero)
        } else if observation.drained {
            Some(LimitedBy::Drained)
        } else if !observation.up {
            Some(LimitedBy::Down)
        } else if observation
            .load
            .command
            .is_some_and(|command| command != AgentCommand::Ready)
        {
            Some(LimitedBy::AgentCommand)
        } else if observation.wants_drain {
            Some(LimitedBy::ProbeDrain)
        } else {
            let left = self.held_until?.saturating_sub(now);
            (!left.is_zero()).then_some(LimitedBy::HeldDown(left))
        }
    }

    /// Forgets the health history. The slow start goes on.
    pub fn forget_health(&mut self) {
        *self = Eligibility {
            serving_since: self.serving_since,
            ..Eligibility::default()
        };
    }

    /// Holds the real down until then.
    pub fn hold(&mut self, until: Duration) {
        self.held_until = Some(until);
    }

    fn record_health(&mut self, settings: &Steering, now: Duration, up: bool) {
        let before = self.up.replace(up);
        if before.is_none_or(|before| before == up) {
            return;
        }
        let oldest = now.saturating_sub(settings.flap_within);
        while self.changes.front().is_some_and(|time| *time < oldest) {
            self.changes.pop_front();
        }
        if self.changes.is_empty() {
            // After a quiet time the next hold starts with the shortest again.
            self.hold = Duration::ZERO;
        }
        self.changes.push_back(now);
        let changes = settings.flap_changes as usize;
        while self.changes.len() > changes {
            self.changes.pop_front();
        }
        // The hold starts when the real comes up: while it is down there is nothing to hold.
        if self.changes.len() == changes && up {
            self.hold = (self.hold * 2).clamp(settings.flap_hold, settings.flap_hold_max);
            self.held_until = Some(now + self.hold);
        }
    }

    /// Whether its health has changed since then.
    pub fn changed_after(&self, then: Duration) -> bool {
        self.changes.back().is_some_and(|last| *last > then)
    }

    /// The factor of its share that slow start leaves the real; 1 when slow start is over.
    pub fn slow_start(&self, settings: &Steering, now: Duration) -> f64 {
        let Some(since) = self.serving_since else {
            return settings.slow_start_from;
        };
        let age = now.saturating_sub(since).as_secs_f64();
        let duration = settings.slow_start.as_secs_f64();
        if age >= duration {
            return 1.0;
        }
        settings.slow_start_from + (1.0 - settings.slow_start_from) * age / duration
    }
}
