//! Scores of instances, from 0 (free) to 1 (full, or not available), and the categories that are views of them.
//!
//! A score is no second opinion: its utilisation is what the instance carries over the capacity that steering has learned.
//! Balancing follows steering's weights; scores show an operator what these rest on.

use std::{fmt, time::Duration};

use lb_model::scaling::Scaling;
use serde::{Deserialize, Serialize};

/// A response may take this multiple of what is usual before it counts against an instance.
const SLOW: f64 = 2.0;

/// Time over which the pool's distribution is averaged, ...
const AVERAGED_OVER: Duration = Duration::from_secs(60);
/// ... and its trend.
const TREND_OVER: Duration = Duration::from_secs(300);
/// Thresholds are those of the pool in this time, if its trend lasts, ...
const AHEAD: f64 = 60.0;
/// ... and the trend moves them by this much at most.
const MOST_AHEAD: f64 = 0.15;
/// Mean absolute deviations between the pool's mean and a threshold, ...
const DEVIATIONS: f64 = 2.0;
/// ... which are at least this far from it.
const LEAST_DISTANCE: f64 = 0.10;
/// The range of the moving thresholds.
const LOW: (f64, f64) = (0.10, 0.45);
const HIGH: (f64, f64) = (0.60, 0.90);
/// A score must pass a threshold by this much before an instance changes its category.
const HYSTERESIS: f64 = 0.02;

const _: () = assert!(LOW.1 + 2.0 * HYSTERESIS < HIGH.0);

/// What a score is made of. All are fresh readings; `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScoreInputs {
    /// What the instance carries, in the unit of its capacity.
    pub carried: Option<f64>,
    /// What it carries at utilisation 1, as steering has learned.
    pub capacity: Option<f64>,
    /// Utilisation that is read; used while no capacity is known.
    pub utilisation: Option<f64>,
    /// Used fraction of its memory.
    pub memory: Option<f64>,
    /// Used fraction of its network bandwidth.
    pub network: Option<f64>,
    /// Its response time, seconds.
    pub response: Option<f64>,
    /// The usual response time: the pool's objective, or its median, seconds.
    pub usual_response: Option<f64>,
    /// The fraction of its probes that succeeded lately.
    pub probes: Option<f64>,
    /// The fraction of its requests that succeeded lately.
    pub requests: Option<f64>,
}

/// The scores of an instance, each from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Processor time: what it carries over its learned capacity, or the reading.
    pub cpu: Option<f64>,
    /// Memory.
    pub memory: Option<f64>,
    /// Network.
    pub network: Option<f64>,
    /// Availability: 1 if probes and requests succeed and answers come in time.
    pub availability: f64,
    /// The overall score.
    pub overall: f64,
    /// What they are made of.
    pub inputs: ScoreInputs,
}

/// A fraction, if it is one.
fn fraction(value: Option<f64>) -> Option<f64> {
    value
        .filter(|value| value.is_finite())
        .map(|value| value.clamp(0.0, 1.0))
}

/// A ratio of plausible numbers.
fn ratio(over: Option<f64>, under: Option<f64>) -> Option<f64> {
    let (over, under) = over.zip(under)?;
    let plausible = over.is_finite() && under.is_finite() && over >= 0.0 && under > 0.0;
    plausible.then(|| over / under)
}

impl Score {
    /// Computes the scores: the overall one is 1 − (1 − the scarcest resource) × availability.
    #[must_use]
    pub fn of(inputs: ScoreInputs) -> Self {
        let cpu = ratio(inputs.carried, inputs.capacity).or(inputs.utilisation);
        let (cpu, memory, network) = (
            fraction(cpu),
            fraction(inputs.memory),
            fraction(inputs.network),
        );
        let success =
            fraction(inputs.probes).unwrap_or(1.0) * fraction(inputs.requests).unwrap_or(1.0);
        let slow = ratio(inputs.response, inputs.usual_response);
        let in_time = slow.map_or(1.0, |slow| (SLOW / slow.max(SLOW)).min(1.0));
        let availability = success * in_time;
        let scarcest = [cpu, memory, network]
            .into_iter()
            .flatten()
            .fold(0.0, f64::max);
        Score {
            cpu,
            memory,
            network,
            availability,
            overall: 1.0 - (1.0 - scarcest) * availability,
            inputs,
        }
    }
}

/// How much an instance is utilised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Category {
    /// Low utilisation (LU).
    Low,
    /// Medium utilisation (MU).
    Medium,
    /// High utilisation (HU).
    High,
}

impl Category {
    /// The short name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Category::Low => "LU",
            Category::Medium => "MU",
            Category::High => "HU",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The scores between which the categories lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Below it, utilisation is low.
    pub low: f64,
    /// From it on, utilisation is high.
    pub high: f64,
}

