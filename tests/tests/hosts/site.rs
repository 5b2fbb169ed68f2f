//! An environment whose load balancers are on hosts.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use lb_tests::{command_tree, wait_for};

use crate::{
    bed::{Bed, PATIENCE},
    nodes::NODES,
};

/// Waits until the newest command with these words has this tree.
fn wait_tree(bed: &Bed, about: &str, expected: &str) -> anyhow::Result<()> {
    let waited = wait_for(about, PATIENCE, || {
        let list = bed.read("command list")?;
        let list = list.as_array().context("no list")?;
        let found = list.iter().rev().find(|one| one["about"] == about);
        let found = found.with_context(|| format!("{list:?}"))?;
        let text = command_tree(&bed.read(&format!("command show {}", found["id"]))?);
        ensure!(text == expected, "{text}");
        Ok(Some(()))
    });
    waited.with_context(|| bed.controller.output())
}

/// Adds a member with a web server on the controller's own host.
fn add(bed: &Bed, name: &str, port: u16) -> anyhow::Result<String> {
    let line = format!(
        "env add shop site {name} role=web pool.driver.kind=process pool.network.port={port} pool.network.address={} \
         pool.template.program=/usr/bin/perl pool.template.arguments=['{}','{{port}}'] pool.template.stop_grace=1s \
         pool.check.kind=http pool.check.interval=500ms pool.check.fast_interval=100ms pool.scaling.min=1 pool.scaling.max=1 \
         --wait 120",
        bed.own.v4,
        bed.script().display(),
    );
    let done = bed.read(&line);
    Ok(command_tree(
        &done.with_context(|| bed.controller.output())?,
    ))
}

pub fn a_balancer_whose_host_is_away_is_replaced_on_another_one() -> anyhow::Result<()> {
    let mut bed = Bed::new("site", NODES)?;
    bed.join(2)?;
    bed.controller.ctl("project add shop")?;
    // A handler replaces a load balancer as a whole, so none of its nodes has one that stands in for it.
    bed.controller
        .ctl("env create shop site down_after=1s balancer.placement.stand_in=0s")?;
    add(&bed, "web-1", 8001)?;
    let second = add(&bed, "web-2", 8002)?;
    let expected = "\
add web-2
  add balancer
    create balancer
    bind web-1 to balancer
  create web-2
  bind web-2 to balancer
";
    ensure!(second == expected, "{second}");
    let name = "site-balancer.shop.lb.example";
    let old = bed.wait_complete("site-balancer", 1)?.remove(0);
    let at = bed.machine(old["host"].as_str().context("no host")?)?;
    let address = old["address"].as_str().context("no address")?;
    bed.ask_at(address)?;

    let began = Instant::now();
    bed.cut_off(at)?;
    let moved = bed.wait_moved(name, address)?;
    println!(
        "a balancer's host is away: another balancer serves clients by its name after {:?}",
        began.elapsed()
    );
    let expected = "\
is-down balancer
  expel balancer
  add balancer-2
    create balancer-2
    bind web-1 to balancer-2
    bind web-2 to balancer-2
";
    wait_tree(&bed, "is-down balancer", expected)?;
    let new = bed.wait_complete("site-balancer-2", 1)?.remove(0);
    ensure!(
        new["host"] != old["host"] && new["address"] == moved.as_str(),
        "{new}"
    );
    let shown = bed.read("env show shop site")?.to_string();
    ensure!(shown.contains("\"illegal\""), "{shown}");
    ensure!(bed.running(at).len() == 1, "{:?}", bed.running(at));

    // Its host is back: it is collected, and its name stays where it is.
    bed.bring_back(at)?;
    let expected = "collect balancer\n  delete balancer\n";
    wait_tree(&bed, "collect balancer", expected)?;
    bed.wait_empty(at)?;
    for name in [name, "site-balancer-2.shop.lb.example"] {
        let found = bed.look_up(name)?;
        ensure!(found == [moved.clone()].into(), "{name}: {found:?}");
    }
    bed.ask_at(&moved)?;
    bed.read("env destroy shop site --wait 60")?;
    bed.wait_empty(1 - at)
}
