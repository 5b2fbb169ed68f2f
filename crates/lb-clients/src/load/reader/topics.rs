//! What readers of topics have in common: each message is taken, and an answer given at each heartbeat.

use std::time::Instant;

use crate::load::reading::Answer;
use crate::peer::mqtt::Message;

/// What a message is to its reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing that is read, or something that waits for the heartbeat.
    Kept,
    /// The source lives: an answer can be given.
    Heartbeat,
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// A way to read topics. What it keeps is bounded, whatever is published.
pub trait Topics: Send {
    /// The topic filter to subscribe to.
    fn filter(&self) -> &str;

    /// Takes a message.
    fn take(&mut self, message: &Message) -> Taken;

    /// What is known at this heartbeat.
    ///
    /// # Errors
    /// Why nothing is.
    fn answer(&mut self, at: Instant) -> Result<Answer, String>;

    /// What to look at when no heartbeat comes.
    fn advice(&self) -> &'static str;
}

/// The number at the beginning of a text: `6295.28`, `33 seconds`.
pub(super) fn number(payload: &[u8]) -> Option<f64> {
    std::str::from_utf8(payload)
        .ok()?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}
