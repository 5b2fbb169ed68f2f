//! The kernel's data plane, in namespaces of its own.

#![expect(
    clippy::unwrap_used,
    reason = "test helpers; what fails here fails the test"
)]

mod bench;
mod foreign;
mod kernel;
mod killed;
mod migration;
mod traffic;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{BpfFs, Program, Root},
    },
    tests,
};

fn main() -> ExitCode {
    Harness::new(&[Root, BpfFs, Program("ip")])
        .tests(tests![
            foreign::tables_of_a_newer_layout_are_rejected,
            foreign::tables_older_than_the_previous_layout_are_rejected,
            foreign::tables_with_another_magic_are_rejected,
            foreign::a_table_of_another_value_size_is_rejected,
            foreign::a_table_that_packets_do_not_use_is_rejected,
            kernel::a_service_forwards_and_detach_ends_it,
            kernel::a_new_agent_adopts_what_the_last_one_left,
            kernel::a_new_agent_knows_the_first_window,
            kernel::a_new_agent_adopts_the_dead_too,
            kernel::tables_grow_with_their_content,
            kernel::a_changed_neighbour_is_followed,
            kernel::a_deleted_real_is_forgotten_and_its_index_freed,
            kernel::slots_settle_after_their_window,
            kernel::a_hundred_vips_of_a_hundred_reals_fit_and_change_quickly,
            kernel::other_terms_are_refused,
            killed::a_killed_agent_forgets_nothing_it_acknowledged,
            migration::no_packet_is_lost_or_moved_while_tables_change_their_layout,
            migration::everything_is_as_before_after_a_way_there_and_back,
            migration::a_migration_that_is_killed_is_finished_by_the_next,
            migration::classes_of_exceptions_are_given_up_for_other_builds,
            migration::only_one_process_has_the_pins,
            migration::migrated_programs_use_the_port_of_the_configuration,
            traffic::no_packet_is_lost_while_tables_grow_and_agents_change,
        ])
        .run()
}
