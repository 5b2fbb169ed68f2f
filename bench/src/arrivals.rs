//! When requests arrive, and from which client: a Poisson process that follows from its seed.

use std::{ops::Range, time::Duration};

use fastrand::Rng;

/// A request to be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When it is due, after the start.
    pub at: Duration,
    /// The client that makes it.
    pub client: usize,
}

/// An iterator over requests, in order.
#[derive(Clone, Debug)]
pub struct Arrivals {
    random: Rng,
    /// Requests per second.
    rate: f64,
    clients: usize,
    /// Seconds since the start.
    clock: f64,
    end: f64,
}

impl Arrivals {
    /// Creates arrivals at `rate` per second, from `clients` clients, within `time` after the start. `rate` and
    /// `clients` must be greater than 0.
    pub fn new(seed: u64, rate: f64, clients: usize, time: Range<Duration>) -> Self {
        Arrivals {
            random: Rng::with_seed(seed),
            rate,
            clients,
            clock: time.start.as_secs_f64(),
            end: time.end.as_secs_f64(),
        }
    }

    /// Returns a number that is uniformly distributed over (0, 1].
    fn unit(&mut self) -> f64 {
        1.0 - self.random.f64()
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        self.clock -= self.unit().ln() / self.rate;
        (self.clock < self.end).then(|| Arrival {
            at: Duration::from_secs_f64(self.clock),
            client: self.random.usize(..self.clients),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(50);
    const END: Duration = Duration::from_secs(150);

    fn all(seed: u64) -> Vec<Arrival> {
        Arrivals::new(seed, 200.0, 8, START..END).collect()
    }

    #[test]
    fn arrivals_follow_from_the_seed() {
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn they_come_in_order_and_end() {
        let all = all(1);
        assert!(all.is_sorted_by_key(|arrival| arrival.at));
        assert!(all.iter().all(|arrival| (START..END).contains(&arrival.at)));
    }

    #[test]
    fn they_are_poisson() {
        // The number of arrivals in a second has a variance equal to its mean.
        let mut seconds = [0.0_f64; 100];
        let mut clients = [0_u32; 8];
        for arrival in all(3) {
            seconds[(arrival.at - START).as_secs() as usize] += 1.0;
            clients[arrival.client] += 1;
        }
        let mean = seconds.iter().sum::<f64>() / 100.0;
        let variance = seconds.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / 99.0;
        assert!((195.0..205.0).contains(&mean), "{mean}");
        // Four standard deviations of the estimate from 100 samples.
        assert!((0.45..1.55).contains(&(variance / mean)), "{variance}");
        assert!(
            clients.iter().all(|n| (2_300..2_700).contains(n)),
            "{clients:?}"
        );
    }
}
