//! `lbctl trace` says where packets of a flow go and why, from the live tables.

use std::time::Duration;

use lb_tests::{
    Agent, AgentOptions,
    client::{Connections, http_load},
    wait_for,
};
use serde_json::Value;

use crate::fixture::{HTTP_V4, HTTP_V6, PATIENCE, Testbed, endless, serve, target};

fn trace(agent: &Agent, flow: &str) -> Value {
    let text = agent.lbctl(["-o", "json", "trace", flow]).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub fn a_settled_slot_is_named_with_its_real_and_counters() {
    let testbed = Testbed::new(2, &[HTTP_V4, HTTP_V6], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    serve(&testbed, HTTP_V6, "--forward ipip", true, &[100]);
    let flows = [
        ("tcp 10.10.20.1:40000 -> 192.0.2.10:80", HTTP_V4),
        ("tcp [fd00:10::1]:40000 -> [2001:db8::10]:80", HTTP_V6),
    ];
    for (flow, vip) in flows {
        let settled = wait_for("the slot to settle", PATIENCE, || {
            let answer = trace(&testbed.agent, flow);
            let is_settled = |at: usize| answer["packets"][at]["slot"]["state"] == "settled";
            Ok((is_settled(0) && is_settled(1)).then_some(answer))
        })
        .unwrap();
        for packet in settled["packets"].as_array().unwrap() {
            assert_eq!(packet["vip"], vip, "{settled:#}");
            assert_eq!(packet["chosen_by"], "ring", "{settled:#}");
            assert_eq!(packet["slot"]["real"], packet["real"], "{settled:#}");
            assert_eq!(
                packet["real_state"]["real"]["state"], "active",
                "{settled:#}"
            );
            assert!(
                packet["real_state"]["since"].as_f64().is_some(),
                "{settled:#}"
            );
            assert_eq!(packet["entry"], Value::Null, "{settled:#}");
            let number = packet["slot"]["number"].as_u64().unwrap();
            assert!(number < packet["slot"]["slots"].as_u64().unwrap());
        }
        assert_eq!(
            settled["packets"][0]["vip_counters"]["packets"], 0,
            "a trace counts nothing"
        );
    }
    // Counters are those of the packets that came.
    let load = http_load(
        &testbed.client,
        endless(HTTP_V4, Connections::New, 2, Duration::from_millis(1)),
    );
    load.wait_requests(40, PATIENCE).unwrap();
    load.stop().unwrap();
    let stats = testbed.stats(HTTP_V4).unwrap();
    let traced = trace(&testbed.agent, flows[0].0);
    let packet = &traced["packets"][0];
    assert_eq!(
        packet["vip_counters"]["packets"], stats["packets"],
        "{traced:#}"
    );
    let real = stats["reals"]
        .as_array()
        .unwrap()
        .iter()
        .find(|real| real["address"] == packet["real"])
        .unwrap();
    assert!(real["packets"].as_u64() > Some(0), "{stats:#}");
    assert_eq!(
        packet["real_counters"]["packets"], real["packets"],
        "{traced:#}"
    );

    let text = testbed.agent.lbctl(["trace", flows[0].0]).unwrap();
    for part in [
        "settled: 10.10.30.",
        "chosen by",
        "the ring",
        "active for",
        "of the ring",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let other = trace(&testbed.agent, "udp 10.10.20.1:1 -> 192.0.2.10:80");
    assert_eq!(other["packets"][0]["vip"], Value::Null, "{other:#}");
    assert_eq!(other["packets"][0]["reason"], "not_vip", "{other:#}");
    assert_eq!(other["packets"][0]["slot"], Value::Null, "{other:#}");
}

pub fn a_slot_in_its_window_names_both_reals_and_the_flows_entry() {
    let testbed = Testbed::new(2, &[HTTP_V4], AgentOptions::default()).unwrap();
    serve(
        &testbed,
        HTTP_V4,
        "--forward ipip --track all",
        false,
        &[100],
    );
    let load = http_load(
        &testbed.client,
        endless(HTTP_V4, Connections::Kept, 24, Duration::from_millis(5)),
    );
    load.wait_requests(240, PATIENCE).unwrap();
    let sockets = testbed
        .client
        .sh("ss --numeric --no-header --tcp state established")
        .unwrap();
    let own = testbed.backends[0].address();
    let other = testbed.backends[1].address();
    let flow = sockets
        .split_whitespace()
        .filter(|word| word.starts_with("10.10.20.1:"))
        .map(|local| format!("tcp {local} -> {}", target(HTTP_V4)))
        .find(|flow| trace(&testbed.agent, flow)["packets"][1]["real"] == own.as_str())
        .unwrap();
    let before = trace(&testbed.agent, &flow);
    let entry = &before["packets"][1]["entry"];
    assert_eq!(entry["real"], own.as_str(), "{before:#}");
    assert_eq!(entry["confirmed"], true, "{before:#}");
    assert_eq!(entry["closing"], false, "{before:#}");
    assert!(entry["last_packet"].as_f64() < Some(10.0), "{before:#}");

    testbed
        .agent
        .ctl(&format!("drain {HTTP_V4} {own}"))
        .unwrap();
    let after = trace(&testbed.agent, &flow);
    let packet = &after["packets"][1];
    assert_eq!(packet["real"], own.as_str(), "{after:#}");
    assert_eq!(packet["chosen_by"], "flow", "{after:#}");
    assert_eq!(
        packet["real_state"]["real"]["state"], "draining",
        "{after:#}"
    );
    let slot = &packet["slot"];
    assert_eq!(slot["state"], "in_window", "{after:#}");
    assert_eq!(slot["previous"], own.as_str(), "{after:#}");
    assert_eq!(slot["real"], other.as_str(), "{after:#}");
    // The window is the default of TCP: an hour.
    let left = slot["window_ends_in"].as_f64().unwrap();
    assert!((3_000.0..=3_610.0).contains(&left), "{after:#}");
    assert!(slot["since"].as_f64() < Some(60.0), "{after:#}");

    // A flow that is not known: its first packet goes to the new real, one of a running flow to the previous.
    let unknown = (1_000..1_200)
        .map(|port| {
            trace(
                &testbed.agent,
                &format!("tcp 10.10.20.9:{port} -> {}", target(HTTP_V4)),
            )
        })
        .find(|answer| answer["packets"][0]["slot"]["previous"] == own.as_str())
        .unwrap();
    assert_eq!(unknown["packets"][0]["real"], other.as_str(), "{unknown:#}");
    assert_eq!(
        unknown["packets"][0]["chosen_by"], "new_flow",
        "{unknown:#}"
    );
    assert_eq!(unknown["packets"][1]["real"], own.as_str(), "{unknown:#}");
    assert_eq!(
        unknown["packets"][1]["chosen_by"], "previous",
        "{unknown:#}"
    );
    assert_eq!(unknown["packets"][1]["entry"], Value::Null, "{unknown:#}");
    load.stop().unwrap();
}
