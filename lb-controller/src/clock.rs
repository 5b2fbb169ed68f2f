//! The wall clock.

use std::time::{Duration, SystemTime};

/// The time since 1970.
#[must_use]
pub fn unix_now() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}
