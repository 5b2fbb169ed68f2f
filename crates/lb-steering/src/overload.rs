//! An overloaded real's share is halved per period, then the real is drained until it has recovered.

use super::Steering;

/// Factor on the share per period above the threshold.
const BACKOFF: f64 = 0.5;
/// The lowest factor of its share that an overloaded real keeps before it is drained.
const MIN_FACTOR: f64 = 0.1;
/// Factor on the share per period below the threshold.
const RECOVERY: f64 = 1.5;
/// A real is overloaded only if its utilisation is this multiple of the mean: where all are overloaded, moving
/// flows does not help.
const ABOVE_MEAN: f64 = 1.1;

/// Overload state of a real.
#[derive(Debug)]
pub struct Overload {
    periods_above: u32,
    periods_far_above: u32,
    periods_below: u32,
    /// The factor of its share that it keeps, [`MIN_FACTOR`] to 1.
    pub factor: f64,
    /// Whether it is drained.
    pub drained: bool,
}

impl Default for Overload {
    fn default() -> Self {
        Overload {
            periods_above: 0,
            periods_far_above: 0,
            periods_below: 0,
            factor: 1.0,
            drained: false,
        }
    }
}

impl Overload {
    /// Records a period's utilisation; `None` if it is unknown, and then nothing changes. `may_drain` says whether
    /// the limit on drained capacity leaves room for this real.
    pub fn observe(
        &mut self,
        settings: &Steering,
        utilisation: Option<f64>,
        mean: f64,
        may_drain: bool,
    ) {
        let Some(utilisation) = utilisation else {
            return;
        };
        let above = |threshold: f64| utilisation > threshold && utilisation > mean * ABOVE_MEAN;
        let count = |counter: &mut u32, counts: bool| {
            *counter = if counts { counter.saturating_add(1) } else { 0 };
        };
        count(&mut self.periods_above, above(settings.overload));
        count(&mut self.periods_far_above, above(settings.overload_drain));
        count(
            &mut self.periods_below,
            utilisation < settings.overload_back,
        );
        if self.drained {
            if self.periods_below >= settings.overload_back_periods {
                *self = Overload::default();
            }
        } else if self.periods_far_above >= settings.overload_drain_periods && may_drain {
            self.drained = true;
        } else if self.periods_above >= settings.overload_periods {
            self.factor = (self.factor * BACKOFF).max(MIN_FACTOR);
        } else if self.periods_above == 0 {
            self.factor = (self.factor * RECOVERY).min(1.0);
        }
    }
}
