//! From what was seen to what is reported.

use std::time::Duration;

use serde::Serialize;

/// The pool is settled once the greatest expected utilisation is this much of the mean, and stays so.
const SETTLED: f64 = 1.10;

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// When it was due, after the start.
    pub at: Duration,
    /// How long it took from then to the last byte; none: it failed.
    pub took: Option<Duration>,
}

/// The shares of the ring at a time after the start, a real each.
#[derive(Clone, Debug)]
pub struct Shares {
    /// See above.
    pub at: Duration,
    /// Parts of 1.
    pub shares: Vec<f64>,
}

/// What one play of an arm comes to.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Requests that were due while it was measured.
    pub requests: usize,
    /// Those of them without a right answer in time.
    pub failed: usize,
    /// Half took no longer than this, ms; what failed took the time-out.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// What each took, ms; what failed took the time-out.
    #[serde(skip)]
    pub times: Vec<f64>,
    /// Used part of its quota, a real each.
    pub utilisation: Vec<f64>,
    /// The greatest of these over their mean.
    pub uneven: f64,
    /// Seconds until the pool was settled; none: it is not in the end.
    pub settle: Option<f64>,
    /// Mean part of the ring that moved per second while it was measured.
    pub moved: f64,
    /// The shares in the end.
    pub shares: Vec<f64>,
}

/// What is measured: all that is due from here to there.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// After the start.
    pub from: Duration,
    /// After that.
    pub to: Duration,
}

impl Window {
    fn has(&self, at: Duration) -> bool {
        (self.from..self.to).contains(&at)
    }
}

impl Figures {
    /// Of a play in which reals with these quotas used these parts of them.
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

/// When the utilisation that is to be expected of the shares was even, for good.
fn settled(quotas: &[f64], shares: &[Shares]) -> Option<Duration> {
    let even = |shares: &Shares| {
        let expected: Vec<f64> = shares
            .shares
            .iter()
            .zip(quotas)
            .map(|(s, q)| s / q)
            .collect();
        // A balanced pool has the mean everywhere: the sum of shares over the sum of quotas.
        let balanced = shares.shares.iter().sum::<f64>() / quotas.iter().sum::<f64>();
        expected.iter().all(|used| *used <= balanced * SETTLED)
    };
    let last = shares.iter().rposition(|shares| !even(shares));
    let first = last.map_or(0, |last| last + 1);
    shares.get(first).map(|shares| shares.at)
}

/// The greatest of some values over their mean; 1 of none.
fn peak_over_mean(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    if mean > 0.0 {
        values.iter().copied().fold(0.0, f64::max) / mean
    } else {
        1.0
    }
}

/// The least value that this part (0 to 1) of the values does not exceed; 0 of none.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The value in the middle, the mean of two where there are two; 0 of none.
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
#[allow(
    dead_code,
    reason = "as a part of a program without a harness this is built for tests, but not as tests"
)]
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
    fn a_pool_is_settled_when_it_stays_even() {
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
        // Too little for one is too much for another.
        assert_eq!(at(&[shares(0, 0.1)]), None);
        assert_eq!(at(&[]), None);
    }

    #[test]
    fn quantiles_are_of_the_values_themselves() {
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
    fn what_is_due_in_the_window_counts_and_a_failure_takes_the_time_out() {
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
            // An answer that is too late is none.
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
