//! Pools behind load balancers.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use lb_tests::{
    client::{Connections, HttpPlan, http_load},
    server::WEB_SERVER,
    wait_for,
};

use crate::{
    bed::{Bed, PATIENCE, address},
    names::{dns, look_up},
};

/// Instances of the pool at most.
const MOST: usize = 4;

/// Adds a pool of web servers at ports of the host.
fn add_pool(bed: &Bed, name: &str, port: u16, more: &str) -> anyhow::Result<String> {
    let script = bed.controller.folder().join("server.pl");
    fs::write(&script, WEB_SERVER)?;
    bed.run(&format!(
        "pool add {name} driver.kind=process network.port={port} network.address={} template.program=/usr/bin/perl \
         template.arguments=['{}','{{port}}'] template.stop_grace=2s check.kind=http check.interval=1s \
         check.fast_interval=100ms {more}",
        bed.host.v4,
        script.display(),
    ))
}

/// The instances of a pool that serve.
fn serving(bed: &Bed, pool: &str) -> anyhow::Result<Vec<String>> {
    let instances = bed.controller.instances(pool)?;
    let is_serving = |state: &str| matches!(state, "LU" | "MU" | "HU");
    let serving = instances
        .iter()
        .filter(|one| one["state"].as_str().is_some_and(is_serving));
    Ok(serving
        .filter_map(|one| one["name"].as_str().map(str::to_owned))
        .collect())
}

fn wait_serving(bed: &Bed, pool: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let what = format!("{count} instances of {pool} to serve");
    let waited = wait_for(&what, PATIENCE * 2, || {
        let serving = serving(bed, pool)?;
        ensure!(serving.len() == count, "{serving:?}");
        Ok(Some(serving))
    });
    waited.with_context(|| bed.controller.output())
}

/// The load balancer is reached by its name; its pool grows from one instance to four and shrinks again by the requests that its
/// node counts, and no request is lost.
pub fn a_pool_behind_a_load_balancer_grows_and_shrinks() -> anyhow::Result<()> {
    let bed = Bed::with("pool", 0, dns)?;
    bed.run("project add shop")?;
    add_pool(
        &bed,
        "web",
        20_000,
        "projects=['shop'] scaling.min=1 scaling.max=4 scaling.requests=1000 scaling.requests_over=10s scaling.load_over=5s \
         scaling.surge_over=2s scaling.period=1s scaling.in_after=10s scaling.in_every=1s scaling.drain_natural=2s \
         scaling.start_up=1s scaling.policies=['requests']",
    )?;
    bed.run("lb add shop www pool=web --wait 60")?;
    let balancer = bed.wait_complete("shop", "www", 1)?;
    let name = "www.shop.lb.example";
    wait_for("its name", PATIENCE, || {
        let found = look_up(&bed, name)?;
        Ok(found.contains(&address(&balancer)?).then_some(()))
    })?;
    let address = look_up(&bed, name)?
        .into_iter()
        .next()
        .context("no address")?;
    let first = wait_serving(&bed, "web", 1)?;
    wait_for("an answer", PATIENCE, || {
        Ok((bed.ask(&address, 80)? == first[0]).then_some(()))
    })?;
    let plan = |workers, pause| HttpPlan {
        target: SocketAddr::new(address.parse().unwrap(), 80),
        workers,
        connections: Connections::Kept,
        pause: Duration::from_millis(pause),
        requests: None,
    };
    // About 500 requests a second; an instance is meant to answer 100.
    let heavy = http_load(bed.clients.namespace(), plan(10, 20));
    let grown = wait_serving(&bed, "web", MOST)?;
    for instance in &grown {
        wait_for("each instance to answer", PATIENCE, || {
            let server = bed.ask(&address, 80)?;
            Ok((server == *instance).then_some(()))
        })?;
    }
    let report = heavy.stop()?;
    println!(
        "heavy: {} requests, {} failed",
        report.requests, report.failed
    );
    ensure!(report.failed == 0, "{:?}", report.errors);
    let light = http_load(bed.clients.namespace(), plan(1, 50));
    wait_serving(&bed, "web", 1)?;
    let report = light.stop()?;
    println!(
        "light: {} requests, {} failed",
        report.requests, report.failed
    );
    ensure!(report.failed == 0, "{:?}", report.errors);
    Ok(())
}

