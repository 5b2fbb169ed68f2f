//! What asks. One task per VIP, real and source, which tells by message.
//!
//! Pollers ask once an interval; each is a [`Poll`] in a file of its own. What brokers tell by themselves is
//! subscribed to. The parsers are pure: bytes in, [`Answer`] out.

pub mod docker;
pub mod grpc;

use futures::future::BoxFuture;

use super::reading::Answer;
use crate::peer::Deadline;

/// One way to ask a peer; it keeps what the next answer needs of this one (counters for rates).
pub trait Poll: Send {
    /// Asks once. It ends by the deadline, reads a bounded answer, and never panics whatever comes. When it
    /// fails it says why, in words for the operator. Dropped in the middle, it leaves nothing behind.
    ///
    /// Rates are between the moments at which answers came: [`std::time::Instant::now`] behind the answer.
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>>;
}
