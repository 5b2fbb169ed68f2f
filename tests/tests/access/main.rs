//! Access to the controller, as real clients see it: `curl`, `lbctl` and sockets.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod anonymous;
mod audit;
mod bed;
mod digest;
mod tls;
mod tokens;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{Program, Root},
    },
    tests,
};

fn main() -> ExitCode {
    Harness::new(&[Root, Program("curl"), Program("ip"), Program("ethtool")])
        .tests(tests![
            anonymous::without_a_word_one_may_look_and_root_does_everything,
            anonymous::a_closed_controller_answers_nobody,
            anonymous::who_comes_from_elsewhere_has_to_say_who_it_is,
            digest::a_password_opens_and_a_wrong_one_does_not,
            digest::a_request_that_was_recorded_is_not_taken_again,
            tokens::a_token_does_what_its_role_allows,
            tokens::a_foreign_project_is_as_none,
            tokens::environments_and_commands_are_those_of_their_project,
            tokens::a_token_ends_when_it_is_removed_and_its_text_is_nowhere,
            tls::a_certificate_is_the_user_of_its_name,
            audit::who_changed_what_is_kept,
        ])
        .run()
}
