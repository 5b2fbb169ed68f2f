//! The network, the traffic and the questions that all faults of the balancer share.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use lb_tests::{
    AgentOptions, Testbed,
    client::{Connections, HttpPlan, Load, LoadReport, NumberPlan, Numbers, get, http_load},
    server::{Arrivals, Nginx, UdpSink},
    vip_target, wait_for,
};
use serde_json::Value;
use tempfile::TempDir;

use super::FAULTS;
use crate::injection::{self, Fault, PATIENCE};

/// The VIP of the numbered datagrams.
const NUMBERS: &str = "192.0.2.40:5000/udp";
/// The VIP of clients that keep their connections.
const WEB: &str = "192.0.2.10:80/tcp";
/// The VIP of the real that faults are allowed to take away.
pub const SPARE: &str = "192.0.2.11:80/tcp";
const VIPS: [&str; 3] = [NUMBERS, WEB, SPARE];

const CHECK: &str = "http interval=500ms fast_interval=500ms timeout=500ms";

/// Reals of the traffic that must not be lost; the next one is the spare one.
const REALS: usize = 3;

/// Datagrams that must arrive after each fault.
const SOME: u64 = 1_000;

/// Words of the warning that stays for a minute after this host's own trouble.
const CALMS_LATER: &str = "say nothing about their reals";

/// A network with an agent and traffic.
pub struct Bench {
    numbers: Option<(Numbers, Arc<Arrivals>, Vec<UdpSink>)>,
    web: Load,
    /// The configuration file of the agent, which names no VIP.
    pub file: PathBuf,
    pub testbed: Testbed<Nginx>,
    /// Datagrams of streams that have ended.
    delivered: u64,
    _folder: TempDir,
}

fn target(vip: &str) -> SocketAddr {
    vip_target(vip).unwrap()
}

