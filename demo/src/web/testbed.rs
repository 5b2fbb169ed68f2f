//! The testbed of the demonstration: clients, the balancer, two proxies behind its VIP, and a host with the pool.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use lb_tests::{
    Agent, AgentOptions, Backend, Controller, Host, Network,
    client::{Connections, HttpPlan, Load, get, http_load, post},
    server::DockerEngine,
    vip_target,
};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use super::{
    image,
    pool::{Explanation, Instance, Service},
    proxy::{self, ADMIN_PORT, Proxy},
    timeline::Failure,
};
use crate::{
    clients::Client,
    interrupt::Interrupt,
    shell,
    stats::{Slots, Stats},
};

/// The VIP of the proxies.
const VIP: &str = "192.0.2.10:80/tcp";
/// A fast health check, so that a minute shows much: a proxy's own answer, whatever its instances do.
const CHECK: &str = "interval=1s fast_interval=400ms timeout=800ms";
/// Proxies behind the VIP.
const PROXIES: usize = 2;

/// The pool's name.
const POOL: &str = "web";
/// Least and greatest size of the pool.
pub const MIN: usize = 2;
const MAX: usize = 8;
/// Addresses of the instances, in the network of all hosts.
const RANGE: &str = "10.10.60.11-10.10.60.30/16";
/// Port of the instances, and of the controller's WebSocket.
const PORT: u16 = 80;
const STREAM_PORT: u16 = 8080;

/// Limits of an instance.
const CORES: f64 = 0.2;
const MEMORY_MIB: u64 = 64;
/// What a request costs: microseconds of CPU time, KiB of memory, milliseconds.
const COST: [(&str, &str); 3] = [("--cpu", "700"), ("--memory", "512"), ("--time", "5")];

/// How long it may take until everything serves.
const READY: Duration = Duration::from_secs(60);
/// Interval at which that is looked at.
const POLL: Duration = Duration::from_millis(50);

/// The groups of clients: name, connections, workers, their pause after each answer in milliseconds, and whether they come
/// and go with the load.
const GROUPS: [(&str, Connections, usize, u64, bool); 3] = [
    ("always there", Connections::Kept, 5, 25, false),
    ("on new connections", Connections::New, 2, 50, false),
    ("come and go", Connections::Kept, 16, 20, true),
];

/// What runs the instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Driver {
    /// Containers of a Docker engine of the demonstration's own.
    Docker,
    /// Processes in control groups and network namespaces of their own.
    Process,
}

/// The whole testbed, from the empty network on. Dropping it removes everything that exists so far; fields are dropped
/// in this order.
pub struct WebTestbed {
    clients: Vec<Group>,
    proxies: Vec<Backend<Proxy>>,
    controller: Option<Controller>,
    /// Its containers go with it; `None` if the instances are processes.
    engine: Option<DockerEngine>,
    agent: Option<Agent>,
    client_host: Option<Host>,
    pool_host: Option<Host>,
    network: Network,
}

struct Group {
    name: &'static str,
    comes_and_goes: bool,
    load: Load,
}

