//! What readers report: quantities with units, commands of agents, and errors.

use std::{fmt, sync::Arc, time::Instant};

use lb_model::vip::{RealId, VipKey};
use serde::{Deserialize, Serialize};

lb_model::choice! {
    /// A measured quantity. Each has one unit; readers convert the peer's unit to it.
    pub enum Quantity = Utilisation {
        /// Processor time, or the source's equivalent, as a fraction of the real's own limit.
        Utilisation = "utilisation",
        /// Memory as a fraction of the real's own limit.
        Memory = "memory",
        /// Open file descriptors as a fraction of the limit.
        FileDescriptors = "file_descriptors",
        /// Network traffic as a fraction of the link's speed.
        Network = "network",
        /// Failed requests as a fraction of all requests.
        ErrorRate = "error_rate",
        /// The weight that an agent asks for, as a fraction of the operator's.
        AgentWeight = "agent_weight",
        /// Open connections.
        Connections = "connections",
        /// Connections that the real has room for.
        ConnectionLimit = "connection_limit",
        /// New connections per second.
        Rate = "rate",
        /// Messages or requests per second, both directions.
        Messages = "messages",
        /// Dropped messages per second.
        Dropped = "dropped",
        /// Response time in seconds.
        Latency = "latency",
        /// Delay of the event loop in seconds.
        Drift = "drift",
        /// Bytes of memory in use, from sources that do not know its limit.
        MemoryBytes = "memory_bytes",
        /// Tasks that wait for a processor.
        RunQueue = "run_queue",
    }
}

impl Quantity {
    /// The unit of the quantity.
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

/// The unit of a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A fraction; 1 is the whole.
    Fraction,
    /// A number of things.
    Count,
    /// Events per second.
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

/// A value from a peer's answer, before any check of its plausibility.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The measured quantity.
    pub quantity: Quantity,
    /// The value in the quantity's unit.
    pub value: f64,
}

impl Sample {
    /// Creates a sample; `value` is in the quantity's unit.
    #[must_use]
    pub const fn new(quantity: Quantity, value: f64) -> Self {
        Sample { quantity, value }
    }
}

/// The contents of one answer of a peer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The measured values. A quantity without a sample is unknown, which is not zero.
    pub samples: Vec<Sample>,
    /// The command of the agent on the real.
    pub command: Option<AgentCommand>,
    /// A value that changes as long as the source is alive: its uptime, or a counter of its work.
    pub progress: Option<f64>,
    /// The configured quantities that the answer lacks.
    pub missing: Vec<Missing>,
    /// What of the answer cannot be read.
    pub unreadable: Unreadable,
}

/// Parts of an answer that cannot be read: lines, topics, values, words. Each is lost alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// How many.
    pub count: u64,
    /// The first, in words for operators; empty if there is none.
    pub first: String,
}

impl Unreadable {
    /// Counts one more.
    pub fn add(&mut self, words: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = words();
        }
        self.count += 1;
    }

    /// What is to be said of it; `None` if everything can be read.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match self.count {
            0 => None,
            1 => Some(self.first.clone()),
            count => Some(format!("{}; {} more", self.first, count - 1)),
        }
    }
}

/// A configured quantity that an answer lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The quantity.
    pub quantity: Quantity,
    /// Why the answer lacks it.
    pub reason: String,
}

impl Answer {
    /// Creates an answer with these samples and nothing else.
    #[must_use]
    pub fn from_samples(samples: Vec<Sample>) -> Self {
        Answer {
            samples,
            ..Answer::default()
        }
    }

    /// Returns the answer, or an error if every configured quantity is missing.
    ///
    /// # Errors
    /// The reason for each missing quantity.
    pub fn error_if_empty(self) -> Result<Self, String> {
        if !self.samples.is_empty() || self.command.is_some() || self.missing.is_empty() {
            return Ok(self);
        }
        let reasons: Vec<_> = self
            .missing
            .iter()
            .map(|missing| format!("{}: {}", missing.quantity, missing.reason))
            .collect();
        Err(reasons.join("; "))
    }

    /// Returns the value of a quantity.
    #[must_use]
    pub fn get(&self, quantity: Quantity) -> Option<f64> {
        self.samples
            .iter()
            .find(|sample| sample.quantity == quantity)
            .map(|sample| sample.value)
    }
}

/// A command of HAProxy's agent-check protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentCommand {
    /// Ends [`Drain`](Self::Drain) and [`Maint`](Self::Maint).
    Ready,
    /// No new flows; existing flows continue.
    Drain,
    /// No new flows: the real is under maintenance.
    Maint,
    /// The service is up.
    Up,
    /// The service is down.
    Down,
}

impl AgentCommand {
    /// How severe the command is: of two commands at a time, the more severe one applies.
    #[must_use]
    pub const fn severity(self) -> u8 {
        match self {
            AgentCommand::Up => 0,
            AgentCommand::Ready => 1,
            AgentCommand::Drain => 2,
            AgentCommand::Maint => 3,
            AgentCommand::Down => 4,
        }
    }
}

impl fmt::Display for AgentCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AgentCommand::Ready => "ready",
            AgentCommand::Drain => "drain",
            AgentCommand::Maint => "maint",
            AgentCommand::Up => "up",
            AgentCommand::Down => "down",
        })
    }
}

/// A plausible value with its time and source.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The measured quantity.
    pub quantity: Quantity,
    /// The value in the quantity's unit; finite and not negative.
    pub value: f64,
    /// When the value was read.
    pub at: Instant,
    /// Name of the source.
    pub source: Arc<str>,
}

impl Reading {
    /// The unit of the value.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.quantity.unit()
    }
}

/// The real whose load is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The VIP that the real belongs to.
    pub vip: VipKey,
    /// The real's address.
    pub real: RealId,
}

/// A reader's report: one after each answer, and one after each interval without an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The real whose load was read.
    pub subject: Subject,
    /// Name of the source.
    pub source: Arc<str>,
    /// When the report was made.
    pub at: Instant,
    /// The readings, or why there are none.
    pub outcome: Result<Readings, ReadError>,
}

/// An answer after the check of its plausibility.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// Plausible values.
    pub readings: Vec<Reading>,
    /// The command of the agent on the real.
    pub command: Option<AgentCommand>,
    /// Implausible values.
    pub ignored: Vec<Ignored>,
    /// The configured quantities that the answer lacks.
    pub missing: Vec<Missing>,
    /// What of the answer cannot be read.
    pub unreadable: Unreadable,
}

/// An implausible value, which is ignored.
#[derive(Clone, Debug, PartialEq)]
pub struct Ignored {
    /// The quantity.
    pub quantity: Quantity,
    /// The source's value; may be NaN.
    pub value: f64,
    /// Why the value is implausible.
    pub reason: String,
}

/// Why a source could not be read, in words for operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The peer did not answer, or its answer is invalid.
    #[error("{0}")]
    Failed(String),
    /// The reader is connected, but the source publishes nothing.
    #[error("stale: {0}")]
    Stale(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_quantity() {
        for &quantity in Quantity::ALL {
            let name = quantity.name();
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
