//! When requests come, and from which client: a Poisson process, the same for the same seed.

use std::{ops::Range, time::Duration};

use lb_tests::model::random::Random;

/// A request that is to be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When, after the start.
    pub at: Duration,
    /// By which client.
    pub client: usize,
}

/// Requests in the order in which they come.
#[derive(Clone, Debug)]
pub struct Arrivals {
    random: Random,
    /// Requests a second.
    rate: f64,
    clients: usize,
    /// Seconds since the start.
    clock: f64,
    end: f64,
}

impl Arrivals {
    /// So many a second (more than 0), from so many clients (more than 0), in this time after the start.
    pub fn new(seed: u64, rate: f64, clients: usize, time: Range<Duration>) -> Self {
        Arrivals {
            random: Random::new(seed),
            rate,
            clients,
            clock: time.start.as_secs_f64(),
            end: time.end.as_secs_f64(),
        }
    }

    /// Evenly from 0 (excluded) to 1.
    fn unit(&mut self) -> f64 {
        ((self.random.number() >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        self.clock -= self.unit().ln() / self.rate;
        (self.clock < self.end).then(|| Arrival {
            at: Duration::from_secs_f64(self.clock),
            client: self.random.below(self.clients),
        })
    }
}

#[cfg(test)]
#[allow(
    dead_code,
    reason = "as a part of a program without a harness this is built for tests, but not as tests"
)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(50);
    const END: Duration = Duration::from_secs(150);

    fn all(seed: u64) -> Vec<Arrival> {
        Arrivals::new(seed, 200.0, 8, START..END).collect()
    }

    #[test]
    fn a_seed_is_a_schedule() {
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
        // Of a Poisson process the number in a second has the variance of its mean.
        let mut seconds = [0.0_f64; 100];
        let mut clients = [0_u32; 8];
        for arrival in all(3) {
            seconds[(arrival.at - START).as_secs() as usize] += 1.0;
            clients[arrival.client] += 1;
        }
        let mean = seconds.iter().sum::<f64>() / 100.0;
        let variance = seconds.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / 99.0;
        assert!((195.0..205.0).contains(&mean), "{mean}");
        // Four standard deviations of what 100 samples say of it.
        assert!((0.45..1.55).contains(&(variance / mean)), "{variance}");
        assert!(
            clients.iter().all(|n| (2_300..2_700).contains(n)),
            "{clients:?}"
        );
    }
}
