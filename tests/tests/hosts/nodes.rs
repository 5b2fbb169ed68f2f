//! Nodes of load balancers on other hosts than the controller's.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use lb_tests::{processes_of, wait_for};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::bed::{Bed, PATIENCE};

/// Nodes on all hosts that join, and names. No host is taken for lost, so nothing waits for the proof of that.
pub const NODES: &str = r#"lost_after = "10m"
[nodes]
bridge = "br0"
range = "10.10.60.11-10.10.60.30/16"
each = 3
cpu = 0.2
memory = "64MiB"
placement = {}
[dns]
zone = "lb.example"
listen = ["OWN:53"]
name_servers = { "ns1.lb.example" = ["OWN"] }
"#;

fn text<'a>(node: &'a Value, name: &str) -> &'a str {
    node[name].as_str().unwrap_or_default()
}

pub fn a_node_has_one_that_stands_in_for_it_while_its_host_is_away() -> anyhow::Result<()> {
    let mut bed = Bed::new("nodes", NODES)?;
    bed.join(2)?;
    let (server, _nginx) = bed.server()?;
    bed.controller.ctl("project add shop")?;
    let began = Instant::now();
    let line = format!("lb add shop web --backend {} --wait 60", server.v4);
    let added = bed.controller.ctl(&line);
    added.with_context(|| bed.controller.output())?;
    println!("a node on a host serves after {:?}", began.elapsed());
    let name = "web.shop.lb.example";
    let first = bed.wait_complete("web", 1)?.remove(0);
    let at = bed.machine(text(&first, "host"))?;
    let old = text(&first, "address");
    ensure!(bed.ask_at(old)? == server.label());
    ensure!(bed.look_up(name)? == [old.to_owned()].into());

    // It is back in time: it stays, and the one that stood in for it goes.
    let began = Instant::now();
    bed.cut_off(at)?;
    let new = bed.wait_moved(name, old)?;
    println!(
        "a node's host is away: clients by name are served again after {:?}",
        began.elapsed()
    );
    ensure!(bed.running(at).len() == 1 && bed.running(1 - at).len() == 1);
    let shown = bed.controller.ctl("lb show shop web")?;
    ensure!(
        shown.contains("it is dead: ") && shown.contains(&new),
        "{shown}"
    );
    bed.bring_back(at)?;
    let nodes = bed.wait_complete("web", 1)?;
    ensure!(nodes[0]["name"] == first["name"], "{nodes:?}");
    bed.wait_moved(name, &new)?;
    bed.wait_empty(1 - at)?;

    // It is away for too long: it goes, and what is left of it is collected when its host is back.
    bed.controller
        .ctl("lb set shop web placement.stand_in=3s")?;
    bed.wait_complete("web", 1)?;
    let began = Instant::now();
    bed.cut_off(at)?;
    let new = bed.wait_moved(name, old)?;
    println!("and again after {:?}", began.elapsed());
    let nodes = bed.wait_complete("web", 1)?;
    ensure!(text(&nodes[0], "address") == new, "{nodes:?}");
    ensure!(bed.running(at).len() == 1, "{:?}", bed.running(at));
    bed.bring_back(at)?;
    bed.wait_empty(at)?;
    let after = bed.wait_complete("web", 1)?;
    ensure!(after[0]["name"] == nodes[0]["name"], "{after:?}");
    ensure!(bed.look_up(name)? == [new].into());
    let events = bed.controller.pool(&["why", "lb-2"])?;
    for words in [
        "stands in for lb-2-1-1",
        "it is back; ",
        "has taken its place",
    ] {
        ensure!(events.contains(words), "{words}: {events}");
    }
    Ok(())
}

pub fn a_node_on_a_host_follows_its_settings() -> anyhow::Result<()> {
    let mut bed = Bed::new("follows", NODES)?;
    bed.controller.ctl("project add shop")?;
    let (one, _first) = bed.server()?;
    let (two, _second) = bed.server()?;
    // There is no host yet, which is said.
    bed.controller
        .ctl(&format!("lb add shop web --backend {}", one.v4))?;
    let waited = wait_for("a node that waits for a host", PATIENCE, || {
        let shown = bed.controller.ctl("lb show shop web")?;
        ensure!(shown.contains("no host has joined"), "{shown}");
        Ok(Some(()))
    });
    waited.with_context(|| bed.controller.output())?;
    bed.join(1)?;
    let node = bed.wait_complete("web", 1)?.remove(0);
    let address = text(&node, "address");
    ensure!(
        text(&node, "host") == "h1" && bed.ask_at(address)? == one.label(),
        "{node}"
    );
    let own = bed.controller.running();
    ensure!(own.is_empty(), "{own:?}");
    // No connection ends: the node is told.
    bed.controller
        .ctl(&format!("lb set shop web --backend {}", two.v4))?;
    let nodes = bed.wait_complete("web", 1)?;
    ensure!(nodes[0]["name"] == node["name"], "{nodes:?}");
    ensure!(bed.ask_at(address)? == two.label());
    // One that ends is replaced at its address, by the present settings.
    let began = Instant::now();
    for pid in processes_of(&bed.owner(0), text(&node, "name")) {
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    }
    let again = wait_for("another node", PATIENCE, || {
        let instances = bed.controller.instances("lb-2")?;
        ensure!(instances[0]["name"] != node["name"], "{instances:?}");
        ensure!(bed.ask_at(address)? == two.label());
        Ok(Some(()))
    });
    again.with_context(|| bed.controller.output())?;
    println!(
        "a node on a host was killed: served again after {:?}",
        began.elapsed()
    );
    bed.wait_complete("web", 1)?;
    // The bridge of a subnet is on the controller's own host.
    bed.controller
        .ctl("subnet add shop back cidr=10.20.0.0/24")?;
    let refused = bed
        .controller
        .ctl("lb add shop inner subnet=back placement.hosts=['h1']");
    let refused = refused.err().context("not refused")?.to_string();
    ensure!(refused.contains("placement.hosts = ['local']"), "{refused}");
    bed.controller.ctl("lb del shop web")?;
    bed.wait_empty(0)
}
