//! A real that is overloaded gets less, then nothing, until it has recovered.

use super::spec::Steering;

/// What a share is multiplied by in a period above the threshold.
const HALF: f64 = 0.5;
/// The least an overloaded real keeps of its share before it is drained.
const FLOOR: f64 = 0.1;
/// What the part is multiplied by in a period below the threshold.
const RECOVERY: f64 = 1.5;
/// A real is overloaded only if it is this much above the mean: where all are, moving flows does not help.
const ABOVE_MEAN: f64 = 1.1;

/// What is remembered.
#[derive(Debug)]
pub struct Overload {
    above: u32,
    far_above: u32,
    below: u32,
    /// The part of its share that it has, [`FLOOR`] to 1.
    pub part: f64,
    /// It has nothing.
    pub drained: bool,
}

impl Default for Overload {
    fn default() -> Self {
        Overload {
            above: 0,
            far_above: 0,
            below: 0,
            part: 1.0,
            drained: false,
        }
    }
}

impl Overload {
    /// Notes a period's utilisation; none: it is not known, so nothing changes. `may_drain`: as much of the
    /// capacity as may be is not drained yet.
    pub fn observe(
        &mut self,
        spec: &Steering,
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
        count(&mut self.above, above(spec.overload));
        count(&mut self.far_above, above(spec.overload_drain));
        count(&mut self.below, utilisation < spec.overload_back);
        if self.drained {
            if self.below >= spec.overload_back_periods {
                *self = Overload::default();
            }
        } else if self.far_above >= spec.overload_drain_periods && may_drain {
            self.drained = true;
        } else if self.above >= spec.overload_periods {
            self.part = (self.part * HALF).max(FLOOR);
        } else if self.above == 0 {
            self.part = (self.part * RECOVERY).min(1.0);
        }
    }
}
