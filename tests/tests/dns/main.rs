//! Names of load balancers in DNS: the embedded server with `dig` and BIND, and updates of BIND and Knot.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod fixture;
mod push;
mod serve;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{Program, Root},
    },
    tests,
};

fn main() -> ExitCode {
    Harness::new(&[Root, Program("ip"), Program("dig"), Program("named")])
        .tests(tests![
            serve::dig_gets_each_kind_of_answer,
            serve::a_truncated_answer_is_asked_for_again_by_tcp,
            serve::a_resolver_follows_a_delegation_and_changes,
            serve::a_secondary_follows_the_zone,
        ])
        .tests_with(
            &[
                Program("knotd"),
                Program("nsupdate"),
                Program("tsig-keygen"),
            ],
            tests![
                push::names_are_made_changed_and_removed,
                push::what_is_somebody_elses_is_left_alone,
                push::of_two_owners_one_gets_a_name,
                push::a_name_always_has_its_addresses,
                push::what_was_lost_or_changed_by_hand_is_brought_back,
                push::random_histories_converge,
                push::a_server_that_was_away_gets_what_it_missed,
                push::names_in_a_larger_zone_are_pushed_to_it,
                push::each_algorithm_works,
                push::each_refusal_says_what_to_do,
                push::many_names_are_reconciled,
            ],
        )
        .run()
}