impl WebTestbed {
    /// Creates the network, without hosts behind it.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            clients: Vec::new(),
            proxies: Vec::new(),
            controller: None,
            engine: None,
            agent: None,
            client_host: None,
            pool_host: None,
            network: Network::new()?,
        })
    }

    /// Starts everything but the clients, and prints each step.
    pub fn set_up(&mut self, driver: Option<Driver>, interrupt: &Interrupt) -> anyhow::Result<()> {
        println!(
            "testbed: a switch, one balancer, two proxies, a host with a pool of web servers, and clients"
        );
        self.client_host = Some(self.network.client()?);
        let host = self.pool_host.insert(self.network.real()?).clone();
        host.bridge()?;
        interrupt.check()?;
        self.engine = engine(&host, driver)?;
        interrupt.check()?;
        self.add_pool(&host)?;
        interrupt.check()?;
        self.add_proxies(&host, interrupt)?;
        self.wait_ready(interrupt)
    }

    /// Starts the controller and adds the pool.
    fn add_pool(&mut self, host: &Host) -> anyhow::Result<()> {
        let name = format!("demo-{}", std::process::id());
        let listen = format!("{}:{STREAM_PORT}", host.v4);
        shell::print(
            "lb-controller",
            &[
                "run",
                "--name",
                &name,
                "--http",
                &listen,
                "--anonymous-remote",
                "admin",
            ],
        );
        let controller = Controller::start(Some(host.namespace()), &name, &["--http", &listen])?;
        let controller = self.controller.insert(controller);
        println!("\n    export LB_CONTROLLER={}", controller.endpoint());
        let settings = settings(self.engine.as_ref())?;
        let path = controller.folder().join("web.toml");
        fs::write(&path, &settings)?;
        let path = path.display().to_string();
        let words = ["add", POOL, "-f", &path];
        shell::print("lbctl pool", &words);
        println!("{}", indented(&settings));
        controller.pool(&words)?;
        Ok(())
    }

    /// Starts the proxies and the balancer in front of them.
    fn add_proxies(&mut self, pool_host: &Host, interrupt: &Interrupt) -> anyhow::Result<()> {
        let stream = format!("ws://{}:{STREAM_PORT}/v1/pools/{POOL}/stream", pool_host.v4);
        let configuration = proxy::configuration(&stream);
        shell::print("lb-proxy", &["run", "--config", "proxy.toml"]);
        println!("{}", indented(&configuration));
        for _ in 0..PROXIES {
            interrupt.check()?;
            let host = self.network.real()?;
            self.proxies.push(proxy::start(host, VIP, &configuration)?);
        }
        let agent = Agent::start(&self.network.balancer, AgentOptions::default())?;
        println!("\n    export LB_ENDPOINT={}", agent.endpoint());
        let agent = self.agent.insert(agent);
        let check = format!("http port={ADMIN_PORT} path=/healthz {CHECK}");
        shell::lbctl(
            agent,
            &["add-vip", VIP, "--forward", "ipip", "--check", &check],
        )?;
        for proxy in &self.proxies {
            shell::lbctl(agent, &["add-real", VIP, &proxy.address()])?;
        }
        Ok(())
    }

    /// Waits until the least number of instances serves, each proxy knows them, and the VIP's slots are settled.
    fn wait_ready(&self, interrupt: &Interrupt) -> anyhow::Result<()> {
        println!("waiting until all instances and proxies serve…");
        let deadline = Instant::now() + READY;
        while !self.is_ready()? {
            interrupt.check()?;
            ensure!(
                Instant::now() < deadline,
                "the testbed is not ready within {READY:?}:\n{}\n{}\n{}",
                self.agent()?.lbctl(["list", "-o", "wide"])?,
                self.controller()?.pool(&["why", POOL])?,
                self.controller()?.output()
            );
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn is_ready(&self) -> anyhow::Result<bool> {
        if self.explain()?.pool.serving().count() != MIN {
            return Ok(false);
        }
        let proxies = self.proxies()?;
        if proxies.iter().any(|(_, service)| service.eligible != MIN) {
            return Ok(false);
        }
        let stats: Stats = self.read("stats")?;
        let ready = stats.vips.iter().all(|vip| {
            let Slots {
                in_window,
                exceptions,
                ..
            } = vip.slots;
            let active = vip.reals.iter().all(|real| real.state == "active");
            active && vip.reals.len() == PROXIES && in_window + exceptions == 0
        });
        // The whole way, as the clients go it.
        Ok(ready && get(self.client_host()?, vip_target(VIP)?, "/").is_ok())
    }

    /// The first lines of the screen. `mode` is how the balancer is attached.
    pub fn header(&self, mode: &str) -> anyhow::Result<String> {
        Ok(format!(
            "lb-agent on eth0, XDP {mode}; LB_ENDPOINT={}\nlb-controller, driver {}; LB_CONTROLLER={}",
            self.agent()?.endpoint(),
            self.driver_name(),
            self.controller()?.endpoint()
        ))
    }

    /// The name of the driver that runs the instances.
    pub fn driver_name(&self) -> &'static str {
        if self.engine.is_some() {
            "docker"
        } else {
            "process"
        }
    }

    /// Starts the clients; those that come and go are not there yet.
    pub fn start_clients(&mut self) -> anyhow::Result<()> {
        let target = vip_target(VIP)?;
        let host = self.client_host()?.clone();
        for (name, connections, workers, pause, comes_and_goes) in GROUPS {
            let plan = HttpPlan {
                target,
                workers,
                connections,
                pause: Duration::from_millis(pause),
                requests: None,
            };
            let load = http_load(&host, plan);
            if comes_and_goes {
                load.pause();
            }
            self.clients.push(Group {
                name,
                comes_and_goes,
                load,
            });
        }
        Ok(())
    }

    /// Lets the clients come that come and go.
    pub fn raise_load(&self) {
        self.varying().for_each(Load::resume);
    }

    /// Lets them go.
    pub fn lower_load(&self) {
        self.varying().for_each(Load::pause);
    }

    fn varying(&self) -> impl Iterator<Item = &Load> {
        let groups = self.clients.iter().filter(|group| group.comes_and_goes);
        groups.map(|group| &group.load)
    }

    /// Returns what the clients have recorded so far.
    pub fn clients(&self) -> Vec<Client> {
        self.clients.iter().map(Group::client).collect()
    }

    /// Returns the requests that have failed since the last call. Times are since `begin`.
    pub fn take_failures(&self, begin: Instant) -> Vec<Failure> {
        let failures = self.clients.iter().flat_map(|group| group.failures(begin));
        failures.collect()
    }

    /// Lets the clients finish their requests. Returns what they have recorded, and the failures that were not taken.
    pub fn stop_clients(&mut self, begin: Instant) -> anyhow::Result<(Vec<Client>, Vec<Failure>)> {
        for group in &self.clients {
            group.load.ask_to_stop();
        }
        let mut failures = Vec::new();
        let mut clients = Vec::new();
        for group in &mut self.clients {
            group.load.wait_end()?;
            failures.extend(group.failures(begin));
            clients.push(group.client());
        }
        self.clients.clear();
        Ok((clients, failures))
    }

    /// Tells an instance to answer everything with 500.
    pub fn crash(&self, instance: &Instance) -> anyhow::Result<()> {
        let target = instance
            .endpoint
            .parse()
            .with_context(|| format!("the endpoint of {}", instance.name))?;
        let status = post(self.client_host()?, target, "/api/v1/_crash")?;
        ensure!(
            status == 200,
            "{} answers {status} to the request to crash",
            instance.name
        );
        Ok(())
    }

    /// Kills the process of an instance.
    pub fn kill(&self, instance: &Instance) -> anyhow::Result<()> {
        if let Some(engine) = &self.engine {
            engine.docker(&["kill", &instance.name])?;
            return Ok(());
        }
        let processes = self.controller()?.processes(&instance.name);
        ensure!(!processes.is_empty(), "{} has no process", instance.name);
        for pid in processes {
            // It is gone if two hierarchies list it.
            let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Returns the pool with its last decision and events.
    pub fn explain(&self) -> anyhow::Result<Explanation> {
        serde_json::from_value(self.controller()?.json(&["why", POOL])?)
            .context("reading the output of `lbctl -o json pool why`")
    }

    /// Returns what each proxy knows of its service, with the proxy's address.
    pub fn proxies(&self) -> anyhow::Result<Vec<(String, Service)>> {
        let proxies = self.proxies.iter();
        proxies
            .map(|proxy| Ok((proxy.address(), proxy.server.service(&proxy.host)?)))
            .collect()
    }

    /// Returns what `lbctl -o json VERB` prints.
    pub fn read<T: serde::de::DeserializeOwned>(&self, verb: &str) -> anyhow::Result<T> {
        serde_json::from_value(self.agent()?.ctl_json(verb)?)
            .with_context(|| format!("reading the output of `lbctl -o json {verb}`"))
    }

    /// Fails if the agent, the controller or a proxy has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(agent) = &mut self.agent {
            agent.check()?;
        }
        if let Some(controller) = &mut self.controller {
            controller.check()?;
        }
        self.proxies.iter_mut().try_for_each(Backend::check)
    }

    fn agent(&self) -> anyhow::Result<&Agent> {
        self.agent.as_ref().context("the agent is not started yet")
    }

    fn controller(&self) -> anyhow::Result<&Controller> {
        self.controller
            .as_ref()
            .context("the controller is not started yet")
    }

    fn client_host(&self) -> anyhow::Result<&Host> {
        self.client_host
            .as_ref()
            .context("there is no host for clients yet")
    }
}

