//! How much of the ring may move now.

use super::spec::Steering;

/// A candidate's share, in any unit: it counts relative to the others'.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// What it has, more than 0.
    pub has: f64,
    /// What it is to have, as a part of all.
    pub wanted: f64,
    /// By how much of itself it may be off before it is moved.
    pub deadband: f64,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// What it has now, in the unit of [`Move::has`]. Of those that are left alone it is the same number.
    pub has: f64,
    /// Its part of all before and after.
    pub before: f64,
    /// See [`Moved::before`].
    pub share: f64,
    /// It is still to get more, and may not yet.
    pub behind: bool,
}

/// Moves shares by `step` (a factor) at most each, and by `most` of the ring in sum.
pub fn movement(moves: &[Move], step: f64, most: f64) -> Vec<Moved> {
    let all: f64 = moves.iter().map(|one| one.has).sum();
    let shares: Vec<f64> = moves.iter().map(|one| one.has / all).collect();
    let aims: Vec<Option<f64>> = moves
        .iter()
        .zip(&shares)
        .map(|(one, share)| {
            let off = (one.wanted / share - 1.0).abs() > one.deadband;
            off.then(|| one.wanted.clamp(share / step, share * step))
        })
        .collect();
    let after = after(&shares, &aims);
    let far = shares
        .iter()
        .zip(&after)
        .map(|(a, b)| (a - b).abs())
        .sum::<f64>()
        / 2.0;
    let part = if far > most { most / far } else { 1.0 };
    let after: Vec<f64> = shares
        .iter()
        .zip(after)
        .map(|(a, b)| a + (b - a) * part)
        .collect();
    // Those that are left alone all change by one factor: their numbers stay, the unit changes instead.
    let unit = moves
        .iter()
        .zip(&after)
        .zip(&aims)
        .find_map(|((one, after), aim)| aim.is_none().then(|| one.has / after))
        .unwrap_or(all);
    moves
        .iter()
        .zip(&after)
        .zip(&aims)
        .zip(&shares)
        .map(|(((one, after), aim), before)| Moved {
            before: *before,
            share: *after,
            has: if aim.is_some() { after * unit } else { one.has },
            behind: aim.is_some() && *after < one.wanted * 0.99,
        })
        .collect()
}

/// The shares when some have reached theirs: what they gain or lose, those that are left alone lose or gain.
fn after(shares: &[f64], aims: &[Option<f64>]) -> Vec<f64> {
    let aimed: f64 = aims.iter().flatten().sum();
    let kept: f64 = shares
        .iter()
        .zip(aims)
        .filter(|(_, aim)| aim.is_none())
        .map(|(share, _)| share)
        .sum();
    let (grow, shrink) = if kept > 0.0 && aimed < 1.0 {
        (1.0, (1.0 - aimed) / kept)
    } else {
        // There is nobody, or no room, to make up for it: all are scaled.
        (1.0 / (aimed + kept), 1.0 / (aimed + kept))
    };
    shares
        .iter()
        .zip(aims)
        .map(|(share, aim)| aim.map_or(share * shrink, |aim| aim * grow))
        .collect()
}

/// The part of the ring that may move in a period.
pub fn allowance(spec: &Steering, most_strained: f64, uneven: bool) -> f64 {
    if uneven || most_strained > spec.busy {
        spec.moved_busy
    } else {
        spec.moved
    }
}
