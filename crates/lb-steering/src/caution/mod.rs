//! Signs of trouble: a real that serves its flows worse than the other reals, or than before it had so many, whatever
//! its utilisation says.
//!
//! A sign is one file with one function, listed in [`TESTS`]. None of them fires by chance: counts are compared with the
//! variation that counts have, in pools of a hundred reals, too.

mod ends_sooner;
mod errors;
mod lasts_longer;
mod repeats;
mod served;
mod slow_probes;
mod turnover;

use std::time::Duration;

use self::served::Served;
pub use self::served::{LogLife, Window};
use self::turnover::Turnover;
pub use self::turnover::keeps;
use super::{
    observation::{LIFE_BUCKETS, Observation, Sample},
    shares,
    verdict::Sign,
};

/// A real up to this multiple of the operator's share shows how it serves where steering gives it nothing extra.
const BASE_MULTIPLE: f64 = 1.1;
/// Above this multiple a real has more than the operator's share.
pub const RAISED: f64 = 1.03;
/// Gain with which that is learned, ...
const BASE_GAIN: f64 = 0.2;
/// ... and where it differs by more than this from what was learned: what is usual changes over hours, not minutes.
const UNUSUAL: f64 = 0.5;
/// The same of the fraction of the flows that end sooner than usual.
const UNUSUAL_EXCESS: f64 = 0.03;
/// See [`UNUSUAL`].
const UNUSUAL_GAIN: f64 = 0.0005;
/// Periods in which a real shows what is usual at first.
const FIRST_PERIODS: u32 = 24;
/// From this utilisation on a real reads full: that its flows wait contradicts nothing.
const FULL: f64 = 0.88;
/// Readings that are remembered: one alone may be noise, or late.
const RECENT: usize = 3;
/// From this utilisation on a real's flows may wait, and tell nothing of a life without waiting.
const BUSY: f64 = 0.8;
/// Standard deviations by which a count must differ.
const DEVIATIONS: f64 = 3.5;
/// Gain with which reported errors and round trips are smoothed.
const SMOOTHING: f64 = 0.5;

/// What is remembered of how a real serves.
#[derive(Debug, Default)]
pub struct Evidence {
    served: Served,
    turnover: Turnover,
    /// Fraction of its answers that are errors, smoothed.
    errors: Option<f64>,
    /// Logarithm of its probes' round trip, smoothed, and how many there were.
    round_trip: Option<f64>,
    /// The last readings of utilisation, the newest first; a missing one counts as 0.
    readings: [f64; RECENT],
    /// Logarithm (base 2) of its flows' life, as it usually is when they do not wait.
    usual_life: Usual,
    /// Which fraction of its flows usually ends within each bucket of lives.
    usual_lives: UsualLives,
    /// Logarithm of its round trip over the other reals', at the operator's share.
    base_round_trip: Usual,
}

/// A figure as it usually is.
#[derive(Debug, Default)]
struct Usual {
    value: Option<f64>,
    periods: u32,
}

impl Usual {
    /// Learns from a period.
    fn learn(&mut self, value: Option<f64>) {
        let Some(value) = value else { return };
        let before = *self.value.get_or_insert(value);
        self.periods = self.periods.saturating_add(1);
        let gain = if (value - before).abs() < UNUSUAL {
            BASE_GAIN
        } else if self.periods <= FIRST_PERIODS {
            1.0 / f64::from(self.periods)
        } else {
            UNUSUAL_GAIN
        };
        self.value = Some(before + gain * (value - before));
    }
}

impl Evidence {
    /// Records a period, with the utilisation that is trusted. Readings older than `max_age` are not used. `connections`: those that the real has, where they
    /// are long.
    pub fn observe(
        &mut self,
        observation: &Observation,
        utilisation: Option<Sample>,
        connections: Option<f64>,
        max_age: Duration,
    ) {
        self.turnover
            .observe(observation.opened, observation.closed, connections);
        let reading = Sample::fresh(utilisation, max_age).unwrap_or(0.0);
        self.readings.rotate_right(1);
        self.readings[0] = reading;
        self.served.observe(observation.signs, self.is_busy());
        let smooth = |state: &mut Option<f64>, value: Option<f64>| {
            *state = value
                .map(|value| state.map_or(value, |before| before + SMOOTHING * (value - before)));
        };
        let load = &observation.load;
        smooth(&mut self.errors, Sample::fresh(load.error_rate, max_age));
        let round_trip = Sample::fresh(load.latency, max_age).filter(|time| *time > 0.0);
        smooth(&mut self.round_trip, round_trip.map(f64::ln));
    }

    /// Whether it reads full.
    fn is_full(&self) -> bool {
        self.readings.iter().any(|reading| *reading >= FULL)
    }

    /// Whether its flows may have waited for others lately.
    pub fn is_busy(&self) -> bool {
        self.readings.iter().any(|reading| *reading >= BUSY)
    }
}

/// How the lives of a real's flows are usually spread.
#[derive(Debug, Default)]
struct UsualLives {
    /// The fraction that ends within each bucket.
    ended_by: Option<[f64; LIFE_BUCKETS]>,
    periods: u32,
}

impl UsualLives {
    /// The largest excess of a fraction over what is usual.
    fn excess(&self, ended_by: &[f64; LIFE_BUCKETS]) -> Option<f64> {
        let usual = self.ended_by?;
        let excess = ended_by.iter().zip(usual).map(|(now, usual)| now - usual);
        Some(excess.fold(0.0, f64::max))
    }

