//! What a running agent depends on is taken away from it: it says so, and gets it back or ends with the reason.
//!
//! Each test has a network of its own.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod database;
mod disk;
mod fixture;
mod links;
mod network;
mod own_address;
mod owners;
mod proxy;
mod signals;
mod units;
mod veth;
mod watchdog;

use std::process::ExitCode;

use lb_tests::{
    harness::{Harness, Requirement::Program, WEB_NETWORK},
    tests,
};

fn main() -> ExitCode {
    Harness::new(&[])
        .tests_with(
            WEB_NETWORK,
            tests![
                database::a_database_that_is_removed_or_truncated_is_rewritten,
                database::a_database_that_is_replaced_is_left_alone_and_told,
                database::a_copy_is_restored_after_the_difference_was_shown,
                disk::a_full_disk_refuses_changes_and_nothing_else,
                disk::a_read_only_disk_refuses_the_start_and_packets_flow_on,
                links::an_interface_that_is_recreated_is_attached_again,
                links::pins_that_are_removed_are_made_again,
                links::another_program_in_its_place_is_told_and_waited_for,
                links::an_interface_that_is_missing_at_the_start_is_waited_for,
                network::an_agent_finds_a_real_that_came_while_none_ran,
                owners::a_lost_database_does_not_empty_the_tables,
                owners::a_second_agent_leaves_the_first_ones_vips_alone,
                owners::detach_is_refused_while_an_agent_runs,
                owners::tables_that_somebody_else_changes_are_told,
                own_address::an_own_address_is_refused_and_takes_no_flows,
                signals::sighup_ends_a_real_in_order,
                watchdog::an_agent_whose_owner_hangs_ends_and_the_next_one_goes_on,
                watchdog::the_service_manager_gets_signs_of_life_until_the_runtime_hangs,
                watchdog::an_agent_that_cannot_even_end_is_ended_by_its_watchdog,
                watchdog::settings_that_count_later_and_objects_of_others_are_warnings,
                watchdog::a_file_that_is_not_followed_is_a_warning_until_it_is,
                veth::a_veth_whose_other_end_has_no_program_is_told,
            ],
        )
        .tests(tests![proxy::a_proxy_whose_thread_hangs_ends])
        .tests_with(
            &[Program("systemd-analyze")],
            tests![units::the_units_are_right],
        )
        .run()
}
