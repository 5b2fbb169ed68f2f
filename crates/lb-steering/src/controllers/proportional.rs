//! `proportional`: moves shares from reals above the mean utilisation to those below it.

use super::{Basis, Context, Controller, Description};
use crate::{
    observation::Sample,
    pool::{Member, RealState, mean_utilisation},
    shares,
    spec::{Kind, Steering},
};

/// The controller.
#[derive(Debug, Default)]
pub struct Proportional;

impl Controller for Proportional {
    fn description(&self) -> Description {
        Description {
            kind: Kind::Proportional,
            help: "Multiplies a share by (mean utilisation / own utilisation)^`exponent` per period, within \
                   `small_step`. From a connection life of `long_lived_periods` on it would wind up, so the \
                   operator's weights apply.",
            settings: &["exponent", "small_step"],
        }
    }

    fn basis(&self, context: &Context<'_>, pool: &[Member<'_>]) -> Basis {
        let unmeasured = pool
            .iter()
            .all(|member| member.observation.load.utilisation.is_none());
        if !self.suits(context) || unmeasured {
            Basis::Unmeasured
        } else {
            Basis::Measured
        }
    }

    fn allocate(
        &self,
        context: &Context<'_>,
        eligible: &[&Member<'_>],
        _worth_shares: Vec<f64>,
        _operator_shares: &[f64],
    ) -> Vec<f64> {
        let settings = context.settings;
        let max_age = settings.stale_after();
        let mean = mean_utilisation(eligible.iter().copied(), max_age);
        let weights = eligible.iter().map(|member| {
            let weight = member.state.weight / member.state.ramp_factor;
            let own = Sample::fresh(member.observation.load.utilisation, max_age);
            let multiple = match (own, mean) {
                (Some(own), Some(mean)) if mean >= settings.no_signal => {
                    multiple(settings, mean, own)
                }
                _ => 1.0,
            };
            weight * multiple
        });
        shares::normalised(weights.collect())
    }

    fn max_step(&self, settings: &Steering) -> f64 {
        settings.small_step
    }

    fn dead_band(&self, settings: &Steering, _state: &RealState) -> f64 {
        // A step is smaller than the error by this exponent.
        settings.deadband * settings.exponent
    }

    fn suits(&self, context: &Context<'_>) -> bool {
        !context.is_long_lived()
    }
}

/// The factor on the share of a real with this utilisation.
fn multiple(settings: &Steering, mean: f64, utilisation: f64) -> f64 {
    let ratio = mean.max(settings.least_utilisation) / utilisation.max(settings.least_utilisation);
    ratio
        .powf(settings.exponent)
        .clamp(1.0 / settings.small_step, settings.small_step)
}
