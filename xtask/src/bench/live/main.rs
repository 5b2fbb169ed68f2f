//! Steering without a simulation: `cargo xtask bench live`. `docs/steering/measurements.md` explains the figures.

mod arm;
mod arrivals;
mod client;
mod figures;
mod report;
mod server;
mod stand;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Parser;

use crate::{arm::Arm, report::Report, stand::Stand};

/// Priority of clients, balancer and servers.
const NICE: libc::c_int = -15;

/// Plays four web servers with quotas of 1 : 2 : 4 : 8 behind one VIP: with equal weights, with the controller,
/// and with the weights of one who knows. Needs root; packets stay in network namespaces of its own. Three
/// rounds take twelve minutes.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench live",
    bin_name = "cargo xtask bench live",
    version
)]
struct Arguments {
    /// How many times each is played, in turn.
    #[arg(long, default_value_t = 3)]
    rounds: u32,

    /// The first round's arrivals; each round has other ones.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Seconds for which the controller and the oracle are measured in each round.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(10..=3600))]
    measured: u64,

    /// Shows every 5 s what the agent knows of the servers.
    #[arg(long)]
    show: bool,

    /// Also writes the results here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Is one of the servers.
    #[arg(long, hide = true, value_name = "ADDRESS:PORT")]
    serve: Option<SocketAddr>,

    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs bench targets too; there is nothing to test.
        println!("nothing was measured: `cargo xtask bench live` does");
        return Ok(());
    }
    if let Some(listen) = arguments.serve {
        return server::run(listen, stand::COST);
    }
    go_first()?;
    let mut stand = Stand::new().context("building the laboratory")?;
    let mut report = Report::new()?;
    let measured = Duration::from_secs(arguments.measured);
    for round in 0..arguments.rounds {
        // Each is first, second and last in turn.
        let mut arms = Arm::ALL;
        arms.rotate_left(round as usize % Arm::ALL.len());
        for arm in arms {
            println!("\nround {}, {}", round + 1, arm.name());
            let seed = arguments.seed + u64::from(round);
            let figures = arm
                .play(&mut stand, seed, measured, arguments.show)
                .with_context(|| format!("playing {}", arm.name()))?;
            report.add(arm, figures);
        }
    }
    report.print();
    if let Some(file) = &arguments.json {
        report.write(file)?;
    }
    Ok(())
}

/// Lets this program, and what it starts, go before others: a busy machine is not what is measured.
fn go_first() -> anyhow::Result<()> {
    // SAFETY: a plain system call; 0 is this process.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    anyhow::ensure!(
        result == 0,
        "taking a higher priority (this needs root): {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}
