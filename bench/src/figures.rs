//! The figures of a play of `cargo xtask bench live`, computed from what was observed.

use std::time::Duration;

use serde::Serialize;

/// The pool has settled once the greatest expected utilisation stays below this multiple of the mean.
const SETTLED: f64 = 1.10;

/// The outcome of a request.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// When it was due, after the start.
    pub at: Duration,
    /// How long it took from then to the last byte; `None` if it failed.
    pub took: Option<Duration>,
}

/// The shares of the ring at one time.
#[derive(Clone, Debug)]
pub struct Shares {
    /// The time, after the start.
    pub at: Duration,
    /// The share of each real, 0 to 1.
    pub shares: Vec<f64>,
}

/// The result of one play.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Requests that were due in the window.
    pub requests: usize,
    /// Requests without a correct answer in time.
    pub failed: usize,
    /// Median of the times, in milliseconds; a failed request counts as the timeout.
    pub p50: f64,
    /// The 99th percentile of the times, in milliseconds.
    pub p99: f64,
    /// The time of each request, in milliseconds.
    #[serde(skip)]
    pub times: Vec<f64>,
    /// The fraction of its quota that each real used.
    pub utilisation: Vec<f64>,
    /// The greatest utilisation divided by the mean.
    pub uneven: f64,
    /// Seconds until the pool had settled; `None` if it had not in the end.
    pub settle: Option<f64>,
    /// Mean fraction of the ring that moved per second in the window.
    pub moved: f64,
    /// The shares in the end.
    pub shares: Vec<f64>,
}

/// The time that is measured: requests that are due in it count.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its begin, after the start.
    pub from: Duration,
    /// Its end, after the start.
    pub to: Duration,
}

impl Window {
    fn has(&self, at: Duration) -> bool {
        (self.from..self.to).contains(&at)
    }
}

impl Figures {
    /// Computes the figures of a play in which reals with these quotas had this utilisation.
    pub fn new(
        window: Window,
        outcomes: &[Outcome],
        timeout: Duration,
        (quotas, utilisation): (&[f64], Vec<f64>),
        shares: &[Shares],
    ) -> Self {
        let measured: Vec<Option<Duration>> = outcomes
            .iter()
            .filter(|outcome| window.has(outcome.at))
            .map(|outcome| outcome.took.filter(|took| *took < timeout))
            .collect();
        let times: Vec<f64> = measured
            .iter()
            .map(|took| took.unwrap_or(timeout).as_secs_f64() * 1e3)
            .collect();
        let in_window: Vec<&Shares> = shares.iter().filter(|one| window.has(one.at)).collect();
        let moved: f64 = in_window
            .windows(2)
            .map(|pair| {
                let both = pair[0].shares.iter().zip(&pair[1].shares);
                both.map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
            })
            .sum();
        Figures {
            requests: measured.len(),
            failed: measured.iter().filter(|took| took.is_none()).count(),
            p50: quantile(&times, 0.5),
            p99: quantile(&times, 0.99),
            times,
            uneven: peak_over_mean(&utilisation),
            utilisation,
            settle: settled(quotas, shares).map(|at| at.as_secs_f64()),
            moved: moved / (window.to - window.from).as_secs_f64(),
            shares: shares
                .last()
                .map(|last| last.shares.clone())
                .unwrap_or_default(),
        }
    }
}

/// Returns the time from which on the expected utilisation, which follows from the shares, stayed even.
fn settled(quotas: &[f64], shares: &[Shares]) -> Option<Duration> {
    let even = |shares: &Shares| {
        let expected: Vec<f64> = shares
            .shares
            .iter()
            .zip(quotas)
            .map(|(s, q)| s / q)
            .collect();
        // In a balanced pool every real has the mean utilisation.
        let balanced = shares.shares.iter().sum::<f64>() / quotas.iter().sum::<f64>();
        expected.iter().all(|used| *used <= balanced * SETTLED)
    };
    let last = shares.iter().rposition(|shares| !even(shares));
    let first = last.map_or(0, |last| last + 1);
    shares.get(first).map(|shares| shares.at)
}

/// Returns the greatest value divided by the mean; 1 if there are no values.
fn peak_over_mean(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    if mean > 0.0 {
        values.iter().copied().fold(0.0, f64::max) / mean
    } else {
        1.0
    }
}

/// Returns the least value that this fraction (0 to 1) of the values does not exceed; 0 if there are no values.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Returns the median; 0 if there are no values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTAS: [f64; 2] = [1.0, 3.0];

    fn shares(seconds: u64, first: f64) -> Shares {
        Shares {
            at: Duration::from_secs(seconds),
            shares: vec![first, 1.0 - first],
        }
    }

    #[test]
    fn a_pool_has_settled_when_it_stays_even() {
        let at = |all: &[Shares]| settled(&QUOTAS, all).map(|at| at.as_secs());
        assert_eq!(at(&[shares(0, 0.25), shares(1, 0.26)]), Some(0));
        let swings = [
            shares(0, 0.5),
            shares(1, 0.25),
            shares(2, 0.3),
            shares(3, 0.27),
            shares(4, 0.25),
        ];
        assert_eq!(at(&swings), Some(3));
        assert_eq!(at(&swings[..3]), None);
        // A real with too small a share means another with too large a one.
        assert_eq!(at(&[shares(0, 0.1)]), None);
        assert_eq!(at(&[]), None);
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), 50.0);
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&values, 1.0), 100.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn requests_in_the_window_count_and_a_failure_counts_as_the_timeout() {
        let second = Duration::from_secs(1);
        let outcome = |seconds: u64, took: Option<u64>| Outcome {
            at: second * u32::try_from(seconds).expect("few"),
            took: took.map(Duration::from_millis),
        };
        let window = Window {
            from: second,
            to: second * 4,
        };
        let outcomes = [
            outcome(0, None),
            outcome(1, Some(10)),
            outcome(2, None),
            // An answer after the timeout is a failure.
            outcome(3, Some(3_500)),
            outcome(4, None),
        ];
        let shares = [
            shares(0, 0.9),
            shares(1, 0.20),
            shares(2, 0.26),
            shares(3, 0.25),
        ];
        let figures = Figures::new(
            window,
            &outcomes,
            second * 3,
            (&QUOTAS, vec![0.5, 0.7]),
            &shares,
        );
        assert_eq!((figures.requests, figures.failed), (3, 2));
        assert_eq!(figures.times, [10.0, 3_000.0, 3_000.0]);
        assert_eq!((figures.p50, figures.p99), (3_000.0, 3_000.0));
        assert!((figures.uneven - 0.7 / 0.6).abs() < 1e-9);
        assert_eq!(figures.settle, Some(1.0));
        assert!((figures.moved - 0.07 / 3.0).abs() < 1e-9);
        assert_eq!(figures.shares, [0.25, 0.75]);
    }
}
