//! Health and load decide weights: real brokers and web servers behind a VIP freeze, are loaded, die and return.
//!
//! Each test has a network of its own.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod drain;
mod empty;
mod failover;
mod fixture;
mod frozen;
mod harm;
mod loaded;
mod moving;
mod own_trouble;
mod shedding;
mod steady;
mod tunnel;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{self, BpfFs, CgroupCpu, Kernel, Program, Root},
    },
    tests,
};

/// What every test needs.
const COMMON: &[Requirement] = &[
    Root,
    BpfFs,
    Program("ip"),
    Program("ethtool"),
    Program("nginx"),
    Program("mosquitto"),
    Program("ss"),
];

fn main() -> ExitCode {
    Harness::new(COMMON)
        .tests(tests![
            drain::a_drain_ends_with_the_last_connection,
            drain::a_wait_continues_where_the_last_one_ended,
            drain::a_wait_ends_when_the_real_is_undrained,
            empty::the_reals_of_another_vip_stand_in,
            empty::clients_are_reset_if_configured,
            failover::only_clients_of_a_disconnected_host_are_reset,
            failover::clients_of_a_killed_broker_move_to_others,
            frozen::a_frozen_broker_is_detected_and_its_clients_reconnect,
            frozen::a_handshake_does_not_detect_it,
            harm::a_real_that_fails_fast_gets_no_more_than_its_share,
            harm::a_real_that_waits_for_its_disk_gets_no_more_than_its_share,
            harm::a_sensor_that_freezes_doubles_or_halves_moves_no_share_far,
            own_trouble::an_agent_that_was_stopped_kills_no_real,
            moving::a_thousand_connections_survive_weights_that_always_move,
            steady::a_steered_vip_that_has_settled_consults_the_flow_table_for_few_packets,
            shedding::a_surplus_is_shed_at_the_configured_rate_and_from_no_other_real,
        ])
        .tests_with(
            &[CgroupCpu],
            tests![
                loaded::a_loaded_real_gets_less_and_no_connection_breaks,
                own_trouble::an_agent_that_gets_little_cpu_kills_no_real,
            ],
        )
        .tests_with(
            &[Program("prlimit")],
            tests![
                own_trouble::an_agent_without_files_keeps_the_state_of_its_reals,
                own_trouble::files_are_kept_for_probes_when_others_have_used_them_up,
            ],
        )
        // The agent's program on the way out is attached by a TCX link.
        .tests_with(
            &[Kernel(6, 6)],
            tests![tunnel::a_real_that_does_not_answer_for_the_vip_is_detected],
        )
        .run()
}
