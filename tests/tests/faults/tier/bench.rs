//! The network, the traffic and the questions that all faults of the tier share.
//!
//! Clients reach a VIP whose reals are two proxies, and through them the instances of a pool; other clients reach a VIP whose
//! reals are these instances, which the controller adds and removes.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use lb_tests::{
    Agent, AgentOptions, Controller, Host, Network,
    client::{self, Connections, HttpPlan, Load, get, numbered_http_load},
    vip_target, wait_for,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{FAULTS, proxy::Proxy};
use crate::injection::{self, Fault, PATIENCE};

/// The VIP of clients, whose reals are the proxies.
pub const WEB: &str = "192.0.2.10:80/tcp";
/// The same with TLS, which only the agent's check uses.
pub const TLS: &str = "192.0.2.10:443/tcp";
/// The VIP whose reals are the instances.
const DIRECT: &str = "192.0.2.20:80/tcp";

const PROXIES: usize = 2;
const INSTANCES: usize = 3;

/// The pool.
pub const POOL: &str = "web";
/// The port of the controller's HTTP.
const HTTP: u16 = 8080;

/// A proxy is taken out when it drains or does not accept, not when it is slow for a moment.
const CHECK: &str = "http port=9470 path=/healthz interval=1s fast_interval=100ms timeout=1s";
const CHECK_TLS: &str = "https tls.verify=false interval=1s fast_interval=100ms timeout=1s";

/// A proxy is taken back at once, however often it was away.
const STEERING: &str = "static slow_start=0s flap_changes=1000";

/// What the name of the group of an instance's `lb-agent real` ends with.
pub const COMPANION: &str = ".real";

/// Words of the agent's warning that stays for a minute after its host's own trouble.
const CALMS_LATER: &str = "say nothing about their reals";

/// A web server that answers with its name and the path of the request. Each of its processes has one connection at a time.
const SERVER: &str = r#"
use IO::Socket::INET; $SIG{PIPE} = "IGNORE";
my $name = $ENV{LB_INSTANCE};
my $s = IO::Socket::INET->new(LocalPort => $ARGV[0], Listen => 128, ReuseAddr => 1) or die "listen: $!";
for (1 .. 7) { fork or last }
while (1) {
  my $c = $s->accept or next; my $first = <$c> // next;
  while (<$c>) { last if /^\r?$/ }
  my ($path) = $first =~ m{^\w+ (\S+)};
  my $body = "$name $path";
  print $c "HTTP/1.1 200 OK\r\nx-real: $name\r\nContent-Length: ", length $body, "\r\nConnection: close\r\n\r\n$body"; close $c;
}
"#;

/// A network with an agent, a controller, its pool, proxies, and traffic.
pub struct Bench {
    /// Clients of the proxies, which keep their connections.
    pub web: Traffic,
    /// Clients of the instances, with a connection for each request.
    pub direct: Traffic,
    pub controller: Controller,
    pub proxies: Vec<Proxy>,
    pub agent: Agent,
    client: Host,
    /// The host of the controller and of the instances.
    host: Host,
    _network: Network,
    /// The configuration file of the controller.
    pub file: PathBuf,
    _folder: TempDir,
}

/// A load, and how many of its requests failed that were allowed to.
pub struct Traffic {
    load: Load,
    forgiven: usize,
    /// Whether the present fault allows failures.
    may_fail: bool,
}

impl Traffic {
    fn start(client: &Host, vip: &str, connections: Connections) -> Self {
        let plan = HttpPlan {
            target: target(vip),
            workers: 6,
            connections,
            pause: Duration::from_millis(40),
            requests: None,
        };
        Self {
            load: numbered_http_load(client, plan),
            forgiven: 0,
            may_fail: false,
        }
    }

    /// What has failed so far was allowed to; nothing may from now on.
    pub fn forgive(&mut self) -> anyhow::Result<()> {
        ensure!(self.may_fail, "this fault is harmless");
        self.load.wait_begun(PATIENCE)?;
        self.forgiven += self.load.take_failures().len();
        Ok(())
    }

    /// Waits for further answers. None may have failed that was not forgiven.
    fn wait(&self) -> anyhow::Result<()> {
        self.load.wait_requests(50, PATIENCE)?;
        self.check()
    }

    fn check(&self) -> anyhow::Result<()> {
        let report = self.load.report();
        let unforgiven = report.failed - self.forgiven as u64;
        ensure!(
            unforgiven == 0,
            "{unforgiven} of {} requests failed: {:?}",
            report.requests,
            self.load.take_failures()
        );
        Ok(())
    }
}

fn target(vip: &str) -> SocketAddr {
    vip_target(vip).unwrap()
}

