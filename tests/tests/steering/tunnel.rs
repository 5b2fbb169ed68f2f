//! Probes that take the same way as clients' packets.

use crate::fixture::{HTTP, new_testbed};

const CHECK: &str = "http path=/ interval=400ms fast_interval=200ms timeout=300ms";

pub fn a_real_that_does_not_answer_for_the_vip_is_detected() {
    let mut testbed = new_testbed(1, &[HTTP]);
    let address = testbed.backends[0].address();
    // The host needs a route to the VIP through any neighbour; packets are redirected to the real before they reach it.
    let neighbour = testbed.client.v4;
    testbed
        .network
        .balancer
        .sh(&format!("ip route add 192.0.2.0/24 via {neighbour}"))
        .unwrap();
    testbed
        .add_service(
            HTTP,
            &["--check", &format!("{CHECK} via=tunnel")],
            &[&testbed.backends[0]],
        )
        .unwrap();
    testbed.wait_healthy(HTTP, &address).unwrap();
    // The server lives, but the host no longer removes the outer header.
    testbed.backends[0].real = None;
    testbed.wait_state(HTTP, &address, "down").unwrap();
    testbed
        .lbctl(&["set-vip", HTTP, "--check", &format!("{CHECK} via=direct")])
        .unwrap();
    testbed.wait_healthy(HTTP, &address).unwrap();
}
