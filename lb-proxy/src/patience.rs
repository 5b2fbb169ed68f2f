//! Waiting with a limit that a process which was stopped, or got no CPU, does not hold against the others.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::{Instant, timeout};

/// A wake-up that comes later than this says something about this process.
const LATE: Duration = Duration::from_millis(200);
/// How long what has come meanwhile may take to be noticed.
pub const GRACE: Duration = Duration::from_secs(1);

/// What came of waiting.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited<T> {
    /// It is done.
    Done(T),
    /// The time is over.
    Over,
    /// The time is over, and this process woke up so late that it says nothing about the other side.
    Late(Duration),
}

/// Returns by how much a wake-up for `due` comes too late, if it does.
pub fn lateness(due: Instant) -> Option<Duration> {
    let late = Instant::now().saturating_duration_since(due);
    (late >= LATE).then_some(late)
}

/// Waits for a future, `most` at most. After a late wake-up it gets a moment more.
pub async fn patiently<T>(most: Duration, future: impl Future<Output = T>) -> Waited<T> {
    let mut future = pin!(future);
    let due = Instant::now() + most;
    if let Ok(done) = timeout(most, future.as_mut()).await {
        return Waited::Done(done);
    }
    let Some(late) = lateness(due) else {
        return Waited::Over;
    };
    match timeout(GRACE, future).await {
        Ok(done) => Waited::Done(done),
        Err(_) => Waited::Late(late),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_limit_holds_unless_the_process_was_stopped() {
        assert_eq!(patiently(SECOND, async { 7 }).await, Waited::Done(7));
        let forever = std::future::pending::<()>;
        assert_eq!(patiently(SECOND, forever()).await, Waited::Over);
        // Stopped for a minute: what comes then is in time, and what does not come is nobody's fault.
        for (takes, expected) in [
            (SECOND / 2, Waited::Done(())),
            (10 * SECOND, Waited::Late(59 * SECOND)),
        ] {
            let waiting = tokio::spawn(patiently(SECOND, async move {
                sleep(60 * SECOND + takes).await;
            }));
            tokio::task::yield_now().await;
            advance(60 * SECOND).await;
            assert_eq!(waiting.await.unwrap(), expected);
        }
    }
}
