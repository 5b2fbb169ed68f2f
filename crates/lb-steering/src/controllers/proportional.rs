//! `proportional`: moves shares from reals above the mean utilisation to those below it.

use lb_model::{
    component::{Component, Kind},
    settings,
};

use super::{Basis, Context, Controller};
use crate::{
    Steering,
    observation::Sample,
    pool::{Member, RealState, mean_utilisation},
    shares,
};

lb_model::settings! {
    /// Settings of `proportional`.
    pub struct ProportionalSettings {
        /// Exponent of mean over own utilisation.
        @expert exponent: f64 = 0.3, 0.01..=1.0;
        /// Factor by which a share may change per period.
        @expert small_step: f64 = 1.25, 1.01..=10.0;
    }
}

/// Its name, help and settings.
pub static KIND: Kind = Kind::of::<ProportionalSettings>(
    "proportional",
    "Multiplies a share by (mean utilisation / own utilisation)^`exponent` per period, within \
     `small_step`. From a connection life of `long_lived_periods` on it would wind up, so the \
     operator's weights apply.",
);

/// The controller.
#[derive(Debug)]
pub struct Proportional {
    own: ProportionalSettings,
}

impl Default for Proportional {
    fn default() -> Self {
        Proportional {
            own: settings::defaults(),
        }
    }
}

impl Controller for Proportional {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn configure(&mut self, own: &Component) {
        if let Ok(own) = own.read() {
            self.own = own;
        }
    }

    fn basis(&self, context: &Context<'_>, pool: &[Member<'_>]) -> Basis {
        let unmeasured = pool.iter().all(|member| member.utilisation.is_none());
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
            let own = Sample::fresh(member.utilisation, max_age);
            let multiple = match (own, mean) {
                (Some(own), Some(mean)) if mean >= settings.no_signal => {
                    self.multiple(settings, mean, own)
                }
                _ => 1.0,
            };
            weight * multiple
        });
        shares::normalised(weights.collect())
    }

    fn max_step(&self, _settings: &Steering) -> f64 {
        self.own.small_step
    }

    fn dead_band(&self, settings: &Steering, _state: &RealState) -> f64 {
        // A step is smaller than the error by this exponent.
        settings.deadband * self.own.exponent
    }

    fn suits(&self, context: &Context<'_>) -> bool {
        !context.is_long_lived()
    }
}

impl Proportional {
    /// The factor on the share of a real with this utilisation.
    fn multiple(&self, settings: &Steering, mean: f64, utilisation: f64) -> f64 {
        let least = settings.least_utilisation;
        let ratio = mean.max(least) / utilisation.max(least);
        ratio
            .powf(self.own.exponent)
            .clamp(1.0 / self.own.small_step, self.own.small_step)
    }
}
