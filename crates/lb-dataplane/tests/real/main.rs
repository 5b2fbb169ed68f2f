//! Makes a network namespace a real: packets through it, and what is left of it afterwards.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod changes;
mod fixture;
mod kernel;
mod overflow;
mod packets;
mod silence;
mod testbed;
mod upkeep;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{Program, Root},
    },
    tests,
};

fn main() -> ExitCode {
    Harness::new(&[Root, Program("ip"), Program("ethtool")])
        .tests(tests![
            changes::a_strict_reverse_path_filter_becomes_loose_and_strict_again,
            changes::path_mtus_are_probed_in_every_mode_and_never_less_than_before,
            changes::what_a_killed_process_left_is_undone_by_the_next,
            changes::what_an_earlier_boot_left_is_neither_read_nor_kept,
            changes::what_others_changed_meanwhile_is_left_alone,
            changes::a_failure_half_way_leaves_nothing,
            kernel::kernel_and_memory_do_the_same_with_any_frame,
            overflow::next_hops_are_right_though_notifications_were_dropped,
            packets::packets_of_all_families_reach_the_vips_sockets,
            packets::icmp_errors_reach_the_vips_sockets,
            packets::generic_mode_works_and_says_so,
            packets::other_traffic_passes_and_every_frame_is_counted,
            packets::segments_leave_room_for_the_outer_header,
            packets::packets_whose_way_back_leads_elsewhere_are_taken,
            upkeep::an_interface_that_is_recreated_gets_its_program_back,
            upkeep::an_interface_that_is_missing_is_waited_for,
            upkeep::addresses_and_settings_are_restored,
            silence::a_real_of_mode_l2_has_the_vip_and_is_silent_about_it,
            silence::neighbour_discovery_is_silent_by_itself,
        ])
        .run()
}
