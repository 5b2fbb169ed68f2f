//! Virtual machines, for real: QEMU emulates them, and their guests run what the project's image has.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod agent;
mod bed;
mod life;
mod moving;
mod nodes;
mod pool;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{BpfFs, CgroupCpu, Guest, Program, Root},
    },
    tests,
};

fn main() -> ExitCode {
    Harness::new(&[
        Root,
        CgroupCpu,
        Guest,
        Program("qemu-system-x86_64"),
        Program("qemu-img"),
        Program("ip"),
        Program("ethtool"),
    ])
    .tests(tests![
        life::a_machine_lives_as_an_instance_does,
        life::a_machine_has_a_disk_of_its_own_and_is_told_who_it_is,
        life::a_port_of_the_host_leads_to_a_machine,
        life::what_cannot_be_made_is_refused,
        moving::a_machine_is_suspended_and_cloned,
        moving::a_machine_moves_while_a_client_talks_to_it,
        moving::machines_start_from_a_saved_state,
        pool::a_pool_of_machines_serves,
    ])
    .tests_with(
        &[BpfFs, Program("nginx"), Program("dig")],
        tests![
            agent::an_agent_in_a_guest_forwards_by_xdp,
            nodes::a_load_balancer_is_served_by_a_machine,
            nodes::a_load_balancer_is_served_by_an_agent_in_a_machine,
        ],
    )
    .run()
}
