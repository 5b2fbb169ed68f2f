//! What a tenant does: projects and load balancers come, change and go.

use std::fs;

use anyhow::ensure;
use lb_tests::wait_for;

use crate::bed::{Bed, PATIENCE, address};

pub fn a_project_gets_a_load_balancer_and_a_url() -> anyhow::Result<()> {
    let bed = Bed::new("story", 2)?;
    bed.run("project add shop quota.nodes=3")?;
    let [one, two] = [0, 1].map(|at| bed.backends()[at].clone());
    let added = bed.run(&format!("lb add shop web --backend {one} --backend {two} check.kind=http check.interval=500ms --wait 60"))?;
    ensure!(
        added.contains("shop/web (2): serving at http://10.10.60.11/"),
        "{added}"
    );
    let balancer = bed.wait_complete("shop", "web", 1)?;
    let at = address(&balancer)?;
    bed.wait_answers(&at, 80, &[&bed.servers[0].0, &bed.servers[1].0])?;
    // Another project's load balancer is another one, for all that both are called web.
    bed.run("project add bank")?;
    bed.run(&format!(
        "lb add bank web --backend {two} port=8080 --wait 60"
    ))?;
    let other = bed.wait_complete("bank", "web", 1)?;
    let other = address(&other)?;
    ensure!(other == "10.10.60.13", "{other}");
    bed.wait_answers(&other, 8080, &[&bed.servers[1].0])?;
    let list = bed.run("lb list")?;
    for words in [
        "shop",
        "bank",
        "http://10.10.60.11/",
        "http://10.10.60.13:8080/",
        "1 of 1",
    ] {
        ensure!(list.contains(words), "{words}: {list}");
    }
    // A quota is one for all load balancers of a project.
    bed.run("lb set shop web nodes=2")?;
    let text = bed.refused("lb add shop api nodes=2")?;
    ensure!(
        text.contains("may have 3 nodes, and would have 4"),
        "{text}"
    );
    // The pool of the nodes is the load balancer's.
    let text = bed.refused("pool scale lb-2 1")?;
    ensure!(text.contains("has the nodes of a load balancer"), "{text}");
    let text = bed
        .refused("pool add lb-77 driver.kind=process network.port=1 template.program=/bin/true")?;
    ensure!(
        text.contains("pools of load balancers have such names"),
        "{text}"
    );
    Ok(())
}

pub fn a_load_balancer_follows_its_settings() -> anyhow::Result<()> {
    let mut bed = Bed::new("follows", 2)?;
    let [one, two] = [0, 1].map(|at| bed.backends()[at].clone());
    bed.run("project add shop")?;
    bed.run(&format!("lb add shop web --backend {one} --wait 60"))?;
    let at = address(&bed.wait_complete("shop", "web", 1)?)?;
    bed.wait_answers(&at, 80, &[&bed.servers[0].0])?;
    // Other backends: the node goes on, and follows.
    let before = bed.controller.instances("lb-2")?[0]["name"].clone();
    bed.run(&format!(
        "lb set shop web --backend {two} check.kind=http check.interval=300ms"
    ))?;
    bed.wait_complete("shop", "web", 1)?;
    bed.wait_answers(&at, 80, &[&bed.servers[1].0])?;
    ensure!(
        bed.controller.instances("lb-2")?[0]["name"] == before,
        "the node was replaced"
    );
    // A backend that fails its check gets nothing.
    bed.run(&format!("lb set shop web --backend {one} --backend {two}"))?;
    bed.wait_answers(&at, 80, &[&bed.servers[0].0, &bed.servers[1].0])?;
    bed.servers[0].1.ask_to_end();
    bed.wait_answers(&at, 80, &[&bed.servers[1].0])?;
    // More nodes, and another port: nodes are replaced.
    bed.run("lb set shop web nodes=2 port=8080")?;
    let balancer = bed.wait_complete("shop", "web", 2)?;
    let addresses = balancer["addresses"].as_array().unwrap();
    for address in addresses {
        bed.wait_answers(address.as_str().unwrap(), 8080, &[&bed.servers[1].0])?;
    }
    ensure!(bed.ask(&at, 80).is_err(), "the old port is served");
    bed.run("lb set shop web nodes=")?;
    bed.wait_complete("shop", "web", 1)?;
    // Connections, not requests.
    bed.run("lb set shop web protocol=tcp backend_port=80")?;
    let balancer = bed.wait_complete("shop", "web", 1)?;
    ensure!(
        balancer["url"]
            .as_str()
            .unwrap()
            .starts_with("tcp://10.10.60."),
        "{balancer}"
    );
    bed.wait_answers(&address(&balancer)?, 8080, &[&bed.servers[1].0])?;
    Ok(())
}

pub fn what_is_deleted_goes_with_all_that_it_had() -> anyhow::Result<()> {
    let mut bed = Bed::new("deleted", 1)?;
    let one = bed.backends()[0].clone();
    bed.run("project add shop")?;
    for name in ["web", "api"] {
        bed.run(&format!("lb add shop {name} --backend {one} --wait 60"))?;
    }
    let web = address(&bed.wait_complete("shop", "web", 1)?)?;
    bed.run("lb del shop web")?;
    let gone = |bed: &Bed, id: u64| {
        wait_for("the load balancer to be gone", PATIENCE, || {
            let list = bed.read("lb list shop")?;
            let is_there = list.as_array().unwrap().iter().any(|one| one["id"] == id);
            ensure!(!is_there, "{list}");
            Ok(Some(()))
        })
    };
    gone(&bed, 2)?;
    ensure!(
        bed.controller.running().len() == 1,
        "{:?}",
        bed.controller.running()
    );
    ensure!(
        !bed.controller.state().join("balancers/2").exists(),
        "its folder is left"
    );
    // Its addresses are free again, and its name, but not its id.
    bed.run(&format!("lb add shop web --backend {one} --wait 60"))?;
    let again = bed.wait_complete("shop", "web", 1)?;
    ensure!(again["id"] == 4 && address(&again)? == web, "{again}");
    let text = bed.refused("project del shop")?;
    ensure!(text.contains("the load balancers api, web"), "{text}");
    // The controller is killed while everything goes.
    bed.run("project del shop --everything")?;
    bed.controller.kill()?;
    bed.controller.run()?;
    wait_for("the project to be gone", PATIENCE, || {
        let list = bed.read("project list")?;
        ensure!(list.as_array().is_some_and(Vec::is_empty), "{list}");
        Ok(Some(()))
    })?;
    ensure!(
        bed.controller.running().is_empty(),
        "{:?}",
        bed.controller.running()
    );
    let left = fs::read_dir(bed.controller.state().join("balancers"))?.count();
    ensure!(left == 0, "{left} folders are left");
    Ok(())
}
