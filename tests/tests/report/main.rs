//! `lb-agent report` with control groups of this kernel, a Mosquitto broker, and containers of a Docker engine that the
//! test starts itself.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod docker;
mod limits;
mod mqtt;
mod reporter;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{BpfFs, CgroupCpu, Program, Root},
    },
    tests,
};

fn main() -> ExitCode {
    Harness::new(&[Root, Program("ip")])
        .tests(tests![limits::a_reporter_whose_sampler_hangs_ends])
        .tests_with(&[BpfFs], tests![limits::a_real_whose_upkeep_hangs_ends])
        .tests_with(
            &[
                CgroupCpu,
                Program("dockerd"),
                Program("docker"),
                Program("tar"),
            ],
            tests![docker::containers_are_measured_by_their_own_limits],
        )
        .tests_with(
            &[CgroupCpu],
            tests![
                limits::a_busy_program_is_at_its_own_limit_and_far_below_the_hosts,
                limits::a_process_is_measured_by_its_own_group,
                limits::a_reporter_that_is_confined_measures_its_own_limit,
                limits::a_group_is_removed_with_its_last_handle,
            ],
        )
        .tests_with(
            &[Program("mosquitto"), Program("mosquitto_passwd")],
            tests![
                mqtt::a_late_subscriber_gets_the_last_report_and_then_each_new_one,
                mqtt::a_killed_reporter_leaves_no_old_report,
                mqtt::the_reporter_reconnects_to_a_broker_that_was_away,
                mqtt::it_logs_in_with_a_password_from_a_file,
            ],
        )
        .run()
}
