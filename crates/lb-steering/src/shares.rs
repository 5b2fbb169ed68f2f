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

/// Iterations of bisection.
const BISECTIONS: usize = 60;

/// Scales the values by one factor so that, each kept within its bounds, they add up to 1. If the bounds do not allow
/// that, all are at their bounds, which are scaled.
pub fn within(values: &[f64], least: &[f64], most: &[f64]) -> Vec<f64> {
    let scaled = |factor: f64| -> Vec<f64> {
        values
            .iter()
            .zip(least.iter().zip(most))
            .map(|(value, (least, most))| (value * factor).max(*least).min(*most))
            .collect()
    };
    let sum = |factor: f64| scaled(factor).iter().sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    let mut doublings = 0;
    while sum(high) < 1.0 && doublings < BISECTIONS {
        low = high;
        high *= 2.0;
        doublings += 1;
    }
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        if sum(middle) < 1.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    normalised(scaled(high))
}

/// Returns the median (the upper one of an even number), or `None` without values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    (middle < values.len()).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
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
