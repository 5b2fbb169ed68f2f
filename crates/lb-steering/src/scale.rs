//! Shares → integers for the ring. Only their ratios count there, so the unit is free: the operator's own
//! where nothing is steered, and fine enough otherwise. The unit changes by powers of two only, so that no
//! ratio changes with it.

use lb_common::limits::MAX_WEIGHT;

/// The largest weight is above this where shares are steered: the least step of it is 0.006 %.
const FINE: f64 = (MAX_WEIGHT / 4) as f64;
/// Relative difference up to which a weight is the operator's.
const EQUAL: f64 = 1e-9;

/// The unit in use.
#[derive(Debug)]
pub struct Scale {
    factor: f64,
}

impl Default for Scale {
    fn default() -> Self {
        Scale { factor: 1.0 }
    }
}

impl Scale {
    /// Weights for the ring from pairs of the weight wanted (in the operator's unit, finite, not negative)
    /// and the operator's own.
    pub fn apply(&mut self, weights: &[(f64, u32)]) -> Vec<u32> {
        let steered = weights
            .iter()
            .filter(|(wanted, _)| *wanted > 0.0)
            .any(|(wanted, own)| (wanted / f64::from(*own) - 1.0).abs() > EQUAL);
        if !steered {
            self.factor = 1.0;
        } else {
            let most = weights
                .iter()
                .map(|(wanted, _)| *wanted)
                .fold(0.0, f64::max);
            while most * self.factor > f64::from(MAX_WEIGHT) {
                self.factor /= 2.0;
            }
            while most * self.factor <= FINE {
                self.factor *= 2.0;
            }
        }
        weights
            .iter()
            .map(|(wanted, _)| match wanted * self.factor {
                // A real that is to have little is not to have nothing.
                some if some > 0.0 => (some.round() as u32).clamp(1, MAX_WEIGHT),
                _ => 0,
            })
            .collect()
    }
}
