//! A controller and machines that become its hosts, each in a network namespace, with a switch between.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use lb_tests::{
    Controller, Host, Network, Process, binary, client, remove_groups, running_of, server::Nginx,
    wait_for,
};
use serde_json::Value;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Where hosts connect.
const PORT: u16 = 7443;
/// Where the controller serves HTTP, in the network namespace of its host.
const HTTP: &str = "127.0.0.1:8080";

/// A web server in Perl, which answers with its instance's name.
const SERVER: &str = r#"
use IO::Socket::INET; $| = 1; $SIG{PIPE} = "IGNORE"; my $n = $ENV{LB_INSTANCE};
my $s = IO::Socket::INET->new(LocalPort => $ARGV[0], Listen => 128, ReuseAddr => 1) or die "listen: $!";
while (1) {
  my $c = $s->accept or next; my $first = <$c> // next;
  while (<$c>) { last if /^\r?$/ }
  print $c "HTTP/1.1 200 OK\r\nx-real: $n\r\nContent-Length: ", length $n, "\r\nConnection: close\r\n\r\n$n"; close $c;
}
"#;

/// A machine that may be a host.
pub struct Machine {
    pub host: Host,
    pub name: String,
    owner: String,
    state: PathBuf,
    process: Option<Process>,
}

/// The controller, and what is on its switch.
pub struct Bed {
    pub clients: Host,
    pub own: Host,
    pub controller: Controller,
    pub machines: Vec<Machine>,
    folder: tempfile::TempDir,
    network: Network,
}

impl Drop for Bed {
    fn drop(&mut self) {
        for machine in &mut self.machines {
            machine.process = None;
            remove_groups(&machine.owner);
        }
    }
}

impl Bed {
    /// Starts a controller that takes hosts, with these further settings in `[hosts]`, and tables after it; `OWN` stands for its
    /// address.
    pub fn new(name: &str, more: &str) -> anyhow::Result<Self> {
        let network = Network::new()?;
        let clients = network.client()?;
        let own = network.real()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("controller.toml");
        fs::write(
            &file,
            format!(
                "http = \"{HTTP}\"\n[hosts]\nlisten = \"{}:{PORT}\"\n{}\n",
                own.v4,
                more.replace("OWN", &own.v4.to_string())
            ),
        )?;
        fs::write(folder.path().join("server.pl"), SERVER)?;
        let name = lb_tests::owner(name);
        let options = ["--config", &file.display().to_string()];
        let controller = Controller::start(Some(own.namespace()), &name, &options)?;
        Ok(Bed {
            clients,
            own,
            controller,
            machines: Vec::new(),
            folder,
            network,
        })
    }

