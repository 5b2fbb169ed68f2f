//! Steering measured on real servers: `cargo xtask bench live`. `docs/steering/measurements.md` explains the figures.

mod client;
mod policy;
mod report;
mod server;
mod testbed;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Parser;

use crate::{policy::WeightPolicy, report::Report, testbed::QuotaTestbed};

/// Scheduling priority of the clients, the balancer and the servers.
const NICE: libc::c_int = -15;

/// Measures four web servers with CPU quotas of 1 : 2 : 4 : 8 behind one VIP: with equal weights, with the
/// controller, and with weights proportional to the quotas. Needs root; packets stay in network namespaces of the
/// benchmark's own. Three rounds take twelve minutes.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench live",
    bin_name = "cargo xtask bench live",
    version
)]
struct Arguments {
    /// How many times each policy is played.
    #[arg(long, default_value_t = 3)]
    rounds: u32,

    /// Seed of the first round's arrivals; each round has another one.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How many seconds the controller and the oracle are measured in each round.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(10..=3600))]
    measured: u64,

    /// Print every 5 s what the agent knows of the servers.
    #[arg(long)]
    show: bool,

    /// Also write the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Run as one of the servers.
    #[arg(long, hide = true, value_name = "ADDRESS:PORT")]
    serve: Option<SocketAddr>,

    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs benchmarks, too; there is nothing to test.
        println!("nothing was measured; run `cargo xtask bench live`");
        return Ok(());
    }
    if let Some(listen) = arguments.serve {
        return server::run(listen, testbed::COST);
    }
    raise_priority()?;
    let mut testbed = QuotaTestbed::new().context("building the testbed")?;
    let mut report = Report::new()?;
    let measured = Duration::from_secs(arguments.measured);
    for round in 0..arguments.rounds {
        // Each policy is first, second and last in turn.
        let mut policies = WeightPolicy::ALL;
        policies.rotate_left(round as usize % WeightPolicy::ALL.len());
        for policy in policies {
            println!("\nround {}, {}", round + 1, policy.name());
            let seed = arguments.seed + u64::from(round);
            let figures = policy
                .play(&mut testbed, seed, measured, arguments.show)
                .with_context(|| format!("playing {}", policy.name()))?;
            report.add(policy, figures);
        }
    }
    report.print();
    if let Some(file) = &arguments.json {
        report.write(file)?;
    }
    Ok(())
}

/// Gives this process and its children priority over others: the load of the machine must not be measured.
fn raise_priority() -> anyhow::Result<()> {
    // SAFETY: a plain system call; 0 is this process.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    anyhow::ensure!(
        result == 0,
        "taking a higher priority (this needs root): {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}
