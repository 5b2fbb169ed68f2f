//! The kernel programs' own log.

use lb_tests::{
    AgentOptions,
    client::{get, unanswered},
    wait_for,
};

use crate::fixture::{HTTP_V4, PATIENCE, Stand, target};

/// A VIP without reals.
const EMPTY: &str = "192.0.2.11:80/tcp";

/// What the program says of a packet for it, of a flow that the flow table is to remember, and of a packet
/// of a flow that it remembers.
const DROPPED: &str = "dropped, no_real";
const NEW_FLOW: &str = "chosen by new_flow";
const KNOWN_FLOW: &str = "chosen by flow";

/// A stand with packets that are forwarded and then packets that are dropped.
fn stand(level: Option<&str>) -> Stand {
    let arguments = level
        .map(|level| vec!["--kernel-log".to_owned(), level.to_owned()])
        .unwrap_or_default();
    let options = AgentOptions {
        arguments,
        ..AgentOptions::default()
    };
    let stand = Stand::new(1, &[HTTP_V4], options);
    stand.serve(HTTP_V4, "--forward ipip --track all", false, &[100]);
    stand.agent.ctl(&format!("add-vip {EMPTY}")).unwrap();
    get(&stand.client, target(HTTP_V4), "/").unwrap();
    unanswered(&stand.client, target(EMPTY)).unwrap();
    assert_ne!(stand.stats(EMPTY)["dropped_packets"], 0);
    stand
}

fn wait_said(stand: &Stand, words: &str) {
    wait_for(words, PATIENCE, || {
        Ok(stand.agent.output().contains(words).then_some(()))
    })
    .unwrap();
}

/// The drop comes last: once it is told, what was to be told before has been.
#[test]
fn each_level_tells_more() {
    for (level, new_flow, known_flow) in [
        ("info", false, false),
        ("debug", true, false),
        ("trace", true, true),
    ] {
        let stand = stand(Some(level));
        wait_said(&stand, DROPPED);
        let output = stand.agent.output();
        assert_eq!(
            (output.contains(NEW_FLOW), output.contains(KNOWN_FLOW)),
            (new_flow, known_flow),
            "{level}: {output}"
        );
    }
}

#[test]
fn nothing_is_logged_unless_asked_for() {
    let mut stand = stand(None);
    for _ in 0..3 {
        let output = stand.agent.output();
        assert!(
            !output.contains(DROPPED) && !output.contains("chosen by"),
            "{output}"
        );
        stand.agent.ctl("status").unwrap();
    }
    stand.agent.check().unwrap();
}
