//! Four web servers with CPU quotas of their own behind one VIP, an agent in front of them, and clients.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, ensure};
use lb_tests::{
    Agent, AgentOptions, Backend, Cgroup, Host, Limits, Network, Process, Real, Testbed, binary,
    server::Server, wait_for,
};
use serde_json::Value;

use crate::server;

/// The VIP.
pub const VIP: &str = "192.0.2.10:80/tcp";
/// CPU quotas in cores, in the ratio 1 : 2 : 4 : 8. Their sum leaves room on a machine with two processors for the
/// clients, the balancer and the rest of the machine.
pub const QUOTAS: [f64; 4] = [0.04, 0.08, 0.16, 0.32];
/// Period of the quotas: the shortest with which the kernel accepts the smallest of them. It makes a server behave
/// like a slower machine; with a longer period the 99th percentile would depend on which requests had to wait for the
/// next period.
const QUOTA_PERIOD: Duration = Duration::from_millis(25);
/// CPU time of a request: no less than the smallest quota of a period.
pub const COST: Duration = Duration::from_millis(1);
/// Addresses that requests come from: the ports of one address are too few to spread evenly over a ring.
const CLIENTS: u8 = 64;
/// Seconds for which a real must be healthy before the controller learns from it; the controller's default.
const HEALTHY_FOR: f64 = 10.0;
/// Port of the servers.
const PORT: u16 = 80;
/// Limit for what takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A web server within a CPU quota, and a reporter beside it. Fields are dropped in this order.
pub struct LimitedServer {
    process: Option<Process>,
    _reporter: Process,
    cgroup: Cgroup,
}

/// The testbed. Dropping it removes everything.
pub struct QuotaTestbed {
    testbed: Testbed<LimitedServer>,
    clients: Vec<IpAddr>,
    served: bool,
}

impl QuotaTestbed {
    /// Builds the testbed, without running servers and without a VIP.
    pub fn new() -> anyhow::Result<Self> {
        let network = Network::new()?;
        let client = network.client()?;
        let mut clients = Vec::new();
        for number in 1..=CLIENTS {
            let address = format!("10.10.40.{number}");
            client.sh(&format!("ip address add {address}/16 dev eth0"))?;
            clients.push(address.parse()?);
        }
        let backends = QUOTAS
            .into_iter()
            .map(|cores| backend(network.real()?, cores))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let agent = Agent::start(&network.balancer, AgentOptions::default())?;
        Ok(Self {
            testbed: Testbed {
                agent,
                backends,
                client,
                network,
            },
            clients,
            served: false,
        })
    }

    /// Returns the client host and its addresses.
    pub fn client(&self) -> (&Host, &[IpAddr]) {
        (&self.testbed.client, &self.clients)
    }

    /// Restarts all servers and recreates the VIP with these weights and without a controller, so that nothing of an
    /// earlier play is left.
    pub fn begin(&mut self, weights: [u16; 4]) -> anyhow::Result<()> {
        if self.served {
            self.testbed.lbctl(&["del-vip", VIP])?;
        }
        for backend in &mut self.testbed.backends {
            backend.server.restart(&backend.host)?;
        }
        // No slow start: all reals are added at once.
        let words = [
            "add-vip",
            VIP,
            "--check",
            "http",
            "--load",
            "grpc port=7946",
        ];
        let steering = ["--steering", "static slow_start=0s"];
        self.testbed.lbctl(&[&words[..], &steering].concat())?;
        self.served = true;
        for (backend, weight) in self.testbed.backends.iter().zip(weights) {
            let (address, weight) = (backend.address(), weight.to_string());
            self.testbed
                .lbctl(&["add-real", VIP, &address, "--weight", &weight])?;
        }
        for backend in &self.testbed.backends {
            self.testbed.wait_healthy(VIP, &backend.address())?;
        }
        Ok(())
    }

    /// Turns the default controller on, once all reals have been healthy for so long that it learns from them at
    /// once.
    pub fn steer(&self) -> anyhow::Result<()> {
        wait_for("reals that have been healthy for a while", PATIENCE, || {
            let all = self.why()?;
            let old = |real: &Value| real["since"].as_f64().is_some_and(|age| age >= HEALTHY_FOR);
            Ok(all.iter().all(old).then_some(()))
        })?;
        self.testbed
            .lbctl(&["set-vip", VIP, "--steering", "capacity"])?;
        Ok(())
    }

    /// Returns each real's share of the ring.
    pub fn shares(&self) -> anyhow::Result<Vec<f64>> {
        let list = self.testbed.agent.ctl_json(&format!("list {VIP}"))?;
        let reals = list[0]["reals"]
            .as_array()
            .context("`lbctl list` prints no reals")?;
        self.testbed
            .backends
            .iter()
            .map(|backend| {
                let address = backend.address();
                let real = reals.iter().find(|real| real["address"] == address);
                real.and_then(|real| real["share"].as_f64())
                    .with_context(|| format!("`lbctl list` prints no share of {address}"))
            })
            .collect()
    }

    /// Returns what the agent knows of each real.
    pub fn why(&self) -> anyhow::Result<Vec<Value>> {
        self.testbed
            .backends
            .iter()
            .map(|backend| self.testbed.why(VIP, &backend.address()))
            .collect()
    }

    /// Returns the CPU time that each server has used since its quota was set.
    pub fn used(&self) -> anyhow::Result<Vec<Duration>> {
        self.testbed
            .backends
            .iter()
            .map(|backend| backend.server.cgroup.cpu_time())
            .collect()
    }

    /// Fails if the agent or a server has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.testbed.check()
    }
}

/// Makes `host` a real whose server, once started, may use this many cores.
fn backend(host: Host, cores: f64) -> anyhow::Result<Backend<LimitedServer>> {
    let cgroup = Cgroup::new(Limits::default())?;
    cgroup.set_quota(cores, QUOTA_PERIOD)?;
    cgroup.prefer()?;
    let real = Some(Real::start(&host, "eth0", &[VIP])?);
    let listen = format!("http://{}:7946", host.v4);
    let mut reporter = host.start(
        "lb-agent report",
        binary("lb-agent")?,
        ["report", "--listen", &listen, "--cgroup", &cgroup.path()],
    )?;
    reporter.wait_line("lb-agent report", "ready", PATIENCE)?;
    // Confines what is started from now on, which is the server.
    host.confine(cgroup.clone());
    Ok(Backend {
        server: LimitedServer {
            process: None,
            _reporter: reporter,
            cgroup,
        },
        real,
        host,
    })
}

impl LimitedServer {
    fn restart(&mut self, host: &Host) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            // It would first work off the requests that it has accepted, whose clients are gone.
            process.kill()?;
        }
        let program = std::env::current_exe().context("asking for the path of this program")?;
        let mut process = host.start(
            "server",
            program,
            [
                "--bench".to_owned(),
                "--serve".to_owned(),
                format!("0.0.0.0:{PORT}"),
            ],
        )?;
        process.wait_line(server::READY, "", PATIENCE)?;
        self.process = Some(process);
        Ok(())
    }
}

impl Server for LimitedServer {
    fn check(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_some(), "a server was not started");
        self.process.as_mut().map_or(Ok(()), Process::check)
    }

    fn ask_to_end(&mut self) {
        if let Some(process) = &mut self.process {
            process.ask_to_end();
        }
    }
}
