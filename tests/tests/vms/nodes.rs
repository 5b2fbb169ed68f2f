//! Load balancers whose nodes are virtual machines.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use lb_drivers::host_interface;
use lb_tests::{
    Controller, Host, Network, Real, client, guest, owner,
    server::{Nginx, UdpEcho},
    wait_for,
};
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
    network: Network,
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
agent.vm = {{ kernel = "{}", initrd = "{}", ram = "512MiB" }}
[dns]
zone = "lb.example"
listen = ["{}:53"]
name_servers = {{ "ns1.lb.example" = ["{}"] }}
"#,
                guest("vmlinuz").display(),
                guest("initrd-proxy").display(),
                guest("vmlinuz").display(),
                guest("initrd").display(),
                host.v4,
                host.v4,
            ),
        )?;
        let name = owner("nodes");
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
            network,
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

/// A server that is a real of nodes at these addresses.
struct Backend {
    host: Host,
    _real: Real,
    _web: Nginx,
    _echo: UdpEcho,
}

impl Backend {
    fn start(network: &Network, web: &str, echo: &str) -> anyhow::Result<Self> {
        let host = network.real()?;
        let real = Real::start(&host, "eth0", &[web, echo])?;
        Ok(Backend {
            _web: Nginx::start(&host, 80)?,
            _echo: UdpEcho::start(&host, SocketAddr::new(echo.parse()?, 7))?,
            _real: real,
            host,
        })
    }
}

pub fn a_load_balancer_is_served_by_an_agent_in_a_machine() -> anyhow::Result<()> {
    let provider = Provider::new()?;
    // Where clients will reach them: each has two addresses for clients, and two for its nodes.
    let (web, echo) = ("10.10.60.11", "10.10.60.15");
    let backends = [
        Backend::start(&provider.network, web, echo)?,
        Backend::start(&provider.network, web, echo)?,
    ];
    let names = [0, 1].map(|at: usize| backends[at].host.label().to_owned());
    let words = [0, 1]
        .map(|at: usize| format!("--backend {}", backends[at].host.v4))
        .join(" ");
    provider.run("project add shop")?;
    let begin = Instant::now();
    provider.run(&format!(
        "lb add shop first kind=agent protocol=tcp port=80 {words} check.kind=http check.interval=1s"
    ))?;
    let first = provider.wait_complete("first")?;
    ensure!(first.to_string() == format!("{web}:80"), "{first}");
    println!("a node with an agent serves after {:?}", begin.elapsed());
    let shown: Value = serde_json::from_str(&provider.run("lb show shop first -o json")?)?;
    ensure!(shown["url"] == "tcp://first.shop.lb.example:80", "{shown}");
    let answers = |from: &Host| -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for _ in 0..20 {
            let (name, text) = client::get(from.namespace(), first, "/")?;
            // Packets came as the client sent them.
            ensure!(text.contains(&from.v4.to_string()), "{text}");
            names.push(name);
        }
        names.sort();
        names.dedup();
        Ok(names)
    };
    let wait_answers = |wanted: &[String]| {
        let waited = wait_for(&format!("answers of {wanted:?}"), PATIENCE, || {
            let found = answers(&provider.client)?;
            ensure!(found == wanted, "{found:?}");
            Ok(Some(()))
        });
        waited.with_context(|| provider.controller.output())
    };
    let mut both = names.to_vec();
    both.sort();
    wait_answers(&both)?;
    let line = format!(
        "dig +short +tries=1 +time=2 @{} first.shop.lb.example A",
        provider.host.v4
    );
    ensure!(
        provider.client.sh(&line)?.trim() == web,
        "its name leads to it"
    );

    // It follows its settings as it runs, and its check.
    let node = provider.node("first")?;
    provider.run(&format!(
        "lb set shop first --backend {}",
        backends[1].host.v4
    ))?;
    provider.wait_complete("first")?;
    wait_answers(&names[1..])?;
    provider.run(&format!("lb set shop first {words}"))?;
    provider.wait_complete("first")?;
    wait_answers(&both)?;
    backends[0].host.sh("ip link set eth0 down")?;
    wait_answers(&names[1..])?;
    backends[0].host.sh("ip link set eth0 up")?;
    ensure!(provider.node("first")? == node, "it was not replaced");

    // Datagrams, by another one.
    provider.run(&format!(
        "lb add shop echo kind=agent protocol=udp port=7 {words}"
    ))?;
    provider.wait_complete("echo")?;
    let target = SocketAddr::new(echo.parse()?, 7);
    let answer = wait_for("an echo", PATIENCE, || {
        let answer = client::udp_exchange(provider.client.namespace(), 0, target, b"hello")?;
        Ok(Some(answer))
    });
    let answer = answer.with_context(|| provider.controller.output())?;
    ensure!(answer.ends_with(b" hello"), "{answer:?}");

    // One that dies is replaced, and clients find it where it was.
    let folder = provider.controller.state().join("qemu").join(&node);
    let pid: i32 = fs::read_to_string(folder.join("qemu.pid"))?
        .trim()
        .parse()?;
    let begin = Instant::now();
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    wait_for("another node", PATIENCE, || {
        Ok((provider.node("first")? != node).then_some(()))
    })?;
    provider.wait_complete("first")?;
    wait_for("an answer", PATIENCE, || {
        Ok(Some(answers(&provider.client)?))
    })?;
    println!(
        "a node with an agent that was killed: served again after {:?}",
        begin.elapsed()
    );
    provider.run("lb del shop first")?;
    provider.run("lb del shop echo")?;
    wait_for("the end of the machines", PATIENCE, || {
        let list: Value = serde_json::from_str(&provider.run("lb list shop -o json")?)?;
        ensure!(list.as_array().is_some_and(Vec::is_empty), "{list}");
        Ok(Some(()))
    })
    .with_context(|| provider.controller.output())
}
