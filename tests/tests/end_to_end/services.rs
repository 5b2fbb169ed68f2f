//! What a VIP can be besides an address and a port, and what decides the real of a client, over real sockets.

use std::{collections::BTreeSet, time::Duration};

use lb_tests::{
    AgentOptions,
    client::{Connections, get, http_load},
};

use crate::fixture::{
    HTTP_V4, HTTP_V6, PATIENCE, Testbed, address_of, assert_no_failure, endless,
    every_real_answers, serve, target,
};

/// The servers that answer a client's requests, each from another port.
fn answering(testbed: &Testbed, vip: &str, requests: usize) -> BTreeSet<String> {
    (0..requests)
        .map(|_| get(&testbed.client, target(vip), "/").unwrap().0)
        .collect()
}

pub fn vips_of_prefixes_and_ranges_serve_and_are_adopted() {
    let mut testbed = Testbed::new(3, &[HTTP_V4, HTTP_V6], AgentOptions::default()).unwrap();
    for (vip, single, v6_reals) in [
        ("192.0.2.0/27:80/tcp", HTTP_V4, false),
        ("[2001:db8::10]:70-90/tcp+udp", HTTP_V6, true),
    ] {
        serve(&testbed, vip, "--forward ipip", v6_reals, &[100]);
        every_real_answers(&testbed.client, single, &testbed.names());
    }
    // The next agent finds them in the tables.
    testbed.agent.stop().unwrap();
    every_real_answers(&testbed.client, HTTP_V4, &testbed.names());
    testbed.agent.run().unwrap();
    for vip in [HTTP_V4, HTTP_V6] {
        every_real_answers(&testbed.client, vip, &testbed.names());
    }
    let list = testbed.agent.ctl("list").unwrap();
    assert!(list.contains("192.0.2.0/27:80/tcp"), "{list}");
    assert!(list.contains("[2001:db8::10]:70-90/tcp+udp"), "{list}");
    let stats = testbed.stats("192.0.2.0/27:80/tcp").unwrap();
    assert!(stats["packets"].as_u64().unwrap() > 0, "{stats:#}");
    // A single VIP goes first; without it the prefix has the address again.
    testbed.agent.ctl(&format!("add-vip {HTTP_V4}")).unwrap();
    assert!(get(&testbed.client, target(HTTP_V4), "/").is_err());
    testbed.agent.ctl(&format!("del-vip {HTTP_V4}")).unwrap();
    every_real_answers(&testbed.client, HTTP_V4, &testbed.names());
    testbed.agent.ctl("del-vip 192.0.2.0/27:80/tcp").unwrap();
    assert!(get(&testbed.client, target(HTTP_V4), "/").is_err());
    testbed.check().unwrap();
}

pub fn a_client_has_one_real_by_its_address() {
    let testbed = Testbed::new(3, &[HTTP_V4, HTTP_V6], AgentOptions::default()).unwrap();
    for (vip, v6_reals) in [(HTTP_V4, false), (HTTP_V6, true)] {
        serve(&testbed, vip, "--forward gue", v6_reals, &[100]);
        every_real_answers(&testbed.client, vip, &testbed.names());
        for hash in ["source", "source-group"] {
            testbed
                .agent
                .ctl(&format!("set-vip {vip} --hash {hash}"))
                .unwrap();
            assert_eq!(answering(&testbed, vip, 30).len(), 1, "{vip} {hash}");
        }
        testbed
            .agent
            .ctl(&format!("set-vip {vip} --hash flow"))
            .unwrap();
        every_real_answers(&testbed.client, vip, &testbed.names());
    }
}

