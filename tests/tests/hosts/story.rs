//! Hosts that die, are silent, come back, and are drained, with the instances of a pool on them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lb_tests::wait_for;

use crate::bed::{Bed, PATIENCE};

const LOST_AFTER: &str = "lost_after = \"2s\"";

pub fn a_lost_host_is_replaced_and_what_it_has_is_collected() -> anyhow::Result<()> {
    let mut bed = Bed::new("lost", LOST_AFTER)?;
    bed.join(2)?;
    bed.add_web(4, &[])?;
    let before = bed.wait_spread(&[(0, 2), (1, 2)])?;
    for number in 1..=4 {
        bed.ask(number)?;
    }
    // Its program and its cable; what runs on it runs on.
    let began = Instant::now();
    bed.plug(0, false)?;
    bed.kill(0)?;
    bed.wait_state(0, "lost")?;
    println!(
        "a host that was cut off is lost after {:?}",
        began.elapsed()
    );
    let after = bed.wait_spread(&[(0, 0), (1, 4)])?;
    println!(
        "its instances serve on another host after {:?}",
        began.elapsed()
    );
    ensure!(bed.running(0).len() == 2, "{:?}", bed.running(0));
    let lost = &before["h1"];
    ensure!(
        !after["h2"].iter().any(|name| lost.contains(name)),
        "{after:?}"
    );
    for number in 1..=4 {
        let name = bed.ask(number)?;
        ensure!(after["h2"].contains(&name), "{name}: {after:?}");
    }
    let warnings = bed.controller.pool(&["list"])?;
    ensure!(warnings.contains("host h1 is lost"), "{warnings}");
    // It comes back with instances that nobody wants any more.
    bed.plug(0, true)?;
    bed.start(0, &[])?;
    bed.wait_state(0, "up")?;
    let collected = wait_for("what a host has of earlier epochs to go", PATIENCE, || {
        let running = bed.running(0);
        ensure!(running.is_empty(), "{running:?}");
        Ok(Some(()))
    });
    collected.with_context(|| bed.controller.output())?;
    let now = bed.wait_spread(&[(0, 0), (1, 4)])?;
    ensure!(now == after, "{now:?}, not {after:?}");
    Ok(())
}

pub fn a_silent_host_whose_instances_answer_is_left_alone() -> anyhow::Result<()> {
    let mut bed = Bed::new("silent", LOST_AFTER)?;
    bed.join(2)?;
    bed.add_web(4, &[])?;
    let before = bed.wait_spread(&[(0, 2), (1, 2)])?;
    bed.kill(0)?;
    let shown = bed.wait_state(0, "silent")?;
    ensure!(shown["instances"] == 2, "{shown}");
    wait_for("the witnesses", PATIENCE, || {
        let shown = bed.shown(0)?;
        let why = shown["why"].as_str().unwrap_or_default();
        ensure!(why.contains("its instances answer"), "{shown}");
        Ok(Some(()))
    })?;
    ensure!(bed.wait_spread(&[(0, 2), (1, 2)])? == before);
    bed.start(0, &[])?;
    bed.wait_state(0, "up")?;
    ensure!(bed.wait_spread(&[(0, 2), (1, 2)])? == before);
    ensure!(bed.running(0).len() == 2, "{:?}", bed.running(0));
    Ok(())
}

pub fn a_host_is_drained_and_removed() -> anyhow::Result<()> {
    let mut bed = Bed::new("drained", "")?;
    bed.join(2)?;
    bed.add_web(4, &[])?;
    bed.wait_spread(&[(0, 2), (1, 2)])?;
    let text = bed.refused("remove h1")?;
    ensure!(text.contains("drain it first"), "{text}");
    bed.run("drain h1")?;
    // At most one of the pool is away at a time.
    let mut fewest = 4;
    let drained = wait_for("a drained host", PATIENCE, || {
        let instances = bed.controller.instances("web")?;
        let serving = instances
            .iter()
            .filter(|one| matches!(one["state"].as_str(), Some("LU" | "MU" | "HU" | "SUNDOWN")));
        fewest = fewest.min(serving.count());
        let shown = bed.shown(0)?;
        ensure!(shown["instances"] == 0, "{shown}: {instances:?}");
        Ok(Some(()))
    });
    drained.with_context(|| bed.controller.output())?;
    ensure!(fewest >= 3, "{fewest} of 4 served");
    bed.wait_spread(&[(0, 0), (1, 4)])?;
    ensure!(bed.running(0).is_empty(), "{:?}", bed.running(0));
    bed.run("uncordon h1")?;
    bed.wait_state(0, "up")?;
    bed.run("cordon h1")?;
    bed.run("remove h1")?;
    let list = bed.run("list")?;
    ensure!(!list.contains("h1 "), "{list}");
    Ok(())
}

pub fn a_pool_without_room_waits_for_it() -> anyhow::Result<()> {
    let mut bed = Bed::new("room", "")?;
    bed.add_web(3, &["placement.anti_affinity=true"])?;
    let waited = wait_for("a pool that waits", PATIENCE, || {
        let list = bed_list(&bed)?;
        ensure!(list.contains("no host has joined"), "{list}");
        Ok(Some(()))
    });
    waited.with_context(|| bed.controller.output())?;
    bed.join(2)?;
    bed.wait_state(1, "up")?;
    let waited = wait_for("two instances and one without room", PATIENCE, || {
        let list = bed_list(&bed)?;
        ensure!(
            list.contains("1 instances wait for a host") && list.contains("anti_affinity"),
            "{list}"
        );
        Ok(Some(()))
    });
    waited.with_context(|| bed.controller.output())?;
    // As soon as there is room it is used.
    bed.join(1)?;
    bed.wait_spread(&[(0, 1), (1, 1), (2, 1)])?;
    let list = bed_list(&bed)?;
    ensure!(!list.contains("wait for a host"), "{list}");
    Ok(())
}

fn bed_list(bed: &Bed) -> anyhow::Result<String> {
    bed.controller.pool(&["list", "web"])
}

pub fn a_controller_that_is_killed_finds_its_hosts_again() -> anyhow::Result<()> {
    let mut bed = Bed::new("again", LOST_AFTER)?;
    bed.join(2)?;
    bed.add_web(4, &[])?;
    let before = bed.wait_spread(&[(0, 2), (1, 2)])?;
    for pause in [0, 300, 2_500] {
        bed.controller.kill()?;
        std::thread::sleep(Duration::from_millis(pause));
        for number in 1..=4 {
            bed.ask(number)?;
        }
        bed.controller.run()?;
        bed.wait_state(0, "up")?;
        bed.wait_state(1, "up")?;
        ensure!(bed.wait_spread(&[(0, 2), (1, 2)])? == before);
    }
    ensure!(bed.running(0).len() == 2 && bed.running(1).len() == 2);
    ensure!(!bed.output(0).contains("refuses"), "{}", bed.output(0));
    Ok(())
}
