//! The log of the kernel programs.

use lb_tests::{
    AgentOptions,
    client::{get, unanswered},
    wait_for,
};

use crate::fixture::{HTTP_V4, PATIENCE, Testbed, serve, target};

/// A VIP without reals.
const EMPTY: &str = "192.0.2.11:80/tcp";

/// The log lines for a packet to that VIP, for a new entry of the flow table, and for a packet of a flow with an entry.
const DROPPED: &str = "dropped, no_real";
const NEW_FLOW: &str = "chosen by new_flow";
const KNOWN_FLOW: &str = "chosen by flow";

/// Builds a testbed that has forwarded packets and then dropped packets.
fn testbed(level: Option<&str>) -> Testbed {
    let arguments = level
        .map(|level| vec!["--kernel-log".to_owned(), level.to_owned()])
        .unwrap_or_default();
    let options = AgentOptions {
        arguments,
        ..AgentOptions::default()
    };
    let testbed = Testbed::new(1, &[HTTP_V4], options).unwrap();
    serve(
        &testbed,
        HTTP_V4,
        "--forward ipip --track all",
        false,
        &[100],
    );
    testbed.agent.ctl(&format!("add-vip {EMPTY}")).unwrap();
    get(&testbed.client, target(HTTP_V4), "/").unwrap();
    unanswered(&testbed.client, target(EMPTY)).unwrap();
    assert_ne!(testbed.stats(EMPTY).unwrap()["dropped_packets"], 0);
    testbed
}

fn wait_said(testbed: &Testbed, words: &str) {
    wait_for(words, PATIENCE, || {
        Ok(testbed.agent.output().contains(words).then_some(()))
    })
    .unwrap();
}

/// The dropped packet comes last: once it is logged, everything before it has been logged.
pub fn each_level_logs_more() {
    for (level, new_flow, known_flow) in [
        ("info", false, false),
        ("debug", true, false),
        ("trace", true, true),
    ] {
        let testbed = testbed(Some(level));
        wait_said(&testbed, DROPPED);
        let output = testbed.agent.output();
        assert_eq!(
            (output.contains(NEW_FLOW), output.contains(KNOWN_FLOW)),
            (new_flow, known_flow),
            "{level}: {output}"
        );
    }
}

pub fn nothing_is_logged_by_default() {
    let mut testbed = testbed(None);
    for _ in 0..3 {
        let output = testbed.agent.output();
        assert!(
            !output.contains(DROPPED) && !output.contains("chosen by"),
            "{output}"
        );
        testbed.agent.ctl("status").unwrap();
    }
    testbed.agent.check().unwrap();
}
