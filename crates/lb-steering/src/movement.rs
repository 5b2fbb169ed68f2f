//! How much of the ring may move now.

use super::spec::Steering;

/// One that is to lose counts as strained above the mean by this much at least.
const LEAST_STRAIN: f64 = 0.05;
/// A share that is off by less than this part of itself is there.
const REACHED: f64 = 0.01;

/// A candidate's share, in any unit: it counts relative to the others'.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// What it has, more than 0.
    pub has: f64,
    /// What it is to have, as a part of all.
    pub wanted: f64,
    /// By how much of itself it may be off before it is moved.
    pub deadband: f64,
    /// What it carries over what it can, relative to the others' mean: who has the most is relieved first.
    pub strain: f64,
    /// What it may come back to at once: the share it is to have when nothing is evened out any more; 0: nothing.
    pub lasting: f64,
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
    /// It is still to get more, or less, and may not yet.
    pub behind: bool,
}

/// Moves shares by the factors `up` and `down` at most each, and by `most` of the ring in sum.
pub fn movement(moves: &[Move], (up, down): (f64, f64), most: f64) -> Vec<Moved> {
    let all: f64 = moves.iter().map(|one| one.has).sum();
    let shares: Vec<f64> = moves.iter().map(|one| one.has / all).collect();
    let aims: Vec<Option<f64>> = moves
        .iter()
        .zip(&shares)
        .map(|(one, share)| {
            let off = (one.wanted / share - 1.0).abs() > one.deadband;
            off.then(|| {
                one.wanted
                    .clamp(share / down, (share * up).max(one.lasting))
            })
        })
        .collect();
    let aims = rationed(moves, &shares, aims, most);
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
            behind: aim.is_some() && (*after / one.wanted - 1.0).abs() > REACHED,
        })
        .collect()
}

/// Keeps what is gained and what is lost within `most` of the ring. Those that gain do so in proportion; of those
/// that lose, the more strained ones come first.
fn rationed(moves: &[Move], shares: &[f64], aims: Vec<Option<f64>>, most: f64) -> Vec<Option<f64>> {
    let changes: Vec<Option<f64>> = shares
        .iter()
        .zip(&aims)
        .map(|(share, aim)| aim.map(|aim| aim - share))
        .collect();
    let gained: f64 = changes.iter().flatten().map(|change| change.max(0.0)).sum();
    let lost: f64 = changes
        .iter()
        .flatten()
        .map(|change| (-change).max(0.0))
        .sum();
    // If all change, what is lost is gained.
    let room = if aims.iter().all(Option::is_some) {
        gained.min(most)
    } else {
        most
    };
    if gained <= most && lost <= room {
        return aims;
    }
    let part = (most / gained).min(1.0);
    let losses: Vec<Loss> = changes
        .iter()
        .zip(moves)
        .map(|(change, one)| Loss {
            most: change.map_or(0.0, |change| (-change).max(0.0)),
            weight: (one.strain - 1.0).max(LEAST_STRAIN).powi(2),
        })
        .collect();
    let lower = portions(&losses, room);
    changes
        .iter()
        .zip(shares)
        .zip(lower)
        .map(|((change, share), lower)| {
            change.map(|change| share + change * if change > 0.0 { part } else { lower })
        })
        .collect()
}

/// What one may lose, and what that counts.
struct Loss {
    most: f64,
    weight: f64,
}

/// The part of each loss that is had so that their sum is `room`: in proportion to the weights, no more than 1.
fn portions(losses: &[Loss], room: f64) -> Vec<f64> {
    let mut whole = vec![false; losses.len()];
    loop {
        let sum = |of_whole: bool, value: fn(&Loss) -> f64| -> f64 {
            let of = losses.iter().zip(&whole).filter(|(_, is)| **is == of_whole);
            of.map(|(loss, _)| value(loss)).sum()
        };
        let left = (room - sum(true, |loss| loss.most)).max(0.0);
        let open = sum(false, |loss| loss.weight * loss.most);
        let unit = if open > 0.0 { left / open } else { 0.0 };
        let mut more = false;
        for (whole, loss) in whole.iter_mut().zip(losses) {
            more |= !*whole && unit * loss.weight >= 1.0;
            *whole |= unit * loss.weight >= 1.0;
        }
        if !more {
            let parts = losses.iter().zip(&whole);
            return parts
                .map(|(loss, whole)| if *whole { 1.0 } else { unit * loss.weight })
                .collect();
        }
    }
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
