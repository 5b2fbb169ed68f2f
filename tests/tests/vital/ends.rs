//! A vital part ends, and the agent with it.

use std::fs::File;

use lb_tests::{AgentOptions, wait_for};

use crate::fixture::{PATIENCE, serving, wait_served};

pub fn an_agent_whose_database_is_truncated_ends_and_says_why() {
    let mut testbed = serving(1, AgentOptions::default());
    let database = testbed.agent.state().join("intent.redb");
    File::options()
        .write(true)
        .open(&database)
        .unwrap()
        .set_len(0)
        .unwrap();
    // The next changes meet the damage.
    let mut number = 0;
    wait_for("the agent's end", PATIENCE, || {
        number += 1;
        let refused = testbed
            .agent
            .ctl(&format!("add-vip 192.0.2.99:{number}/tcp"));
        assert!(
            refused.is_err() || number < 100,
            "100 changes were acknowledged"
        );
        Ok(testbed.agent.check().is_err().then_some(()))
    })
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
        "the thread that owns",
        "panicked",
    ] {
        assert!(last.contains(words), "{words}: {output}");
    }
    wait_served(&testbed);
}
