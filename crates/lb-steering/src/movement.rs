//! Limits how much of the ring moves per period.

use super::Steering;

/// A real that is to lose flows counts as strained above the mean by at least this much.
const MIN_EXCESS_STRAIN: f64 = 0.05;
/// A share that is off by less than this fraction of itself has arrived.
const ARRIVED: f64 = 0.01;

/// The share of an eligible real and where it is to go.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Current weight, more than 0, in any unit.
    pub weight: f64,
    /// The wanted share.
    pub wanted_share: f64,
    /// The fraction of itself by which the share may be off before it moves.
    pub dead_band: f64,
    /// Load over capacity, relative to the mean of the others: the most strained are relieved first.
    pub strain: f64,
    /// The share that it may return to at once, which it has when nothing is rebalanced any more; 0 for none.
    pub steady_share: f64,
}

/// The result for one real.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// New weight in the unit of [`Move::weight`]. Reals inside their dead band keep the same number.
    pub weight: f64,
    /// Share before.
    pub before: f64,
    /// Share after.
    pub share: f64,
    /// Whether the share has not arrived yet.
    pub behind: bool,
}

/// Moves shares by the factors `up` and `down` at most each, and by `most` of the ring in total.
pub fn move_shares(moves: &[Move], (up, down): (f64, f64), most: f64) -> Vec<Moved> {
    let all: f64 = moves.iter().map(|one| one.weight).sum();
    let shares: Vec<f64> = moves.iter().map(|one| one.weight / all).collect();
    let targets: Vec<Option<f64>> = moves
        .iter()
        .zip(&shares)
        .map(|(one, share)| {
            let outside = (one.wanted_share / share - 1.0).abs() > one.dead_band;
            outside.then(|| {
                one.wanted_share
                    .clamp(share / down, (share * up).max(one.steady_share))
            })
        })
        .collect();
    let targets = rationed(moves, &shares, targets, most);
    let after = balanced(&shares, &targets);
    let distance = shares
        .iter()
        .zip(&after)
        .map(|(a, b)| (a - b).abs())
        .sum::<f64>()
        / 2.0;
    let fraction = if distance > most {
        most / distance
    } else {
        1.0
    };
    let after: Vec<f64> = shares
        .iter()
        .zip(after)
        .map(|(a, b)| a + (b - a) * fraction)
        .collect();
    // The reals inside their dead band all change by one factor: their weights stay, and the unit changes instead.
    let unit = moves
        .iter()
        .zip(&after)
        .zip(&targets)
        .find_map(|((one, after), target)| target.is_none().then(|| one.weight / after))
        .unwrap_or(all);
    moves
        .iter()
        .zip(&after)
        .zip(&targets)
        .zip(&shares)
        .map(|(((one, after), target), before)| Moved {
            before: *before,
            share: *after,
            weight: if target.is_some() {
                after * unit
            } else {
                one.weight
            },
            behind: target.is_some() && (*after / one.wanted_share - 1.0).abs() > ARRIVED,
        })
        .collect()
}

/// Keeps gains and losses within `most` of the ring. Gains are scaled in proportion; losses go to the most strained
/// reals first.
fn rationed(
    moves: &[Move],
    shares: &[f64],
    targets: Vec<Option<f64>>,
    most: f64,
) -> Vec<Option<f64>> {
    let changes: Vec<Option<f64>> = shares
        .iter()
        .zip(&targets)
        .map(|(share, target)| target.map(|target| target - share))
        .collect();
    let gained: f64 = changes.iter().flatten().map(|change| change.max(0.0)).sum();
    let lost: f64 = changes
        .iter()
        .flatten()
        .map(|change| (-change).max(0.0))
        .sum();
    // If every share moves, losses equal gains.
    let room = if targets.iter().all(Option::is_some) {
        gained.min(most)
    } else {
        most
    };
    if gained <= most && lost <= room {
        return targets;
    }
    let gain_fraction = (most / gained).min(1.0);
    let losses: Vec<Loss> = changes
        .iter()
        .zip(moves)
        .map(|(change, one)| Loss {
            most: change.map_or(0.0, |change| (-change).max(0.0)),
            priority: (one.strain - 1.0).max(MIN_EXCESS_STRAIN).powi(2),
        })
        .collect();
    let loss_fractions = loss_fractions(&losses, room);
    changes
        .iter()
        .zip(shares)
        .zip(loss_fractions)
        .map(|((change, share), loss_fraction)| {
            change.map(|change| {
                let fraction = if change > 0.0 {
                    gain_fraction
                } else {
                    loss_fraction
                };
                share + change * fraction
            })
        })
        .collect()
}

/// The share that a real is to lose.
struct Loss {
    most: f64,
    priority: f64,
}

/// The fraction of each loss that is granted so that they add up to `room`: in proportion to the priorities, at
/// most 1.
fn loss_fractions(losses: &[Loss], room: f64) -> Vec<f64> {
    let mut granted = vec![false; losses.len()];
    loop {
        let sum = |of_granted: bool, value: fn(&Loss) -> f64| -> f64 {
            losses
                .iter()
                .zip(&granted)
                .filter(|(_, granted)| **granted == of_granted)
                .map(|(loss, _)| value(loss))
                .sum()
        };
        let left = (room - sum(true, |loss| loss.most)).max(0.0);
        let open = sum(false, |loss| loss.priority * loss.most);
        let unit = if open > 0.0 { left / open } else { 0.0 };
        let mut changed = false;
        for (granted, loss) in granted.iter_mut().zip(losses) {
            changed |= !*granted && unit * loss.priority >= 1.0;
            *granted |= unit * loss.priority >= 1.0;
        }
        if !changed {
            let fractions = losses.iter().zip(&granted);
            return fractions
                .map(
                    |(loss, granted)| {
                        if *granted { 1.0 } else { unit * loss.priority }
                    },
                )
                .collect();
        }
    }
}

/// Returns the shares with the targets reached: the reals without a target make up for the difference.
fn balanced(shares: &[f64], targets: &[Option<f64>]) -> Vec<f64> {
    let moved: f64 = targets.iter().flatten().sum();
    let kept: f64 = shares
        .iter()
        .zip(targets)
        .filter(|(_, target)| target.is_none())
        .map(|(share, _)| share)
        .sum();
    let (target_factor, kept_factor) = if kept > 0.0 && moved < 1.0 {
        (1.0, (1.0 - moved) / kept)
    } else {
        // No real is left to make up for the difference, or there is no room: all are scaled.
        (1.0 / (moved + kept), 1.0 / (moved + kept))
    };
    shares
        .iter()
        .zip(targets)
        .map(|(share, target)| target.map_or(share * kept_factor, |target| target * target_factor))
        .collect()
}

/// The fraction of the ring that may move in this period.
pub fn allowance(settings: &Steering, highest_strain: f64, uneven: bool) -> f64 {
    if uneven || highest_strain > settings.busy {
        settings.moved_busy
    } else {
        settings.moved
    }
}