pub fn rules_about_clients_refuse_them_and_give_them_reals() {
    let mut testbed = Testbed::new(3, &[HTTP_V4, HTTP_V6], AgentOptions::default()).unwrap();
    for (vip, v6_reals) in [(HTTP_V4, false), (HTTP_V6, true)] {
        serve(&testbed, vip, "--forward ipip", v6_reals, &[100]);
        let client = testbed.client.address_like(target(vip).ip());
        let any = if v6_reals { "::/0" } else { "0.0.0.0/0" };
        let set = |rules: &str| {
            let line = format!("set-vip {vip} --source-rules {rules}");
            testbed.agent.ctl(&line).unwrap();
        };
        set(&format!("{any}=deny"));
        assert!(get(&testbed.client, target(vip), "/").is_err(), "{vip}");
        set(&format!("{any}=deny --source-rules {client}=allow"));
        every_real_answers(&testbed.client, vip, &testbed.names());
        for backend in &testbed.backends {
            set(&format!("{client}={}", address_of(backend, v6_reals)));
            let own = BTreeSet::from([backend.host.label().to_owned()]);
            assert_eq!(answering(&testbed, vip, 20), own, "{vip}");
        }
        set(&format!("{client}=deny"));
        assert!(get(&testbed.client, target(vip), "/").is_err(), "{vip}");
    }
    // The program refuses while there is no agent, and the next one knows the rules.
    testbed.agent.stop().unwrap();
    assert!(get(&testbed.client, target(HTTP_V4), "/").is_err());
    testbed.agent.run().unwrap();
    assert!(get(&testbed.client, target(HTTP_V6), "/").is_err());
    let flow = format!("tcp {}:40000 -> 192.0.2.10:80", testbed.client.v4);
    let trace = testbed.agent.lbctl(["trace", &flow]).unwrap();
    assert!(trace.contains("source_denied"), "{trace}");
    let stats = testbed.agent.ctl_json("stats").unwrap();
    let reasons = stats["interfaces"][0]["reasons"].as_array().unwrap();
    let denied = reasons
        .iter()
        .find(|entry| entry["reason"] == "source_denied");
    assert!(
        denied.is_some_and(|entry| entry["frames"].as_u64() > Some(0)),
        "{stats:#}"
    );
    for vip in [HTTP_V4, HTTP_V6] {
        let line = format!("set-vip {vip} --source-rules none");
        testbed.agent.ctl(&line).unwrap();
        every_real_answers(&testbed.client, vip, &testbed.names());
    }
    testbed.check().unwrap();
}

pub fn names_that_are_no_vip_are_refused_with_what_to_write() {
    let testbed = Testbed::new(1, &[HTTP_V4], AgentOptions::default()).unwrap();
    for (name, advice) in [
        ("192.0.2.1/24:80/tcp", "first address"),
        ("192.0.2.0/33:80/tcp", "8 to 32 bits"),
        ("192.0.2.1:90-80/tcp", "range of ports"),
        ("192.0.2.1:80/icmp", "tcp, udp, sctp or tcp+udp"),
    ] {
        let error = testbed.agent.ctl(&format!("add-vip {name}")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(advice), "{name}: {text}");
    }
    // 16 ranges for one address, and not one more.
    for at in 0..16 {
        let ports = format!("{}-{}", 1_000 + 10 * at, 1_005 + 10 * at);
        testbed
            .agent
            .ctl(&format!("add-vip 192.0.2.10:{ports}/tcp"))
            .unwrap();
    }
    let error = testbed
        .agent
        .ctl("add-vip 192.0.2.10:5000-5001/tcp")
        .unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("neighbouring ports"), "{text}");
    let list = testbed.agent.ctl("list").unwrap();
    assert!(!list.contains("5000-5001"), "{list}");
}

pub fn connections_that_begin_are_limited_and_running_ones_are_not() {
    let testbed = Testbed::new(2, &[HTTP_V4, HTTP_V6], AgentOptions::default()).unwrap();
    let frames = |reason: &str| {
        let stats = testbed.agent.ctl_json("stats").unwrap();
        let reasons = stats["interfaces"][0]["reasons"].as_array().unwrap();
        let found = reasons.iter().find(|entry| entry["reason"] == reason);
        found.map_or(0, |entry| entry["frames"].as_u64().unwrap())
    };
    for (vip, v6_reals) in [(HTTP_V4, false), (HTTP_V6, true)] {
        serve(&testbed, vip, "--forward ipip", v6_reals, &[100]);
        every_real_answers(&testbed.client, vip, &testbed.names());
        let plan = endless(vip, Connections::Kept, 20, Duration::from_millis(10));
        let load = http_load(&testbed.client, plan);
        load.wait_requests(100, PATIENCE).unwrap();
        // Five at once, then one a second.
        let limits = [
            "set-vip",
            vip,
            "--flow-limits",
            "source_rate=1 burst=5s over=reset",
        ];
        testbed.agent.lbctl(limits).unwrap();
        let before = frames("flow_limited_reset");
        let refused = (0..40).filter(|_| get(&testbed.client, target(vip), "/").is_err());
        assert!(refused.count() >= 20, "{vip}");
        assert!(frames("flow_limited_reset") >= before + 20, "{vip}");
        // The connections that ran go on, and each limit can be taken away.
        load.wait_requests(500, PATIENCE).unwrap();
        assert_no_failure(&load.stop().unwrap());
        let none = ["set-vip", vip, "--flow-limits", "none"];
        testbed.agent.lbctl(none).unwrap();
        for _ in 0..40 {
            get(&testbed.client, target(vip), "/").unwrap();
        }
    }
    let error = testbed
        .agent
        .lbctl(["add-vip", "192.0.2.10:53/udp", "--flow-limits", "rate=1"])
        .unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("only TCP shows"), "{text}");
    let error = testbed
        .agent
        .lbctl(["set-vip", HTTP_V4, "--flow-limits", "burst=1s"])
        .unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("at least one of rate"), "{text}");
}
