//! Time since this process started.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// Returns the time since this function was first called.
pub fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Returns [`now`] in milliseconds.
pub fn now_millis() -> u64 {
    now().as_millis() as u64
}
