//! Sends the same frames through the balancer in the kernel, the decision on tables in memory, and an independent model.
//! Verdict, reason, choice, bytes, counters and flow tables must be equal.
//!
//! `LB_DIFFERENTIAL_SEED` and `LB_DIFFERENTIAL_FRAMES` set the seed and the number of frames. A failure prints the seed
//! and the frames.

mod affinity;
mod arena;
mod frames;
mod kernel;
mod large;
mod table_full;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{self, BpfFs, Root},
    },
    tests,
};

/// Requirements of tests with maps and programs in the kernel.
const KERNEL: &[Requirement] = &[Root, BpfFs];

fn main() -> ExitCode {
    Harness::new(&[])
        .tests(tests![
            large::memory_and_model_agree_on_frames_of_any_length
        ])
        .tests_with(
            KERNEL,
            tests![
                affinity::flows_stay_on_their_reals_through_ring_changes,
                frames::kernel_memory_and_model_agree_on_random_frames,
                table_full::in_a_full_flow_table_an_old_entry_that_is_not_confirmed_gives_way,
            ],
        )
        .run()
}

/// Reads a number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text}")),
        Err(_) => default,
    }
}
