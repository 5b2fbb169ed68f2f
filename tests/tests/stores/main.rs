//! The stores with a real server: Redis.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod redis;

use std::process::ExitCode;

use lb_tests::{
    harness::{Harness, Requirement::Program},
    tests,
};

fn main() -> ExitCode {
    Harness::new(&[Program("redis-server"), Program("redis-cli")])
        .tests(tests![
            redis::does_what_every_store_does,
            redis::a_store_is_found_again,
            redis::a_server_that_is_away_is_an_error_and_no_loss,
            redis::a_server_that_restarts_empty_gets_everything_back,
            redis::a_server_that_lost_its_last_writes_gets_them_back,
            redis::another_writer_is_noticed,
            redis::what_cannot_be_used_is_refused,
        ])
        .run()
}
