//! What the tests have in common.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use lb_tests::{AgentOptions, Testbed, client::get, server::Nginx, vip_target, wait_for};
use serde_json::Value;

/// Limit for what takes a second or two on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The VIP of most tests.
pub const VIP: &str = "192.0.2.10:80/tcp";

/// A network with an agent, web servers and a client.
pub type Web = Testbed<Nginx>;

/// A testbed whose VIP has this many reals, which answer.
pub fn serving(backends: usize, options: AgentOptions) -> Web {
    let testbed = Web::new(backends, &[VIP], options).unwrap();
    let all: Vec<_> = testbed.backends.iter().collect();
    testbed.add_service(VIP, &[], &all).unwrap();
    wait_served(&testbed);
    testbed
}

/// Waits until the VIP answers.
pub fn wait_served(testbed: &Web) {
    wait_for("an answer of the VIP", PATIENCE, || {
        get(&testbed.client, vip_target(VIP)?, "/").map(Some)
    })
    .unwrap();
}

/// The names of the servers that answer.
pub fn servers(testbed: &Web, requests: usize) -> BTreeSet<String> {
    (0..requests)
        .map(|_| {
            get(&testbed.client, vip_target(VIP).unwrap(), "/")
                .unwrap()
                .0
        })
        .collect()
}

/// The state of an interface in `lbctl status`.
pub fn interface(testbed: &Web, name: &str) -> anyhow::Result<Value> {
    let status = testbed.agent.ctl_json("status")?;
    let interfaces = status["interfaces"].as_array().context("interfaces")?;
    interfaces
        .iter()
        .find(|interface| interface["name"] == name)
        .cloned()
        .with_context(|| format!("no interface {name} in {status:#}"))
}

/// Waits until an interface is attached or not; returns its warning.
pub fn wait_attached(testbed: &Web, name: &str, attached: bool) -> String {
    let what = format!("{name} to be attached: {attached}");
    let interface = wait_for(&what, PATIENCE, || {
        let interface = interface(testbed, name)?;
        Ok((interface["attached"] == attached).then_some(interface))
    })
    .unwrap();
    assert_eq!(
        interface["xdp_mode"] == "detached",
        !attached,
        "{interface:#}"
    );
    interface["warning"].as_str().unwrap().to_owned()
}

/// Waits for a warning of `lbctl status` that contains this.
pub fn wait_warning(testbed: &Web, words: &str) -> String {
    wait_for(&format!("a warning with {words:?}"), PATIENCE, || {
        let status = testbed.agent.ctl_json("status")?;
        let warnings = status["warnings"].as_array().context("warnings")?;
        let mut warnings = warnings.iter().filter_map(Value::as_str);
        Ok(warnings
            .find(|text| text.contains(words))
            .map(str::to_owned))
    })
    .unwrap()
}
