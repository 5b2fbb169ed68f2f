//! Names under which tests own what they start.

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Returns a name for the owner of instances (a controller, or a driver) that no other test has, of this run or of
/// another one: who shares a name takes the other one's instances for its own.
pub fn owner(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("test-{}-{number}-{what}", process::id())
}
