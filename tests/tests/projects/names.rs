//! Names of load balancers in DNS, as the controller serves them.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context as _, ensure};
use lb_tests::wait_for;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::bed::{Bed, PATIENCE};

/// The settings of a controller that serves the zone at this address.
pub fn dns(address: IpAddr) -> String {
    format!(
        "[dns]\nzone = \"lb.example\"\nlisten = [\"{address}:53\"]\nname_servers = {{ \"ns1.lb.example\" = [\"{address}\"] }}\n"
    )
}

/// The addresses that a client finds.
pub fn look_up(bed: &Bed, name: &str) -> anyhow::Result<BTreeSet<String>> {
    let line = format!("dig +short +tries=1 +time=2 @{} {name} A", bed.host.v4);
    let answer = bed.clients.namespace().sh(&line)?;
    Ok(answer.lines().map(str::to_owned).collect())
}

fn wait_found(bed: &Bed, name: &str, addresses: &[&str]) -> anyhow::Result<()> {
    let wanted: BTreeSet<String> = addresses.iter().map(|text| (*text).to_owned()).collect();
    let waited = wait_for(&format!("{name} to have {wanted:?}"), PATIENCE, || {
        let found = look_up(bed, name)?;
        ensure!(found == wanted, "{found:?}");
        Ok(Some(()))
    });
    waited.with_context(|| {
        let shown = bed.run("lb show shop web");
        format!("{shown:?}\n{}", bed.controller.output())
    })
}

pub fn clients_find_a_load_balancer_by_its_name() -> anyhow::Result<()> {
    let mut bed = Bed::with("names", 1, dns)?;
    let one = bed.backends()[0].clone();
    bed.run("project add shop")?;
    let web = "web.shop.lb.example";
    ensure!(look_up(&bed, web)?.is_empty(), "it is not there yet");
    bed.run(&format!(
        "lb add shop web --backend {one} nodes=2 --wait 60"
    ))?;
    let shown = bed.wait_complete("shop", "web", 2)?;
    wait_found(&bed, web, &["10.10.60.11", "10.10.60.12"])?;
    wait_for("the URL to have the name", PATIENCE, || {
        let shown = bed.read("lb show shop web")?;
        ensure!(shown["url"] == format!("http://{web}/"), "{shown}");
        Ok(Some(()))
    })?;
    // A node that does not come back goes out of the name.
    let node = shown["nodes"][0]["name"].as_str().context("no node")?;
    let folder = bed.controller.state().join("balancers/2/1");
    std::fs::rename(&folder, folder.with_extension("away"))?;
    std::fs::write(&folder, "in the way")?;
    for pid in bed.controller.processes(node) {
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    }
    wait_found(&bed, web, &["10.10.60.12"])?;
    std::fs::remove_file(&folder)?;
    std::fs::rename(folder.with_extension("away"), &folder)?;
    wait_found(&bed, web, &["10.10.60.11", "10.10.60.12"])?;
    // A controller that begins again answers from its first moment.
    bed.controller.kill()?;
    bed.controller.run()?;
    ensure!(look_up(&bed, web)?.len() == 2, "the names were forgotten");
    // One that has had nodes keeps its addresses while none serves.
    for instance in bed.controller.instances("lb-2")? {
        for pid in bed
            .controller
            .processes(instance["name"].as_str().context("no name")?)
        {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        }
    }
    wait_for("the nodes to be replaced", PATIENCE, || {
        ensure!(!look_up(&bed, web)?.is_empty(), "the name is gone");
        let instances = bed.controller.instances("lb-2")?;
        let is_new = |one: &serde_json::Value| one["name"] != node && one["phase"] == "running";
        Ok(instances.iter().all(is_new).then_some(()))
    })?;
    bed.run("lb del shop web")?;
    wait_found(&bed, web, &[])?;
    let (_, metrics) = bed.http_text("/metrics")?;
    let answered = metrics
        .lines()
        .find_map(|line| line.strip_prefix("lb_dns_messages_total{kind=\"noerror\"} "));
    ensure!(answered.is_some_and(|count| count != "0"), "{metrics}");
    Ok(())
}
