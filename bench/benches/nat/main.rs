//! Requests through mode `nat` and through nftables: `cargo xtask bench nat`. `docs/performance.md` explains the figures.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Parser;
use comfy_table::Table;
use lb_bench::statistics::{median, quantile};
use lb_tests::{
    Agent, AgentOptions, Host, Network,
    client::{Connections, HttpPlan, get, http_load},
    server::Nginx,
    wait_for,
};
use serde::Serialize;

/// Limit for what takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Servers.
const REALS: usize = 2;
/// The VIP; clients route its prefix to the balancer.
const VIP: &str = "192.0.2.10:80";

/// Compares HTTP requests through the balancer's mode `nat` with the same ones through nftables (destination and source
/// translated by the kernel's connection tracking), and with the same ones sent to a server directly. One client, one
/// balancer and two servers on one switch, in network namespaces of the benchmark's own. Needs root.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench nat",
    bin_name = "cargo xtask bench nat",
    version
)]
struct Arguments {
    /// How many times each way is measured.
    #[arg(long, default_value_t = 7)]
    rounds: u32,

    /// How many seconds each time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,

    /// Requests under way at a time.
    #[arg(long, default_value_t = 32)]
    workers: usize,

    /// Also write the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How requests reach the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Direct,
    Nftables,
    Nat,
}

impl Way {
    const ALL: [Way; 3] = [Way::Direct, Way::Nftables, Way::Nat];
}

/// What was measured of one way and one kind of connections.
#[derive(Debug, Serialize)]
struct Figure {
    way: Way,
    connections: &'static str,
    /// Median of the rounds.
    requests_per_second: f64,
    /// 10th and 90th percentile.
    spread: [f64; 2],
    /// Processor time of the whole machine in microseconds per request: client, balancer and servers.
    cpu_per_request: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs benchmarks, too; there is nothing to test.
        println!("nothing was measured; run `cargo xtask bench nat`");
        return Ok(());
    }
    let bed = Bed::new().context("building the testbed")?;
    let mut figures = Vec::new();
    for (connections, name) in [
        (Connections::Kept, "kept"),
        (Connections::New, "one per request"),
    ] {
        let mut samples = [const { Vec::new() }; 3];
        for round in 0..arguments.rounds as usize {
            // Each way is first, second and last in turn.
            for place in 0..Way::ALL.len() {
                let number = (round + place) % Way::ALL.len();
                let sample = bed.measure(Way::ALL[number], connections, &arguments)?;
                samples[number].push(sample);
            }
        }
        for (way, samples) in Way::ALL.into_iter().zip(&samples) {
            let rates: Vec<f64> = samples.iter().map(|sample| sample.0).collect();
            let cpu: Vec<f64> = samples.iter().map(|sample| sample.1).collect();
            figures.push(Figure {
                way,
                connections: name,
                requests_per_second: median(&rates),
                spread: [quantile(&rates, 0.1), quantile(&rates, 0.9)],
                cpu_per_request: median(&cpu),
            });
        }
    }
    print(&figures);
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_string_pretty(&figures)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// The network and the servers.
struct Bed {
    client: Host,
    reals: Vec<Host>,
    _servers: Vec<Nginx>,
    network: Network,
}

