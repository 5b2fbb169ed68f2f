//! The testbed of the demonstration: reals behind four VIPs, clients, and the agent between them.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use lb_tests::{
    Agent, AgentOptions, Backend, Cgroup, Host, Limits, Network, server::Nginx, vip_target,
};

use super::{
    broker::{self, Broker, REPORT_PORT},
    fault_window::Outage,
    groups::Clients,
    schedule::{Edge, Fault},
    why::Why,
};
use crate::{
    clients::Client,
    interrupt::Interrupt,
    shell::lbctl,
    stats::{Slots, Stats, Vip},
};

/// VIPs for HTTP, of both families.
const HTTP: [&str; 2] = ["192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp"];
/// VIPs for MQTT, of both families. Their flows are tracked, so that numbers of live flows are exact.
const MQTT: [&str; 2] = ["192.0.2.20:1883/tcp", "[2001:db8::20]:1883/tcp"];

/// How long it may take until all reals are found alive.
const READY: Duration = Duration::from_secs(30);
/// Interval at which that is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Weights of the web servers.
const HTTP_WEIGHTS: [u16; 3] = [100, 200, 300];

/// CPU limits of the brokers' hosts, in cores. The operator gives all brokers the same weight: steering has to find
/// out that they differ.
const CORES: [f64; 4] = [0.05, 0.07, 0.1, 0.15];

/// A fast health check, so that a minute shows much. A dead broker is out of rotation after 3.4 s at most.
const CHECK: &str = "mqtt interval=1s fast_interval=400ms timeout=800ms";
const STEERING: &str = "capacity period=1s slow_start=6s healthy_for=2s life_over=30s flap_within=20s \
    overload_back_periods=2";
/// The brokers report their number of clients; the reporters on their hosts report the CPU use.
const CLIENTS: &str = "mosquitto interval=1s";

/// The whole testbed, from the empty network on. Dropping it removes everything that exists so far; fields are dropped
/// in this order.
pub struct DemoTestbed {
    clients: Clients,
    web_servers: Vec<Backend<Nginx>>,
    brokers: Vec<Backend<Broker>>,
    agent: Option<Agent>,
    client_hosts: Vec<Host>,
    network: Network,
    cpu_limits: bool,
}

