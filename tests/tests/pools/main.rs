//! `lb-controller` with real processes, containers and agents: what an operator sees of pools.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod brokers;
mod containers;
mod crashes;
mod file;
mod fixture;
mod history;
mod http;
mod lifecycle;
mod proxied;
mod serving;
mod stores;
mod vital;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{BpfFs, CgroupCpu, Program, Root},
    },
    tests,
};

/// As `tests!`, each in a network namespace of its own.
macro_rules! alone {
    ($($test:path),* $(,)?) => {
        vec![$(lb_tests::harness::Test {
            name: stringify!($test),
            run: || lb_tests::harness::Outcome::into_result(fixture::alone($test)),
        }),*]
    };
}

fn main() -> ExitCode {
    Harness::new(&[Root, CgroupCpu, Program("perl"), Program("ip")])
        .tests(alone![
            lifecycle::a_pool_lives_and_goes,
            lifecycle::dead_instances_are_relaunched_at_their_address,
            lifecycle::an_instance_that_cannot_start_says_why,
            lifecycle::settings_are_checked_and_changed,
            lifecycle::a_pool_scales_by_the_requests_of_its_proxies,
            lifecycle::a_watcher_that_was_away_misses_nothing,
            lifecycle::changed_settings_replace_instances,
            lifecycle::a_busy_instance_is_highly_utilised,
            lifecycle::what_a_grpc_client_can_take_is_limited,
            file::pools_of_the_file_follow_it,
            file::a_file_that_was_refused_in_part_is_followed_once_it_can_be,
            history::what_a_pool_carried_is_kept_and_survives_a_kill,
            http::pools_are_read_and_changed_over_http,
            http::a_stream_that_is_cut_misses_nothing,
            http::what_a_client_can_take_is_limited,
            vital::a_controller_whose_runtime_hangs_ends_and_the_next_one_goes_on,
            vital::pools_are_copied_and_restored,
            crashes::a_controller_that_is_killed_leaves_neither_orphans_nor_doubles,
            crashes::a_controller_without_its_state_collects_what_is_left,
        ])
        .tests(alone![
            proxied::a_pool_scales_by_the_requests_of_its_proxy_and_none_fails,
        ])
        .tests_with(
            &[Program("redis-server"), Program("redis-cli")],
            alone![
                stores::everything_is_written_again_when_redis_restarts_empty,
                stores::a_redis_that_hangs_holds_up_nothing,
            ],
        )
        .tests_with(
            &[Program("dockerd"), Program("docker"), Program("tar")],
            alone![containers::a_pool_of_containers_outlives_crashes_its_engine_and_its_controller],
        )
        .tests_with(
            &[BpfFs, Program("ethtool")],
            tests![
                serving::instances_are_reals_of_a_vip_and_drain,
                serving::what_an_agent_refuses_is_a_trouble_until_it_does_not,
            ],
        )
        .tests_with(
            &[BpfFs, Program("ethtool"), Program("mosquitto")],
            tests![brokers::a_pool_of_brokers_grows_and_shrinks_and_cuts_nobody_off],
        )
        .run()
}
