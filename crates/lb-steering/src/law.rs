//! The shares of new flows that reals are to have. Every function takes and gives a value for each candidate,
//! in the same order; shares add up to 1.

use super::spec::Steering;

/// The horizon is no more than this part of the connections' life: else evening out would take several lives.
const HORIZON_OF_LIFE: f64 = 0.25;
/// A real's connections may be off by this part of its share before new flows make up for it; they do until
/// half of it is left.
const TOLERANCE: f64 = 0.04;
/// The tolerance is this many standard deviations of the share at least, ...
const UNSURE_DEVIATIONS: f64 = 4.0;
/// ... and so many of what chance makes of a number of connections.
const CHANCE_DEVIATIONS: f64 = 3.0;
/// Where connections are only reckoned from what opens and closes, evening them out takes no more and gives no more
/// than this: some of them may be there no more, and no new flows bring those to an end.
const RECKONED_LEAST: f64 = 0.5;
/// See [`RECKONED_LEAST`].
const RECKONED_MOST: f64 = 1.5;
/// What a real that is short of memory, file descriptors or connections keeps.
const GUARD_FLOOR: f64 = 0.05;
/// `latency`: the power of the median's round trip over a real's own.
const LATENCY_EXPONENT: f64 = 0.5;
/// Rounds in which what a bound takes from some is given to others.
const BOUND_ROUNDS: usize = 8;

/// As parts of their sum; equal parts if that is 0.
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

/// The middle one of some values; none of no values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Keeps shares between the least and the most multiple of the operator's shares. Says which were held.
pub fn bounded(spec: &Steering, shares: Vec<f64>, own: &[f64]) -> (Vec<f64>, Vec<bool>) {
    let mut shares = shares;
    for _ in 0..BOUND_ROUNDS {
        let clamped: Vec<f64> = shares
            .iter()
            .zip(own)
            .map(|(share, own)| share.clamp(own * spec.least_share, own * spec.most_share))
            .collect();
        shares = normalised(clamped);
    }
    let held = shares
        .iter()
        .zip(own)
        .map(|(share, own)| {
            *share <= own * spec.least_share * 1.001 || *share >= own * spec.most_share * 0.999
        })
        .collect();
    (shares, held)
}

/// What is known of a candidate's connections.
#[derive(Clone, Copy, Debug)]
pub struct Holding {
    /// The part of all connections that it is to have.
    pub share: f64,
    /// Those it has.
    pub connections: f64,
    /// Relative standard deviation of `share`.
    pub uncertainty: f64,
    /// Whether new flows are making up for a difference already.
    pub evening: bool,
    /// Whether they are only what was opened less what was closed.
    pub reckoned: bool,
}

/// The multiple of its share of new flows that a real gets so that its connections come to its share of all
/// of them, `total`; and whether they are off. `life`: of a connection, seconds.
pub fn deficit(spec: &Steering, holding: Holding, total: f64, life: f64) -> (f64, bool) {
    let due = holding.share * total;
    if due <= 0.0 {
        return (1.0, false);
    }
    let missing = 1.0 - holding.connections / due;
    let tolerance = TOLERANCE
        .max(UNSURE_DEVIATIONS * holding.uncertainty)
        .max(CHANCE_DEVIATIONS / due.sqrt());
    let off = missing.abs()
        > if holding.evening {
            tolerance / 2.0
        } else {
            tolerance
        };
    if !off {
        return (1.0, false);
    }
    let horizon = spec
        .horizon
        .as_secs_f64()
        .min(life * HORIZON_OF_LIFE)
        .max(spec.period.as_secs_f64());
    let multiple = 1.0 + missing * life / horizon;
    let (mut least, mut most) = (spec.deficit_least, spec.deficit_most);
    if holding.reckoned {
        least = least.max(RECKONED_LEAST);
        most = most.min(RECKONED_MOST);
    }
    (multiple.max(least).min(most), true)
}

/// `proportional`: the multiple of its share for a real at this utilisation.
pub fn proportional(spec: &Steering, mean: f64, utilisation: f64) -> f64 {
    let ratio = mean.max(spec.least_utilisation) / utilisation.max(spec.least_utilisation);
    ratio
        .powf(spec.exponent)
        .clamp(1.0 / spec.small_step, spec.small_step)
}

/// `latency`: the multiple of the operator's share for a real with this round trip.
pub fn latency(median: f64, latency: f64) -> f64 {
    if median > 0.0 && latency > 0.0 {
        (median / latency).powf(LATENCY_EXPONENT)
    } else {
        1.0
    }
}

/// What a real keeps of its share with this part of a resource used.
pub fn guard(spec: &Steering, used: f64) -> f64 {
    let span = (spec.guard_full - spec.guard_from).max(f64::EPSILON);
    (1.0 - (used - spec.guard_from) / span).clamp(GUARD_FLOOR, 1.0)
}
