//! A time limit for a whole exchange.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use super::PeerError;

/// The moment by which an exchange ends, whatever the peer does.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    whole: Duration,
}

impl Deadline {
    /// A deadline this long from now.
    #[must_use]
    pub fn after(whole: Duration) -> Self {
        Deadline {
            at: Instant::now() + whole,
            whole,
        }
    }

    /// The time that is left; zero when the deadline has passed.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Waits for `work`, but not past the deadline. `doing` names the work in an error (`connecting`).
    ///
    /// # Errors
    /// [`PeerError::TimedOut`] with the length of the whole exchange, or the error of `work`.
    pub async fn bound<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, PeerError> {
        tokio::time::timeout_at(self.at, work)
            .await
            .unwrap_or(Err(PeerError::TimedOut {
                doing,
                after: self.whole,
            }))
    }
}
