//! The same frames through the balancer in the kernel, the decision on tables in memory, and the independent
//! model: verdict, reason, choice, bytes, counters and flow tables must be the same.
//!
//! `LB_DIFFERENTIAL_SEED` and `LB_DIFFERENTIAL_FRAMES` choose other frames, and more of them. A failure
//! prints the seed and the frames.

mod affinity;
mod arena;
mod frames;
mod kernel;
mod large;
mod table_full;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text}")),
        Err(_) => default,
    }
}
