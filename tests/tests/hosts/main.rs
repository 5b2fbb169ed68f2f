//! Hosts that run instances for a controller on another machine: machines on a switch, with real agents and instances.

mod bed;
mod joining;
mod moves;
mod nodes;
mod site;
mod story;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{CgroupCpu, Guest, Program, Root},
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
        joining::tokens_make_hosts_once,
        joining::a_host_that_answers_with_another_name_is_refused,
        joining::certificates_are_renewed_while_a_host_works,
        story::a_lost_host_is_replaced_and_what_it_has_is_collected,
        story::a_silent_host_whose_instances_answer_is_left_alone,
        story::a_host_is_drained_and_removed,
        story::a_pool_without_room_waits_for_it,
        story::a_controller_that_is_killed_finds_its_hosts_again,
        moves::what_a_driver_cannot_do_is_refused_with_its_name,
    ])
    .tests_with(
        &[Program("nginx"), Program("dig")],
        tests![
            nodes::a_node_has_one_that_stands_in_for_it_while_its_host_is_away,
            nodes::a_node_on_a_host_follows_its_settings,
            site::a_balancer_whose_host_is_away_is_replaced_on_another_one,
        ],
    )
    .tests_with(
        &[Guest, Program("qemu-system-x86_64")],
        tests![moves::an_operator_clones_and_moves_a_machine],
    )
    .run()
}
