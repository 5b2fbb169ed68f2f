//! The drivers of pools with real processes, a Docker engine that the test starts, and a program that speaks JSON.
//!
//! Each driver passes the same tests ([`conformance`]); then there are those of one driver only.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod conformance;
mod docker;
mod exec;
mod network;
mod operator;
mod process;
mod qemu;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{self, BpfFs, CgroupCpu, Guest, Program, Root},
    },
    tests,
};

const ENGINE: &[Requirement] = &[
    CgroupCpu,
    Program("dockerd"),
    Program("docker"),
    Program("tar"),
];

const NETWORK: &[Requirement] = &[
    CgroupCpu,
    BpfFs,
    Program("ip"),
    Program("ethtool"),
    Program("perl"),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, folder] = &words[..]
        && word == operator::WORD
    {
        return match operator::run(folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    Harness::new(&[Root])
        .tests_with(
            &[CgroupCpu],
            tests![
                process::conforms,
                process::an_instance_ends_with_all_that_it_started,
                process::an_instance_is_adopted_although_its_start_was_not_noted,
                process::a_group_without_a_folder_is_listed_and_removed,
                process::what_is_noted_of_an_instance_is_written_again,
                process::two_controllers_do_not_share_a_folder,
                process::an_instance_runs_as_its_user,
                exec::conforms,
                exec::is_off_unless_allowed,
                exec::what_goes_wrong_is_said,
            ],
        )
        .tests_with(
            ENGINE,
            tests![
                docker::conforms,
                docker::an_engine_that_restarts_is_adopted_again,
                docker::a_container_is_cloned_with_what_it_has_written,
                docker::a_container_of_somebody_else_is_not_touched,
            ],
        )
        .tests_with(
            &[CgroupCpu, Guest, Program("qemu-system-x86_64")],
            tests![qemu::conforms],
        )
        .tests_with(
            NETWORK,
            tests![
                network::a_process_is_a_real_of_a_vip,
                network::a_fault_is_listed_and_mended,
            ],
        )
        .tests_with(
            &[
                Program("dockerd"),
                Program("docker"),
                Program("tar"),
                CgroupCpu,
                BpfFs,
                Program("perl"),
            ],
            tests![network::a_container_is_a_real_of_a_vip],
        )
        .run()
}
