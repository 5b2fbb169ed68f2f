//! Shares as integer weights for the ring. Only ratios count there, so the unit is free: the operator's own unit
//! while every weight is the operator's, a finer one otherwise. The unit changes by powers of two only, which
//! changes no ratio.

use lb_common::limits::MAX_WEIGHT;

/// Steered weights are scaled until the largest is above this, so their quantum is at most 0.006 % of it.
const MIN_LARGEST: f64 = (MAX_WEIGHT / 4) as f64;
/// Relative difference up to which a weight counts as the operator's.
const EQUAL: f64 = 1e-9;

/// The unit in use.
#[derive(Debug)]
pub struct WeightScale {
    factor: f64,
}

impl Default for WeightScale {
    fn default() -> Self {
        WeightScale { factor: 1.0 }
    }
}

impl WeightScale {
    /// Returns the integer weights for pairs of the wanted weight (in the operator's unit, finite, not negative)
    /// and the operator's weight.
    pub fn apply(&mut self, weights: &[(f64, u32)]) -> Vec<u32> {
        let steered = weights
            .iter()
            .filter(|(wanted, _)| *wanted > 0.0)
            .any(|(wanted, operator)| (wanted / f64::from(*operator) - 1.0).abs() > EQUAL);
        if !steered {
            self.factor = 1.0;
        } else {
            let largest = weights
                .iter()
                .map(|(wanted, _)| *wanted)
                .fold(0.0, f64::max);
            while largest * self.factor > f64::from(MAX_WEIGHT) {
                self.factor /= 2.0;
            }
            while largest * self.factor <= MIN_LARGEST {
                self.factor *= 2.0;
            }
        }
        weights
            .iter()
            .map(|(wanted, _)| match wanted * self.factor {
                // A small share must not round to weight 0, which is a drain.
                scaled if scaled > 0.0 => (scaled.round() as u32).clamp(1, MAX_WEIGHT),
                _ => 0,
            })
            .collect()
    }
}
