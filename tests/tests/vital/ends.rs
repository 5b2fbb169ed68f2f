//! The database is damaged under a running agent.

use std::fs::File;

use lb_tests::{AgentOptions, wait_for};

use crate::fixture::{PATIENCE, VIP, serving, wait_served, wait_warning};

pub fn an_agent_whose_database_is_truncated_says_so_and_looks_after_its_reals() {
    let mut testbed = serving(2, AgentOptions::default());
    testbed
        .agent
        .ctl(&format!("set-vip {VIP} --check http"))
        .unwrap();
    let database = testbed.agent.state().join("intent.redb");
    File::options()
        .write(true)
        .open(&database)
        .unwrap()
        .set_len(0)
        .unwrap();
    // No change is acknowledged that would be lost.
    for port in 1..4 {
        let refused = testbed
            .agent
            .ctl(&format!("add-vip 192.0.2.99:{port}/tcp"))
            .unwrap_err();
        let text = format!("{refused:#}");
        assert!(
            text.contains("truncated") && text.contains("lb-agent restore"),
            "{text}"
        );
    }
    let warning = wait_warning(&testbed, "truncated");
    assert!(warning.contains("lbctl backup"), "{warning}");
    // The agent's other parts live.
    testbed.backends[0].server.ask_to_end();
    wait_for("the death of a real to be handled", PATIENCE, || {
        let list = testbed.agent.ctl_json("list")?;
        let reals = list[0]["reals"].as_array().cloned().unwrap_or_default();
        Ok(reals
            .iter()
            .any(|real| real["state"] == "down")
            .then_some(()))
    })
    .unwrap();
    wait_served(&testbed);
}