impl DemoTestbed {
    /// Creates the network, without hosts behind it.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            clients: Clients::default(),
            web_servers: Vec::new(),
            brokers: Vec::new(),
            agent: None,
            client_hosts: Vec::new(),
            network: Network::new()?,
            cpu_limits: false,
        })
    }

    /// Starts the reals and the balancer and configures it, and prints each step.
    pub fn set_up(&mut self, interrupt: &Interrupt) -> anyhow::Result<()> {
        println!(
            "testbed: a switch, one balancer, two clients, three web servers and four MQTT brokers"
        );
        self.cpu_limits = can_limit_cpu();
        for _ in MQTT {
            self.client_hosts.push(self.network.client()?);
        }
        for _ in HTTP_WEIGHTS {
            interrupt.check()?;
            self.web_servers
                .push(Backend::start(self.network.real()?, &HTTP)?);
        }
        for (number, cores) in CORES.into_iter().enumerate() {
            interrupt.check()?;
            let cores = self.cpu_limits.then_some(cores);
            let backend = broker::start(self.network.real()?, &MQTT, number, cores)?;
            let limit = cores.map_or(String::new(), |cores| format!(", {cores} of a core"));
            println!("    broker {}: {}{limit}", number + 1, backend.host.v4);
            self.brokers.push(backend);
        }
        let agent = Agent::start(&self.network.balancer, AgentOptions::default())?;
        println!(
            "lb-agent: attached to eth0 in the balancer's namespace, API at {}",
            agent.endpoint()
        );
        println!("\n    export LB_ENDPOINT={}", agent.endpoint());
        let agent = self.agent.insert(agent);
        let web_servers: Vec<&Host> = self.web_servers.iter().map(|one| &one.host).collect();
        let brokers: Vec<&Host> = self.brokers.iter().map(|one| &one.host).collect();
        for vip in HTTP {
            interrupt.check()?;
            configure(
                agent,
                vip,
                &["--check", "http"],
                &web_servers,
                &HTTP_WEIGHTS,
            )?;
        }
        let cpu_load = format!("grpc port={REPORT_PORT} interval=1s timeout=800ms");
        let mut options = vec!["--track", "all", "--check", CHECK, "--on-down", "reset"];
        options.extend(["--steering", STEERING, "--load", CLIENTS]);
        if self.cpu_limits {
            options.extend(["--load", &cpu_load]);
        }
        for vip in MQTT {
            interrupt.check()?;
            configure(agent, vip, &options, &brokers, &[100; CORES.len()])?;
        }
        self.wait_ready(interrupt)
    }

    /// Waits until a probe has found each real alive and the slots of the HTTP VIPs are settled. Clients come to VIPs that
    /// are ready, here as elsewhere: to one whose reals still come up they would see the ring move.
    fn wait_ready(&self, interrupt: &Interrupt) -> anyhow::Result<()> {
        println!("waiting until all reals are found alive…");
        let deadline = Instant::now() + READY;
        while !self.is_ready()? {
            interrupt.check()?;
            ensure!(
                Instant::now() < deadline,
                "the reals are not ready within {READY:?}:\n{}",
                self.agent()?.lbctl(["list", "-o", "wide"])?
            );
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn is_ready(&self) -> anyhow::Result<bool> {
        let alive = |why: &Why| {
            let probe = why.probe.as_ref();
            why.real.state == "active" && probe.is_some_and(|probe| probe.verdict == "healthy")
        };
        let settled = |vip: &Vip| {
            let Slots {
                in_window,
                exceptions,
                ..
            } = vip.slots;
            // All packets of VIPs whose flows are tracked consult the flow table.
            !HTTP.contains(&vip.vip.as_str()) || in_window + exceptions == 0
        };
        Ok(self.why()?.iter().all(alive) && self.stats()?.vips.iter().all(settled))
    }

    /// Returns whether brokers have a CPU limit, and so can suffer [`Fault::CpuLoad`].
    pub fn cpu_limits(&self) -> bool {
        self.cpu_limits
    }

    /// Returns the number of brokers.
    pub fn brokers(&self) -> usize {
        self.brokers.len()
    }

    /// Returns the number, counted from 0, of the broker with this address.
    pub fn broker(&self, address: &str) -> Option<usize> {
        let address = address.parse().ok()?;
        self.brokers
            .iter()
            .position(|backend| backend.host.address_like(address) == address)
    }

    /// Begins or ends a fault of a broker.
    pub fn apply(&mut self, broker: usize, fault: Fault, edge: Edge) -> anyhow::Result<()> {
        let backend = self
            .brokers
            .get_mut(broker)
            .with_context(|| format!("there is no broker {}", broker + 1))?;
        backend
            .server
            .apply(&backend.host, fault, edge)
            .with_context(|| format!("broker {}: {fault:?}, {edge:?}", broker + 1))
    }

    /// Starts the clients.
    pub fn start_clients(&mut self) -> anyhow::Result<()> {
        for ((host, http), mqtt) in self.client_hosts.iter().zip(HTTP).zip(MQTT) {
            self.clients.start_http(host, http, vip_target(http)?);
            self.clients.start_mqtt(host, mqtt, vip_target(mqtt)?);
        }
        Ok(())
    }

    /// Lets the clients finish what they have begun, and returns what they have recorded.
    pub fn stop_clients(&mut self) -> anyhow::Result<Vec<Client>> {
        for backend in &self.brokers {
            backend.server.thaw();
        }
        self.clients.stop()
    }

    /// Returns what the clients have recorded so far.
    pub fn clients(&self) -> Vec<Client> {
        self.clients.reports()
    }

    /// See [`Clients::take_outages`].
    pub fn take_outages(&mut self, begin: Instant) -> Vec<Outage> {
        self.clients.take_outages(begin)
    }

    /// Returns the endpoint of the agent's API.
    pub fn endpoint(&self) -> anyhow::Result<String> {
        Ok(self.agent()?.endpoint())
    }

    /// Returns the reals of the testbed's own VIPs and what their weights follow from. A person may add other VIPs
    /// while the demonstration runs.
    pub fn why(&self) -> anyhow::Result<Vec<Why>> {
        let mut reals: Vec<Why> = self.read("why")?;
        reals.retain(|why| is_own(&why.vip));
        Ok(reals)
    }

    /// Returns the counters of the testbed's own VIPs.
    pub fn stats(&self) -> anyhow::Result<Stats> {
        let mut stats: Stats = self.read("stats")?;
        stats.vips.retain(|vip| is_own(&vip.vip));
        Ok(stats)
    }

    /// Returns what `lbctl -o json VERB` prints.
    pub fn read<T: serde::de::DeserializeOwned>(&self, verb: &str) -> anyhow::Result<T> {
        serde_json::from_value(self.agent()?.ctl_json(verb)?)
            .with_context(|| format!("reading the output of `lbctl -o json {verb}`"))
    }

    /// Fails if the agent or a real has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(agent) = &mut self.agent {
            agent.check()?;
        }
        self.web_servers.iter_mut().try_for_each(Backend::check)?;
        self.brokers.iter_mut().try_for_each(Backend::check)
    }

    fn agent(&self) -> anyhow::Result<&Agent> {
        self.agent.as_ref().context("the agent is not started yet")
    }
}

impl Drop for DemoTestbed {
    fn drop(&mut self) {
        // All processes end at the same time; each field's own drop then waits for what is left.
        self.clients.ask_to_stop();
        if let Some(agent) = &mut self.agent {
            agent.ask_to_end();
        }
        self.web_servers.iter_mut().for_each(Backend::ask_to_end);
        self.brokers.iter_mut().for_each(Backend::ask_to_end);
    }
}

/// Returns whether a host's CPU time can be limited; prints why not.
fn can_limit_cpu() -> bool {
    let limits = Limits {
        cores: Some(CORES[0]),
        memory: None,
    };
    match Cgroup::new(limits) {
        Ok(_) => true,
        Err(error) => {
            println!(
                "    no control group can be created here ({error:#}): the brokers have no CPU limit, their CPU \
                 use is not read, and none of them is loaded"
            );
            false
        }
    }
}

/// Adds a VIP and its reals, and prints the commands.
fn configure(
    agent: &Agent,
    vip: &str,
    options: &[&str],
    hosts: &[&Host],
    weights: &[u16],
) -> anyhow::Result<()> {
    let words = [&["add-vip", vip, "--forward", "ipip"], options].concat();
    lbctl(agent, &words)?;
    let target = vip_target(vip)?;
    for (host, weight) in hosts.iter().zip(weights) {
        let address = host.address_like(target.ip()).to_string();
        let weight = weight.to_string();
        lbctl(agent, &["add-real", vip, &address, "--weight", &weight])?;
    }
    Ok(())
}

/// Returns whether a VIP is one of the testbed's.
fn is_own(vip: &str) -> bool {
    HTTP.iter().chain(&MQTT).any(|own| *own == vip)
}