impl Bench {
    fn start_all() -> anyhow::Result<Self> {
        let network = Network::new()?;
        let client = network.client()?;
        let host = network.real()?;
        host.bridge()?;
        let agent = Agent::start(&network.balancer, AgentOptions::default())?;
        for (vip, check) in [(WEB, CHECK), (TLS, CHECK_TLS)] {
            agent.lbctl(["add-vip", vip, "--check", check, "--steering", STEERING])?;
        }
        agent.lbctl(["add-vip", DIRECT])?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("controller.toml");
        // A part that hangs is noticed soon.
        fs::write(&file, "watchdog = \"5s\"\n")?;
        let http = SocketAddr::new(host.v4, HTTP);
        let controller = Controller::start(
            Some(host.namespace()),
            &lb_tests::owner("faults"),
            &[
                "--config",
                &file.display().to_string(),
                "--http",
                &http.to_string(),
                "--agent",
                &agent.endpoint(),
            ],
        )?;
        let script = folder.path().join("server.pl");
        fs::write(&script, SERVER)?;
        controller.pool(&[
            "add",
            POOL,
            "driver.kind=process",
            "network.port=80",
            "network.bridge=br0",
            "network.range=10.10.60.11-10.10.60.30/16",
            &format!("vips=['{DIRECT}']"),
            "template.program=/usr/bin/perl",
            &format!("template.arguments=['{}', '{{port}}']", script.display()),
            "template.stop_grace=1s",
            "check.kind=http",
            "check.interval=1s",
            "check.fast_interval=100ms",
            "check.timeout=1s",
            &format!("scaling.min={INSTANCES}"),
            &format!("scaling.max={INSTANCES}"),
            "scaling.max_dead=0.5",
            "scaling.relaunch_first=100ms",
            "scaling.relaunch_most=200ms",
        ])?;
        let pool = format!("ws://{http}/v1/pools/{POOL}/stream");
        let proxies = (0..PROXIES)
            .map(|_| Proxy::start(&network, &pool))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for proxy in &proxies {
            for vip in [WEB, TLS] {
                agent.lbctl(["add-real", vip, &proxy.host.v4.to_string()])?;
            }
        }
        let calm = Calm {
            controller: &controller,
            proxies: &proxies,
            agent: &agent,
            client: &client,
        };
        calm.wait()?;
        Ok(Self {
            web: Traffic::start(&client, WEB, Connections::Kept),
            direct: Traffic::start(&client, DIRECT, Connections::New),
            controller,
            proxies,
            agent,
            client,
            host,
            _network: network,
            file,
            _folder: folder,
        })
    }

    /// Waits until more traffic of each kind was answered.
    pub fn wait_traffic(&self) -> anyhow::Result<()> {
        self.web.wait().context("through the proxies")?;
        self.direct.wait().context("of the instances")
    }

    /// Waits until the agent has this to say of the first proxy.
    pub fn wait_proxy(&self, state: &str) -> anyhow::Result<()> {
        let proxy = &self.proxies[0].host.v4.to_string();
        for vip in [WEB, TLS] {
            wait_for(&format!("{proxy} to be {state}"), PATIENCE, || {
                let is = real_state(&self.agent, vip, proxy)?;
                ensure!(is == state, "{vip}: it is {is}");
                Ok(Some(()))
            })?;
        }
        Ok(())
    }

    /// Waits until the controller says that this is wrong with it or its pool.
    pub fn wait_problem(&self, words: &str) -> anyhow::Result<()> {
        wait_for(&format!("a trouble with {words:?}"), PATIENCE, || {
            let list = self.controller.pool(&["list"])?;
            let mut troubles = list.lines().filter(|line| line.contains("! "));
            ensure!(troubles.any(|line| line.contains(words)), "{list}");
            Ok(Some(()))
        })
    }

    /// Waits until the controller has said this since its last start.
    pub fn wait_said(&self, words: &str, before: usize) -> anyhow::Result<()> {
        wait_for(
            &format!("the controller to say {words:?}"),
            PATIENCE,
            || Ok((self.said(words) > before).then_some(())),
        )
    }

    /// How often the controller has said this since its last start.
    pub fn said(&self, words: &str) -> usize {
        self.controller.output().matches(words).count()
    }

    /// Waits until a metric of the controller has this value.
    pub fn wait_metric(&self, series: &str, value: &str) -> anyhow::Result<()> {
        let http = SocketAddr::new(self.host.v4, HTTP);
        let line = format!("\n{series} {value}\n");
        wait_for(&line, PATIENCE, || {
            let metrics = client::page(&self.host, http, "/metrics")?;
            Ok(metrics.contains(&line).then_some(()))
        })
    }

    /// The instances that really run.
    pub fn running(&self) -> Vec<String> {
        instances_of(&self.controller)
    }

    /// Waits until the instances are these.
    pub fn wait_running(&self, names: &[String]) -> anyhow::Result<()> {
        wait_for("the same instances", PATIENCE, || {
            let running = self.running();
            ensure!(running == names, "{running:?} instead of {names:?}");
            Ok(Some(()))
        })
    }

    pub fn calm(&self) -> Calm<'_> {
        Calm {
            controller: &self.controller,
            proxies: &self.proxies,
            agent: &self.agent,
            client: &self.client,
        }
    }
}

