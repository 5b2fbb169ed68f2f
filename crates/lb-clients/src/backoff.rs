//! Pauses between attempts, and how they are spread so that many clients do not act in step.

use std::time::Duration;

/// Pauses that double from `first` to `longest`, each shortened at random by up to a half.
///
/// Clients that lost the same peer at the same moment so come back at different moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with `first`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Backoff {
            first,
            longest,
            next: first,
        }
    }

    /// How long to wait before the next attempt: half of the present pause to all of it. The pause after that is twice
    /// as long, up to the longest.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        shortened(pause, 50, fastrand::f64())
    }

    /// Waits for [`pause`](Self::pause).
    pub async fn wait(&mut self) {
        let pause = self.pause();
        tokio::time::sleep(pause).await;
    }

    /// Begins with the first pause again: an attempt succeeded.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

/// An interval less up to `percent` of it. `fraction`, 0 to 1, says how much of that.
#[must_use]
pub fn shortened(interval: Duration, percent: u32, fraction: f64) -> Duration {
    interval - (interval * percent / 100).mul_f64(fraction)
}

/// A part of the interval, chosen at random: at least zero, less than the whole.
#[must_use]
pub fn random_part(interval: Duration) -> Duration {
    interval.mul_f64(fastrand::f64())
}

/// An interval that is up to `percent` longer or shorter, chosen at random.
#[must_use]
pub fn varied(interval: Duration, percent: u32) -> Duration {
    let spread = interval * percent / 100;
    interval - spread + (spread * 2).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        for seconds in [1, 2, 4, 8, 16, 30, 30, 30] {
            let whole = Duration::from_secs(seconds);
            let pause = backoff.pause();
            assert!(
                pause >= whole / 2 && pause <= whole,
                "{pause:?} of {whole:?}"
            );
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }

    #[test]
    fn pauses_are_spread() {
        let pauses: Vec<_> = (0..1_000)
            .map(|_| Backoff::new(FIRST, LONGEST).pause().as_secs_f64())
            .collect();
        let mean = pauses.iter().sum::<f64>() / 1_000.0;
        assert!((0.7..0.8).contains(&mean), "{mean}");
    }

    #[test]
    fn intervals_vary_within_their_bounds() {
        for _ in 0..1_000 {
            let varied = varied(FIRST, 5);
            assert!((950..=1_050).contains(&varied.as_millis()), "{varied:?}");
            assert!(random_part(FIRST) < FIRST);
        }
        for (percent, fraction, milliseconds) in [
            (0, 0.99, 1_000),
            (10, 0.0, 1_000),
            (10, 0.5, 950),
            (50, 1.0, 500),
        ] {
            assert_eq!(
                shortened(FIRST, percent, fraction),
                Duration::from_millis(milliseconds)
            );
        }
    }
}
