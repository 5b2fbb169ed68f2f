//! Arithmetic on shares. Every slice has one value per eligible real, in the same order; shares add up to 1.

use super::Steering;

/// Iterations in which what a bound takes from some reals is given to the others.
const BOUND_ITERATIONS: usize = 8;

/// Returns the values divided by their sum, or equal shares if the sum is 0.
pub fn normalised(mut values: Vec<f64>) -> Vec<f64> {
    let sum: f64 = values.iter().sum();
    let equal = 1.0 / values.len().max(1) as f64;
    for value in &mut values {
        *value = if sum > 0.0 && sum.is_finite() {
            *value / sum
        } else {
            equal
        };
    }
    values
}

/// Returns the median (the upper one of an even number), or `None` without values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Keeps shares within `least_share` and `most_share` times the operator's shares. Also returns which shares are
/// at a bound.
pub fn bounded(
    settings: &Steering,
    shares: Vec<f64>,
    operator_shares: &[f64],
) -> (Vec<f64>, Vec<bool>) {
    let mut shares = shares;
    for _ in 0..BOUND_ITERATIONS {
        let clamped: Vec<f64> = shares
            .iter()
            .zip(operator_shares)
            .map(|(share, operator)| {
                share.clamp(
                    operator * settings.least_share,
                    operator * settings.most_share,
                )
            })
            .collect();
        shares = normalised(clamped);
    }
    let at_bound = shares
        .iter()
        .zip(operator_shares)
        .map(|(share, operator)| {
            *share <= operator * settings.least_share * 1.001
                || *share >= operator * settings.most_share * 0.999
        })
        .collect();
    (shares, at_bound)
}