impl Drop for WebTestbed {
    fn drop(&mut self) {
        // All processes end at the same time; each field's own drop then waits for what is left.
        for group in &self.clients {
            group.load.ask_to_stop();
        }
        self.proxies.iter_mut().for_each(Backend::ask_to_end);
        if let Some(controller) = &mut self.controller {
            controller.ask_to_end();
        }
        if let Some(agent) = &mut self.agent {
            agent.ask_to_end();
        }
    }
}

impl Group {
    fn client(&self) -> Client {
        Client {
            name: self.name.to_owned(),
            vip: VIP.to_owned(),
            outages: None,
            record: self.load.report(),
        }
    }

    fn failures(&self, begin: Instant) -> Vec<Failure> {
        let failures = self.load.take_failures().into_iter();
        failures
            .map(|failure| Failure {
                at: failure.at.saturating_duration_since(begin),
                why: failure.why,
            })
            .collect()
    }
}

/// Starts a Docker engine with the image, in the network namespace of the pool's host. Returns `None` if the instances are to
/// be processes: because `driver` says so, or because there is no Docker.
fn engine(host: &Host, driver: Option<Driver>) -> anyhow::Result<Option<DockerEngine>> {
    if driver == Some(Driver::Process) {
        return Ok(None);
    }
    println!("    dockerd, in a network namespace of its own");
    let started = DockerEngine::start_in(host.namespace()).and_then(|engine| {
        image::make(&engine, &server()?)?;
        Ok(engine)
    });
    match (started, driver) {
        (Ok(engine), _) => Ok(Some(engine)),
        (Err(error), Some(Driver::Docker)) => Err(error),
        (Err(error), _) => {
            println!("    no Docker ({error:#}): the instances are processes");
            Ok(None)
        }
    }
}

