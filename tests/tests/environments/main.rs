//! Environments with real pools and load balancers: their story, also with a controller that is killed at each of its steps.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

#[path = "../projects/bed.rs"]
#[expect(dead_code, reason = "the suite of projects uses all of it")]
mod bed;
mod handlers;
mod killed;
mod site;
mod story;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{CgroupCpu, Program, Root},
    },
    tests,
};

fn main() -> ExitCode {
    Harness::new(&[
        Root,
        CgroupCpu,
        Program("ip"),
        Program("ethtool"),
        Program("perl"),
    ])
    .tests(tests![
        story::an_environment_comes_changes_and_goes,
        story::wrong_orders_change_nothing,
        story::commands_are_cancelled_and_tried_again,
        handlers::programs_and_web_hooks_are_called,
        handlers::web_hooks_speak_tls_and_trust_what_they_are_told_to,
        killed::a_controller_that_is_killed_at_each_step_comes_to_the_same_end,
    ])
    .run()
}
