//! Instances serve a VIP of an agent.

use std::{collections::BTreeSet, fs};

use anyhow::ensure;
use lb_tests::{Agent, AgentOptions, Network, client, vip_target, wait_for};

use crate::fixture::{Controller, PATIENCE};

const VIP: &str = "192.0.2.10:80/tcp";

pub fn instances_are_reals_of_a_vip_and_drain() -> anyhow::Result<()> {
    let network = Network::new()?;
    let clients = network.client()?;
    let host = network.real()?;
    for line in [
        "ip addr flush dev eth0",
        "ip link add br0 type bridge mcast_snooping 0",
        "ip link set eth0 master br0",
        "ip link set br0 up",
    ] {
        host.sh(line)?;
    }
    // Health checks reach the instances by the bridge.
    host.sh("ip addr add 10.10.61.1/16 dev br0")?;
    let agent = Agent::start(&network.balancer, AgentOptions::default())?;
    agent.lbctl(["add-vip", VIP])?;
    let mut controller =
        Controller::start_in(host.namespace(), "serving", &["--agent", &agent.endpoint()])?;
    controller.add_web(
        "web",
        80,
        &[
            "network.bridge=br0",
            "network.range=10.10.60.11-10.10.60.30/16",
            &format!("vips=['{VIP}']"),
            "scaling.min=2",
            "scaling.max=6",
            "scaling.drain_natural=0ms",
            "scaling.drain_deadline=5s",
        ],
    )?;
    controller.wait_serving("web", 2)?;
    let target = vip_target(VIP)?;
    let answers = |wanted: usize| {
        wait_for(&format!("{wanted} instances to answer"), PATIENCE, || {
            let names: BTreeSet<String> = (0..40)
                .map(|_| Ok(client::get(clients.namespace(), target, "/")?.0))
                .collect::<anyhow::Result<_>>()?;
            ensure!(names.len() == wanted, "{names:?}");
            Ok(Some(names))
        })
    };
    answers(2)?;
    let owner = format!("controller:{}", controller.name);
    let list = agent.lbctl(["list", "-o", "json"])?;
    ensure!(list.contains(&owner), "{list}");
    controller.pool(&["scale", "web", "4"])?;
    controller.wait_serving("web", 4)?;
    answers(4)?;
    // What is scaled in is drained before it is stopped: no request fails meanwhile.
    controller.pool(&["scale", "web", "2..6"])?;
    controller.pool(&["set", "web", "scaling.max=2"])?;
    for _ in 0..100 {
        client::get(clients.namespace(), target, "/")?;
    }
    // A controller with an empty store does not take them for its own.
    controller.kill()?;
    let kept = controller.folder().join("kept");
    fs::rename(controller.state(), &kept)?;
    let (status, output) = controller.spawn()?.wait_end(PATIENCE)?;
    ensure!(!status.success(), "{output}");
    ensure!(
        output.contains(&owner) && output.contains("--take-over"),
        "{output}"
    );
    for _ in 0..20 {
        client::get(clients.namespace(), target, "/")?;
    }
    fs::remove_dir_all(controller.state())?;
    fs::rename(&kept, controller.state())?;
    controller.run()?;
    controller.wait_serving("web", 2)?;
    controller.pool(&["del", "web"])?;
    wait_for("the reals' end", PATIENCE, || {
        let list = agent.lbctl(["list", "-o", "json"])?;
        ensure!(!list.contains(&owner), "{list}");
        Ok(Some(()))
    })?;
    Ok(())
}
