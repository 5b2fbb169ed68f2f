//! Four web servers with quotas of their own behind one VIP, an agent in front of them, and clients.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, ensure};
use lb_tests::{Agent, AgentOptions, Cgroup, Host, Limits, Process, Real, Site, binary, wait_for};
use serde_json::Value;

use crate::server;

/// The VIP.
pub const VIP: &str = "192.0.2.10:80/tcp";
/// Quotas, cores: 1 : 2 : 4 : 8. Their sum leaves room on a machine of two processors for clients, balancer
/// and what else it does.
pub const QUOTAS: [f64; 4] = [0.04, 0.08, 0.16, 0.32];
/// How often a quota is given out anew: the shortest with which the least of them is one that the kernel takes. So
/// a server is as good as one that is so much slower; with a longer one the 99th percentile is a matter of who
/// just had to wait for the next.
const QUOTA_PERIOD: Duration = Duration::from_millis(25);
/// Processor time of a request: no less than the least quota.
pub const COST: Duration = Duration::from_millis(1);
/// Addresses that requests come from: ports alone are too few to spread evenly over a ring.
const CLIENTS: u8 = 64;
/// Seconds for which a real must be healthy before the controller learns from it: its default.
const HEALTHY_FOR: f64 = 10.0;
/// Where the servers listen.
const PORT: u16 = 80;
/// How long things take that take seconds on a machine at rest.
const PATIENCE: Duration = Duration::from_secs(60);

/// A real. What ends first stands first.
struct Behind {
    server: Option<Process>,
    _reporter: Process,
    _real: Real,
    cgroup: Cgroup,
    host: Host,
}

/// All of it. Dropping it removes everything.
pub struct Stand {
    agent: Agent,
    reals: Vec<Behind>,
    client: Host,
    clients: Vec<IpAddr>,
    served: bool,
    _site: Site,
}

impl Stand {
    /// Builds it, without servers and without a VIP.
    pub fn new() -> anyhow::Result<Self> {
        let site = Site::new()?;
        let client = site.client()?;
        let mut clients = Vec::new();
        for number in 1..=CLIENTS {
            let address = format!("10.10.40.{number}");
            client.sh(&format!("ip address add {address}/16 dev eth0"))?;
            clients.push(address.parse()?);
        }
        let mut reals = Vec::new();
        for cores in QUOTAS {
            reals.push(Behind::new(site.real()?, cores)?);
        }
        Ok(Self {
            agent: Agent::start(&site.balancer, AgentOptions::default())?,
            reals,
            client,
            clients,
            served: false,
            _site: site,
        })
    }

    /// Where requests come from.
    pub fn client(&self) -> (&Host, &[IpAddr]) {
        (&self.client, &self.clients)
    }

    /// Starts all servers anew, and the VIP with these weights, which nothing steers yet; nothing of what was
    /// before is left.
    pub fn begin(&mut self, weights: [u16; 4]) -> anyhow::Result<()> {
        if self.served {
            self.ctl(&["del-vip", VIP])?;
        }
        for real in &mut self.reals {
            real.serve()?;
        }
        // Eased in is what comes to others; here all come at once.
        let steering = ["--steering", "static slow_start=0s"];
        self.ctl(
            &[
                &[
                    "add-vip",
                    VIP,
                    "--check",
                    "http",
                    "--load",
                    "grpc port=7946",
                ],
                &steering[..],
            ]
            .concat(),
        )?;
        self.served = true;
        for (real, weight) in self.reals.iter().zip(weights) {
            let (address, weight) = (real.host.v4.to_string(), weight.to_string());
            self.ctl(&["add-real", VIP, &address, "--weight", &weight])?;
        }
        wait_for("all reals to be found alive", PATIENCE, || {
            for real in self.why()? {
                if real["probe"]["verdict"] != "healthy" || real["real"]["state"] != "active" {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
    }

    /// Steers the VIP with the default controller from now on. All are healthy for as long as it takes until it
    /// learns from them.
    pub fn steer(&self) -> anyhow::Result<()> {
        wait_for("all reals to be alive for a while", PATIENCE, || {
            let all = self.why()?;
            let old = |real: &Value| real["since"].as_f64().is_some_and(|age| age >= HEALTHY_FOR);
            Ok(all.iter().all(old).then_some(()))
        })?;
        self.ctl(&["set-vip", VIP, "--steering", "capacity"])?;
        Ok(())
    }

    /// Each real's share of the ring.
    pub fn shares(&self) -> anyhow::Result<Vec<f64>> {
        let told = self.agent.ctl_json(&format!("list {VIP}"))?;
        let reals = told[0]["reals"]
            .as_array()
            .context("`lbctl list` tells no reals")?;
        self.reals
            .iter()
            .map(|behind| {
                let address = behind.host.v4.to_string();
                let real = reals.iter().find(|real| real["address"] == address);
                real.and_then(|real| real["share"].as_f64())
                    .with_context(|| format!("`lbctl list` tells no share of {address}"))
            })
            .collect()
    }

    /// What the agent knows of each real.
    pub fn why(&self) -> anyhow::Result<Vec<Value>> {
        self.reals
            .iter()
            .map(|real| {
                let told = self
                    .agent
                    .ctl_json(&format!("why {} {VIP}", real.host.v4))?;
                Ok(told[0].clone())
            })
            .collect()
    }

    /// Processor time that each server has used since its quota was made.
    pub fn used(&self) -> anyhow::Result<Vec<Duration>> {
        self.reals
            .iter()
            .map(|real| real.cgroup.cpu_time())
            .collect()
    }

    /// Whether the agent and all servers still run.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.agent.check()?;
        self.reals.iter_mut().try_for_each(Behind::check)
    }

    fn ctl(&self, words: &[&str]) -> anyhow::Result<String> {
        self.agent.lbctl(words)
    }
}

impl Behind {
    fn new(host: Host, cores: f64) -> anyhow::Result<Self> {
        let cgroup = Cgroup::new(Limits::default())?;
        cgroup.set_quota(cores, QUOTA_PERIOD)?;
        cgroup.prefer()?;
        let real = Real::start(&host, "eth0", &[VIP])?;
        let listen = format!("http://{}:7946", host.v4);
        let mut reporter = host.start(
            "lb-agent report",
            binary("lb-agent")?,
            ["report", "--listen", &listen, "--cgroup", &cgroup.path()],
        )?;
        reporter.wait_line("lb-agent report", "ready", PATIENCE)?;
        // What is started from now on: the server.
        host.confine(cgroup.clone());
        Ok(Self {
            server: None,
            _reporter: reporter,
            _real: real,
            cgroup,
            host,
        })
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        if let Some(mut server) = self.server.take() {
            // It is busy with what it has accepted; nobody waits for that.
            server.kill()?;
        }
        let program = std::env::current_exe().context("asking for the path of this program")?;
        let mut server = self.host.start(
            "server",
            program,
            [
                "--bench".to_owned(),
                "--serve".to_owned(),
                format!("0.0.0.0:{PORT}"),
            ],
        )?;
        server.wait_line(server::READY, "", PATIENCE)?;
        self.server = Some(server);
        Ok(())
    }

    fn check(&mut self) -> anyhow::Result<()> {
        ensure!(self.server.is_some(), "a server was not started");
        self.server.as_mut().map_or(Ok(()), Process::check)
    }
}
