//! Nodes that die, and the controller that replaces them.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use lb_tests::wait_for;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::bed::{Bed, PATIENCE, address};

/// Sends a signal to the node of a load balancer, and returns the node's name.
fn signal(bed: &Bed, pool: &str, signal: Signal) -> anyhow::Result<String> {
    let instances = bed.controller.instances(pool)?;
    let name = instances[0]["name"].as_str().context("no node")?.to_owned();
    for pid in bed.controller.processes(&name) {
        kill(Pid::from_raw(pid), signal)?;
    }
    Ok(name)
}

pub fn a_dead_a_frozen_and_a_cut_off_node_are_replaced() -> anyhow::Result<()> {
    let bed = Bed::new("nodes", 1)?;
    let one = bed.backends()[0].clone();
    bed.run("project add shop")?;
    bed.run(&format!("lb add shop web --backend {one} --wait 60"))?;
    let at = address(&bed.wait_complete("shop", "web", 1)?)?;
    let replaced = |what: &str, name: &str, begin: Instant| {
        let again = wait_for("another node", PATIENCE, || {
            let instances = bed.controller.instances("lb-2")?;
            ensure!(instances[0]["name"] != name, "{instances:?}");
            let server = bed.ask(&at, 80)?;
            ensure!(server == bed.servers[0].0.label(), "{server}");
            Ok(Some(()))
        });
        again.with_context(|| bed.controller.output())?;
        println!(
            "a node that was {what}: served again after {:?}",
            begin.elapsed()
        );
        bed.wait_complete("shop", "web", 1)?;
        anyhow::Ok(())
    };
    let begin = Instant::now();
    let name = signal(&bed, "lb-2", Signal::SIGKILL)?;
    replaced("killed", &name, begin)?;
    let begin = Instant::now();
    let name = signal(&bed, "lb-2", Signal::SIGSTOP)?;
    replaced("frozen", &name, begin)?;
    // Its port on the bridge goes down.
    let begin = Instant::now();
    let ports = bed.host.namespace().sh("ip -o link show master br0")?;
    let port = ports
        .lines()
        .filter_map(|line| line.split(": ").nth(1)?.split('@').next())
        .find(|name| *name != "eth0")
        .context("no port")?;
    let name = bed.controller.instances("lb-2")?[0]["name"]
        .as_str()
        .context("no node")?
        .to_owned();
    bed.host
        .namespace()
        .sh(&format!("ip link set {port} down"))?;
    replaced("cut off", &name, begin)?;
    let events = bed.controller.pool(&["why", "lb-2"])?;
    ensure!(events.contains("does not serve"), "{events}");
    Ok(())
}

pub fn a_controller_that_is_killed_goes_on() -> anyhow::Result<()> {
    let mut bed = Bed::new("killed", 1)?;
    let one = bed.backends()[0].clone();
    bed.run("project add shop")?;
    bed.run(&format!("lb add shop web --backend {one} --wait 60"))?;
    let before = bed.wait_complete("shop", "web", 1)?;
    let at = address(&before)?;
    let nodes = bed.controller.running();
    // At the moments after an order at which it may not have done anything, or half of it.
    for pause in [0, 5, 20, 50, 100, 200, 400, 800] {
        let name = format!("extra-{pause}");
        bed.run(&format!("lb add shop {name} --backend {one}"))?;
        std::thread::sleep(std::time::Duration::from_millis(pause));
        bed.controller.kill()?;
        ensure!(
            bed.ask(&at, 80)? == bed.servers[0].0.label(),
            "nodes serve without the controller"
        );
        bed.controller.run()?;
        let extra = bed.wait_complete("shop", &name, 1)?;
        ensure!(
            bed.ask(&address(&extra)?, 80)? == bed.servers[0].0.label(),
            "{extra}"
        );
        bed.run(&format!("lb del shop {name}"))?;
        std::thread::sleep(std::time::Duration::from_millis(pause));
        bed.controller.kill()?;
        bed.controller.run()?;
        wait_for("the load balancer to be gone", PATIENCE, || {
            let list = bed.read("lb list shop")?;
            ensure!(
                list.as_array().is_some_and(|list| list.len() == 1),
                "{list}"
            );
            Ok(Some(()))
        })?;
        ensure!(
            bed.controller.running() == nodes,
            "{:?}",
            bed.controller.running()
        );
    }
    let after = bed.wait_complete("shop", "web", 1)?;
    ensure!(
        after["nodes"][0]["name"] == before["nodes"][0]["name"],
        "{after}"
    );
    // A copy has them, too.
    let copy = bed.controller.folder().join("copy");
    bed.controller
        .pool(&["backup", &copy.display().to_string()])?;
    let text = std::fs::read_to_string(&copy)?;
    ensure!(
        text.contains("\"projects\"") && text.contains("\"balancers\""),
        "{text}"
    );
    Ok(())
}
