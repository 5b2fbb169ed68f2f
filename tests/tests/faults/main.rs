//! Faults are injected while numbered packets flow: each is noticed or repaired, and no packet is lost that need not be.
//! And the page that lists all failures is complete.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod balancer;
mod injection;
mod page;
mod tier;

use std::process::ExitCode;

use lb_tests::{
    harness::{
        Harness,
        Requirement::{BpfFs, CgroupCpu, Program, Root},
        WEB_NETWORK,
    },
    tests,
};

/// Faults of the agent under numbered datagrams and connections that are kept.
fn every_fault_is_noticed_or_repaired_and_nothing_is_lost() {
    injection::inject_all::<balancer::Bench>();
}

/// Faults of the controller, of proxies and of instances under numbered requests.
fn every_fault_of_the_tier_is_noticed_or_repaired_and_no_request_fails() {
    injection::inject_all::<tier::Bench>();
}

fn main() -> ExitCode {
    Harness::new(&[])
        .tests(tests![
            page::every_test_of_the_page_exists,
            page::every_vital_part_is_on_the_page,
            page::every_alert_of_the_page_exists,
        ])
        .tests_with(
            WEB_NETWORK,
            tests![every_fault_is_noticed_or_repaired_and_nothing_is_lost],
        )
        .tests_with(
            &[
                Root,
                BpfFs,
                CgroupCpu,
                Program("ip"),
                Program("ethtool"),
                Program("perl"),
            ],
            tests![every_fault_of_the_tier_is_noticed_or_repaired_and_no_request_fails],
        )
        .run()
}
