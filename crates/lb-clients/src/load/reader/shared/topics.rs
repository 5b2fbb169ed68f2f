//! The interface of readers that subscribe to MQTT topics: they store each message, and give an answer at each
//! heartbeat.

use std::time::Instant;

use crate::{load::reading::Answer, peer::mqtt::Message};

/// What a message means to its reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// The message is irrelevant, or its value waits for the next heartbeat.
    Stored,
    /// The source is alive, and an answer can be given.
    Heartbeat,
    /// The message cannot be read, for this reason.
    Unreadable(String),
}

/// Reads the messages of the topics of one filter. Its memory is bounded, whatever is published.
pub trait TopicReader: Send {
    /// Returns the topic filter to subscribe to.
    fn filter(&self) -> &str;

    /// Reads a message.
    fn receive(&mut self, message: &Message) -> Received;

    /// Returns the values at a heartbeat.
    ///
    /// # Errors
    /// Why there are no values.
    fn answer(&mut self, at: Instant) -> Result<Answer, String>;

    /// What an operator checks first if no heartbeat arrives.
    fn advice(&self) -> &'static str;
}

/// Parses the number at the beginning of a text such as `6295.28` or `33 seconds`.
#[must_use]
pub fn number(payload: &[u8]) -> Option<f64> {
    std::str::from_utf8(payload)
        .ok()?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}
