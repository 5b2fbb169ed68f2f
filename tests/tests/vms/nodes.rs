//! Load balancers whose nodes are virtual machines.

use std::{fs, net::SocketAddr, time::Instant};

use anyhow::{Context as _, ensure};
use lb_tests::{Controller, Host, Network, client, guest, server::Nginx, wait_for};
use serde_json::Value;

use crate::bed::PATIENCE;

struct Provider {
    client: Host,
    controller: Controller,
    servers: Vec<(Host, Nginx)>,
    _host: Host,
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
"#,
                guest("vmlinuz").display(),
                guest("initrd-proxy").display(),
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
            _host: host,
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
    println!(
        "a node whose kernel boots serves after {:?}",
        begin.elapsed()
    );
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
    provider.wait_answer(second, 0)?;
    provider.wait_answer(first, 1)?;
    // One that dies is replaced at its address.
    let pool = provider.run("lb show shop second -o json")?;
    let shown: Value = serde_json::from_str(&pool)?;
    let node = shown["nodes"][0]["name"].as_str().context("no node")?;
    let pid = provider
        .controller
        .state()
        .join("qemu")
        .join(node)
        .join("qemu.pid");
    let pid: i32 = fs::read_to_string(pid)?.trim().parse()?;
    let begin = Instant::now();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )?;
    wait_for("another node", PATIENCE, || {
        let shown: Value = serde_json::from_str(&provider.run("lb show shop second -o json")?)?;
        let now = shown["nodes"][0]["name"].as_str().context("no node")?;
        ensure!(
            now != node && shown["nodes"][0]["serving"] == true,
            "{shown}"
        );
        Ok(Some(()))
    })
    .with_context(|| provider.controller.output())?;
    provider.wait_answer(second, 0)?;
    println!(
        "a node that was killed: served again after {:?}",
        begin.elapsed()
    );
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