/// The demonstration's server, which is beside this program.
fn server() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()
        .context("asking for the path of this program")?
        .with_file_name("lb-demo-server");
    ensure!(
        path.is_file(),
        "{} does not exist; `cargo build -p lb-demo-server` builds it",
        path.display()
    );
    Ok(path)
}

/// The settings of the pool. Its times are short, so that a minute shows everything. Instances listen on every address: the
/// engine starts a container's program before the container is connected to the bridge.
fn settings(engine: Option<&DockerEngine>) -> anyhow::Result<String> {
    let (driver, program) = match engine {
        Some(engine) => (
            format!(
                "{{ kind = \"docker\", socket = \"{}\", pull = \"never\" }}",
                engine.socket().display()
            ),
            format!(
                "image = \"{}\"\nprogram = \"{}\"",
                image::NAME,
                image::PROGRAM
            ),
        ),
        None => (
            "{ kind = \"process\" }".to_owned(),
            format!("program = \"{}\"", server()?.display()),
        ),
    };
    let limits = [
        ("--cores", CORES.to_string()),
        ("--most-memory", MEMORY_MIB.to_string()),
    ];
    let arguments: Vec<String> = COST
        .map(|(name, value)| (name, value.to_owned()))
        .into_iter()
        .chain(limits)
        .map(|(name, value)| format!("\"{name}\", \"{value}\""))
        .collect();
    let arguments = arguments.join(", ");
    Ok(format!(
        r#"driver = {driver}

[network]
port = {PORT}
bridge = "br0"
range = "{RANGE}"
delivery = "address"

[template]
{program}
arguments = ["--listen", "0.0.0.0:{{port}}", {arguments}]
cpu = {CORES}
memory = "{MEMORY_MIB}MiB"
stop_grace = "5s"

[check]
kind = "http"
path = "/api/v1/_health"
interval = "1s"
fast_interval = "200ms"
unhealthy_threshold = 2

[[load]]
kind = "http-json"
port = {PORT}
path = "/api/v1/_load"
interval = "1s"
values = {{ utilisation = "/cpu", memory = "/memory" }}

[scaling]
min = {MIN}
max = {MAX}
policies = ["requests"]
requests = 550
requests_over = "5s"
load_over = "5s"
surge_over = "2s"
period = "1s"
start_up = "1s"
in_after = "10s"
in_every = "1s"
in_step = 0.5
drain_natural = "5s"
drain_deadline = "10s"
relaunch_first = "100ms"
max_dead = 0.5
"#
    ))
}

fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| format!("        {line}"));
    lines.collect::<Vec<_>>().join("\n")
}
