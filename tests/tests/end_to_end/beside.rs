//! Several VIPs, and traffic that is for none.

use std::net::SocketAddr;

use lb_tests::{
    AgentOptions,
    client::{get, udp_exchange, unanswered},
    server::{Nginx, UdpEcho},
};

use crate::fixture::{HTTP_V4, HTTP_V6, Stand, every_real_answers, target};

#[test]
fn two_vips_have_their_own_reals() {
    const OTHER: &str = "192.0.2.11:80/tcp";
    let stand = Stand::new(2, &[HTTP_V4, OTHER], AgentOptions::default());
    for (vip, real) in [HTTP_V4, OTHER].into_iter().zip(&stand.reals) {
        stand
            .agent
            .add_service(vip, "--forward ipip", &[(real.address(false), 100)])
            .unwrap();
    }
    for (vip, real) in [HTTP_V4, OTHER].into_iter().zip(&stand.reals) {
        for _ in 0..20 {
            let (server, _) = get(&stand.client, target(vip), "/").unwrap();
            assert_eq!(server, real.host.label(), "{vip}");
        }
    }
    // Without the one, the other stays.
    stand.agent.ctl(&format!("del-vip {HTTP_V4}")).unwrap();
    unanswered(&stand.client, target(HTTP_V4)).unwrap();
    assert!(get(&stand.client, target(OTHER), "/").is_ok());
}

#[test]
fn other_traffic_is_the_hosts_own() {
    let stand = Stand::new(3, &[HTTP_V4, HTTP_V6], AgentOptions::default());
    stand.serve(HTTP_V4, "--forward ipip", false, &[100]);
    stand.serve(HTTP_V6, "--forward ipip", true, &[100]);
    // The balancer's host has a life of its own, on the very port of the VIP, too.
    let balancer = &stand.site.balancer;
    let _nginx = Nginx::start(balancer, 80).unwrap();
    for (address, vip) in [(balancer.v4, HTTP_V4), (balancer.v6, HTTP_V6)] {
        let own = SocketAddr::new(address, 80);
        let _echo = UdpEcho::start(balancer, SocketAddr::new(address, 7)).unwrap();
        for round in 0..10 {
            assert_eq!(
                get(&stand.client, own, "/").unwrap().0,
                "balancer",
                "round {round}"
            );
            let answer =
                udp_exchange(&stand.client, 0, SocketAddr::new(address, 7), b"beside").unwrap();
            assert!(answer.ends_with(b" beside"));
        }
        stand
            .client
            .sh(&format!("ping -c 3 -i 0.2 -W 15 {address}"))
            .unwrap();
        // Larger than a frame: fragments are nobody's business but the host's.
        stand
            .client
            .sh(&format!("ping -c 2 -i 0.2 -W 15 -s 4000 {address}"))
            .unwrap();
        every_real_answers(&stand.client, vip, &stand.names());
    }
}

#[test]
fn a_vip_answers_a_ping() {
    let stand = Stand::new(1, &[HTTP_V4, HTTP_V6], AgentOptions::default());
    for (vip, v6_reals) in [(HTTP_V4, false), (HTTP_V6, true)] {
        stand.serve(vip, "--forward ipip", v6_reals, &[100]);
        stand
            .client
            .sh(&format!("ping -c 3 -i 0.2 -W 15 {}", target(vip).ip()))
            .unwrap();
    }
    let status = stand.agent.ctl_json("stats").unwrap();
    let reasons = status["interfaces"][0]["reasons"].as_array().unwrap();
    let echoes: u64 = reasons
        .iter()
        .filter(|reason| reason["reason"] == "echo_reply")
        .map(|reason| reason["frames"].as_u64().unwrap())
        .sum();
    assert_eq!(echoes, 6, "{status:#}");
}