impl Bed {
    fn new() -> anyhow::Result<Bed> {
        let network = Network::new()?;
        let client = network.client()?;
        let reals = (0..REALS)
            .map(|_| network.real())
            .collect::<Result<Vec<_>, _>>()?;
        let servers = reals
            .iter()
            .map(|host| Nginx::start(host, 80))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Bed {
            client,
            reals,
            _servers: servers,
            network,
        })
    }

    /// Requests a second, and microseconds of processor time per request.
    fn measure(
        &self,
        way: Way,
        connections: Connections,
        arguments: &Arguments,
    ) -> anyhow::Result<(f64, f64)> {
        let _agent = match way {
            Way::Direct => None,
            Way::Nftables => {
                self.nftables()?;
                None
            }
            Way::Nat => Some(self.agent()?),
        };
        let target = match way {
            Way::Direct => (self.reals[0].v4, 80).into(),
            Way::Nftables | Way::Nat => VIP.parse()?,
        };
        get(&self.client, target, "/").with_context(|| format!("{way:?}"))?;
        let load = http_load(
            &self.client,
            HttpPlan {
                target,
                workers: arguments.workers,
                connections,
                pause: Duration::ZERO,
                requests: None,
            },
        );
        load.wait_requests(1_000, PATIENCE)?;
        let (before, busy) = (load.report().requests, busy_micros()?);
        let begin = std::time::Instant::now();
        thread::sleep(Duration::from_secs(arguments.seconds));
        let (after, spent) = (load.report().requests, busy_micros()? - busy);
        let seconds = begin.elapsed().as_secs_f64();
        let report = load.stop()?;
        ensure!(report.failed == 0, "{way:?}: {report:?}");
        if way == Way::Nftables {
            self.network.balancer.sh("nft flush ruleset")?;
        }
        let requests = (after - before) as f64;
        Ok((requests / seconds, spent / requests))
    }

    /// Starts an agent that has the VIP, and waits until its reals can be reached.
    fn agent(&self) -> anyhow::Result<Agent> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("lb.toml");
        let balancer = &self.network.balancer;
        fs::write(&file, format!("nat_source_v4 = [\"{}\"]\n", balancer.v4))?;
        let options = AgentOptions {
            arguments: vec!["--config".to_owned(), file.display().to_string()],
            ..AgentOptions::default()
        };
        let agent = Agent::start(balancer, options)?;
        let vip = format!("{VIP}/tcp");
        agent.ctl(&format!("add-vip {vip} --forward nat"))?;
        for real in &self.reals {
            agent.ctl(&format!("add-real {vip} {}", real.v4))?;
        }
        wait_for("next hops to the reals", PATIENCE, || {
            let list = agent.ctl_json(&format!("list {vip}"))?;
            let reals = list[0]["reals"]
                .as_array()
                .context("the VIP has no reals")?;
            let reached = |real: &serde_json::Value| real["state"] != "unreachable";
            Ok(reals.iter().all(reached).then_some(()))
        })?;
        Ok(agent)
    }

    /// Makes the balancer's kernel translate: connections to the VIP go to one of the servers by a hash, and come from
    /// the balancer.
    fn nftables(&self) -> anyhow::Result<()> {
        let balancer = &self.network.balancer;
        balancer.sysctl("net/ipv4/ip_forward", "1")?;
        let servers: Vec<String> = self
            .reals
            .iter()
            .enumerate()
            .map(|(number, real)| format!("{number} : {}", real.v4))
            .collect();
        let rules = format!(
            "table ip balance {{\n\
             chain in {{ type nat hook prerouting priority dstnat; ip daddr 192.0.2.10 tcp dport 80 dnat to \
             jhash ip saddr . tcp sport mod {REALS} map {{ {} }}; }}\n\
             chain out {{ type nat hook postrouting priority srcnat; masquerade; }}\n\
             }}\n",
            servers.join(", ")
        );
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("rules");
        fs::write(&file, rules)?;
        balancer.sh(&format!("nft -f {}", file.display()))?;
        Ok(())
    }
}

/// Processor time that the machine has spent so far, idle time not counted, in microseconds.
fn busy_micros() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    // user, nice, system, idle, iowait, irq, softirq (proc(5)), in hundredths of a second.
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .map_while(|word| word.parse().ok())
        .collect();
    let of = |number: usize| ticks.get(number).copied().unwrap_or_default();
    Ok((of(0) + of(1) + of(2) + of(5) + of(6)) * 10_000.0)
}

fn print(figures: &[Figure]) {
    let mut table = Table::new();
    table.set_header([
        "way",
        "connections",
        "requests/s",
        "p10 to p90",
        "CPU per request",
        "added to direct",
        "requests against nftables",
    ]);
    for figure in figures {
        let of = |way: Way| {
            let mut same = figures
                .iter()
                .filter(|other| other.connections == figure.connections);
            same.find(|other| other.way == way)
        };
        let added = of(Way::Direct).map_or(0.0, |direct| {
            figure.cpu_per_request - direct.cpu_per_request
        });
        let ratio = of(Way::Nftables).map_or(0.0, |nftables| {
            figure.requests_per_second / nftables.requests_per_second
        });
        table.add_row([
            format!("{:?}", figure.way).to_lowercase(),
            figure.connections.to_owned(),
            format!("{:.0}", figure.requests_per_second),
            format!("{:.0} to {:.0}", figure.spread[0], figure.spread[1]),
            format!("{:.1} µs", figure.cpu_per_request),
            format!("{added:+.1} µs"),
            format!("{ratio:.2}"),
        ]);
    }
    println!(
        "HTTP through a balancer that translates; client, balancer and servers share the processors\n{table}"
    );
}
