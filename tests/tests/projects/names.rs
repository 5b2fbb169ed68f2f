//! Names of load balancers in DNS, as the controller serves them.

use std::{collections::BTreeSet, fs, net::IpAddr, time::Instant};

use anyhow::{Context as _, ensure};
use lb_dns::{DnsSpec, Push};
use lb_tests::{
    server::{NameServer, NameServerKind},
    wait_for,
};
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
    fs::rename(&folder, folder.with_extension("away"))?;
    fs::write(&folder, "in the way")?;
    for pid in bed.controller.processes(node) {
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    }
    wait_found(&bed, web, &["10.10.60.12"])?;
    fs::remove_file(&folder)?;
    fs::rename(folder.with_extension("away"), &folder)?;
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

/// Another DNS server gets the names. One that nothing refers to is left for the collector's grace period, one whose load balancer is
/// deleted goes at once.
pub fn pushed_names_that_nothing_refers_to_have_a_grace_period() -> anyhow::Result<()> {
    const ZONE: &str = "lb.example.com";
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key");
    let push = format!(
        "{{ server = \"127.0.0.1:53\", key_file = \"{}\", timeout = \"5s\" }}",
        key.display()
    );
    let settings =
        format!("[dns]\nzone = \"{ZONE}\"\npush = {push}\n[collector]\ngrace = \"5s\"\n");
    let mut bed = Bed::with("collect", 1, |_| settings)?;
    let one = bed.backends()[0].clone();
    let namespace = bed.host.namespace();
    let server = NameServer::start(NameServerKind::Bind, namespace, ZONE, "", "hmac-sha256")?;
    fs::copy(server.key_file("lbkey"), &key)?;
    bed.run("project add shop")?;
    bed.run(&format!("lb add shop web --backend {one} --wait 60"))?;
    let (web, ghost) = ("web.shop.lb.example.com", "ghost.shop.lb.example.com");
    let wait = |bed: &Bed, name: &str, is_there: bool| {
        let waited = wait_for(&format!("{name}: {is_there}"), PATIENCE, || {
            let found = server.records(name, "A")?;
            ensure!(found.is_empty() != is_there, "{found:?}");
            Ok(Some(()))
        });
        waited.with_context(|| bed.controller.output())
    };
    wait(&bed, web, true)?;
    // As a controller leaves it that is killed after it has forgotten a load balancer, and before it has said so.
    bed.controller.kill()?;
    let spec = serde_json::json!({
        "zone": ZONE,
        "push": { "server": server.address().to_string(), "key_file": key, "timeout": "5s" },
    });
    let spec: DnsSpec = lb_model::settings::from_map(spec.as_object().context("no object")?)?;
    let push = Push::new(&spec, spec.push.as_ref().context("no push")?);
    bed.host.namespace().block_on(async {
        let addresses = ["192.0.2.7".parse()?].into();
        anyhow::Ok(push.set(&"ghost.shop".parse()?, &addresses).await?)
    })?;
    wait(&bed, ghost, true)?;
    bed.controller.run()?;
    let began = Instant::now();
    let shown = wait_for("an orphan", PATIENCE, || {
        let shown = bed.read("orphans")?.to_string();
        // The other one is known again as soon as its node is seen to serve.
        ensure!(shown.contains(ghost) && !shown.contains(web), "{shown}");
        Ok(Some(shown))
    });
    let shown = shown.with_context(|| bed.controller.output())?;
    ensure!(shown.contains("\"name\""), "{shown}");
    ensure!(
        !server.records(ghost, "A")?.is_empty(),
        "it has its grace period"
    );
    wait(&bed, ghost, false)?;
    let took = began.elapsed();
    println!("a name that nothing refers to was removed after {took:?}");
    ensure!(took.as_secs_f64() > 4.0, "{took:?}");
    ensure!(!server.records(web, "A")?.is_empty(), "the other one stays");
    let (_, metrics) = bed.http_text("/metrics")?;
    ensure!(
        metrics.contains("lb_controller_orphans_removed_total{kind=\"name\"} 1"),
        "{metrics}"
    );
    let began = Instant::now();
    bed.run("lb del shop web")?;
    wait(&bed, web, false)?;
    println!(
        "the name of a load balancer that was deleted went after {:?}",
        began.elapsed()
    );
    Ok(())
}
