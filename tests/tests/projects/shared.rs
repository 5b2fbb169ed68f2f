//! Shared load balancers: VIPs of an agent.

use std::{collections::BTreeSet, fs, net::SocketAddr, time::Instant};

use anyhow::{Context as _, ensure};
use lb_tests::{AgentOptions, Controller, Host, Testbed, client, server::Nginx, wait_for};
use serde_json::Value;

use crate::bed::PATIENCE;

/// The address of the first shared load balancer.
const VIP: &str = "192.0.2.10";

/// An agent with two web servers, and a controller that has it make shared load balancers.
struct Shared {
    controller: Controller,
    testbed: Testbed<Nginx>,
    host: Host,
    _folder: tempfile::TempDir,
}

impl Shared {
    fn new(name: &str) -> anyhow::Result<Self> {
        let testbed = Testbed::<Nginx>::new(2, &["192.0.2.10:80/tcp"], AgentOptions::default())?;
        let host = testbed.network.real()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("controller.toml");
        let address = host.v4;
        fs::write(
            &file,
            format!(
                "agents = [\"{}\"]\n[shared]\nrange = \"{VIP}-192.0.2.13/24\"\n[dns]\nzone = \"lb.example\"\n\
                 listen = [\"{address}:53\"]\nname_servers = {{ \"ns1.lb.example\" = [\"{address}\"] }}\n",
                testbed.agent.endpoint()
            ),
        )?;
        let name = lb_tests::owner(name);
        let options = ["--config", &file.display().to_string()];
        let controller = Controller::start(Some(host.namespace()), &name, &options)?;
        Ok(Shared {
            controller,
            testbed,
            host,
            _folder: folder,
        })
    }

    fn run(&self, line: &str) -> anyhow::Result<String> {
        self.controller.ctl(line)
    }

    /// The addresses that clients find for a load balancer of the project shop.
    fn look_up(&self, balancer: &str) -> anyhow::Result<String> {
        let line = format!(
            "dig +short +tries=1 +time=2 @{} {balancer}.shop.lb.example A",
            self.host.v4
        );
        let answer = self.testbed.client.namespace().sh(&line)?;
        Ok(answer.trim().to_owned())
    }

    fn ask(&self) -> anyhow::Result<String> {
        let target = SocketAddr::new(VIP.parse()?, 80);
        Ok(client::get(self.testbed.client.namespace(), target, "/")?.0)
    }

    fn wait_answers(&self, servers: &[&Host]) -> anyhow::Result<()> {
        let wanted: BTreeSet<&str> = servers.iter().map(|host| host.label()).collect();
        wait_for("answers of all servers", PATIENCE, || {
            let answers: Vec<String> =
                (0..40).map(|_| self.ask()).collect::<anyhow::Result<_>>()?;
            let names: BTreeSet<&str> = answers.iter().map(String::as_str).collect();
            ensure!(names == wanted, "{names:?}, not {wanted:?}");
            Ok(Some(()))
        })
        .with_context(|| self.controller.output())
    }

    /// The VIPs of the agent, as JSON.
    fn vips(&self) -> anyhow::Result<Value> {
        self.testbed.agent.ctl_json("list")
    }
}

