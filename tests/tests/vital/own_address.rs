//! A real that is an address of the balancer's own host.

use lb_tests::{AgentOptions, wait_for};

use crate::fixture::{PATIENCE, VIP, servers, serving, wait_warning};

pub fn an_own_address_is_refused_and_takes_no_flows() {
    let testbed = serving(2, AgentOptions::default());
    let own = testbed.network.balancer.v4;
    let refused = testbed
        .lbctl(&["add-real", VIP, &own.to_string()])
        .unwrap_err();
    let refused = format!("{refused:#}");
    for words in [&own.to_string(), "address of this host", "another real"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    assert_eq!(servers(&testbed, 60).len(), 2);

    // The address of a real becomes the host's.
    let taken = testbed.backends[0].address();
    let balancer = &testbed.network.balancer;
    balancer
        .sh(&format!("ip address add {taken}/32 dev lo"))
        .unwrap();
    testbed.wait_state(VIP, &taken, "down").unwrap();
    wait_warning(
        &testbed,
        &format!("the real {taken} of {VIP} is an address of this host"),
    );
    let others = servers(&testbed, 60);
    assert_eq!(others.len(), 1, "{others:?}");
    balancer
        .sh(&format!("ip address del {taken}/32 dev lo"))
        .unwrap();
    testbed.wait_state(VIP, &taken, "active").unwrap();
    wait_for("both to serve", PATIENCE, || {
        Ok((servers(&testbed, 30).len() == 2).then_some(()))
    })
    .unwrap();
}
