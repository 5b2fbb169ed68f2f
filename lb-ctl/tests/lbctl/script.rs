//! `lbctl apply`.

use std::fmt::Write as _;

use lb_proto::v1::apply_request::Change;
use serde_json::json;

use crate::{
    agent::{Agent, Received},
    run::{run, run_with},
};

#[test]
fn a_script_is_sent_line_by_line_with_its_numbers() {
    let agent = Agent::start();
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(
        &script,
        "# the web\nadd-vip 10.0.0.1:80/tcp\n\nadd-real 10.0.0.1:80/tcp 10.1.0.2 --weight 7 # first\n\
         lbctl drain 10.0.0.1:80/tcp 10.1.0.2\n",
    )
    .unwrap();
    let run = run(&agent.endpoint, &["apply", script.to_str().unwrap()]);
    assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    assert_eq!(run.stdout, "3 of 3 commands done\n");
    let received = agent.received();
    assert!(
        matches!(
            &received[..],
            [
                Received::Applied(2, Change::AddVip(_)),
                Received::Applied(4, Change::AddReal(real)),
                Received::Applied(5, Change::UpdateReal(drain)),
            ] if real.spec.as_ref().unwrap().weight == Some(7)
                && drain.spec.as_ref().unwrap().drained == Some(true)
        ),
        "{received:?}"
    );
}

#[test]
fn refused_lines_are_told_and_the_others_done() {
    let agent = Agent::start();
    let script = "add-vip 10.0.0.1:80/tcp\nadd-vip 10.0.0.1:409/tcp\nadd-vip 224.0.0.1:80/tcp\nadd-vip 10.0.0.1:81/tcp\n";
    let run = run_with(&agent.endpoint, &["-o", "json", "apply", "-"], script);
    assert_eq!(run.status, Some(1), "{run:?}");
    assert_eq!(agent.received().len(), 4);
    assert_eq!(
        run.stderr,
        "lbctl: line 2: add-vip 10.0.0.1:409/tcp: there is one\n\
         lbctl: line 3: add-vip 224.0.0.1:80/tcp: 224.0.0.1 is not a unicast address\n\
         lbctl: the agent refused 2 of 4 commands; the others are done\n"
    );
    assert_eq!(
        run.json_lines(),
        [json!({
            "commands": 4,
            "applied": 2,
            "refused": [
                {
                    "line": 2,
                    "command": "add-vip 10.0.0.1:409/tcp",
                    "code": "ALREADY_EXISTS",
                    "error": "there is one",
                },
                {
                    "line": 3,
                    "command": "add-vip 224.0.0.1:80/tcp",
                    "code": "INVALID_ARGUMENT",
                    "error": "224.0.0.1 is not a unicast address",
                },
            ],
        })]
    );
}

#[test]
fn a_script_with_a_wrong_line_is_not_sent() {
    let agent = Agent::start();
    let run = run_with(
        &agent.endpoint,
        &["apply"],
        "add-vip 10.0.0.1:80/tcp\nfrobnicate\n",
    );
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run:?}");
    assert!(
        run.stderr
            .starts_with("lbctl: line 2: unrecognized subcommand 'frobnicate'"),
        "{run:?}"
    );
    assert_eq!(agent.received(), []);
}

#[test]
fn a_missing_script_is_told() {
    let run = run("unix:/nowhere", &["apply", "/nowhere/script"]);
    assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""));
    assert!(
        run.stderr
            .starts_with("lbctl: cannot read /nowhere/script: No such file"),
        "{run:?}"
    );
}

#[test]
fn an_agent_that_ends_in_between_is_told() {
    let agent = Agent::start();
    let run = run_with(
        &agent.endpoint,
        &["apply"],
        "add-vip 10.0.0.1:80/tcp\nadd-vip 10.0.0.1:503/tcp\n",
    );
    assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""), "{run:?}");
    assert!(
        run.stderr
            .contains("1 of 2 lines were answered, then: the agent ends"),
        "{run:?}"
    );
}

#[test]
fn a_thousand_vips_of_ten_reals_are_all_sent() {
    let agent = Agent::start();
    let mut script = String::new();
    for vip in 0..1_000 {
        let vip = format!("10.0.{}.{}:80/tcp", vip / 250, vip % 250 + 1);
        writeln!(script, "add-vip {vip}").unwrap();
        for real in 1..=10 {
            writeln!(script, "add-real {vip} 10.1.0.{real} --weight {real}").unwrap();
        }
    }
    let run = run_with(&agent.endpoint, &["apply"], &script);
    assert_eq!(run.stdout, "11000 of 11000 commands done\n", "{run:?}");
    let received = agent.received();
    assert_eq!(received.len(), 11_000);
    let in_order = received
        .iter()
        .zip(1..)
        .all(|(received, line)| matches!(received, Received::Applied(n, _) if *n == line));
    assert!(in_order);
}
