//! Probes that go the clients' way.

use crate::fixture::{HTTP, Stand};

const CHECK: &str = "http path=/ interval=400ms fast_interval=200ms timeout=300ms";

#[test]
fn a_real_that_does_not_answer_for_the_vip_is_found() {
    let mut stand = Stand::new(1, &[HTTP]);
    let address = stand.reals[0].address();
    // A way to the VIP: any neighbour will do, the packets leave for the real before they get there.
    let neighbour = stand.client.v4;
    stand
        .site
        .balancer
        .sh(&format!("ip route add 192.0.2.0/24 via {neighbour}"))
        .unwrap();
    stand.serve(
        HTTP,
        &["--check", &format!("{CHECK} via=tunnel")],
        &[&stand.reals[0]],
    );
    stand.wait_healthy(HTTP, &address);
    // Its server lives, but nobody unwraps what comes for the VIP.
    stand.reals[0].real = None;
    stand.wait_state(HTTP, &address, "down");
    stand.ctl(&["set-vip", HTTP, "--check", &format!("{CHECK} via=direct")]);
    stand.wait_healthy(HTTP, &address);
}