impl Thresholds {
    /// Returns the category of a score. An instance keeps its category until its score passes a threshold by a margin.
    #[must_use]
    pub fn category(&self, score: f64, before: Option<Category>) -> Category {
        let margin = |is: bool| if is { HYSTERESIS } else { -HYSTERESIS };
        let (low, high) = match before {
            None => (self.low, self.high),
            Some(before) => (
                self.low + margin(before == Category::Low),
                self.high - margin(before == Category::High),
            ),
        };
        if score >= high {
            Category::High
        } else if score < low {
            Category::Low
        } else {
            Category::Medium
        }
    }
}

/// What is remembered of a pool's scores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    at: Option<Duration>,
    /// Smoothed mean.
    mean: f64,
    /// Smoothed mean absolute deviation.
    spread: f64,
    /// Change of the mean per second, smoothed.
    trend: f64,
}

impl Distribution {
    /// Records the overall scores of the instances that serve, each with its capacity (1 if that is unknown). `now` is
    /// monotonic, since any epoch. Without any instance, what is known is kept.
    pub fn observe(&mut self, now: Duration, scores: &[(f64, f64)]) {
        let all: f64 = scores.iter().map(|(_, capacity)| capacity).sum();
        if all.is_nan() || all <= 0.0 {
            return;
        }
        let mean = scores
            .iter()
            .map(|(score, capacity)| score * capacity)
            .sum::<f64>()
            / all;
        let deviations = scores
            .iter()
            .map(|(score, capacity)| (score - mean).abs() * capacity);
        let spread = deviations.sum::<f64>() / all;
        let Some(before) = self.at.replace(now) else {
            (self.mean, self.spread, self.trend) = (mean, spread, 0.0);
            return;
        };
        let passed = now.saturating_sub(before).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        let gain = |over: Duration| 1.0 - (-passed / over.as_secs_f64()).exp();
        let last = self.mean;
        self.mean += gain(AVERAGED_OVER) * (mean - self.mean);
        self.spread += gain(AVERAGED_OVER) * (spread - self.spread);
        self.trend += gain(TREND_OVER) * ((self.mean - last) / passed - self.trend);
    }

