//! Evens out long-lived connections with new flows: a real that lacks connections gets a multiple of its steady
//! share of new flows, one that has too many gets a fraction.

use super::Steering;

/// The horizon is at most this fraction of the connections' life; a longer one would take several lives.
const HORIZON_PER_LIFE: f64 = 0.25;
/// A real's connections may be off by this fraction of its share before rebalancing starts; it ends at half of
/// that (hysteresis).
const MIN_TOLERANCE: f64 = 0.04;
/// The tolerance is at least this many standard deviations of the share, ...
const UNCERTAINTY_DEVIATIONS: f64 = 4.0;
/// ... and this many of the random variation of a number of connections.
const POISSON_DEVIATIONS: f64 = 3.0;
/// Bounds on the multiple where connections are only flows opened less flows closed: some may no longer exist, and
/// no new flows bring their number down.
const MIN_INFERRED_MULTIPLE: f64 = 0.5;
/// See [`MIN_INFERRED_MULTIPLE`].
pub const MAX_INFERRED_MULTIPLE: f64 = 1.5;

/// A real's connections, compared with its share.
#[derive(Clone, Copy, Debug)]
pub struct Holding {
    /// The share of all connections that it is to have.
    pub share: f64,
    /// The connections that it has.
    pub connections: f64,
    /// Relative standard deviation of `share`.
    pub uncertainty: f64,
    /// Whether rebalancing is under way.
    pub rebalancing: bool,
    /// Whether `connections` is flows opened less flows closed, not a count.
    pub inferred: bool,
}

/// Returns the multiple of its steady share of new flows with which the real's connections approach its share of
/// all connections, `total`; and whether rebalancing is needed. `life` is a connection's mean life, seconds.
pub fn rebalancing_multiple(
    settings: &Steering,
    holding: Holding,
    total: f64,
    life: f64,
) -> (f64, bool) {
    let due = holding.share * total;
    if due <= 0.0 {
        return (1.0, false);
    }
    let missing = 1.0 - holding.connections / due;
    let tolerance = MIN_TOLERANCE
        .max(UNCERTAINTY_DEVIATIONS * holding.uncertainty)
        .max(POISSON_DEVIATIONS / due.sqrt());
    let needed = missing.abs()
        > if holding.rebalancing {
            tolerance / 2.0
        } else {
            tolerance
        };
    if !needed {
        return (1.0, false);
    }
    let horizon = settings
        .horizon
        .as_secs_f64()
        .min(life * HORIZON_PER_LIFE)
        .max(settings.period.as_secs_f64());
    let multiple = 1.0 + missing * life / horizon;
    let (mut least, mut most) = (settings.deficit_least, settings.deficit_most);
    if holding.inferred {
        least = least.max(MIN_INFERRED_MULTIPLE);
        most = most.min(MAX_INFERRED_MULTIPLE);
    }
    (multiple.max(least).min(most), true)
}
