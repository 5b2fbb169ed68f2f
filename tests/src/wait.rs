//! Waits for conditions.

use std::{
    env,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;

/// Interval at which a condition is checked.
const POLL: Duration = Duration::from_millis(20);

/// Multiplies how long anything may take, for machines that are slow because they are emulated.
const SLOWNESS: &str = "LB_TESTS_SLOWNESS";

/// How long what takes `patience` on an ordinary machine may take on this one.
pub(crate) fn patience_here(patience: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| {
        let text = env::var(SLOWNESS).ok();
        text.and_then(|text| text.parse().ok()).unwrap_or(1)
    });
    patience * *factor
}

/// Calls `ready` until it returns a value, and returns that. An error of `ready` does not end the wait.
///
/// # Errors
/// Fails if `ready` has returned no value within `patience`; the last error of `ready` is the cause.
pub fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut ready: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let patience = patience_here(patience);
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
