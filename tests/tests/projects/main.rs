//! Projects and their load balancers, with real nodes: what a tenant and an operator see.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod bed;
mod containers;
mod envelope;
mod names;
mod nodes;
mod pools;
mod shared;
mod story;
mod subnets;
mod wrong;

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
        envelope::a_subnet_is_ordered_in_the_envelope,
        wrong::wrong_orders_change_nothing,
        pools::pools_of_environments_count_in_the_quota,
        pools::a_pool_is_behind_load_balancers_of_its_projects_only,
        subnets::a_bridge_that_is_deleted_by_hand_comes_back,
        subnets::a_load_balancer_moves_between_subnets_and_gives_its_addresses_back,
        subnets::wrong_subnets_are_refused_with_advice,
        subnets::a_subnet_spans_two_hosts,
    ])
    .tests_with(
        &[Program("dig")],
        tests![
            names::clients_find_a_load_balancer_by_its_name,
            pools::a_pool_behind_a_load_balancer_grows_and_shrinks,
            subnets::two_projects_with_the_same_addresses_reach_only_their_own,
        ],
    )
    .tests_with(
        &[Program("dig"), Program("named"), Program("tsig-keygen")],
        tests![names::pushed_names_that_nothing_refers_to_have_a_grace_period],
    )
    .tests_with(
        &[BpfFs, Program("dig")],
        tests![
            shared::a_shared_load_balancer_is_a_vip_of_the_agents,
            shared::what_a_vip_cannot_do_is_refused,
        ],
    )
    .tests_with(
        &[Program("dig"), Program("dockerd"), Program("docker")],
        tests![containers::a_node_in_a_container_serves_and_is_replaced],
    )
    .run()
}
