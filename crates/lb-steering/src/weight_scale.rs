//! Shares as integer weights for the ring. Only ratios count there, so the unit is free: the operator's own unit
//! while every weight is the operator's, or the same fraction of it (a pool in slow start); a finer one otherwise. That
//! changes by powers of two only, which changes no ratio.

use lb_common::limits::MAX_WEIGHT;

/// Steered weights are scaled until the largest is above this, so their quantum is at most 0.006 % of it.
const MIN_LARGEST: f64 = (MAX_WEIGHT / 4) as f64;
/// Relative difference up to which weights count as the same fraction of the operator's.
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
        let mut fractions = weights
            .iter()
            .filter(|(wanted, _)| *wanted > 0.0)
            .map(|(wanted, operator)| wanted / f64::from(*operator));
        let first = fractions.next().unwrap_or(1.0);
        if fractions.all(|fraction| (fraction / first - 1.0).abs() <= EQUAL) {
            self.factor = 1.0;
            let operators = weights.iter();
            return operators
                .map(|(wanted, operator)| if *wanted > 0.0 { *operator } else { 0 })
                .collect();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_fractions_of_the_operators_weights_are_these_weights() {
        let mut scale = WeightScale::default();
        for fraction in [1.0, 0.1, 0.175_3, 1.7] {
            let weights = [(100.0 * fraction, 100), (7.0 * fraction, 7), (0.0, 50)];
            assert_eq!(scale.apply(&weights), [100, 7, 0], "{fraction}");
        }
        let steered = scale.apply(&[(100.0, 100), (7.1, 7), (0.0, 50)]);
        assert!(steered[0] > 16_383 && steered[2] == 0, "{steered:?}");
        let share = f64::from(steered[1]) / f64::from(steered[0]);
        assert!((share - 0.071).abs() < 1e-4, "{steered:?}");
        assert_eq!(scale.apply(&[(10.0, 100), (0.7, 7)]), [100, 7]);
        assert_eq!(scale.apply(&[(0.0, 100)]), [0]);
    }
}