    /// Adds machines, and makes them hosts: h1, h2 and so on.
    pub fn join(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let at = self.add_machine()?;
            let token = self.token("")?;
            self.start(at, &["--join", &token])?;
        }
        Ok(())
    }

    /// Adds a machine that is no host yet.
    pub fn add_machine(&mut self) -> anyhow::Result<usize> {
        let at = self.machines.len();
        let host = self.network.real()?;
        host.bridge()?;
        let name = format!("h{}", at + 1);
        self.machines.push(Machine {
            host,
            owner: format!("{}@{name}", self.controller.name),
            state: self.folder.path().join(&name),
            name,
            process: None,
        });
        Ok(at)
    }

    /// A token, by what an operator types after `lbctl host token`.
    pub fn token(&self, words: &str) -> anyhow::Result<String> {
        Ok(self.run(&format!("token {words}"))?.trim().to_owned())
    }

    /// Starts the program of a host without waiting for it.
    pub fn spawn(&self, at: usize, words: &[&str]) -> anyhow::Result<Process> {
        let machine = &self.machines[at];
        let mut command = machine.host.namespace().command(binary("lb-agent")?);
        command
            .args(["host", "--state", &machine.state.display().to_string()])
            .args(["--cpu", "2", "--memory", "1GiB"]);
        if words.contains(&"--join") {
            let address = format!("{}:{PORT}", self.own.v4);
            command.args(["--name", &machine.name, "--controller", &address]);
        }
        command.args(words);
        machine
            .host
            .namespace()
            .start_command("lb-agent host", command)
    }

    /// Starts the program of a host, and waits until the controller has welcomed it.
    pub fn start(&mut self, at: usize, words: &[&str]) -> anyhow::Result<()> {
        let mut process = self.spawn(at, words)?;
        process
            .wait_line("lb-agent host: ready", &self.machines[at].name, PATIENCE)
            .with_context(|| self.controller.output())?;
        self.machines[at].process = Some(process);
        Ok(())
    }

    /// Kills the program of a host; its instances run on.
    pub fn kill(&mut self, at: usize) -> anyhow::Result<()> {
        let process = self.machines[at].process.take();
        process.context("it does not run")?.kill()
    }

    /// What the program of a host has printed.
    pub fn output(&self, at: usize) -> String {
        let process = self.machines[at].process.as_ref();
        process.map(Process::output).unwrap_or_default()
    }

    /// The script of a web server that answers with its instance's name; it gets the port.
    pub fn script(&self) -> PathBuf {
        self.folder.path().join("server.pl")
    }

    /// To whom what runs on a machine belongs.
    pub fn owner(&self, at: usize) -> String {
        self.machines[at].owner.clone()
    }

    /// The instances that really run on a machine.
    pub fn running(&self, at: usize) -> Vec<String> {
        running_of(&self.machines[at].owner)
    }

    /// Plugs a machine into the switch, or pulls its cable.
    pub fn plug(&self, at: usize, is_plugged: bool) -> anyhow::Result<()> {
        let state = if is_plugged { "up" } else { "down" };
        let host = &self.machines[at].host;
        host.sh(&format!("ip link set eth0 {state}")).map(drop)
    }

    /// The file in a machine's folder that says who it is.
    pub fn card(&self, at: usize) -> PathBuf {
        self.machines[at].state.join("host.json")
    }

    /// Runs `lbctl` by what an operator types after it, and reads its answer as JSON.
    pub fn read(&self, line: &str) -> anyhow::Result<Value> {
        let text = self.controller.ctl(&format!("{line} -o json"))?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// A web server at port 80, on the switch.
    pub fn server(&self) -> anyhow::Result<(Host, Nginx)> {
        let host = self.network.real()?;
        let nginx = Nginx::start(&host, 80)?;
        Ok((host, nginx))
    }

    /// The machine with this name.
    pub fn machine(&self, name: &str) -> anyhow::Result<usize> {
        let at = self.machines.iter().position(|one| one.name == name);
        at.with_context(|| format!("no machine {name}"))
    }

    /// Cuts a machine off, and kills the program of its host. What it runs runs on.
    pub fn cut_off(&mut self, at: usize) -> anyhow::Result<()> {
        self.plug(at, false)?;
        self.kill(at)
    }

    /// It is back.
    pub fn bring_back(&mut self, at: usize) -> anyhow::Result<()> {
        self.plug(at, true)?;
        self.start(at, &[])?;
        self.wait_state(at, "up").map(drop)
    }

    /// The addresses that clients find by a name.
    pub fn look_up(&self, name: &str) -> anyhow::Result<BTreeSet<String>> {
        let line = format!("dig +short +tries=1 +time=2 @{} {name} A", self.own.v4);
        let answer = self.clients.namespace().sh(&line)?;
        Ok(answer.lines().map(str::to_owned).collect())
    }

    /// The server that answers a client at this address.
    pub fn ask_at(&self, address: &str) -> anyhow::Result<String> {
        let target = SocketAddr::new(address.parse()?, 80);
        Ok(client::get(self.clients.namespace(), target, "/")?.0)
    }

    /// Waits until a name leads clients to another address than this one only, which answers; returns it.
    pub fn wait_moved(&self, name: &str, from: &str) -> anyhow::Result<String> {
        let what = format!("{name} to lead to another address than {from}");
        let waited = wait_for(&what, PATIENCE, || {
            let found = self.look_up(name)?;
            let other = found.iter().next().filter(|_| found.len() == 1);
            let other = other.context("no single address")?;
            ensure!(other != from, "{found:?}");
            self.ask_at(other)?;
            Ok(Some(other.clone()))
        });
        waited.with_context(|| self.controller.output())
    }

    /// Waits until nothing runs on a machine.
    pub fn wait_empty(&self, at: usize) -> anyhow::Result<()> {
        let what = format!("{} to have nothing", self.machines[at].name);
        let waited = wait_for(&what, PATIENCE, || {
            let running = self.running(at);
            ensure!(running.is_empty(), "{running:?}");
            Ok(Some(()))
        });
        waited.with_context(|| self.controller.output())
    }

    /// Waits until a load balancer of the project `shop` has so many nodes, all of which serve by its newest settings.
    pub fn wait_complete(&self, balancer: &str, nodes: usize) -> anyhow::Result<Vec<Value>> {
        let what = format!("{nodes} nodes of {balancer} to serve");
        let waited = wait_for(&what, PATIENCE, || {
            let shown = self.read(&format!("lb show shop {balancer}"))?;
            let list = shown["nodes"].as_array().cloned().unwrap_or_default();
            let serving = list.iter().filter(|node| node["serving"] == true).count();
            let is_newest = shown["generation"] == shown["observed_generation"];
            let is_all = serving == nodes && list.len() == nodes && is_newest;
            ensure!(is_all, "{shown}");
            Ok(Some(list))
        });
        waited.with_context(|| self.controller.output())
    }

    /// Runs `lbctl host` by what an operator types after it.
    pub fn run(&self, line: &str) -> anyhow::Result<String> {
        self.controller.ctl(&format!("host {line}"))
    }

    /// What `lbctl host` says when it fails, which it does.
    pub fn refused(&self, line: &str) -> anyhow::Result<String> {
        match self.run(line) {
            Ok(output) => bail!("{line}: not refused: {output}"),
            Err(error) => Ok(error.to_string()),
        }
    }

    /// A host as the controller sees it.
    pub fn shown(&self, at: usize) -> anyhow::Result<Value> {
        let text = self.run(&format!("show {} -o json", self.machines[at].name))?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// Waits until a host has this state, and returns it.
    pub fn wait_state(&self, at: usize, state: &str) -> anyhow::Result<Value> {
        let what = format!("{} to be {state}", self.machines[at].name);
        let waited = wait_for(&what, PATIENCE, || {
            let shown = self.shown(at)?;
            ensure!(shown["state"] == state, "{shown}");
            Ok(Some(shown))
        });
        waited.with_context(|| self.controller.output())
    }

    /// Adds a pool of so many web servers on hosts, on a bridge with the clients.
    pub fn add_web(&self, count: u32, more: &[&str]) -> anyhow::Result<()> {
        let script = self.folder.path().join("server.pl");
        let settings = [
            "driver.kind=process".to_owned(),
            "network.port=80".to_owned(),
            "network.bridge=br0".to_owned(),
            "network.range=10.10.60.11-10.10.60.30/16".to_owned(),
            "network.delivery=address".to_owned(),
            "template.program=/usr/bin/perl".to_owned(),
            format!("template.arguments=['{}', '{{port}}']", script.display()),
            "template.stop_grace=2s".to_owned(),
            "template.cpu=0.2".to_owned(),
            "template.memory=64MiB".to_owned(),
            "check.kind=http".to_owned(),
            "check.interval=1s".to_owned(),
            "check.timeout=1s".to_owned(),
            "check.fast_interval=100ms".to_owned(),
            "placement.anti_affinity=false".to_owned(),
            "scaling.drain_natural=0ms".to_owned(),
            "scaling.drain_deadline=3s".to_owned(),
            format!("scaling.min={count}"),
            format!("scaling.max={count}"),
        ];
        let mut words = vec!["add", "web"];
        words.extend(settings.iter().map(String::as_str));
        words.extend(more);
        self.controller.pool(&words).map(drop)
    }

    /// Waits until so many instances of the pool serve, each host as many as this says, and returns their names by host.
    pub fn wait_spread(
        &self,
        wanted: &[(usize, usize)],
    ) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
        let all: usize = wanted.iter().map(|(_, count)| count).sum();
        let waited = wait_for("instances on the wanted hosts", PATIENCE, || {
            let instances = self.controller.instances("web")?;
            let is_serving =
                |one: &&Value| matches!(one["state"].as_str(), Some("LU" | "MU" | "HU"));
            let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for one in instances.iter().filter(is_serving) {
                let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
                found.entry(text("host")).or_default().push(text("name"));
            }
            let count: usize = found.values().map(Vec::len).sum();
            ensure!(count == all && instances.len() == all, "{instances:?}");
            for (at, count) in wanted {
                let on = found.get(&self.machines[*at].name).map_or(0, Vec::len);
                ensure!(on == *count, "{found:?}");
            }
            Ok(Some(found))
        });
        waited.with_context(|| self.controller.output())
    }

    /// The instance that answers a client at the address with this number.
    pub fn ask(&self, number: u8) -> anyhow::Result<String> {
        let target = SocketAddr::new([10, 10, 60, 10 + number].into(), 80);
        Ok(client::get(self.clients.namespace(), target, "/")?.0)
    }

    /// Reads a page of the controller.
    pub fn http(&self, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
        self.own
            .namespace()
            .enter(|| client::exchange(HTTP.parse()?, method, path, body, PATIENCE))?
    }
}
