//! Real clients, the balancer and real servers: what an operator sees.
//!
//! Each test has a network of its own.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod attach;
mod balance;
mod beside;
mod capture;
mod changes;
mod counters;
mod doctor;
mod fixture;
mod floods;
mod forwarding;
mod http_tier;
mod kernel_log;
mod long_lived;
mod metrics;
mod migration;
mod modes;
mod nat;
mod numbered;
mod ondown;
mod path_mtu;
mod refusals;
mod reload;
mod restart;
mod routed;
mod server_ids;
mod services;
mod signs;
mod simulate;
mod stations;
mod trace;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{self, BpfFs, Kernel, Program, Root},
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
    Program("ping"),
    Program("ss"),
];

/// The tools of Prometheus check what is served.
const PROMTOOL: &[Requirement] = &[Program("promtool")];

/// They read what a capture has written.
const TSHARK: &[Requirement] = &[Program("tshark"), Program("capinfos")];

/// Probes through the tunnel: the agent's program on the way out is attached by a TCX link.
const TCX: &[Requirement] = &[Kernel(6, 6)];

fn main() -> ExitCode {
    Harness::new(COMMON)
        .tests(tests![
            attach::native_mode_does_not_fall_back,
            attach::auto_falls_back_and_says_so,
            balance::connections_spread_by_weight,
            balance::connections_of_one_client_spread_as_by_chance,
            beside::two_vips_have_their_own_reals,
            beside::other_traffic_is_the_hosts_own,
            beside::a_vip_answers_a_ping,
            beside::a_vip_answers_a_ping_of_zeroes,
            long_lived::a_new_vip_is_settled_before_its_first_packet,
            long_lived::a_vip_whose_reals_come_up_one_by_one_consults_no_flow_table,
            long_lived::connections_stay_while_slots_settle_and_agents_die,
            changes::no_request_fails_while_reals_come_change_and_go,
            changes::a_drained_real_keeps_its_connections_and_takes_no_new_ones,
            counters::reasons_add_up_to_the_frames_received,
            http_tier::a_proxy_follows_the_reals_of_a_vip,
            forwarding::v4_in_v4,
            forwarding::v6_in_v6,
            forwarding::v4_in_v6,
            forwarding::v6_in_v4,
            forwarding::v4_in_udp,
            forwarding::v6_in_udp_over_v4,
            forwarding::v4_in_udp_over_v6,
            forwarding::v4_by_mac,
            server_ids::a_client_that_moves_keeps_the_real_that_its_packets_name,
            services::vips_of_prefixes_and_ranges_serve_and_are_adopted,
            services::a_client_has_one_real_by_its_address,
            services::rules_about_clients_refuse_them_and_give_them_reals,
            services::connections_that_begin_are_limited_and_running_ones_are_not,
            services::names_that_are_no_vip_are_refused_with_what_to_write,
            forwarding::v6_by_mac,
            forwarding::generic_mode,
            forwarding::large_downloads_arrive_whole,
            forwarding::udp_flows_stay_on_one_real,
            forwarding::datagrams_in_fragments_reach_the_real_of_their_flow,
            floods::forged_packets_break_no_connection,
            kernel_log::each_level_logs_more,
            kernel_log::nothing_is_logged_by_default,
            long_lived::connections_whose_real_lives_survive_everything,
            migration::no_packet_is_lost_or_doubled_while_tables_change_their_layout,
            modes::reals_of_four_modes_answer_behind_one_vip,
            modes::a_service_moves_from_one_mode_to_another_real_by_real,
            nat::reals_without_a_vip_serve_by_their_own_addresses,
            nat::flows_of_other_reals_go_on_when_one_dies,
            nat::the_balancer_may_be_between_clients_and_reals,
            nat::reals_may_have_a_port_and_a_family_of_their_own,
            numbered::no_packet_is_lost_or_duplicated,
            ondown::clients_of_a_dead_real_are_reset_and_others_are_not_disturbed,
            ondown::a_service_without_reals_refuses_connections_if_configured,
            ondown::shed::the_requested_number_of_flows_ends_at_both_ends,
            ondown::shed::a_retransmission_reaches_the_real_that_knows_the_flow,
            path_mtu::a_client_behind_a_narrow_link_receives_everything,
            path_mtu::senders_of_large_datagrams_are_told_what_fits,
            path_mtu::sizes_follow_links_and_routes,
            refusals::wrong_input_is_refused_and_changes_nothing,
            refusals::a_mode_that_a_real_does_not_suit_is_refused,
            refusals::another_user_is_refused_with_the_sockets_group,
            reload::a_reload_makes_the_files_objects_what_it_says,
            restart::a_killed_agent_and_its_successor_lose_nothing,
            restart::detach_ends_forwarding,
            routed::packets_leave_by_the_other_interface,
            signs::a_real_that_drops_syns_shows_and_one_that_serves_shows_lives,
            simulate::verdicts_are_reported_and_nothing_changes,
            simulate::the_reason_of_the_choice_is_reported,
            simulate::another_egress_interface_is_a_redirect,
            stations::two_balancers_on_a_flooding_bridge_do_not_send_in_circles,
            stations::a_changed_mac_address_is_followed,
            stations::the_mac_address_of_a_macvlan_on_top_is_the_interfaces,
            trace::a_settled_slot_is_named_with_its_real_and_counters,
            trace::a_slot_in_its_window_names_both_reals_and_the_flows_entry,
        ])
        .tests_with(
            PROMTOOL,
            tests![
                metrics::prometheus_the_dashboard_and_the_alerts_find_every_metric,
                metrics::promtool_takes_the_alert_rules,
                metrics::a_thousand_reals_are_scraped_within_the_limits,
                metrics::nothing_is_served_unless_asked_for,
            ],
        )
        .tests_with(
            TSHARK,
            tests![
                capture::packets_are_written_before_and_after_with_reason_and_real,
                capture::filters_are_the_kernels_and_limits_end_a_capture,
                capture::a_capture_costs_no_packet_and_leaves_nothing,
            ],
        )
        .tests_with(
            TCX,
            tests![
                doctor::what_is_wrong_with_a_balancer_is_found_and_mended,
                modes::probes_take_the_way_of_their_reals_mode,
                doctor::a_real_without_its_program_is_found_from_both_ends,
                ondown::probes::probes_reach_their_real_in_every_mode,
                ondown::probes::a_real_that_clients_cannot_reach_fails_though_it_answers_directly,
                ondown::probes::probes_need_a_running_agent_and_its_tables,
            ],
        )
        .run()
}
