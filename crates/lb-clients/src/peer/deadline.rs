//! How long a whole exchange may take.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use super::PeerError;

/// A moment by which an exchange has ended, whatever the peer does.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    whole: Duration,
}

impl Deadline {
    /// This long from now.
    #[must_use]
    pub fn after(whole: Duration) -> Self {
        Deadline {
            at: Instant::now() + whole,
            whole,
        }
    }

    /// What is left; zero when it has passed.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Waits for `work`, but not past the deadline. `doing` says what was waited for (`connecting`).
    ///
    /// # Errors
    /// [`PeerError::TimedOut`] with the length of the whole exchange, or what `work` failed with.
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
