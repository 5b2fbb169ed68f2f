//! `capacity`: shares in proportion to capacities that are learned from readings of load.

use std::time::Duration;

use lb_model::component::{Kind, NoSettings};

use super::{Basis, Context, Controller, DEAD_BAND_DEVIATIONS};
use crate::{
    Steering,
    pool::{Member, RealState, estimated_capacities},
};

/// The dead band while an estimate improves with every reading: it is followed more closely.
const LEARNING_DEAD_BAND: f64 = 0.01;

/// Its name, help and settings.
pub static KIND: Kind = Kind::of::<NoSettings>(
    "capacity",
    "The default. Estimates each real's capacity from what it carries and how utilised it is. Where \
     connections are long, new flows also make up for connections that a real lacks. Without any \
     reading of load, the operator's weights apply.",
);

/// The controller. Estimates belong to the reals, because overload and the order of movement need them under every
/// controller.
#[derive(Debug, Default)]
pub struct Capacity;

impl Controller for Capacity {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn basis(&self, _context: &Context<'_>, pool: &[Member<'_>]) -> Basis {
        let unmeasured = pool.iter().all(|member| {
            member.state.estimate.value().is_none() && member.state.resumed.is_none()
        });
        if unmeasured {
            Basis::Unmeasured
        } else {
            Basis::Measured
        }
    }

    fn worth(&self, pool: &[Member<'_>]) -> Vec<f64> {
        estimated_capacities(pool)
    }

    fn rebalances(&self, context: &Context<'_>) -> bool {
        context.is_long_lived()
    }

    fn uncertainty(&self, settings: &Steering, state: &RealState) -> f64 {
        state.estimate.uncertainty(settings)
    }

    fn dead_band(&self, settings: &Steering, state: &RealState) -> f64 {
        if state.estimate.is_learning(settings) {
            settings.deadband.min(LEARNING_DEAD_BAND)
        } else {
            settings
                .deadband
                .max(DEAD_BAND_DEVIATIONS * state.estimate.uncertainty(settings))
        }
    }

    fn stale_for(&self, context: &Context<'_>, state: &RealState) -> Option<Duration> {
        let age = context.now.saturating_sub(state.estimate.last_reading()?);
        (age > context.settings.stale_after()).then_some(age)
    }
}
