//! Weights that move all the time, without anybody's reason: a random walk that returns to equal weights.

/// The interval between two steps that the step's size is meant for, in seconds: the default interval of steering.
pub const PERIOD: u64 = 5;
/// A step: the standard deviation of the change of each weight's logarithm. It moves 0.05 % of the ring.
const STEP: f64 = 0.001_25;
/// How far it strays: the standard deviation of a weight's logarithm.
const STRAY: f64 = 0.03;
/// A weight where it has not strayed.
const WEIGHT: f64 = 30_000.0;

/// The weights of a VIP.
pub struct Walk {
    logarithms: Vec<f64>,
    random: fastrand::Rng,
}

impl Walk {
    /// Begins with equal weights.
    pub fn new(reals: usize) -> Walk {
        Walk {
            logarithms: vec![0.0; reals],
            random: fastrand::Rng::with_seed(11),
        }
    }

    /// The weights as they are.
    pub fn weights(&self) -> Vec<u32> {
        self.logarithms
            .iter()
            .map(|logarithm| (logarithm.exp() * WEIGHT) as u32)
            .collect()
    }

    /// Makes one step.
    pub fn step(&mut self) {
        let back = STEP * STEP / (2.0 * STRAY * STRAY);
        for logarithm in &mut self.logarithms {
            *logarithm = *logarithm * (1.0 - back) + STEP * normal(&mut self.random);
        }
    }
}

/// Draws from the standard normal distribution (Box and Muller).
pub fn normal(random: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos()
}
