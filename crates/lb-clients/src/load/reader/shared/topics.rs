//! The interface of readers that subscribe to MQTT topics: they store each message, and give an answer at each
//! heartbeat.

use std::time::Instant;

use crate::{load::reading::Answer, peer::mqtt::Message};

/// Characters of a payload that an error repeats.
const MAX_QUOTED: usize = 40;

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

/// Says that a topic's payload is no number.
#[must_use]
pub fn not_a_number(topic: &str, payload: &[u8]) -> String {
    let payload = String::from_utf8_lossy(payload);
    format!(
        "{topic} cannot be read: {:?}",
        payload.chars().take(MAX_QUOTED).collect::<String>()
    )
}

/// Parses the number at the beginning of a text such as `6295.28` or `33 seconds`.
#[must_use]
pub fn number(payload: &[u8]) -> Option<f64> {
    std::str::from_utf8(payload)
        .ok()?
        .trim_start_matches('\u{feff}')
        .split(|character: char| character.is_whitespace() || character == '\0')
        .find(|word| !word.is_empty())?
        .parse()
        .ok()
}
