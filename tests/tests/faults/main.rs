//! Faults are injected while numbered packets flow: each is noticed or repaired, and no packet is lost that need not be.
//! And the page that lists all failures is complete.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod bench;
mod injection;
mod page;

use std::process::ExitCode;

use lb_tests::{
    harness::{Harness, WEB_NETWORK},
    tests,
};

fn main() -> ExitCode {
    Harness::new(&[])
        .tests(tests![
            page::every_test_of_the_page_exists,
            page::every_vital_part_is_on_the_page,
            page::every_alert_of_the_page_exists,
        ])
        .tests_with(
            WEB_NETWORK,
            tests![injection::every_fault_is_noticed_or_repaired_and_nothing_is_lost],
        )
        .run()
}
