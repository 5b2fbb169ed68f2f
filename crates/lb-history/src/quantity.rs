//! What is recorded.

use serde::{Deserialize, Serialize};

/// Quantities of a sample.
pub const COUNT: usize = 8;

/// What a figure measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Requests or connections that clients began, per second.
    Rate,
    /// Open requests or connections.
    Connections,
    /// Instances that serve.
    Serving,
    /// Utilisation of what is scarcest, from 0 to 1, as load sources say.
    Utilisation,
    /// Use of the CPU limit, from 0 to 1.
    Cpu,
    /// Use of the memory limit, from 0 to 1.
    Memory,
    /// Use of the network's bandwidth, from 0 to 1.
    Network,
    /// Time until answers, in seconds.
    Latency,
}

impl Quantity {
    /// All of them, in the order in which they are stored.
    pub const ALL: [Quantity; COUNT] = [
        Quantity::Rate,
        Quantity::Connections,
        Quantity::Serving,
        Quantity::Utilisation,
        Quantity::Cpu,
        Quantity::Memory,
        Quantity::Network,
        Quantity::Latency,
    ];

    /// The name in answers and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Quantity::Rate => "rate",
            Quantity::Connections => "connections",
            Quantity::Serving => "serving",
            Quantity::Utilisation => "utilisation",
            Quantity::Cpu => "cpu",
            Quantity::Memory => "memory",
            Quantity::Network => "network",
            Quantity::Latency => "latency",
        }
    }
}

/// The figures of one time; `None` is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample([Option<f64>; COUNT]);

impl Sample {
    /// The figure of a quantity.
    #[must_use]
    pub const fn get(&self, quantity: Quantity) -> Option<f64> {
        self.0[quantity as usize]
    }

    /// Sets a figure. What is no number, or below 0, is unknown.
    pub fn set(&mut self, quantity: Quantity, figure: Option<f64>) {
        let is_good = |figure: &f64| figure.is_finite() && *figure >= 0.0;
        self.0[quantity as usize] = figure.filter(is_good);
    }

    /// The same with a figure.
    #[must_use]
    pub fn with(mut self, quantity: Quantity, figure: Option<f64>) -> Self {
        self.set(quantity, figure);
        self
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// Figures that were seen within a step: their means and their highest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gathered {
    sums: [f64; COUNT],
    counts: [u32; COUNT],
    highest: [f64; COUNT],
}

impl Gathered {
    /// Adds a sample.
    pub fn add(&mut self, sample: &Sample) {
        for quantity in Quantity::ALL {
            if let Some(figure) = sample.get(quantity) {
                self.add_figure(quantity, figure, figure);
            }
        }
    }

    /// Adds a mean and the highest of a time of one weight.
    pub fn add_figure(&mut self, quantity: Quantity, mean: f64, highest: f64) {
        let at = quantity as usize;
        self.sums[at] += mean;
        self.counts[at] += 1;
        self.highest[at] = self.highest[at].max(highest);
    }

    /// Mean and highest of a quantity.
    #[must_use]
    pub fn get(&self, quantity: Quantity) -> Option<(f64, f64)> {
        let at = quantity as usize;
        let count = self.counts[at];
        (count > 0).then(|| (self.sums[at] / f64::from(count), self.highest[at]))
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}
