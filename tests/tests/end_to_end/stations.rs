//! Frames for other stations, and the addresses that an interface receives by.

use std::time::Duration;

use lb_tests::{
    Agent, AgentOptions, Backend, Network, client::get, server::WebAndBroker, wait_for,
};

use crate::fixture::{HTTP_V4, HTTP_V6, PATIENCE, Testbed, serve, target};

/// Frames of the first interface with these reasons.
fn frames(agent: &Agent, names: &[&str]) -> u64 {
    let stats = agent.ctl_json("stats").unwrap();
    stats["interfaces"][0]["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|reason| names.iter().any(|name| reason["reason"] == *name))
        .map(|reason| reason["frames"].as_u64().unwrap())
        .sum()
}

/// A bridge that floods shows each balancer what the other one sends. Neither balances it again: a single SYN went
/// round and round.
pub fn two_balancers_on_a_flooding_bridge_do_not_send_in_circles() {
    let network = Network::new().unwrap();
    let client = network.client().unwrap();
    let backend =
        Backend::<WebAndBroker>::start(network.real().unwrap(), &[HTTP_V4, HTTP_V6]).unwrap();
    let other = network.real().unwrap();
    let agents = [
        Agent::start(&network.balancer, AgentOptions::default()).unwrap(),
        Agent::start(&other, AgentOptions::default()).unwrap(),
    ];
    for agent in &agents {
        for (vip, real) in [
            (HTTP_V4, backend.address()),
            (HTTP_V6, backend.address_v6()),
        ] {
            agent
                .add_service(vip, "--forward l2", &[(real, 100)])
                .unwrap();
            wait_for("the next hop to the real", PATIENCE, || {
                let list = agent.ctl_json(&format!("list {vip}"))?;
                Ok((list[0]["reals"][0]["state"] != "unreachable").then_some(()))
            })
            .unwrap();
        }
    }
    // A bridge that forgets at once is a hub.
    let switch = network.switch().namespace();
    switch
        .sh("ip link set br0 type bridge ageing_time 0")
        .unwrap();
    const FORWARDED: &[&str] = &["forwarded_tx", "forwarded_redirect"];
    for vip in [HTTP_V4, HTTP_V6] {
        for _ in 0..10 {
            get(&client, target(vip), "/").unwrap();
        }
    }
    for agent in &agents {
        assert!(frames(agent, &["other_station"]) > 0, "the bridge floods");
    }
    assert_eq!(
        frames(&agents[1], FORWARDED),
        0,
        "the client sends to the first"
    );
    let before = frames(&agents[0], FORWARDED);
    // 20 requests of a handful of segments each; going round they would be millions.
    assert!(before > 60 && before < 2_000, "{before}");
    // Nothing is under way any more.
    wait_for("the end of the connections", PATIENCE, || {
        let before = frames(&agents[0], FORWARDED);
        std::thread::sleep(Duration::from_millis(300));
        Ok((frames(&agents[0], FORWARDED) == before).then_some(()))
    })
    .unwrap();
}

/// The interface gets another MAC address while the agent runs.
pub fn a_changed_mac_address_is_followed() {
    let testbed = Testbed::new(1, &[HTTP_V4], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    let balancer = &testbed.network.balancer;
    get(&testbed.client, target(HTTP_V4), "/").unwrap();
    for mac in ["02:00:00:00:77:01", "02:00:00:00:77:02"] {
        balancer
            .sh(&format!("ip link set eth0 address {mac}"))
            .unwrap();
        testbed
            .client
            .sh(&format!(
                "ip neigh replace {} lladdr {mac} dev eth0 nud reachable",
                balancer.v4
            ))
            .unwrap();
        wait_for("the first answer by the new address", PATIENCE, || {
            Ok(get(&testbed.client, target(HTTP_V4), "/").ok())
        })
        .unwrap();
        for _ in 0..20 {
            get(&testbed.client, target(HTTP_V4), "/").unwrap();
        }
    }
}

/// VRRP gives a macvlan interface its MAC address, by which clients' packets come while it is up.
pub fn the_mac_address_of_a_macvlan_on_top_is_the_interfaces() {
    const VRRP: &str = "00:00:5e:00:01:07";
    let testbed = Testbed::new(1, &[HTTP_V4], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    let balancer = &testbed.network.balancer;
    testbed
        .client
        .sh(&format!(
            "ip neigh replace {} lladdr {VRRP} dev eth0 nud permanent",
            balancer.v4
        ))
        .unwrap();
    let agent = &testbed.agent;
    let before = frames(agent, &["other_station"]);
    lb_tests::client::unanswered(&testbed.client, target(HTTP_V4)).unwrap();
    assert!(frames(agent, &["other_station"]) > before);
    balancer
        .sh(&format!(
            "ip link add vrrp0 link eth0 address {VRRP} type macvlan mode private"
        ))
        .unwrap();
    balancer.sh("ip link set vrrp0 up").unwrap();
    wait_for("the first answer by VRRP's address", PATIENCE, || {
        Ok(get(&testbed.client, target(HTTP_V4), "/").ok())
    })
    .unwrap();
    // A restarted agent knows it from the start.
    let mut testbed = testbed;
    testbed.agent.kill().unwrap();
    get(&testbed.client, target(HTTP_V4), "/").unwrap();
    testbed.agent.run().unwrap();
    for _ in 0..20 {
        get(&testbed.client, target(HTTP_V4), "/").unwrap();
    }
}