    /// Learns from a period.
    fn learn(&mut self, ended_by: &[f64; LIFE_BUCKETS]) {
        let excess = self.excess(ended_by).unwrap_or(0.0);
        self.periods = self.periods.saturating_add(1);
        let gain = if excess < UNUSUAL_EXCESS {
            BASE_GAIN
        } else if self.periods <= FIRST_PERIODS {
            1.0 / f64::from(self.periods)
        } else {
            UNUSUAL_GAIN
        };
        let usual = self.ended_by.get_or_insert(*ended_by);
        for (usual, now) in usual.iter_mut().zip(ended_by) {
            *usual += gain * (now - *usual);
        }
    }
}

/// A real, as the others' are compared with it.
pub struct Figures<'a> {
    /// How it serves.
    pub evidence: &'a mut Evidence,
    /// Its share over the operator's.
    pub multiple: f64,
    /// Its utilisation, as far as it is trusted.
    pub utilisation: Option<f64>,
    /// How long it has had new flows.
    pub serving_for: Duration,
}

impl Figures<'_> {
    fn windows(&self) -> Option<&[Window]> {
        self.evidence.served.windows()
    }

    /// Whether its flows show a life without trouble: it may serve as a measure for others. A real that is saturated, or
    /// whose clients try in vain, makes any other look quick.
    fn is_calm(&self, window: usize) -> bool {
        self.windows().is_some_and(|all| all[window].is_calm())
    }

    /// Whether nothing shows that its probes wait. Where the data plane does not count its flows, utilisation alone tells.
    fn is_unhampered(&self) -> bool {
        !self.evidence.is_busy() && self.windows().is_none_or(|all| all[0].is_calm())
    }

    /// Its typical life in a window.
    fn life(&self, window: usize) -> Option<LogLife> {
        self.windows()?[window].life()
    }
}

/// Looks for one sign of the real with this number.
type Test = fn(&[Figures<'_>], usize) -> Option<Sign>;

/// The signs, the most telling first.
const TESTS: [Test; 7] = [
    errors::test,
    ends_sooner::test,
    turnover::test,
    repeats::repeated_syns,
    repeats::resets,
    lasts_longer::test,
    slow_probes::test,
];

/// The mean life of a pool's flows, seconds, as sampled flows show it: `None` unless nearly all of them end soon.
pub fn sampled_life<'a>(reals: impl Iterator<Item = &'a Evidence>) -> Option<f64> {
    served::mean_life(reals.filter_map(|evidence| evidence.served.windows()?.get(1)))
}

/// Returns the sign that each real shows.
pub fn signs(reals: &mut [Figures<'_>]) -> Vec<Option<Sign>> {
    let found: Vec<Option<Sign>> = (0..reals.len())
        .map(|real| TESTS.iter().find_map(|test| test(reals, real)))
        .collect();
    let round_trips: Vec<Option<f64>> = (0..reals.len())
        .map(|real| slow_probes::relative_round_trip(reals, real))
        .collect();
    for (real, round_trip) in reals.iter_mut().zip(round_trips) {
        if real.is_calm(0) {
            let life = real.life(0).map(|life| life.mean);
            real.evidence.usual_life.learn(life);
        }
        let spread = real.windows().and_then(|windows| windows[1].ended_by());
        if real.is_calm(1)
            && let Some((spread, _)) = spread
        {
            real.evidence.usual_lives.learn(&spread);
        }
        if real.multiple <= BASE_MULTIPLE && !real.evidence.is_busy() {
            real.evidence.base_round_trip.learn(round_trip);
        }
    }
    found
}

/// How much longer each real's flows live than usual, relative to the others' (logarithm, base 2). `None` if its flows do
/// not show how it serves them.
pub fn life_growths(reals: &[Figures<'_>]) -> Vec<Option<f64>> {
    (0..reals.len())
        .map(|real| {
            let mut windows = 0..served::LIFE_WINDOWS;
            reals[real].windows()?;
            let known = windows
                .clone()
                .any(|window| reals[real].life(window).is_some());
            let change = windows.find_map(|window| life_change(reals, real, window, false));
            // Where nothing is usual yet, nothing has changed.
            known.then(|| change.map_or(0.0, |change| change.mean))
        })
        .collect()
}

/// How much longer a real's flows live than usual, less the same of the others: what all have in common is their clients'
/// doing. `calm`: only reals that are no trouble count.
fn life_change(reals: &[Figures<'_>], real: usize, window: usize, calm: bool) -> Option<LogLife> {
    let change = |figures: &Figures<'_>| {
        let life = figures.life(window)?;
        Some(LogLife {
            mean: life.mean - figures.evidence.usual_life.value?,
            ..life
        })
    };
    let counts = |other: &Figures<'_>| {
        (!calm || other.is_calm(window))
            .then(|| change(other))
            .flatten()
    };
    let own = change(&reals[real])?;
    let mean = lower_median(others(reals, real, |other| Some(counts(other)?.mean)))?;
    let variance = lower_median(others(reals, real, |other| Some(counts(other)?.variance)))?;
    Some(LogLife {
        mean: own.mean - mean,
        variance: own.variance + variance,
    })
}

/// The others' values of a figure.
fn others<'a>(
    reals: &'a [Figures<'a>],
    real: usize,
    value: impl Fn(&Figures<'_>) -> Option<f64> + 'a,
) -> impl Iterator<Item = f64> + 'a {
    reals
        .iter()
        .enumerate()
        .filter(move |(number, _)| *number != real)
        .filter_map(move |(_, other)| value(other))
}

/// The lower median.
fn lower_median(values: impl Iterator<Item = f64>) -> Option<f64> {
    shares::median(values.map(|value| -value).collect()).map(|value| -value)
}
