//! `latency`: less for reals that answer probes more slowly than the others.

use std::{collections::BTreeMap, time::Duration};

use lb_model::vip::RealId;
use lb_model::{
    component::{Component, Kind},
    settings,
};

use super::{Basis, Context, Controller};
use crate::{
    Steering,
    observation::{Load, Sample},
    pool::Member,
    shares,
};

/// A share is multiplied by (median round trip / own round trip) to this power.
const EXPONENT: f64 = 0.5;

lb_model::settings! {
    /// Settings of `latency`.
    pub struct LatencySettings {
        /// Time constant with which a peak decays.
        @expert latency_decay: Duration = Duration::from_secs(30), Duration::from_secs(1)..=Duration::from_secs(3_600);
        /// Factor by which a share may change per period.
        @expert small_step: f64 = 1.25, 1.01..=10.0;
    }
}

/// Its name, help and settings.
pub static KIND: Kind = Kind::of::<LatencySettings>(
    "latency",
    "The operator's weight times √(median round trip / own round trip) of probes, within `small_step` \
     per period. The round trip is a peak: it rises at once and decays in `latency_decay`.",
);

/// The controller.
#[derive(Debug)]
pub struct Latency {
    own: LatencySettings,
    /// Peak round trip of each real's probes, seconds.
    peaks: BTreeMap<RealId, f64>,
}

impl Default for Latency {
    fn default() -> Self {
        Latency {
            own: settings::defaults(),
            peaks: BTreeMap::new(),
        }
    }
}

impl Latency {
    fn peak(&self, member: &Member<'_>) -> Option<f64> {
        self.peaks.get(&member.observation.address).copied()
    }
}

impl Controller for Latency {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn configure(&mut self, own: &Component) {
        if let Ok(own) = own.read() {
            self.own = own;
        }
    }

    fn observe(&mut self, context: &Context<'_>, elapsed: Option<Duration>, pool: &[Member<'_>]) {
        let max_age = context.settings.stale_after();
        let decay = self.own.latency_decay;
        for member in pool {
            let load = &member.observation.load;
            let before = self.peak(member);
            if let Some(peak) = decayed_peak(max_age, decay, before, load, elapsed) {
                self.peaks.insert(member.observation.address, peak);
            }
        }
    }

    fn forget(&mut self, address: RealId) {
        self.peaks.remove(&address);
    }

    fn basis(&self, _context: &Context<'_>, pool: &[Member<'_>]) -> Basis {
        if pool.iter().all(|member| self.peak(member).is_none()) {
            Basis::Unmeasured
        } else {
            Basis::Measured
        }
    }

    fn allocate(
        &self,
        _context: &Context<'_>,
        eligible: &[&Member<'_>],
        _worth_shares: Vec<f64>,
        operator_shares: &[f64],
    ) -> Vec<f64> {
        let known = eligible.iter().filter_map(|member| self.peak(member));
        let median = shares::median(known.collect()).unwrap_or(0.0);
        let weights = eligible
            .iter()
            .zip(operator_shares)
            .map(|(member, operator)| {
                operator * self.peak(member).map_or(1.0, |peak| multiple(median, peak))
            });
        shares::normalised(weights.collect())
    }

    fn max_step(&self, _settings: &Steering) -> f64 {
        self.own.small_step
    }
}

/// The factor on the operator's share of a real with this round trip.
fn multiple(median: f64, latency: f64) -> f64 {
    if median > 0.0 && latency > 0.0 {
        (median / latency).powf(EXPONENT)
    } else {
        1.0
    }
}

/// A peak that rises at once and decays while lower round trips are read; without a fresh reading it stays.
fn decayed_peak(
    max_age: Duration,
    decay: Duration,
    before: Option<f64>,
    load: &Load,
    elapsed: Option<Duration>,
) -> Option<f64> {
    let Some(latency) = Sample::fresh(load.latency, max_age) else {
        return before;
    };
    let time = elapsed.unwrap_or_default().as_secs_f64();
    let keep = (-time / decay.as_secs_f64()).exp();
    Some(before.map_or(latency, |before| {
        if latency >= before {
            latency
        } else {
            latency + (before - latency) * keep
        }
    }))
}
