//! What changes in the network while no agent runs.

use lb_tests::{AgentOptions, wait_for};

use crate::fixture::{PATIENCE, VIP, serving, wait_served};

pub fn an_agent_finds_a_real_that_came_while_none_ran() {
    let mut testbed = serving(1, AgentOptions::default());
    let balancer = testbed.network.balancer.clone();
    let real = testbed.backends[0].address();
    let host = testbed.backends[0].host.clone();
    // The kernel of the balancer knows the neighbour before the agent asks, so nothing changes that it could be notified
    // of.
    let introduce = || {
        let link = host.sh("ip -o link show dev eth0").unwrap();
        let (_, rest) = link.split_once("link/ether ").unwrap();
        let mac = rest.split_whitespace().next().unwrap();
        let neighbour = format!("ip neigh replace {real} lladdr {mac} dev eth0 nud permanent");
        balancer.sh(&neighbour).unwrap();
    };

    balancer
        .sh(&format!("ip route add unreachable {real}/32"))
        .unwrap();
    testbed.wait_state(VIP, &real, "unreachable").unwrap();
    testbed.agent.kill().unwrap();
    balancer
        .sh(&format!("ip route del unreachable {real}/32"))
        .unwrap();
    introduce();
    testbed.agent.run().unwrap();
    testbed.wait_serving(VIP, &real).unwrap();
    wait_served(&testbed);

    // Another host has taken over its address.
    testbed.agent.kill().unwrap();
    host.sh("ip link set dev eth0 address 02:00:00:00:77:01")
        .unwrap();
    introduce();
    testbed.client.sh("ip neigh flush all").unwrap();
    testbed.agent.run().unwrap();
    wait_served(&testbed);

    // It has gone.
    testbed.agent.kill().unwrap();
    balancer
        .sh(&format!("ip route add unreachable {real}/32"))
        .unwrap();
    testbed.agent.run().unwrap();
    wait_for("the real to be unreachable", PATIENCE, || {
        let status = testbed.agent.ctl_json("status")?.to_string();
        let words = format!("the real {real} is unreachable: there is no route to it");
        Ok(status.contains(&words).then_some(()))
    })
    .unwrap();
}
