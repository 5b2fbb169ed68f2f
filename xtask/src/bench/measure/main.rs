//! Measures the balancer: `cargo xtask bench`. What the figures mean is in `docs/performance.md`.

mod balancer;
mod failover;
mod field;
mod idle;
mod machine;
mod memory;
mod moving;
mod packets;
mod probes;
mod process;
mod readers;
mod report;
mod ring;
mod statistics;
mod supervised;
mod throughput;
mod weights;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use crate::report::Report;

/// Measures the balancer on this machine. Needs root. Packets stay in the kernel's test runs and in
/// network namespaces of the benchmark's own.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", version)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_values_t = [Subject::All])]
    subjects: Vec<Subject>,

    /// Also writes the results here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// The processor to measure on [default: the last].
    #[arg(long)]
    cpu: Option<usize>,

    #[command(flatten)]
    packets: packets::Options,

    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Everything below.
    All,
    /// Nanoseconds per packet in the kernel.
    Packets,
    /// Time to build a ring.
    Ring,
    /// Time from a changed weight to the last slot changed.
    Weights,
    /// Kernel memory of the tables.
    Memory,
    /// Packets per second through a veth pair.
    Throughput,
    /// Processor time of an idle agent.
    Idle,
    /// Processor time of 1,000 probes a second, and how soon frozen reals are found.
    Probes,
    /// Processor time and memory of readers of load.
    Readers,
    /// Processor time and memory of an agent with 1,000 reals, each with a probe and a reader every 5 s.
    Supervised,
    /// Time until the clients of a dead broker are served again.
    Failover,
    /// Long connections that break while weights move.
    Moving,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs bench targets too; there is nothing to test.
        println!("nothing was measured: `cargo xtask bench` does");
        return Ok(());
    }
    let cpu = machine::settle_on(arguments.cpu)?;
    let wanted = |subject| {
        arguments
            .subjects
            .iter()
            .any(|given| *given == Subject::All || *given == subject)
    };
    let mut report = Report::new(cpu)?;
    if wanted(Subject::Packets) {
        report.packets = packets::measure(&arguments.packets).context("measuring packets")?;
    }
    if wanted(Subject::Ring) {
        report.ring = ring::measure();
    }
    if wanted(Subject::Weights) {
        report.weights = weights::measure().context("measuring a change of weight")?;
    }
    if wanted(Subject::Memory) {
        report.memory = memory::measure().context("measuring memory")?;
    }
    if wanted(Subject::Throughput) {
        report.throughput = throughput::measure().context("measuring throughput")?;
    }
    if wanted(Subject::Idle) {
        report.idle = Some(idle::measure().context("measuring the idle agent")?);
    }
    if wanted(Subject::Probes) {
        report.probes = Some(probes::measure().context("measuring probes")?);
    }
    if wanted(Subject::Readers) {
        report.readers = readers::measure().context("measuring readers of load")?;
    }
    if wanted(Subject::Supervised) {
        report.supervised =
            Some(supervised::measure().context("measuring an agent with 1,000 reals")?);
    }
    if wanted(Subject::Failover) {
        report.failover = failover::measure().context("measuring what a broker's death costs")?;
    }
    if wanted(Subject::Moving) {
        report.moving = Some(moving::measure().context("holding connections")?);
    }
    if let Some(file) = &arguments.json {
        report.write(file)?;
    }
    Ok(())
}
