//! Whether a real's utilisation is a measure of its load: when what it carries changes, utilisation must follow.

use std::time::Duration;

use super::verdict::{Doubt, Trust};

/// Number of candidate delays of readings, in periods.
pub const DELAYS: usize = 5;
/// Factor by which evidence decays per period.
const DECAY: f64 = 0.96;
/// A change of what is carried (natural logarithm) from which on utilisation must show it.
const LEAST_CHANGE: f64 = 0.08;
/// Sum of squared changes without which nothing is concluded.
const LEAST_SUM: f64 = 0.1;
/// Utilisation does not follow if its slope is below this, ...
const LOST: f64 = 0.35;
/// ... by this many standard deviations.
const DEVIATIONS: f64 = 3.0;
/// It follows again from this slope on.
const REGAINED: f64 = 0.6;
/// A slope that is as close to 0 as this is a value that stays the same.
const FROZEN: f64 = 1e-6;
/// Readings that are the same to the last digit this many times, ...
const LEAST_SAME: u32 = 6;
/// ... while what is carried varies by this much (natural logarithm), are none: a load that is measured has noise.
const VARIED: f64 = 0.14;
/// A change below this is none.
const EXACT: f64 = 1e-9;
/// A single change counts for at most this much.
const MOST_CHANGE: f64 = 1.0;
/// After this time without a vote, it is tried again.
const RETRY: Duration = Duration::from_secs(1_200);

/// What is known of how a real's utilisation follows its load.
#[derive(Debug, Default)]
pub struct Following {
    /// For each delay, the sums of squared changes of what is carried, and of their products with those of utilisation.
    sums: [(f64, f64); DELAYS],
    /// Sum of squared changes of utilisation.
    moved: f64,
    same: Same,
    doubt: Option<(Doubt, Duration)>,
}

/// A run of readings that are exactly the same.
#[derive(Debug, Default)]
struct Same {
    readings: u32,
    /// What is carried (natural logarithm), relative to the begin of the run: now, at least and at most.
    carried: (f64, f64, f64),
}

impl Same {
    /// Records a change of utilisation and of what was carried.
    fn observe(&mut self, utilisation: f64, carried: f64) {
        if utilisation.abs() >= EXACT {
            *self = Same::default();
            return;
        }
        self.readings += 1;
        let (now, least, most) = self.carried;
        let now = now + carried;
        self.carried = (now, least.min(now), most.max(now));
    }

    /// Whether a load would have shown.
    fn is_frozen(&self) -> bool {
        let (_, least, most) = self.carried;
        self.readings >= LEAST_SAME && most - least >= VARIED
    }
}

impl Following {
    /// Records a change of utilisation (natural logarithm), and of what was carried each delay earlier.
    pub fn observe(&mut self, utilisation: f64, carried: [f64; DELAYS]) {
        self.same.observe(utilisation, carried[0]);
        let utilisation = utilisation.clamp(-MOST_CHANGE, MOST_CHANGE);
        self.moved = self.moved * DECAY + utilisation * utilisation;
        for ((squares, products), carried) in self.sums.iter_mut().zip(carried) {
            *squares *= DECAY;
            *products *= DECAY;
            if carried.abs() >= LEAST_CHANGE {
                let carried = carried.clamp(-MOST_CHANGE, MOST_CHANGE);
                *squares += carried * carried;
                *products += carried * utilisation;
            }
        }
    }

    /// The relative standard deviation that readings have at most: that of their changes. A value that stays the same has
    /// none, though it differs from what is expected.
    pub fn most_noise(&self) -> f64 {
        (self.moved * (1.0 - DECAY) / 2.0).sqrt()
    }

    /// Judges at the end of a period. `noise` is the relative standard deviation of readings.
    pub fn judge(&mut self, now: Duration, noise: f64) {
        let slopes = self.sums.map(|(squares, products)| {
            (squares >= LEAST_SUM).then(|| (products / squares, squares))
        });
        let best = slopes
            .iter()
            .flatten()
            .map(|(slope, _)| *slope)
            .fold(f64::NEG_INFINITY, f64::max);
        if let Some((_, since)) = self.doubt {
            if best >= REGAINED || now.saturating_sub(since) > RETRY {
                *self = Following::default();
            }
            return;
        }
        if self.same.is_frozen() {
            // How it followed before says nothing of the time after.
            *self = Following {
                doubt: Some((Doubt::Frozen, now)),
                ..Following::default()
            };
            return;
        }
        // Readings may be late, so none of the delays may explain them.
        let lost = slopes.iter().all(|slope| {
            slope.is_some_and(|(slope, squares)| {
                slope + DEVIATIONS * std::f64::consts::SQRT_2 * noise / squares.sqrt() < LOST
            })
        });
        if lost {
            let doubt = if self.moved < FROZEN {
                Doubt::Frozen
            } else {
                Doubt::Unresponsive { slope: best }
            };
            self.doubt = Some((doubt, now));
        }
    }

    /// Why utilisation has no vote.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt.map(|(doubt, _)| doubt)
    }
}

/// How far a real's utilisation is trusted, from the doubts that there are: of it, and of one of several sources.
pub fn trust(
    following: &Following,
    jumped: Option<f64>,
    contradicted: bool,
    sources: Option<Trust>,
) -> Trust {
    if let Some(doubt) = following.doubt() {
        return Trust {
            level: 0.0,
            doubt: Some(doubt),
        };
    }
    if let Some(times) = jumped {
        return Trust {
            level: times.min(1.0 / times),
            doubt: Some(Doubt::Jumped { times }),
        };
    }
    if contradicted {
        return Trust {
            level: 0.5,
            doubt: Some(Doubt::Contradicted),
        };
    }
    sources.unwrap_or(Trust::FULL)
}
