//! Load balancers whose nodes are virtual machines.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use lb_drivers::host_interface;
use lb_tests::{Controller, Host, Network, client, guest, server::Nginx, wait_for};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::bed::PATIENCE;

struct Provider {
    client: Host,
    controller: Controller,
    servers: Vec<(Host, Nginx)>,
    host: Host,
    owner: String,
    _folder: tempfile::TempDir,
    _network: Network,
}

impl Provider {
    fn new() -> anyhow::Result<Self> {
        let network = Network::new()?;
        let client = network.client()?;
        let host = network.real()?;
        host.bridge()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("controller.toml");
        fs::write(
            &file,
            format!(
                r#"
[nodes]
driver = {{ kind = "qemu" }}
bridge = "br0"
range = "10.10.60.11-10.10.60.30/16"
each = 2
vm = {{ kernel = "{}", initrd = "{}", ram = "256MiB", boot = "saved" }}
[dns]
zone = "lb.example"
listen = ["{}:53"]
name_servers = {{ "ns1.lb.example" = ["{}"] }}
"#,
                guest("vmlinuz").display(),
                guest("initrd-proxy").display(),
                host.v4,
                host.v4,
            ),
        )?;
        let name = format!("test-{}-nodes", std::process::id());
        let options = ["--config", &file.display().to_string()];
        let controller = Controller::start(Some(host.namespace()), &name, &options)?;
        let servers = (0..2).map(|_| {
            let host = network.real()?;
            let nginx = Nginx::start(&host, 80)?;
            Ok((host, nginx))
        });
        Ok(Provider {
            client,
            controller,
            servers: servers.collect::<anyhow::Result<_>>()?,
            host,
            owner: name,
            _folder: folder,
            _network: network,
        })
    }

    fn run(&self, line: &str) -> anyhow::Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, words) = words.split_first().context("no verb")?;
        self.controller.lbctl(verb, words)
    }

    /// Waits until a load balancer serves by its newest settings, and returns where.
    fn wait_complete(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let waited = wait_for("a node that serves", PATIENCE * 2, || {
            let shown = self.run(&format!("lb show shop {name} -o json"))?;
            let shown: Value = serde_json::from_str(&shown)?;
            let node = &shown["nodes"][0];
            let is_newest = shown["generation"] == shown["observed_generation"];
            ensure!(node["serving"] == true && is_newest, "{shown}");
            let address = shown["addresses"][0].as_str().context("no address")?;
            Ok(Some(SocketAddr::new(address.parse()?, 80)))
        });
        waited.with_context(|| self.controller.output())
    }

    /// The node of a load balancer.
    fn node(&self, name: &str) -> anyhow::Result<String> {
        let shown = self.run(&format!("lb show shop {name} -o json"))?;
        let shown: Value = serde_json::from_str(&shown)?;
        let node = shown["nodes"][0]["name"].as_str();
        Ok(node
            .with_context(|| format!("no node: {shown}"))?
            .to_owned())
    }

    /// Waits until a client that looks up the name of a load balancer is answered by this server, and returns how long that
    /// took since `begin`.
    fn wait_named(&self, name: &str, server: usize, begin: Instant) -> anyhow::Result<Duration> {
        let wanted = self.servers[server].0.label();
        let line = format!(
            "dig +short +tries=1 +time=2 @{} {name}.shop.lb.example A",
            self.host.v4
        );
        let waited = wait_for("an answer by name", PATIENCE, || {
            let found = self.client.sh(&line)?;
            let address = found.lines().next().context("no address")?;
            let target = SocketAddr::new(address.parse()?, 80);
            let (answer, _) = client::get(self.client.namespace(), target, "/")?;
            ensure!(answer == wanted, "{answer}, not {wanted}");
            Ok(Some(begin.elapsed()))
        });
        waited.with_context(|| self.controller.output())
    }

    fn wait_answer(&self, at: SocketAddr, server: usize) -> anyhow::Result<()> {
        let wanted = self.servers[server].0.label();
        wait_for("the answer of a backend", PATIENCE, || {
            let (answer, _) = client::get(self.client.namespace(), at, "/")?;
            ensure!(answer == wanted, "{answer}, not {wanted}");
            Ok(Some(()))
        })
        .with_context(|| self.controller.output())
    }
}

pub fn a_load_balancer_is_served_by_a_machine() -> anyhow::Result<()> {
    let provider = Provider::new()?;
    let backend = |number: usize| provider.servers[number].0.v4.to_string();
    provider.run("project add shop")?;
    let begin = Instant::now();
    provider.run(&format!("lb add shop first --backend {}", backend(0)))?;
    let first = provider.wait_complete("first")?;
    let serving = begin.elapsed();
    let named = provider.wait_named("first", 0, begin)?;
    println!("a node whose kernel boots serves after {serving:?}, by its name after {named:?}");
    provider.wait_answer(first, 0)?;
    // It follows its settings as it runs.
    let begin = Instant::now();
    provider.run(&format!("lb set shop first --backend {}", backend(1)))?;
    provider.wait_complete("first")?;
    println!("a node follows after {:?}", begin.elapsed());
    provider.wait_answer(first, 1)?;
    // From now on there is a state to start from.
    let states = provider.controller.state().join("qemu-states");
    wait_for("a saved state", PATIENCE * 2, || {
        let entries = fs::read_dir(&states)?.collect::<Result<Vec<_>, _>>()?;
        let is_ready =
            |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with("new-");
        Ok(entries.iter().any(is_ready).then_some(()))
    })
    .with_context(|| provider.controller.output())?;
    let begin = Instant::now();
    provider.run(&format!("lb add shop second --backend {}", backend(0)))?;
    let second = provider.wait_complete("second")?;
    println!(
        "a node from a saved state serves after {:?}",
        begin.elapsed()
    );
    let named = provider.wait_named("second", 0, begin)?;
    println!("and by its name after {named:?}");
    provider.wait_answer(second, 0)?;
    provider.wait_answer(first, 1)?;
    // One that dies, hangs or cannot be reached is replaced at its address.
    for what in ["killed", "frozen", "cut off"] {
        let node = provider.node("second")?;
        let folder = provider.controller.state().join("qemu").join(&node);
        let pid: i32 = fs::read_to_string(folder.join("qemu.pid"))?
            .trim()
            .parse()?;
        let begin = Instant::now();
        match what {
            "killed" => kill(Pid::from_raw(pid), Signal::SIGKILL)?,
            "frozen" => kill(Pid::from_raw(pid), Signal::SIGSTOP)?,
            _ => {
                let tap = host_interface(&provider.owner, &node.parse()?);
                provider.host.sh(&format!("ip link set {tap} down"))?;
            }
        }
        let other = wait_for("another node", PATIENCE, || {
            let now = provider.node("second")?;
            Ok((now != node).then_some(now))
        });
        other.with_context(|| provider.controller.output())?;
        let named = provider.wait_named("second", 0, begin)?;
        println!("a node that was {what}: served again by its name after {named:?}");
        provider.wait_complete("second")?;
    }
    provider.wait_answer(first, 1)?;
    provider.run("lb del shop first")?;
    provider.run("lb del shop second")?;
    wait_for("the end of the machines", PATIENCE, || {
        let list: Value = serde_json::from_str(&provider.run("lb list shop -o json")?)?;
        ensure!(list.as_array().is_some_and(Vec::is_empty), "{list}");
        Ok(Some(()))
    })
    .with_context(|| provider.controller.output())?;
    Ok(())
}
