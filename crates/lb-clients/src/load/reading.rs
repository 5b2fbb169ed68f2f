//! What a reader says: quantities with units, and orders.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc, time::Instant};

use lb_model::vip::VipAddress;
use serde::{Deserialize, Serialize};

/// What is measured. Each has one unit, whatever the peer's own is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Processor time, or what stands for it, as a fraction of the real's own limit.
    Utilisation,
    /// Memory as a fraction of the real's own limit.
    Memory,
    /// Open file descriptors as a fraction of the limit.
    FileDescriptors,
    /// Network traffic as a fraction of the link's speed.
    Network,
    /// Failed requests as a fraction of all.
    ErrorRate,
    /// What an agent wants its weight to be, as a fraction of the operator's.
    AgentWeight,
    /// Open connections.
    Connections,
    /// Connections there is room for.
    ConnectionLimit,
    /// New connections.
    Rate,
    /// Messages or requests, both directions.
    Messages,
    /// Messages thrown away.
    Dropped,
    /// How long an answer takes.
    Latency,
    /// How late the event loop is.
    Drift,
    /// Memory where its limit is not known.
    MemoryBytes,
    /// Work that waits for a processor.
    RunQueue,
}

/// Every quantity with its name.
const NAMES: [(Quantity, &str); 15] = [
    (Quantity::Utilisation, "utilisation"),
    (Quantity::Memory, "memory"),
    (Quantity::FileDescriptors, "file_descriptors"),
    (Quantity::Network, "network"),
    (Quantity::ErrorRate, "error_rate"),
    (Quantity::AgentWeight, "agent_weight"),
    (Quantity::Connections, "connections"),
    (Quantity::ConnectionLimit, "connection_limit"),
    (Quantity::Rate, "rate"),
    (Quantity::Messages, "messages"),
    (Quantity::Dropped, "dropped"),
    (Quantity::Latency, "latency"),
    (Quantity::Drift, "drift"),
    (Quantity::MemoryBytes, "memory_bytes"),
    (Quantity::RunQueue, "run_queue"),
];

impl Quantity {
    /// Its name in the configuration, the API and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(quantity, _)| *quantity == self)
            .map_or("", |(_, name)| name)
    }

    /// What it is counted in.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Quantity::Utilisation
            | Quantity::Memory
            | Quantity::FileDescriptors
            | Quantity::Network
            | Quantity::ErrorRate
            | Quantity::AgentWeight => Unit::Fraction,
            Quantity::Connections | Quantity::ConnectionLimit | Quantity::RunQueue => Unit::Count,
            Quantity::Rate | Quantity::Messages | Quantity::Dropped => Unit::PerSecond,
            Quantity::Latency | Quantity::Drift => Unit::Seconds,
            Quantity::MemoryBytes => Unit::Bytes,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        NAMES
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(quantity, _)| *quantity)
            .ok_or_else(|| {
                let names: Vec<_> = NAMES.iter().map(|(_, name)| *name).collect();
                format!(
                    "`{text}` is no quantity; those there are: {}",
                    names.join(", ")
                )
            })
    }
}

/// What a quantity is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Of a whole; 1 is all of it.
    Fraction,
    /// Things.
    Count,
    /// Things a second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Fraction => "fraction",
            Unit::Count => "count",
            Unit::PerSecond => "1/s",
            Unit::Seconds => "s",
            Unit::Bytes => "B",
        })
    }
}

/// A value as the peer's answer says it, in the quantity's unit; nothing is known of its truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// What was measured.
    pub quantity: Quantity,
    /// In the quantity's unit.
    pub value: f64,
}

impl Sample {
    /// A value in the quantity's unit.
    #[must_use]
    pub const fn new(quantity: Quantity, value: f64) -> Self {
        Sample { quantity, value }
    }
}

/// What one answer of a peer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// What was measured; a quantity that is not there is not known, which is not zero.
    pub samples: Vec<Sample>,
    /// What the agent on the real wants.
    pub order: Option<Order>,
    /// Something that moves as long as the source lives: its uptime, or a counter of its work.
    pub pulse: Option<f64>,
    /// What was wanted and is not there.
    pub missing: Vec<Missing>,
}