fn instances_of(controller: &Controller) -> Vec<String> {
    let mut running = controller.running();
    // Beside each instance runs what makes it a real.
    running.retain(|name| !name.ends_with(COMPANION));
    running
}

fn real_state(agent: &Agent, vip: &str, real: &str) -> anyhow::Result<String> {
    let why = agent.ctl_json(&format!("why {real} {vip}"))?;
    let state = why[0]["real"]["state"].as_str();
    Ok(state.context("a state")?.to_owned())
}

/// Who can say that something is wrong.
pub struct Calm<'a> {
    controller: &'a Controller,
    proxies: &'a [Proxy],
    agent: &'a Agent,
    client: &'a Host,
}

impl Calm<'_> {
    /// Waits until everything serves and nobody says that anything is wrong.
    pub fn wait(&self) -> anyhow::Result<()> {
        wait_for("the pool to be well", PATIENCE, || self.pool().map(Some))?;
        wait_for("the agent to be well", PATIENCE, || self.agent().map(Some))?;
        wait_for("the proxies to be well", PATIENCE, || {
            for proxy in self.proxies {
                let problems = proxy.problems()?;
                ensure!(problems.is_empty(), "{problems:?}");
                let eligible = proxy.metric("lb_service_eligible_instances{service=\"web\"}")?;
                ensure!(
                    eligible == INSTANCES as f64,
                    "{eligible} eligible instances"
                );
            }
            Ok(Some(()))
        })?;
        for vip in [WEB, DIRECT] {
            wait_for(&format!("an answer of {vip}"), PATIENCE, || {
                get(self.client, target(vip), "/").map(Some)
            })?;
        }
        Ok(())
    }

    fn pool(&self) -> anyhow::Result<()> {
        let list = self.controller.pool(&["list"])?;
        ensure!(!list.contains("! "), "{list}");
        let instances = self.controller.instances(POOL)?;
        let serves = |one: &Value| matches!(one["state"].as_str(), Some("LU" | "MU" | "HU"));
        ensure!(
            instances.len() == INSTANCES && instances.iter().all(serves),
            "{instances:?}"
        );
        let running = instances_of(self.controller);
        ensure!(running.len() == INSTANCES, "{running:?}");
        Ok(())
    }

    fn agent(&self) -> anyhow::Result<()> {
        let status = self.agent.ctl_json("status")?;
        let mut warnings = status["warnings"].as_array().context("warnings")?.iter();
        let is_wrong = |one: &Value| !one.as_str().unwrap_or_default().contains(CALMS_LATER);
        ensure!(!warnings.any(is_wrong), "{status}");
        for proxy in self.proxies {
            for vip in [WEB, TLS] {
                let state = real_state(self.agent, vip, &proxy.host.v4.to_string())?;
                ensure!(state == "active", "{} of {vip} is {state}", proxy.host.v4);
            }
        }
        for instance in self.controller.instances(POOL)? {
            let endpoint = instance["endpoint"].as_str().context("an endpoint")?;
            let address = endpoint.split(':').next().unwrap_or_default();
            let state = real_state(self.agent, DIRECT, address)?;
            ensure!(state == "active", "{address} of {DIRECT} is {state}");
        }
        Ok(())
    }
}

impl injection::Bench for Bench {
    const FAULTS: &'static [Fault<Self>] = FAULTS;

    fn start() -> anyhow::Result<Self> {
        Self::start_all()
    }

    fn begin(&mut self, fault: &Fault<Self>) -> anyhow::Result<()> {
        for traffic in [&mut self.web, &mut self.direct] {
            traffic.may_fail = fault.may_fail.is_some();
        }
        Ok(())
    }

    fn end(&mut self, _: &Fault<Self>) -> anyhow::Result<()> {
        self.calm().wait()?;
        self.wait_traffic()
    }

    fn finish(mut self) -> anyhow::Result<String> {
        let mut texts = Vec::new();
        for (name, traffic) in [("proxies", &self.web), ("instances", &self.direct)] {
            traffic.load.ask_to_stop();
            traffic.load.wait_begun(PATIENCE)?;
            traffic.check().context(name)?;
            let report = traffic.load.report();
            texts.push(format!(
                "{} numbered requests of the {name} on {} connections, {} of which failed where they may",
                report.requests, report.connections, traffic.forgiven
            ));
        }
        self.controller.check()?;
        self.agent.check()?;
        for proxy in &mut self.proxies {
            proxy.process()?.check()?;
        }
        Ok(texts.join("; "))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.web.load.ask_to_stop();
        self.direct.load.ask_to_stop();
        if std::thread::panicking() {
            for proxy in &self.proxies {
                println!("--- output of lb-proxy\n{}", proxy.output());
            }
            println!("--- output of lb-agent\n{}", self.agent.output());
            println!("--- pools\n{:?}", self.controller.pool(&["why", POOL]));
        }
        self.controller.ask_to_end();
        self.agent.ask_to_end();
        for proxy in &mut self.proxies {
            if let Ok(process) = proxy.process() {
                process.ask_to_end();
            }
        }
    }
}
