//! `lb-proxy` beside HAProxy and nginx: `cargo xtask bench http`. `docs/performance.md` explains the figures.
//!
//! All programs and the load generator run in one network namespace, on loopback. Each proxy forwards to the same two
//! ports of one nginx. They are loaded one after another, in rounds whose order is reversed every second time, and each
//! figure is compared with HAProxy's of the same round.

mod load;
mod memory;
mod proxies;
mod report;
mod scenario;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use lb_bench::process;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    load::{Load, Loaded},
    proxies::{Kind, Proxies},
    report::{Report, Sample},
    scenario::{SCENARIOS, Scenario},
};

/// Compares lb-proxy with HAProxy and nginx on this machine. Needs root, HAProxy, nginx, wrk and h2load; `cargo xtask`
/// installs them. Packets stay in a network namespace of the benchmark's own.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench http",
    bin_name = "cargo xtask bench http",
    version
)]
struct Arguments {
    /// Only scenarios whose name contains this; may be repeated. `memory` measures memory.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,

    /// Rounds of each scenario.
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Seconds of each run.
    #[arg(long, default_value_t = 3)]
    seconds: u32,

    /// Also write the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Open files that each program may need: two for each connection.
const FILES: u64 = 24_000;

impl Arguments {
    fn selects(&self, name: &str) -> bool {
        self.scenario.is_empty()
            || self
                .scenario
                .iter()
                .any(|part| name.contains(part.as_str()))
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs benchmarks, too; there is nothing to test.
        println!("nothing was measured; run `cargo xtask bench http`");
        return Ok(());
    }
    let files = allow_many_files()?;
    // Each has one more to a backend, and there are some of the program's own.
    let connections = usize::try_from(files / 2)? - 500;
    let mut report = Report::default();
    for scenario in SCENARIOS.iter().filter(|one| arguments.selects(one.name)) {
        let proxies = Proxies::start(connections)?;
        let samples = measure(&proxies, scenario, &arguments)
            .with_context(|| format!("measuring {}", scenario.name))?;
        report.add(scenario, &samples);
    }
    if arguments.selects("memory") {
        report.memory = memory::measure(connections).context("measuring memory")?;
    }
    report.print();
    if let Some(file) = &arguments.json {
        report.write(file)?;
    }
    Ok(())
}

/// Plays all rounds of a scenario.
fn measure(
    proxies: &Proxies,
    scenario: &Scenario,
    arguments: &Arguments,
) -> anyhow::Result<Vec<Sample>> {
    let mut order = Kind::ALL;
    let mut samples = Vec::new();
    let mut rate = None;
    if scenario.at_half_load {
        let full = scenario.full_load();
        let base = full.run(proxies, Kind::HAProxy, arguments.seconds)?;
        rate = Some(base.requests_per_second / 2.0);
    }
    let load = match rate {
        Some(rate) => scenario.load.at_rate(rate),
        None => scenario.load.clone(),
    };
    for kind in order {
        // Connections to the backends are open, and what is cached is.
        load.run(proxies, kind, 1)?;
    }
    for round in 0..arguments.rounds {
        for kind in order {
            samples.push(Sample {
                round,
                kind,
                loaded: run(proxies, kind, &load, arguments.seconds)?,
            });
        }
        order.reverse();
    }
    Ok(samples)
}

/// Loads a proxy, and says what that cost it.
fn run(proxies: &Proxies, kind: Kind, load: &Load, seconds: u32) -> anyhow::Result<Loaded> {
    let cpu = || -> anyhow::Result<f64> {
        let pids = proxies.processes(kind)?;
        pids.into_iter().map(process::processor_time).sum()
    };
    let before = cpu()?;
    let mut loaded = load.run(proxies, kind, seconds)?;
    loaded.cpu_seconds = cpu()? - before;
    Ok(loaded)
}

/// Ten thousand connections need as many descriptors, here and twice as many in the proxies. Returns how many there are.
fn allow_many_files() -> anyhow::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < FILES && setrlimit(Resource::RLIMIT_NOFILE, FILES, FILES).is_ok() {
        return Ok(FILES);
    }
    let files = hard.min(FILES);
    setrlimit(Resource::RLIMIT_NOFILE, files, hard).context("raising the limit of open files")?;
    Ok(files)
}
