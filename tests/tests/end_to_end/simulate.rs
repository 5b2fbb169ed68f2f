//! `lbctl simulate` reports what the program would do, without effect.

use std::time::Duration;

use lb_tests::{
    Agent, AgentOptions, RoutedNetwork,
    client::{Connections, http_load},
    wait_for,
};
use serde_json::Value;

use crate::fixture::{HTTP_V4, HTTP_V6, PATIENCE, Testbed, endless, serve, target};

/// An ARP request.
const ARP: &str =
    "ffffffffffff020000000001080600010800060400010200000000010a0a14010000000000000a0a0a01";

/// A TCP segment to port 80 of 192.0.2.10 whose header should have 5 words and has 3.
const SHORT_TCP: &str =
    "020000000002020000000001080045000020000100004006ec6d0a0a1401c000020a9c4000500000000100000000";

fn simulate(agent: &Agent, words: &[&str]) -> Value {
    let words = ["-o", "json", "simulate"].iter().chain(words);
    let text = agent.lbctl(words).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Returns all counters and flows, except those that background traffic changes.
fn counts(testbed: &Testbed) -> (Value, Value, Value, Value) {
    let stats = testbed.agent.ctl_json("stats").unwrap();
    let forwarded: Vec<Value> = stats["interfaces"][0]["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|reason| reason["verdict"] != "pass")
        .cloned()
        .collect();
    (
        stats["vips"].clone(),
        stats["flow_table"].clone(),
        forwarded.into(),
        testbed.agent.ctl_json("flows").unwrap(),
    )
}

pub fn verdicts_are_reported_and_nothing_changes() {
    const EMPTY: &str = "192.0.2.11:80/tcp";
    let testbed = Testbed::new(2, &[HTTP_V4, HTTP_V6], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    serve(
        &testbed,
        HTTP_V6,
        "--forward ipip --track all",
        true,
        &[100],
    );
    testbed.agent.ctl(&format!("add-vip {EMPTY}")).unwrap();
    let ask = |words: &[&str]| simulate(&testbed.agent, words);
    // The slots of a new VIP settle soon. Where all flows are tracked, a packet would create an entry in the flow table, but a
    // simulation does not.
    let questions: Vec<String> = (40_000..40_064)
        .map(|port| format!("tcp 10.10.20.1:{port} -> 192.0.2.10:80"))
        .collect();
    let question = &questions[0];
    wait_for("the slots of the new VIP to settle", PATIENCE, || {
        let is_settled = |question: &String| ask(&["--flow", question])["chosen_by"] == "ring";
        Ok(questions.iter().all(is_settled).then_some(()))
    })
    .unwrap();
    // Windows end by themselves, and would change the counts of slots.
    wait_for("the windows of the new VIPs to end", PATIENCE, || {
        let stats = testbed.agent.ctl_json("stats")?;
        let is_open = |vip: &Value| vip["slots"]["in_window"].as_u64() > Some(0);
        let mut vips = stats["vips"].as_array().into_iter().flatten();
        Ok((!vips.any(is_open)).then_some(()))
    })
    .unwrap();
    let before = counts(&testbed);
    let to_v4 = ask(&["--flow", question]);
    let new_question = "tcp [fd00:10::1]:40001 -> [2001:db8::10]:80";
    let new_flow = ask(&["--flow", new_question]);
    assert_eq!(new_flow["chosen_by"], "new_flow", "{new_flow:#}");
    assert_eq!(to_v4["verdict"], "tx", "{to_v4:#}");
    assert_eq!(to_v4["reason"], "forwarded_tx", "{to_v4:#}");
    assert_eq!(to_v4["vip"], HTTP_V4, "{to_v4:#}");
    assert_eq!(to_v4["chosen_by"], "ring", "{to_v4:#}");
    let reals: Vec<String> = testbed.backends.iter().map(|real| real.address()).collect();
    let real = to_v4["real"].as_str().unwrap();
    assert!(reals.iter().any(|known| known == real), "{to_v4:#}");
    // The outer header has 20 bytes, protocol 4 (IP in IP), and the real as destination.
    let packet = to_v4["packet"].as_str().unwrap();
    let octets: String = real
        .split('.')
        .map(|octet| format!("{:02x}", octet.parse::<u8>().unwrap()))
        .collect();
    assert_eq!(&packet[24..28], "0800", "{packet}");
    assert_eq!(&packet[46..48], "04", "{packet}");
    assert_eq!(&packet[60..68], octets, "{packet}");

    let to_v6 = ask(&["--flow", "tcp [fd00:10::1]:40000 -> [2001:db8::10]:80"]);
    assert_eq!(to_v6["verdict"], "tx", "{to_v6:#}");
    assert_eq!(to_v6["vip"], HTTP_V6, "{to_v6:#}");

    let dropped = ask(&["--flow", "tcp 10.10.20.1:40000 -> 192.0.2.11:80"]);
    assert_eq!(
        (&dropped["verdict"], &dropped["reason"], &dropped["vip"]),
        (&"drop".into(), &"no_real".into(), &EMPTY.into())
    );
    let passed = ask(&["--flow", "udp 10.10.20.1:40000 -> 192.0.2.10:80"]);
    assert_eq!(
        (&passed["verdict"], &passed["reason"]),
        (&"pass".into(), &"not_vip".into())
    );
    let arp = ask(&["--packet", ARP]);
    assert_eq!(
        (&arp["verdict"], &arp["reason"], &arp["packet"]),
        (&"pass".into(), &"not_ip".into(), &ARP.into())
    );
    let short = ask(&["--packet", SHORT_TCP]);
    assert_eq!(
        (&short["verdict"], &short["reason"]),
        (&"pass".into(), &"malformed".into())
    );
    // Repeated simulations give the same answer: a new flow stays new.
    let again: Vec<Value> = (0..20).map(|_| ask(&["--flow", question])).collect();
    assert!(again.iter().all(|again| *again == to_v4), "{again:#?}");
    assert_eq!(ask(&["--flow", new_question]), new_flow);
    assert_eq!(counts(&testbed), before, "a simulation has no effect");
}

pub fn the_reason_of_the_choice_is_reported() {
    let testbed = Testbed::new(2, &[HTTP_V4], AgentOptions::default()).unwrap();
    serve(
        &testbed,
        HTTP_V4,
        "--forward ipip --track all",
        false,
        &[100],
    );
    // So many that one is on the first real.
    let load = http_load(
        &testbed.client,
        endless(HTTP_V4, Connections::Kept, 24, Duration::from_millis(5)),
    );
    load.wait_requests(240, PATIENCE).unwrap();
    // The kernel has chosen the client's ports.
    let sockets = testbed
        .client
        .sh("ss --numeric --no-header --tcp state established")
        .unwrap();
    let own = testbed.backends[0].address();
    let flow = sockets
        .split_whitespace()
        .filter(|word| word.starts_with("10.10.20.1:"))
        .map(|local| format!("tcp {local} -> {}", target(HTTP_V4)))
        .find(|flow| {
            let one = simulate(&testbed.agent, &["--flow", flow, "--flags", "ack"]);
            one["real"] == own.as_str()
        })
        .unwrap();
    let words = ["--flow", flow.as_str(), "--flags", "ack"];
    let tracked = simulate(&testbed.agent, &words);
    assert_eq!(tracked["chosen_by"], "flow", "{tracked:#}");

    // The ring moves away from that real. Flows that were there before stay on it, new ones do not.
    testbed
        .agent
        .ctl(&format!("drain {HTTP_V4} {own}"))
        .unwrap();
    let tracked = simulate(&testbed.agent, &words);
    assert_eq!(tracked["chosen_by"], "flow", "{tracked:#}");
    assert_eq!(tracked["real"], own.as_str(), "{tracked:#}");
    let mut seen = std::collections::BTreeSet::new();
    for port in 1_000..1_050 {
        let flow = format!("tcp 10.10.20.9:{port} -> {}", target(HTTP_V4));
        for flags in ["syn", "ack"] {
            let one = simulate(&testbed.agent, &["--flow", &flow, "--flags", flags]);
            let by = one["chosen_by"].as_str().unwrap();
            if by == "new_flow" {
                assert_ne!(one["real"], own.as_str(), "{one:#}");
            }
            if by == "previous" {
                assert_eq!(one["real"], own.as_str(), "{one:#}");
                assert_eq!(flags, "ack", "{one:#}");
            }
            seen.insert(by.to_owned());
        }
    }
    for by in ["previous", "new_flow"] {
        assert!(seen.contains(by), "{seen:?}");
    }
    load.stop().unwrap();
}

pub fn another_egress_interface_is_a_redirect() {
    let network = RoutedNetwork::new().unwrap();
    let real = network.real().unwrap();
    let options = AgentOptions {
        interfaces: vec!["eth0".to_owned(), "eth1".to_owned()],
        ..AgentOptions::default()
    };
    let agent = Agent::start(&network.balancer, options).unwrap();
    agent
        .add_service(HTTP_V4, "--forward ipip", &[(real.v4.to_string(), 100)])
        .unwrap();
    let flow = "tcp 203.0.113.7:40000 -> 192.0.2.10:80";
    let redirected = wait_for("a next hop to the real", PATIENCE, || {
        let answer = simulate(&agent, &["--flow", flow, "--iface", "eth0"]);
        Ok((answer["reason"] != "no_next_hop").then_some(answer))
    })
    .unwrap();
    assert_eq!(redirected["verdict"], "redirect", "{redirected:#}");
    assert_eq!(redirected["reason"], "forwarded_redirect", "{redirected:#}");
    let sent = simulate(&agent, &["--flow", flow, "--iface", "eth1"]);
    assert_eq!(sent["verdict"], "tx", "{sent:#}");
    assert_eq!(sent["packet"], redirected["packet"]);
}
