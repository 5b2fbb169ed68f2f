//! Signs of how reals serve their flows: what the clients send shows it.

use std::time::Duration;

use lb_tests::{
    AgentOptions,
    client::{Connections, http_load},
    wait_for,
};
use serde_json::Value;

use crate::fixture::{HTTP_V4, HTTP_V6, PATIENCE, Testbed, endless, serve};

/// Returns the signs of each backend as a real of a VIP.
fn signs(testbed: &Testbed, vip: &str) -> Vec<Value> {
    let stats = testbed.stats(vip).unwrap();
    let reals = stats["reals"].as_array().unwrap();
    testbed
        .backends
        .iter()
        .map(|backend| {
            let addresses = [backend.address(), backend.address_v6()];
            let real = reals
                .iter()
                .find(|real| addresses.iter().any(|own| real["address"] == own.as_str()));
            real.unwrap()["signs"].clone()
        })
        .collect()
}

/// Returns how many sampled flows have ended.
fn ended(signs: &Value) -> u64 {
    let lives = signs["lives"].as_array().unwrap();
    lives.iter().map(|lives| lives.as_u64().unwrap()).sum()
}

/// Adds VIPs of both families, whose second real drops every packet.
fn testbed_with_a_silent_real() -> Testbed {
    let mut testbed = Testbed::new(2, &[HTTP_V4, HTTP_V6], AgentOptions::default()).unwrap();
    for (vip, v6) in [(HTTP_V4, false), (HTTP_V6, true)] {
        serve(&testbed, vip, "", v6, &[100]);
    }
    // Nothing takes the outer headers off any more.
    testbed.backends[1].real.take().unwrap().stop().unwrap();
    testbed
}

/// Makes requests until both reals of a VIP have shown what they do.
fn show(testbed: &Testbed, vip: &str) {
    let load = http_load(
        &testbed.client,
        endless(vip, Connections::New, 32, Duration::from_millis(10)),
    );
    wait_for("repeated SYNs and ended flows", PATIENCE, || {
        let signs = signs(testbed, vip);
        let repeated = signs[1]["repeated_syns"].as_u64() >= Some(5);
        Ok((ended(&signs[0]) >= 5 && repeated).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{vip}: {error:#}: {:#?}", signs(testbed, vip)));
    load.ask_to_stop();
}

pub fn a_real_that_drops_syns_shows_and_one_that_serves_shows_lives() {
    let mut testbed = testbed_with_a_silent_real();
    for vip in [HTTP_V4, HTTP_V6] {
        show(&testbed, vip);
        let [served, silent] = &signs(&testbed, vip)[..] else {
            panic!("two reals")
        };
        assert_eq!(served["repeated_syns"], 0, "{vip}: {served}");
        assert!(
            served["median_life"].as_f64() < Some(1.0),
            "{vip}: {served}"
        );
        assert!(served["opened"].as_u64() >= Some(ended(served)), "{served}");
        assert_eq!(ended(silent), 0, "{vip}: {silent}");
        assert!(silent["median_life"].is_null(), "{vip}: {silent}");
    }
    let wide = testbed.lbctl(&["-o", "wide", "stats", HTTP_V4]).unwrap();
    assert!(wide.contains("MEDIAN LIFE"), "{wide}");

    // The next agent goes on with them.
    let before = signs(&testbed, HTTP_V4);
    testbed.agent.kill().unwrap();
    testbed.agent.run().unwrap();
    let after = signs(&testbed, HTTP_V4);
    assert!(ended(&before[0]) <= ended(&after[0]), "{after:#?}");
    assert!(before[1]["repeated_syns"].as_u64() <= after[1]["repeated_syns"].as_u64());

    // A real that is added again starts from zero.
    let address = testbed.backends[0].address();
    let ctl = |words: String| testbed.agent.ctl(&words).unwrap();
    ctl(format!("del-real {HTTP_V4} {address}"));
    ctl(format!("add-real {HTTP_V4} {address}"));
    assert_eq!(ended(&signs(&testbed, HTTP_V4)[0]), 0);
}