/// A quantity that was wanted and is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What was wanted.
    pub quantity: Quantity,
    /// Why it is not there.
    pub reason: String,
}

impl Answer {
    /// Measured values and nothing else.
    #[must_use]
    pub fn of(samples: Vec<Sample>) -> Self {
        Answer {
            samples,
            ..Answer::default()
        }
    }

    /// Itself, if it says anything.
    ///
    /// # Errors
    /// Why everything that was wanted is missing.
    pub fn or_missing(self) -> Result<Self, String> {
        if !self.samples.is_empty() || self.order.is_some() || self.missing.is_empty() {
            return Ok(self);
        }
        let reasons: Vec<_> = self
            .missing
            .iter()
            .map(|missing| format!("{}: {}", missing.quantity, missing.reason))
            .collect();
        Err(reasons.join("; "))
    }

    /// The value of a quantity.
    #[must_use]
    pub fn get(&self, quantity: Quantity) -> Option<f64> {
        self.samples
            .iter()
            .find(|sample| sample.quantity == quantity)
            .map(|sample| sample.value)
    }
}

/// What HAProxy's agent-check protocol can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Ends `drain` and `maint`.
    Ready,
    /// No new flows, the old ones stay.
    Drain,
    /// No new flows: the operator of the real works on it.
    Maint,
    /// Its service is alive.
    Up,
    /// Its service is dead.
    Down,
}

impl Order {
    /// How much it takes away: of two orders at a time the one that takes more counts.
    #[must_use]
    pub const fn severity(self) -> u8 {
        match self {
            Order::Up => 0,
            Order::Ready => 1,
            Order::Drain => 2,
            Order::Maint => 3,
            Order::Down => 4,
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Ready => "ready",
            Order::Drain => "drain",
            Order::Maint => "maint",
            Order::Up => "up",
            Order::Down => "down",
        })
    }
}

/// A measured value that was found plausible.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What was measured.
    pub quantity: Quantity,
    /// In the quantity's unit; finite and not negative.
    pub value: f64,
    /// When it was true.
    pub at: Instant,
    /// Name of the source.
    pub source: Arc<str>,
}

impl Reading {
    /// What it is counted in.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.quantity.unit()
    }
}

/// Whose load is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The VIP.
    pub vip: VipAddress,
    /// Its real.
    pub real: IpAddr,
}

/// What a reader tells: after each answer, and after each interval without one.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whose load it is.
    pub subject: Subject,
    /// Name of the source.
    pub source: Arc<str>,
    /// When it was told.
    pub at: Instant,
    /// What was read, or why nothing was.
    pub outcome: Result<Readings, Trouble>,
}

/// What is believed of an answer, and what is not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// Plausible values.
    pub readings: Vec<Reading>,
    /// What the agent on the real wants.
    pub order: Option<Order>,
    /// Values that are not believed.
    pub ignored: Vec<Ignored>,
    /// What was wanted and is not there.
    pub missing: Vec<Missing>,
}

/// A value that is not believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Ignored {
    /// What it is said to be.
    pub quantity: Quantity,
    /// What the source says; may be NaN.
    pub value: f64,
    /// Why it is not believed.
    pub reason: String,
}

/// Why nothing could be read, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The peer did not answer, or not what it should.
    #[error("{0}")]
    Failed(String),
    /// It is connected and silent.
    #[error("stale: {0}")]
    Stale(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_written() {
        for (quantity, name) in NAMES {
            assert_eq!(quantity.name(), name);
            assert_eq!(name.parse(), Ok(quantity));
            assert_eq!(
                serde_json::to_string(&quantity).unwrap(),
                format!("{name:?}")
            );
        }
        let error = "cpu".parse::<Quantity>().unwrap_err();
        assert!(error.contains("utilisation, memory"), "{error}");
    }
}