impl Bench {
    /// Starts everything; traffic flows.
    fn start_all() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lb.toml");
        // A part that hangs is noticed soon.
        fs::write(&file, "watchdog = \"5s\"\n").unwrap();
        let options = AgentOptions {
            arguments: vec!["--config".to_owned(), file.display().to_string()],
            ..AgentOptions::default()
        };
        let testbed = Testbed::<Nginx>::new(REALS + 1, &VIPS, options).unwrap();
        let all: Vec<_> = testbed.backends.iter().collect();
        let window = ["--forward", "ipip", "--window", "10s"];
        testbed
            .add_service(NUMBERS, &window, &all[..REALS])
            .unwrap();
        let check = ["--check", CHECK];
        testbed.add_service(WEB, &check, &all[..REALS]).unwrap();
        testbed.add_service(SPARE, &check, &all[REALS..]).unwrap();
        for real in &all[..REALS] {
            testbed.wait_serving(NUMBERS, &real.address()).unwrap();
            testbed.wait_healthy(WEB, &real.address()).unwrap();
        }
        testbed.wait_healthy(SPARE, &all[REALS].address()).unwrap();
        let plan = HttpPlan {
            target: target(WEB),
            workers: 12,
            connections: Connections::Kept,
            pause: Duration::from_millis(20),
            requests: None,
        };
        let web = http_load(&testbed.client, plan);
        let mut bench = Self {
            numbers: None,
            web,
            file,
            testbed,
            delivered: 0,
            _folder: folder,
        };
        bench.start_numbers();
        bench
    }

    /// The address of the real that faults may take away.
    pub fn spare(&self) -> String {
        self.testbed.backends[REALS].address()
    }

    /// Starts a stream of numbered datagrams.
    fn start_numbers(&mut self) {
        let arrivals = Arc::new(Arrivals::default());
        let sinks = self.testbed.backends[..REALS].iter();
        let sinks = sinks
            .map(|real| UdpSink::start(&real.host, target(NUMBERS), &arrivals).unwrap())
            .collect();
        let plan = NumberPlan {
            target: target(NUMBERS),
            source: self.testbed.client.v4,
            first_port: 20_000,
            flows: 40,
        };
        let numbers = Numbers::start(&self.testbed.client, plan, &arrivals);
        self.numbers = Some((numbers, arrivals, sinks));
    }

    /// Ends the stream. Each number must have arrived once.
    fn stop_numbers(&mut self) -> anyhow::Result<()> {
        let (numbers, arrivals, _sinks) = self.numbers.take().context("no stream")?;
        let sent = numbers.stop()?;
        // After this wait a missing datagram is lost.
        let _ = wait_for("the last numbers", PATIENCE, || {
            Ok((arrivals.count() >= sent).then_some(()))
        });
        let mut times: BTreeMap<u64, u32> = (0..sent).map(|number| (number, 0)).collect();
        for (_, arrival) in arrivals.all() {
            *times.entry(arrival.number).or_default() += 1;
        }
        let wrong: Vec<_> = times.into_iter().filter(|(_, times)| *times != 1).collect();
        ensure!(
            wrong.is_empty(),
            "of {sent} numbers, {} did not arrive once (number, times): {:?}",
            wrong.len(),
            &wrong[..wrong.len().min(40)]
        );
        self.delivered += sent;
        Ok(())
    }

    /// Waits until more traffic of each kind has arrived.
    pub fn wait_traffic(&self) -> anyhow::Result<()> {
        if let Some((numbers, arrivals, _)) = &self.numbers {
            numbers.wait_sent(SOME, PATIENCE).with_context(|| {
                format!("{} sent, {} arrived", numbers.sent(), arrivals.count())
            })?;
        }
        self.web.wait_requests(100, PATIENCE)?;
        self.web_report().map(drop)
    }

    /// What the requests over the web came to. None failed.
    fn web_report(&self) -> anyhow::Result<LoadReport> {
        let web = self.web.report();
        ensure!(
            web.failed == 0,
            "of {} requests: {:?}",
            web.requests,
            web.errors
        );
        Ok(web)
    }

    /// Waits until a VIP answers a new connection, and nothing is wrong any more.
    fn wait_calm(&self) -> anyhow::Result<()> {
        for vip in [WEB, SPARE] {
            wait_for(&format!("an answer of {vip}"), PATIENCE, || {
                get(&self.testbed.client, target(vip), "/").map(Some)
            })?;
        }
        wait_for("the end of all warnings", PATIENCE, || {
            let problems = self.problems()?;
            ensure!(problems.is_empty(), "{problems:?}");
            Ok(Some(()))
        })?;
        let list = self.testbed.agent.ctl_json("list")?;
        let vips: Vec<&str> = list
            .as_array()
            .context("VIPs")?
            .iter()
            .filter_map(|vip| vip["vip"].as_str())
            .collect();
        ensure!(vips.len() == VIPS.len(), "{vips:?}");
        Ok(())
    }

    /// What `lbctl status` says is wrong now.
    fn problems(&self) -> anyhow::Result<Vec<String>> {
        let status = self.testbed.agent.ctl_json("status")?;
        let warnings = status["warnings"].as_array().context("warnings")?;
        let mut problems: Vec<String> = warnings
            .iter()
            .filter_map(Value::as_str)
            .filter(|warning| !warning.contains(CALMS_LATER))
            .map(str::to_owned)
            .collect();
        for interface in status["interfaces"].as_array().context("interfaces")? {
            let warning = interface["warning"].as_str().unwrap_or_default();
            if interface["attached"] != true || !warning.is_empty() {
                problems.push(format!("{}: {warning}", interface["name"]));
            }
        }
        Ok(problems)
    }

    /// Waits until `lbctl status` says this.
    pub fn wait_problem(&self, words: &str) -> anyhow::Result<()> {
        wait_for(&format!("a warning with {words:?}"), PATIENCE, || {
            let problems = self.problems()?;
            let said = problems.iter().any(|problem| problem.contains(words));
            Ok(said.then_some(()))
        })
    }

    /// How often the agent has said this since it was started.
    pub fn said(&self, words: &str) -> usize {
        self.testbed.agent.output().matches(words).count()
    }

    /// Waits until the agent has said this more often than `before`.
    pub fn wait_said(&self, words: &str, before: usize) -> anyhow::Result<()> {
        wait_for(&format!("the agent to say {words:?}"), PATIENCE, || {
            Ok((self.said(words) > before).then_some(()))
        })
    }
}

impl injection::Bench for Bench {
    const FAULTS: &'static [Fault<Self>] = FAULTS;

    fn start() -> anyhow::Result<Self> {
        Ok(Self::start_all())
    }

    fn begin(&mut self, fault: &Fault<Self>) -> anyhow::Result<()> {
        match fault.may_fail {
            Some(_) => self.stop_numbers(),
            None => Ok(()),
        }
    }

    fn end(&mut self, fault: &Fault<Self>) -> anyhow::Result<()> {
        self.wait_calm()?;
        if fault.may_fail.is_some() {
            self.start_numbers();
        }
        self.wait_traffic()
    }

    fn finish(mut self) -> anyhow::Result<String> {
        self.stop_numbers()?;
        let web = self.web_report()?;
        self.testbed.check()?;
        Ok(format!(
            "{} numbered datagrams arrived once each, {} requests were answered on {} connections",
            self.delivered, web.requests, web.connections
        ))
    }
}