    /// The thresholds: those that are set, and others as the pool is. They lie around its mean score, at least
    /// `LEAST_DISTANCE` and `DEVIATIONS` mean deviations from it, lower while the mean rises and higher while it falls.
    #[must_use]
    pub fn thresholds(&self, settings: &Scaling) -> Thresholds {
        let ahead = (self.trend * AHEAD).clamp(-MOST_AHEAD, MOST_AHEAD);
        let distance = (DEVIATIONS * self.spread).max(LEAST_DISTANCE);
        let low = (self.mean - distance - ahead).clamp(LOW.0, LOW.1);
        let high = (self.mean + distance - ahead).clamp(HIGH.0, HIGH.1);
        let low = settings.low.0.unwrap_or(low);
        let high = settings.high.0.unwrap_or(high);
        // One that is set may lie beyond one that moves.
        Thresholds {
            low: if settings.low.0.is_none() {
                low.min(high)
            } else {
                low
            },
            high: if settings.high.0.is_none() {
                high.max(low)
            } else {
                high
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use lb_model::settings::Auto;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn overall(change: impl FnOnce(&mut ScoreInputs)) -> f64 {
        let mut inputs = ScoreInputs {
            carried: Some(30.0),
            capacity: Some(100.0),
            utilisation: Some(0.9),
            memory: Some(0.2),
            ..ScoreInputs::default()
        };
        change(&mut inputs);
        Score::of(inputs).overall
    }

    #[test]
    fn utilisation_is_what_steering_has_learned() {
        assert!((overall(|_| {}) - 0.3).abs() < 1e-9);
        assert!((overall(|it| it.capacity = None) - 0.9).abs() < 1e-9);
        assert!((overall(|it| it.carried = Some(500.0)) - 1.0).abs() < 1e-9);
        assert!((overall(|it| it.carried = Some(f64::NAN)) - 0.9).abs() < 1e-9);
        assert_eq!(Score::of(ScoreInputs::default()).overall, 0.0);
    }

    #[test]
    fn the_scarcest_resource_and_availability_count() {
        assert!((overall(|it| it.memory = Some(0.8)) - 0.8).abs() < 1e-9);
        assert!((overall(|it| it.network = Some(0.7)) - 0.7).abs() < 1e-9);
        // Half of the requests fail: 1 − 0.7 × 0.5.
        assert!((overall(|it| it.requests = Some(0.5)) - 0.65).abs() < 1e-9);
        assert!((overall(|it| it.probes = Some(0.0)) - 1.0).abs() < 1e-9);
        // Twice the usual response time is still in time, four times is half available.
        let slow = |times: f64| {
            overall(|it| {
                it.response = Some(0.1 * times);
                it.usual_response = Some(0.1);
            })
        };
        assert!((slow(2.0) - 0.3).abs() < 1e-9);
        assert!((slow(4.0) - 0.65).abs() < 1e-9);
    }

    fn pool(scores: &[f64]) -> Vec<(f64, f64)> {
        scores.iter().map(|score| (*score, 100.0)).collect()
    }

    fn after(course: impl Fn(u64) -> Vec<f64>, time: u64) -> Thresholds {
        let mut distribution = Distribution::default();
        for second in (0..time).step_by(5) {
            distribution.observe(seconds(1_000 + second), &pool(&course(second)));
        }
        distribution.thresholds(&Scaling::default())
    }

    #[test]
    fn thresholds_follow_the_distribution() {
        let even = after(|_| vec![0.55; 5], 600);
        assert!(
            (even.low - 0.45).abs() < 1e-6 && (even.high - 0.65).abs() < 1e-6,
            "{even:?}"
        );
        let spread = after(|_| vec![0.40, 0.50, 0.60, 0.70], 600);
        assert!(
            (spread.low - 0.35).abs() < 1e-6 && (spread.high - 0.75).abs() < 1e-6,
            "{spread:?}"
        );
        // Their range is bounded.
        let idle = after(|_| vec![0.01; 3], 600);
        assert_eq!((idle.low, idle.high), (0.10, 0.60));
        let full = after(|_| vec![1.0; 3], 600);
        assert_eq!((full.low, full.high), (0.45, 0.90));
    }

    #[test]
    fn thresholds_fall_while_load_rises() {
        let at = |rise: f64| after(move |second| vec![0.4 + rise * second as f64; 4], 600);
        let mean = 0.4 + 0.000_5 * 600.0;
        let (flat, rising) = (after(|_| vec![mean; 4], 600), at(0.000_5));
        assert!(rising.high < flat.high - 0.02, "{rising:?} {flat:?}");
        let falling = after(|second| vec![0.4 + 0.3 - 0.000_5 * second as f64; 4], 600);
        let low = after(|_| vec![0.4; 4], 600);
        assert!(falling.low > low.low + 0.02, "{falling:?} {low:?}");
    }

    #[test]
    fn static_thresholds_win() {
        let set = |low: Option<f64>, high: Option<f64>| {
            let settings = Scaling {
                low: Auto(low),
                high: Auto(high),
                ..Scaling::default()
            };
            let mut distribution = Distribution::default();
            distribution.observe(seconds(1), &pool(&[0.5, 0.5]));
            let thresholds = distribution.thresholds(&settings);
            (thresholds.low, thresholds.high)
        };
        assert_eq!(set(Some(0.2), Some(0.8)), (0.2, 0.8));
        assert_eq!(set(Some(0.95), None), (0.95, 0.95));
        assert_eq!(set(None, Some(0.05)), (0.05, 0.05));
    }

    #[test]
    fn categories_do_not_flap() {
        let thresholds = Thresholds {
            low: 0.3,
            high: 0.7,
        };
        let of = |score, before| thresholds.category(score, before);
        assert_eq!(of(0.29, None), Category::Low);
        assert_eq!(of(0.30, None), Category::Medium);
        assert_eq!(of(0.70, None), Category::High);
        assert_eq!(of(0.31, Some(Category::Low)), Category::Low);
        assert_eq!(of(0.33, Some(Category::Low)), Category::Medium);
        assert_eq!(of(0.29, Some(Category::Medium)), Category::Medium);
        assert_eq!(of(0.27, Some(Category::Medium)), Category::Low);
        assert_eq!(of(0.71, Some(Category::Medium)), Category::Medium);
        assert_eq!(of(0.69, Some(Category::High)), Category::High);
        assert_eq!(of(0.67, Some(Category::High)), Category::Medium);
        assert_eq!(of(0.9, Some(Category::Low)), Category::High);
        assert_eq!(Category::High.to_string(), "HU");
    }

    #[test]
    fn a_saved_distribution_goes_on() {
        let mut distribution = Distribution::default();
        distribution.observe(seconds(1), &pool(&[0.1, 0.7]));
        distribution.observe(seconds(7), &pool(&[0.3, 0.9]));
        let saved = serde_json::to_string(&distribution).unwrap();
        assert_eq!(
            serde_json::from_str::<Distribution>(&saved).unwrap(),
            distribution
        );
        // Without instances, and without time, nothing changes.
        let before = distribution.clone();
        distribution.observe(seconds(20), &[]);
        distribution.observe(seconds(7), &pool(&[1.0]));
        assert_eq!(distribution, before);
    }
}
