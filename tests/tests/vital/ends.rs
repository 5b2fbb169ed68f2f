//! A vital part ends, and the agent with it.

use std::fs::File;

use lb_tests::AgentOptions;

use crate::fixture::{PATIENCE, VIP, serving, wait_served};

pub fn an_agent_whose_database_is_truncated_ends_and_says_why() {
    let mut testbed = serving(1, AgentOptions::default());
    let database = testbed.agent.state().join("intent.redb");
    File::options()
        .write(true)
        .open(&database)
        .unwrap()
        .set_len(0)
        .unwrap();
    let (status, output) = testbed.agent.wait_end(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "{output}");
    let last = output
        .lines()
        .rev()
        .find(|line| line.starts_with("lb-agent:"));
    let last = last.unwrap_or_else(|| panic!("{output}"));
    for words in [
        "the agent ends",
        "packets flow on",
        "intent.redb was truncated by somebody else",
    ] {
        assert!(last.contains(words), "{words}: {output}");
    }
    wait_served(&testbed);
    // As a service manager does. Nothing is lost.
    testbed.agent.run().unwrap();
    assert_eq!(testbed.agent.ctl_json("list").unwrap()[0]["vip"], VIP);
    wait_served(&testbed);
}
