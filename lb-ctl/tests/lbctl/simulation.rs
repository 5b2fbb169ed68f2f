//! `lbctl simulate`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
};

use lb_proto::v1;
use serde_json::json;

use crate::{
    agent::{Agent, Received},
    run::{command, run, run_with},
};

const SYN: &str = "0200000000020200000000010800450000280000400040060695c63364070a0000019c40005000000001000000005002faf0e4240000";

#[test]
fn a_packet_is_sent_as_typed() {
    let agent = Agent::start();
    let run = run(
        &agent.endpoint,
        &["simulate", "-o", "json", "--packet", SYN, "--iface", "eth1"],
    );
    assert_eq!(
        run.json(),
        json!({
            "verdict": "tx",
            "reason": "forwarded_tx",
            "vip": "10.0.0.1:80/tcp",
            "real": "10.1.0.2",
            "chosen_by": "ring",
            "packet": SYN,
        })
    );
    let packet = hex::decode(SYN).unwrap();
    assert_eq!(
        agent.received(),
        [Received::Simulate(v1::SimulateRequest {
            packet,
            interface: "eth1".to_owned()
        })]
    );
}

#[test]
fn a_flow_becomes_a_packet() {
    let agent = Agent::start();
    let flow = "tcp 198.51.100.7:40000 -> 10.0.0.1:80";
    for (arguments, flags) in [
        (vec!["simulate", "--flow", flow], 0x02),
        (vec!["simulate", "--flow", flow, "--flags", "fin,ack"], 0x11),
    ] {
        assert_eq!(run(&agent.endpoint, &arguments).status, Some(0));
        let received = agent.received();
        let [Received::Simulate(request)] = &received[..] else {
            panic!("{received:?}")
        };
        assert_eq!((request.packet.len(), request.packet[47]), (54, flags));
    }
    let udp = "udp 198.51.100.7:40000 -> 10.0.0.1:80";
    let run = run(
        &agent.endpoint,
        &["simulate", "--flow", udp, "--flags", "ack"],
    );
    assert_eq!(run.status, Some(2), "{run:?}");
}

#[test]
fn packets_are_answered_line_by_line() {
    let agent = Agent::start();
    let pass = format!("{}ff", &SYN[..106]);
    let input = format!("{SYN}\n\n{pass}\n{SYN}\n");
    let run = run_with(
        &agent.endpoint,
        &["simulate", "-o", "json", "--packet", "-"],
        &input,
    );
    assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    let lines = run.json_lines();
    assert_eq!(
        lines
            .iter()
            .map(|line| &line["verdict"])
            .collect::<Vec<_>>(),
        ["tx", "pass", "tx"]
    );
    assert_eq!(
        lines[1],
        json!({
            "verdict": "pass",
            "reason": "not_vip",
            "vip": null,
            "real": null,
            "chosen_by": "nothing",
            "packet": pass,
        })
    );
}

#[test]
fn a_wrong_line_is_told_behind_the_answers_before_it() {
    let agent = Agent::start();
    let input = format!("{SYN}\nnothing\n{SYN}\n");
    let run = run_with(
        &agent.endpoint,
        &["simulate", "-o", "json", "--packet", "-"],
        &input,
    );
    assert_eq!(
        (run.status, run.json_lines().len()),
        (Some(2), 1),
        "{run:?}"
    );
    assert!(
        run.stderr
            .starts_with("lbctl: line 2: not a packet in hexadecimal digits"),
        "{run:?}"
    );
}

#[test]
fn an_answer_does_not_wait_for_the_next_packet() {
    let agent = Agent::start();
    let mut child = command(
        &agent.endpoint,
        &["simulate", "-o", "json", "--packet", "-"],
    )
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        writeln!(stdin, "{SYN}").unwrap();
        let answer = answers.next().unwrap().unwrap();
        assert!(answer.starts_with("{\"verdict\":\"tx\""), "{answer}");
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
