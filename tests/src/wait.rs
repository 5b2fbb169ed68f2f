//! Waiting for a condition, never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `ready` gives a value.
///
/// # Errors
/// When it has not by `patience`; the last error of `ready`, or that it gave nothing, is the cause.
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
