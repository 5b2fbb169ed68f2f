//! Projects and their load balancers, with real nodes: what a tenant and an operator see.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod bed;
mod envelope;
mod names;
mod nodes;
mod pools;
mod shared;
mod story;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{BpfFs, CgroupCpu, Program, Root},
    },
    tests,
};

fn main() -> ExitCode {
    Harness::new(&[
        Root,
        CgroupCpu,
        Program("ip"),
        Program("ethtool"),
        Program("nginx"),
        Program("perl"),
    ])
    .tests(tests![
        story::a_project_gets_a_load_balancer_and_a_url,
        story::a_load_balancer_follows_its_settings,
        story::what_is_deleted_goes_with_all_that_it_had,
        nodes::a_dead_a_frozen_and_a_cut_off_node_are_replaced,
        nodes::a_controller_that_is_killed_goes_on,
        envelope::the_envelope_is_answered_as_asked,
        envelope::wrong_orders_change_nothing,
        pools::a_pool_is_behind_load_balancers_of_its_projects_only,
    ])
    .tests_with(
        &[Program("dig")],
        tests![
            names::clients_find_a_load_balancer_by_its_name,
            pools::a_pool_behind_a_load_balancer_grows_and_shrinks,
        ],
    )
    .tests_with(
        &[BpfFs, Program("dig")],
        tests![
            shared::a_shared_load_balancer_is_a_vip_of_the_agents,
            shared::what_a_vip_cannot_do_is_refused,
        ],
    )
    .run()
}
