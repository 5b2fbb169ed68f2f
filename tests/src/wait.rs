//! Waits for conditions.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;

/// Interval at which a condition is checked.
const POLL: Duration = Duration::from_millis(20);

/// Calls `ready` until it returns a value, and returns that. An error of `ready` does not end the wait.
///
/// # Errors
/// Fails if `ready` has returned no value within `patience`; the last error of `ready` is the cause.
pub fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut ready: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let last = match ready() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= deadline {
            match last {
                Some(error) => {
                    return Err(error.context(format!("{what}: not within {patience:?}")));
                }
                None => bail!("{what}: not within {patience:?}"),
            }
        }
        thread::sleep(POLL);
    }
}
