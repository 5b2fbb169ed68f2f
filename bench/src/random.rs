//! Random numbers that are the same on every machine.

/// A random number generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

/// From this mean on, a Poisson number is drawn from the normal distribution.
const NORMAL_FROM: f64 = 50.0;

impl Random {
    /// Creates a generator.
    pub const fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Draws evenly from 0 (excluded) to 1.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }

    /// Draws from the standard normal distribution (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Draws from the exponential distribution of mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// Draws a Poisson number of this mean.
    pub fn poisson(&mut self, mean: f64) -> f64 {
        if mean > NORMAL_FROM {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0);
        }
        let (mut left, mut count) = (mean, 0.0);
        loop {
            left -= self.exponential();
            if left < 0.0 {
                return count;
            }
            count += 1.0;
        }
    }

    /// Draws how many of `count` remain if each does with this probability (normal approximation).
    pub fn remaining(&mut self, count: f64, probability: f64) -> f64 {
        let deviation = (count * probability * (1.0 - probability)).sqrt();
        (count * probability + deviation * self.normal())
            .round()
            .clamp(0.0, count)
    }
}