pub fn a_pool_is_behind_load_balancers_of_its_projects_only() -> anyhow::Result<()> {
    let mut bed = Bed::new("allowed", 1)?;
    bed.run("project add shop")?;
    bed.run("project add bank")?;
    add_pool(&bed, "web", 20_000, "projects=['shop']")?;
    for (line, words) in [
        (
            "lb add bank www pool=web",
            "pool: web: there is no such pool for the project bank",
        ),
        (
            "lb add shop www pool=none",
            "pool: none: there is no such pool for the project shop",
        ),
        (
            "lb add shop www pool=web --backend 10.0.0.1",
            "remove one of both",
        ),
        (
            "lb add shop www pool=web check.kind=http",
            "remove the check",
        ),
    ] {
        let text = bed.refused(line)?;
        ensure!(text.contains(words), "{line}: {text}");
    }
    bed.run("lb add shop www pool=web --wait 60")?;
    let at = address(&bed.wait_complete("shop", "www", 1)?)?;
    let instance = wait_serving(&bed, "web", 1)?[0].clone();
    wait_for("an answer", PATIENCE, || {
        Ok((bed.ask(&at, 80)? == instance).then_some(()))
    })?;
    // A node goes on without the controller, and finds it again.
    bed.controller.kill()?;
    ensure!(bed.ask(&at, 80)? == instance, "the node has forgotten");
    bed.controller.run()?;
    bed.run("pool scale web 2")?;
    let two = wait_serving(&bed, "web", 2)?;
    for instance in &two {
        wait_for("both instances to answer", PATIENCE, || {
            Ok((bed.ask(&at, 80)? == *instance).then_some(()))
        })
        .with_context(|| bed.controller.output())?;
    }
    // What the operator takes back is said, and ends.
    bed.run("pool set web projects=[]")?;
    wait_for("the reason", PATIENCE, || {
        let shown = bed.read("lb show shop www")?;
        let text = shown.to_string();
        ensure!(
            text.contains("there is no such pool for the project shop"),
            "{text}"
        );
        Ok(Some(()))
    })?;
    // The load balancer can have other backends instead.
    let one = bed.backends()[0].clone();
    bed.run(&format!("lb set shop www --backend {one}"))?;
    bed.wait_complete("shop", "www", 1)?;
    bed.wait_answers(&at, 80, &[&bed.servers[0].0])
}

pub fn pools_of_environments_count_in_the_quota() -> anyhow::Result<()> {
    let mut bed = Bed::new("quota", 0)?;
    bed.run("project add shop quota.instances=2")?;
    bed.run("env create shop site")?;
    let script = bed.controller.folder().join("server.pl");
    fs::write(&script, WEB_SERVER)?;
    let add = |bed: &Bed, name: &str, port: u16, most: u32| {
        bed.run(&format!(
            "env add shop site {name} role=app pool.driver.kind=process pool.network.port={port} pool.network.address={} \
             pool.template.program=/usr/bin/perl pool.template.arguments=['{}','{{port}}'] pool.template.stop_grace=1s \
             pool.scaling.min=1 pool.scaling.max={most} --wait 60",
            bed.host.v4,
            script.display(),
        ))
    };
    add(&bed, "web", 21_000, 2)?;
    let refused = |bed: &Bed| {
        let error = add(bed, "db", 22_000, 1).err().context("not refused")?;
        let shown = format!("{error} {}", bed.run("command list")?);
        ensure!(
            shown.contains("2 instances of environments, and would have 3"),
            "{shown}"
        );
        let shown = bed.run("env show shop site")?;
        ensure!(!shown.contains("db"), "{shown}");
        anyhow::Ok(())
    };
    refused(&bed)?;
    // Another run of the controller knows what there is.
    bed.controller.kill()?;
    bed.controller.run()?;
    refused(&bed)?;
    let error = bed.run("project set shop quota.instances=1").err();
    let error = error.context("not refused")?.to_string();
    ensure!(error.contains("instances of environments"), "{error}");
    bed.run("env remove shop site web --wait 60")?;
    add(&bed, "db", 22_000, 1)?;
    bed.run("project set shop quota.instances=1").map(drop)
}