pub fn a_shared_load_balancer_is_a_vip_of_the_agents() -> anyhow::Result<()> {
    let mut bed = Shared::new("shared")?;
    bed.run("project add shop")?;
    let [one, two] = [0, 1].map(|at| bed.testbed.backends[at].address());
    let begin = Instant::now();
    bed.run(&format!(
        "lb add shop web kind=shared protocol=tcp port=80 --backend {one} --backend {two} check.kind=http check.interval=500ms"
    ))?;
    wait_for("its name and an answer", PATIENCE, || {
        let is_named = bed.look_up("web")? == VIP;
        Ok((is_named && bed.ask().is_ok()).then_some(()))
    })
    .with_context(|| bed.controller.output())?;
    println!(
        "a shared load balancer: created, in DNS and answering after {:?}",
        begin.elapsed()
    );
    let hosts = |bed: &Shared, which: &[usize]| {
        let hosts: Vec<&Host> = which
            .iter()
            .map(|at| &bed.testbed.backends[*at].host)
            .collect();
        bed.wait_answers(&hosts)
    };
    hosts(&bed, &[0, 1])?;
    let shown = bed.run("lb show shop web")?;
    for words in [
        "tcp://web.shop.lb.example:80",
        "2 of 2 backends are up, at 1 of 1 agents",
        "all 1 agents have it",
    ] {
        ensure!(shown.contains(words), "{words}: {shown}");
    }
    let owner = format!("controller:{}", bed.controller.name);
    let vips = bed.vips()?.to_string();
    ensure!(vips.contains(&owner), "{vips}");
    // Its settings are followed.
    bed.run(&format!("lb set shop web --backend {two}"))?;
    hosts(&bed, &[1])?;
    bed.run(&format!("lb set shop web --backend {one} --backend {two}"))?;
    hosts(&bed, &[0, 1])?;
    // A controller that is away is missed by nobody, and finds everything again.
    bed.controller.kill()?;
    hosts(&bed, &[0, 1])?;
    bed.controller.run()?;
    ensure!(bed.look_up("web")? == VIP, "the name was forgotten");
    hosts(&bed, &[0, 1])?;
    // What somebody removes comes back.
    bed.testbed
        .agent
        .ctl(&format!("del-vip {VIP}:80/tcp --force"))?;
    hosts(&bed, &[0, 1])?;
    // All backends are down: it does not serve, and says so.
    for backend in &mut bed.testbed.backends {
        backend.server.ask_to_end();
    }
    wait_for("the end of its service", PATIENCE, || {
        let shown = bed.run("lb show shop web")?;
        ensure!(shown.contains("0 of 2 backends are up"), "{shown}");
        Ok(Some(()))
    })?;
    ensure!(bed.look_up("web")? == VIP, "it keeps its address meanwhile");
    bed.run("lb del shop web")?;
    wait_for("the end of its VIP", PATIENCE, || {
        let vips = bed.vips()?.to_string();
        ensure!(!vips.contains(VIP), "{vips}");
        ensure!(bed.look_up("web")?.is_empty(), "its name is there");
        Ok(Some(()))
    })
    .with_context(|| bed.controller.output())
}

pub fn what_a_vip_cannot_do_is_refused() -> anyhow::Result<()> {
    let bed = Shared::new("refusals")?;
    bed.run("project add shop")?;
    for (line, words) in [
        ("lb add shop a kind=shared", "a VIP carries connections"),
        (
            "lb add shop a kind=shared protocol=tcp port=80 --backend web.example",
            "a VIP has addresses behind it",
        ),
        (
            "lb add shop a kind=shared protocol=udp port=53 --backend 10.0.0.1:54",
            "packets reach the backends with the port of the clients, 53",
        ),
        (
            "lb add shop a protocol=udp port=53",
            "nodes are proxies of connections",
        ),
        ("lb add shop a", "its operator has to give it `[nodes]`"),
    ] {
        let error = bed.run(line).err().context("not refused")?.to_string();
        ensure!(error.contains(words), "{line}: {error}");
    }
    // Each gets one address, until there are no more; UDP as well as TCP.
    for (at, protocol) in ["tcp", "udp", "tcp", "udp"].iter().enumerate() {
        bed.run(&format!(
            "lb add shop lb{at} kind=shared protocol={protocol} port=53 --backend 10.10.1.9"
        ))?;
    }
    let error = bed
        .run("lb add shop more kind=shared protocol=tcp port=53")
        .err()
        .context("not refused")?
        .to_string();
    ensure!(error.contains("widen `shared.range`"), "{error}");
    let error = bed.run("lb set shop lb0 kind=node").err();
    let error = error.context("not refused")?.to_string();
    ensure!(error.contains("it stays as it was created"), "{error}");
    wait_for("four VIPs", PATIENCE, || {
        let vips = bed.vips()?.to_string();
        let are_there = [
            "192.0.2.10:53/tcp",
            "192.0.2.11:53/udp",
            "192.0.2.13:53/udp",
        ];
        ensure!(are_there.iter().all(|vip| vips.contains(vip)), "{vips}");
        Ok(Some(()))
    })
    .with_context(|| bed.controller.output())?;
    // An operator's VIP is left alone, and its load balancer says so.
    bed.run("lb del shop lb0")?;
    wait_for("the end of a VIP", PATIENCE, || {
        Ok((!bed.vips()?.to_string().contains("192.0.2.10:53/tcp")).then_some(()))
    })?;
    bed.testbed.agent.ctl("add-vip 192.0.2.10:80/tcp")?;
    bed.run("lb add shop mine kind=shared protocol=tcp port=80 --backend 10.10.1.9")?;
    wait_for("the reason", PATIENCE, || {
        let shown = bed.run("lb show shop mine")?;
        ensure!(
            shown.contains("it refuses the VIP 192.0.2.10:80/tcp"),
            "{shown}"
        );
        Ok(Some(()))
    })
    .with_context(|| bed.controller.output())?;
    bed.run("project del shop --everything")?;
    wait_for("one VIP to be left", PATIENCE, || {
        let vips = bed.vips()?.to_string();
        ensure!(
            !vips.contains("192.0.2.11") && vips.contains("192.0.2.10:80/tcp"),
            "{vips}"
        );
        Ok(Some(()))
    })
}
