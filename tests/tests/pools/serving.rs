//! Instances serve a VIP of an agent.

use std::{collections::BTreeSet, fs};

use anyhow::ensure;
use lb_tests::{Agent, AgentOptions, Host, Network, client, vip_target, wait_for};

use crate::fixture::{Controller, PATIENCE, get, text};

const VIP: &str = "192.0.2.10:80/tcp";

/// A host whose instances are on a bridge with the balancer.
fn host(network: &Network) -> anyhow::Result<Host> {
    let host = network.real()?;
    host.bridge()?;
    Ok(host)
}

/// The network of instances, and their VIP.
fn network_settings() -> [String; 3] {
    [
        "network.bridge=br0".to_owned(),
        "network.range=10.10.60.11-10.10.60.30/16".to_owned(),
        format!("vips=['{VIP}']"),
    ]
}

pub fn instances_are_reals_of_a_vip_and_drain() -> anyhow::Result<()> {
    let network = Network::new()?;
    let clients = network.client()?;
    let host = host(&network)?;
    let agent = Agent::start(&network.balancer, AgentOptions::default())?;
    agent.lbctl(["add-vip", VIP])?;
    let mut controller =
        Controller::start_in(host.namespace(), "serving", &["--agent", &agent.endpoint()])?;
    let [bridge, range, vips] = network_settings();
    controller.add_web(
        "web",
        80,
        &[
            &bridge,
            &range,
            &vips,
            "scaling.min=2",
            "scaling.max=6",
            "scaling.drain_natural=0ms",
            "scaling.drain_deadline=5s",
            "scaling.bandwidth=0.1",
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
    // What they receive and send is a part of their scores.
    wait_for("traffic in the scores", PATIENCE, || {
        client::get(clients.namespace(), target, "/")?;
        let instances = controller.instances("web")?;
        let counted = |one: &serde_json::Value| one["score"]["network"].as_f64() > Some(0.0);
        Ok(instances.iter().all(counted).then_some(()))
    })?;
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
    // It does not take its instances out of rotation until it has asked them: they answered before.
    for _ in 0..100 {
        client::get(clients.namespace(), target, "/")?;
    }
    controller.wait_serving("web", 2)?;
    controller.pool(&["del", "web"])?;
    wait_for("the reals' end", PATIENCE, || {
        let list = agent.lbctl(["list", "-o", "json"])?;
        ensure!(!list.contains(&owner), "{list}");
        Ok(Some(()))
    })?;
    Ok(())
}

pub fn what_an_agent_refuses_is_a_trouble_until_it_does_not() -> anyhow::Result<()> {
    let network = Network::new()?;
    let host = host(&network)?;
    let agent = Agent::start(&network.balancer, AgentOptions::default())?;
    let http = "127.0.0.1:8080";
    let controller = Controller::start_in(
        host.namespace(),
        "refused",
        &["--agent", &agent.endpoint(), "--http", http],
    )?;
    let [bridge, range, vips] = network_settings();
    let limits = ["scaling.min=1", "scaling.max=1"];
    let settings = [&bridge, &range, &vips, limits[0], limits[1]];
    controller.add_web("web", 80, &settings)?;
    controller.wait_serving("web", 1)?;
    let metric = format!(
        "lb_controller_agent_refused_reals{{agent=\"{}\"}}",
        agent.endpoint()
    );
    let refused = |count: u32| {
        let metrics = host
            .namespace()
            .enter(|| get(http.parse()?, "/metrics"))??;
        ensure!(
            metrics.contains(&format!("{metric} {count}\n")),
            "{metrics}"
        );
        anyhow::Ok(())
    };
    let trouble = |words: &str| {
        wait_for(words, PATIENCE, || {
            let pool = &controller.json(&["list", "web"])?[0];
            let troubles = text(&pool["troubles"][0]);
            ensure!(troubles.contains(words), "{pool}");
            refused(1)?;
            Ok(Some(()))
        })
    };
    let no_trouble = || {
        wait_for("the end of the trouble", PATIENCE, || {
            let pool = &controller.json(&["list", "web"])?[0];
            ensure!(
                pool["troubles"].as_array().is_some_and(Vec::is_empty),
                "{pool}"
            );
            refused(0)?;
            Ok(Some(()))
        })
    };
    trouble(&format!("it has no VIP {VIP}"))?;
    agent.lbctl(["add-vip", VIP])?;
    no_trouble()?;
    let why = controller.pool(&["why", "web"])?;
    for kind in ["trouble: ", "trouble_over: "] {
        ensure!(why.contains(&format!("web: {kind}")), "{why}");
    }
    // A real of the same address that belongs to somebody else.
    controller.pool(&["scale", "web", "2"])?;
    agent.lbctl(["add-real", VIP, "10.10.60.12"])?;
    trouble("it refuses the real 10.10.60.12")?;
    agent.lbctl(["del-real", VIP, "10.10.60.12", "--force"])?;
    no_trouble()?;
    // The VIP goes away under the controller.
    agent.lbctl(["del-vip", VIP, "--force"])?;
    trouble(&format!("it has no VIP {VIP}"))?;
    Ok(())
}
